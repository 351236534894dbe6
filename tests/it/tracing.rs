//! One id from the caller to the upstream, and in the log.

use http::HeaderMap;

use crate::harness::{Answer, BOTH, CHAT, CLIENT_KEY, Gateway, Http, post, send, simulator, whole};

const TRACE: &str = "4bf92f3577b34da6a3ce929d0e0e4736";

async fn ask(gateway: &Gateway, http: Http, path: &str, headers: &[(&str, &str)]) -> Answer {
    let mut request = post(gateway.address(), http, path);
    for (name, value) in headers {
        request = request.header(*name, *value);
    }
    send(gateway.address(), http, request.body(whole(CHAT)).unwrap()).await
}

fn trace_of(headers: &HeaderMap) -> String {
    headers["traceparent"].to_str().unwrap()[3..35].to_owned()
}

#[tokio::test]
async fn a_trace_goes_upstream_into_the_log_and_back() {
    let upstream = simulator().await;
    let gateway = Gateway::before(&upstream, Http::One, "");
    let parent = format!("00-{TRACE}-00f067aa0ba902b7-01");
    let given: [&[(&str, &str)]; 4] =
        [&[("traceparent", &parent)], &[("x-trace-id", TRACE)], &[("x-trace-id", "job-7")], &[]];
    for http in BOTH {
        for headers in given {
            let answer = ask(&gateway, http, "/v1/chat/completions", headers).await;
            let count = gateway.log.access().len();
            let line = gateway.log.line(count.max(upstream.records().len())).await;
            let echoed = answer.headers["x-trace-id"].to_str().unwrap();
            assert_eq!(line["trace_id"], echoed);
            assert_eq!(line["request_id"], answer.headers["x-request-id"].to_str().unwrap());
            let sent = trace_of(&upstream.records().last().unwrap().headers);
            match headers {
                [] => assert_eq!(sent, echoed),
                [(_, "job-7")] => assert_eq!(echoed, "job-7"),
                _ => assert_eq!((sent.as_str(), echoed), (TRACE, TRACE)),
            }
        }
    }
    // Who never reaches an upstream has one too.
    let nowhere = ask(&gateway, Http::One, "/nowhere", &[("x-trace-id", "job-8")]).await;
    assert_eq!((nowhere.status.as_u16(), &nowhere.headers["x-trace-id"]), (404, &"job-8".parse().unwrap()));
}

#[tokio::test]
async fn a_key_is_no_trace() {
    let upstream = simulator().await;
    let gateway = Gateway::before(&upstream, Http::One, "");
    let answer = ask(&gateway, Http::One, "/v1/chat/completions", &[("x-trace-id", CLIENT_KEY)]).await;
    assert_eq!(answer.status, 200);
    gateway.log.line(1).await;
    assert!(!gateway.log.text().contains(CLIENT_KEY));
    assert_eq!(answer.headers["x-trace-id"].len(), 32);
    assert!(!format!("{:?}", upstream.records()[0].headers).contains(CLIENT_KEY));
}
