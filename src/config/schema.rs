//! The shape of a configuration that was read and found sound: names resolved, defaults inherited, secrets and
//! certificates loaded. Nothing after this re-checks any of it.
//!
//! Every key that may be written in `gateway.toml` is a field here (or parses into one), and its default is told on the field.

use std::{
    collections::BTreeMap,
    net::{IpAddr, SocketAddr},
    path::PathBuf,
    sync::Arc,
    time::Duration,
};

use http::{HeaderName, HeaderValue, Method, Uri};
use rustls::{RootCertStore, sign::CertifiedKey};

use super::secret::{KeyHash, Secret};

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
    /// Sound, but worth saying (a key that has no effect, a certificate that ends soon).
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

/// Clocks of an exchange, each named by the event that it waits for. `[defaults] timeout = { … }`, overridden key by key
/// in an upstream's `timeout`, and then in a route's.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Timeouts {
    /// `connect = "5s"`: TCP and TLS, each address tried within it.
    pub connect: Duration,
    /// `first_byte = "600s"`: the upstream's response head.
    pub first_byte: Option<Duration>,
    /// `first_token = "off"`: the first piece of what is being said in a streamed answer.
    pub first_token: Option<Duration>,
    /// `idle = "300s"`: the longest silence within the upstream's answer, while it is being asked.
    pub idle: Option<Duration>,
    /// `total = "off"`: the whole exchange.
    pub total: Option<Duration>,
}

/// The keys of a `timeout` table that were written there; `None`: inherited.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct TimeoutOverrides {
    /// See [`Timeouts::connect`].
    pub connect: Option<Duration>,
    /// See [`Timeouts::first_byte`]; `Some(None)`: written as "off".
    pub first_byte: Option<Option<Duration>>,
    /// See [`Timeouts::first_token`].
    pub first_token: Option<Option<Duration>>,
    /// See [`Timeouts::idle`].
    pub idle: Option<Option<Duration>>,
    /// See [`Timeouts::total`].
    pub total: Option<Option<Duration>>,
}

/// `retry = { retries = 3, backoff = "1s", max_backoff = "8s" }` or "off" (`retries` 0). `[defaults]`, overridden key by key in an
/// upstream, and then in a route; a table below an "off" begins with the values that are told here.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Retry {
    /// `retries = 3`: attempts after the first one; 0 to 10.
    pub retries: u32,
    /// `backoff = "1s"`: the wait before the first of them.
    pub backoff: Duration,
    /// `max_backoff = "8s"`: the longest wait before any of them; not below `backoff`.
    pub max_backoff: Duration,
}

/// The keys of `retry` that were written at one level.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum RetryOverrides {
    /// Nothing was: inherited.
    #[default]
    Inherited,
    /// "off"
    Off,
    /// A table; `None`: inherited, or the built-in default when that is off.
    Keys {
        /// See [`Retry::retries`].
        retries: Option<u32>,
        /// See [`Retry::backoff`].
        backoff: Option<Duration>,
        /// See [`Retry::max_backoff`].
        max_backoff: Option<Duration>,
    },
}

/// `breaker = { failures = 5, open = "10s" }` or "off": when a target is left alone for a while. Inherited as [`Retry`] is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Breaker {
    /// `failures = 5`: so many in a row open it; 1 to 1000.
    pub failures: u32,
    /// `open = "10s"`: for so long nothing is asked of the target.
    pub open: Duration,
}

/// The keys of `breaker` that were written at one level.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum BreakerOverride {
    /// Nothing was: inherited.
    #[default]
    Inherited,
    /// "off"
    Off,
    /// A table; `None`: inherited, or the built-in default when that is off.
    Keys {
        /// See [`Breaker::failures`].
        failures: Option<u32>,
        /// See [`Breaker::open`].
        open: Option<Duration>,
    },
}

