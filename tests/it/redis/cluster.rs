//! Six servers: three masters with a replica each.

use std::{process::Command, time::Duration};

use http::StatusCode;

use super::{
    Load, admitted, all_at_once,
    exact::{at_once, bursts},
    is_shared,
    secured::{Pki, documented, set_user},
    sharing, waits,
};
use crate::{
    folder::Folder,
    harness::{
        Gateway, GatewayToml,
        redis::{RedisServer, Reply, free_port},
        safely, simulator,
    },
};

/// More than a test sends.
const MANY: &str = "requests = 1_000_000\nper = \"month\"";

/// Starts a cluster.
async fn cluster() -> Vec<RedisServer> {
    cluster_of(None).await.0
}

/// Starts a cluster, whose servers speak TLS if they have certificates. Returns the ports of its clients, too.
pub async fn cluster_of(pki: Option<&Pki>) -> (Vec<RedisServer>, Vec<u16>) {
    let settings =
        ["--cluster-enabled", "yes", "--cluster-config-file", "nodes.conf", "--cluster-node-timeout", "2000"];
    let (mut servers, mut ports) = (Vec::new(), Vec::new());
    while servers.len() < 6 {
        let port = port_with_bus();
        let tls = pki.map(|pki| pki.listening(port, &["tls-cluster", "tls-replication"])).unwrap_or_default();
        let settings: Vec<&str> = settings.into_iter().chain(tls.iter().map(String::as_str)).collect();
        let plain = if pki.is_some() { free_port() } else { port };
        servers.push(RedisServer::start_at(plain, &settings));
        ports.push(port);
    }
    let mut command = Command::new("redis-cli");
    command.args(["--cluster", "create"]).args(ports.iter().map(|port| format!("127.0.0.1:{port}")));
    command.args(["--cluster-replicas", "1", "--cluster-yes"]);
    if let Some(pki) = pki {
        command.args(["--tls", "--cacert", pki.authority()]);
    }
    let made = command.output().unwrap();
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
    (servers, ports)
}

/// The bus uses the port plus 10,000.
fn port_with_bus() -> u16 {
    loop {
        let port = free_port();
        if port < 55_000 {
            return port;
        }
    }
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

/// The index and the id of a master that is another server than `from`.
fn another_master(servers: &[RedisServer], from: usize) -> (usize, String) {
    let found = servers.iter().enumerate().filter(|(index, _)| *index != from).find_map(|(index, server)| {
        let nodes = server.command(&["CLUSTER", "NODES"]).text();
        let line = nodes.lines().find(|line| line.contains("myself,master"))?;
        Some((index, line.split(' ').next()?.to_owned()))
    });
    found.expect("a second master")
}

/// Moves a slot with its keys to another master (documentation of `CLUSTER SETSLOT`). Requests go on between the steps.
async fn move_slot(servers: &[RedisServer], slot: i64) {
    let (from, from_id) = owner(servers, slot);
    let (to, to_id) = another_master(servers, from);
    let text = slot.to_string();
    let does = async |index: usize, command: &[&str]| {
        let reply = servers[index].command(command);
        assert!(matches!(reply, Reply::Text(_)), "{command:?}: {reply:?}");
        tokio::time::sleep(Duration::from_millis(20)).await;
    };
    does(to, &["CLUSTER", "SETSLOT", &text, "IMPORTING", &from_id]).await;
    does(from, &["CLUSTER", "SETSLOT", &text, "MIGRATING", &to_id]).await;
    let port = servers[to].port().to_string();
    loop {
        let Reply::List(keys) = servers[from].command(&["CLUSTER", "GETKEYSINSLOT", &text, "100"]) else {
            panic!()
        };
        if keys.is_empty() {
            break;
        }
        for key in keys {
            does(from, &["MIGRATE", "127.0.0.1", &port, &key.text(), "0", "5000"]).await;
        }
    }
    for index in [to, from] {
        does(index, &["CLUSTER", "SETSLOT", &text, "NODE", &to_id]).await;
    }
}

#[tokio::test]
async fn gateways_admit_exactly_what_the_limit_says() {
    let servers = cluster().await;
    // As the manual says.
    for server in &servers {
        for rules in documented() {
            set_user(server, &rules, &["~burst-*", "~at-once-*"]);
        }
    }
    let user = format!(
        "{}\nusername = \"gateway\"\npassword = {{ file = {:?} }}",
        setting(&servers),
        "PASSWORD_FILE"
    );
    let folder = Folder::new();
    let user = user.replace("PASSWORD_FILE", &folder.write("password", "PASSWORD"));
    bursts(&user).await;
    at_once(&user).await;
}

#[tokio::test]
async fn slots_move_under_load() {
    let upstream = simulator().await;
    let servers = cluster().await;
    let toml = GatewayToml::before(&upstream.url(), "retry = \"off\"\nbreaker = \"off\"")
        .defaults("limits = [\"shared\", \"all\"]")
        .more(format!(
            "[limit.shared]\n{MANY}\nconcurrent = 1_000\n[limit.all]\neach = \"gateway\"\n{MANY}\n[redis]\n{}\n",
            setting(&servers)
        ));
    let gateways: Vec<Gateway> = (0..2).map(|_| Gateway::start(&toml)).collect();
    for gateway in &gateways {
        is_shared(gateway, true).await;
    }
    let load = Load::on(&gateways);
    load.goes_on_for(40).await;
    for suffix in ["*:c:*", "*:w"] {
        let found = servers.iter().find_map(|server| match server.command(&["KEYS", suffix]) {
            Reply::List(keys) if !keys.is_empty() => Some(keys[0].text()),
            _ => None,
        });
        let slot = servers[0].command(&["CLUSTER", "KEYSLOT", &found.unwrap()]).number();
        move_slot(&servers, slot).await;
        load.goes_on_for(40).await;
    }
    let sent = load.end().await;
    for gateway in &gateways {
        // On a busy machine a late reply may have closed the store for a moment.
        is_shared(gateway, true).await;
        let state = sharing(gateway).state();
        println!("slots moved: {} of {sent} by local limits", state.fallbacks);
        assert!(waits(gateway).mean() < 1.0, "{:?}", waits(gateway));
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
        move_slot(&servers, servers[0].command(&["CLUSTER", "KEYSLOT", &key]).number()).await;
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
