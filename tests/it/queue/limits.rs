//! Limits with `queue`: requests wait instead of being refused.

use http::StatusCode;
use sluicegate::simulator::{Gate, Simulator};
use tokio::task::JoinHandle;

use super::rig::{ask, ask_with, client, gated, models};
use crate::{
    faults::rig::{has_seen, until},
    harness::{
        Answer, BOTH, CHAT, Client, Gateway, GatewayToml, Http, post, request, safely, simulator, whole,
    },
};

/// A gateway with this limit for all clients together, and three clients.
fn gateway(upstream: &Simulator, limit: &str) -> Gateway {
    let toml = GatewayToml::before(&upstream.url(), "")
        .listener("h2c = true")
        .defaults("limits = [\"shared\"]")
        .more(format!("[limit.shared]\neach = \"gateway\"\n{limit}\n"))
        .more(client("one", ""))
        .more(client("two", ""))
        .more(client("low", "priority = \"low\""));
    Gateway::start(&toml)
}

/// The number of requests that wait for the limit `shared`.
fn waiting(gateway: &Gateway) -> usize {
    gateway.inside().live.load().limits.queued().map(|queued| queued.view.depth()).sum()
}

fn answer_when(upstream: &Simulator, gates: &[Gate]) {
    // What such a request is expected to use.
    gates.iter().for_each(|gate| upstream.queue(gated(gate, 16, 256)));
}

async fn status(answer: JoinHandle<Answer>) -> StatusCode {
    answer.await.unwrap().status
}

#[tokio::test]
async fn requests_wait_for_a_slot_in_turns_and_the_log_says_how_long() {
    let upstream = simulator().await;
    let gateway = gateway(&upstream, "concurrent = 1\nqueue = { wait = \"60s\" }");
    let gates: Vec<Gate> = (0..6).map(|_| Gate::new()).collect();
    answer_when(&upstream, &gates);
    let asked =
        [("one", "m-0"), ("low", "m-5"), ("one", "m-1"), ("one", "m-3"), ("two", "m-2"), ("two", "m-4")];
    let mut answers = Vec::new();
    for (number, (client, model)) in asked.into_iter().enumerate() {
        answers.push(ask(gateway.address(), client, model));
        match number {
            0 => has_seen(&upstream, 1).await,
            _ => until(|| waiting(&gateway) == number).await,
        }
    }
    for (number, gate) in gates.iter().enumerate() {
        has_seen(&upstream, number + 1).await;
        assert_eq!(upstream.records().len(), number + 1, "one at a time");
        gate.open();
    }
    let mut positions = Vec::new();
    for answer in answers {
        let answer = answer.await.unwrap();
        assert_eq!(answer.status, StatusCode::OK);
        let line = gateway.log.line_of(&answer).await;
        assert_eq!(line.get("queue_ms").is_some(), line.get("queue_position").is_some());
        positions.push(line.get("queue_position").and_then(serde_json::Value::as_u64));
    }
    assert_eq!(models(&upstream.records()), ["m-0", "m-1", "m-2", "m-3", "m-4", "m-5"]);
    // The first in the queue has the turn, and is not counted as one that is before others.
    assert_eq!(positions, [None, Some(1), Some(1), Some(2), Some(2), Some(4)]);
    assert_eq!(waiting(&gateway), 0);
    gateway.finish(asked.len()).await;
}

#[tokio::test]
async fn a_rate_lets_the_next_one_through_at_its_time() {
    let upstream = simulator().await;
    let limit = "requests = 10\nper = \"1s\"\nburst = { requests = 1 }\nqueue = { wait = \"60s\" }";
    let gateway = gateway(&upstream, limit);
    let answers: Vec<_> = (0..5).map(|_| ask(gateway.address(), "one", "m")).collect();
    for answer in answers {
        assert_eq!(status(answer).await, StatusCode::OK);
    }
    gateway.finish(5).await;
}

#[tokio::test]
async fn a_queue_without_room_refuses_at_once() {
    let upstream = simulator().await;
    let gateway = gateway(&upstream, "concurrent = 1\nqueue = { size = 1, wait = \"60s\" }");
    let gates = [Gate::new(), Gate::new()];
    answer_when(&upstream, &gates);
    let first = ask(gateway.address(), "one", "m");
    has_seen(&upstream, 1).await;
    let second = ask(gateway.address(), "one", "m");
    until(|| waiting(&gateway) == 1).await;
    let refused = ask(gateway.address(), "two", "m").await.unwrap();
    assert_eq!((refused.status.as_u16(), refused.code().as_str()), (429, "concurrency_limit_exceeded"));
    assert_eq!(refused.headers["x-sluicegate-limit"], "shared");
    gates.iter().for_each(Gate::open);
    for answer in [first, second] {
        assert_eq!(status(answer).await, StatusCode::OK);
    }
    gateway.finish(3).await;
}