/// `[upstream.NAME]`: a named pool of targets.
#[derive(Debug, Clone)]
pub struct Upstream {
    /// `url = "https://api.openai.com"`, or `targets = [{ url = "…", weight = 2 }, …]`; one of both is required. http or https, no query, no
    /// user info; a path is put before the request's.
    pub targets: Vec<Target>,
    /// `key = { env = "…" }` / `{ file = "…" }` / `{ credential = "…" }`, or `keys = [ … ]`; required unless `auth = "none"`.
    pub keys: Vec<Secret>,
    /// `auth = "bearer" | { header = "api-key" } | "none"`; default "bearer".
    pub auth: Auth,
    /// `headers = { openai-organization = "org-…" }`: set on each request to it; default none. May not name a hop-by-hop or framing header, or the auth one.
    pub headers: Vec<(HeaderName, HeaderValue)>,
    /// `http2 = true`: talk HTTP/2 to it (by ALPN over TLS, else by prior knowledge); default false: HTTP/1.1.
    pub http2: bool,
    /// `tls = { ca = "…", certificate = "…", key = "…", server_name = "…" }`; default: the system's roots, no client certificate.
    pub tls: UpstreamTls,
    /// `proxy = "http://user:password@proxy:3128" | "env" | "off"`: HTTP CONNECT egress; default "off". "env" reads HTTPS_PROXY (HTTP_PROXY for http targets) and NO_PROXY. A proxy's credentials
    /// may be given as `proxy = { url = "http://proxy:3128", credentials = { env = "…" } }` (user:password).
    pub proxy: Option<EgressProxy>,
    /// `pool = { idle = "30s", max_idle = 256 }`
    pub pool: Pool,
    /// `balance = "least_pending" | "round_robin" | { hash = "caller" | "prompt" | { header = "x-session" } }`; default "least_pending".
    pub balance: Balance,
    /// `max_pending = 100`: requests at once to a target, process-wide; default none; 1 to 1,000,000.
    pub max_pending: Option<usize>,
    /// `max_connections = 100`: connections at once to a target, process-wide; default none; 1 to 1,000,000. With `http2` as many as there
    /// are workers at least, or some of them wait until another's is idle.
    pub max_connections: Option<usize>,
    /// `timeout = { … }`: what this upstream overrides, `[defaults]` applied already.
    pub timeout: Timeouts,
    /// `retry = { … }`, `[defaults]` applied already.
    pub retry: Retry,
    /// `breaker = { … }`, `[defaults]` applied already; `None`: "off".
    pub breaker: Option<Breaker>,
    /// `heartbeat = "15s"`: a silence in an event stream after which the caller gets a comment, `[defaults]` applied already; default
    /// "off"; 1 s to 1 h.
    pub heartbeat: Option<Duration>,
}

/// Which of an upstream's targets is asked.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub enum Balance {
    /// The one with the fewest requests under way for its weight.
    #[default]
    LeastPending,
    /// Each in its turn, by weight.
    RoundRobin,
    /// Always the same one for the same value, as long as it can be asked.
    Hash(HashBy),
}

/// What it is that leads requests to the same target.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum HashBy {
    /// `"caller"`: who asks; without a caller, the address that asks.
    Caller,
    /// `"prompt"`: how the prompt begins, so that an upstream that caches what it has read finds it again.
    Prompt,
    /// `{ header = "x-session" }`: that header's value; without it, the caller.
    Header(HeaderName),
}

/// One base URL.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Target {
    /// Scheme, host, port and base path (no trailing slash kept: "" or "/x").
    pub url: Uri,
    /// `weight = 1`: its share of requests; 1 to 1000.
    pub weight: u32,
}

/// How the upstream wants its key.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Auth {
    /// `Authorization: Bearer KEY`.
    Bearer,
    /// The key alone in this header.
    Header(HeaderName),
    /// No key is sent.
    None,
}

/// TLS towards an upstream.
#[derive(Debug, Clone, Default)]
pub struct UpstreamTls {
    /// Trust these instead of the system's roots.
    pub ca: Option<Arc<RootCertStore>>,
    /// Shown when asked for.
    pub certificate: Option<Arc<CertifiedKey>>,
    /// Expected in the upstream's certificate and sent as SNI instead of the URL's host.
    pub server_name: Option<rustls::pki_types::ServerName<'static>>,
}

/// An HTTP CONNECT proxy on the way to an upstream.
#[derive(Debug, Clone)]
pub struct EgressProxy {
    /// `http://host:port`, user info taken out.
    pub url: Uri,
    /// For `proxy-authorization: Basic`, as `user:password`.
    pub credentials: Option<Secret>,
    /// Hosts reached directly (from NO_PROXY).
    pub bypass: Vec<String>,
}

/// Idle connections kept to a target, by each worker.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Pool {
    /// `idle = "30s"`: an unused connection is closed after that; well under what upstream edges wait.
    pub idle: Duration,
    /// `max_idle = 256`
    pub max_idle: usize,
}

