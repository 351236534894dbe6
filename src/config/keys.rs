//! The keys that each table of the file knows. This is the one list of them: a table refuses any other key, the shipped
//! `gateway.toml` must show each.

pub(crate) const ROOT: &[&str] =
    &["listener", "admin", "server", "log", "defaults", "upstream", "route", "client"];
pub(crate) const LISTENER: &[&str] = &["address", "tls", "h2c", "client_address", "trusted"];
pub(crate) const LISTENER_TLS: &[&str] = &["certificate", "key", "certificates", "client_ca", "min_version"];
pub(crate) const CERTIFICATE: &[&str] = &["certificate", "key"];
pub(crate) const ADMIN: &[&str] = &["address", "token"];
pub(crate) const SERVER: &[&str] = &[
    "threads",
    "max_connections",
    "backlog",
    "handshake_timeout",
    "header_timeout",
    "keep_alive",
    "body_idle",
    "write_stall",
    "linger",
    "max_header_size",
    "max_headers",
    "http2_max_streams",
    "http2_ping",
    "max_buffered",
    "drain",
];
pub(crate) const DRAIN: &[&str] = &["announce", "deadline"];
pub(crate) const LOG: &[&str] = &["format", "access", "level"];
pub(crate) const DEFAULTS: &[&str] = &["body_limit", "timeout", "retry", "breaker", "heartbeat"];
pub(crate) const TIMEOUT: &[&str] = &["connect", "first_byte", "first_token", "idle", "total"];
pub(crate) const RETRY: &[&str] = &["retries", "backoff", "max_backoff"];
pub(crate) const BREAKER: &[&str] = &["failures", "open"];
pub(crate) const UPSTREAM: &[&str] = &[
    "url",
    "targets",
    "key",
    "keys",
    "auth",
    "headers",
    "http2",
    "tls",
    "proxy",
    "pool",
    "balance",
    "max_pending",
    "max_connections",
    "timeout",
    "retry",
    "breaker",
    "heartbeat",
];
pub(crate) const TARGET: &[&str] = &["url", "weight"];
pub(crate) const AUTH: &[&str] = &["header"];
pub(crate) const BALANCE: &[&str] = &["hash"];
pub(crate) const HASH: &[&str] = &["header"];
pub(crate) const UPSTREAM_TLS: &[&str] = &["ca", "certificate", "key", "server_name"];
pub(crate) const PROXY: &[&str] = &["url", "credentials"];
pub(crate) const POOL: &[&str] = &["idle", "max_idle"];
pub(crate) const ROUTE: &[&str] = &[
    "path",
    "hosts",
    "methods",
    "upstreams",
    "rewrite",
    "access",
    "body_limit",
    "timeout",
    "retry",
    "breaker",
    "heartbeat",
    "commit",
    "commit_after",
    "delivery",
    "on_disconnect",
    "next_on_context_length",
    "attempt_headers",
    "request_headers",
    "response_headers",
    "forward_address",
];
pub(crate) const CHOICE: &[&str] = &["upstream", "model"];
pub(crate) const HEADER_RULES: &[&str] = &["set", "remove", "allow", "only"];
pub(crate) const CLIENT: &[&str] = &["key", "keys", "routes", "models"];
/// Where a secret is to be read from.
pub(crate) const SOURCE: &[&str] = &["env", "file", "credential"];

/// Every list with the top-level table in which its keys are written.
#[cfg(test)]
pub(crate) const ALL: &[(&str, &[&str])] = &[
    ("listener", LISTENER),
    ("listener", LISTENER_TLS),
    ("listener", CERTIFICATE),
    ("admin", ADMIN),
    ("server", SERVER),
    ("server", DRAIN),
    ("log", LOG),
    ("defaults", DEFAULTS),
    ("defaults", TIMEOUT),
    ("defaults", RETRY),
    ("defaults", BREAKER),
    ("upstream", UPSTREAM),
    ("upstream", TARGET),
    ("upstream", AUTH),
    ("upstream", BALANCE),
    ("upstream", HASH),
    ("upstream", UPSTREAM_TLS),
    ("upstream", PROXY),
    ("upstream", POOL),
    ("upstream", SOURCE),
    ("route", ROUTE),
    ("route", CHOICE),
    ("route", HEADER_RULES),
    ("client", CLIENT),
];