#[tokio::test]
async fn the_bytes_of_those_who_wait_are_bounded_and_count_as_buffered() {
    let upstream = simulator().await;
    let gateway = gateway(&upstream, "concurrent = 1\nqueue = { bytes = \"1KiB\", wait = \"60s\" }");
    let gates = [Gate::new(), Gate::new()];
    answer_when(&upstream, &gates);
    let first = ask(gateway.address(), "one", "m");
    has_seen(&upstream, 1).await;
    let second = ask_with(gateway.address(), "one", "m", &"x".repeat(200));
    until(|| waiting(&gateway) == 1).await;
    assert!(gateway.buffered() >= 200);
    let refused = ask_with(gateway.address(), "two", "m", &"x".repeat(900)).await.unwrap();
    assert_eq!(refused.code(), "concurrency_limit_exceeded");
    gates.iter().for_each(Gate::open);
    for answer in [first, second] {
        assert_eq!(status(answer).await, StatusCode::OK);
    }
    gateway.finish(3).await;
}

#[tokio::test]
async fn a_wait_that_is_over_says_what_was_waited_for() {
    let upstream = simulator().await;
    let gateway = gateway(&upstream, "concurrent = 1\nqueue = { wait = \"10ms\" }");
    let gate = Gate::new();
    answer_when(&upstream, std::slice::from_ref(&gate));
    let first = ask(gateway.address(), "one", "m");
    has_seen(&upstream, 1).await;
    let late = ask(gateway.address(), "two", "m").await.unwrap();
    assert_eq!((late.status.as_u16(), late.code().as_str()), (429, "queue_timeout"));
    assert!(late.text().contains("`shared`"), "{}", late.text());
    assert_eq!(late.headers["x-sluicegate-limit"], "shared");
    assert!(late.headers.contains_key("retry-after") && late.headers.contains_key("retry-after-ms"));
    let line = gateway.log.line_of(&late).await;
    assert_eq!((&line["error"], &line["phase"]), (&"queue_timeout".into(), &"queue".into()));
    assert_eq!((&line["limit"], &line["queue_position"]), (&"shared".into(), &1.into()));
    assert_eq!(waiting(&gateway), 0);
    gate.open();
    assert_eq!(status(first).await, StatusCode::OK);
    gateway.finish(2).await;
}

#[tokio::test]
async fn what_would_come_too_late_is_not_waited_for() {
    let upstream = simulator().await;
    let gateway = gateway(&upstream, "requests = 1\nper = \"day\"\nqueue = { wait = \"1s\" }");
    assert_eq!(status(ask(gateway.address(), "one", "m")).await, StatusCode::OK);
    let refused = ask(gateway.address(), "one", "m").await.unwrap();
    assert_eq!(refused.code(), "rate_limit_exceeded");
    assert_eq!(gateway.log.line_of(&refused).await.get("queue_ms"), None);
    gateway.finish(2).await;
}

/// One whose limit is at its end holds nothing of the other limit while it waits.
#[tokio::test]
async fn nothing_is_held_while_waiting() {
    let upstream = simulator().await;
    let toml = GatewayToml::before(&upstream.url(), "")
        .defaults("limits = [\"all\"]")
        .more("[limit.all]\neach = \"gateway\"\nconcurrent = 2\nqueue = { wait = \"60s\" }\n")
        .more("[limit.own]\nconcurrent = 1\nqueue = { wait = \"60s\" }\n")
        .more(client("one", "limits = [\"own\"]"))
        .more(client("two", ""));
    let gateway = Gateway::start(&toml);
    let gates: Vec<Gate> = (0..4).map(|_| Gate::new()).collect();
    answer_when(&upstream, &gates);
    let mut answers = vec![ask(gateway.address(), "one", "a")];
    has_seen(&upstream, 1).await;
    answers.push(ask(gateway.address(), "one", "d"));
    until(|| waiting(&gateway) == 1).await;
    answers.push(ask(gateway.address(), "two", "b"));
    has_seen(&upstream, 2).await;
    answers.push(ask(gateway.address(), "two", "c"));
    until(|| waiting(&gateway) == 2).await;
    // One's first ends: its second has its turn in its own queue, and then waits for the other limit behind two's.
    gates[1].open();
    has_seen(&upstream, 3).await;
    gates[0].open();
    has_seen(&upstream, 4).await;
    gates.iter().for_each(Gate::open);
    for answer in answers {
        assert_eq!(status(answer).await, StatusCode::OK);
    }
    assert_eq!(models(&upstream.records()), ["a", "b", "c", "d"]);
    gateway.finish(4).await;
}

