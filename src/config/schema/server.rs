//! `[server]`, `[log]` and `[admin]`.

use std::{
    net::SocketAddr,
    ops::RangeInclusive,
    path::{Path, PathBuf},
    sync::Arc,
    thread::available_parallelism,
    time::Duration,
};

use super::{Source, timeouts::SPANS};
use crate::config::{
    declare::{
        Context, Effect, Keys as _, Kind as _, Secrecy, Shape, choice, count, defaults_table, directory,
        flag, parse_as, secret, section, size, span, table, text,
    },
    problem::{Complaint, complaint},
    reader::{Node, Table},
    secret::Secret,
    source, url,
};

const DRAINS: RangeInclusive<Duration> = Duration::ZERO..=Duration::from_secs(86_400);

const STATE_SPANS: RangeInclusive<Duration> = Duration::from_secs(1)..=Duration::from_secs(86_400);

const fn seconds(seconds: u64) -> Duration {
    Duration::from_secs(seconds)
}

defaults_table! {
    /// `[server]`: the process and its client connections.
    #[derive(Debug, Clone)]
    pub struct Server {
        threads: usize = count::<usize>(1..=256).or(one_per_core()),
            "Number of worker threads.",
            { default: "one per CPU core", example: &["2"], effect: Effect::Restart };
        max_connections: usize = count::<usize>(1..=1 << 20).or(16_384),
            "Maximum number of open client connections. At the limit, new connections wait in the backlog of the socket.",
            { effect: Effect::Restart };
        backlog: u32 = count::<u32>(1..=65_535).or(4096),
            "Backlog of each listening socket: connections that the kernel holds until the gateway accepts them.",
            { effect: Effect::Restart };
        handshake_timeout: Duration = span(SPANS).or(seconds(10)),
            "Timeout for the PROXY protocol header and the TLS handshake together.",
            { effect: Effect::NewConnections };
        header_timeout: Duration = span(SPANS).or(seconds(10)),
            "Timeout for the head of a request, measured from its first byte (for the first request: from the start of the connection).",
            { effect: Effect::NewConnections };
        keep_alive: Duration = span(SPANS).or(seconds(75)),
            "How long an idle client connection stays open.",
            { effect: Effect::NewConnections };
        body_idle: Duration = span(SPANS).or(seconds(60)),
            "Maximum pause within a request body.";
        write_stall: Duration = span(SPANS).or(seconds(150)),
            "Maximum time during which a client takes nothing of a response that is ready for it. However little a client takes \
             within the time, it is not cut. The kernel of a slow Linux client takes up to 128 KiB at once and nothing more until these are read; \
             the default suits clients that read 1 KiB/s. Checked every quarter of the time, at least every 15 s.",
            { effect: Effect::NewConnections };
        linger: Duration = span(SPANS).or(seconds(10)),
            "After an early response, how long the rest of an upload is read and dropped, so that the client gets to read the response.",
            { effect: Effect::NewConnections };
        max_header_size: usize = size::<usize>(8 << 10..=1 << 20).or(64 << 10),
            "Maximum size of a request head (HTTP/1.1) or a header list (HTTP/2).",
            { effect: Effect::NewConnections };
        max_headers: usize = count::<usize>(1..=1000).or(100),
            "Maximum number of header lines in a request.",
            { effect: Effect::NewConnections };
        http2_max_streams: u32 = count::<u32>(1..=10_000).or(128),
            "Maximum number of concurrent streams on one HTTP/2 connection.",
            { effect: Effect::NewConnections };
        http2_ping: Option<Duration> = span(SPANS).or_off().or(Some(seconds(20))),
            "After how much silence an HTTP/2 connection is probed with a PING. It is closed when there is no reply within 5 min, because a PING waits \
             behind what a slow client has not taken yet; `write_stall` finds a client that has vanished.",
            { effect: Effect::NewConnections };
        max_buffered: u64 = size::<u64>(1 << 20..=1 << 40).or(512 << 20),
            "Maximum size of all bodies that are held in memory at once, in the whole process: request bodies, edited copies of them, \
             decoders, complete responses (`delivery = \"whole\"`), held starts of streams and held errors. A request body or a complete response that would exceed it gets \
             a 503; the start of a stream is then forwarded at once. The peak of the process is this plus at most 512 KiB for each request.";
        max_requests: Option<u32> = count::<u32>(1..=10_000_000).optional(),
            "Maximum number of requests in flight in the whole process, after authentication. Further ones get a 503 with `retry-after` before their body \
             is read: those of clients with low priority from 80 % of it, with normal priority from 90 %.",
            { default: "none", example: &["20_000"], since: "0.2.0" };
        state_directory: Option<PathBuf> = directory().optional(),
            "Directory for what is to outlive a restart: which provider account knows an id (see `account` of `upstream.keys`). It is made if \
             it is not there.",
            { default: "$STATE_DIRECTORY, which systemd sets for units with `StateDirectory=`; else nothing outlives a restart",
              example: &[r#""/var/lib/sluicegate""#], effect: Effect::Restart, since: "0.2.0" };
        seal_key: Option<Secret> = parse_as(|| Shape::Source(Source::keys()), seal_key).optional(),
            "The secret that seals ephemeral keys (`POST /v1/realtime/client_secrets`), at least 32 characters. Gateways with the same one take each \
             other's ephemeral keys, and they stay valid when a gateway is restarted.",
            { default: "random at each start", example: &[r#"{ env = "SEAL_KEY" }"#], effect: Effect::Restart, secrecy: Secrecy::Secret, since: "0.2.0" };
        public_url: Option<Arc<str>> = text("URL without a path", public_url).optional(),
            "Scheme, host and port by which clients reach the gateway, for URLs in responses that lead back to it (an Anthropic batch's `results_url`).",
            { default: "as each request names them: its host, and https if it came over TLS", example: &[r#""https://llm.example.com""#], since: "0.2.0" };
        spool_above: u64 = size::<u64>(64 << 10..=1 << 30).or(8 << 20),
            "Up to which size a multipart form is held in memory where the gateway has to know its `model` (`models` of the client, `[model]` tables, a model \
             of the route's own, Azure deployments). A larger one is written to an unnamed file until it is complete. Other forms are forwarded as \
             they arrive.",
            { since: "0.2.0" };
        spool_directory: Arc<Path> = text("path", spool_directory).or(usual_spool_directory()),
            "Folder of these files. A relative path starts at the working directory of the process.",
            { default: "the state directory of the systemd unit, else the system's folder for temporary files", example: &[r#""/var/tmp""#], since: "0.2.0" };
        max_spooled: u64 = size::<u64>(1 << 20..=1 << 44).or(16 << 30),
            "Maximum size of all these files together, in the whole process. A form that would exceed it gets a 503. Each form is bounded by `body_limit` of its route.",
            { since: "0.2.0" };
        drain: Drain = section::<Drain>(),
            "What happens between SIGTERM and the end of the process.";
    }
}

defaults_table! {
    /// What happens between SIGTERM and the end of the process.
    #[derive(Debug, Clone, Copy, PartialEq, Eq)]
    pub struct Drain {
        announce: Duration = span(DRAINS).or(Duration::ZERO),
            "How long connections are still accepted while /readyz already reports that the gateway is not ready.";
        deadline: Duration = span(DRAINS).or(seconds(60)),
            "How long requests in flight may continue, from the end of `announce` on, before they are aborted.";
    }
}

defaults_table! {
    /// `[log]`
    #[derive(Debug, Clone)]
    pub struct Log {
        format: LogFormat = choice(&[("json", LogFormat::Json), ("text", LogFormat::Text)]).or(LogFormat::Json),
            "Format of log lines: one JSON object per line, or `key=value` pairs for reading in a terminal.",
            { effect: Effect::Restart };
        access: bool = flag().or(true),
            "Whether one line is written for each request.";
        level: tracing::Level = choice(LEVELS).or(tracing::Level::INFO),
            "Level of the gateway's own messages.",
            { effect: Effect::Restart };
        state: Option<Duration> = span(STATE_SPANS).or_off().or(None),
            "How often a line of state is written: requests in flight, and what has ended since the last line, with tokens and errors.",
            { example: &[r#""10s""#], since: "0.2.0" };
    }
}

/// How log lines are written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LogFormat {
    /// One JSON object a line.
    Json,
    /// `key=value` pairs, for a person at a terminal.
    Text,
}

const LEVELS: &[(&str, tracing::Level)] = &[
    ("error", tracing::Level::ERROR),
    ("warn", tracing::Level::WARN),
    ("info", tracing::Level::INFO),
    ("debug", tracing::Level::DEBUG),
    ("trace", tracing::Level::TRACE),
];

table! {
    /// `[admin]`: the operator's listener.
    #[derive(Debug, Clone)]
    pub struct Admin(table, context) {
        address: SocketAddr = text("IP address and port", address).required(r#"for example: address = "127.0.0.1:9901""#),
            "Address to listen on.",
            { shipped: r#""127.0.0.1:9901""#, effect: Effect::Restart };
        token: Option<Secret> = secret().optional(),
            "Required from operators as `Authorization: Bearer …`. Must be set unless `address` is a loopback address.",
            { example: &[r#"{ env = "SLUICEGATE_ADMIN_TOKEN" }"#], secrecy: Secrecy::Secret };
        actions: bool = flag().or(false),
            "Whether operators may act on the live page: cancel requests, open and close circuit breakers, drain. Needs `token`, also on a \
             loopback address.",
            { since: "0.2.0" };
    }
    check { needs_token(table, address, actions) }
}

fn public_url(text: &str) -> Result<Arc<str>, Complaint> {
    let url = url::target(text)?;
    if url.path() != "/" {
        return Err(complaint("must not have a path", r#"for example "https://llm.example.com""#));
    }
    Ok(text.trim_end_matches('/').into())
}

fn spool_directory(text: &str) -> Result<Arc<Path>, Complaint> {
    if text.is_empty() {
        return Err(complaint("is an empty path", "write the path of a folder"));
    }
    Ok(Path::new(text).into())
}

/// `STATE_DIRECTORY` is set by systemd (systemd.exec(5)); of several folders the first.
fn usual_spool_directory() -> Arc<Path> {
    let state = std::env::var_os("STATE_DIRECTORY");
    let first = state.as_ref().and_then(|all| std::env::split_paths(all).next());
    first.filter(|path| path.is_absolute()).unwrap_or_else(std::env::temp_dir).into()
}

/// The fewest characters of a seal key.
const SHORTEST_SEAL_KEY: usize = 32;

fn seal_key(node: &Node<'_>, context: &Context<'_>) -> Option<Secret> {
    let secret = source::secret(node, context.env)?;
    if secret.expose().len() < SHORTEST_SEAL_KEY {
        node.fail(complaint(
            "refers to a secret of less than 32 characters",
            "make one by `head -c 32 /dev/urandom | base64`",
        ));
        return None;
    }
    Some(secret)
}

fn needs_token(table: &Table<'_>, address: Option<SocketAddr>, actions: Option<bool>) {
    if let Some(node) = table.get("actions").filter(|_| actions == Some(true) && table.get("token").is_none())
    {
        node.fail(complaint(
            "needs `token`, which is not set",
            r#"add token = { env = "SLUICEGATE_ADMIN_TOKEN" }"#,
        ));
    }
    let exposed = address.is_some_and(|address| !address.ip().to_canonical().is_loopback());
    if let Some(node) = table.get("address").filter(|_| exposed && table.get("token").is_none()) {
        node.fail(complaint(
            "is not a loopback address, and `token` is not set",
            r#"add token = { env = "SLUICEGATE_ADMIN_TOKEN" }, or listen on 127.0.0.1"#,
        ));
    }
}

/// An address to listen on. Host names are refused: one may resolve to several addresses.
pub(crate) fn address(text: &str) -> Result<SocketAddr, Complaint> {
    text.parse().map_err(|_| {
        complaint(
            "is not an IP address with a port",
            r#"for example "127.0.0.1:8443", "0.0.0.0:8443" or "[::]:8443""#,
        )
    })
}

fn one_per_core() -> usize {
    available_parallelism().map_or(1, usize::from).min(256)
}
