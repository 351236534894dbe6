//! Limits: what is admitted, what is refused with which words, and what is given back.

mod early;
mod sizes;
mod traffic;
mod turns;

use std::net::SocketAddr;

use http::StatusCode;
use serde_json::Value;
use sluicegate::simulator::{Cut, Gate, Head, Record, Script, Step};

use super::harness::{
    Answer, CHAT, Client, Gateway, GatewayToml, Http, chat, post, safely, send, simulator, whole,
};

async fn posted(address: SocketAddr, body: &str) -> Answer {
    let request = post(address, Http::One, "/v1/chat/completions").body(whole(body.to_owned())).unwrap();
    send(address, Http::One, request).await
}

fn header<'a>(answer: &'a Answer, name: &str) -> Option<&'a str> {
    answer.headers.get(name).and_then(|value| value.to_str().ok())
}

#[tokio::test]
async fn a_limit_on_requests_admits_its_burst_and_says_exactly_when_more() {
    let upstream = simulator().await;
    let toml = GatewayToml::before(&upstream.url(), "")
        .defaults("limits = [\"fair-use\"]")
        .more("[limit.fair-use]\nrequests = 6\nper = \"1m\"\nburst = { requests = 3 }\n");
    let gateway = Gateway::start(&toml);
    for left in ["2", "1", "0"] {
        let admitted = chat(gateway.address(), Http::One).await;
        assert_eq!(admitted.status, StatusCode::OK);
        assert_eq!(header(&admitted, "x-ratelimit-limit-requests"), Some("6"));
        assert_eq!(header(&admitted, "x-ratelimit-remaining-requests"), Some(left));
    }
    let refused = chat(gateway.address(), Http::One).await;
    assert_eq!(
        (refused.status, refused.code().as_str()),
        (StatusCode::TOO_MANY_REQUESTS, "rate_limit_exceeded")
    );
    assert_eq!(header(&refused, "x-sluicegate-limit"), Some("fair-use"));
    assert!(refused.text().contains("`fair-use`"), "{}", refused.text());
    let millis: u64 = header(&refused, "retry-after-ms").unwrap().parse().unwrap();
    assert!((1..=10_000).contains(&millis), "{millis}");
    let seconds: u64 = header(&refused, "retry-after").unwrap().parse().unwrap();
    assert_eq!(seconds, millis.div_ceil(1_000));
    assert_eq!(header(&refused, "x-should-retry"), Some("true"));
    // No attempt was made for it.
    assert_eq!(upstream.records().len(), 3);
    let line = gateway.log.line_of(&refused).await;
    assert_eq!((&line["error"], &line["who"]), (&"rate_limit_exceeded".into(), &"downstream".into()));
    gateway.finish(4).await;
}

/// The request is admitted before an upstream is asked, so a head that is sent before the upstream's says what is left as well.
#[tokio::test]
async fn a_head_that_is_sent_before_the_upstreams_says_what_is_left() {
    let upstream = simulator().await;
    let toml = GatewayToml::before(&upstream.url(), "")
        .defaults("limits = [\"fair-use\"]")
        .route("commit_after = \"10ms\"")
        .more("[limit.fair-use]\nrequests = 6\nper = \"1m\"\nburst = { requests = 3 }\n");
    let gateway = Gateway::start(&toml);
    let gate = Gate::new();
    upstream.queue(Script::new(vec![
        Step::Gate(gate.clone()),
        Step::Head(Head::event_stream()),
        Step::Send("data: [DONE]\n\n".into()),
    ]));
    let mut client = Client::connect(gateway.address(), Http::One).await;
    let request = post(gateway.address(), Http::One, "/v1/chat/completions").body(whole(CHAT)).unwrap();
    let response = safely(client.send(request)).await.unwrap();
    assert_eq!(response.headers()["x-ratelimit-limit-requests"], "6");
    assert_eq!(response.headers()["x-ratelimit-remaining-requests"], "2");
    gate.open();
    assert!(safely(Answer::read(response)).await.whole);
    gateway.finish(1).await;
}