#[tokio::test]
async fn a_client_that_leaves_is_not_waited_for() {
    let upstream = simulator().await;
    let gateway = gateway(&upstream, "concurrent = 1\nqueue = { wait = \"60s\" }");
    let gates = [Gate::new(), Gate::new()];
    answer_when(&upstream, &gates);
    let first = ask(gateway.address(), "one", "a");
    has_seen(&upstream, 1).await;
    let leaving = ask(gateway.address(), "one", "gone");
    until(|| waiting(&gateway) == 1).await;
    let staying = ask(gateway.address(), "two", "b");
    until(|| waiting(&gateway) == 2).await;
    leaving.abort();
    until(|| waiting(&gateway) == 1).await;
    gates.iter().for_each(Gate::open);
    for answer in [first, staying] {
        assert_eq!(status(answer).await, StatusCode::OK);
    }
    assert_eq!(models(&upstream.records()), ["a", "b"]);
    let left = safely(
        gateway.log.wait_for(|lines| lines.iter().find(|line| line["error"] == "caller_left").cloned()),
    )
    .await;
    assert_eq!(left["phase"], "queue");
    gateway.finish(3).await;
}

/// A drain waits for what runs, and for nobody who has not begun.
#[tokio::test]
async fn a_drain_ends_the_wait() {
    for http in BOTH {
        let upstream = simulator().await;
        let gateway = gateway(&upstream, "concurrent = 1\nqueue = { wait = \"60s\" }");
        let gate = Gate::new();
        answer_when(&upstream, std::slice::from_ref(&gate));
        let first = ask(gateway.address(), "one", "a");
        has_seen(&upstream, 1).await;
        let address = gateway.address();
        let waits = tokio::spawn(async move {
            let mut client = Client::connect(address, http).await;
            client.ask(post(address, http, "/v1/chat/completions").body(whole(CHAT)).unwrap()).await
        });
        until(|| waiting(&gateway) == 1).await;
        gateway.ask_to_stop();
        let refused = safely(waits).await.unwrap();
        assert_eq!((refused.status.as_u16(), refused.code().as_str()), (503, "gateway_draining"), "{http:?}");
        gate.open();
        assert_eq!(status(first).await, StatusCode::OK);
        assert_eq!(upstream.records().len(), 1);
    }
}

/// It holds no place at the target meanwhile.
#[tokio::test]
async fn a_request_waits_for_the_limit_of_a_model() {
    let upstream = simulator().await;
    let toml = GatewayToml::before(&upstream.url(), "max_pending = 2")
        .defaults("limits = [\"shared\"]")
        .more("[limit.shared]\neach = \"model\"\nmodels = [\"big\"]\nconcurrent = 1\nqueue = { wait = \"60s\" }\n")
        .more(client("one", ""));
    let gateway = Gateway::start(&toml);
    let gates: Vec<Gate> = (0..3).map(|_| Gate::new()).collect();
    answer_when(&upstream, &gates);
    let first = ask(gateway.address(), "one", "big");
    has_seen(&upstream, 1).await;
    let second = ask(gateway.address(), "one", "big");
    until(|| waiting(&gateway) == 1).await;
    let other = ask(gateway.address(), "one", "small");
    has_seen(&upstream, 2).await;
    gates.iter().for_each(Gate::open);
    for answer in [first, second, other] {
        assert_eq!(status(answer).await, StatusCode::OK);
    }
    assert_eq!(models(&upstream.records()), ["big", "small", "big"]);
    gateway.finish(3).await;
}

