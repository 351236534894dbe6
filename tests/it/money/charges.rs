//! What requests cost, in the log, in the metrics and in limits, through the whole gateway.

use http::StatusCode;
use jiff::{Timestamp, tz::TimeZone};
use serde_json::Value;
use sluicegate::{
    limit::{Calendar, CalendarUnit, Unit},
    money::Money,
    simulator::{Cut, Head, Script, Step},
};

use crate::harness::{
    Answer, Client, Gateway, GatewayToml, Http, authorised, chat, cut_off, post, simulator, whole,
};

/// Prices that tell the classes apart.
const PRICES: &str = r#"
[pricing]
currency = "EUR"
[pricing.model."gpt-4o-mini*"]
input = "2.50"
cached_input = "1.25"
output = "10"
reasoning = "20"
tiers = [{ above = 1_000, input = "5", output = "15" }]
[pricing.model."claude*"]
input = "3"
cached_input = "0.30"
cache_write = "3.75"
cache_write_1h = "6"
output = "15"
[pricing.model."text-embedding-3-small"]
input = "0.02"
output = "0"
"#;

/// A budget that nothing here uses up.
const BUDGET: &str = "[limit.budget]\ncost = \"100\"\nper = \"month\"\ntimezone = \"Europe/Berlin\"\n";

fn before(url: &str, more: &str) -> GatewayToml {
    GatewayToml::before(url, "retry = { retries = 1, backoff = \"20ms\" }")
        .defaults("limits = [\"budget\"]")
        .more(format!("{more}{PRICES}"))
}

fn json(body: &str) -> Script {
    Script::new(vec![Step::Head(Head::json(StatusCode::OK, body.len())), Step::Send(body.to_owned().into())])
}

/// A chat completion of `model` with this usage.
fn completion(model: &str, usage: &str) -> Script {
    json(&format!(
        r#"{{"id":"c","object":"chat.completion","model":"{model}","choices":[{{"index":0,"message":{{"role":"assistant","content":"Hi"}},"finish_reason":"stop"}}],"usage":{usage}}}"#
    ))
}

async fn ask(gateway: &Gateway, path: &str, body: &str) -> Answer {
    let address = gateway.address();
    let mut client = Client::connect(address, Http::One).await;
    client.ask(post(address, Http::One, path).body(whole(body.to_owned())).unwrap()).await
}

async fn cost_of(gateway: &Gateway, answer: &Answer) -> Option<String> {
    let line = gateway.log.line_of(answer).await;
    line.get("cost").map(|cost| cost.as_str().unwrap_or_else(|| panic!("{line}")).to_owned())
}

/// What the limit has counted, of all subjects.
fn counted(gateway: &Gateway) -> Money {
    let snapshot = gateway.inside().live.load_full();
    let now = sluicegate::exchange::now();
    let units = snapshot
        .limits
        .views()
        .flat_map(|view| view.subjects().flat_map(|subject| subject.units(now)).collect::<Vec<_>>());
    let cost = units.filter(|unit| unit.unit == Unit::Cost).map(|unit| unit.left.used);
    Money::from_nanos(cost.sum())
}

/// What the metrics have counted: reported and estimated.
fn metered(gateway: &Gateway) -> (Money, Money) {
    let counts = gateway.counts();
    let mut sums = (Money::default(), Money::default());
    for ([.., currency], costs) in counts.costs.iter() {
        assert_eq!(currency.as_deref(), Some("EUR"));
        sums.0 = sums.0.saturating_add(costs.reported);
        sums.1 = sums.1.saturating_add(costs.estimated);
    }
    sums
}

const CHAT: &str = r#"{"model":"gpt-4o-mini","messages":[{"role":"user","content":"Hi"}]}"#;
const STREAM: &str = r#"{"model":"gpt-4o-mini","stream":true,"messages":[{"role":"user","content":"Hi"}]}"#;
const EVENT: &str = "data: {\"choices\":[{\"index\":0,\"delta\":{\"content\":\"Hi\"}}]}\n\n";

