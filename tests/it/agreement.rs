//! Over one mix with fail-over, a cut, a client that leaves, a queue and a limit, the log, the metrics, the spans and the live page report the same numbers.

use std::{collections::BTreeMap, net::SocketAddr};

use http::StatusCode;
use serde_json::Value;
use sluicegate::{
    app::Ended,
    simulator::{Cut, Gate, Head, Script, Simulator, Step},
};

use crate::{
    faults::rig::{has_seen, until},
    harness::{
        CHAT, Client, Gateway, GatewayToml, Http, chat, cut_off, post, request, safely, send, simulator,
        take, whole,
    },
    live::{shipping::misfits_of, viewer::Viewer},
    metrics::scrape::Scrape,
    traces::receiver::{Receiver, Span},
};

const EVENT: &str = "data: {\"choices\":[{\"index\":0,\"delta\":{\"content\":\"Hi\"}}]}\n\n";
const USAGE: &str = "data: {\"choices\":[],\"usage\":{\"prompt_tokens\":70,\"completion_tokens\":50}}\n\n";
const BUSY: &str = r#"{"error":{"message":"busy","type":"server_error","code":null}}"#;
const ANSWER: &str = r#"{"model":"gpt-4o-mini","choices":[{"index":0,"message":{"role":"assistant","content":"Hi"},"finish_reason":"stop"}],"usage":{"prompt_tokens":17,"completion_tokens":15,"total_tokens":32,"prompt_tokens_details":{"cached_tokens":3,"cache_write_tokens":2},"completion_tokens_details":{"reasoning_tokens":1}}}"#;

/// Requests of the mix.
const ALL: usize = 9;

/// The types of tokens: in the log and on the page, in the metrics, and in spans.
const TOKENS: [[&str; 3]; 5] = [
    ["tokens_in", "input", "gen_ai.usage.input_tokens"],
    ["tokens_out", "output", "gen_ai.usage.output_tokens"],
    ["tokens_cached_input", "cached_input", "gen_ai.usage.cache_read.input_tokens"],
    ["tokens_cache_write", "cache_write", "gen_ai.usage.cache_creation.input_tokens"],
    ["tokens_reasoning", "reasoning", "gen_ai.usage.reasoning.output_tokens"],
];

const MORE: &str = r#"
[limit.tight]
each = "client"
requests = 1
per = "1h"
burst = { requests = 1 }
[limit.narrow]
each = "gateway"
concurrent = 1
queue = { wait = "60s" }
[route.tight]
path = "/tight"
rewrite = "/v1"
upstreams = ["first"]
limits = ["tight"]
[route.narrow]
path = "/narrow"
rewrite = "/v1"
upstreams = ["first"]
limits = ["narrow"]
[pricing]
currency = "EUR"
[pricing.model."gpt-4o-mini"]
input = "2.50"
cached_input = "1.25"
output = "10"
"#;

fn toml(first: &Simulator, second: &Simulator, collector: &str) -> GatewayToml {
    let lines = "retry = { backoff = \"1ms\" }\nbreaker = \"off\"";
    GatewayToml::new()
        .admin()
        .upstream("first", &first.url(), lines)
        .upstream("second", &second.url(), lines)
        .more(MORE)
        .more(format!("[otlp]\nendpoint = {collector:?}"))
}

fn stream() -> Script {
    let steps = [EVENT, USAGE, "data: [DONE]\n\n"].map(|event| Step::Send(event.into()));
    Script::new([Step::Head(Head::event_stream())].into_iter().chain(steps).collect())
}

fn json(before: Option<Gate>) -> Script {
    let gate = before.map(Step::Gate);
    let response = [Step::Head(Head::json(StatusCode::OK, ANSWER.len())), Step::Send(ANSWER.into())];
    Script::new(gate.into_iter().chain(response).collect())
}

async fn ask(gateway: &Gateway, path: &str) -> StatusCode {
    let asked = post(gateway.address(), Http::One, path).body(whole(CHAT)).unwrap();
    send(gateway.address(), Http::One, asked).await.status
}