/// `[route.NAME]`: which requests go to which upstream, and how.
#[derive(Debug, Clone)]
pub struct Route {
    /// `path = "/v1"`: prefix, matched on a segment boundary, the longest wins; required; canonical (no `//`, dot segments or escapes), "/" for all.
    pub path: String,
    /// `hosts = ["api.example.com"]`: without port, lowercase; default any. A route that names the host wins over one that does not.
    pub hosts: Vec<String>,
    /// `methods = ["POST"]`; default any but CONNECT and TRACE.
    pub methods: Vec<Method>,
    /// `upstreams = ["openai", { upstream = "azure", model = "gpt-4o-eu" }]`: required; the order in which they are asked. None with
    /// the same model twice.
    pub upstreams: Vec<Choice>,
    /// `rewrite = "/v1"`: what the prefix becomes; default: it stays.
    pub rewrite: Option<String>,
    /// `access = "keys" | "open"`; default "keys": a caller is needed. "open" without any `[client]` must be said out loud.
    pub open: bool,
    /// `body_limit = "32MiB"`: of a JSON body, inherited from `[defaults]`; 1 KiB to 1 GiB.
    pub body_limit: u64,
    /// `timeout = { … }`: what this route overrides.
    pub timeout: TimeoutOverrides,
    /// `retry = { … }`: what this route overrides of its first upstream's.
    pub retry: RetryOverrides,
    /// `breaker = { … }`: what this route overrides of its first upstream's.
    pub breaker: BreakerOverride,
    /// `heartbeat = "15s"`, in place of its first upstream's; `Some(None)`: written as "off".
    pub heartbeat: Option<Option<Duration>>,
    /// `commit = "headers" | "first_token"`; default: the gateway decides ("first_token" for streams with more than one place to go).
    pub commit: Option<Commit>,
    /// `commit_after = "20s"`: a caller who has waited so long for a stream is answered 200 before there is an answer, and what fails then is
    /// told in the stream; default "off".
    pub commit_after: Option<Duration>,
    /// `delivery = "stream" | "whole"`; default "stream".
    pub delivery: Delivery,
    /// `on_disconnect = "cancel" | "drain"`; default "cancel".
    pub on_disconnect: OnDisconnect,
    /// `next_on_context_length = true`: a request refused with `context_length_exceeded` goes to the next upstream; default false.
    pub next_on_context_length: bool,
    /// `attempt_headers = true`: `x-sluicegate-attempts` and `x-sluicegate-upstream` on answers; default false.
    pub attempt_headers: bool,
    /// `request_headers = { set = { x-a = "1" }, remove = ["x-b"], allow = ["openai-beta"], only = [ … ] }`
    pub request_headers: HeaderRules,
    /// `response_headers = { … }`, the same keys.
    pub response_headers: HeaderRules,
    /// `forward_address = true`: send `x-forwarded-for`, `-proto`, `-host` of our own to the upstream; default false.
    pub forward_address: bool,
}

/// One entry of a route's `upstreams`: `"openai"`, or `{ upstream = "azure", model = "gpt-4o-eu" }`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Choice {
    /// The name of an `[upstream]`.
    pub upstream: Arc<str>,
    /// Asked for there instead of the caller's; 1 to 256 printable characters, no quotes or backslashes. Default: the caller's.
    pub model: Option<Arc<str>>,
}

/// When an answer is the caller's, after which no other upstream is tried.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Commit {
    /// As soon as its head has come.
    Headers,
    /// When its first token has come.
    FirstToken,
}

/// How the answer of an inference reaches the caller.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Delivery {
    /// As it comes.
    #[default]
    Stream,
    /// When it is complete: one that fails midway is asked for elsewhere. It is held in memory, `body_limit` at most.
    Whole,
}

/// What becomes of an upstream's answer when its caller leaves.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum OnDisconnect {
    /// The upstream is told to stop, at once.
    #[default]
    Cancel,
    /// It is read on for its usage, for five minutes and 16 MiB at most.
    Drain,
}

/// What a route does with headers beyond the standing policy. No rule can let a credential through.
#[derive(Debug, Clone, Default)]
pub struct HeaderRules {
    /// Put there, replacing what was.
    pub set: Vec<(HeaderName, HeaderValue)>,
    /// Taken out.
    pub remove: Vec<HeaderName>,
    /// Let through though the standing policy would strip it (never a credential or a hop-by-hop header).
    pub allow: Vec<HeaderName>,
    /// When not empty: nothing else passes.
    pub only: Vec<HeaderName>,
}

/// `[client.NAME]`: a caller.
#[derive(Debug, Clone)]
pub struct Client {
    /// `key = "sha256:…"`, or `keys = [ … ]` (while one is being replaced): hashes of client keys; required; no hash twice in the file.
    pub keys: Vec<KeyHash>,
    /// `routes = ["openai"]`; default: all.
    pub routes: Option<Vec<Arc<str>>>,
    /// `models = ["gpt-4o*"]`: names, a trailing `*` matches any rest; default: all.
    pub models: Option<Vec<String>>,
}
