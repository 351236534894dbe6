//! Three Sentinels, a master and a replica.

use std::time::{Duration, Instant};

use http::StatusCode;

use super::{
    AGREED, Load, admitted, all_at_once, connections,
    exact::{at_once, bursts},
    has_followed, is_shared, pending, sharing, start, waits,
};
use crate::harness::{
    Gateway, Http, chat,
    redis::{RedisServer, Reply},
    safely, simulator,
};

/// More than a test sends.
const MANY: &str = "requests = 1_000_000\nper = \"1m\"\nburst = { requests = 100_000 }\nconcurrent = 10_000";

/// Servers that have found each other.
struct Servers {
    master: RedisServer,
    replica: RedisServer,
    sentinels: Vec<RedisServer>,
}

impl Servers {
    async fn start() -> Self {
        let master = RedisServer::start(&[]);
        let replica = RedisServer::start(&["--replicaof", "127.0.0.1", &master.port().to_string()]);
        let sentinels: Vec<_> = (0..3).map(|_| RedisServer::sentinel(master.port())).collect();
        let servers = Self { master, replica, sentinels };
        let count = |sentinel: &RedisServer, what: &str| match sentinel.command(&["SENTINEL", what, "main"]) {
            Reply::List(all) => all.len(),
            _ => 0,
        };
        safely(async {
            while servers
                .sentinels
                .iter()
                .any(|one| count(one, "SENTINELS") < 2 || count(one, "REPLICAS") < 1)
            {
                tokio::time::sleep(Duration::from_millis(50)).await;
            }
        })
        .await;
        servers
    }

    /// The value of `redis.sentinel`.
    fn setting(&self) -> String {
        let addresses: Vec<String> =
            self.sentinels.iter().map(|one| format!("\"127.0.0.1:{}\"", one.port())).collect();
        format!("sentinel = {{ master = \"main\", addresses = [{}] }}", addresses.join(", "))
    }
}

#[tokio::test]
async fn gateways_admit_exactly_what_the_limit_says() {
    let servers = Servers::start().await;
    let setting = format!("{}\ntimeout = \"1s\"", servers.setting());
    bursts(&setting).await;
    at_once(&setting).await;
}

#[tokio::test]
async fn masters_switch_under_load() {
    let upstream = simulator().await;
    let mut servers = Servers::start().await;
    let setting = format!("{}\ntimeout = \"150ms\"", servers.setting());
    let gateways: Vec<Gateway> = (0..2).map(|_| start(&upstream, &setting, MANY)).collect();
    for gateway in &gateways {
        is_shared(gateway, true).await;
    }
    let load = Load::on(&gateways);
    load.goes_on_for(40).await;
    // On demand: the old master becomes a replica, and says so on live connections.
    let before: Vec<u64> = gateways.iter().map(connections).collect();
    let begin = Instant::now();
    servers.sentinels[0].command(&["SENTINEL", "FAILOVER", "main"]);
    let promoted = async {
        while !servers.replica.command(&["INFO", "replication"]).text().contains("role:master") {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    };
    tokio::time::timeout(AGREED, promoted).await.expect("the Sentinels agree");
    let switched = begin.elapsed();
    for (gateway, before) in gateways.iter().zip(before) {
        has_followed(gateway, before).await;
    }
    println!("shared again {:?} after a switch on demand", begin.elapsed() - switched);
    load.goes_on_for(40).await;
    // The new master dies. The old one, which is its replica now, takes over.
    safely(async {
        while !servers.master.command(&["INFO", "replication"]).text().contains("master_link_status:up") {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    })
    .await;
    let before: Vec<u64> = gateways.iter().map(connections).collect();
    servers.replica.kill();
    for gateway in &gateways {
        is_shared(gateway, false).await;
    }
    load.goes_on_for(40).await;
    let killed = Instant::now();
    for (gateway, before) in gateways.iter().zip(before) {
        has_followed(gateway, before).await;
    }
    println!("shared again {:?} later than 40 requests after the master was killed", killed.elapsed());
    load.goes_on_for(40).await;
    load.end().await;
    for gateway in &gateways {
        assert!(waits(gateway).mean() < 1.0, "{:?}", waits(gateway));
    }
}

#[tokio::test]
async fn gateways_count_together_and_follow_the_master() {
    let upstream = simulator().await;
    let mut servers = Servers::start().await;
    let limit = "requests = 100\nper = \"month\"";
    // The deadline is not the subject: what a gateway admits because a reply is late would come on top.
    let setting = format!("{}\ntimeout = \"1s\"", servers.setting());
    let gateways: Vec<Gateway> = (0..2).map(|_| start(&upstream, &setting, limit)).collect();
    for gateway in &gateways {
        is_shared(gateway, true).await;
    }
    assert_eq!(admitted(&all_at_once(&gateways, 60).await), 60);
    for gateway in &gateways {
        pending(gateway, |pending| pending == 0).await;
    }
    let before: Vec<u64> = gateways.iter().map(connections).collect();
    servers.master.kill();
    let killed = Instant::now();
    // Requests are admitted or refused meanwhile, by what each gateway may admit alone.
    let mut meanwhile = 0;
    for gateway in &gateways {
        while sharing(gateway).state().is_available {
            let answer = chat(gateway.address(), Http::One).await;
            meanwhile += usize::from(answer.status == StatusCode::OK);
        }
    }
    for (gateway, before) in gateways.iter().zip(before) {
        has_followed(gateway, before).await;
    }
    println!("shared again {:?} after the master was killed", killed.elapsed());
    let role = servers.replica.command(&["ROLE"]);
    assert!(
        format!("{role:?}").contains("master") || format!("{role:?}").contains("109, 97, 115"),
        "{role:?}"
    );
    // Nothing that was counted is lost: the replica had it, or the gateways have seen it.
    let rest = admitted(&all_at_once(&gateways, 100).await);
    let all = 60 + meanwhile + rest;
    assert!((95..=105).contains(&all), "60 + {meanwhile} + {rest}");
}
