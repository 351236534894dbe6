//! Requests that never reach an upstream.

use bytes::Bytes;
use http::{Request, StatusCode};
use hyper::body::Frame;

use super::{assert_ended, counted};
use crate::harness::{
    BOTH, Client, Http, Keys, Sent, authorised, body_of, post, request, safely, send, simulator, whole,
};

const KEYS: Keys<'static> = Keys {
    server: "body_idle = \"100ms\"",
    route: "methods = [\"GET\", \"POST\"]\nbody_limit = \"1KiB\"",
    listener: "",
    upstream: "",
    client: "",
    more: "",
    one_worker: false,
};

/// What is expected of a refusal: status, code, phase.
type Refusal = (u16, &'static str, &'static str);

fn refusals(at: std::net::SocketAddr, down: Http) -> Vec<(Request<Sent>, Refusal)> {
    let chat = "/v1/chat/completions";
    let built = |builder: http::request::Builder, body: &'static str| builder.body(whole(body)).unwrap();
    let json = |key: &str| {
        request(at, down, "POST", chat)
            .header("content-type", "application/json")
            .header("authorization", key)
    };
    vec![
        (built(request(at, down, "POST", chat), "{}"), (401, "missing_api_key", "request")),
        (built(json("Bearer sk-nobody"), "{}"), (401, "invalid_api_key", "request")),
        (built(json("Basic YTpi"), "{}"), (401, "invalid_api_key", "request")),
        (
            built(post(at, down, chat).header("authorization", "Bearer another"), "{}"),
            (400, "conflicting_credentials", "request"),
        ),
        (built(post(at, down, "/elsewhere"), "{}"), (404, "route_not_found", "request")),
        (built(authorised(at, down, "DELETE", "/v1/files/1"), ""), (405, "method_not_allowed", "request")),
        (built(post(at, down, chat), r#"{"model":1}"#), (400, "invalid_body", "intake")),
        (built(post(at, down, chat), "{\"model\":"), (400, "invalid_body", "intake")),
        (post(at, down, chat).body(whole(vec![b' '; 1025])).unwrap(), (413, "request_too_large", "intake")),
    ]
}

#[tokio::test]
async fn requests_that_are_refused_by_what_they_are() {
    let upstream = simulator().await;
    let gateway = counted(&upstream.url(), Http::One, KEYS);
    let mut exchanges = 0;
    for down in BOTH {
        for (request, (status, code, phase)) in refusals(gateway.address(), down) {
            let answer = send(gateway.address(), down, request).await;
            assert_eq!((answer.status.as_u16(), answer.code().as_str()), (status, code));
            exchanges += 1;
            let line = gateway.log.line(exchanges).await;
            assert_ended(&line, "downstream", phase, code);
            assert_eq!(
                (&line["status"], &line["bytes_out"]),
                (&status.into(), &answer.body.len().into()),
                "{line}"
            );
            if code == "invalid_body" {
                assert!(line["bytes_in"].as_u64() >= Some(3), "{line}");
            }
            if status == 405 {
                assert_eq!(answer.headers["allow"], "GET, POST");
            }
        }
    }
    assert!(upstream.records().is_empty(), "none of them reached the upstream");
    gateway.finish(exchanges).await;
}

/// One without a length shows its size only as it comes.
#[tokio::test]
async fn a_body_that_turns_out_too_large() {
    let upstream = simulator().await;
    let gateway = counted(&upstream.url(), Http::One, KEYS);
    for (exchange, down) in BOTH.into_iter().enumerate() {
        let mut client = Client::connect(gateway.address(), down).await;
        let (pieces, body) = body_of();
        let request = post(gateway.address(), down, "/v1/chat/completions").body(body).unwrap();
        let pending = client.begin(request).await;
        pieces.send(Frame::data(Bytes::from(vec![b' '; 1000]))).await.unwrap();
        pieces.send(Frame::data(Bytes::from(vec![b' '; 25]))).await.unwrap();
        let response = safely(pending).await.unwrap();
        assert_eq!(response.status(), StatusCode::PAYLOAD_TOO_LARGE);
        assert_ended(&gateway.log.line(exchange + 1).await, "downstream", "intake", "request_too_large");
    }
    gateway.finish(2).await;
}

/// A JSON body is being read, any other passed on, when it stops coming.
#[tokio::test]
async fn a_body_that_stops_coming() {
    let upstream = simulator().await;
    for up in BOTH {
        let gateway = counted(&upstream.url(), up, KEYS);
        let mut exchanges = 0;
        for down in BOTH {
            for (kind, phase) in [("application/json", "intake"), ("text/plain", "first_byte")] {
                let mut client = Client::connect(gateway.address(), down).await;
                let (pieces, body) = body_of();
                let request = authorised(gateway.address(), down, "POST", "/v1/files")
                    .header("content-type", kind)
                    .body(body)
                    .unwrap();
                let pending = client.begin(request).await;
                pieces.send(Frame::data(Bytes::from_static(b"{"))).await.unwrap();
                let response = safely(pending).await.unwrap();
                assert_eq!(response.status(), StatusCode::REQUEST_TIMEOUT);
                exchanges += 1;
                assert_ended(&gateway.log.line(exchanges).await, "downstream", phase, "body_timeout");
            }
        }
        gateway.finish(exchanges).await;
    }
}