/// Sends the mix: [`ALL`] requests.
async fn mix(gateway: &Gateway, first: &Simulator, second: &Simulator) {
    let address = gateway.address();
    // Fail-over.
    let head = Head::json(StatusCode::SERVICE_UNAVAILABLE, BUSY.len());
    first.queue(Script::new(vec![Step::Head(head), Step::Send(BUSY.into())]));
    second.queue(stream());
    assert!(chat(address, Http::One).await.whole);
    // A stream that breaks off.
    first.queue(cut_off(Head::event_stream(), EVENT.as_bytes(), Cut::Reset));
    assert!(chat(address, Http::One).await.text().contains("upstream_truncated"));
    // A client that leaves.
    first.queue(Script::new(vec![
        Step::Head(Head::event_stream()),
        Step::Send(EVENT.into()),
        Step::Gate(Gate::new()),
    ]));
    let mut client = Client::connect(address, Http::One).await;
    let asked = post(address, Http::One, "/v1/chat/completions").body(whole(CHAT)).unwrap();
    let mut response = safely(client.send(asked)).await.unwrap();
    take(response.body_mut(), EVENT.len()).await;
    drop(response);
    client.leave().await;
    gateway.log.line(3).await;
    wait_in_the_queue(gateway, first).await;
    // A limit that refuses.
    first.queue(json(None));
    assert_eq!(ask(gateway, "/tight/chat/completions").await, 200);
    assert_eq!(ask(gateway, "/tight/chat/completions").await, 429);
    // An upstream's own refusal, and a stranger.
    let head = Head::json(StatusCode::BAD_REQUEST, BUSY.len());
    first.queue(Script::new(vec![Step::Head(head), Step::Send(BUSY.into())]));
    assert_eq!(ask(gateway, "/v1/chat/completions").await, 400);
    let stranger = request(address, Http::One, "POST", "/v1/chat/completions").body(whole(CHAT)).unwrap();
    assert_eq!(send(address, Http::One, stranger).await.status, 401);
    gateway.log.line(ALL).await;
}

/// Two requests of which one waits for the other.
async fn wait_in_the_queue(gateway: &Gateway, upstream: &Simulator) {
    let gate = Gate::new();
    upstream.queue(json(Some(gate.clone())));
    upstream.queue(json(None));
    let address = gateway.address();
    let before = upstream.records().len();
    let first = tokio::spawn(ask_narrow(address));
    has_seen(upstream, before + 1).await;
    let second = tokio::spawn(ask_narrow(address));
    let waiting =
        || gateway.inside().live.load().limits.queued().map(|queued| queued.view.depth()).sum::<usize>();
    until(|| waiting() == 1).await;
    gate.open();
    assert_eq!((first.await.unwrap(), second.await.unwrap()), (StatusCode::OK, StatusCode::OK));
}

async fn ask_narrow(address: SocketAddr) -> StatusCode {
    let asked = post(address, Http::One, "/narrow/chat/completions").body(whole(CHAT)).unwrap();
    send(address, Http::One, asked).await.status
}

/// Requests by how they ended: status class, who and phase.
type Endings = BTreeMap<String, usize>;

fn endings<'a>(of: impl Iterator<Item = [&'a Value; 3]>) -> Endings {
    let mut found = Endings::new();
    for [status, who, phase] in of {
        let status =
            status.as_u64().map_or_else(|| "none".to_owned(), |status| format!("{}xx", status / 100));
        let text = |value: &Value| value.as_str().unwrap().to_owned();
        *found.entry(format!("{status} {} {}", text(who), text(phase))).or_default() += 1;
    }
    found
}

fn of_lines(lines: &[Value]) -> Endings {
    endings(lines.iter().map(|line| [&line["status"], &line["who"], &line["phase"]]))
}

/// Attempts of lines of the log or the page; the log lists them only where there is more to say than the line does.
fn attempts(lines: &[Value]) -> usize {
    let of = |line: &Value| match line["attempts"].as_array() {
        Some(attempts) => attempts.len(),
        None => usize::from(line.get("upstream").is_some()),
    };
    lines.iter().map(of).sum()
}

