//! What goes wrong with a server, and what follows from it.

use std::fmt;

use redis::{ErrorKind, RedisError, ServerErrorKind};
use thiserror::Error;

/// Characters of a server's error that are kept.
const MOST: usize = 200;

/// Why a call has no result.
#[derive(Debug, Clone, Error, PartialEq, Eq)]
pub enum CallError {
    /// There is no connection.
    #[error("Redis is not available")]
    Away,
    /// No reply came in time. The call may have been executed.
    #[error("Redis did not reply in time")]
    Late,
    /// The server refused, or the connection broke. In the latter case the call may have been executed.
    #[error("Redis failed: {0}")]
    Failed(Trouble),
}

/// Why a connection is given up, or cannot be made.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Trouble {
    /// Replies took too long, several times in a row.
    Slow,
    /// The connection broke, or could not be made.
    Connection(String),
    /// The server refuses: the code of its error, and what it says about it.
    Refuses(String),
    /// The server is not a master.
    NotMaster,
    /// Sentinel has made another server the master.
    Switched,
    /// No Sentinel knows the master.
    NoMaster,
    /// The settings cannot be used.
    Settings(String),
}

impl Trouble {
    /// What an error of the library means.
    pub(super) fn of(error: &RedisError) -> Self {
        if error.kind() == ErrorKind::InvalidClientConfig {
            return Self::Settings(error.to_string());
        }
        if let Some(code) = error.code()
            && !error.is_io_error()
        {
            let detail = error.detail().unwrap_or_default();
            let text: String = format!("{code} {detail}").trim_end().chars().take(MOST).collect();
            return Self::Refuses(text);
        }
        Self::Connection(error.to_string())
    }

    /// Whether the connection must be given up at once. An error in one call alone (a value of another version) says nothing about the next.
    pub(super) fn is_of_server(error: &RedisError) -> bool {
        let ErrorKind::Server(kind) = error.kind() else {
            // Errors that the library does not know have a code: OOM, NOREPLICAS, MISCONF, NOAUTH, WRONGPASS, BUSY …
            let known = ["OOM", "NOREPLICAS", "MISCONF", "NOAUTH", "WRONGPASS", "BUSY", "UNKILLABLE"];
            return error.is_io_error()
                || error.is_connection_dropped()
                || error.is_unrecoverable_error()
                || error.code().is_some_and(|code| known.contains(&code));
        };
        matches!(
            kind,
            ServerErrorKind::BusyLoading
                | ServerErrorKind::MasterDown
                | ServerErrorKind::ReadOnly
                | ServerErrorKind::ClusterDown
                | ServerErrorKind::NoPerm
        )
    }
}

impl fmt::Display for Trouble {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Slow => f.write_str("replies take longer than `redis.timeout`"),
            Self::Connection(error) | Self::Settings(error) => f.write_str(error),
            Self::Refuses(text) => write!(f, "the server replies {text}"),
            Self::NotMaster => f.write_str("the server is not a master"),
            Self::Switched => f.write_str("Sentinel has made another server the master"),
            Self::NoMaster => f.write_str("no Sentinel knows the master"),
        }
    }
}

impl std::error::Error for Trouble {}