/// A response, the request for it, and what it costs.
type Call = (Script, &'static str, &'static str, Option<&'static str>);

/// Calls of the dialects that count tokens of the cache and of reasoning.
fn calls_of_models() -> Vec<Call> {
    let message = r#"{"type":"message","role":"assistant","model":"claude-sonnet-4-5","content":[],"stop_reason":"end_turn","usage":{"input_tokens":5,"cache_creation_input_tokens":100,"cache_read_input_tokens":1000,"cache_creation":{"ephemeral_5m_input_tokens":60,"ephemeral_1h_input_tokens":40},"output_tokens":2}}"#;
    let response = r#"{"object":"response","status":"completed","model":"gpt-4o-mini","output":[],"usage":{"input_tokens":36,"input_tokens_details":{"cached_tokens":6},"output_tokens":87,"output_tokens_details":{"reasoning_tokens":64},"total_tokens":123}}"#;
    vec![
        // 12 × 2.50 + 7 × 1.25 + 7 × 10 + 3 × 20
        (
            completion(
                "gpt-4o-mini-2024-07-18",
                r#"{"prompt_tokens":19,"completion_tokens":10,"total_tokens":29,"prompt_tokens_details":{"cached_tokens":7},"completion_tokens_details":{"reasoning_tokens":3}}"#,
            ),
            "/v1/chat/completions",
            CHAT,
            Some("0.00016875"),
        ),
        // The tier: 1,001 × 5 + 1 × 15
        (
            completion("gpt-4o-mini", r#"{"prompt_tokens":1001,"completion_tokens":1,"total_tokens":1002}"#),
            "/v1/chat/completions",
            CHAT,
            Some("0.00502"),
        ),
        // 5 × 3 + 1000 × 0.30 + 60 × 3.75 + 40 × 6 + 2 × 15
        (
            json(message),
            "/v1/messages",
            r#"{"model":"claude-sonnet-4-5","max_tokens":9,"messages":[]}"#,
            Some("0.00081"),
        ),
        // 30 × 2.50 + 6 × 1.25 + 23 × 10 + 64 × 20
        (json(response), "/v1/responses", r#"{"model":"gpt-4o-mini","input":"Hi"}"#, Some("0.0015925")),
    ]
}

/// Calls without such tokens, of which some cost nothing.
fn other_calls() -> Vec<Call> {
    let embedding = r#"{"object":"list","data":[],"model":"text-embedding-3-small","usage":{"prompt_tokens":8,"total_tokens":8}}"#;
    let stream = [
        EVENT,
        "data: {\"choices\":[],\"usage\":{\"prompt_tokens\":7,\"completion_tokens\":5,\"total_tokens\":12}}\n\n",
        "data: [DONE]\n\n",
    ];
    vec![
        // 8 × 0.02
        (
            json(embedding),
            "/v1/embeddings",
            r#"{"model":"text-embedding-3-small","input":"Hi"}"#,
            Some("0.00000016"),
        ),
        // 7 × 2.50 + 5 × 10
        (
            Script::new(
                [Step::Head(Head::event_stream())]
                    .into_iter()
                    .chain(stream.map(|piece| Step::Send(piece.into())))
                    .collect(),
            ),
            "/v1/chat/completions",
            STREAM,
            Some("0.0000675"),
        ),
        // Zero that is reported is zero.
        (
            completion("gpt-4o-mini", r#"{"prompt_tokens":0,"completion_tokens":0,"total_tokens":0}"#),
            "/v1/chat/completions",
            CHAT,
            Some("0"),
        ),
        // A model without a price.
        (
            completion("mistral", r#"{"prompt_tokens":7,"completion_tokens":5,"total_tokens":12}"#),
            "/v1/chat/completions",
            r#"{"model":"mistral","messages":[]}"#,
            None,
        ),
        (failed(StatusCode::BAD_REQUEST), "/v1/chat/completions", CHAT, None),
    ]
}

fn failed(status: StatusCode) -> Script {
    let error = r#"{"error":{"message":"no","type":"invalid_request_error","code":"bad","param":null}}"#;
    Script::new(vec![Step::Head(Head::json(status, error.len())), Step::Send(error.into())])
}

#[tokio::test]
async fn money_adds_up_to_the_nano_unit() {
    let upstream = simulator().await;
    let gateway = Gateway::start(&before(&upstream.url(), BUDGET));
    let mix: Vec<Call> = calls_of_models().into_iter().chain(other_calls()).collect();
    let (requests, mut logged) = (mix.len() + 2, Money::default());
    for (script, path, body, expected) in mix {
        upstream.queue(script);
        let answer = ask(&gateway, path, body).await;
        let cost = cost_of(&gateway, &answer).await;
        assert_eq!(cost.as_deref(), expected, "{path} {body}");
        logged = logged.saturating_add(Money::parse(&cost.unwrap_or_else(|| "0".into())).unwrap());
        assert_eq!((metered(&gateway).0, counted(&gateway)), (logged, logged), "{path} {body}");
    }
    // No upstream has accepted the request, the first time and when it is tried again.
    (0..2).for_each(|_| upstream.queue(failed(StatusCode::INTERNAL_SERVER_ERROR)));
    let error = ask(&gateway, "/v1/chat/completions", CHAT).await;
    assert_eq!(cost_of(&gateway, &error).await, None);
    assert_eq!((metered(&gateway).0, counted(&gateway)), (logged, logged));
    // A stream that breaks off: what was seen is charged, and marked.
    upstream.queue(cut_off(Head::event_stream(), EVENT.repeat(3).as_bytes(), Cut::Reset));
    let broken = ask(&gateway, "/v1/chat/completions", STREAM).await;
    let line = gateway.log.line_of(&broken).await;
    assert_eq!(line["usage"], "estimated", "{line}");
    assert!(line["tokens_in"].as_u64() > Some(0) && line["tokens_out"].as_u64() > Some(0), "{line}");
    let estimated = Money::parse(line["cost"].as_str().unwrap()).unwrap();
    assert_eq!(metered(&gateway), (logged, estimated));
    assert_eq!(counted(&gateway), logged.saturating_add(estimated));
    gateway.finish(requests).await;
}

#[tokio::test]
async fn the_model_that_answered_is_charged_and_reads_cost_nothing() {
    let upstream = simulator().await;
    let other = simulator().await;
    let gateway = Gateway::start(
        &before(&upstream.url(), BUDGET)
            .upstream("other", &other.url(), "")
            .route_to("upstreams = [\"sim\", { upstream = \"other\", model = \"claude-3\" }]"),
    );
    // The first upstream is down, and the second one is asked for another model.
    let refused = r#"{"error":{"message":"down"}}"#;
    upstream.queue(Script::new(vec![
        Step::Head(Head::json(StatusCode::SERVICE_UNAVAILABLE, refused.len())),
        Step::Send(refused.into()),
    ]));
    other.queue(completion(
        "claude-3",
        r#"{"prompt_tokens":1000,"completion_tokens":100,"total_tokens":1100}"#,
    ));
    let answer = ask(&gateway, "/v1/chat/completions", CHAT).await;
    assert_eq!(answer.status, StatusCode::OK);
    assert_eq!(cost_of(&gateway, &answer).await.as_deref(), Some("0.0045"));
    // A response that is read again was paid for when it was made.
    let stored = r#"{"object":"response","status":"completed","model":"gpt-4o-mini","output":[],"usage":{"input_tokens":36,"output_tokens":87,"total_tokens":123}}"#;
    upstream.queue(json(stored));
    let mut client = Client::connect(gateway.address(), Http::One).await;
    let read = authorised(gateway.address(), Http::One, "GET", "/v1/responses/resp_1");
    let read = client.ask(read.body(whole("")).unwrap()).await;
    assert_eq!((read.status, cost_of(&gateway, &read).await), (StatusCode::OK, None));
    assert_eq!(counted(&gateway).to_string(), "0.0045");
    gateway.finish(2).await;
}

#[tokio::test]
async fn a_budget_that_is_used_up_is_insufficient_quota_until_the_month_ends() {
    let upstream = simulator().await;
    let limit = BUDGET.replace("\"100\"", "\"0.004\"");
    let gateway = Gateway::start(&before(&upstream.url(), &limit));
    // The second one is admitted because something is left.
    for finished in 1..=2 {
        upstream.queue(completion(
            "gpt-4o-mini",
            r#"{"prompt_tokens":800,"completion_tokens":100,"total_tokens":900}"#,
        ));
        let answer = ask(&gateway, "/v1/chat/completions", CHAT).await;
        assert_eq!(answer.status, StatusCode::OK);
        assert_eq!(cost_of(&gateway, &answer).await.as_deref(), Some("0.003"));
        gateway.finished(finished).await;
    }
    let zone = TimeZone::get("Europe/Berlin").unwrap();
    let calendar = Calendar::new(CalendarUnit::Month, zone);
    let end_of_month = || {
        let now = Timestamp::now();
        u64::try_from(calendar.period(now).rest(now).as_millis()).unwrap()
    };
    let longest = end_of_month();
    let refused = ask(&gateway, "/v1/chat/completions", CHAT).await;
    let shortest = end_of_month();
    assert_eq!(
        (refused.status, refused.code().as_str()),
        (StatusCode::TOO_MANY_REQUESTS, "insufficient_quota")
    );
    assert_eq!(refused.json()["error"]["type"], "insufficient_quota");
    let header = |name: &str| refused.headers[name].to_str().unwrap();
    assert_eq!((header("x-should-retry"), header("x-sluicegate-limit")), ("false", "budget"));
    let millis: u64 = header("retry-after-ms").parse().unwrap();
    assert!((shortest..=longest + 1).contains(&millis), "{shortest} {millis} {longest}");
    assert_eq!(header("retry-after"), millis.div_ceil(1_000).to_string());
    assert_eq!(upstream.records().len(), 2, "no upstream was asked");
    let line = gateway.log.line_of(&refused).await;
    assert_eq!((&line["limit"], line.get("cost")), (&Value::from("budget"), None), "{line}");
    assert_eq!(counted(&gateway).to_string(), "0.006");
    gateway.finish(3).await;
}

#[tokio::test]
async fn what_a_request_will_cost_is_reserved_until_it_is_known() {
    let upstream = simulator().await;
    let gate = sluicegate::simulator::Gate::new();
    let limit = BUDGET.replace("\"100\"", "\"0.003\"");
    let gateway = Gateway::start(&before(&upstream.url(), &limit));
    upstream.queue(Script::new(vec![
        Step::Head(Head::event_stream()),
        Step::Send(EVENT.into()),
        Step::Gate(gate.clone()),
        Step::Send("data: {\"choices\":[],\"usage\":{\"prompt_tokens\":0,\"completion_tokens\":0,\"total_tokens\":0}}\n\ndata: [DONE]\n\n".into()),
    ]));
    let address = gateway.address();
    let first = tokio::spawn(async move {
        let mut client = Client::connect(address, Http::One).await;
        client.ask(post(address, Http::One, "/v1/chat/completions").body(whole(STREAM)).unwrap()).await
    });
    crate::harness::safely(upstream.wait_for(|records| (records.len() == 1).then_some(()))).await;
    // Some 20 tokens of input, and 256 of output as nothing is known: 0.0026, and there is not enough for two.
    let reserved = counted(&gateway);
    assert!(
        reserved > Money::parse("0.0025").unwrap() && reserved < Money::parse("0.003").unwrap(),
        "{reserved}"
    );
    upstream
        .queue(completion("gpt-4o-mini", r#"{"prompt_tokens":0,"completion_tokens":0,"total_tokens":0}"#));
    assert_eq!(chat(address, Http::One).await.status, StatusCode::OK, "something is left");
    gateway.finished(1).await;
    gate.open();
    assert!(first.await.unwrap().whole);
    gateway.finished(2).await;
    assert_eq!(counted(&gateway), Money::default());
    gateway.finish(2).await;
}

#[tokio::test]
async fn a_model_without_a_price_is_refused_where_that_is_configured() {
    let upstream = simulator().await;
    let refuse = PRICES.replace("currency", "unknown = \"refuse\"\ncurrency");
    let toml = |limits: &str| {
        GatewayToml::before(&upstream.url(), "").defaults(limits).more(format!("{BUDGET}{refuse}"))
    };
    let gateway = Gateway::start(&toml("limits = [\"budget\"]"));
    let body = r#"{"model":"mistral","messages":[]}"#;
    let refused = ask(&gateway, "/v1/chat/completions", body).await;
    assert_eq!((refused.status, refused.code().as_str()), (StatusCode::FORBIDDEN, "model_without_price"));
    assert_eq!(refused.json()["error"]["param"], "model");
    assert!(refused.text().contains("`mistral`"), "{}", refused.text());
    let unread =
        ask(&gateway, "/v1/batches", r#"{"input_file_id":"file-1","endpoint":"/v1/chat/completions"}"#).await;
    assert_eq!((unread.status, unread.code().as_str()), (StatusCode::FORBIDDEN, "model_without_price"));
    assert!(upstream.records().is_empty());
    assert_eq!(ask(&gateway, "/v1/chat/completions", CHAT).await.status, StatusCode::OK);
    // Without a limit on cost, nobody asks for the price.
    gateway.reload(&toml("")).await;
    assert_eq!(ask(&gateway, "/v1/chat/completions", body).await.status, StatusCode::OK);
    gateway.finish(4).await;
}
