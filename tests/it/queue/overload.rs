//! `server.max_requests`: lower priorities are refused first, before their body is read.

use sluicegate::simulator::Gate;

use super::rig::{ask, ask_with, client, gated, key_of};
use crate::{
    faults::rig::has_seen,
    harness::{BOTH, Client, Gateway, GatewayToml, body_of, post, safely, simulator},
};

#[tokio::test]
async fn lower_priorities_are_refused_first_and_before_their_body() {
    let upstream = simulator().await;
    let toml = GatewayToml::before(&upstream.url(), "")
        .listener("h2c = true")
        .server("max_requests = 10")
        .more(client("high", "priority = \"high\""))
        .more(client("normal", ""))
        .more(client("low", "priority = \"low\""));
    let gateway = Gateway::start(&toml);
    let gates: Vec<Gate> = (0..11).map(|_| Gate::new()).collect();
    gates.iter().for_each(|gate| upstream.queue(gated(gate, 1, 1)));
    let mut answers = Vec::new();
    let mut refused = 0;
    for (number, admitted) in [(8, &["low", "normal", "high"][..]), (9, &["normal", "high"]), (10, &["high"])]
    {
        while answers.len() < number {
            answers.push(ask(gateway.address(), admitted[0], "m"));
            has_seen(&upstream, answers.len()).await;
        }
        let barred = if number == 10 {
            "high"
        } else if number == 9 {
            "normal"
        } else {
            "low"
        };
        for http in BOTH {
            // The body never comes: only its head is needed for the answer.
            let (_body, sent) = body_of();
            let request = post(gateway.address(), http, "/v1/chat/completions").body(sent).unwrap();
            let (mut head, body) = request.into_parts();
            head.headers.insert("authorization", format!("Bearer {}", key_of(barred)).parse().unwrap());
            let mut client = Client::connect(gateway.address(), http).await;
            let answer = safely(client.send(http::Request::from_parts(head, body))).await.unwrap();
            assert_eq!(
                (answer.status().as_u16(), &answer.headers()["retry-after"]),
                (503, &"1".parse().unwrap()),
                "{barred}"
            );
            refused += 1;
        }
    }
    gates.iter().for_each(Gate::open);
    for answer in answers {
        assert_eq!(answer.await.unwrap().status, 200);
    }
    gateway.finished(10 + refused).await;
    let barred = gateway.log.access().iter().filter(|line| line["error"] == "gateway_overloaded").count();
    assert_eq!(barred, refused);
    let after = ask(gateway.address(), "low", "m").await.unwrap();
    assert_eq!(after.status, 200, "there is room again");
    gateway.finish(11 + refused).await;
}

/// As much of `max_buffered` as makes 84 % of it, and what makes 92 % of it then.
const BODIES: [usize; 2] = [864 << 10, 80 << 10];

/// The same where bodies fill the memory for them. The log and the metrics have it under its code.
#[tokio::test]
async fn lower_priorities_are_refused_first_where_memory_is_short() {
    let upstream = simulator().await;
    let toml = GatewayToml::before(&upstream.url(), "")
        .listener("h2c = true")
        .server("max_buffered = \"1MiB\"")
        .more(client("high", "priority = \"high\""))
        .more(client("normal", ""))
        .more(client("low", "priority = \"low\""));
    let gateway = Gateway::start(&toml);
    let gates = [Gate::new(), Gate::new()];
    let mut held = Vec::new();
    let mut refused = 0;
    for (number, (barred, admitted)) in [("low", "normal"), ("normal", "high")].into_iter().enumerate() {
        upstream.queue(gated(&gates[number], 1, 1));
        held.push(ask_with(gateway.address(), "high", "m", &"x".repeat(BODIES[number] - 200)));
        has_seen(&upstream, 2 * number + 1).await;
        for http in BOTH {
            let (_body, sent) = body_of();
            let request = post(gateway.address(), http, "/v1/chat/completions").body(sent).unwrap();
            let (mut head, body) = request.into_parts();
            head.headers.insert("authorization", format!("Bearer {}", key_of(barred)).parse().unwrap());
            let mut client = Client::connect(gateway.address(), http).await;
            let answer = safely(client.send(http::Request::from_parts(head, body))).await.unwrap();
            assert_eq!(answer.status(), 503, "{barred}");
            assert_eq!(
                (&answer.headers()["retry-after"], &answer.headers()["x-should-retry"]),
                (&"1".parse().unwrap(), &"true".parse().unwrap())
            );
            refused += 1;
        }
        assert_eq!(ask(gateway.address(), admitted, "m").await.unwrap().status, 200);
    }
    gates.iter().for_each(Gate::open);
    for answer in held {
        assert_eq!(answer.await.unwrap().status, 200);
    }
    gateway.finished(4 + refused).await;
    let lines = gateway.log.access();
    let of_overload: Vec<_> = lines.iter().filter(|line| line["error"] == "gateway_overloaded").collect();
    assert_eq!(of_overload.len(), refused);
    assert!(of_overload.iter().all(|line| line["phase"] == "request" && line["bytes_in"] == 0));
    let counted = gateway.counts();
    let overloaded = (Some("main".into()), "gateway_overloaded");
    assert_eq!(counted.faults.get(&overloaded), Some(&(refused as u64)));
    gateway.finish(4 + refused).await;
}