/// A gateway with two places for all requests together, of which none may be held by those that wait for this other limit.
fn two_places(upstream: &Simulator, limit: &str) -> Gateway {
    let toml = GatewayToml::before(&upstream.url(), "")
        .listener("h2c = true")
        .defaults("limits = [\"places\", \"one\"]")
        .more("[limit.places]\neach = \"gateway\"\nconcurrent = 2")
        .more(format!("[limit.one]\n{limit}\nconcurrent = 1\nqueue = {{ wait = \"60s\" }}"))
        .more(client("one", ""))
        .more(client("two", ""));
    Gateway::start(&toml)
}

/// Nothing is held while a request waits: neither of limits that come before the one that it waits for, nor what it was granted before its model
/// was known.
#[tokio::test]
async fn a_request_that_waits_holds_no_place_of_other_limits() {
    for limit in [
        "each = \"client\"\nclients = [\"one\"]",
        "each = \"model\"\nmodels = [\"m-0\", \"m-1\"]\nclients = [\"one\"]",
    ] {
        let upstream = simulator().await;
        let gateway = two_places(&upstream, limit);
        let gates: Vec<Gate> = (0..3).map(|_| Gate::new()).collect();
        answer_when(&upstream, &gates);
        let first = ask(gateway.address(), "one", "m-0");
        has_seen(&upstream, 1).await;
        let waits = ask(gateway.address(), "one", "m-0");
        until(|| waiting(&gateway) == 1).await;
        let other = ask(gateway.address(), "two", "m-0");
        has_seen(&upstream, 2).await;
        // Both places are taken: the request that waits gets one only together with its turn.
        assert_eq!(
            status(ask(gateway.address(), "two", "m-0")).await,
            StatusCode::TOO_MANY_REQUESTS,
            "{limit}"
        );
        gates[1].open();
        assert_eq!(status(other).await, StatusCode::OK);
        gates[0].open();
        assert_eq!(status(first).await, StatusCode::OK);
        has_seen(&upstream, 3).await;
        gates[2].open();
        assert_eq!(status(waits).await, StatusCode::OK, "{limit}");
        for limit in gateway.inside().live.load().limits.views() {
            let in_flight = |subject: sluicegate::snapshot::SubjectView<'_>| {
                let concurrent = subject.units(sluicegate::exchange::now()).pop().unwrap();
                concurrent.left.used
            };
            until(|| limit.subjects().map(in_flight).sum::<u64>() == 0).await;
        }
        gateway.finish(4).await;
    }
}

/// All addresses of an IPv6 network of 64 bits are one caller, who takes turns with others, however many addresses it has.
#[tokio::test]
async fn callers_without_a_key_take_turns_by_network() {
    let upstream = simulator().await;
    let toml = GatewayToml::before(&upstream.url(), "")
        .listener("client_address = \"x-forwarded-for\"\ntrusted = [\"127.0.0.0/8\"]")
        .defaults("limits = [\"shared\"]")
        .route("access = \"open\"")
        .more("[limit.shared]\neach = \"gateway\"\nconcurrent = 1\nqueue = { wait = \"60s\" }");
    let gateway = Gateway::start(&toml);
    let asked = [
        ("2001:db8::1", "m-0"),
        ("2001:db8::2", "m-1"),
        ("2001:db8::3", "m-3"),
        ("2001:db8::4", "m-5"),
        ("192.0.2.1", "m-2"),
        ("::ffff:192.0.2.1", "m-4"),
    ];
    let gates: Vec<Gate> = asked.iter().map(|_| Gate::new()).collect();
    answer_when(&upstream, &gates);
    let mut answers = Vec::new();
    for (number, (from, model)) in asked.into_iter().enumerate() {
        let body = format!(r#"{{"model":"{model}","messages":[{{"role":"user","content":"Hello"}}]}}"#);
        let address = gateway.address();
        answers.push(tokio::spawn(async move {
            let mut client = Client::connect(address, Http::One).await;
            let request = request(address, Http::One, "POST", "/v1/chat/completions")
                .header("content-type", "application/json")
                .header("x-forwarded-for", from);
            safely(client.ask(request.body(whole(body)).unwrap())).await
        }));
        match number {
            0 => has_seen(&upstream, 1).await,
            _ => until(|| waiting(&gateway) == number).await,
        }
    }
    for (number, gate) in gates.iter().enumerate() {
        has_seen(&upstream, number + 1).await;
        gate.open();
    }
    for answer in answers {
        assert_eq!(answer.await.unwrap().status, StatusCode::OK);
    }
    assert_eq!(models(&upstream.records()), ["m-0", "m-1", "m-2", "m-3", "m-4", "m-5"]);
    gateway.finish(asked.len()).await;
}
