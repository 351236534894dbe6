//! A client over its limit is refused before its body is read, and only where its request would be refused with any body.

use http::{HeaderMap, StatusCode};
use serde_json::Value;
use sluicegate::simulator::{Gate, Simulator};

use super::posted;
use crate::{
    faults::rig::has_seen,
    harness::{
        Answer, BOTH, CLIENT_KEY, Client, Gateway, GatewayToml, Http, Raw, authorised, body_of, chat, post,
        redis::RedisServer, safely, send, simulator,
    },
    queue::rig::gated,
};

/// Prices of which one response of [`used_up`] costs 0.0004.
const PRICES: &str = "[pricing]\ncurrency = \"USD\"\n[pricing.model.\"*\"]\ninput = \"1\"\noutput = \"1\"\n";

/// A limit, and the code of its refusal.
type Row = (&'static str, &'static str);

/// Limits that one response with 400 tokens uses up.
const USED_UP: [Row; 6] = [
    ("requests = 1\nper = \"day\"", "rate_limit_exceeded"),
    ("requests = 1\nper = \"366d\"\nburst = { requests = 1 }", "rate_limit_exceeded"),
    ("tokens = 400\nper = \"day\"", "rate_limit_exceeded"),
    ("tokens = 300\nper = \"366d\"\nburst = { tokens = 300 }", "rate_limit_exceeded"),
    ("cost = \"0.0004\"\nper = \"month\"", "insufficient_quota"),
    ("cost = \"0.0003\"\nper = \"366d\"\nburst = { cost = \"0.0003\" }", "insufficient_quota"),
];

fn toml(upstream: &Simulator, limit: &str) -> GatewayToml {
    GatewayToml::before(&upstream.url(), "")
        .listener("h2c = true")
        .defaults("limits = [\"own\"]")
        .more(format!("[limit.own]\n{limit}\n{PRICES}"))
}

/// A gateway whose client has used `limit` up with one response of 400 tokens.
async fn used_up(upstream: &Simulator, limit: &str) -> Gateway {
    let gateway = Gateway::start(&toml(upstream, limit));
    used_up_at(upstream, &gateway).await;
    gateway
}

async fn used_up_at(upstream: &Simulator, gateway: &Gateway) {
    let gate = Gate::new();
    gate.open();
    upstream.queue(gated(&gate, 300, 100));
    let body = r#"{"model":"gpt-4o","messages":[{"role":"user","content":"Hi"}]}"#;
    assert_eq!(posted(gateway.address(), body).await.status, StatusCode::OK);
    gateway.finished(1).await;
}

/// The answer to a request of which only the head is sent.
async fn answer_to_a_head(gateway: &Gateway, http: Http) -> Answer {
    let (_body, sent) = body_of();
    let request = post(gateway.address(), http, "/v1/chat/completions").body(sent).unwrap();
    let mut client = Client::connect(gateway.address(), http).await;
    let response = safely(client.send(request)).await.unwrap();
    safely(Answer::read(response)).await
}

/// What a limit says in headers; times are left out, because they pass.
fn said(headers: &HeaderMap) -> Vec<String> {
    let is_of_limit = |name: &str| {
        name.starts_with("x-ratelimit-") || name == "x-sluicegate-limit" || name == "x-should-retry"
    };
    let of_limit =
        headers.iter().filter(|(name, _)| is_of_limit(name.as_str()) && !name.as_str().contains("reset"));
    let mut said: Vec<String> =
        of_limit.map(|(name, value)| format!("{name}: {}", value.to_str().unwrap())).collect();
    said.sort_unstable();
    said
}

fn is_early(line: &Value) -> bool {
    line["phase"] == "request" && line["bytes_in"] == 0
}

#[tokio::test]
async fn a_refusal_needs_no_body_and_says_the_same_as_one_that_had_it() {
    let upstream = simulator().await;
    for (limit, code) in USED_UP {
        let gateway = used_up(&upstream, limit).await;
        // A queue of which nothing can come in time is no reason to read a body, but one may: there, the body is read.
        let read = used_up(&upstream, &format!("{limit}\nqueue = {{ wait = \"1s\" }}")).await;
        let after_body = chat(read.address(), Http::One).await;
        assert_eq!(after_body.code(), code, "{limit}");
        assert!(!is_early(&read.log.line_of(&after_body).await), "{limit}");
        for http in BOTH {
            let refused = answer_to_a_head(&gateway, http).await;
            assert_eq!((refused.status.as_u16(), refused.code().as_str()), (429, code), "{limit}");
            assert_eq!(said(&refused.headers), said(&after_body.headers), "{limit}");
            let whole = |name: &str| refused.headers[name].to_str().unwrap().parse::<u64>().unwrap();
            assert_eq!(whole("retry-after"), whole("retry-after-ms").div_ceil(1000), "{limit}");
            assert_eq!(refused.headers["x-sluicegate-limit"], "own");
            let line = gateway.log.line_of(&refused).await;
            assert!(is_early(&line), "{line}");
            assert_eq!((&line["error"], &line["limit"]), (&code.into(), &"own".into()));
            assert_eq!(line["who"], "downstream");
        }
        let counts = gateway.counts();
        let decisions: Vec<_> =
            counts.limit_decisions.iter().map(|((_, decision), count)| (*decision, *count)).collect();
        assert!(decisions.contains(&("refused", 2)), "{decisions:?}");
        assert_eq!(gateway.buffered(), 0);
        read.finish(2).await;
        gateway.finish(3).await;
    }
}

