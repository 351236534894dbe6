//! What is counted by model, client, SDK and key.

use http::StatusCode;
use sluicegate::simulator::{Head, Script, Simulator, Step};

use super::{Scrape, gateway, mix, whole_stream};
use crate::harness::{
    Client, Gateway, GatewayToml, Http, authorised, chat, post, request, safely, send, simulator, whole,
};

const USAGE: &str = "data: {\"choices\":[],\"usage\":{\"prompt_tokens\":7,\"completion_tokens\":5}}\n\n";
const STOP: &str =
    "data: {\"choices\":[{\"index\":0,\"delta\":{\"content\":\"Hi\"},\"finish_reason\":\"stop\"}]}\n\n";

fn is(scrape: &Scrape, name: &str, labels: &[&str], value: f64) {
    assert_eq!(scrape.sum(name, labels), value, "{name} {labels:?}\n{}", scrape.text);
}

/// Queues a stream that ends with its usage.
fn stream(upstream: &Simulator) {
    let steps = [STOP, USAGE, "data: [DONE]\n\n"].map(|event| Step::Send(event.into()));
    upstream.queue(Script::new([Step::Head(Head::event_stream())].into_iter().chain(steps).collect()));
}

/// Queues an error with this status and body.
fn refuse(upstream: &Simulator, status: u16, body: &'static str) {
    let head = Head::json(StatusCode::from_u16(status).unwrap(), body.len());
    upstream.queue(Script::new(vec![Step::Head(head), Step::Send(body.into())]));
}

