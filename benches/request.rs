//! What the gateway does with a request's head before the upstream is asked, and what its access line costs.
//!
//! Run with `cargo bench --bench request`. The head is one of an SDK. Each of the first benchmarks is a part of `whole`.
#![expect(clippy::expect_used, reason = "with another input the figures would mean nothing")]

use std::{
    ffi::OsString,
    net::Ipv4Addr,
    path::Path,
    time::{Duration, Instant, SystemTime},
};

use divan::{Bencher, black_box};
use http::{HeaderMap, HeaderName, HeaderValue, Method, header};
use sluicegate::{
    access::{self, Credential},
    config::{self, Env, KeyHash},
    policy::{self, SecretScanner, path},
    snapshot::{Route, Snapshot},
    telemetry::{access::AccessLine, ids::TraceContext},
    upstream::Pick,
};

const CLIENT_KEY: &str = "sk-sg-97PrBcn738XLIsL22-07XqZtTLCIq9A9fvjhVpFC6F4";
const PATH: &str = "/v1/chat/completions";
const QUERY: &str = "api-version=2024-10-21&timeout=600";

fn main() {
    divan::main();
}

/// Which route takes it: the canonical path, then the table.
#[divan::bench]
fn route(bencher: Bencher<'_, '_>) {
    let snapshot = snapshot();
    bencher.bench(|| find(black_box(&snapshot)).prefix.len());
}

/// Who sends it: the credential out of its headers, its hash, the caller.
#[divan::bench]
fn authenticate(bencher: Bencher<'_, '_>) {
    let (snapshot, headers) = (snapshot(), headers());
    bencher.bench(|| credential(black_box(&snapshot), black_box(&headers)));
}

/// Which of its headers go upstream, and ours among them.
#[divan::bench]
fn rewrite(bencher: Bencher<'_, '_>) {
    let (snapshot, headers) = (snapshot(), headers());
    let credential = credential(&snapshot, &headers);
    let route = find(&snapshot);
    bencher.with_inputs(|| headers.clone()).bench_values(|headers| readdress(headers, route, &credential));
}

/// Which path and query go upstream.
#[divan::bench]
fn target(bencher: Bencher<'_, '_>) {
    let (snapshot, headers) = (snapshot(), headers());
    let credential = credential(&snapshot, &headers);
    let route = find(&snapshot);
    bencher.bench(|| path_and_query(route, black_box(&credential)).len());
}

/// All of it, in the order of the ladder.
#[divan::bench]
fn whole(bencher: Bencher<'_, '_>) {
    let (snapshot, headers) = (snapshot(), headers());
    bencher.with_inputs(|| headers.clone()).bench_values(|headers| {
        let presented: usize = access::presented(&headers, Some(QUERY), 9).iter().map(|key| key.len()).sum();
        let route = find(&snapshot);
        let credential = credential(&snapshot, &headers);
        let target = path_and_query(route, &credential);
        (presented, target, readdress(headers, route, &credential))
    });
}

#[divan::bench(args = ["json", "text"])]
fn access_line(bencher: Bencher<'_, '_>, format: &str) {
    let mut out = Vec::with_capacity(2048);
    bencher.bench_local(|| {
        out.clear();
        match format {
            "json" => black_box(line()).write_json(&mut out),
            _ => black_box(line()).write_text(&mut out),
        }
        out.len()
    });
}

/// Eight routes and a hundred callers.
fn snapshot() -> Snapshot {
    let mut text = String::from(
        r#"
        listener = [{ address = "127.0.0.1:8080" }]
        [upstream.openai]
        url = "http://127.0.0.1:9"
        key = { env = "KEY" }
        [route.openai]
        path = "/v1"
        upstreams = ["openai"]
        "#,
    );
    for number in 0..7 {
        text += &format!("[route.other-{number}]\npath = \"/other/{number}\"\nupstreams = [\"openai\"]\n");
    }
    for number in 0..100 {
        let key = if number == 50 { CLIENT_KEY.to_owned() } else { format!("sk-sg-{number}") };
        text += &format!("[client.team-{number}]\nkey = \"{}\"\n", KeyHash::of(key.as_bytes()));
    }
    let variable =
        |name: &str| (name == "KEY").then(|| OsString::from(format!("sk-proj-{}", "x1".repeat(70))));
    let config = config::parse(&text, &Env::new(Path::new("."), &variable)).expect("sound");
    Snapshot::compile(config, None).expect("compiles")
}

