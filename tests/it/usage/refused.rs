//! Upstreams that refuse to be asked for the usage of a stream.

use http::StatusCode;
use sluicegate::simulator::{Head, Script, Step};

use super::{CONTENT, DONE, FINISH, ask, gateway_before, stream_of};
use crate::harness::{BOTH, CHAT, Gateway, GatewayToml, Http, simulator};

/// Mistral's form (mistralai/client-python, `HTTPValidationError`).
const REFUSAL: &str = r#"{"object":"error","message":{"detail":[{"type":"extra_forbidden","loc":["body","stream_options"],"msg":"Extra inputs are not permitted","input":{"include_usage":true}}]},"type":"invalid_request_error","param":null,"code":null}"#;

fn refusal(body: &str) -> Script {
    let head = Head::json(StatusCode::UNPROCESSABLE_ENTITY, body.len());
    Script::new(vec![Step::Head(head), Step::Send(body.to_owned().into())])
}

fn plain() -> Script {
    stream_of([CONTENT, FINISH, DONE].map(str::as_bytes))
}

/// Even where retries are off: the gateway has made the mistake.
#[tokio::test]
async fn the_request_is_sent_again_without_and_that_is_remembered() {
    for http in BOTH {
        let upstream = simulator().await;
        upstream.queue(refusal(REFUSAL));
        upstream.queue(plain());
        upstream.queue(plain());
        let gateway = gateway_before(&upstream, "retry = \"off\"");
        let first = ask(&gateway, http, CHAT).await;
        assert_eq!((first.status, first.text()), (StatusCode::OK, &*[CONTENT, FINISH, DONE].concat()));
        let second = ask(&gateway, http, CHAT).await;
        assert_eq!(second.text(), first.text());
        let bodies: Vec<_> = upstream.records().iter().map(|record| record.body.len()).collect();
        let asking = CHAT.len() + r#""stream_options":{"include_usage":true},"#.len();
        assert_eq!(bodies, [asking, CHAT.len(), CHAT.len()]);
        let line = gateway.log.line_of(&first).await;
        assert_eq!(line["attempts"].as_array().map(Vec::len), Some(2), "{line}");
        assert_eq!(line["attempts"][0]["status"], 422);
        gateway.finish(2).await;
    }
}

/// An error that only repeats the request is the client's own, and says nothing about the upstream.
#[tokio::test]
async fn a_second_refusal_is_for_the_client_and_is_not_remembered() {
    let upstream = simulator().await;
    for _ in 0..2 {
        upstream.queue(refusal(REFUSAL));
    }
    let gateway = gateway_before(&upstream, "");
    let first = ask(&gateway, Http::One, CHAT).await;
    assert_eq!((first.status, first.text()), (StatusCode::UNPROCESSABLE_ENTITY, REFUSAL));
    upstream.queue(plain());
    ask(&gateway, Http::One, CHAT).await;
    let bodies: Vec<_> = upstream.records().iter().map(|record| record.body.len()).collect();
    assert_eq!(bodies.len(), 3);
    assert_eq!((bodies[0], bodies[1]), (bodies[2], CHAT.len()));
    gateway.finish(2).await;
}

#[tokio::test]
async fn a_marked_upstream_is_never_asked_also_in_fail_over() {
    let (first, second) = (simulator().await, simulator().await);
    let head = Head::json(StatusCode::SERVICE_UNAVAILABLE, 2);
    first.queue(Script::new(vec![Step::Head(head), Step::Send("{}".into())]));
    second.queue(plain());
    let toml = GatewayToml::new()
        .upstream("first", &first.url(), "")
        .upstream("second", &second.url(), "include_usage = \"refuses\"")
        .defaults("usage = \"always\"");
    let gateway = Gateway::start(&toml);
    let answer = ask(&gateway, Http::One, CHAT).await;
    assert_eq!(answer.text(), [CONTENT, FINISH, DONE].concat());
    assert_ne!(first.record(1).await.body, CHAT.as_bytes());
    assert_eq!(second.record(1).await.body, CHAT.as_bytes());
    gateway.finish(1).await;
}
