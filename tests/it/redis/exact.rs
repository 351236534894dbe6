//! Exactly as many are admitted as the limit says, whoever asks and however many ask.

use std::time::Duration;

use http::StatusCode;
use sluicegate::simulator::{Gate, Head, Script, Simulator, Step};
use tokio::task::JoinSet;

use super::{admitted, all_at_once, is_shared, patient, pending, sharing, start, toml};
use crate::harness::{Gateway, Http, chat, redis::RedisServer, safely, simulator};

/// So often a test is tried on a machine that is too busy for it.
const ROUNDS: u32 = 5;

/// Nothing comes back within a test.
const A_HUNDRED: &str = "requests = 100\nper = \"366d\"\nburst = { requests = 100 }";

#[tokio::test]
async fn gateways_admit_a_burst_together() {
    let redis = RedisServer::start(&[]);
    bursts(&patient(&redis)).await;
}

/// 1, 2 and 4 gateways with 200 callers at once.
pub async fn bursts(servers: &str) {
    let upstream = simulator().await;
    for count in [1, 2, 4] {
        let mut rounds = 1;
        while !burst(&upstream, &format!("{servers}\nprefix = \"burst-{count}-{rounds}\""), count).await {
            assert!(rounds < ROUNDS, "replies take longer than a second");
            rounds += 1;
        }
    }
}

/// `false`: a reply has not come within the timeout of a second, so that a gateway has decided alone. That is the machine's doing, and says nothing.
async fn burst(upstream: &Simulator, servers: &str, count: usize) -> bool {
    let gateways: Vec<Gateway> = (0..count).map(|_| start(upstream, servers, A_HUNDRED)).collect();
    for gateway in &gateways {
        is_shared(gateway, true).await;
    }
    let first = admitted(&all_at_once(&gateways, 200).await);
    // Later ones are refused without asking.
    let asked = sharing(&gateways[0]).statistics().durations().count();
    let second = admitted(&all_at_once(&gateways, 20).await);
    if has_decided_alone(&gateways) {
        return false;
    }
    assert_eq!((first, second), (100, 0), "{count} gateways");
    let later = sharing(&gateways[0]).statistics().durations().count();
    assert!(later - asked <= 1, "{asked} {later}");
    for gateway in gateways {
        assert!(sharing(&gateway).state().nodes > 0);
        gateway.finish(220 / count).await;
    }
    true
}

fn has_decided_alone(gateways: &[Gateway]) -> bool {
    gateways.iter().any(|gateway| sharing(gateway).state().fallbacks > 0)
}

#[tokio::test]
async fn gateways_admit_as_many_requests_at_once_together() {
    let redis = RedisServer::start(&[]);
    at_once(&patient(&redis)).await;
}

/// 1, 2 and 4 gateways with 200 callers at once, of which ten stay.
pub async fn at_once(servers: &str) {
    for count in [1, 2, 4] {
        let mut rounds = 1;
        while !ten_at_once(&format!("{servers}\nprefix = \"at-once-{count}-{rounds}\""), count).await {
            assert!(rounds < ROUNDS, "replies take longer than a second");
            rounds += 1;
        }
    }
}

/// `false`: as of [`burst`].
async fn ten_at_once(servers: &str, count: usize) -> bool {
    let upstream = simulator().await;
    let gateways: Vec<Gateway> = (0..count).map(|_| start(&upstream, servers, "concurrent = 10")).collect();
    for gateway in &gateways {
        is_shared(gateway, true).await;
    }
    let gate = Gate::new();
    (0..200).for_each(|_| upstream.queue(held(&gate)));
    let mut open = JoinSet::new();
    for number in 0..200 {
        let address = gateways[number % count].address();
        open.spawn(async move { chat(address, Http::One).await.status });
    }
    let mut refused = 0;
    // Those that are admitted stay.
    while refused + upstream.records().len() < 200 {
        tokio::select! {
            biased;
            Some(status) = open.join_next() => {
                assert_eq!(status.unwrap(), StatusCode::TOO_MANY_REQUESTS, "{count}");
                refused += 1;
            }
            () = tokio::time::sleep(Duration::from_millis(10)) => {}
        }
    }
    (0..200).for_each(|_| gate.open());
    while let Some(status) = open.join_next().await {
        assert_eq!(status.unwrap(), StatusCode::OK);
    }
    if has_decided_alone(&gateways) {
        return false;
    }
    assert_eq!((refused, upstream.records().len()), (190, 10), "{count} gateways");
    is_free_again(&gateways, 10).await;
    true
}

