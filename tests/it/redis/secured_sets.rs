//! Sentinels and clusters that speak TLS, and Sentinels with users of their own.

use std::time::Duration;

use super::{
    admitted, all_at_once,
    cluster::cluster_of,
    connections,
    exact::{at_once, bursts},
    has_followed, is_shared,
    secured::{Pki, documented, is_refused, set_user},
    start,
};
use crate::{
    folder::Folder,
    harness::{
        Gateway,
        redis::{RedisServer, Reply, free_port},
        safely, simulator,
    },
};

/// What the Sentinels' own user needs: the test and the other Sentinels.
const ALL: &str = "SENTINELS_PASSWORD";

/// A master, a replica and three Sentinels, all of which speak TLS with each other and with clients. Each has two users for the gateway's sake: one
/// of the data, one of the Sentinels.
struct Servers {
    replica: RedisServer,
    /// Kept until the end.
    _master: RedisServer,
    sentinels: Vec<RedisServer>,
    ports: Vec<u16>,
    pki: Pki,
    passwords: Folder,
}

impl Servers {
    async fn start() -> Self {
        let pki = Pki::new();
        let (master_port, replica_port) = (free_port(), free_port());
        let server = |port: u16, more: &[&str]| {
            let settings = pki.listening(port, &["tls-replication"]);
            let settings: Vec<&str> =
                settings.iter().map(String::as_str).chain(more.iter().copied()).collect();
            let server = RedisServer::start(&settings);
            set_user(&server, &documented()[0], &["~burst-*", "~at-once-*"]);
            server
        };
        let master = server(master_port, &[]);
        let replica = server(replica_port, &["--replicaof", "127.0.0.1", &master_port.to_string()]);
        let ports: Vec<u16> = (0..3).map(|_| free_port()).collect();
        let sentinels = ports.iter().map(|port| {
            let tls = pki.settings(*port, &["tls-replication"]);
            let users = format!(
                "user default on >{ALL} ~* &* +@all\nuser {}\nsentinel sentinel-user default\nsentinel sentinel-pass {ALL}",
                sentinel_user()
            );
            RedisServer::sentinel_with(master_port, &format!("{tls}\n{users}"), Some(ALL))
        });
        let sentinels = sentinels.collect();
        let servers = Self { replica, _master: master, sentinels, ports, pki, passwords: Folder::new() };
        servers.found_each_other().await;
        servers
    }

    async fn found_each_other(&self) {
        let count = |sentinel: &RedisServer, what: &str| match sentinel.command(&["SENTINEL", what, "main"]) {
            Reply::List(all) => all.len(),
            _ => 0,
        };
        let has_all = |one: &RedisServer| count(one, "SENTINELS") == 2 && count(one, "REPLICAS") == 1;
        safely(async {
            while !self.sentinels.iter().all(has_all) {
                tokio::time::sleep(Duration::from_millis(50)).await;
            }
        })
        .await;
    }

    /// The settings of a gateway, with this password of the Sentinels' user.
    fn setting(&self, password: &str) -> String {
        let addresses: Vec<String> = self.ports.iter().map(|port| format!("\"127.0.0.1:{port}\"")).collect();
        format!(
            "sentinel = {{ master = \"main\", addresses = [{}], username = \"watcher\", password = {{ file = {:?} }} }}\n\
             tls = {{ ca = {:?} }}\nusername = \"gateway\"\npassword = {{ file = {:?} }}\ntimeout = \"1s\"",
            addresses.join(", "),
            self.passwords.write("sentinels", password),
            self.pki.authority(),
            self.passwords.write("data", "PASSWORD"),
        )
    }
}

/// The user of the Sentinels, as the manual says.
fn sentinel_user() -> String {
    let page = include_str!("../../../docs/how-to/redis.md");
    let line = page.lines().find_map(|line| line.strip_prefix("redis-cli -p 26379 ACL SETUSER "));
    line.expect("a line for the Sentinels").split(" #").next().unwrap().replace('\'', "")
}

#[tokio::test]
async fn gateways_admit_exactly_what_the_limit_says_with_sentinels_that_speak_tls_and_have_users() {
    let servers = Servers::start().await;
    let setting = servers.setting("SENTINEL_PASSWORD");
    bursts(&setting).await;
    at_once(&setting).await;
}

#[tokio::test]
async fn gateways_follow_sentinels_that_speak_tls_and_have_users() {
    let (upstream, servers) = (simulator().await, Servers::start().await);
    let limit = "requests = 100\nper = \"month\"";
    let setting = servers.setting("SENTINEL_PASSWORD");
    let gateways: Vec<Gateway> = (0..2).map(|_| start(&upstream, &setting, limit)).collect();
    for gateway in &gateways {
        is_shared(gateway, true).await;
    }
    assert_eq!(admitted(&all_at_once(&gateways, 60).await), 60);
    let before: Vec<u64> = gateways.iter().map(connections).collect();
    // A switch while all servers work: only the Sentinels' message says so at once.
    let reply = servers.sentinels[0].command(&["SENTINEL", "FAILOVER", "main"]);
    assert!(matches!(reply, Reply::Text(_)), "{reply:?}");
    for (gateway, before) in gateways.iter().zip(before) {
        has_followed(gateway, before).await;
    }
    assert!(servers.replica.command(&["INFO", "replication"]).text().contains("role:master"));
    // What was counted is there, on the new master or by the gateways' own copies.
    assert_eq!(admitted(&all_at_once(&gateways, 100).await), 40);
}

#[tokio::test]
async fn a_wrong_password_of_the_sentinels_is_one_line() {
    let (upstream, servers) = (simulator().await, Servers::start().await);
    is_refused(&upstream, &servers.setting("WRONG"), &[], "WRONGPASS").await;
    // The user of the data is none of the Sentinels.
    let setting = servers.setting("PASSWORD").replace("\"watcher\"", "\"gateway\"");
    is_refused(&upstream, &setting, &[], "WRONGPASS").await;
}

#[tokio::test]
async fn gateways_admit_exactly_what_the_limit_says_in_a_cluster_that_speaks_tls() {
    let pki = Pki::new();
    let (servers, ports) = cluster_of(Some(&pki)).await;
    for server in &servers {
        for rules in documented() {
            set_user(server, &rules, &["~burst-*", "~at-once-*"]);
        }
    }
    let folder = Folder::new();
    let setting = format!(
        "cluster = [\"127.0.0.1:{}\", \"127.0.0.1:{}\"]\ntls = {{ ca = {:?} }}\ntimeout = \"1s\"\nusername = \"gateway\"\npassword = {{ file = {:?} }}",
        ports[0],
        ports[1],
        pki.authority(),
        folder.write("password", "PASSWORD"),
    );
    bursts(&setting).await;
    at_once(&setting).await;
}
