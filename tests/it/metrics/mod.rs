//! What is counted is what happened.

mod models;
mod prometheus;
pub mod scrape;
mod series;

use http::StatusCode;
use sluicegate::simulator::{Cut, Gate, Head, Script, Simulator, Step};

use crate::harness::{
    Answer, CHAT, Client, Gateway, Http, Keys, chat, cut_off, post, request, safely, send, simulator, take,
    whole,
};
use scrape::Scrape;

const EVENT: &str = "data: {\"choices\":[{\"index\":0,\"delta\":{\"content\":\"Hi\"}}]}\n\n";
const ANSWER: &str = r#"{"model":"m","usage":{"prompt_tokens":7,"completion_tokens":5,"total_tokens":12,"prompt_tokens_details":{"cached_tokens":3,"cache_write_tokens":2},"completion_tokens_details":{"reasoning_tokens":1}}}"#;

fn gateway(upstream: &Simulator) -> Gateway {
    let more = "[admin]\naddress = \"127.0.0.1:0\"";
    let server = "drain = { announce = \"1h\", deadline = \"1h\" }";
    Gateway::with(upstream, Http::One, Keys { server, more, ..Keys::default() })
}

fn whole_stream() -> Script {
    let steps = [EVENT, EVENT, "data: [DONE]\n\n"].map(|event| Step::Send(event.into()));
    Script::new([Step::Head(Head::event_stream())].into_iter().chain(steps).collect())
}

/// Sends this many requests: two whole streams, a JSON answer, a 401, a 404, a truncated stream, one whose caller leaves.
const MIX: usize = 7;

async fn mix(upstream: &Simulator, gateway: &Gateway) {
    let address = gateway.address();
    for _ in 0..2 {
        upstream.queue(whole_stream());
        assert!(chat(address, Http::One).await.whole);
    }
    let json = Head::json(StatusCode::OK, ANSWER.len());
    upstream.queue(Script::new(vec![Step::Head(json), Step::Send(ANSWER.into())]));
    assert_eq!(chat(address, Http::Two).await.text(), ANSWER);
    let stranger = request(address, Http::One, "POST", "/v1/chat/completions").body(whole(CHAT)).unwrap();
    assert_eq!(send(address, Http::One, stranger).await.status, 401);
    let nowhere = post(address, Http::One, "/nowhere").body(whole(CHAT)).unwrap();
    assert_eq!(send(address, Http::One, nowhere).await.status, 404);
    upstream.queue(cut_off(Head::event_stream(), EVENT.as_bytes(), Cut::Reset));
    assert!(chat(address, Http::One).await.text().contains("upstream_truncated"));
    upstream.queue(held());
    let (client, _) = begun(gateway).await;
    client.leave().await;
    gateway.log.line(MIX).await;
}

fn held() -> Script {
    Script::new(vec![Step::Head(Head::event_stream()), Step::Send(EVENT.into()), Step::Gate(Gate::new())])
}

/// A stream whose first event has come.
async fn begun(gateway: &Gateway) -> (Client, http::Response<hyper::body::Incoming>) {
    let mut client = Client::connect(gateway.address(), Http::One).await;
    let request = post(gateway.address(), Http::One, "/v1/chat/completions").body(whole(CHAT)).unwrap();
    let mut response = safely(client.send(request)).await.unwrap();
    take(response.body_mut(), EVENT.len()).await;
    (client, response)
}

#[tokio::test]
async fn outcomes_add_up_to_log_lines_and_requests() {
    let upstream = simulator().await;
    let mut gateway = gateway(&upstream);
    let admin = gateway.admin.unwrap();
    mix(&upstream, &gateway).await;
    // The last one is cut by the drain, which the operator's listener outlives.
    upstream.queue(held());
    let (_client, response) = begun(&gateway).await;
    let scrape = Scrape::of(admin, "").await;
    assert_eq!(scrape.sum("sluicegate_requests_in_flight", &[]), 1.0, "{}", scrape.text);
    assert_eq!(scrape.sum("sluicegate_requests_total", &[]), MIX as f64, "{}", scrape.text);
    gateway.ask_to_stop();
    gateway.ask_to_stop();
    assert!(safely(Answer::read(response)).await.text().contains("gateway_draining"));
    gateway.log.line(MIX + 1).await;
    let counts = gateway.counts();
    gateway.ended().await;

    let lines = gateway.log.access();
    assert_eq!(lines.len(), MIX + 1);
    assert_eq!(counts.exchanges.values().sum::<u64>(), lines.len() as u64);
    for (ending, count) in &counts.exchanges {
        let alike = lines.iter().filter(|line| {
            let status =
                line["status"].as_u64().map_or("none".into(), |status| format!("{}xx", status / 100));
            let same = |key: &str, name: &Option<std::sync::Arc<str>>| line[key].as_str() == name.as_deref();
            same("route", &ending.route)
                && same("upstream", &ending.upstream)
                && (status == ending.status, &line["who"], &line["phase"])
                    == (true, &ending.who.into(), &ending.phase.into())
        });
        assert_eq!(alike.count() as u64, *count, "{ending:?} {lines:#?}");
    }
    assert_eq!(gateway.loads(), [(0, 0), (0, 0)]);
}

