//! The shape of a configuration that was read and found sound: names resolved, defaults inherited, secrets and
//! certificates loaded. Nothing after this re-checks any of it.
//!
//! Every key that may be written in `gateway.toml` is a field here (or parses into one), and its default is told on the field.

mod inherited;
mod route;
mod upstream;

use std::{
    collections::BTreeMap,
    net::{IpAddr, SocketAddr},
    path::PathBuf,
    sync::Arc,
    time::Duration,
};

use rustls::{RootCertStore, sign::CertifiedKey};

use super::secret::Secret;

pub use inherited::{Breaker, BreakerOverride, Retry, RetryOverrides, TimeoutOverrides, Timeouts};
pub use route::{Choice, Client, Commit, Delivery, HeaderRules, OnDisconnect, Route};
pub use upstream::{Auth, Balance, EgressProxy, HashBy, Pool, Target, Upstream, UpstreamTls};

/// One `gateway.toml`, read whole: each table by its name, in the file's terms.
#[derive(Debug)]
pub struct Config {
    /// `[[listener]]`: at least one.
    pub listeners: Vec<Listener>,
    /// `[admin]`: default none, so no admin listener.
    pub admin: Option<Admin>,
    /// `[server]`
    pub server: Server,
    /// `[log]`
    pub log: Log,
    /// `[upstream.NAME]`: at least one.
    pub upstreams: BTreeMap<Arc<str>, Upstream>,
    /// `[route.NAME]`: at least one.
    pub routes: BTreeMap<Arc<str>, Route>,
    /// `[client.NAME]`
    pub clients: BTreeMap<Arc<str>, Client>,
    /// Sound, but worth saying (a key that has no effect, a certificate that ends soon or has ended).
    pub warnings: Vec<super::Problem>,
    /// What `/config` shows: the file as written, which holds references to secrets and never secrets.
    pub redacted: serde_json::Value,
}

/// `[[listener]]`: one address that callers connect to.
#[derive(Debug, Clone)]
pub struct Listener {
    /// `address = "0.0.0.0:8443"` or `"[::]:8443"`; required. An IPv6 wildcard takes IPv6 alone.
    pub address: SocketAddr,
    /// `tls = { … }`; default none: plain HTTP.
    pub tls: Option<ListenerTls>,
    /// `h2c = true`: HTTP/2 by prior knowledge on a plain listener; default false. With TLS, ALPN decides (error to write both).
    pub h2c: bool,
    /// `client_address = "peer" | "x-forwarded-for" | "proxy-protocol"`; default "peer".
    pub client_address: ClientAddress,
}

/// How a listener learns the caller's address.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ClientAddress {
    /// The TCP peer's.
    Peer,
    /// The last address in `x-forwarded-for` that is not a trusted one, when the TCP peer is within `trusted` (required then:
    /// `trusted = ["10.0.0.0/8", "::1"]`).
    ForwardedFor(Vec<Network>),
    /// A PROXY protocol v1 or v2 header, which must open every connection. `trusted` optional: other peers are then refused.
    ProxyProtocol(Vec<Network>),
}

/// An address range, `10.0.0.0/8` or a single address.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Network {
    /// The network's first address.
    pub address: IpAddr,
    /// Leading bits that must be equal.
    pub prefix: u8,
}

/// `tls = { certificate, key, … }` of a listener.
#[derive(Debug, Clone)]
pub struct ListenerTls {
    /// `certificate = "certs/server.pem"`, `key = "certs/server.key"` (or `{ file = }`, `{ env = }`, `{ credential = }`), or several in `certificates = [{ certificate, key }, …]`,
    /// chosen by SNI; the first is the default one.
    pub certificates: Vec<Certificate>,
    /// `client_ca = "ca.pem"` (or `{ credential = }` …): callers must show a certificate that it signed; default none. Each certificate of the file.
    pub client_ca: Option<Arc<RootCertStore>>,
    /// SHA-256 of the client CA's DER certificates, so that sessions are never resumed across a changed one.
    pub client_ca_digest: Option<[u8; 32]>,
    /// `min_version = "1.2" | "1.3"`; default "1.2". Whether TLS 1.2 is served.
    pub tls12: bool,
}

