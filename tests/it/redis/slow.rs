//! A slow link to the server: requests wait within the deadline, and not at all when the circuit breaker is open.

use std::time::{Duration, Instant};

use http::StatusCode;
use sluicegate::simulator::{Cut, Script, Step};

use super::{admitted, all_at_once, is_shared, pending, sharing, start, waits};
use crate::harness::{
    Gateway, GatewayToml, Http, chat,
    link::{Link, LinkFault},
    redis::RedisServer,
    safely, simulator,
};

/// More than any of these tests sends.
const MANY: &str = "requests = 1_000_000\nper = \"1m\"\nburst = { requests = 100_000 }";

const SLOW: LinkFault = LinkFault::Delay(Duration::from_millis(200));

async fn succeeds(gateway: &Gateway) {
    assert_eq!(chat(gateway.address(), Http::One).await.status, StatusCode::OK);
}

#[tokio::test]
async fn behind_a_link_of_200_ms_three_requests_wait_and_the_others_do_not() {
    let (upstream, redis) = (simulator().await, RedisServer::start(&[]));
    let link = Link::to(redis.port());
    // Less than the link takes there and back, and more than a busy machine takes without it.
    let servers = format!("url = \"{}\"\ntimeout = \"150ms\"", link.url());
    let gateway = start(&upstream, &servers, MANY);
    is_shared(&gateway, true).await;
    succeeds(&gateway).await;
    link.becomes(SLOW);
    let before = waits(&gateway).count();
    for request in 1..=3 {
        succeeds(&gateway).await;
        assert_eq!(waits(&gateway).count(), before + request);
        if request < 3 {
            // Its reply comes late, and gives back what it granted. That is no success.
            pending(&gateway, |pending| pending > 0).await;
            pending(&gateway, |pending| pending == 0).await;
        }
    }
    // Nobody waits any more.
    for _ in 0..20 {
        succeeds(&gateway).await;
    }
    assert_eq!(waits(&gateway).count(), before + 3);
    assert!(waits(&gateway).all_within(1.0), "{:?}", waits(&gateway));
    is_shared(&gateway, false).await;
    let connections = sharing(&gateway).statistics().connections();
    link.becomes(LinkFault::None);
    let ended = Instant::now();
    is_shared(&gateway, true).await;
    println!("200 ms slow: shared again {:?} after the delay was taken away", ended.elapsed());
    assert!(sharing(&gateway).statistics().connections() > connections);
    succeeds(&gateway).await;
    assert_eq!(waits(&gateway).count(), before + 4);
    gateway.finish(25).await;
}

#[tokio::test]
async fn a_link_that_is_slow_within_the_timeout_keeps_limits_exact() {
    let (upstream, redis) = (simulator().await, RedisServer::start(&[]));
    let link = Link::to(redis.port());
    // As 30 ms of 40.
    let servers = format!("url = \"{}\"\ntimeout = \"800ms\"", link.url());
    let limit = "requests = 30\nper = \"366d\"\nburst = { requests = 30 }";
    let gateways: Vec<Gateway> = (0..2).map(|_| start(&upstream, &servers, limit)).collect();
    for gateway in &gateways {
        is_shared(gateway, true).await;
    }
    link.becomes(LinkFault::Delay(Duration::from_millis(300)));
    assert_eq!(admitted(&all_at_once(&gateways, 60).await), 30);
    for gateway in &gateways {
        let state = sharing(gateway).state();
        assert_eq!((state.fallbacks, state.is_available), (0, true));
    }
}

/// All of a flood is admitted by the gateway alone, because replies are late. What the server has counted of it is taken back, and what the gateway has
/// admitted is counted instead: each request once.
#[tokio::test]
async fn late_replies_to_a_flood_count_each_request_once() {
    let (upstream, redis) = (simulator().await, RedisServer::start(&[]));
    let link = Link::to(redis.port());
    let servers = format!("url = \"{}\"\ntimeout = \"300ms\"", link.url());
    let limit = "requests = 100\nper = \"366d\"\nburst = { requests = 100 }";
    let gateways = [start(&upstream, &servers, limit)];
    is_shared(&gateways[0], true).await;
    // Replies take 0.8 s: later than the timeout, and earlier than the end of the connection.
    link.becomes(LinkFault::Delay(Duration::from_millis(400)));
    // More than a server remembers of one gateway's requests.
    assert_eq!(admitted(&all_at_once(&gateways, 70).await), 70);
    assert!(sharing(&gateways[0]).state().fallbacks > 0);
    link.becomes(LinkFault::None);
    is_shared(&gateways[0], true).await;
    pending(&gateways[0], |pending| pending == 0).await;
    assert_eq!(admitted(&all_at_once(&gateways, 60).await), 30);
}

#[tokio::test]
async fn where_half_of_the_replies_are_slow_no_request_waits_longer_than_the_timeout() {
    let (upstream, redis) = (simulator().await, RedisServer::start(&[]));
    let link = Link::to(redis.port());
    let servers = format!("url = \"{}\"\ntimeout = \"200ms\"", link.url());
    let gateway = start(&upstream, &servers, MANY);
    is_shared(&gateway, true).await;
    link.becomes(LinkFault::DelayHalf(Duration::from_millis(300)));
    for _ in 0..40 {
        succeeds(&gateway).await;
    }
    assert!(waits(&gateway).all_within(0.25), "{:?}", waits(&gateway));
    println!("half slow: {:?}, of 40 by local limits", sharing(&gateway).state().fallbacks);
    link.becomes(LinkFault::None);
    is_shared(&gateway, true).await;
    // Requests ask again.
    let (before, mut sent) = (waits(&gateway).count(), 40);
    safely(async {
        while waits(&gateway).count() == before {
            succeeds(&gateway).await;
            sent += 1;
        }
    })
    .await;
    gateway.finish(sent).await;
}