/// Waits until so many requests at once are admitted.
async fn is_free_again(gateways: &[Gateway], requests: usize) {
    safely(async {
        while admitted(&all_at_once(gateways, requests).await) < requests {
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    })
    .await;
}

/// A stream that waits within.
fn held(gate: &Gate) -> Script {
    Script::new(vec![
        Step::Head(Head::event_stream()),
        Step::Send("data: {\"choices\":[{\"index\":0,\"delta\":{\"content\":\"Hi\"}}]}\n\n".into()),
        Step::Gate(gate.clone()),
        Step::Send("data: [DONE]\n\n".into()),
    ])
}

#[tokio::test]
async fn requests_at_once_are_counted_over_all_gateways_to_the_end_of_their_responses() {
    let upstream = simulator().await;
    let gate = Gate::new();
    for _ in 0..10 {
        upstream.queue(held(&gate));
    }
    let redis = RedisServer::start(&[]);
    let servers = patient(&redis);
    let gateways: Vec<Gateway> = (0..2).map(|_| start(&upstream, &servers, "concurrent = 10")).collect();
    for gateway in &gateways {
        is_shared(gateway, true).await;
    }
    let addresses = [gateways[0].address(), gateways[1].address()];
    let open: Vec<_> = (0..10)
        .map(|number| tokio::spawn(async move { chat(addresses[number % 2], Http::One).await }))
        .collect();
    safely(upstream.wait_for(|records| (records.len() == 10).then_some(()))).await;
    assert_eq!(admitted(&all_at_once(&gateways, 20).await), 0);
    (0..10).for_each(|_| gate.open());
    for response in open {
        assert!(response.await.unwrap().whole);
    }
    // They are free for both gateways as soon as the store knows.
    safely(async {
        while chat(addresses[1], Http::One).await.status != StatusCode::OK {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    })
    .await;
    for gateway in &gateways {
        pending(gateway, |pending| pending == 0).await;
    }
    assert_eq!(admitted(&all_at_once(&gateways, 5).await), 5);
    assert_eq!(upstream.records().len(), 16);
}

#[tokio::test]
async fn what_was_not_used_is_given_back_to_all() {
    let upstream = simulator().await;
    for _ in 0..3 {
        upstream.queue(Script::new(vec![Step::Cut(sluicegate::simulator::Cut::Reset)]));
    }
    let redis = RedisServer::start(&[]);
    let servers = patient(&redis);
    let limit = "requests = 3\nper = \"month\"";
    let gateways: Vec<Gateway> = (0..2).map(|_| start(&upstream, &servers, limit)).collect();
    for gateway in &gateways {
        is_shared(gateway, true).await;
    }
    for _ in 0..3 {
        assert_eq!(chat(gateways[0].address(), Http::One).await.status, StatusCode::BAD_GATEWAY);
    }
    gateways[0].finished(3).await;
    // The other one is told within a tenth of a second.
    let mut answers = Vec::new();
    safely(async {
        while answers.len() < 3 {
            let answer = chat(gateways[1].address(), Http::One).await;
            if answer.status == StatusCode::OK {
                answers.push(answer);
            }
        }
    })
    .await;
    assert_eq!(admitted(&all_at_once(&gateways, 4).await), 0);
}

#[tokio::test]
async fn a_reload_keeps_the_connection_and_a_changed_server_gets_another_one() {
    let upstream = simulator().await;
    let (one, other) = (RedisServer::start(&[]), RedisServer::start(&[]));
    let url = patient;
    let gateway = start(&upstream, &url(&one), "requests = 2\nper = \"day\"");
    is_shared(&gateway, true).await;
    let first = sharing(&gateway);
    assert_eq!(chat(gateway.address(), Http::One).await.status, StatusCode::OK);
    gateway.reload(&toml(&upstream, &url(&one), "requests = 3\nper = \"day\"")).await;
    assert!(std::sync::Arc::ptr_eq(&first, &sharing(&gateway)));
    assert_eq!(admitted(&all_at_once(std::slice::from_ref(&gateway), 5).await), 2);
    gateway.reload(&toml(&upstream, &url(&other), "requests = 3\nper = \"day\"")).await;
    is_shared(&gateway, true).await;
    assert_eq!(admitted(&all_at_once(std::slice::from_ref(&gateway), 5).await), 3);
    // The old one has told its server that this gateway is gone.
    drop(first);
    safely(async {
        while one.command(&["ZCARD", "sluicegate:nodes"]).number() > 0 {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    })
    .await;
    gateway.finish(11).await;
    assert_eq!(other.command(&["ZCARD", "sluicegate:nodes"]).number(), 0);
}
