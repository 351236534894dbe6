//! Bodies and what surrounds them: the parts that the relay is made of, the wrappers beside it, and the two cells through
//! which a connection and the exchanges on it speak to one another.
//!
//! hyper does not poll a response body while the caller takes nothing, and drops what it has buffered when a body fails.
//! So whatever must hold under backpressure or before an abort is told through [`ConnectionState`] (one per downstream connection)
//! and [`ExchangeHandle`] (one per exchange) instead of being decided inside a body.

mod about;
mod chunk;
mod connection;
mod outbound;
mod request_body;
mod watch;

pub use about::{About, OpenExchange};
pub use chunk::Chunk;
pub use connection::{ConnectionState, Flush};
pub use outbound::{AnswerAwaited, Outbound, TrailerPolicy, Upload, UploadError, UploadFailure, UploadTally};
pub use request_body::{RequestBody, RequestBodyError};
pub use watch::{Cut, ExchangeHandle};