/// As openai-python sends it.
fn headers() -> HeaderMap {
    let bearer = format!("Bearer {CLIENT_KEY}");
    let lines = [
        ("host", "gateway.example.com:8443"),
        ("authorization", &bearer),
        ("accept", "application/json"),
        ("accept-encoding", "gzip, deflate, br, zstd"),
        ("connection", "keep-alive"),
        ("content-type", "application/json"),
        ("content-length", "1234"),
        ("user-agent", "OpenAI/Python 1.99.0"),
        ("x-stainless-lang", "python"),
        ("x-stainless-package-version", "1.99.0"),
        ("x-stainless-os", "Linux"),
        ("x-stainless-arch", "x64"),
        ("x-stainless-runtime", "CPython"),
        ("x-stainless-runtime-version", "3.12.3"),
        ("x-stainless-async", "false"),
        ("x-stainless-retry-count", "0"),
        ("x-stainless-read-timeout", "600"),
    ];
    let line = |(name, value): (&'static str, &str)| {
        (HeaderName::from_static(name), HeaderValue::from_str(value).expect("a value"))
    };
    lines.into_iter().map(line).collect()
}

fn find(snapshot: &Snapshot) -> &Route {
    let path = path::canonical(black_box(PATH)).expect("canonical");
    snapshot.routes.find(Some("gateway.example.com"), &Method::POST, &path).expect("a route")
}

fn credential(snapshot: &Snapshot, headers: &HeaderMap) -> Credential {
    let credentials = access::credentials(headers, Some(QUERY)).expect("not refused");
    let known = snapshot.callers.find_one(&credentials).expect("no conflict").expect("known");
    assert!(known.caller.may_use_route("openai"));
    credentials.iter().next().expect("one").clone()
}

fn path_and_query(route: &Route, credential: &Credential) -> String {
    let presented = SecretScanner::new([credential.bytes()]);
    let upstream = &route.steps[0].upstream;
    let target = upstream.target(upstream.turn());
    let path = path::rewrite(PATH, &route.prefix, &route.rewrite, &target.base).expect("below the prefix");
    let query = path::strip_credentials(black_box(QUERY), |text| presented.found_in(text));
    [&*path, "?", &*query].concat()
}

fn readdress(mut headers: HeaderMap, route: &Route, credential: &Credential) -> HeaderMap {
    let presented = SecretScanner::new([credential.bytes()]);
    policy::to_upstream(&mut headers, &route.request_headers, &presented);
    headers.insert(header::ACCEPT_ENCODING, HeaderValue::from_static("identity"));
    let upstream = &route.steps[0].upstream;
    if let (Some(name), Pick::Key(key)) = (&upstream.auth, upstream.keys.pick(None, &[], Instant::now())) {
        headers.insert(name.clone(), key.value().clone());
    }
    headers.insert("traceparent", TraceContext::of(&headers).traceparent());
    headers.insert(header::HOST, upstream.target(upstream.turn()).host.clone());
    headers
}

fn line() -> AccessLine<'static> {
    AccessLine {
        time: SystemTime::UNIX_EPOCH + Duration::from_millis(1_790_000_000_123),
        request_id: "req_98a89244ccfcdcc8edb233be73e3407b",
        trace_id: Some("4bf92f3577b34da6a3ce929d0e0e4736"),
        trace_name: None,
        w3c_trace_id: None,
        caller_request_id: None,
        client_request_id: None,
        upstream_request_id: Some("req_011CSHoEeqs5C35K2UUqR7Fy"),
        client: Ipv4Addr::new(192, 0, 2, 17).into(),
        caller: Some("team-50"),
        group: None,
        tags: &[],
        route: Some("openai"),
        upstream: Some("openai"),
        target: Some("https://api.openai.com"),
        protocol: "HTTP/2",
        tls: true,
        method: "POST",
        path: PATH,
        model: Some("gpt-4o-mini"),
        response_model: Some("gpt-4o-mini-2024-07-18"),
        stream: Some(true),
        status: Some(200),
        who: "upstream",
        phase: "done",
        attempts: Vec::new(),
        reused: Some(true),
        connect: None,
        first_byte: Some(Duration::from_micros(345_678)),
        first_token: Some(Duration::from_micros(456_789)),
        total: Duration::from_micros(7_654_321),
        max_gap: Some(Duration::from_micros(98_765)),
        overhead: None,
        bytes_in: 1234,
        bytes_out: 98_765,
        frames: 321,
        events: Some(320),
        tokens_in: Some(456),
        tokens_out: Some(317),
        tokens_cached_input: Some(128),
        tokens_cache_write: None,
        tokens_reasoning: Some(64),
        usage: Some("reported"),
        queue: None,
        queue_position: None,
        limit: None,
        tunnel: None,
        finish_reason: Some("stop"),
        error: None,
        cause: None,
    }
}
