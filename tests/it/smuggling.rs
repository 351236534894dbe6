//! Requests that two readers would end at different places (RFC 9112 section 11.2): no second request comes out of one.

use sluicegate::simulator::{Framing, Head, Script, Step};

use super::harness::{CLIENT_KEY, Gateway, Http, Raw, simulator};

/// What a reader who ends the first request early takes for the next one.
fn hidden() -> String {
    format!("GET /v1/hidden HTTP/1.1\r\nhost: gateway\r\nauthorization: Bearer {CLIENT_KEY}\r\n\r\n")
}

fn head(version: &str, headers: &str) -> String {
    format!(
        "POST /v1/files {version}\r\nhost: gateway\r\nauthorization: Bearer {CLIENT_KEY}\r\n{headers}\r\n"
    )
}

#[tokio::test]
async fn a_head_with_two_readings_is_refused_and_the_connection_closed() {
    let upstream = simulator().await;
    let gateway = Gateway::before(&upstream, Http::One, "");
    let length = hidden().len();
    for (version, headers) in [
        ("HTTP/1.1", format!("content-length: 0\r\ncontent-length: {length}\r\n")),
        ("HTTP/1.1", format!("content-length: {length}, 0\r\n")),
        ("HTTP/1.1", format!("content-length: +{length}\r\n")),
        ("HTTP/1.1", "content-length: 0x0\r\n".to_owned()),
        ("HTTP/1.1", "content-length : 0\r\n".to_owned()),
        ("HTTP/1.1", "transfer-encoding: gzip\r\n".to_owned()),
        ("HTTP/1.1", "transfer-encoding: chunked, identity\r\n".to_owned()),
        ("HTTP/1.1", "transfer-encoding: xchunked\r\n".to_owned()),
        ("HTTP/1.1", "transfer-encoding : chunked\r\n".to_owned()),
        ("HTTP/1.1", "x-folded: a\r\n transfer-encoding: chunked\r\n".to_owned()),
        ("HTTP/1.1", "x-bare: a\rtransfer-encoding: chunked\r\n".to_owned()),
        ("HTTP/1.0", "transfer-encoding: chunked\r\n".to_owned()),
    ] {
        let mut raw = Raw::connect(gateway.address()).await;
        raw.write(format!("{}0\r\n\r\n{}", head(version, &headers), hidden())).await;
        let (answer, _) = raw.read_to_end().await;
        let answer = String::from_utf8(answer).unwrap();
        assert!(answer.starts_with("HTTP/1.1 400 "), "{headers:?}: {answer}");
        assert_eq!(answer.matches("HTTP/1.").count(), 1, "{headers:?}: {answer}");
    }
    assert!(upstream.records().is_empty());
}

/// Chunks decide, the connection ends with the answer (RFC 9112 section 6.1), and upstream goes one framing.
#[tokio::test]
async fn a_length_beside_chunks_is_the_last_request_of_its_connection() {
    for (first, second) in [
        ("content-length: 5", "transfer-encoding: chunked"),
        ("transfer-encoding: chunked", "content-length: 100"),
    ] {
        let upstream = simulator().await;
        let gateway = Gateway::before(&upstream, Http::One, "");
        upstream.queue(Script::new(vec![Step::Head(Head {
            framing: Framing::Known(0),
            ..Head::event_stream()
        })]));
        let mut raw = Raw::connect(gateway.address()).await;
        let head = head("HTTP/1.1", &format!("{first}\r\n{second}\r\n"));
        raw.write(format!("{head}3\r\nabc\r\n0\r\n\r\n{}", hidden())).await;
        let (answer, _) = raw.read_to_end().await;
        let answer = String::from_utf8(answer).unwrap();
        assert!(answer.starts_with("HTTP/1.1 200 "), "{first}: {answer}");
        assert_eq!(answer.matches("HTTP/1.1 ").count(), 1, "{first}: {answer}");
        let records = upstream.records();
        let [record] = records.as_slice() else { panic!("{first}: {records:?}") };
        assert_eq!((record.target.as_str(), &record.body[..]), ("/v1/files", &b"abc"[..]), "{first}");
        let framings = ["content-length", "transfer-encoding"].map(|name| record.headers.contains_key(name));
        assert!(framings[0] != framings[1], "{first}: {:?}", record.headers);
    }
}