#[tokio::test]
async fn a_request_counts_as_concurrent_until_its_response_has_ended() {
    let upstream = simulator().await;
    let gate = Gate::new();
    upstream.queue(Script::new(vec![
        Step::Head(Head::event_stream()),
        Step::Send("data: {\"choices\":[{\"index\":0,\"delta\":{\"content\":\"Hi\"}}]}\n\n".into()),
        Step::Gate(gate.clone()),
        Step::Send("data: [DONE]\n\n".into()),
    ]));
    let toml = GatewayToml::before(&upstream.url(), "")
        .defaults("limits = [\"one\"]")
        .more("[limit.one]\nconcurrent = 1\n");
    let gateway = Gateway::start(&toml);
    let address = gateway.address();
    let first = tokio::spawn(async move { chat(address, Http::One).await });
    safely(upstream.wait_for(|records| (records.len() == 1).then_some(()))).await;
    let refused = chat(address, Http::One).await;
    assert_eq!(
        (refused.status, refused.code().as_str()),
        (StatusCode::TOO_MANY_REQUESTS, "concurrency_limit_exceeded")
    );
    gate.open();
    assert!(first.await.unwrap().whole);
    // The slot is given back when the exchange has ended, which the client may see a moment earlier.
    gateway.finished(2).await;
    assert_eq!(chat(address, Http::One).await.status, StatusCode::OK);
    gateway.finish(3).await;
}

#[tokio::test]
async fn a_request_that_no_response_came_for_is_given_back() {
    let upstream = simulator().await;
    for _ in 0..3 {
        upstream.queue(Script::new(vec![Step::Cut(Cut::Reset)]));
    }
    let toml = GatewayToml::before(&upstream.url(), "retry = \"off\"")
        .defaults("limits = [\"fair-use\"]")
        .more("[limit.fair-use]\nrequests = 1\nper = \"day\"\n");
    let gateway = Gateway::start(&toml);
    for _ in 0..3 {
        assert_eq!(chat(gateway.address(), Http::One).await.status, StatusCode::BAD_GATEWAY);
    }
    gateway.finished(3).await;
    assert_eq!(chat(gateway.address(), Http::One).await.status, StatusCode::OK);
    let refused = chat(gateway.address(), Http::One).await;
    assert_eq!(refused.status, StatusCode::TOO_MANY_REQUESTS);
    assert_eq!(header(&refused, "x-should-retry"), Some("false"), "nobody waits for tomorrow");
    gateway.finish(5).await;
}

#[tokio::test]
async fn a_reload_keeps_what_was_used_and_a_new_period_starts_anew() {
    let upstream = simulator().await;
    let toml = |limit: &str| {
        GatewayToml::before(&upstream.url(), "")
            .defaults("limits = [\"fair-use\"]")
            .more(format!("[limit.fair-use]\n{limit}\n"))
    };
    let gateway = Gateway::start(&toml("requests = 2\nper = \"day\""));
    for _ in 0..2 {
        assert_eq!(chat(gateway.address(), Http::One).await.status, StatusCode::OK);
    }
    gateway.reload(&toml("requests = 3\nper = \"day\"")).await;
    assert_eq!(chat(gateway.address(), Http::One).await.status, StatusCode::OK);
    assert_eq!(chat(gateway.address(), Http::One).await.status, StatusCode::TOO_MANY_REQUESTS);
    gateway.reload(&toml("requests = 3\nper = \"month\"")).await;
    assert_eq!(chat(gateway.address(), Http::One).await.status, StatusCode::OK);
    gateway.finish(5).await;
}

