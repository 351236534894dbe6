//! A client far over its limit, and requests that wait for one.

use std::time::{Duration, Instant};

use http::StatusCode;
use sluicegate::simulator::{Gate, Head, Script, Simulator, Step};

use super::{admitted, all_at_once, is_shared, patient, sharing, start};
use crate::harness::{Gateway, Http, chat, redis::RedisServer, safely, simulator};

/// Scripts that a server has run since its counts were reset.
fn scripts(redis: &RedisServer) -> u64 {
    let stats = redis.command(&["INFO", "commandstats"]).text();
    let calls = stats.lines().find_map(|line| line.strip_prefix("cmdstat_evalsha:calls=")).unwrap_or("0,");
    calls.split(',').next().unwrap().parse().unwrap()
}

#[tokio::test]
async fn a_client_at_twenty_times_its_limit_costs_the_store_what_is_admitted() {
    let upstream = simulator().await;
    let redis = RedisServer::start(&[]);
    let limit = "requests = 200\nper = \"366d\"\nburst = { requests = 200 }\nconcurrent = 10_000";
    let gateways = [start(&upstream, &patient(&redis), limit)];
    is_shared(&gateways[0], true).await;
    redis.command(&["CONFIG", "RESETSTAT"]);
    let begun = Instant::now();
    let mut refused = 0;
    assert_eq!(admitted(&all_at_once(&gateways, 200).await), 200);
    while refused < 3_800 {
        let answers = all_at_once(&gateways, 200).await;
        assert_eq!(admitted(&answers), 0);
        refused += answers.len() as u64;
    }
    // What ended is sent at most every tenth of a second, and a sign of life every second.
    let beats = begun.elapsed().as_millis() as u64 / 100 + begun.elapsed().as_secs() + 2;
    let run = scripts(&redis);
    assert!(run <= 200 * 11 / 10 + refused / 100 + beats, "{run} scripts, {beats} of them beside admissions");
    let asked = sharing(&gateways[0]).statistics().durations().count();
    assert!(asked <= 220 + refused / 100, "{asked}");
}

/// A stream that goes on until its gate is open.
fn stream(upstream: &Simulator) -> Gate {
    let gate = Gate::new();
    upstream.queue(Script::new(vec![
        Step::Head(Head::event_stream()),
        Step::Send("data: {\"choices\":[{\"index\":0,\"delta\":{\"content\":\"Hi\"}}]}\n\n".into()),
        Step::Gate(gate.clone()),
        Step::Send("data: [DONE]\n\n".into()),
    ]));
    gate
}

#[tokio::test]
async fn requests_that_wait_follow_when_another_gateways_request_has_ended() {
    let upstream = simulator().await;
    let redis = RedisServer::start(&[]);
    let limit = "concurrent = 1\nqueue = { wait = \"60s\" }";
    let gateways: Vec<Gateway> = (0..2).map(|_| start(&upstream, &patient(&redis), limit)).collect();
    for gateway in &gateways {
        is_shared(gateway, true).await;
    }
    let addresses = [gateways[0].address(), gateways[1].address()];
    let gate = stream(&upstream);
    let open = tokio::spawn(async move { chat(addresses[0], Http::One).await });
    safely(upstream.wait_for(|records| (records.len() == 1).then_some(()))).await;
    // One waits at each gateway: for the gateway's own request, and for one that it does not know of.
    let waiting: Vec<_> =
        addresses.map(|address| tokio::spawn(async move { chat(address, Http::One).await })).into();
    let other = sharing(&gateways[1]);
    safely(async {
        // It asks again while it waits, though such refusals are remembered.
        while other.statistics().durations().count() < 3 {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    })
    .await;
    assert_eq!(upstream.records().len(), 1);
    gate.open();
    assert!(open.await.unwrap().whole);
    for answer in waiting {
        assert_eq!(safely(answer).await.unwrap().status, StatusCode::OK);
    }
}
