//! What holds when nothing is written. The shipped `gateway.toml` tells these values, and a test compares.

use std::{thread::available_parallelism, time::Duration};

use super::schema::{Breaker, Drain, Log, LogFormat, Pool, Retry, Server, Timeouts};

/// `[defaults] body_limit`, in bytes.
pub(crate) const BODY_LIMIT: u64 = 32 << 20;

impl Default for Server {
    fn default() -> Self {
        Self {
            threads: available_parallelism().map_or(1, usize::from).min(256),
            max_connections: 16_384,
            backlog: 4096,
            handshake_timeout: Duration::from_secs(10),
            header_timeout: Duration::from_secs(10),
            keep_alive: Duration::from_secs(75),
            body_idle: Duration::from_secs(60),
            write_stall: Duration::from_secs(60),
            linger: Duration::from_secs(10),
            max_header_size: 64 << 10,
            max_headers: 100,
            http2_max_streams: 128,
            http2_ping: Some(Duration::from_secs(20)),
            max_buffered: 512 << 20,
            drain: Drain::default(),
        }
    }
}

impl Default for Drain {
    fn default() -> Self {
        Self { announce: Duration::ZERO, deadline: Duration::from_secs(60) }
    }
}

impl Default for Log {
    fn default() -> Self {
        Self { format: LogFormat::Json, access: true, level: tracing::Level::INFO }
    }
}

impl Default for Timeouts {
    fn default() -> Self {
        Self {
            connect: Duration::from_secs(5),
            first_byte: Some(Duration::from_secs(600)),
            first_token: None,
            idle: Some(Duration::from_secs(300)),
            total: None,
        }
    }
}

impl Default for Retry {
    fn default() -> Self {
        Self { retries: 3, backoff: Duration::from_secs(1), max_backoff: Duration::from_secs(8) }
    }
}

impl Default for Breaker {
    fn default() -> Self {
        Self { failures: 5, open: Duration::from_secs(10) }
    }
}

impl Default for Pool {
    fn default() -> Self {
        Self { idle: Duration::from_secs(30), max_idle: 256 }
    }
}
