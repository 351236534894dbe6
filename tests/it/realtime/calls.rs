//! WebRTC calls: the offer goes up as it is, and `Location` leads back to the gateway.

use http::StatusCode;
use sluicegate::simulator::{Framing, Head, Script, Step};

use super::rig::{Rig, SECRET};
use crate::harness::{BOTH, UPSTREAM_KEY, authorised, send, whole};

const OFFER: &str = "v=0\r\no=- 1 2 IN IP4 127.0.0.1\r\n";
const FORM: &str = "--b\r\nContent-Disposition: form-data; name=\"sdp\"\r\n\r\nv=0\r\n--b\r\n\
                    Content-Disposition: form-data; name=\"session\"\r\n\r\n{\"type\":\"realtime\",\"model\":\"m\"}\r\n--b--\r\n";

fn created(location: &str) -> Script {
    let mut head = Head::new(StatusCode::CREATED, "application/sdp", Framing::Chunked);
    head.headers.insert("location", location.parse().unwrap());
    Script::new(vec![Step::Head(head), Step::Send("v=0\r\nanswer\r\n".into())])
}

#[tokio::test]
async fn a_call_is_made_with_an_ephemeral_key_and_ended_by_its_location() {
    let rig = Rig::new("").await;
    let key = rig.issue().await;
    let upstream = rig.upstream.url();
    for location in ["/v1/realtime/calls/rtc_1".to_owned(), format!("{upstream}/v1/realtime/calls/rtc_1")] {
        rig.upstream.reset();
        rig.upstream.queue(created(&location));
        let answer = rig.send(rig.with_key("POST", "/v1/realtime/calls", &key, OFFER)).await;
        assert_eq!((answer.status, answer.text()), (StatusCode::CREATED, "v=0\r\nanswer\r\n"));
        assert_eq!(answer.headers["location"], "/v1/realtime/calls/rtc_1");
        assert_eq!(answer.headers["content-type"], "application/sdp");
        // A program ends it with its own key, and the page with the ephemeral one.
        let end = format!("{}/hangup", answer.headers["location"].to_str().unwrap());
        let by_page = rig.with_key("POST", &end, &key, "");
        let by_program = authorised(rig.gateway.address(), BOTH[0], "POST", &end).body(whole("")).unwrap();
        for request in [by_page, by_program] {
            rig.upstream.queue(Script::new(vec![Step::Head(Head::json(StatusCode::OK, 0))]));
            assert_eq!(send(rig.gateway.address(), BOTH[0], request).await.status, 200);
        }
        let records = rig.upstream.records();
        let sent: Vec<_> =
            records.iter().map(|record| (&*record.target, &record.headers["authorization"])).collect();
        let (secret, own) = (format!("Bearer {SECRET}"), format!("Bearer {UPSTREAM_KEY}"));
        assert_eq!(sent[0], ("/v1/realtime/calls", &secret.parse().unwrap()));
        assert_eq!(sent[1], ("/v1/realtime/calls/rtc_1/hangup", &secret.parse().unwrap()));
        assert_eq!(sent[2], ("/v1/realtime/calls/rtc_1/hangup", &own.parse().unwrap()));
        assert_eq!(records[0].body, OFFER);
    }
    rig.gateway.finish(7).await;
}

#[tokio::test]
async fn a_form_with_its_session_goes_up_as_it_is() {
    let rig = Rig::new("").await;
    let key = rig.issue().await;
    rig.upstream.queue(created("/v1/realtime/calls/rtc_2"));
    let mut request = rig.with_key("POST", "/v1/realtime/calls", &key, FORM);
    let form = "multipart/form-data; boundary=b".parse().unwrap();
    request.headers_mut().insert("content-type", form);
    assert_eq!(rig.send(request).await.status, 201);
    assert_eq!(rig.upstream.records()[0].body, FORM);
}
