//! Close frames.

/// Why a connection is closed: the payload of a close frame (RFC 6455 §5.5.1).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Close {
    /// The status code. `None` if the frame has none, which is what 1005 stands for where a code is needed.
    pub code: Option<u16>,
    /// The reason, at most 123 bytes; what is not UTF-8 in it is replaced.
    pub reason: String,
}

impl Close {
    /// The purpose of the connection is fulfilled.
    pub const NORMAL: u16 = 1000;
    /// The drain of a server, or a timeout of its own: the connection may be opened again.
    pub const GOING_AWAY: u16 = 1001;
    /// The client violates a rule of the server.
    pub const POLICY: u16 = 1008;
    /// The server failed.
    pub const INTERNAL: u16 = 1011;
    /// The server is overloaded (IANA registry of close codes).
    pub const TRY_AGAIN_LATER: u16 = 1013;
    /// OpenAI's code for a connection that it refuses after it has accepted it.
    pub const REFUSED: u16 = 3000;

    /// Reads the unmasked payload of a close frame.
    pub(super) fn read(payload: &[u8]) -> Self {
        let Some((code, reason)) = payload.split_first_chunk() else {
            return Self { code: None, reason: String::new() };
        };
        Self { code: Some(u16::from_be_bytes(*code)), reason: String::from_utf8_lossy(reason).into_owned() }
    }
}
