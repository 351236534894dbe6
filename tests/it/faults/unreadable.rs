//! Response heads that cannot be read, or that only just can.

use bytes::Bytes;
use http::{HeaderName, HeaderValue, StatusCode};
use sluicegate::simulator::{Head, Script, Step};

use super::rig::{DONE, HELLO, QUICK, ROLE, Rig, SPARE, assert_line, stream};
use crate::harness::{CHAT, Http, Raw, authorised, send, whole};

const UNREADABLE: &str = "upstream_unreadable_response";
const BODY: &str = r#"{"choices":[]}"#;

fn raw(lines: &str) -> Script {
    let head = format!(
        "HTTP/1.1 200 OK\r\ncontent-type: application/json\r\n{lines}content-length: {}\r\n\r\n{BODY}",
        BODY.len()
    );
    Script::new(vec![Step::Raw(head.into())])
}

/// It would be as unreadable the next time, and the upstream has done the work each time.
#[tokio::test]
async fn a_head_that_cannot_be_read_is_requested_once() {
    let many = "x-more: y\r\n".repeat(110);
    let large = format!("x-large: {}\r\n", "y".repeat(300 << 10));
    for lines in ["no colon\r\n", ": no name\r\n", "x: \0\r\n", &many, &large] {
        let name: String = lines.chars().take(8).collect();
        let rig = Rig::alone(QUICK, "", "").await;
        rig.main_answers([raw(lines)]);
        let answer = rig.chat().await;
        assert_eq!((answer.status.as_u16(), &*answer.code()), (502, UNREADABLE), "{name}");
        assert_eq!(answer.headers["x-should-retry"], "false");
        assert_line(&rig.line().await, 502, 1, &[(&rig.main, UNREADABLE)]);
        rig.finish(1).await;

        let rig = Rig::both(QUICK, "", "").await;
        rig.main_answers([raw(lines)]);
        rig.spare_answers();
        assert_eq!(rig.chat().await.text(), [ROLE, SPARE, DONE].concat(), "{name}");
        assert_eq!(rig.seen(), (1, 1));
        rig.finish(1).await;
    }
}

#[tokio::test]
async fn what_the_limits_allow_is_read() {
    let many = "x-more: y\r\n".repeat(90);
    let large = format!("x-large: {}\r\n", "y".repeat(200 << 10));
    for (lines, name, value) in [
        ("x-space : yes\r\n", "x-space", "yes"),
        ("x-folded: one\r\n  two\r\n", "x-folded", "one two"),
        (&*many, "x-more", "y"),
        (&*large, "content-type", "application/json"),
    ] {
        // The client reads no more than a hundred lines either: the gateway's own headers about limits would be too many.
        let rig = Rig::alone("limits = []\nretry = \"off\"", "", "").await;
        rig.main_answers([raw(lines)]);
        let body = r#"{"model":"m","messages":[]}"#;
        if lines.len() < 10 << 10 {
            let answer = rig.post("/v1/chat/completions", body, &[]).await;
            assert_eq!((answer.status, answer.text()), (StatusCode::OK, BODY), "{name}");
            assert_eq!(answer.headers[name], value);
        } else {
            // The tests' own client reads less than the gateway does.
            let mut raw = Raw::connect(rig.gateway.address()).await;
            raw.post("HTTP/1.1", "/v1/chat/completions", "", body).await;
            let answer = raw.until(BODY).await;
            assert!(
                answer.starts_with("HTTP/1.1 200") && answer.contains(&format!("{name}: {value}")),
                "{name}"
            );
        }
        rig.finish(1).await;
    }
}

/// h2 resets the stream of a head that is too large with REFUSED_STREAM, which says of a request from this side that nobody has processed it.
#[tokio::test]
async fn a_large_head_over_http2_is_read_and_one_that_is_too_large_is_not_taken_for_a_refused_stream() {
    let headed = |bytes: usize| {
        let mut head = Head::json(StatusCode::OK, BODY.len());
        // (A header that one HTTP/2 frame holds.)
        for number in 0..bytes / 1000 {
            let name = HeaderName::try_from(format!("x-more-{number}")).unwrap();
            head.headers.insert(name, HeaderValue::try_from("y".repeat(1000)).unwrap());
        }
        Script::new(vec![Step::Head(head), Step::Send(Bytes::from_static(BODY.as_bytes()))])
    };
    let rig = Rig::alone(QUICK, "http2 = true", "").await;
    rig.main_answers([headed(100_000), headed(300_000), stream(&[ROLE, HELLO, DONE])]);
    let body = r#"{"model":"m","messages":[]}"#;
    let address = rig.gateway.address();
    let mut first = Raw::connect(address).await;
    first.post("HTTP/1.1", "/v1/chat/completions", "", body).await;
    assert!(first.until(BODY).await.starts_with("HTTP/1.1 200"));
    let answer = rig.post("/v1/chat/completions", body, &[]).await;
    assert_eq!((answer.status.as_u16(), &*answer.code()), (502, UNREADABLE), "{answer:?}");
    assert_eq!(rig.seen().0, 2, "once each");
    assert_eq!(rig.chat().await.status, 200);
    rig.finish(3).await;
}

/// A head that is readable but of no use stays so: a redirect to where no client is to be sent, a protocol that nobody asked for.
#[tokio::test]
async fn a_head_that_cannot_be_used_is_requested_once() {
    for head in [
        "HTTP/1.1 307 No\r\nlocation: https://elsewhere.example/\r\ncontent-length: 0\r\n\r\n",
        "HTTP/1.1 200 OK\r\ntransfer-encoding: gzip, chunked\r\n\r\n0\r\n\r\n",
        "HTTP/1.1 101 Switching Protocols\r\nupgrade: h2c\r\nconnection: upgrade\r\n\r\n",
    ] {
        let rig = Rig::alone(QUICK, "", "").await;
        // Also one that reads only: the next head would be the same.
        for (asked, (method, path, body)) in
            [("POST", "/v1/chat/completions", CHAT), ("GET", "/v1/files/file-1", "")].into_iter().enumerate()
        {
            rig.main_answers([Script::new(vec![Step::Raw(head.into())])]);
            let address = rig.gateway.address();
            let request =
                authorised(address, Http::One, method, path).header("content-type", "application/json");
            let answer = send(address, Http::One, request.body(whole(body)).unwrap()).await;
            assert_eq!(
                (answer.status.as_u16(), &*answer.code()),
                (502, "upstream_invalid"),
                "{method} {head}"
            );
            assert_eq!(
                (rig.seen().0, &answer.headers["x-should-retry"]),
                (asked + 1, &HeaderValue::from_static("false"))
            );
        }
        rig.finish(2).await;
    }
}
