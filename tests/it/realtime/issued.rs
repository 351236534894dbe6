//! The provider's secret becomes a key of the gateway's own, and everything else of the response stays as it is.

use http::StatusCode;
use serde_json::json;
use sluicegate::simulator::{Framing, Head, Script, Step};

use super::rig::{Rig, SECRET, answer, in_seconds, secret};
use crate::{
    harness::{BOTH, Gateway, UPSTREAM_KEY, post, send, whole},
    websocket::rig::{HANDSHAKE, ask_plainly},
};

#[tokio::test]
async fn each_place_of_a_secret_gets_a_key_of_the_gateway() {
    let rig = Rig::new("").await;
    let end = in_seconds(600);
    for (turn, path, before, after) in [
        (
            0,
            "/v1/realtime/client_secrets",
            "{ \"value\" :\t".to_owned(),
            format!(" ,\"expires_at\":{end}}}\n"),
        ),
        (
            1,
            "/v1/realtime/translations/client_secrets",
            "{\"value\":".into(),
            format!(",\"expires_at\":{end}}}"),
        ),
        (
            0,
            "/v1/realtime/sessions",
            "{\"id\":\"sess_1\",\"client_secret\":{\"value\":".into(),
            format!(",\"expires_at\":{end}}},\"x\":1.0e2}}"),
        ),
        (1, "/v1/realtime/transcription_sessions", "{\"client_secret\":{\"value\":".into(), "}}".into()),
        (
            0,
            "/v1/realtime/client_secrets",
            "{\"session\":{\"client_secret\":{\"value\":".into(),
            "}}}".into(),
        ),
    ] {
        let body = format!("{before}\"{SECRET}\"{after}");
        let answer = rig.issue_at(BOTH[turn], path, body.as_bytes()).await;
        assert_eq!(answer.status, 200, "{path}: {answer:?}");
        let text = answer.text();
        let key = text.strip_prefix(&*before).and_then(|rest| rest.strip_suffix(&*after)).unwrap();
        assert!(key.starts_with("\"ek_sg_") && key.ends_with('"') && !text.contains(SECRET), "{text}");
        let record = rig.upstream.records().pop().unwrap();
        assert_eq!(record.headers["authorization"], format!("Bearer {UPSTREAM_KEY}"));
        rig.upstream.reset();
    }
    // One secret in several places.
    let both = json!({"value": SECRET, "expires_at": end, "session": {"client_secret": {"value": SECRET, "expires_at": end}}});
    let answer = rig.issue_at(BOTH[0], "/v1/realtime/client_secrets", both.to_string().as_bytes()).await;
    assert!(!answer.text().contains(SECRET) && answer.text().matches("ek_sg_").count() == 2, "{answer:?}");
    rig.gateway.holds_nothing().await;
    rig.gateway.finish(6).await;
}

#[tokio::test]
async fn a_response_whose_secret_could_pass_unseen_does_not_pass() {
    let rig = Rig::new("").await;
    let large = json!({"value": SECRET, "padding": "x".repeat(3 << 20)}).to_string();
    let elsewhere = json!({"value": SECRET, "expires_at": in_seconds(60), "note": format!("use {SECRET}")});
    for body in [
        large.into_bytes(),
        elsewhere.to_string().into_bytes(),
        format!("value={SECRET}").into_bytes(),
        json!({"secret": SECRET}).to_string().into_bytes(),
        format!("{{\"value\":\"{SECRET}\"").into_bytes(),
    ] {
        let answer = rig.issue_at(BOTH[0], "/v1/realtime/client_secrets", &body).await;
        assert_eq!((answer.status, &*answer.code()), (StatusCode::BAD_GATEWAY, "upstream_invalid"));
        assert!(!answer.text().contains(SECRET) && answer.text().contains("ephemeral key"), "{answer:?}");
    }
    // Compressed, although that was not asked for.
    let mut head = Head::json(StatusCode::OK, 5);
    head.headers.insert("content-encoding", "gzip".parse().unwrap());
    rig.upstream.queue(Script::new(vec![Step::Head(head), Step::Send("bytes".into())]));
    let request =
        post(rig.gateway.address(), BOTH[0], "/v1/realtime/client_secrets").body(whole("{}")).unwrap();
    assert_eq!(rig.send(request).await.code(), "upstream_invalid");
    // In a header.
    let body = secret(SECRET, in_seconds(60)).to_string();
    let mut head = Head::new(StatusCode::OK, "application/json", Framing::Chunked);
    head.headers.insert("x-secret", format!("a {SECRET}").parse().unwrap());
    rig.upstream.queue(Script::new(vec![Step::Head(head), Step::Send(body.into())]));
    let request =
        post(rig.gateway.address(), BOTH[0], "/v1/realtime/client_secrets").body(whole("{}")).unwrap();
    let answer = rig.send(request).await;
    assert!(answer.status == 200 && !answer.headers.contains_key("x-secret"), "{answer:?}");
    for line in rig.gateway.log.access() {
        assert!(!line.to_string().contains(SECRET), "{line}");
    }
    rig.gateway.finish(7).await;
}

