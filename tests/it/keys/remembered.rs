//! A connection remembers its last request's head. Each request is answered, logged and sent upstream as on a connection of its own.

use std::time::{Duration, SystemTime};

use http::Request;
use proptest::{collection::vec, prelude::*, sample::select, test_runner::Config, test_runner::TestRunner};
use serde_json::{Value, json};
use sluicegate::{config::KeyHash, simulator::Simulator};

use crate::harness::{
    Answer, BOTH, Client, Gateway, GatewayToml, Http, Sent, request, safely, simulator, whole,
};

const ANNA: &str = "sk-sg-anna-0123456789abcdefABCDEF";
const BERT: &str = "sk-sg-bert-0123456789abcdefABCDEF";

/// What the head of an SDK has in every request.
const OF_SDK: &[(&str, &str)] = &[
    ("user-agent", "OpenAI/Python 2.8.1"),
    ("x-stainless-lang", "python"),
    ("x-stainless-retry-count", "0"),
    ("accept", "application/json"),
    ("accept-encoding", "gzip, deflate"),
    ("connection", "keep-alive"),
];

/// What one request may have that the one before did not have, and what must then be read again. `KEY` stands for the client's.
const CHANGES: &[&[(&str, &str)]] = &[
    &[],
    &[("x-stainless-retry-count", "1")],
    &[("x-note", "KEY")],
    &[("x-note", "no key")],
    &[("x-no_te", "1")],
    &[("cookie", "a=b")],
    &[("x-drop", "1")],
    &[("x-drop", "1"), ("connection", "x-drop")],
    &[("openai-organization", "org-1")],
    &[("x-forwarded-for", "203.0.113.9")],
    &[("traceparent", "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"), ("tracestate", "a=b")],
    &[("tracestate", "a=b")],
    &[("x-trace-id", "job-7")],
    &[("x-request-id", "mine")],
    &[("x-client-request-id", "mine-too")],
    &[("accept-language", "zh")],
    &[("anthropic-version", "2023-06-01")],
    &[("x-sluicegate-timeout", "total=20s")],
    &[("x-sluicegate-timeout", "soon")],
    &[("origin", "https://app.example.com")],
    &[("x-api-key", "KEY")],
    &[("api-key", "another")],
    &[("te", "trailers")],
];

/// Keys of less than eight bytes are found as whole values only.
const DORA: &str = "dora";

const KEYS: &[Option<&str>] =
    &[Some(ANNA), Some(DORA), Some(BERT), Some("sk-sg-carl-0123456789abcdefABCDEF"), None];

const TARGETS: &[(&str, &str)] = &[
    ("POST", "/v1/chat/completions"),
    ("POST", "/v1/chat/completions"),
    ("POST", "/v1/chat/./completions"),
    ("POST", "/v1/embeddings"),
    ("POST", "/v1/chat/completions?a=1"),
    ("GET", "/v1/models"),
    ("GET", "/v1/nothing%2F.."),
    ("GET", "/elsewhere"),
    ("DELETE", "/v1/models"),
    ("POST", "/open/chat/completions"),
    ("POST", "/open/chat/completions?key=dora"),
    ("POST", "/open/chat/completions?key=sk-sg-anna-0123456789abcdefABCDEF"),
    ("POST", "/v1/chat/completions?key=dora"),
    ("POST", "/rules/chat/completions"),
    ("POST", "/tables/chat/completions"),
];

#[derive(Debug, Clone)]
struct Asked {
    target: (&'static str, &'static str),
    key: Option<&'static str>,
    change: &'static [(&'static str, &'static str)],
    /// Length of the prompt, which `content-length` depends on.
    prompt: usize,
}