#[tokio::test]
async fn tokens_count_as_they_were_used_and_not_as_they_were_expected() {
    const ANSWER: &str = r#"{"id":"c","object":"chat.completion","choices":[{"index":0,"message":{"role":"assistant","content":"Hi"},"finish_reason":"stop"}],"usage":{"prompt_tokens":300,"completion_tokens":300,"total_tokens":600}}"#;
    let upstream = simulator().await;
    for _ in 0..2 {
        let mut head = Head::json(StatusCode::OK, ANSWER.len());
        head.headers.insert("x-ratelimit-remaining-tokens", "77".parse().unwrap());
        upstream.queue(Script::new(vec![Step::Head(head), Step::Send(ANSWER.into())]));
    }
    let toml = GatewayToml::before(&upstream.url(), "")
        .more("[limit.daily]\ntokens = 1000\nper = \"day\"\n[group.research]\nlimits = [\"daily\"]\n")
        .client("group = \"research\"");
    let gateway = Gateway::start(&toml);
    // 600 used, then 1,200: the second one was admitted because some were left, and its client owes 200.
    for finished in 1..=2 {
        let answer = chat(gateway.address(), Http::One).await;
        assert_eq!(answer.status, StatusCode::OK);
        assert_eq!(header(&answer, "x-ratelimit-limit-tokens"), Some("1000"));
        assert_eq!(header(&answer, "x-upstream-ratelimit-remaining-tokens"), Some("77"));
        gateway.finished(finished).await;
    }
    let refused = chat(gateway.address(), Http::One).await;
    assert_eq!(
        (refused.status, refused.code().as_str()),
        (StatusCode::TOO_MANY_REQUESTS, "rate_limit_exceeded")
    );
    assert_eq!(header(&refused, "x-ratelimit-remaining-tokens"), Some("0"));
    let line = gateway.log.line_of(&refused).await;
    assert_eq!(line["limit"], "daily");
    gateway.finish(3).await;
}

#[tokio::test]
async fn a_limit_that_does_not_enforce_is_named_in_the_log() {
    let upstream = simulator().await;
    let toml = GatewayToml::before(&upstream.url(), "")
        .defaults("limits = [\"trial\"]")
        .more("[limit.trial]\nrequests = 1\nper = \"day\"\nenforce = false\n");
    let gateway = Gateway::start(&toml);
    let first = chat(gateway.address(), Http::One).await;
    let second = chat(gateway.address(), Http::One).await;
    assert_eq!((first.status, second.status), (StatusCode::OK, StatusCode::OK));
    // What it would say is not said; these are the upstream's own.
    assert_eq!(header(&second, "x-ratelimit-limit-requests"), Some("10000"));
    assert_eq!(gateway.log.line_of(&first).await.get("limit"), None);
    assert_eq!(gateway.log.line_of(&second).await["limit"], "trial");
    gateway.finish(2).await;
}

/// A route of two models, of which the first is limited.
fn big_and_small(url: &str, limit: &str) -> GatewayToml {
    GatewayToml::new()
        .upstream("main", url, "")
        .route_to("upstreams = [{ upstream = \"main\", model = \"big\" }, { upstream = \"main\", model = \"small\" }]")
        .defaults("limits = [\"by-model\"]")
        .more(format!("[limit.by-model]\nper = \"day\"\n{limit}\n"))
}

/// The models that the upstream was asked for.
fn models(records: &[Record]) -> Vec<String> {
    let model = |record: &Record| serde_json::from_slice::<Value>(&record.body).unwrap()["model"].to_string();
    records.iter().map(model).collect()
}