#[tokio::test]
async fn an_error_passes_as_it_is() {
    let rig = Rig::new("").await;
    let body = br#"{"error":{"message":"no such model","type":"invalid_request_error","param":"session.model","code":null}}"#;
    rig.upstream.queue(answer(StatusCode::BAD_REQUEST, body));
    let request =
        post(rig.gateway.address(), BOTH[0], "/v1/realtime/client_secrets").body(whole("{}")).unwrap();
    let answer = rig.send(request).await;
    assert_eq!((answer.status, &*answer.body), (StatusCode::BAD_REQUEST, &body[..]));
}

#[tokio::test]
async fn a_websocket_connection_is_opened_with_the_key_in_a_header_or_a_subprotocol() {
    let rig = Rig::new("").await;
    let key = rig.issue().await;
    for (turn, headers) in [
        format!("authorization: Bearer {key}\r\n"),
        format!("sec-websocket-protocol: realtime, openai-insecure-api-key.{key}\r\n"),
    ]
    .into_iter()
    .enumerate()
    {
        // The simulator does not speak WebSocket: its refusal shows what it was sent.
        rig.upstream.queue(answer(StatusCode::UNAUTHORIZED, br#"{"error":{"code":"session_over"}}"#));
        let path = "/v1/realtime?model=gpt-realtime";
        let mut client = ask_plainly(rig.gateway.address(), path, &format!("{HANDSHAKE}{headers}")).await;
        assert!(client.head.starts_with("HTTP/1.1 401 "), "{}", client.head);
        assert_eq!(client.body().await["error"]["code"], "session_over", "the upstream's own error");
        let records = rig.upstream.records();
        assert_eq!(records.len(), turn + 1, "nothing is tried elsewhere");
        let record = records.last().unwrap();
        assert_eq!(record.headers["authorization"], format!("Bearer {SECRET}"));
        assert!(!format!("{record:?}").contains("ek_sg_"), "{record:?}");
    }
    assert_eq!(rig.spare.records().len(), 0);
    rig.gateway.finish(3).await;
}

#[tokio::test]
async fn gateways_with_one_seal_key_take_each_others_keys() {
    let sealed = "seal_key = { env = \"UPSTREAM_KEY_2\" }";
    let rig = Rig::new(sealed).await;
    let key = rig.issue().await;
    for (toml, status) in [(rig.toml(sealed), 201), (rig.toml(""), 401)] {
        let other = Gateway::start(&toml);
        rig.upstream.queue(answer(StatusCode::CREATED, b"{}"));
        let request = rig.with_key("POST", "/v1/realtime/calls", &key, "v=0\r\n");
        let answer = send(other.address(), BOTH[0], request).await;
        assert_eq!(answer.status, status, "{answer:?}");
        if status == 401 {
            assert_eq!(answer.code(), "invalid_ephemeral_key");
            assert!(answer.text().contains("seal_key"), "{answer:?}");
        }
    }
}