#[tokio::test]
async fn what_is_measured_is_what_passed() {
    let upstream = simulator().await;
    let gateway = gateway(&upstream);
    mix(&upstream, &gateway).await;
    let scrape = Scrape::of(gateway.admin.unwrap(), "").await;
    let is = |name: &str, labels: &[&str], value: f64| {
        assert_eq!(scrape.sum(name, labels), value, "{name} {labels:?}\n{}", scrape.text);
    };
    let main = "route=\"main\"";
    is("sluicegate_requests_total", &[main, "status=\"2xx\"", "who=\"upstream\"", "phase=\"done\""], 3.0);
    is("sluicegate_requests_total", &["route=\"_other\"", "status=\"4xx\"", "phase=\"request\""], 1.0);
    is("sluicegate_request_errors_total", &[main, "code=\"upstream_truncated\""], 1.0);
    is("sluicegate_request_errors_total", &[main, "code=\"missing_api_key\""], 1.0);
    is("sluicegate_request_errors_total", &[main, "code=\"caller_left\""], 1.0);
    is("sluicegate_upstream_attempts_total", &["upstream=\"sim\"", "result=\"2xx\""], 5.0);
    is("sluicegate_tokens_total", &["caller=\"tester\"", "gen_ai_token_type=\"input\""], 7.0);
    is("sluicegate_tokens_total", &["caller=\"tester\"", "gen_ai_token_type=\"output\""], 5.0);
    is("sluicegate_tokens_total", &["caller=\"tester\"", "gen_ai_token_type=\"cached_input\""], 3.0);
    is("sluicegate_tokens_total", &["caller=\"tester\"", "gen_ai_token_type=\"cache_write\""], 2.0);
    is("sluicegate_tokens_total", &["caller=\"tester\"", "gen_ai_token_type=\"reasoning\""], 1.0);
    is("sluicegate_first_token_seconds_count", &[main], 4.0);
    is("sluicegate_request_duration_seconds_count", &[main], 6.0);
    is("sluicegate_request_duration_seconds_bucket", &[main, "le=\"+Inf\""], 6.0);
    is("sluicegate_request_bytes_total", &[main], (5 * CHAT.len()) as f64);
    is("sluicegate_requests_in_flight", &[], 0.0);
    is("sluicegate_connections_accepted_total", &[], MIX as f64);
    is("sluicegate_log_lines_dropped_total", &[], 0.0);
    is("sluicegate_config_generation", &[], 1.0);
    let frames: u64 = gateway.log.access().iter().map(|line| line["frames"].as_u64().unwrap()).sum();
    let answers = gateway.log.access().iter().filter(|line| line["frames"] != 0).count() as u64;
    is("sluicegate_frame_gap_seconds_count", &[], (frames - answers) as f64);
    let opened = scrape.sum("sluicegate_upstream_connection_events_total", &["event=\"opened\""]);
    let reused = scrape.sum("sluicegate_upstream_connection_events_total", &["event=\"reused\""]);
    assert_eq!(opened + reused, 5.0, "{}", scrape.text);
}

/// Else a web page's name, made to lead to loopback, would let its browser read what the operator may.
#[tokio::test]
async fn without_a_token_only_its_own_names_are_answered() {
    let upstream = simulator().await;
    let gateway = gateway(&upstream);
    let admin = gateway.admin.unwrap();
    let asked = async |host: &str, path: &str| {
        let request = request(admin, Http::One, "GET", path).header("host", host).body(whole("")).unwrap();
        send(admin, Http::One, request).await.status
    };
    for path in ["/metrics", "/status", "/config"] {
        for own in ["localhost", "LocalHost:9901", "127.0.0.1:9901", "[::1]:9901", "192.0.2.1"] {
            assert_eq!(asked(own, path).await, 200, "{own} {path}");
        }
        for foreign in [
            "rebound.example",
            "rebound.example:9901",
            "localhost.rebound.example",
            "127.0.0.1.rebound.example",
        ] {
            assert_eq!(asked(foreign, path).await, 403, "{foreign} {path}");
        }
    }
}

/// A load balancer and a kubelet ask by whatever name they have, and have no token.
#[tokio::test]
async fn whether_it_lives_and_is_ready_is_no_secret() {
    let upstream = simulator().await;
    let more = "[admin]\naddress = \"127.0.0.1:0\"\ntoken = { env = \"UPSTREAM_KEY\" }";
    let gateway = Gateway::with(&upstream, Http::One, Keys { more, ..Keys::default() });
    let admin = gateway.admin.unwrap();
    for (path, status) in
        [("/healthz", 200), ("/readyz", 200), ("/metrics", 401), ("/config", 401), ("/status", 401)]
    {
        let request = http::Request::get(path).header("host", "gateway.example").body(whole("")).unwrap();
        assert_eq!(send(admin, Http::One, request).await.status, status, "{path}");
    }
}