/// Of a limit that has less left than the request would use, but not nothing, only the body tells that it refuses.
#[tokio::test]
async fn an_early_refusal_names_the_first_limit_that_has_nothing_left() {
    let upstream = simulator().await;
    let toml = GatewayToml::before(&upstream.url(), "")
        .listener("h2c = true")
        .defaults("limits = [\"some-left\", \"used-up\", \"used-up-too\"]")
        .more("[limit.some-left]\ntokens = 600\nper = \"366d\"\nburst = { tokens = 600 }\n")
        .more("[limit.used-up]\nrequests = 1\nper = \"day\"\n")
        .more("[limit.used-up-too]\ntokens = 400\nper = \"day\"\n");
    let gateway = Gateway::start(&toml);
    used_up_at(&upstream, &gateway).await;
    for http in BOTH {
        let refused = answer_to_a_head(&gateway, http).await;
        assert_eq!(refused.headers["x-sluicegate-limit"], "used-up");
        assert!(refused.text().contains("`used-up`"), "{}", refused.text());
        let line = gateway.log.line_of(&refused).await;
        assert!(is_early(&line) && line["limit"] == "used-up", "{line}");
    }
    gateway.finish(3).await;
}

#[tokio::test]
async fn requests_at_once_without_a_queue_are_refused_by_their_head() {
    let upstream = simulator().await;
    let gateway = Gateway::start(&toml(&upstream, "concurrent = 1"));
    let gate = Gate::new();
    upstream.queue(gated(&gate, 1, 1));
    let address = gateway.address();
    let first = tokio::spawn(async move { chat(address, Http::One).await });
    has_seen(&upstream, 1).await;
    for http in BOTH {
        let refused = answer_to_a_head(&gateway, http).await;
        assert_eq!(refused.code(), "concurrency_limit_exceeded");
        assert!(is_early(&gateway.log.line_of(&refused).await));
    }
    gate.open();
    first.await.unwrap();
    gateway.finished(3).await;
    assert_eq!(chat(address, Http::One).await.status, StatusCode::OK);
    gateway.finish(4).await;
}

/// RFC 9110 §10.1.1: the final status takes the place of 100.
#[tokio::test]
async fn a_client_that_waits_for_100_continue_gets_the_refusal_instead() {
    let upstream = simulator().await;
    let gateway = used_up(&upstream, USED_UP[0].0).await;
    let mut client = Raw::connect(gateway.address()).await;
    client
        .write(format!(
            "POST /v1/chat/completions HTTP/1.1\r\nhost: g\r\nauthorization: Bearer {CLIENT_KEY}\r\n\
             content-type: application/json\r\ncontent-length: 1000000\r\nexpect: 100-continue\r\n\r\n"
        ))
        .await;
    let (answer, _) = client.read_to_end().await;
    let answer = String::from_utf8(answer).unwrap();
    assert!(answer.starts_with("HTTP/1.1 429 "), "{answer}");
    assert!(answer.contains("rate_limit_exceeded"), "{answer}");
    gateway.finish(2).await;
}

/// A small body that is there already costs nobody the connection.
#[tokio::test]
async fn a_connection_goes_on_after_refusals() {
    let upstream = simulator().await;
    let gateway = used_up(&upstream, USED_UP[0].0).await;
    for http in BOTH {
        let mut client = Client::connect(gateway.address(), http).await;
        for _ in 0..3 {
            let request = post(gateway.address(), http, "/v1/chat/completions");
            let answer = client.ask(request.body(crate::harness::whole(crate::harness::CHAT)).unwrap()).await;
            assert_eq!(answer.code(), "rate_limit_exceeded");
            assert!(is_early(&gateway.log.line_of(&answer).await));
        }
        assert!(client.is_usable().await, "{http:?}");
    }
    gateway.finish(7).await;
}

#[tokio::test]
async fn limits_that_only_count_refuse_nobody_early() {
    let upstream = simulator().await;
    for (limit, _) in USED_UP {
        let gateway = used_up(&upstream, &format!("{limit}\nenforce = false")).await;
        let answer = chat(gateway.address(), Http::One).await;
        assert_eq!(answer.status, StatusCode::OK, "{limit}");
        assert_eq!(gateway.log.line_of(&answer).await["limit"], "own", "{limit}");
        gateway.finish(2).await;
    }
}

