//! What befell connections before or instead of an exchange.

use crate::telemetry::metrics::count::Count;

/// Counted since the process began, by class; read by the metrics. Each is touched at most once or twice in a connection's life.
#[derive(Debug, Default)]
pub struct Counters {
    /// Connections taken from a listening socket.
    pub accepted: Count,
    /// Accepting failed for want of a resource (open files, memory), counted once for each burst.
    pub accept_failed: Count,
    /// Connections that still waited in the backlog when a drain was cut.
    pub unserved: Count,
    /// The PROXY protocol header was missing, malformed, too long, or came from a peer that is not trusted.
    pub proxy_refused: Count,
    /// The TLS handshake failed.
    pub handshake_failed: Count,
    /// The PROXY header and the TLS handshake were not done within `handshake_timeout`.
    pub handshake_timeout: Count,
    /// hyper refused a request head (malformed, too long, too many lines).
    pub bad_head: Count,
    /// A request head was not complete within `header_timeout`.
    pub header_timeout: Count,
    /// An idle connection was closed after `keep_alive`.
    pub idle_closed: Count,
    /// The caller took nothing for `write_stall`: connections and, on HTTP/2, streams.
    pub write_stalled: Count,
}
