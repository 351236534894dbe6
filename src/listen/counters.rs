//! Connection-level events outside a request.

use crate::telemetry::metrics::count::Count;

/// Counted since the process started, by class, and read by the metrics. A connection touches each counter once or twice.
#[derive(Debug, Default)]
pub struct Counters {
    /// Connections taken from a listening socket.
    pub accepted: Count,
    /// Accepting failed for lack of a resource (file descriptors, memory); counted once per burst.
    pub accept_failed: Count,
    /// Connections that were still in the backlog when a drain was cut.
    pub unserved: Count,
    /// The PROXY protocol header was missing, malformed, too long, or came from a peer that is not trusted.
    pub proxy_refused: Count,
    /// The TLS handshake failed.
    pub handshake_failed: Count,
    /// A request came as plain HTTP on a listener with TLS.
    pub plain_http: Count,
    /// A client began a TLS handshake on a listener without TLS.
    pub tls_on_plain: Count,
    /// The PROXY header and the TLS handshake were not done within `handshake_timeout`.
    pub handshake_timeout: Count,
    /// hyper rejected the head of a request (malformed, too long, too many headers).
    pub bad_head: Count,
    /// A request head was not complete within `header_timeout`.
    pub header_timeout: Count,
    /// An idle connection was closed after `keep_alive`.
    pub idle_closed: Count,
    /// The client read nothing for `write_stall`: connections and, on HTTP/2, streams.
    pub write_stalled: Count,
}