/// A certificate chain, its key, and the DNS names it is for.
#[derive(Debug, Clone)]
pub struct Certificate {
    /// Chain and signing key, found to match.
    pub key: Arc<CertifiedKey>,
    /// Its subject alternative DNS names, lowercase (`*.example.com` kept as written).
    pub names: Vec<String>,
    /// Where it was read from, for messages.
    pub path: PathBuf,
    /// When the first certificate of the chain ends, in seconds since 1970.
    pub not_after: i64,
}

/// `[admin]`: the operator's listener.
#[derive(Debug, Clone)]
pub struct Admin {
    /// `address = "127.0.0.1:9901"`; required.
    pub address: SocketAddr,
    /// `token = { env = "…" }`: asked for as `Authorization: Bearer …`; required when `address` is not a loopback one; default none.
    pub token: Option<Secret>,
}

/// `[server]`: the process and its downstream connections.
#[derive(Debug, Clone)]
pub struct Server {
    /// `threads = 2`: worker threads; default one per core; 1 to 256.
    pub threads: usize,
    /// `max_connections = 16384`: open downstream connections; past it, accepting waits. At least 1.
    pub max_connections: usize,
    /// `backlog = 4096`: of each listening socket.
    pub backlog: u32,
    /// `handshake_timeout = "10s"`: for the PROXY header and the TLS handshake together.
    pub handshake_timeout: Duration,
    /// `header_timeout = "10s"`: a request head must be in by then, from its first byte (or from the connection's start).
    pub header_timeout: Duration,
    /// `keep_alive = "75s"`: an idle connection is closed after that.
    pub keep_alive: Duration,
    /// `body_idle = "60s"`: the longest pause within a request body.
    pub body_idle: Duration,
    /// `write_stall = "60s"`: the longest time for which a caller takes no byte of an answer that waits for it.
    pub write_stall: Duration,
    /// `linger = "10s"`: how long the rest of an upload is read and dropped after an early answer, so that the caller reads the answer.
    pub linger: Duration,
    /// `max_header_size = "64KiB"`: of a request head (HTTP/1.1) and of a header list (HTTP/2); 8 KiB to 1 MiB.
    pub max_header_size: usize,
    /// `max_headers = 100`: lines in a request head; 1 to 1000.
    pub max_headers: usize,
    /// `http2_max_streams = 128`: concurrent streams of a connection.
    pub http2_max_streams: u32,
    /// `http2_ping = "20s"`: pause after which an HTTP/2 connection is probed, "off" for never.
    pub http2_ping: Option<Duration>,
    /// `max_buffered = "512MiB"`: request bodies held in memory, all together, process-wide; past it a request gets a 503.
    pub max_buffered: u64,
    /// `drain = { announce = "0s", deadline = "60s" }`
    pub drain: Drain,
}

/// What happens between SIGTERM and the end.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Drain {
    /// Default "0s": how long connections are still accepted while readiness already says no.
    pub announce: Duration,
    /// Default "60s": how long exchanges in flight may go on.
    pub deadline: Duration,
}

/// `[log]`
#[derive(Debug, Clone)]
pub struct Log {
    /// `format = "json" | "text"`; default "json".
    pub format: LogFormat,
    /// `access = true`: one line for each exchange; default true.
    pub access: bool,
    /// `level = "info"`: of the gateway's own messages (error, warn, info, debug, trace); default "info".
    pub level: tracing::Level,
}

/// How log lines are written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LogFormat {
    /// One JSON object a line.
    Json,
    /// `key=value` pairs, for a person at a terminal.
    Text,
}
