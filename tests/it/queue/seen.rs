//! What operators see of queues: in `/metrics`, `/status` and `/limits`.

use std::net::SocketAddr;

use serde_json::{Value, json};
use sluicegate::simulator::Gate;

use super::rig::{ask, ask_with, client, gated};
use crate::{
    faults::rig::{has_seen, until},
    harness::{Gateway, GatewayToml, Http, request, send, simulator, whole},
    metrics::scrape::Scrape,
};

async fn read(admin: SocketAddr, path: &str) -> Value {
    let request = request(admin, Http::One, "GET", path).body(whole("")).unwrap();
    send(admin, Http::One, request).await.json()
}

/// Checks what a queue of one normal and one low request looks like.
fn holds_two(queue: &Value) {
    assert_eq!(queue["depth"], 2, "{queue}");
    assert_eq!(queue["by_priority"], json!({ "high": 0, "normal": 1, "low": 1 }));
    assert!(queue["bytes"].as_u64() >= Some(200), "{queue}");
    assert!(queue["oldest_wait_ms"].is_number(), "{queue}");
}

fn is_empty(queue: &Value) {
    assert_eq!(
        (&queue["depth"], &queue["bytes"], &queue["oldest_wait_ms"]),
        (&0.into(), &0.into(), &Value::Null)
    );
}

#[tokio::test]
async fn the_queue_of_a_limit() {
    let upstream = simulator().await;
    let toml = GatewayToml::before(&upstream.url(), "")
        .admin()
        .defaults("limits = [\"shared\"]")
        .more("[limit.shared]\neach = \"gateway\"\nconcurrent = 1\nqueue = { size = 2, wait = \"60s\" }\n")
        .more(client("one", ""))
        .more(client("low", "priority = \"low\""));
    let gateway = Gateway::start(&toml);
    let (admin, address) = (gateway.admin.unwrap(), gateway.address());
    let gates: Vec<Gate> = (0..3).map(|_| Gate::new()).collect();
    gates.iter().for_each(|gate| upstream.queue(gated(gate, 16, 256)));
    let depth =
        || gateway.inside().live.load().limits.queued().map(|queued| queued.view.depth()).sum::<usize>();
    let mut answers = vec![ask(address, "one", "m")];
    has_seen(&upstream, 1).await;
    answers.push(ask_with(address, "one", "m", &"x".repeat(100)));
    until(|| depth() == 1).await;
    answers.push(ask_with(address, "low", "m", &"x".repeat(100)));
    until(|| depth() == 2).await;
    let full = ask(address, "one", "m").await.unwrap();
    assert_eq!(full.code(), "concurrency_limit_exceeded");

    for path in ["/limits", "/status"] {
        let shown = read(admin, path).await;
        holds_two(&shown["limits"][0]["subjects"][0]["queue"]);
    }
    let scrape = Scrape::of(admin, "").await;
    let of = ["limit=\"shared\""];
    assert_eq!(scrape.sum("sluicegate_queue_depth", &of), 2.0, "{}", scrape.text);
    assert!(scrape.sum("sluicegate_queue_bytes", &of) >= 200.0);
    assert!(scrape.sum("sluicegate_queue_oldest_wait_seconds", &of) > 0.0);

    gates.iter().for_each(Gate::open);
    for answer in answers {
        let line = gateway.log.line_of(&answer.await.unwrap()).await;
        assert_eq!(line["status"], 200, "{line}");
    }
    gateway.finished(4).await;
    assert_eq!(
        read(admin, "/limits").await["limits"][0]["subjects"],
        json!([]),
        "nothing is used, and nothing waits"
    );
    let scrape = Scrape::of(admin, "").await;
    assert_eq!(scrape.sum("sluicegate_queue_depth", &of), 0.0);
    assert_eq!(scrape.sum("sluicegate_queue_wait_seconds_count", &of), 2.0, "{}", scrape.text);
    let results = |result: &str| scrape.sum("sluicegate_queue_requests_total", &[of[0], result]);
    assert_eq!((results("result=\"served\""), results("result=\"full\"")), (2.0, 1.0), "{}", scrape.text);
    gateway.finish(4).await;
}

