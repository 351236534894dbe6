//! Servers that ask who comes: TLS, passwords, and users with few permissions.

use std::time::Duration;

use super::process::Process;
use crate::{
    folder::Folder,
    harness::{
        redis::{RedisServer, Reply, free_port},
        safely, simulator,
    },
    tls::pki::Authority,
};

const TEN: &str = "requests = 10\nper = \"366d\"\nburst = { requests = 10 }";

/// What Redis 7.0 says of a command that a script may not run.
const SCRIPT: &str = "can't run this command";

/// A certificate for servers on this machine, and the authority that vouches for it.
pub struct Pki {
    authority: String,
    certificate: String,
    key: String,
    folder: Folder,
}

/// A server that listens for TLS, too.
struct TlsServer {
    _redis: RedisServer,
    port: u16,
    pki: Pki,
}

impl Pki {
    pub fn new() -> Self {
        let (authority, folder) = (Authority::new(), Folder::new());
        let issued = authority.issue(&["127.0.0.1"]);
        Self {
            authority: folder.write("ca.pem", &authority.pem()),
            certificate: folder.write("redis.pem", &issued.certificate),
            key: folder.write("redis.key", &issued.key),
            folder,
        }
    }

    /// Arguments of a server that listens for TLS at a port, and for which all of `uses` are on.
    pub fn listening(&self, port: u16, uses: &[&str]) -> Vec<String> {
        let settings = self.settings(port, uses);
        settings
            .lines()
            .flat_map(|line| format!("--{line}").split(' ').map(str::to_owned).collect::<Vec<_>>())
            .collect()
    }

    /// The same as lines of a file.
    pub fn settings(&self, port: u16, uses: &[&str]) -> String {
        let Self { authority, certificate, key, .. } = self;
        let uses: String = uses.iter().map(|name| format!("\n{name} yes")).collect();
        format!(
            "tls-port {port}\ntls-cert-file {certificate}\ntls-key-file {key}\ntls-ca-cert-file {authority}\n\
             tls-auth-clients no{uses}"
        )
    }

    /// The file with the authority.
    pub fn authority(&self) -> &str {
        &self.authority
    }
}

impl TlsServer {
    fn start() -> Self {
        let (pki, port) = (Pki::new(), free_port());
        let settings = pki.listening(port, &[]);
        let settings: Vec<&str> = settings.iter().map(String::as_str).collect();
        Self { _redis: RedisServer::start(&settings), port, pki }
    }

    fn url(&self) -> String {
        format!("url = \"rediss://127.0.0.1:{}/0\"\ntimeout = \"1s\"", self.port)
    }
}

#[tokio::test]
async fn limits_are_shared_over_tls_with_an_authority_of_its_own() {
    let (upstream, server) = (simulator().await, TlsServer::start());
    let servers = format!("{}\ntls = {{ ca = {:?} }}", server.url(), server.pki.authority());
    let mut gateways = [(); 2].map(|()| Process::start(&upstream, &servers, TEN));
    for gateway in &mut gateways {
        gateway.line("Redis available");
        gateway.is_shared(true).await;
    }
    let (one, other) = tokio::join!(gateways[0].admitted(20), gateways[1].admitted(20));
    assert_eq!(one + other, 10);
    for gateway in gateways {
        assert_eq!(gateway.measured().await.value("fallbacks_total"), 0.0);
        assert_eq!(gateway.changes().len(), 1);
    }
}

#[tokio::test]
async fn a_server_whose_certificate_nobody_vouches_for_is_not_used() {
    let (upstream, server) = (simulator().await, TlsServer::start());
    let other = server.pki.folder.write("other.pem", &Authority::new().pem());
    for tls in ["", &format!("tls = {{ ca = {other:?} }}")] {
        is_refused(&upstream, &format!("{}\n{tls}", server.url()), &[], "certificate").await;
    }
}

