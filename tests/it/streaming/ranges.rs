//! Ranges, conditions and HEAD: as with the provider directly.

use http::{Method, StatusCode};
use sluicegate::simulator::{Framing, Head, Script, Step};

use crate::harness::{Answer, BOTH, Client, Gateway, Http, authorised, safely, send, simulator, whole};

const FILE: &str = "/v1/files/file-1/content";

fn head(status: StatusCode, length: u64, headers: &[(&'static str, &str)]) -> Head {
    let mut head = Head::new(status, "application/octet-stream", Framing::Known(length));
    for (name, value) in headers {
        head.headers.insert(*name, value.parse().unwrap());
    }
    head
}

async fn ask(gateway: &Gateway, http: Http, method: &Method, headers: &[(&str, &str)]) -> Answer {
    let mut request = authorised(gateway.address(), http, method.as_str(), FILE);
    for (name, value) in headers {
        request = request.header(*name, *value);
    }
    send(gateway.address(), http, request.body(whole("")).unwrap()).await
}

#[tokio::test]
async fn a_part_of_a_file_is_asked_for_and_passes_unchanged() {
    let upstream = simulator().await;
    let conditions = [("range", "bytes=2-4"), ("if-range", "\"v1\""), ("if-match", "\"v1\"")];
    let answered = [
        ("content-range", "bytes 2-4/7"),
        ("etag", "\"v1\""),
        ("accept-ranges", "bytes"),
        ("last-modified", "Tue, 01 Sep 2026 00:00:00 GMT"),
    ];
    for up in BOTH {
        let gateway = Gateway::before(&upstream, up, "");
        for down in BOTH {
            upstream.queue(Script::new(vec![
                Step::Head(head(StatusCode::PARTIAL_CONTENT, 3, &answered)),
                Step::Send("cde".into()),
            ]));
            let answer = ask(&gateway, down, &Method::GET, &conditions).await;
            assert_eq!((answer.status, answer.text()), (StatusCode::PARTIAL_CONTENT, "cde"));
            for (name, value) in answered {
                assert_eq!(answer.headers[name], value);
            }
            assert_eq!(answer.headers["content-length"], "3");
            let record = upstream.records().pop().unwrap();
            for (name, value) in conditions {
                assert_eq!(record.headers[name], value);
            }
        }
        gateway.finish(2).await;
    }
}

#[tokio::test]
async fn a_range_that_cannot_be_had_and_a_file_that_has_not_changed() {
    let upstream = simulator().await;
    let gateway = Gateway::before(&upstream, Http::One, "");
    for down in BOTH {
        let out = head(StatusCode::RANGE_NOT_SATISFIABLE, 0, &[("content-range", "bytes */7")]);
        upstream.queue(Script::new(vec![Step::Head(out)]));
        let answer = ask(&gateway, down, &Method::GET, &[("range", "bytes=9-")]).await;
        assert_eq!(
            (answer.status, &answer.headers["content-range"]),
            (StatusCode::RANGE_NOT_SATISFIABLE, &"bytes */7".parse().unwrap())
        );
        let mut same = Head::new(StatusCode::NOT_MODIFIED, "application/octet-stream", Framing::Bare);
        same.headers.insert("etag", "\"v1\"".parse().unwrap());
        upstream.queue(Script::new(vec![Step::Head(same)]));
        let answer = ask(&gateway, down, &Method::GET, &[("if-none-match", "\"v1\"")]).await;
        assert_eq!((answer.status, &*answer.body), (StatusCode::NOT_MODIFIED, &b""[..]));
        assert_eq!(answer.headers["etag"], "\"v1\"");
    }
}

/// RFC 9110 §9.3.2: the head that GET would have, and no body; the connection goes on.
#[tokio::test]
async fn head_has_the_length_that_get_would_have() {
    let upstream = simulator().await;
    for up in BOTH {
        let gateway = Gateway::before(&upstream, up, "");
        for down in BOTH {
            let mut client = Client::connect(gateway.address(), down).await;
            for _ in 0..2 {
                let known = head(StatusCode::OK, 1 << 40, &[("accept-ranges", "bytes")]);
                upstream.queue(Script::new(vec![Step::Head(known)]));
                let request = authorised(gateway.address(), down, "HEAD", FILE).body(whole("")).unwrap();
                let answer = safely(client.ask(request)).await;
                assert_eq!((answer.status, answer.body.len(), answer.whole), (StatusCode::OK, 0, true));
                assert_eq!(answer.headers["content-length"], (1_u64 << 40).to_string());
                assert_eq!(answer.headers["accept-ranges"], "bytes");
                assert_eq!(upstream.records().pop().unwrap().method, Method::HEAD);
            }
        }
        gateway.finish(4).await;
    }
}
