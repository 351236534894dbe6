//! The queue of a target that has as many requests as `max_pending` allows.

use sluicegate::simulator::Gate;

use super::rig::{ask, client, gated, models};
use crate::{
    faults::rig::{has_seen, until},
    harness::{Gateway, GatewayToml, simulator},
};

const LONG: &str = "retry = { max_wait = \"60s\" }";

#[tokio::test]
async fn a_client_with_many_requests_does_not_delay_the_first_of_another() {
    let upstream = simulator().await;
    let toml = GatewayToml::before(&upstream.url(), "max_pending = 1")
        .defaults(LONG)
        .more(client("flood", ""))
        .more(client("calm", ""))
        .more(client("batch", "priority = \"low\""));
    let gateway = Gateway::start(&toml);
    let gates: Vec<Gate> = (0..8).map(|_| Gate::new()).collect();
    // What such a request is expected to use.
    gates.iter().for_each(|gate| upstream.queue(gated(gate, 16, 256)));
    let target = {
        let live = gateway.inside().live.load();
        live.upstreams["sim"].target(0).state.clone()
    };
    let asked = [
        ("flood", "a-0"),
        ("batch", "c-0"),
        ("flood", "a-1"),
        ("flood", "a-2"),
        ("flood", "a-3"),
        ("calm", "b-0"),
        ("batch", "c-1"),
        ("calm", "b-1"),
    ];
    let mut answers = Vec::new();
    for (number, (client, model)) in asked.into_iter().enumerate() {
        answers.push(ask(gateway.address(), client, model));
        match number {
            0 => has_seen(&upstream, 1).await,
            _ => until(|| target.waiting() == number).await,
        }
    }
    for (number, gate) in gates.iter().enumerate() {
        has_seen(&upstream, number + 1).await;
        gate.open();
    }
    for answer in answers {
        assert_eq!(answer.await.unwrap().status, 200);
    }
    let order = models(&upstream.records());
    assert_eq!(order, ["a-0", "a-1", "b-0", "a-2", "b-1", "a-3", "c-0", "c-1"]);
    gateway.finish(asked.len()).await;
}
