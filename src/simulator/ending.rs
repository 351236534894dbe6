//! The ways in which a response can end.

use std::io;

/// How a script cuts a response off. Everything sent before is flushed to the kernel first.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Cut {
    /// HTTP/1.1: a TCP reset. HTTP/2: `RST_STREAM` with `INTERNAL_ERROR`.
    #[default]
    Reset,
    /// HTTP/1.1: FIN (after a TLS `close_notify`). HTTP/2: `GOAWAY`, then the connection is closed.
    Close,
    /// HTTP/1.1: an invalid chunk size, then FIN. HTTP/2: `RST_STREAM` with `PROTOCOL_ERROR`.
    ChunkError,
    /// HTTP/1.1: the same as [`Close`](Cut::Close). HTTP/2: `RST_STREAM` with `NO_ERROR`, which a careless client
    /// mistakes for a complete response.
    NoError,
}

/// How a request ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ended {
    /// The script ran to its end.
    Answered,
    /// The client closed its connection while the script was running.
    PeerClosed,
    /// The client reset the connection (HTTP/2: or the stream) while the script was running.
    PeerReset,
    /// The script cut the response off.
    CutByScript(Cut),
    /// The framing of the request body was invalid.
    BadBody,
    /// The script asked for something that the protocol does not have, or for a second head.
    BadScript,
    /// The simulator was stopped, or the script of another stream closed the connection.
    Stopped,
}

impl Ended {
    /// How the client left, according to the error of a read or write.
    pub(super) fn of_peer(error: &io::Error) -> Self {
        if error.kind() == io::ErrorKind::ConnectionReset { Self::PeerReset } else { Self::PeerClosed }
    }

    /// Whether the client ended the request, by a close or a reset.
    pub fn peer_left(self) -> bool {
        matches!(self, Self::PeerClosed | Self::PeerReset)
    }

    pub(super) fn name(self) -> &'static str {
        match self {
            Self::Answered => "answered",
            Self::PeerClosed => "peer-closed",
            Self::PeerReset => "peer-reset",
            Self::CutByScript(_) => "cut-by-script",
            Self::BadBody => "bad-body",
            Self::BadScript => "bad-script",
            Self::Stopped => "stopped",
        }
    }
}
