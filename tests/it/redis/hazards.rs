//! Whatever Redis does, no request fails, none waits longer than `redis.timeout`, and limits are shared again soon after.

use std::time::{Duration, Instant};

use http::StatusCode;
use sluicegate::store::Statistics;

use super::{admitted, all_at_once, is_shared, patient, sharing, start};
use crate::harness::{
    Gateway, Http, chat,
    redis::{RedisServer, free_port},
    safely, simulator,
};

/// More than any of these tests sends.
const MANY: &str = "requests = 1_000_000\nper = \"1m\"\nburst = { requests = 100_000 }\nconcurrent = 10_000";

/// What is done to a server, and how it is undone.
struct Hazard {
    name: &'static str,
    happens: fn(&mut RedisServer),
    /// Whether the gateway notices, and counts by itself.
    is_noticed: bool,
    ends: fn(&mut RedisServer),
}

const HAZARDS: &[Hazard] = &[
    Hazard { name: "killed", happens: RedisServer::kill, is_noticed: true, ends: RedisServer::restart },
    Hazard { name: "restarted", happens: RedisServer::restart, is_noticed: true, ends: |_| {} },
    Hazard {
        name: "hung",
        happens: |redis| redis.signal("STOP"),
        is_noticed: true,
        ends: |redis| redis.signal("CONT"),
    },
    Hazard {
        name: "slow",
        // Every command waits, writes among them, as behind a link of 200 ms.
        happens: |redis| drop(redis.command(&["CLIENT", "PAUSE", "200000", "ALL"])),
        is_noticed: true,
        ends: |redis| redis.restart(),
    },
    Hazard {
        name: "demoted",
        happens: |redis| drop(redis.command(&["REPLICAOF", "127.0.0.1", &free_port().to_string()])),
        is_noticed: true,
        ends: |redis| drop(redis.command(&["REPLICAOF", "NO", "ONE"])),
    },
    Hazard {
        name: "out of memory",
        happens: |redis| {
            redis.command(&["CONFIG", "SET", "maxmemory-policy", "noeviction"]);
            redis.command(&["CONFIG", "SET", "maxmemory", "1"]);
        },
        is_noticed: true,
        ends: |redis| drop(redis.command(&["CONFIG", "SET", "maxmemory", "0"])),
    },
    Hazard {
        name: "without enough replicas",
        happens: |redis| drop(redis.command(&["CONFIG", "SET", "min-replicas-to-write", "1"])),
        is_noticed: true,
        ends: |redis| drop(redis.command(&["CONFIG", "SET", "min-replicas-to-write", "0"])),
    },
    Hazard {
        name: "flushed",
        happens: |redis| drop(redis.command(&["FLUSHALL"])),
        is_noticed: false,
        ends: |_| {},
    },
    Hazard {
        name: "without its scripts",
        happens: |redis| drop(redis.command(&["SCRIPT", "FLUSH"])),
        is_noticed: false,
        ends: |_| {},
    },
];

#[tokio::test]
async fn no_request_fails_and_none_waits_for_a_broken_server() {
    let upstream = simulator().await;
    for hazard in HAZARDS {
        let mut redis = RedisServer::start(&[]);
        let gateway = start(&upstream, &format!("url = \"{}\"", redis.url()), MANY);
        is_shared(&gateway, true).await;
        all_succeed(&gateway, 20).await;
        (hazard.happens)(&mut redis);
        let mut sent = 20;
        if hazard.is_noticed {
            // Calls find out; until then each waits for its own deadline at most.
            let before = sharing(&gateway).state().fallbacks;
            while sharing(&gateway).state().fallbacks == before || sent < 60 {
                all_succeed(&gateway, 10).await;
                sent += 10;
            }
        } else {
            all_succeed(&gateway, 40).await;
            sent += 40;
        }
        (hazard.ends)(&mut redis);
        let ended = Instant::now();
        is_shared(&gateway, true).await;
        safely(async {
            while sharing(&gateway).state().trouble.is_some() {
                tokio::time::sleep(Duration::from_millis(2)).await;
            }
        })
        .await;
        println!("{}: shared again after {:?}", hazard.name, ended.elapsed());
        all_succeed(&gateway, 20).await;
        sent += 20;
        waits_are_bounded(&gateway, hazard.name);
        gateway.finish(sent).await;
    }
}

async fn all_succeed(gateway: &Gateway, requests: usize) {
    let answers = all_at_once(std::slice::from_ref(gateway), requests).await;
    assert!(answers.iter().all(|answer| answer.status == StatusCode::OK));
}

/// By the metric: the deadline is 40 ms. What is above it is the machine's own delay.
fn waits_are_bounded(gateway: &Gateway, name: &str) {
    let durations = sharing(gateway).statistics().durations();
    let within =
        durations.cumulative(Statistics::SCALE).find(|(bound, _)| *bound >= 0.25).map(|(_, count)| count);
    assert_eq!(within, Some(durations.count()), "{name}: {durations:?}");
}

#[tokio::test]
async fn while_it_is_away_each_gateway_admits_its_share() {
    let upstream = simulator().await;
    let mut redis = RedisServer::start(&[]);
    let servers = patient(&redis);
    let limit = "requests = 100\nper = \"366d\"\nburst = { requests = 100 }";
    let gateways: Vec<Gateway> = (0..2).map(|_| start(&upstream, &servers, limit)).collect();
    for gateway in &gateways {
        is_shared(gateway, true).await;
    }
    // Both know of each other.
    safely(async {
        while gateways.iter().any(|gateway| sharing(gateway).state().nodes != 2) {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    })
    .await;
    assert_eq!(admitted(&all_at_once(&gateways, 40).await), 40);
    redis.signal("STOP");
    for gateway in &gateways {
        while sharing(gateway).state().is_available {
            chat(gateway.address(), Http::One).await;
        }
    }
    // Forty were used; of the other sixty each may admit half, those included that were admitted while the gateways found out. A
    // gateway may not have seen the last requests of the other.
    let found_out: usize = gateways.iter().map(|gateway| sharing(gateway).state().fallbacks as usize).sum();
    let more = admitted(&all_at_once(&gateways, 120).await);
    let all = 40 + found_out + more;
    assert!((90..=110).contains(&all), "{found_out} {more}");
    // When it is back, what was used meanwhile counts.
    redis.signal("CONT");
    for gateway in &gateways {
        is_shared(gateway, true).await;
    }
    let rest = admitted(&all_at_once(&gateways, 40).await);
    assert!(rest <= 105 - all.min(100), "{rest}");
    redis.kill();
}

#[tokio::test]
async fn a_day_is_restored_from_what_gateways_have_seen() {
    let upstream = simulator().await;
    let redis = RedisServer::start(&[]);
    let servers = patient(&redis);
    let gateways: Vec<Gateway> =
        (0..2).map(|_| start(&upstream, &servers, "requests = 50\nper = \"day\"")).collect();
    for gateway in &gateways {
        is_shared(gateway, true).await;
    }
    assert_eq!(admitted(&all_at_once(&gateways, 40).await), 40);
    redis.command(&["FLUSHALL"]);
    // One of them may not have seen the last of the forty, but nobody begins with an empty count.
    let rest = admitted(&all_at_once(&gateways, 40).await);
    assert!((9..=11).contains(&rest), "{rest}");
}
