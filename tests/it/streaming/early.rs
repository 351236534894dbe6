//! An answer that comes while its request is still being sent: the caller reads it whole, and is not met by a reset.

use tokio::io::{AsyncReadExt, AsyncWriteExt};

use crate::harness::{CLIENT_KEY, Gateway, Http, Keys, Raw, safely, simulator};

const SIZE: usize = 20 << 20;

/// Sends all of a large body first, as SDKs do, and then reads the answer, whatever happens to it.
async fn answer_to_an_upload(gateway: &Gateway, headers: &str) -> String {
    let mut caller = Raw::connect(gateway.address()).await;
    let (mut reading, mut writing) = caller.tcp.split();
    let head = format!("POST /v1/files HTTP/1.1\r\nhost: g\r\n{headers}content-length: {SIZE}\r\n\r\n");
    let mut answer = Vec::new();
    safely(async {
        writing.write_all(head.as_bytes()).await.unwrap();
        let piece = vec![b' '; 256 << 10];
        for _ in 0..SIZE / piece.len() {
            writing.write_all(&piece).await.unwrap();
        }
        while !answer.ends_with(b"}}") {
            assert!(reading.read_buf(&mut answer).await.unwrap() > 0);
        }
    })
    .await;
    String::from_utf8(answer).unwrap()
}

#[tokio::test]
async fn a_refusal_during_an_upload_is_read_whole() {
    let upstream = simulator().await;
    let route = r#"body_limit = "1MiB""#;
    let gateway = Gateway::with(&upstream, Http::One, Keys { route, ..Keys::default() });
    let too_large = format!("authorization: Bearer {CLIENT_KEY}\r\ncontent-type: application/json\r\n");
    for exchange in 0..50 {
        let (headers, status) = if exchange % 2 == 0 { ("", 401) } else { (too_large.as_str(), 413) };
        let answer = answer_to_an_upload(&gateway, headers).await;
        assert!(answer.starts_with(&format!("HTTP/1.1 {status} ")), "{answer}");
        assert_eq!(gateway.log.line(exchange + 1).await["status"], status);
    }
    assert!(upstream.records().is_empty());
    gateway.finish(50).await;
}

/// The upstream refuses the file while it is on its way.
#[tokio::test]
async fn an_upstreams_refusal_during_an_upload_is_read_whole() {
    let upstream = simulator().await;
    for up in [Http::One, Http::Two] {
        let gateway = Gateway::before(&upstream, up, "");
        let headers = format!(
            "authorization: Bearer {CLIENT_KEY}\r\ncontent-type: text/plain\r\nx-simulate: early; status=413\r\n"
        );
        for exchange in 0..10 {
            let answer = answer_to_an_upload(&gateway, &headers).await;
            assert!(answer.starts_with("HTTP/1.1 413 "), "{answer}");
            let line = gateway.log.line(exchange + 1).await;
            assert_eq!((&line["who"], &line["phase"]), (&"upstream".into(), &"done".into()), "{line}");
        }
        gateway.finish(10).await;
    }
}