/// A limit on all requests, and one for each of the two models that are tried.
fn two_models(url: &str, servers: &str) -> GatewayToml {
    let route =
        "upstreams = [{ upstream = \"main\", model = \"big\" }, { upstream = \"main\", model = \"small\" }]";
    GatewayToml::new()
        .upstream("main", url, "")
        .route_to(route)
        .defaults("limits = [\"all\", \"by-model\"]")
        .more(format!(
            "[limit.all]\n{MANY}\n[limit.by-model]\nmodels = [\"big\", \"small\"]\neach = \"model\"\n{MANY}\n[redis]\n{servers}\n"
        ))
}

#[tokio::test]
async fn after_a_call_without_a_reply_a_request_asks_no_more() {
    let (upstream, redis) = (simulator().await, RedisServer::start(&[]));
    let link = Link::to(redis.port());
    let servers = format!("url = \"{}\"", link.url());
    let gateway = Gateway::start(&two_models(&upstream.url(), &servers));
    is_shared(&gateway, true).await;
    link.becomes(LinkFault::DropReplies);
    let before = waits(&gateway).count();
    // The first model fails: three admissions, of which only the first waits.
    upstream.queue(Script::new(vec![Step::Cut(Cut::Reset)]));
    succeeds(&gateway).await;
    assert_eq!(waits(&gateway).count(), before + 1);
    assert_eq!(sharing(&gateway).state().fallbacks, 3);
    assert!(sharing(&gateway).state().trouble.is_none(), "one request does not open the circuit breaker");
    gateway.finish(1).await;
}

#[tokio::test]
async fn the_calls_of_one_request_share_the_timeout() {
    let (upstream, redis) = (simulator().await, RedisServer::start(&[]));
    let link = Link::to(redis.port());
    let servers = format!("url = \"{}\"\ntimeout = \"1s\"", link.url());
    let gateway = Gateway::start(&two_models(&upstream.url(), &servers));
    is_shared(&gateway, true).await;
    // A reply takes 0.6 s, so that the second call of a request has less than 0.4 s, and no reply within that.
    link.becomes(LinkFault::Delay(Duration::from_millis(300)));
    let connections = sharing(&gateway).statistics().connections();
    let (mut sent, mut shared) = (0, 0);
    safely(async {
        while shared < 4 {
            let (waited, alone) = (waits(&gateway).count(), sharing(&gateway).state().fallbacks);
            succeeds(&gateway).await;
            sent += 1;
            match (waits(&gateway).count() - waited, sharing(&gateway).state().fallbacks - alone) {
                (2, 1) => shared += 1,
                // On a busy machine the first call may be late, too. The request asks no second time, and three of them in a row end the connection.
                (1, 2) => {}
                (0, 2) => is_shared(&gateway, true).await,
                other => panic!("{other:?} calls and admissions without a reply"),
            }
        }
    })
    .await;
    if sent == shared {
        // No call was late by itself: the server is not given up.
        assert!(sharing(&gateway).state().is_available);
        assert_eq!(sharing(&gateway).statistics().connections(), connections);
    }
    // What the late replies granted is given back.
    link.becomes(LinkFault::None);
    is_shared(&gateway, true).await;
    pending(&gateway, |pending| pending == 0).await;
    gateway.finish(sent).await;
}

#[tokio::test]
async fn under_load_a_slow_link_fails_no_request_and_delays_none_beyond_the_timeout() {
    let (upstream, redis) = (simulator().await, RedisServer::start(&[]));
    let link = Link::to(redis.port());
    let servers = format!("url = \"{}\"\ntimeout = \"200ms\"", link.url());
    let gateway = start(&upstream, &servers, MANY);
    is_shared(&gateway, true).await;
    let mut sent = 0;
    let load = async |requests: usize| {
        let answers = all_at_once(std::slice::from_ref(&gateway), requests).await;
        assert!(answers.iter().all(|answer| answer.status == StatusCode::OK));
        requests
    };
    sent += load(20).await;
    let before = waits(&gateway).count();
    link.becomes(LinkFault::Delay(Duration::from_secs(1)));
    // All of the first twenty ask at once, and find out together.
    sent += load(20).await;
    let found_out = waits(&gateway).count();
    assert!((3..=20).contains(&(found_out - before)), "{before} {found_out}");
    for _ in 0..5 {
        sent += load(20).await;
    }
    assert_eq!(waits(&gateway).count(), found_out);
    is_shared(&gateway, false).await;
    link.becomes(LinkFault::None);
    is_shared(&gateway, true).await;
    sent += load(20).await;
    // A reply took two seconds.
    assert!(waits(&gateway).all_within(1.0), "{:?}", waits(&gateway));
    safely(async {
        while sharing(&gateway).state().trouble.is_some() {
            tokio::time::sleep(Duration::from_millis(2)).await;
        }
    })
    .await;
    gateway.finish(sent).await;
}