fn sum<'a>(values: impl Iterator<Item = &'a Value>) -> u64 {
    values.filter_map(Value::as_u64).sum()
}

/// Money in billionths.
fn cost(lines: &[Value]) -> i64 {
    let costs = lines.iter().filter_map(|line| line["cost"].as_str());
    costs.map(|cost| billionths(cost.parse().unwrap())).sum()
}

fn billionths(amount: f64) -> i64 {
    (amount * 1e9).round() as i64
}

fn refused(lines: &[Value]) -> usize {
    lines.iter().filter(|line| line["status"] == 429 && line["limit"].is_string()).count()
}

fn waited(lines: &[Value]) -> usize {
    lines.iter().filter(|line| line["queue_ms"].is_number()).count()
}

/// What each of the four shows of the mix.
struct Shown {
    lines: Vec<Value>,
    /// The requests on the page, and its totals.
    page: Vec<Value>,
    totals: Value,
    scrape: Scrape,
    roots: Vec<Span>,
    tries: Vec<Span>,
}

#[tokio::test]
async fn log_metrics_spans_and_page_report_the_same_numbers() {
    let mut receiver = Receiver::start(&[]);
    let (first, second) = (simulator().await, simulator().await);
    let gateway = Gateway::start(&toml(&first, &second, &receiver.url));
    let mut viewer = Viewer::join(gateway.admin.unwrap()).await;
    viewer.until(|viewer| viewer.state.is_object().then_some(())).await;
    mix(&gateway, &first, &second).await;
    let lines = gateway.log.access();
    let page = viewer.until(|viewer| (viewer.finished.len() >= ALL).then(|| viewer.finished.clone())).await;
    let totals = viewer
        .until(|viewer| (viewer.state["totals"]["finished"] == ALL).then(|| viewer.state.clone()))
        .await;
    let scrape = Scrape::of(gateway.admin.unwrap(), "").await;
    drop(viewer);
    assert_eq!(gateway.stop().await, Ended::Drained);
    let (roots, tries) = all_spans(&mut receiver).into_iter().partition(Span::is_root);
    for line in &lines {
        assert_eq!(misfits_of(line), [""; 0], "docs/how-to/log-shipping.md: {line}");
    }
    let shown = Shown { lines, page, totals, scrape, roots, tries };
    shown.endings_agree();
    shown.attempts_agree(first.records().len() + second.records().len());
    shown.tokens_agree();
    shown.money_and_limits_agree();
}

impl Shown {
    /// How requests ended.
    fn endings_agree(&self) {
        let Self { lines, page, scrape, roots, .. } = self;
        let logged = of_lines(lines);
        assert_eq!(logged.values().sum::<usize>(), ALL);
        assert!(logged.len() >= 5, "the mix has all kinds: {logged:#?}");
        let of_spans = endings(roots.iter().map(|root| {
            ["http.response.status_code", "sluicegate.who", "sluicegate.phase"]
                .map(|name| root.attribute(name))
        }));
        assert_eq!(of_spans, logged, "spans and log");
        for (ending, count) in &logged {
            let [status, who, phase] = ending.split(' ').collect::<Vec<_>>().try_into().unwrap();
            let labels =
                [format!("status=\"{status}\""), format!("who=\"{who}\""), format!("phase=\"{phase}\"")];
            let labels = labels.each_ref().map(String::as_str);
            assert_eq!(scrape.sum("sluicegate_requests_total", &labels), *count as f64, "{ending}");
        }
        assert_eq!(scrape.sum("sluicegate_requests_total", &[]), ALL as f64);
        assert_eq!(of_lines(page), logged, "page and log");
    }

    /// `tried` is how many requests the upstreams got.
    fn attempts_agree(&self, tried: usize) {
        let Self { lines, page, totals, scrape, roots, tries } = self;
        assert_eq!(attempts(lines), tried);
        assert_eq!((tries.len(), attempts(page)), (tried, tried), "spans and page");
        assert_eq!(sum(roots.iter().map(|root| root.attribute("sluicegate.attempts"))), tried as u64);
        assert_eq!(scrape.sum("sluicegate_upstream_attempts_total", &[]), tried as f64);
        assert_eq!(scrape.sum("sluicegate_retries_total", &[]), 1.0);
        let upstreams = totals["upstreams"].as_object().unwrap().values();
        let asked: u64 = upstreams.map(|one| sum([&one["answered"], &one["failed"]].into_iter())).sum();
        assert_eq!(asked, tried as u64, "{totals:#}");
    }