#[tokio::test]
async fn an_exhausted_model_is_left_for_the_next_one_and_the_model_that_answers_counts() {
    let upstream = simulator().await;
    let limit = "models = [\"big\", \"small\"]\neach = \"model\"\nrequests = 2\nexhausted = \"next\"";
    let gateway = Gateway::start(&big_and_small(&upstream.url(), limit));
    for _ in 0..4 {
        assert_eq!(chat(gateway.address(), Http::One).await.status, StatusCode::OK);
    }
    let refused = chat(gateway.address(), Http::One).await;
    assert_eq!(
        (refused.status, refused.code().as_str()),
        (StatusCode::TOO_MANY_REQUESTS, "rate_limit_exceeded")
    );
    assert_eq!(header(&refused, "x-sluicegate-limit"), Some("by-model"));
    assert_eq!(models(&upstream.records()), [r#""big""#, r#""big""#, r#""small""#, r#""small""#]);
    gateway.finish(5).await;
}

#[tokio::test]
async fn a_limit_of_a_model_that_refuses_ends_the_request() {
    let upstream = simulator().await;
    let gateway = Gateway::start(&big_and_small(&upstream.url(), "models = [\"big\"]\nrequests = 1"));
    assert_eq!(chat(gateway.address(), Http::One).await.status, StatusCode::OK);
    assert_eq!(chat(gateway.address(), Http::One).await.status, StatusCode::TOO_MANY_REQUESTS);
    assert_eq!(upstream.records().len(), 1);
    gateway.finish(2).await;
}

#[tokio::test]
async fn a_model_that_fails_is_not_charged_for_what_another_answers() {
    let upstream = simulator().await;
    let limit = "models = [\"big\", \"small\"]\neach = \"model\"\nrequests = 2";
    let gateway = Gateway::start(&big_and_small(&upstream.url(), limit));
    // The first model fails, and the second one answers: only that one is counted.
    for _ in 0..2 {
        upstream.queue(Script::new(vec![Step::Cut(Cut::Reset)]));
        assert_eq!(chat(gateway.address(), Http::One).await.status, StatusCode::OK);
    }
    for _ in 0..2 {
        assert_eq!(chat(gateway.address(), Http::One).await.status, StatusCode::OK);
    }
    assert_eq!(chat(gateway.address(), Http::One).await.status, StatusCode::TOO_MANY_REQUESTS);
    gateway.finish(5).await;
}

#[tokio::test]
async fn counting_changes_no_byte_of_a_request() {
    let upstream = simulator().await;
    let toml = GatewayToml::before(&upstream.url(), "")
        .defaults("limits = [\"tokens\"]")
        .more("[limit.tokens]\ntokens = 1000000\nper = \"1m\"\n");
    let gateway = Gateway::start(&toml);
    let body = r#" {"model":"gpt-4o" ,"messages":[{"role":"user","content":"Hi"}], "stream" : false} "#;
    let answer = posted(gateway.address(), body).await;
    assert_eq!(answer.status, StatusCode::OK);
    assert_eq!(upstream.records()[0].body, body.as_bytes());
    gateway.finish(1).await;
}

#[tokio::test]
async fn a_malformed_request_takes_nothing() {
    let upstream = simulator().await;
    let toml = GatewayToml::before(&upstream.url(), "")
        .defaults("limits = [\"few\"]")
        .more("[limit.few]\nrequests = 1\nper = \"day\"\nconcurrent = 1\n");
    let gateway = Gateway::start(&toml);
    for body in ["{", "{\"model\":7}", "{\"stream\":1}", "{\"model\":\"a\",\"model\":\"b\"}"] {
        let answer = posted(gateway.address(), body).await;
        assert_eq!(answer.status, StatusCode::BAD_REQUEST, "{body}");
    }
    assert_eq!(chat(gateway.address(), Http::One).await.status, StatusCode::OK);
    gateway.finish(5).await;
}

#[tokio::test]
async fn invented_models_share_one_count() {
    let upstream = simulator().await;
    let toml = GatewayToml::before(&upstream.url(), "")
        .defaults("limits = [\"by-model\"]")
        .more("[limit.by-model]\neach = \"model\"\nrequests = 2\nper = \"day\"\n");
    let gateway = Gateway::start(&toml);
    let mut statuses = Vec::new();
    for model in ["invented-1", "invented-2", "invented-3"] {
        let body =
            format!("{{\"model\":\"{model}\",\"messages\":[{{\"role\":\"user\",\"content\":\"Hi\"}}]}}");
        statuses.push(posted(gateway.address(), &body).await.status.as_u16());
    }
    assert_eq!(statuses, [200, 200, 429]);
    gateway.finish(3).await;
}
