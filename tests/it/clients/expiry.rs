//! Keys that expire, and what the log says of a client.

use std::time::{Duration, SystemTime};

use http::{Request, StatusCode};
use sluicegate::simulator::{Gate, Head, Script, Simulator, Step};

use crate::harness::{
    Answer, BOTH, CHAT, Client, Gateway, GatewayToml, Http, Sent, chat, post, safely, simulator, take, whole,
};

const EVENT: &str = "data: {\"choices\":[{\"index\":0,\"delta\":{\"content\":\"Hi\"}}]}\n\n";

/// A line that has the keys expire after this time.
fn expires_in(left: Duration) -> String {
    let at = humantime::format_rfc3339_nanos(SystemTime::now() + left);
    format!("expires = \"{at}\"")
}

fn streaming(gateway: &Gateway, http: Http) -> Request<Sent> {
    post(gateway.address(), http, "/v1/chat/completions").body(whole(CHAT)).unwrap()
}

/// A stream that waits at the gate behind its first event.
fn waiting(upstream: &Simulator) -> Gate {
    let gate = Gate::new();
    upstream.queue(Script::new(vec![
        Step::Head(Head::event_stream()),
        Step::Send(EVENT.into()),
        Step::Gate(gate.clone()),
        Step::Send("data: [DONE]\n\n".into()),
    ]));
    gate
}

#[tokio::test]
async fn an_expired_key_is_refused_with_its_own_reason() {
    let upstream = simulator().await;
    let gateway = Gateway::start(
        &GatewayToml::before(&upstream.url(), "").client("expires = \"2020-02-29T12:00:00+01:00\""),
    );
    let answer = chat(gateway.address(), Http::One).await;
    assert_eq!((answer.status, &*answer.code()), (StatusCode::UNAUTHORIZED, "key_expired"), "{answer:?}");
    assert_eq!(answer.headers.get("x-should-retry").unwrap(), "false");
    let line = gateway.log.line_of(&answer).await;
    assert_eq!((&line["caller"], &line["error"]), (&"tester".into(), &"key_expired".into()), "{line}");
    // A later time makes the same key valid again.
    gateway
        .reload(&GatewayToml::before(&upstream.url(), "").client(expires_in(Duration::from_secs(3600))))
        .await;
    assert_eq!(chat(gateway.address(), Http::One).await.status, StatusCode::OK);
    gateway.finish(2).await;
}

/// An open route takes requests without a key, and not with one that has expired: what its owner sends is not anonymous.
#[tokio::test]
async fn an_open_route_refuses_an_expired_key_too() {
    let upstream = simulator().await;
    let toml = GatewayToml::before(&upstream.url(), "").route("access = \"open\"");
    let gateway = Gateway::start(&toml.client("expires = \"2020-02-29T12:00:00Z\""));
    let answer = chat(gateway.address(), Http::One).await;
    assert_eq!((answer.status, &*answer.code()), (StatusCode::UNAUTHORIZED, "key_expired"), "{answer:?}");
    gateway.finish(1).await;
}

/// Nothing reloads. The connection remembers its client, and refuses it all the same.
#[tokio::test]
async fn an_open_stream_is_cut_when_the_key_expires_and_the_next_request_is_refused() {
    let upstream = simulator().await;
    for http in BOTH {
        let toml =
            GatewayToml::before(&upstream.url(), "").listener("h2c = true").client("on_revoke = \"cut\"");
        let gateway = Gateway::start(&toml.client(expires_in(Duration::from_secs(3))));
        let _gate = waiting(&upstream);
        let mut client = Client::connect(gateway.address(), http).await;
        let mut response = safely(client.send(streaming(&gateway, http))).await.unwrap();
        assert_eq!(response.status(), StatusCode::OK);
        take(response.body_mut(), EVENT.len()).await;
        let answer = safely(Answer::read(response)).await;
        assert!(answer.text().contains("key_revoked"), "{http:?}: {answer:?}");
        let line = gateway.log.line(1).await;
        assert_eq!((&line["who"], &line["error"]), (&"gateway".into(), &"key_revoked".into()), "{line}");
        let refused = chat(gateway.address(), http).await;
        assert_eq!((refused.status.as_u16(), &*refused.code()), (401, "key_expired"), "{refused:?}");
        gateway.finish(2).await;
    }
}

#[tokio::test]
async fn by_default_an_open_stream_goes_on_when_the_key_expires() {
    let upstream = simulator().await;
    let toml = GatewayToml::before(&upstream.url(), "").client("models = [\"gpt-4o-mini\"]");
    let gateway = Gateway::start(&toml.client(expires_in(Duration::from_secs(3))));
    let gate = waiting(&upstream);
    let mut client = Client::connect(gateway.address(), Http::One).await;
    let mut response = safely(client.send(streaming(&gateway, Http::One))).await.unwrap();
    take(response.body_mut(), EVENT.len()).await;
    let mut asked = 1;
    while chat(gateway.address(), Http::One).await.status == StatusCode::OK {
        asked += 1;
    }
    gate.open();
    let answer = safely(Answer::read(response)).await;
    assert!(answer.whole && answer.text().ends_with("[DONE]\n\n"), "{answer:?}");
    gateway.finish(asked + 1).await;
}

#[tokio::test]
async fn the_log_has_the_group_and_the_tags_and_the_upstream_has_neither() {
    let upstream = simulator().await;
    let toml = GatewayToml::before(&upstream.url(), "")
        .client("group = \"research\"\ntags = { cost-center = \"4711\", project = \"tag value\" }");
    let gateway = Gateway::start(&toml.more("[group.research]"));
    let answer = chat(gateway.address(), Http::One).await;
    let line = gateway.log.line_of(&answer).await;
    assert_eq!(line["group"], "research", "{line}");
    assert_eq!(line["tags"], serde_json::json!({ "cost-center": "4711", "project": "tag value" }), "{line}");
    let sent = format!("{:?}", upstream.record(1).await);
    for word in ["research", "4711", "cost-center", "tag value"] {
        assert!(!sent.contains(word), "{word}: {sent}");
    }
    gateway.finish(1).await;
}