    /// Tokens, as far as upstreams have reported them.
    fn tokens_agree(&self) {
        let Self { lines, page, scrape, tries, .. } = self;
        let reported: Vec<&Value> = lines.iter().filter(|line| line["usage"] == "reported").collect();
        for [field, kind, attribute] in TOKENS {
            let logged = sum(reported.iter().map(|line| &line[field]));
            assert!(logged > 0, "{field}: the mix has all types");
            let label = format!("gen_ai_token_type=\"{kind}\"");
            for family in ["sluicegate_tokens_total", "sluicegate_model_tokens_total"] {
                assert_eq!(scrape.sum(family, &[&label]), logged as f64, "{family} {kind}");
            }
            assert_eq!(sum(tries.iter().map(|span| span.attribute(attribute))), logged, "spans: {kind}");
            let shown = page.iter().filter(|line| line["usage"] == "reported").map(|line| &line[field]);
            assert_eq!(sum(shown), logged, "page: {kind}");
        }
    }

    /// Money, queue and limits.
    fn money_and_limits_agree(&self) {
        let Self { lines, page, totals, scrape, roots, .. } = self;
        let spent = cost(lines);
        assert!(spent > 0);
        for family in ["sluicegate_cost_total", "sluicegate_model_cost_total"] {
            assert_eq!(billionths(scrape.sum(family, &["currency=\"EUR\""])), spent, "{family}");
        }
        assert_eq!(cost(page), spent, "page");
        assert_eq!((waited(lines), waited(page)), (1, 1));
        self.spans_say_how_long_it_waited();
        let waits = scrape.sum("sluicegate_queue_wait_seconds_count", &["limit=\"narrow\""]);
        let served = ["limit=\"narrow\"", "result=\"served\""];
        assert_eq!((waits, scrape.sum("sluicegate_queue_requests_total", &served)), (1.0, 1.0));
        // What a request waits in a queue is not time that the gateway adds.
        for line in lines.iter().filter(|line| line["queue_ms"].is_number()) {
            let [overhead, queue, total] =
                ["overhead_ms", "queue_ms", "total_ms"].map(|field| line[field].as_f64().unwrap());
            assert!(overhead + queue <= total + 0.2, "{line}");
        }
        assert_eq!((refused(lines), refused(page)), (1, 1));
        assert_eq!(scrape.sum("sluicegate_limit_decisions_total", &["decision=\"refused\""]), 1.0);
        assert_eq!(
            roots.iter().filter(|root| root.attribute("sluicegate.limit") == "tight").count(),
            lines.iter().filter(|line| line["limit"] == "tight").count()
        );
        let broken = scrape.sum("sluicegate_broken_streams_total", &[]);
        assert_eq!(totals["totals"]["broken"], broken as u64, "{totals:#}");
    }

    fn spans_say_how_long_it_waited(&self) {
        for root in &self.roots {
            let id = root.attribute("sluicegate.request_id");
            let line = self.lines.iter().find(|line| line["request_id"] == *id).unwrap();
            let waited = root.attribute("sluicegate.queue.duration").as_f64();
            let logged = line["queue_ms"].as_f64();
            assert_eq!(
                waited.map(|seconds| (seconds * 1e6).floor()),
                logged.map(|millis| (millis * 1e3).round()),
                "{line}"
            );
            assert_eq!(root.attribute("sluicegate.queue.position"), &line["queue_position"], "{line}");
        }
    }
}

/// The spans of all requests.
fn all_spans(receiver: &mut Receiver) -> Vec<Span> {
    let mut spans = Vec::new();
    while spans.iter().filter(|span: &&Span| span.is_root()).count() < ALL {
        spans.extend(receiver.spans());
    }
    spans
}
