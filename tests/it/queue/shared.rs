//! A queue of a limit that several gateways share.

use std::sync::Arc;

use sluicegate::{limit::shared::Sharing, simulator::Gate};

use super::rig::{ask, client, gated};
use crate::{
    faults::rig::{has_seen, until},
    harness::{Gateway, GatewayToml, redis::RedisServer, simulator},
};

/// While the store is away, this process admits one request at once. A waiter that has once decided alone asks the store again when it is back.
#[tokio::test]
async fn a_waiter_asks_the_store_again_after_it_was_late() {
    let upstream = simulator().await;
    let redis = RedisServer::start(&[]);
    let toml = GatewayToml::before(&upstream.url(), "")
        .defaults("limits = [\"shared\"]")
        .more("[limit.shared]\neach = \"gateway\"\nconcurrent = 2\nqueue = { wait = \"60s\" }\n")
        .more(format!("[redis]\nurl = \"{}\"\ntimeout = \"500ms\"\nfallback_share = 0.5\n", redis.url()))
        .more(client("one", ""));
    let (one, other) = (Gateway::start(&toml), Gateway::start(&toml));
    for gateway in [&one, &other] {
        until(|| sharing(gateway).state().is_available).await;
    }
    let gates: Vec<Gate> = (0..3).map(|_| Gate::new()).collect();
    gates.iter().for_each(|gate| upstream.queue(gated(gate, 1, 1)));
    let mut answers = Vec::new();
    for (number, gateway) in [&one, &other].into_iter().enumerate() {
        answers.push(ask(gateway.address(), "one", "m"));
        has_seen(&upstream, number + 1).await;
    }
    answers.push(ask(other.address(), "one", "m"));
    until(|| other.inside().live.load().limits.queued().any(|queued| queued.view.depth() == 1)).await;
    redis.signal("STOP");
    let before = sharing(&other).state().fallbacks;
    until(|| sharing(&other).state().fallbacks > before).await;
    redis.signal("CONT");
    for gateway in [&one, &other] {
        until(|| sharing(gateway).state().is_available).await;
    }
    // One slot is free by the store's count, and none by that of the other gateway alone.
    gates[0].open();
    has_seen(&upstream, 3).await;
    gates.iter().for_each(Gate::open);
    for answer in answers {
        assert_eq!(answer.await.unwrap().status, 200);
    }
    one.finish(1).await;
    other.finish(2).await;
}

fn sharing(gateway: &Gateway) -> Arc<Sharing> {
    gateway.inside().live.load().limits.sharing().expect("[redis]").clone()
}
