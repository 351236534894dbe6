//! An upstream: its targets, how they are chosen, and how they are reached.

use std::{sync::Arc, time::Duration};

use http::{HeaderName, HeaderValue, Uri};
use rustls::{RootCertStore, sign::CertifiedKey};

use super::{Breaker, Retry, Timeouts};
use crate::config::secret::Secret;

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
