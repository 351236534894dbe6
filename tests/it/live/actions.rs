//! What an operator may do.

use http::StatusCode;
use serde_json::json;
use sluicegate::{
    app::Ended,
    simulator::{Gate, Head, Script, Simulator, Step},
};

use super::viewer::Viewer;
use crate::harness::{
    Answer, BOTH, CHAT, Client, Gateway, GatewayToml, Http, UPSTREAM_KEY, chat, post, request, safely, send,
    simulator, take, whole,
};

const EVENT: &str = "data: {\"choices\":[{\"index\":0,\"delta\":{\"content\":\"Hi\"}}]}\n\n";

/// The token is any secret of the environment.
fn gateway(upstream: &Simulator, actions: bool) -> Gateway {
    let admin = format!(
        "[admin]\naddress = \"127.0.0.1:0\"\ntoken = {{ env = \"UPSTREAM_KEY\" }}\nactions = {actions}"
    );
    Gateway::start(
        &GatewayToml::before(&upstream.url(), "retry = \"off\"").listener("h2c = true").more(admin),
    )
}

async fn act(gateway: &Gateway, path: &str, headers: &[(&str, &str)]) -> Answer {
    let admin = gateway.admin.unwrap();
    let mut asked = request(admin, Http::One, "POST", path);
    for (name, value) in headers {
        asked = asked.header(*name, *value);
    }
    send(admin, Http::One, asked.body(whole("")).unwrap()).await
}

fn bearer() -> String {
    format!("Bearer {UPSTREAM_KEY}")
}

#[tokio::test]
async fn actions_need_the_switch_the_token_and_no_foreign_origin() {
    let upstream = simulator().await;
    let off = gateway(&upstream, false);
    let token = bearer();
    let own: &[(&str, &str)] = &[("authorization", &token)];
    assert_eq!(act(&off, "/live/drain", own).await.status, 403);
    let on = gateway(&upstream, true);
    assert_eq!(act(&on, "/live/drain", &[]).await.status, 401);
    assert_eq!(act(&on, "/live/drain", &[("authorization", "Bearer wrong")]).await.status, 401);
    for foreign in [("origin", "http://evil.example"), ("origin", "null"), ("sec-fetch-site", "cross-site")] {
        let refused = act(&on, "/live/drain", &[own[0], foreign]).await;
        assert_eq!(refused.status, 403, "{foreign:?}");
    }
    assert_eq!(act(&on, "/live/nothing", own).await.status, 404);
    assert_eq!(act(&on, "/live/requests/req_none/cancel", own).await.status, 404);
    assert!(chat(on.address(), Http::One).await.whole, "nothing has happened");
}

#[tokio::test]
async fn a_cancelled_stream_ends_with_an_error_event_and_says_so_in_the_log() {
    for http in BOTH {
        let upstream = simulator().await;
        upstream.queue(Script::new(vec![
            Step::Head(Head::event_stream()),
            Step::Send(EVENT.into()),
            Step::Gate(Gate::new()),
        ]));
        let gateway = gateway(&upstream, true);
        let mut client = Client::connect(gateway.address(), http).await;
        let asked = post(gateway.address(), http, "/v1/chat/completions").body(whole(CHAT)).unwrap();
        let mut response = safely(client.send(asked)).await.unwrap();
        take(response.body_mut(), EVENT.len()).await;
        let mut viewer = Viewer::with_token(gateway.admin.unwrap(), Some(UPSTREAM_KEY)).await;
        let (id, _) = viewer.request(|row| row["phase"] == "stream").await;
        let token = bearer();
        let done = act(&gateway, &format!("/live/requests/{id}/cancel"), &[("authorization", &token)]).await;
        assert_eq!((done.status, done.text()), (StatusCode::OK, "request cancelled\n"));
        let rest = safely(Answer::read(response)).await;
        assert!(rest.text().contains("cancelled_by_operator"), "{http:?} {rest:?}");
        let line = gateway.log.line(1).await;
        let seen = (&line["who"], &line["phase"], &line["error"]);
        assert_eq!(seen, (&json!("gateway"), &json!("stream"), &json!("cancelled_by_operator")), "{http:?}");
    }
}

#[tokio::test]
async fn a_request_without_a_response_is_cancelled_too() {
    let upstream = simulator().await;
    upstream.queue(Script::new(vec![Step::Gate(Gate::new())]));
    let gateway = gateway(&upstream, true);
    let address = gateway.address();
    let waiting = tokio::spawn(async move { chat(address, Http::One).await });
    let mut viewer = Viewer::with_token(gateway.admin.unwrap(), Some(UPSTREAM_KEY)).await;
    let (id, row) = viewer.request(|row| row["phase"] == "first_byte").await;
    assert_eq!((&row["upstream"], row.get("first_token")), (&json!("sim"), None));
    let token = bearer();
    act(&gateway, &format!("/live/requests/{id}/cancel"), &[("authorization", &token)]).await;
    let answer = safely(waiting).await.unwrap();
    assert_eq!((answer.status.as_u16(), &*answer.code()), (503, "cancelled_by_operator"));
    assert_eq!(answer.headers["x-should-retry"], "false");
}

#[tokio::test]
async fn a_circuit_breaker_that_the_operator_opens_keeps_requests_away_until_it_is_closed() {
    let upstream = simulator().await;
    let gateway = gateway(&upstream, true);
    let token = bearer();
    let own: &[(&str, &str)] = &[("authorization", &token)];
    assert_eq!(act(&gateway, "/live/upstreams/sim/targets/0/open?for=1h", own).await.status, 200);
    let refused = chat(gateway.address(), Http::One).await;
    assert_eq!((refused.status.as_u16(), &*refused.code()), (503, "upstream_unavailable"));
    let mut viewer = Viewer::with_token(gateway.admin.unwrap(), Some(UPSTREAM_KEY)).await;
    viewer
        .until(|viewer| (viewer.state["upstreams"]["sim"]["targets"]["0"]["circuit"] == "open").then_some(()))
        .await;
    let notice = viewer.until(|viewer| viewer.state["notices"].get(0).cloned()).await;
    assert_eq!(notice, json!({ "who": "provider", "text": "sim: circuit breaker open at 1 of 1 targets" }));
    // A reload may have put another target there since the page was drawn.
    let other = "/live/upstreams/sim/targets/0/close?url=https%3A%2F%2Fother.example";
    assert_eq!(act(&gateway, other, own).await.status, 409);
    assert_eq!(chat(gateway.address(), Http::One).await.status, 503);
    let url = viewer.state["upstreams"]["sim"]["targets"]["0"]["url"].as_str().unwrap().to_owned();
    let encoded = percent_encoding::utf8_percent_encode(&url, percent_encoding::NON_ALPHANUMERIC);
    let meant = format!("/live/upstreams/sim/targets/0/close?url={encoded}");
    assert_eq!(act(&gateway, &meant, own).await.status, 200);
    assert!(chat(gateway.address(), Http::One).await.whole);
    assert_eq!(act(&gateway, "/live/upstreams/sim/targets/1/close", own).await.status, 404);
}

#[tokio::test]
async fn a_drain_ends_the_gateway_when_its_requests_are_over() {
    let upstream = simulator().await;
    let mut gateway = gateway(&upstream, true);
    let token = bearer();
    assert_eq!(act(&gateway, "/live/drain", &[("authorization", &token)]).await.status, 202);
    assert_eq!(gateway.ended().await, Ended::Drained);
}