async fn ask(gateway: &Gateway, model: &str) -> StatusCode {
    let body = format!(r#"{{"model":"{model}","stream":true,"messages":[]}}"#);
    let asked = post(gateway.address(), Http::One, "/v1/chat/completions").body(whole(body)).unwrap();
    send(gateway.address(), Http::One, asked).await.status
}

#[tokio::test]
async fn a_model_is_counted_with_its_tokens_times_and_reasons() {
    let upstream = simulator().await;
    let gateway = gateway(&upstream);
    stream(&upstream);
    assert_eq!(ask(&gateway, "gpt-x").await, 200);
    refuse(&upstream, 429, r#"{"error":{"message":"slow down","code":"rate_limit_exceeded"}}"#);
    assert_eq!(ask(&gateway, "gpt-x").await, 429);
    refuse(&upstream, 404, r#"{"error":{"message":"no such model","code":"model_not_found"}}"#);
    assert_eq!(ask(&gateway, "typo").await, 404);
    gateway.log.line(3).await;
    let scrape = Scrape::of(gateway.admin.unwrap(), "").await;
    let model = "model=\"gpt-x\"";
    is(&scrape, "sluicegate_model_requests_total", &[model, "upstream=\"sim\"", "result=\"ok\""], 1.0);
    is(&scrape, "sluicegate_model_requests_total", &[model, "result=\"limited\""], 1.0);
    is(&scrape, "sluicegate_model_requests_total", &["model=\"_other\"", "result=\"rejected\""], 1.0);
    is(&scrape, "sluicegate_model_tokens_total", &[model, "gen_ai_token_type=\"input\""], 7.0);
    is(&scrape, "sluicegate_finish_reasons_total", &[model, "reason=\"stop\""], 1.0);
    let labels = [
        "gen_ai_operation_name=\"chat\"",
        "gen_ai_provider_name=\"sim\"",
        "gen_ai_request_model=\"gpt-x\"",
        "upstream=\"sim\"",
    ];
    is(&scrape, "gen_ai_server_time_to_first_token_seconds_count", &labels, 1.0);
    is(&scrape, "gen_ai_server_time_per_output_token_seconds_count", &labels, 1.0);
    is(&scrape, "gen_ai_server_request_duration_seconds_count", &labels, 2.0);
    let failed = [&labels[..], &["error_type=\"4xx\""]].concat();
    is(&scrape, "gen_ai_server_request_duration_seconds_count", &failed, 1.0);
    is(&scrape, "sluicegate_models_tracked", &[], 1.0);
    is(&scrape, "sluicegate_caller_requests_total", &["caller=\"tester\"", "result=\"ok\""], 1.0);
    is(&scrape, "sluicegate_overhead_seconds_count", &["route=\"main\""], 3.0);
    is(
        &scrape,
        "sluicegate_upstream_connect_seconds_count",
        &["upstream=\"sim\""],
        scrape.sum("sluicegate_upstream_connection_events_total", &["event=\"opened\""]),
    );
    assert!(gateway.log.access().iter().all(|line| line["overhead_ms"].as_f64().is_some()));
}

#[tokio::test]
async fn what_another_attempt_saved_is_counted_and_so_are_retries_and_waits() {
    let upstream = simulator().await;
    let toml = GatewayToml::before(&upstream.url(), "retry = { backoff = \"1ms\" }").admin();
    let gateway = Gateway::start(&toml);
    refuse(&upstream, 503, "{}");
    upstream.queue(whole_stream());
    assert!(chat(gateway.address(), Http::One).await.whole);
    gateway.log.line(1).await;
    let scrape = Scrape::of(gateway.admin.unwrap(), "").await;
    let main = "route=\"main\"";
    is(&scrape, "sluicegate_rescued_requests_total", &[main, "from=\"sim\"", "to=\"sim\""], 1.0);
    is(&scrape, "sluicegate_retries_total", &[main], 1.0);
    is(&scrape, "sluicegate_wait_seconds_count", &[main, "why=\"backoff\""], 1.0);
}

#[tokio::test]
async fn a_broken_stream_is_a_number_of_its_own_and_there_from_the_start() {
    let upstream = simulator().await;
    let gateway = gateway(&upstream);
    let broken = ["route=\"main\"", "upstream=\"sim\"", "who=\"upstream\""];
    let before = Scrape::of(gateway.admin.unwrap(), "").await;
    assert!(before.text.contains("sluicegate_broken_streams_total{route=\"main\""), "{}", before.text);
    is(&before, "sluicegate_broken_streams_total", &broken, 0.0);
    // One that is truncated, and one whose client leaves.
    mix(&upstream, &gateway).await;
    is(&Scrape::of(gateway.admin.unwrap(), "").await, "sluicegate_broken_streams_total", &broken, 1.0);
}

#[tokio::test]
async fn the_codes_that_alerts_are_about_are_there_from_the_start() {
    let upstream = simulator().await;
    let gateway = gateway(&upstream);
    let scrape = Scrape::of(gateway.admin.unwrap(), "").await;
    for code in ["upstream_unavailable", "upstream_unreachable"] {
        let series = format!("sluicegate_request_errors_total{{route=\"main\",code=\"{code}\"}} 0\n");
        assert!(scrape.text.contains(&series), "{series}{}", scrape.text);
    }
}

#[tokio::test]
async fn instances_with_the_same_configuration_have_the_same_hash_whenever_they_were_started_or_reloaded() {
    let upstream = simulator().await;
    let toml = GatewayToml::before(&upstream.url(), "").admin();
    let (one, two) = (Gateway::start(&toml), Gateway::start(&toml));
    let hash = async |gateway: &Gateway| {
        Scrape::of(gateway.admin.unwrap(), "").await.sum("sluicegate_config_hash", &[])
    };
    let first = hash(&one).await;
    assert!(first > 0.0);
    two.reload(&toml.clone().route("body_limit = \"3MiB\"")).await;
    assert_ne!(hash(&two).await, first);
    two.reload(&toml).await;
    assert_eq!(hash(&two).await, first);
}

#[tokio::test]
async fn a_key_that_is_refused_is_down_and_quotas_are_the_providers() {
    let upstream = simulator().await;
    let gateway = gateway(&upstream);
    let key = ["upstream=\"sim\"", "key=\"1\""];
    is(&Scrape::of(gateway.admin.unwrap(), "").await, "sluicegate_upstream_key_up", &key, 1.0);
    refuse(&upstream, 401, r#"{"error":{"message":"Incorrect API key","code":"invalid_api_key"}}"#);
    ask(&gateway, "gpt-x").await;
    is(&Scrape::of(gateway.admin.unwrap(), "").await, "sluicegate_upstream_key_up", &key, 0.0);
}

#[tokio::test]
async fn the_quota_that_a_provider_names_is_shown() {
    let upstream = simulator().await;
    let gateway = gateway(&upstream);
    let raw = "HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: 2\r\n\
               x-ratelimit-remaining-tokens: 1234\r\nx-ratelimit-limit-tokens: 5000\r\n\r\n{}";
    upstream.queue(Script::new(vec![Step::Raw(raw.into())]));
    let asked = authorised(gateway.address(), Http::One, "GET", "/v1/models").body(whole("")).unwrap();
    assert_eq!(send(gateway.address(), Http::One, asked).await.status, 200);
    let scrape = Scrape::of(gateway.admin.unwrap(), "").await;
    let labels = ["upstream=\"sim\"", "key=\"1\"", "unit=\"tokens\""];
    is(&scrape, "sluicegate_upstream_quota_remaining", &labels, 1234.0);
    is(&scrape, "sluicegate_upstream_quota_limit", &labels, 5000.0);
}

#[tokio::test]
async fn a_stream_in_flight_has_an_age_and_levels_stand_beside_their_maximum() {
    let upstream = simulator().await;
    let gateway = gateway(&upstream);
    upstream.queue(super::held());
    let held = super::begun(&gateway).await;
    let scrape = Scrape::of(gateway.admin.unwrap(), "").await;
    assert!(scrape.sum("sluicegate_oldest_request_seconds", &["route=\"main\""]) > 0.0, "{}", scrape.text);
    is(&scrape, "sluicegate_streams_silent", &["route=\"main\"", "over=\"30s\""], 0.0);
    assert!(scrape.sum("sluicegate_connections_max", &[]) > scrape.sum("sluicegate_connections_open", &[]));
    assert!(scrape.sum("sluicegate_buffered_bytes_max", &[]) > 0.0);
    drop(held);
}

#[tokio::test]
async fn sdks_are_counted_by_family_and_major_version() {
    let upstream = simulator().await;
    let gateway = gateway(&upstream);
    for agent in ["OpenAI/Python 1.109.1", "AsyncOpenAI/Python 1.2.3", "mine/1"] {
        let asked = authorised(gateway.address(), Http::One, "GET", "/v1/models").header("user-agent", agent);
        send(gateway.address(), Http::One, asked.body(whole("")).unwrap()).await;
    }
    gateway.log.line(3).await;
    let scrape = Scrape::of(gateway.admin.unwrap(), "").await;
    let counted = "sluicegate_client_sdk_requests_total";
    is(&scrape, counted, &["sdk=\"openai-python\"", "version=\"1\""], 2.0);
    is(&scrape, counted, &["sdk=\"_other\"", "version=\"_other\""], 1.0);
}

#[tokio::test]
async fn open_metrics_has_exemplars_with_the_trace_of_the_request() {
    let upstream = simulator().await;
    let gateway = gateway(&upstream);
    upstream.queue(whole_stream());
    let trace = "4bf92f3577b34da6a3ce929d0e0e4736";
    let asked = post(gateway.address(), Http::One, "/v1/chat/completions")
        .header("traceparent", format!("00-{trace}-00f067aa0ba902b7-01"))
        .body(whole(crate::harness::CHAT));
    assert!(send(gateway.address(), Http::One, asked.unwrap()).await.whole);
    gateway.log.line(1).await;
    let open = Scrape::of(gateway.admin.unwrap(), "application/openmetrics-text").await;
    for family in ["sluicegate_request_duration_seconds", "gen_ai_server_time_to_first_token_seconds"] {
        let exemplar = format!(" # {{trace_id=\"{trace}\"}} ");
        let has = |line: &str| line.starts_with(family) && line.contains(&exemplar);
        assert!(open.text.lines().any(has), "{family}\n{}", open.text);
    }
    let plain = Scrape::of(gateway.admin.unwrap(), "text/plain").await;
    assert!(!plain.text.contains(" # {"), "{}", plain.text);
}

#[tokio::test]
async fn a_scrape_is_compressed_for_those_who_take_it() {
    let upstream = simulator().await;
    let gateway = gateway(&upstream);
    let admin = gateway.admin.unwrap();
    let mut client = Client::connect(admin, Http::One).await;
    let asked = request(admin, Http::One, "GET", "/metrics").header("accept-encoding", "gzip");
    let response = safely(client.send(asked.body(whole("")).unwrap())).await.unwrap();
    assert_eq!(response.headers()["content-encoding"], "gzip");
    let answer = crate::harness::Answer::read(response).await;
    let mut text = String::new();
    std::io::Read::read_to_string(&mut flate2::read::GzDecoder::new(&answer.body[..]), &mut text).unwrap();
    assert!(text.contains("sluicegate_build_info") && text.len() > 2 * answer.body.len(), "{text}");
}