impl Asked {
    fn request(&self, gateway: &Gateway, http: Http) -> Request<Sent> {
        let (method, path) = self.target;
        let mut request = request(gateway.address(), http, method, path);
        let changed = |name: &str| self.change.iter().any(|(changed, _)| *changed == name);
        for (name, value) in OF_SDK.iter().filter(|(name, _)| !changed(name)) {
            // HTTP/2 has no such header (RFC 9113 section 8.2.2).
            if http == Http::One || *name != "connection" {
                request = request.header(*name, *value);
            }
        }
        if let Some(key) = self.key {
            request = request.header("authorization", format!("Bearer {key}"));
        }
        for (name, value) in self.change {
            if http == Http::One || *name != "connection" {
                request = request.header(*name, value.replace("KEY", self.key.unwrap_or(ANNA)));
            }
        }
        if method != "POST" {
            return request.body(whole("")).unwrap();
        }
        let message = json!({ "role": "user", "content": "x".repeat(self.prompt) });
        let body = json!({ "model": "sim-f2", "messages": [message] }).to_string();
        request.header("content-type", "application/json").body(whole(body)).unwrap()
    }
}

fn asked() -> impl Strategy<Value = Asked> {
    // Most requests are as the one before, except for their length.
    let change = prop_oneof![3 => Just(CHANGES[0]), 2 => select(CHANGES)];
    let key = prop_oneof![3 => Just(KEYS[0]), 1 => select(KEYS)];
    let target = prop_oneof![3 => Just(TARGETS[0]), 1 => select(TARGETS)];
    (target, key, change, 0..200_usize).prop_map(|(target, key, change, prompt)| Asked {
        target,
        key,
        change,
        prompt,
    })
}

fn toml(upstream: &Simulator) -> GatewayToml {
    let clients = [("anna", ANNA), ("bert", BERT), ("dora", DORA)]
        .iter()
        .map(|(name, key)| format!("[client.{name}]\nkey = \"{}\"", KeyHash::of(key.as_bytes())));
    GatewayToml::before(&upstream.url(), "retry = \"off\"\nbreaker = \"off\"")
        .listener("h2c = true\nclient_address = \"x-forwarded-for\"\ntrusted = [\"127.0.0.1\"]")
        .server("threads = 1")
        .defaults("languages = [\"en\", \"zh\"]")
        .without_client()
        .more(clients.collect::<Vec<_>>().join("\n"))
        .more(ROUTES)
}

const ROUTES: &str = r#"
[route.open]
path = "/open"
rewrite = "/v1"
upstreams = ["sim"]
access = "open"
[route.rules]
path = "/rules"
rewrite = "/v1"
upstreams = ["sim"]
request_headers = { set = { x-team = "blue", x-note = "ours" }, remove = ["x-drop"], allow = ["openai-organization", "x-forwarded-for"] }
[route.tables]
path = "/tables"
rewrite = "/v1"
upstreams = ["sim"]
model_tables = "prefer"
[model.sim-f2]
upstreams = ["sim"]
"#;

/// All that is seen of a request, at both sides and in the log, except for what is random or a time. (Responses hold a number that counts.)
async fn seen(gateway: &Gateway, upstream: &Simulator, answer: &Answer) -> Value {
    let mut line = gateway.log.line_of(answer).await;
    let id = line["request_id"].as_str().unwrap().to_owned();
    let has_own_trace = answer.headers["x-trace-id"] == "4bf92f3577b34da6a3ce929d0e0e4736";
    for name in [
        "time",
        "request_id",
        "trace_id",
        "w3c_trace_id",
        "upstream_request_id",
        "reused",
        "attempts",
        "bytes_out",
    ] {
        line.as_object_mut().unwrap().remove(name);
    }
    line.as_object_mut().unwrap().retain(|name, _| !name.ends_with("_ms"));
    let sent = match line["status"] == 200 {
        true => {
            let record = upstream.records().pop().unwrap();
            let ordinary = |name: &str| !matches!(name, "traceparent" | "host");
            let mut headers: Vec<_> = record
                .headers
                .iter()
                .filter(|(name, _)| ordinary(name.as_str()))
                .map(|(name, value)| format!("{name}: {}", value.to_str().unwrap()))
                .collect();
            headers.sort();
            json!({ "target": record.target, "method": record.method.as_str(), "headers": headers })
        }
        false => Value::Null,
    };
    let body = answer.text().replace(&id, "ID");
    let error = if answer.status == 200 { Value::Null } else { Value::from(body) };
    let mut names: Vec<_> = answer.headers.keys().map(|name| name.as_str().to_owned()).collect();
    names.sort();
    json!({
        "status": answer.status.as_u16(), "line": line, "sent": sent, "error": error, "names": names, "own_trace": has_own_trace,
    })
}

