//! Gateways that die or stop: as processes of their own. Each test waits for leases of fifteen seconds, so they belong to `.ci/release`.

use std::{net::SocketAddr, time::Duration};

use http::StatusCode;
use sluicegate::simulator::{Gate, Head, Script, Simulator, Step};

use super::toml;
use crate::{
    cli::process::{Running, listening},
    folder::Folder,
    harness::{CLIENT_KEY, Http, chat, redis::RedisServer, safely, simulator},
};

/// How long a lease lasts, and some time for the machine.
const LEASE: Duration = Duration::from_secs(17);

fn gateway(folder: &Folder, upstream: &Simulator, redis: &RedisServer) -> (Running, SocketAddr) {
    let hash = sluicegate::config::KeyHash::of(CLIENT_KEY.as_bytes()).to_string();
    let text = toml(upstream, &super::patient(redis), "concurrent = 2").to_string();
    let file = folder.write("gateway.toml", &text.replace("$CLIENT_HASH", &hash));
    let mut running = Running::start(&["serve", "--config", &file]);
    // The two lines come in any order.
    let (mut address, mut is_shared) = (None, false);
    running.line(|line| {
        if line.contains("\"message\":\"serving\"") {
            address = Some(listening(line).0[0]);
        }
        is_shared |= line.contains("Redis available");
        address.is_some() && is_shared
    });
    (running, address.unwrap())
}

/// Two streams that wait for their gates.
async fn two_streams(upstream: &Simulator, address: SocketAddr) -> Vec<Gate> {
    let gates: Vec<Gate> = (0..2).map(|_| Gate::new()).collect();
    for gate in &gates {
        upstream.queue(Script::new(vec![
            Step::Head(Head::event_stream()),
            Step::Send("data: {\"choices\":[{\"index\":0,\"delta\":{\"content\":\"Hi\"}}]}\n\n".into()),
            Step::Gate(gate.clone()),
            Step::Send("data: [DONE]\n\n".into()),
        ]));
    }
    let before = upstream.records().len();
    for _ in 0..2 {
        tokio::spawn(async move { chat(address, Http::One).await });
    }
    safely(upstream.wait_for(|records| (records.len() == before + 2).then_some(()))).await;
    gates
}

#[tokio::test]
#[ignore = "waits for leases to end: .ci/release"]
async fn a_killed_gateway_frees_its_requests_when_its_lease_ends() {
    let (upstream, redis) = (simulator().await, RedisServer::start(&[]));
    let folders = [Folder::new(), Folder::new()];
    let (one, address) = gateway(&folders[0], &upstream, &redis);
    let (_other, others) = gateway(&folders[1], &upstream, &redis);
    let _gates = two_streams(&upstream, address).await;
    assert_eq!(chat(others, Http::One).await.status, StatusCode::TOO_MANY_REQUESTS);
    // As long as the first one lives, its streams count: longer than a lease.
    tokio::time::sleep(LEASE).await;
    assert_eq!(chat(others, Http::One).await.status, StatusCode::TOO_MANY_REQUESTS);
    one.signal("KILL");
    assert_eq!(chat(others, Http::One).await.status, StatusCode::TOO_MANY_REQUESTS);
    tokio::time::sleep(LEASE).await;
    assert_eq!(chat(others, Http::One).await.status, StatusCode::OK);
}

#[tokio::test]
#[ignore = "waits for leases to end: .ci/release"]
async fn a_stopped_gateway_registers_its_streams_again() {
    let (upstream, redis) = (simulator().await, RedisServer::start(&[]));
    let folders = [Folder::new(), Folder::new()];
    let (one, address) = gateway(&folders[0], &upstream, &redis);
    let (_other, others) = gateway(&folders[1], &upstream, &redis);
    let gates = two_streams(&upstream, address).await;
    one.signal("STOP");
    tokio::time::sleep(LEASE).await;
    // Its lease has ended, and its share is used by others.
    let theirs = two_streams(&upstream, others).await;
    one.signal("CONT");
    // Two too many: nothing is admitted until they are gone.
    tokio::time::sleep(Duration::from_secs(6)).await;
    theirs.iter().for_each(Gate::open);
    tokio::time::sleep(Duration::from_secs(1)).await;
    assert_eq!(chat(others, Http::One).await.status, StatusCode::TOO_MANY_REQUESTS);
    gates.iter().for_each(Gate::open);
    safely(async {
        while chat(others, Http::One).await.status != StatusCode::OK {
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    })
    .await;
}
