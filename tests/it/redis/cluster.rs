//! Six servers: three masters with a replica each.

use std::{process::Command, time::Duration};

use http::StatusCode;

use super::{admitted, all_at_once, is_shared, sharing};
use crate::harness::{
    Gateway, GatewayToml,
    redis::{RedisServer, Reply},
    safely, simulator,
};

/// Starts a cluster.
async fn cluster() -> Vec<RedisServer> {
    let settings =
        ["--cluster-enabled", "yes", "--cluster-config-file", "nodes.conf", "--cluster-node-timeout", "2000"];
    // The bus uses the port plus 10,000.
    let mut servers = Vec::new();
    while servers.len() < 6 {
        let port = crate::harness::redis::free_port();
        if port < 55_000 {
            servers.push(RedisServer::start_at(port, &settings));
        }
    }
    let addresses = servers.iter().map(|server| format!("127.0.0.1:{}", server.port()));
    let made = Command::new("redis-cli")
        .args(["--cluster", "create"])
        .args(addresses)
        .args(["--cluster-replicas", "1", "--cluster-yes"])
        .output()
        .unwrap();
    assert!(made.status.success(), "{}", String::from_utf8_lossy(&made.stdout));
    safely(async {
        let is_ok = |server: &RedisServer| {
            let info = server.command(&["CLUSTER", "INFO"]).text();
            info.contains("cluster_state:ok") && info.contains("cluster_known_nodes:6")
        };
        while !servers.iter().all(is_ok) {
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    })
    .await;
    servers
}

fn setting(servers: &[RedisServer]) -> String {
    let addresses: Vec<String> =
        servers.iter().take(2).map(|one| format!("\"127.0.0.1:{}\"", one.port())).collect();
    format!("cluster = [{}]\ntimeout = \"1s\"", addresses.join(", "))
}

/// The master that has a slot: its index, and its id.
fn owner(servers: &[RedisServer], slot: i64) -> (usize, String) {
    for (index, server) in servers.iter().enumerate() {
        let mine = server.command(&["CLUSTER", "NODES"]).text();
        let Some(line) = mine.lines().find(|line| line.contains("myself,master")) else { continue };
        let has = line.split(' ').skip(8).any(|range| {
            let mut ends = range.split('-').filter_map(|end| end.parse::<i64>().ok());
            let Some(first) = ends.next() else { return false };
            (first..=ends.next().unwrap_or(first)).contains(&slot)
        });
        if has {
            return (index, line.split(' ').next().unwrap().to_owned());
        }
    }
    panic!("nobody has slot {slot}")
}

/// Moves a slot with its keys to another master (documentation of `CLUSTER SETSLOT`).
fn move_slot(servers: &[RedisServer], slot: i64) {
    let (from, from_id) = owner(servers, slot);
    let (to, to_id) = (0..16_384).map(|slot| owner(servers, slot)).find(|(index, _)| *index != from).unwrap();
    let text = slot.to_string();
    let ok = |reply: Reply| assert!(matches!(reply, Reply::Text(_)), "{reply:?}");
    ok(servers[to].command(&["CLUSTER", "SETSLOT", &text, "IMPORTING", &from_id]));
    ok(servers[from].command(&["CLUSTER", "SETSLOT", &text, "MIGRATING", &to_id]));
    let Reply::List(keys) = servers[from].command(&["CLUSTER", "GETKEYSINSLOT", &text, "100"]) else {
        panic!()
    };
    let port = servers[to].port().to_string();
    for key in keys {
        ok(servers[from].command(&["MIGRATE", "127.0.0.1", &port, &key.text(), "0", "5000"]));
    }
    for index in [to, from] {
        ok(servers[index].command(&["CLUSTER", "SETSLOT", &text, "NODE", &to_id]));
    }
}

#[tokio::test]
async fn gateways_count_together_and_follow_a_slot_that_moves() {
    let upstream = simulator().await;
    let servers = cluster().await;
    // Limits of the client, its group and the gateway: two places.
    let toml = GatewayToml::before(&upstream.url(), "retry = \"off\"\nbreaker = \"off\"")
        .defaults("limits = [\"shared\", \"group\", \"all\"]")
        .more(format!(
            "[limit.shared]\nrequests = 100\nper = \"month\"\n\
             [limit.group]\neach = \"group\"\nrequests = 1_000\nper = \"month\"\n\
             [limit.all]\neach = \"gateway\"\nrequests = 90\nper = \"day\"\nconcurrent = 1_000\n\
             [redis]\n{}\n",
            setting(&servers)
        ));
    let gateways: Vec<Gateway> = (0..2).map(|_| Gateway::start(&toml)).collect();
    for gateway in &gateways {
        is_shared(gateway, true).await;
    }
    assert_eq!(admitted(&all_at_once(&gateways, 50).await), 50);
    let key = |suffix: &str| {
        servers.iter().find_map(|server| match server.command(&["KEYS", suffix]) {
            Reply::List(keys) if !keys.is_empty() => Some(keys[0].text()),
            _ => None,
        })
    };
    for suffix in ["*:c:*", "*:w"] {
        let key = key(suffix).unwrap();
        move_slot(&servers, servers[0].command(&["CLUSTER", "KEYSLOT", &key]).number());
        // No request fails while the gateways learn of it.
        let answers = all_at_once(&gateways, 10).await;
        assert!(answers.iter().all(|answer| answer.status == StatusCode::OK));
    }
    // The limit of all gateways is the tighter one. What it refuses was taken from the client's limit for a moment, which may refuse others
    // then; it is given back.
    let mut rest = admitted(&all_at_once(&gateways, 200).await);
    assert!(rest <= 20, "{rest}");
    safely(async {
        while rest < 20 {
            tokio::time::sleep(Duration::from_millis(50)).await;
            rest += admitted(&all_at_once(&gateways, 2).await);
        }
    })
    .await;
    assert_eq!((rest, admitted(&all_at_once(&gateways, 20).await)), (20, 0));
    for gateway in &gateways {
        let state = sharing(gateway).state();
        assert!(state.fallbacks <= 10, "{state:?}");
    }
}
