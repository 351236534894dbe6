//! What gateways admit by themselves while their server is away, and what `prefix` keeps apart.

use std::time::Duration;

use http::StatusCode;
use sluicegate::simulator::{Gate, Head, Script, Simulator, Step};
use tokio::task::JoinSet;

use super::{admitted, all_at_once, is_shared, patient, sharing, start};
use crate::harness::{
    Gateway, Http, chat,
    redis::{RedisServer, Reply},
    safely, simulator,
};

/// Nothing comes back within a test.
const A_HUNDRED: &str = "requests = 100\nper = \"366d\"\nburst = { requests = 100 }";

/// Gateways that know of each other.
async fn together(upstream: &Simulator, redis: &RedisServer, count: u32, lines: [&str; 2]) -> Vec<Gateway> {
    let [share, limit] = lines;
    let servers = format!("{}\nfallback_share = {share}", patient(redis));
    let gateways: Vec<Gateway> = (0..count).map(|_| start(upstream, &servers, limit)).collect();
    for gateway in &gateways {
        is_shared(gateway, true).await;
    }
    safely(async {
        while gateways.iter().any(|gateway| sharing(gateway).state().nodes != count) {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    })
    .await;
    gateways
}

/// How many are admitted from now on.
async fn all_admitted(gateways: &[Gateway]) -> usize {
    let mut all = 0;
    // The first ones find out, and are decided by local limits as well.
    for _ in 0..2 {
        all += admitted(&all_at_once(gateways, 110 * gateways.len()).await);
    }
    all
}

#[tokio::test]
async fn of_a_rate_each_gateway_admits_its_share() {
    let upstream = simulator().await;
    for (count, share, expected) in
        [(1, "\"auto\"", 100), (2, "\"auto\"", 100), (1, "0.25", 25), (2, "0.25", 50), (2, "1.0", 200)]
    {
        let redis = RedisServer::start(&[]);
        let gateways = together(&upstream, &redis, count, [share, A_HUNDRED]).await;
        redis.signal("STOP");
        assert_eq!(all_admitted(&gateways).await, expected, "{count} gateways, {share}");
        redis.signal("CONT");
    }
}

#[tokio::test]
async fn of_a_day_each_gateway_admits_its_share_of_what_is_left() {
    let upstream = simulator().await;
    for (count, share, expected) in
        [(1, "\"auto\"", 60), (2, "\"auto\"", 60), (1, "0.25", 15), (2, "0.25", 30)]
    {
        let redis = RedisServer::start(&[]);
        let gateways = together(&upstream, &redis, count, [share, "requests = 100\nper = \"day\""]).await;
        assert_eq!(admitted(&all_at_once(&gateways, 38).await), 38);
        // Each has seen nearly all of it.
        for number in 0..2 {
            let address = gateways[number % gateways.len()].address();
            assert_eq!(chat(address, Http::One).await.status, StatusCode::OK);
        }
        redis.signal("STOP");
        assert_eq!(all_admitted(&gateways).await, expected, "{count} gateways, {share}");
        redis.signal("CONT");
    }
}

#[tokio::test]
async fn of_requests_at_once_each_gateway_admits_its_share() {
    let upstream = simulator().await;
    for (count, share, expected) in
        [(1, "\"auto\"", 10), (2, "\"auto\"", 10), (1, "0.25", 2), (2, "0.25", 4), (2, "0.01", 2)]
    {
        let redis = RedisServer::start(&[]);
        let gateways = together(&upstream, &redis, count, [share, "concurrent = 10"]).await;
        redis.signal("STOP");
        let gate = Gate::new();
        let before = upstream.records().len();
        let mut open = JoinSet::new();
        for number in 0..30 {
            if number < expected {
                upstream.queue(Script::new(vec![
                    Step::Gate(gate.clone()),
                    Step::Head(Head::event_stream()),
                    Step::Send("data: [DONE]\n\n".into()),
                ]));
            }
            let address = gateways[number % gateways.len()].address();
            open.spawn(async move { chat(address, Http::One).await.status });
        }
        for _ in expected..30 {
            let refused = open.join_next().await.unwrap().unwrap();
            assert_eq!(refused, StatusCode::TOO_MANY_REQUESTS, "{count} gateways, {share}");
        }
        let is_open = |records: usize| (records == before + expected).then_some(());
        safely(upstream.wait_for(|records| is_open(records.len()))).await;
        (0..expected).for_each(|_| gate.open());
        while let Some(status) = open.join_next().await {
            assert_eq!(status.unwrap(), StatusCode::OK);
        }
        redis.signal("CONT");
    }
}

#[tokio::test]
async fn gateways_with_the_same_prefix_count_together_and_others_apart() {
    let (upstream, redis) = (simulator().await, RedisServer::start(&[]));
    let start = |prefix: &str| {
        let servers = format!("{}\nprefix = \"{prefix}\"", patient(&redis));
        start(&upstream, &servers, "requests = 20\nper = \"366d\"\nburst = { requests = 20 }")
    };
    let gateways = [start("one"), start("one"), start("other")];
    for gateway in &gateways {
        is_shared(gateway, true).await;
    }
    assert_eq!(admitted(&all_at_once(&gateways[..2], 60).await), 20);
    assert_eq!(admitted(&all_at_once(&gateways[2..], 40).await), 20);
    let Reply::List(keys) = redis.command(&["KEYS", "*"]) else { panic!() };
    let keys: Vec<String> = keys.iter().map(Reply::text).collect();
    assert!(keys.iter().all(|key| key.starts_with("one:") || key.starts_with("other:")), "{keys:?}");
}
