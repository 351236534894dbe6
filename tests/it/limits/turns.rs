//! Limits on the turns of WebSocket connections.

use http::StatusCode;
use serde_json::Value;

use crate::{
    harness::Gateway,
    websocket::rig::{Peer, Upstream, before, open},
};

const ASK: &str = r#"{"type":"response.create"}"#;
const BEGUN: &str = r#"{"type":"response.created","response":{"id":"r","status":"in_progress"}}"#;

/// The end of a turn that has used 120 tokens.
const DONE: &str = r#"{"type":"response.done","response":{"id":"r","status":"completed","usage":{"input_tokens":20,"output_tokens":100,"total_tokens":120}}}"#;

/// The end of a turn whose usage is not reported.
const DONE_WITHOUT_USAGE: &str = r#"{"type":"response.done","response":{"id":"r","status":"completed"}}"#;

async fn limited(limit: &str) -> (Gateway, Upstream) {
    let upstream = Upstream::start().await;
    let toml = before(&upstream).defaults("limits = [\"turns\"]").more(format!("[limit.turns]\n{limit}"));
    (Gateway::start(&toml), upstream)
}

/// One turn: the client asks, and the server answers with these messages.
async fn turn(client: &mut Peer, server: &mut Peer, messages: &[&str]) {
    client.text(ASK).await;
    assert_eq!(server.next_text().await, ASK);
    for message in messages {
        server.text(message).await;
        assert_eq!(client.next_text().await, *message);
    }
}

/// The client asks for another turn, and is refused.
async fn refused(client: &mut Peer, server: &mut Peer, code: &str) {
    client.text(ASK).await;
    let event: Value = serde_json::from_str(&client.next_text().await).unwrap();
    assert_eq!((&event["type"], &event["error"]["code"]), (&"error".into(), &code.into()), "{event}");
    assert!(event["error"]["message"].as_str().unwrap().contains("`turns`"), "{event}");
    assert_eq!(client.next_close().await.0, 1008);
    client.close(1008, "").await;
    client.rest().await;
    // At least the end of the message has not reached the upstream, so it does nothing.
    let rest = server.rest().await;
    assert!(rest.len() < ASK.len(), "{rest:x?}");
}

#[tokio::test]
async fn a_turn_is_charged_at_its_end_and_the_next_one_is_refused_when_nothing_is_left() {
    let (gateway, upstream) = limited("tokens = 200\nper = \"day\"").await;
    let (mut client, mut server) = open(&gateway, &upstream, "/v1/realtime?model=gpt-realtime").await;
    turn(&mut client, &mut server, &[BEGUN, DONE]).await;
    turn(&mut client, &mut server, &[BEGUN, DONE]).await;
    refused(&mut client, &mut server, "rate_limit_exceeded").await;
    drop((client, server));
    let line = gateway.log.line(1).await;
    assert_eq!((&line["error"], &line["turns"]), (&"rate_limit_exceeded".into(), &2.into()), "{line}");
    // What the connection has used stays used: another one is not admitted.
    let answer = crate::harness::chat(gateway.address(), crate::harness::Http::One).await;
    assert_eq!(answer.status, StatusCode::TOO_MANY_REQUESTS);
}

#[tokio::test]
async fn a_turn_without_a_report_is_charged_by_what_was_seen() {
    let (gateway, upstream) = limited("tokens = 10\nper = \"day\"").await;
    let (mut client, mut server) = open(&gateway, &upstream, "/v1/realtime?model=gpt-realtime").await;
    let delta = r#"{"type":"response.output_text.delta","delta":"a"}"#;
    let mut messages = vec![BEGUN];
    messages.extend([delta; 12]);
    messages.push(DONE_WITHOUT_USAGE);
    turn(&mut client, &mut server, &messages).await;
    refused(&mut client, &mut server, "rate_limit_exceeded").await;
}

#[tokio::test]
async fn a_connection_counts_as_one_request_and_as_concurrent_to_its_end() {
    let (gateway, upstream) = limited("concurrent = 1\nrequests = 2\nper = \"day\"").await;
    let (mut client, server) = open(&gateway, &upstream, "/v1/realtime").await;
    let code = async || {
        let answer = crate::harness::chat(gateway.address(), crate::harness::Http::One).await;
        (answer.status, answer.code())
    };
    assert_eq!(code().await, (StatusCode::TOO_MANY_REQUESTS, "concurrency_limit_exceeded".to_owned()));
    client.close(1000, "").await;
    drop((client, server));
    gateway.finished(2).await;
    let (_client, _server) = open(&gateway, &upstream, "/v1/realtime").await;
    // Two requests were admitted, the second one by a slot that was given back.
    assert_eq!(code().await.0, StatusCode::TOO_MANY_REQUESTS);
}

#[tokio::test]
async fn a_turn_that_the_server_begins_by_itself_is_refused_too() {
    let (gateway, upstream) = limited("tokens = 100\nper = \"day\"").await;
    let (mut client, mut server) = open(&gateway, &upstream, "/v1/realtime?model=gpt-realtime").await;
    let audio = r#"{"type":"input_audio_buffer.append","audio":"AAAA"}"#;
    client.text(audio).await;
    assert_eq!(server.next_text().await, audio);
    for message in [BEGUN, DONE, BEGUN] {
        server.text(message).await;
        assert_eq!(client.next_text().await, message);
    }
    let event: Value = serde_json::from_str(&client.next_text().await).unwrap();
    assert_eq!(event["error"]["code"], "rate_limit_exceeded", "{event}");
    assert_eq!(client.next_close().await.0, 1008);
    assert_eq!(server.next_close().await.0, 1001);
}

/// What a turn costs is known at its end: the budget is charged then, and the next turn needs something to be left.
#[tokio::test]
async fn a_turn_costs_what_its_tokens_cost() {
    const PRICES: &str =
        "[pricing]\ncurrency = \"USD\"\n[pricing.model.\"gpt-realtime*\"]\ninput = \"1\"\noutput = \"10\"\n";
    let (gateway, upstream) = limited(&format!("cost = \"0.002\"\nper = \"month\"\n{PRICES}")).await;
    let (mut client, mut server) = open(&gateway, &upstream, "/v1/realtime?model=gpt-realtime").await;
    // 20 × 1 + 100 × 10 millionths each.
    turn(&mut client, &mut server, &[BEGUN, DONE]).await;
    turn(&mut client, &mut server, &[BEGUN, DONE]).await;
    refused(&mut client, &mut server, "insufficient_quota").await;
    drop((client, server));
    let line = gateway.log.line(1).await;
    assert_eq!((&line["error"], &line["cost"]), (&"insufficient_quota".into(), &"0.00204".into()), "{line}");
    assert_eq!(line["limit"], "turns", "{line}");
    let answer = crate::harness::chat(gateway.address(), crate::harness::Http::One).await;
    assert_eq!(answer.code(), "insufficient_quota");
    assert_eq!(answer.headers["x-should-retry"], "false");
}