/// Each way to leave the queue of a limit is counted under its name.
#[tokio::test]
async fn what_became_of_requests_in_the_queue_of_a_limit() {
    let upstream = simulator().await;
    let toml = GatewayToml::before(&upstream.url(), "")
        .admin()
        .more("[limit.slots]\nconcurrent = 1\nqueue = { wait = \"20ms\" }\n")
        .more("[limit.daily]\nrequests = 1\nper = \"day\"\nqueue = { wait = \"1s\" }\n")
        .more("[limit.patient]\nconcurrent = 1\nqueue = { wait = \"60s\" }\n")
        .more(client("one", "limits = [\"slots\"]"))
        .more(client("two", "limits = [\"daily\"]"))
        .more(client("three", "limits = [\"patient\"]"));
    let gateway = Gateway::start(&toml);
    let (admin, address) = (gateway.admin.unwrap(), gateway.address());
    let gate = Gate::new();
    upstream.queue(gated(&gate, 1, 1));
    let first = ask(address, "one", "m");
    has_seen(&upstream, 1).await;
    assert_eq!(ask(address, "one", "m").await.unwrap().code(), "queue_timeout");
    assert_eq!(ask(address, "two", "m").await.unwrap().status, 200);
    assert_eq!(ask(address, "two", "m").await.unwrap().code(), "rate_limit_exceeded");
    upstream.queue(gated(&gate, 1, 1));
    let third = ask(address, "three", "m");
    has_seen(&upstream, 3).await;
    let leaving = ask(address, "three", "m");
    let depth =
        || gateway.inside().live.load().limits.queued().map(|queued| queued.view.depth()).sum::<usize>();
    until(|| depth() == 1).await;
    leaving.abort();
    until(|| depth() == 0).await;
    gate.open();
    gate.open();
    for answer in [first, third] {
        assert_eq!(answer.await.unwrap().status, 200);
    }
    gateway.finished(6).await;
    let scrape = Scrape::of(admin, "").await;
    for (limit, result) in [("slots", "timeout"), ("daily", "too_late"), ("patient", "left")] {
        let labels = [format!("limit=\"{limit}\""), format!("result=\"{result}\"")];
        let labels: Vec<&str> = labels.iter().map(String::as_str).collect();
        assert_eq!(scrape.sum("sluicegate_queue_requests_total", &labels), 1.0, "{}", scrape.text);
        assert_eq!(scrape.sum("sluicegate_queue_requests_total", &labels[..1]), 1.0, "nothing else");
    }
    gateway.finish(6).await;
}

#[tokio::test]
async fn the_queue_of_a_target() {
    let upstream = simulator().await;
    let toml = GatewayToml::before(&upstream.url(), "max_pending = 1")
        .admin()
        .defaults("retry = { max_wait = \"60s\" }")
        .more(client("one", ""))
        .more(client("low", "priority = \"low\""));
    let gateway = Gateway::start(&toml);
    let (admin, address) = (gateway.admin.unwrap(), gateway.address());
    let target = gateway.inside().live.load().upstreams["sim"].target(0).state.clone();
    let gates: Vec<Gate> = (0..3).map(|_| Gate::new()).collect();
    gates.iter().for_each(|gate| upstream.queue(gated(gate, 16, 256)));
    let mut answers = vec![ask(address, "one", "m")];
    has_seen(&upstream, 1).await;
    for (waiting, client) in [(1, "one"), (2, "low")] {
        answers.push(ask_with(address, client, "m", &"x".repeat(100)));
        until(|| target.waiting() == waiting).await;
    }
    holds_two(&read(admin, "/status").await["upstreams"][0]["targets"][0]["queue"]);
    let scrape = Scrape::of(admin, "").await;
    let of = ["upstream=\"sim\""];
    assert_eq!(scrape.sum("sluicegate_target_waiting", &of), 2.0);
    assert!(scrape.sum("sluicegate_target_waiting_bytes", &of) >= 200.0, "{}", scrape.text);
    gates.iter().for_each(Gate::open);
    for answer in answers {
        assert_eq!(answer.await.unwrap().status, 200);
    }
    gateway.finished(3).await;
    let scrape = Scrape::of(admin, "").await;
    assert_eq!(scrape.sum("sluicegate_target_wait_seconds_count", &of), 2.0, "{}", scrape.text);
    assert_eq!(scrape.sum("sluicegate_target_waits_total", &[of[0], "result=\"served\""]), 2.0);
    is_empty(&read(admin, "/status").await["upstreams"][0]["targets"][0]["queue"]);
    gateway.finish(3).await;
}
