//! Which requests are checked: by route, operation, and the form of the body.

use std::io::Write as _;

use flate2::{Compression, write::GzEncoder};
use sluicegate::simulator::Simulator;

use super::{ask, ask_in, gateway};
use crate::harness::{Answer, Gateway, Http, Keys, authorised, send, simulator, whole};

const WRONG: &str = r#"{"model":"m","messages":[{"role":"bot"}]}"#;

fn gzip(text: &str) -> Vec<u8> {
    let mut encoder = GzEncoder::new(Vec::new(), Compression::fast());
    encoder.write_all(text.as_bytes()).unwrap();
    encoder.finish().unwrap()
}

/// Posts a chat request with these headers to the route that checks strictly.
async fn with_headers(gateway: &Gateway, headers: &[(&str, &str)], body: Vec<u8>) -> Answer {
    let mut request = authorised(gateway.address(), Http::One, "POST", "/strict/chat/completions");
    for (name, value) in headers {
        request = request.header(*name, *value);
    }
    send(gateway.address(), Http::One, request.body(whole(body)).unwrap()).await
}

/// The code of an error of the gateway, or nothing.
fn code(answer: &Answer) -> Option<String> {
    let error = (answer.status != 200).then(|| answer.json()["error"]["code"].clone());
    error.map(|code| code.as_str().unwrap().to_owned())
}

fn arrived(upstream: &Simulator) -> usize {
    upstream.records().len()
}

#[tokio::test]
async fn a_route_that_does_not_ask_for_it_and_other_operations_are_not_checked() {
    let upstream = simulator().await;
    let gateway = gateway(&upstream);
    assert_eq!(ask_in(&gateway, "en", "/v1/chat/completions", WRONG).await.status, 200);
    ask(&gateway, "strict", "moderations", WRONG).await;
    ask(&gateway, "strict", "messages/count_tokens", r#"{"messages":1}"#).await;
    // The simulator does not know them.
    assert_eq!(arrived(&upstream), 3);
    gateway.finish(3).await;
}

#[tokio::test]
async fn a_compressed_body_is_checked_if_it_can_be_read() {
    let upstream = simulator().await;
    let gateway = gateway(&upstream);
    let json = ("content-type", "application/json");
    let refused = with_headers(&gateway, &[json, ("content-encoding", "gzip")], gzip(WRONG)).await;
    assert_eq!(code(&refused).as_deref(), Some("invalid_value"));
    assert_eq!(arrived(&upstream), 0);
    // What the gateway cannot read, the provider judges.
    let unread = with_headers(&gateway, &[json, ("content-encoding", "br")], WRONG.into()).await;
    let other = with_headers(&gateway, &[("content-type", "text/plain")], WRONG.into()).await;
    assert_eq!((unread.status.as_u16(), other.status.as_u16(), arrived(&upstream)), (200, 200, 2));
    gateway.finish(3).await;
}

#[tokio::test]
async fn a_request_without_a_body_is_refused() {
    let upstream = simulator().await;
    let gateway = gateway(&upstream);
    let refused = with_headers(&gateway, &[("content-type", "application/json")], Vec::new()).await;
    assert_eq!((refused.status.as_u16(), code(&refused).as_deref()), (400, Some("invalid_body")));
    assert_eq!(arrived(&upstream), 0);
    gateway.finish(1).await;
}

#[tokio::test]
async fn a_body_over_the_limit_is_too_large_before_it_is_wrong() {
    let upstream = simulator().await;
    let route = "validate = \"strict\"\nbody_limit = \"1KiB\"";
    let gateway = Gateway::with(&upstream, Http::One, Keys { route, ..Keys::default() });
    let large = format!(r#"{{"model":1,"x":"{}"}}"#, "x".repeat(2000));
    let refused = ask_in(&gateway, "en", "/v1/chat/completions", large).await;
    assert_eq!((refused.status.as_u16(), code(&refused).as_deref()), (413, Some("request_too_large")));
    gateway.finish(1).await;
}

/// A body of more than 1 MiB is checked on another thread.
#[tokio::test]
async fn a_large_body_is_checked_like_any_other() {
    let upstream = simulator().await;
    let gateway = gateway(&upstream);
    let content = "x".repeat(2 << 20);
    let body =
        |role: &str| format!(r#"{{"model":"m","messages":[{{"content":"{content}","role":"{role}"}}]}}"#);
    let refused = ask(&gateway, "strict", "chat", body("bot")).await;
    assert_eq!(refused.json()["error"]["param"], "messages[0].role");
    assert_eq!(ask(&gateway, "strict", "chat", body("user")).await.status, 200);
    gateway.finish(2).await;
}

#[tokio::test]
async fn a_model_that_the_path_or_the_route_names_may_be_missing_in_the_body() {
    let upstream = simulator().await;
    let more = r#"
        [route.set]
        path = "/set"
        rewrite = "/v1"
        upstreams = [{ upstream = "sim", model = "gpt-4o-mini" }]
        validate = "strict"
        [route.azure]
        path = "/openai"
        upstreams = ["sim"]
        validate = "strict"
    "#;
    let gateway = Gateway::before(&upstream, Http::One, more);
    let body = r#"{"messages":[{"role":"user","content":"Hi"}]}"#;
    let set = ask_in(&gateway, "en", "/set/chat/completions", body).await;
    let azure = "/openai/deployments/gpt-4o/chat/completions?api-version=2024-10-21";
    let azure = ask_in(&gateway, "en", azure, body).await;
    assert_eq!((set.status.as_u16(), azure.status.as_u16()), (200, 200), "{}", azure.text());
    gateway.finish(2).await;
}

#[tokio::test]
async fn nothing_of_a_wrong_request_is_in_the_answer_or_in_the_log() {
    let upstream = simulator().await;
    let gateway = gateway(&upstream);
    for body in [
        r#"{"model":"m","messages":[{"role":"Zx81yBq7"}]}"#,
        r#"{"model":"m","messages":[{"role":"user","content":[{"type":"text","text":{"Zx81yBq7":1}}]}]}"#,
        r#"{"model":"m","messages":[{"role":"user","content":"Hi"}],"metadata":{"Zx81yBq7":1}}"#,
        r#"{"model":"m","messages":[{"role":"user","content":"Hi"}],"tools":[{"type":"function","function":{"name":"Zx81 yBq7"}}]}"#,
    ] {
        let answer = ask(&gateway, "strict", "chat", body).await;
        let line = gateway.log.line_of(&answer).await;
        assert_eq!(answer.status, 400, "{body}");
        assert!(!answer.text().contains("Zx81") && !line.to_string().contains("Zx81"), "{line}");
        // The parameter is in the log.
        let param = answer.json()["error"]["param"].as_str().unwrap().to_owned();
        assert!(line["cause"].as_str().unwrap().contains(&param), "{line}");
    }
    gateway.finish(4).await;
}