async fn each_is_as_on_a_connection_of_its_own(
    gateway: &Gateway,
    upstream: &Simulator,
    http: Http,
    requests: &[Asked],
) -> Result<(), TestCaseError> {
    let mut kept = Client::connect(gateway.address(), http).await;
    for (at, asked) in requests.iter().enumerate() {
        let answer = kept.ask(asked.request(gateway, http)).await;
        let on_kept = seen(gateway, upstream, &answer).await;
        let mut fresh = Client::connect(gateway.address(), http).await;
        let answer = fresh.ask(asked.request(gateway, http)).await;
        let on_fresh = seen(gateway, upstream, &answer).await;
        prop_assert_eq!(on_kept, on_fresh, "request {} over {:?}", at, http);
        if !kept.is_usable().await {
            kept = Client::connect(gateway.address(), http).await;
        }
    }
    Ok(())
}

#[test]
fn what_a_connection_remembers_changes_nothing() {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let (upstream, gateway) = runtime.block_on(async {
        let upstream = simulator().await;
        let gateway = Gateway::start(&toml(&upstream));
        (upstream, gateway)
    });
    // A key in the query proves nothing, right after it proved something in a header, and when the same head comes again.
    let plain = |path, key| Asked { target: ("POST", path), key, change: CHANGES[0], prompt: 0 };
    let in_query = plain("/open/chat/completions?key=dora", None);
    let requests =
        [plain("/open/chat/completions", Some(DORA)), in_query.clone(), in_query.clone(), in_query];
    for http in BOTH {
        let compared = each_is_as_on_a_connection_of_its_own(&gateway, &upstream, http, &requests);
        runtime.block_on(compared).unwrap();
    }
    let mut runner = TestRunner::new(Config::with_cases(24));
    let cases = (select(&BOTH[..]), vec((asked(), 1..3_usize), 2..9));
    runner
        .run(&cases, |(http, requests)| {
            // Each head comes once or twice, one after the other.
            let requests: Vec<_> =
                requests.into_iter().flat_map(|(asked, times)| std::iter::repeat_n(asked, times)).collect();
            runtime.block_on(each_is_as_on_a_connection_of_its_own(&gateway, &upstream, http, &requests))
        })
        .unwrap();
}

/// What is remembered of a key is not longer valid than the key.
#[tokio::test]
async fn a_key_expires_on_the_connection_that_remembers_it() {
    let upstream = simulator().await;
    for http in BOTH {
        let expires = humantime::format_rfc3339_seconds(SystemTime::now() + Duration::from_secs(3));
        let hash = KeyHash::of(ANNA.as_bytes());
        let toml = GatewayToml::before(&upstream.url(), "").listener("h2c = true").server("threads = 1");
        let client = format!("[client.anna]\nkey = \"{hash}\"\nexpires = \"{expires}\"");
        let gateway = Gateway::start(&toml.without_client().more(client));
        let asked = Asked { target: TARGETS[5], key: Some(ANNA), change: CHANGES[0], prompt: 0 };
        let mut client = Client::connect(gateway.address(), http).await;
        assert_eq!(client.ask(asked.request(&gateway, http)).await.status, 200, "{http:?}");
        let refused = safely(async {
            loop {
                let answer = client.ask(asked.request(&gateway, http)).await;
                if answer.status != 200 {
                    break answer;
                }
                tokio::task::yield_now().await;
            }
        });
        assert_eq!(refused.await.code(), "key_expired", "{http:?}");
    }
}