/// A gateway that cannot use these servers says so once, has `reason` in `/status`, and counts by itself.
#[expect(clippy::print_stdout, reason = "the line is for readers")]
pub async fn is_refused(
    upstream: &sluicegate::simulator::Simulator,
    servers: &str,
    variables: &[(&str, &str)],
    reason: &str,
) {
    let mut gateway = Process::start_with(upstream, servers, TEN, variables);
    gateway.line("Redis unavailable");
    assert_eq!(gateway.admitted(20).await, 10);
    gateway.page("/readyz").await;
    safely(async {
        while !gateway.page("/status").await.contains(reason) {
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    })
    .await;
    // Further attempts.
    tokio::time::sleep(Duration::from_millis(2_500)).await;
    let measured = gateway.measured().await;
    assert!(measured.is_away() && measured.waits() == 0.0);
    let changes = gateway.changes();
    assert_eq!(changes.len(), 1, "{changes:#?}");
    println!("{}", changes[0]);
}

/// What the manual tells to give the user: for all servers, and for those of a cluster.
pub fn documented() -> Vec<Vec<String>> {
    let page = include_str!("../../../docs/how-to/redis.md");
    let lines = page.lines().filter_map(|line| line.strip_prefix("redis-cli ACL SETUSER gateway "));
    let rules = |line: &str| line.split(" #").next().unwrap().replace('\'', "");
    lines.map(|line| rules(line).split_whitespace().map(str::to_owned).collect()).collect()
}

/// Makes the user as the manual says, with further rules.
pub fn set_user(redis: &RedisServer, rules: &[String], more: &[&str]) {
    let mut command = vec!["ACL", "SETUSER", "gateway"];
    command.extend(rules.iter().map(String::as_str));
    command.extend(more);
    let reply = redis.command(&command);
    assert!(matches!(reply, Reply::Text(_)), "{reply:?}");
}

/// Times that the server has refused the user something.
fn refusals(redis: &RedisServer) -> i64 {
    let Reply::List(entries) = redis.command(&["ACL", "LOG"]) else { panic!() };
    let count = |entry: &Reply| match entry {
        Reply::List(fields) => fields[1].number(),
        _ => 0,
    };
    entries.iter().map(count).sum()
}

fn user(redis: &RedisServer) -> String {
    let url = redis.url();
    format!(
        "url = \"{url}\"\ntimeout = \"1s\"\nusername = \"gateway\"\npassword = {{ env = \"REDIS_PASSWORD\" }}"
    )
}

#[tokio::test]
async fn the_documented_permissions_are_enough() {
    let (upstream, redis) = (simulator().await, RedisServer::start(&[]));
    set_user(&redis, &documented()[0], &[]);
    let limit = format!("{TEN}\nconcurrent = 5");
    let password = [("REDIS_PASSWORD", "PASSWORD")];
    let mut gateway = Process::start_with(&upstream, &user(&redis), &limit, &password);
    gateway.line("Redis available");
    gateway.is_shared(true).await;
    assert!((5..=10).contains(&gateway.admitted(20).await));
    // Corrections, signs of life, scripts that were forgotten, a loss of everything.
    redis.command(&["SCRIPT", "FLUSH"]);
    redis.command(&["FLUSHALL"]);
    safely(async {
        while redis.command(&["ZCARD", "sluicegate:nodes"]).number() == 0 {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    })
    .await;
    assert!(gateway.admitted(1).await <= 1);
    assert_eq!(gateway.measured().await.value("fallbacks_total"), 0.0);
    assert_eq!(gateway.changes().len(), 1);
    assert_eq!(refusals(&redis), 0, "{:?}", redis.command(&["ACL", "LOG"]));
    assert_eq!(redis.command(&["ZCARD", "sluicegate:nodes"]).number(), 0, "it has said that it leaves");
}

#[tokio::test]
async fn a_wrong_password_and_a_missing_permission_are_one_line_each() {
    let upstream = simulator().await;
    let redis = RedisServer::start(&[]);
    set_user(&redis, &documented()[0], &[]);
    is_refused(&upstream, &user(&redis), &[("REDIS_PASSWORD", "WRONG")], "WRONGPASS").await;
    assert!(refusals(&redis) >= 2, "it has tried again");
    for (rule, reason) in
        [("-set", SCRIPT), ("-zadd", SCRIPT), ("-evalsha", "NOPERM"), ("resetkeys", "NOPERM")]
    {
        set_user(&redis, &documented()[0], &[rule]);
        redis.command(&["ACL", "LOG", "RESET"]);
        is_refused(&upstream, &user(&redis), &[("REDIS_PASSWORD", "PASSWORD")], reason).await;
        assert!(refusals(&redis) >= 2, "{rule}: it has tried again");
    }
}
