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
    let encoded = |url: &str| {
        percent_encoding::utf8_percent_encode(url, percent_encoding::NON_ALPHANUMERIC).to_string()
    };
    let circuit = |to: &str, url: &str| format!("/live/upstreams/sim/{to}?for=1h&url={}", encoded(url));
    let url = upstream.url();
    assert_eq!(act(&gateway, &circuit("open", &url), own).await.status, 200);
    let refused = chat(gateway.address(), Http::One).await;
    assert_eq!((refused.status.as_u16(), &*refused.code()), (503, "upstream_unavailable"));
    let mut viewer = Viewer::with_token(gateway.admin.unwrap(), Some(UPSTREAM_KEY)).await;
    viewer
        .until(|viewer| (viewer.state["upstreams"]["sim"]["targets"]["0"]["circuit"] == "open").then_some(()))
        .await;
    let notice = viewer.until(|viewer| viewer.state["notices"].get(0).cloned()).await;
    assert_eq!(notice, json!({ "who": "provider", "text": "sim: circuit breaker open at 1 of 1 targets" }));
    assert_eq!(viewer.state["upstreams"]["sim"]["targets"]["0"]["url"], url);
    for (path, status) in [
        (circuit("close", "https://other.example"), 409),
        ("/live/upstreams/sim/close".to_owned(), 400),
        (format!("/live/upstreams/other/close?url={}", encoded(&url)), 404),
        ("/live/upstreams/sim/targets/0/close".to_owned(), 404),
    ] {
        assert_eq!(act(&gateway, &path, own).await.status, status, "{path}");
        assert_eq!(chat(gateway.address(), Http::One).await.status, 503);
    }
    assert_eq!(act(&gateway, &circuit("close", &url), own).await.status, 200);
    assert!(chat(gateway.address(), Http::One).await.whole);
}

/// A reload gives the targets other numbers while a page still shows the old ones.
#[tokio::test]
async fn an_action_never_reaches_a_target_that_a_reload_has_put_in_the_place_of_another() {
    let (first, second) = (simulator().await, simulator().await);
    let admin = "[admin]\naddress = \"127.0.0.1:0\"\ntoken = { env = \"UPSTREAM_KEY\" }\nactions = true";
    let toml = |urls: &[String]| {
        let targets: Vec<String> = urls.iter().map(|url| format!("{{ url = {url:?} }}")).collect();
        let lines = format!("targets = [{}]\nkey = {{ env = \"UPSTREAM_KEY\" }}", targets.join(", "));
        GatewayToml::new().upstream_of("sim", lines).more(admin)
    };
    let gateway = Gateway::start(&toml(&[first.url(), second.url()]));
    let open = |url: &str| {
        let url = percent_encoding::utf8_percent_encode(url, percent_encoding::NON_ALPHANUMERIC);
        format!("/live/upstreams/sim/open?url={url}")
    };
    let token = bearer();
    let own: &[(&str, &str)] = &[("authorization", &token)];
    let circuits = || {
        let snapshot = gateway.inside().live.load_full();
        let circuit =
            |target: &sluicegate::snapshot::Target| target.state.circuit(std::time::Instant::now()).as_str();
        snapshot.upstreams["sim"].targets().map(circuit).collect::<Vec<_>>()
    };
    gateway.reload(&toml(&[second.url(), first.url()])).await;
    assert_eq!(act(&gateway, &open(&first.url()), own).await.status, 200);
    assert_eq!(circuits(), ["closed", "open"], "the first one is the second now");
    gateway.reload(&toml(&[second.url()])).await;
    assert_eq!(act(&gateway, &open(&first.url()), own).await.status, 409);
    assert_eq!(circuits(), ["closed"]);
}

#[tokio::test]
async fn a_drain_ends_the_gateway_when_its_requests_are_over() {
    let upstream = simulator().await;
    let mut gateway = gateway(&upstream, true);
    let token = bearer();
    assert_eq!(act(&gateway, "/live/drain", &[("authorization", &token)]).await.status, 202);
    assert_eq!(gateway.ended().await, Ended::Drained);
}