/// There are fewer tokens left than a chat is expected to use; a request that uses none is admitted.
#[tokio::test]
async fn a_request_that_uses_less_is_admitted() {
    let upstream = simulator().await;
    let gateway = used_up(&upstream, "tokens = 600\nper = \"366d\"\nburst = { tokens = 600 }").await;
    for http in BOTH {
        let refused = chat(gateway.address(), http).await;
        assert_eq!(refused.code(), "rate_limit_exceeded");
        assert!(!is_early(&gateway.log.line_of(&refused).await), "it depends on the body");
        let list = authorised(gateway.address(), http, "GET", "/v1/models");
        let list = send(gateway.address(), http, list.body(crate::harness::whole("")).unwrap()).await;
        assert_eq!(list.status, StatusCode::OK, "{}", list.text());
    }
    gateway.finish(5).await;
}

/// A limit by model is not asked before the model is known, and one that is exhausted may lead to the next model.
#[tokio::test]
async fn limits_by_model_refuse_nobody_early() {
    let upstream = simulator().await;
    let gateway = used_up(&upstream, "models = [\"gpt-4o\"]\nrequests = 1\nper = \"day\"").await;
    let refused = posted(gateway.address(), r#"{"model":"gpt-4o","messages":[]}"#).await;
    assert_eq!(refused.code(), "rate_limit_exceeded");
    assert!(!is_early(&gateway.log.line_of(&refused).await));
    let other = posted(gateway.address(), r#"{"model":"another","messages":[]}"#).await;
    assert_eq!(other.status, StatusCode::OK);
    gateway.finish(3).await;
}

#[tokio::test]
async fn a_page_may_read_the_refusal() {
    let upstream = simulator().await;
    let toml = toml(&upstream, USED_UP[0].0).route("cors = { origins = [\"https://app.test\"] }");
    let gateway = Gateway::start(&toml);
    used_up_at(&upstream, &gateway).await;
    let (_body, sent) = body_of();
    let request =
        post(gateway.address(), Http::One, "/v1/chat/completions").header("origin", "https://app.test");
    let mut client = Client::connect(gateway.address(), Http::One).await;
    let refused = safely(client.send(request.body(sent).unwrap())).await.unwrap();
    assert_eq!(refused.status(), StatusCode::TOO_MANY_REQUESTS);
    assert_eq!(refused.headers()["access-control-allow-origin"], "https://app.test");
    let exposed = refused.headers()["access-control-expose-headers"].to_str().unwrap();
    for name in ["retry-after", "retry-after-ms", "x-sluicegate-limit", "x-ratelimit-remaining-requests"] {
        assert!(exposed.split(", ").any(|header| header == name), "{name}: {exposed}");
    }
    // Its preflight is no request of the client, and is granted.
    let preflight = crate::harness::request(gateway.address(), Http::One, "OPTIONS", "/v1/chat/completions")
        .header("origin", "https://app.test")
        .header("access-control-request-method", "POST");
    let granted =
        send(gateway.address(), Http::One, preflight.body(crate::harness::whole("")).unwrap()).await;
    assert_eq!(granted.status, StatusCode::NO_CONTENT);
}

/// The list of models that the gateway gives itself is no request to a provider, and no limit counts it.
#[tokio::test]
async fn what_no_limit_counts_is_answered() {
    let upstream = simulator().await;
    let toml = toml(&upstream, USED_UP[0].0)
        .route("model_list = \"configured\"\nmodel_tables = \"prefer\"")
        .more("[model.\"gpt-4o\"]\nupstreams = [\"sim\"]\n");
    let gateway = Gateway::start(&toml);
    used_up_at(&upstream, &gateway).await;
    let list = authorised(gateway.address(), Http::One, "GET", "/v1/models");
    let list = send(gateway.address(), Http::One, list.body(crate::harness::whole("")).unwrap()).await;
    assert_eq!(list.status, StatusCode::OK);
    gateway.finish(2).await;
}

/// The shared store is asked once; then its refusal is remembered, and nobody needs the body.
#[tokio::test]
async fn a_flood_over_a_shared_limit_costs_the_store_nothing() {
    let upstream = simulator().await;
    let redis = RedisServer::start(&[]);
    let shared = format!("{}\n[redis]\nurl = \"{}\"\ntimeout = \"1s\"", USED_UP[0].0, redis.url());
    let toml = GatewayToml::before(&upstream.url(), "")
        .listener("h2c = true")
        .defaults("limits = [\"own\"]")
        .more(format!("[limit.own]\n{shared}\n"));
    let gateway = Gateway::start(&toml);
    let sharing = gateway.inside().live.load().limits.sharing().expect("[redis]").clone();
    safely(async {
        while !sharing.state().is_available {
            tokio::time::sleep(std::time::Duration::from_millis(2)).await;
        }
    })
    .await;
    used_up_at(&upstream, &gateway).await;
    let asked = sharing.statistics().durations().count();
    for http in BOTH {
        for _ in 0..20 {
            let refused = answer_to_a_head(&gateway, http).await;
            assert_eq!(refused.code(), "rate_limit_exceeded");
            assert!(is_early(&gateway.log.line_of(&refused).await));
        }
    }
    assert_eq!((sharing.statistics().durations().count(), sharing.state().remembered), (asked, 40));
    gateway.finish(41).await;
}
