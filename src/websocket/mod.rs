//! WebSocket (RFC 6455): observing frames as they pass, and writing the few that the gateway itself sends.
//!
//! [`MessageReader`] reads one direction of a connection from bytes that are cut anywhere. It never changes a byte, cannot fail, and keeps at
//! most [`KEPT`] bytes of a message, or the outline of a longer one. Frames that violate the protocol are not its concern: both ends of a
//! tunnel see them as they are, and decide.
//!
//! [`handshake`] has what a server does of the opening handshake. Pure: bytes in, values out.

mod close;
mod frame;
pub mod handshake;
mod message;
mod scanner;
pub mod writer;

pub use close::Close;
pub use frame::{Frame, Opcode};
pub use message::{Interest, KEPT, MessageReader, Observed};
pub use scanner::{FramePart, FrameScanner};
