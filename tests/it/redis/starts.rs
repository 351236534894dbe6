//! Gateways that start while their server is away.

use super::process::Process;
use crate::harness::{
    link::{Link, LinkFault},
    redis::{RedisServer, free_port},
    simulator,
};

const TEN: &str = "requests = 10\nper = \"366d\"\nburst = { requests = 10 }";

/// Starts a gateway, which serves by local limits, and says why.
async fn serves_without(servers: &str, reason: &str) -> Process {
    let upstream = simulator().await;
    let mut gateway = Process::start(&upstream, servers, TEN);
    // Before anybody knows whether Redis is there.
    gateway.page("/readyz").await;
    assert_eq!(gateway.admitted(15).await, 10);
    gateway.line("Redis unavailable");
    gateway.page("/readyz").await;
    let measured = gateway.measured().await;
    assert_eq!((measured.is_away(), measured.waits()), (true, 0.0));
    assert!(gateway.seen().iter().any(|line| line.contains(reason)), "{reason}: {:#?}", gateway.seen());
    gateway
}

#[tokio::test]
async fn a_gateway_starts_without_its_server_and_shares_limits_when_it_comes() {
    let port = free_port();
    let gateway = serves_without(&format!("url = \"redis://127.0.0.1:{port}\""), "refused").await;
    let redis = RedisServer::start_at(port, &[]);
    gateway.is_shared(true).await;
    drop(redis);
    gateway.is_shared(false).await;
    gateway.page("/readyz").await;
    let changes = gateway.changes();
    assert_eq!(changes.len(), 3, "{changes:#?}");
}

#[tokio::test]
async fn a_gateway_starts_before_a_server_that_is_silent_or_no_master() {
    let (redis, replica) = (RedisServer::start(&[]), RedisServer::start(&[]));
    let link = Link::to(redis.port());
    link.becomes(LinkFault::Silent);
    let silent = format!("url = \"{}\"", link.url());
    assert_eq!(serves_without(&silent, "no connection within 1s").await.changes().len(), 1);
    replica.command(&["REPLICAOF", "127.0.0.1", &redis.port().to_string()]);
    let gateway = serves_without(&format!("url = \"{}\"", replica.url()), "not a master").await;
    replica.command(&["REPLICAOF", "NO", "ONE"]);
    gateway.is_shared(true).await;
    assert_eq!(gateway.changes().len(), 2);
}
