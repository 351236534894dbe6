//! Bodies and what surrounds them: the parts that the relay is made of, the wrappers beside it, and the two structs through
//! which a connection and the exchanges on it talk to one another.
//!
//! hyper does not poll a response body while the client takes nothing, and drops what it has buffered when a body fails.
//! So whatever must hold under backpressure or before an abort goes through [`ConnectionState`] (one per downstream connection)
//! and [`ExchangeHandle`] (one per exchange) instead of being decided inside a body.

mod abort;
mod chunk;
mod connection;
mod handle;
mod outbound;
mod progress;
mod request_body;
mod status;

pub use abort::{Abort, Cut};
pub use chunk::Chunk;
pub use connection::{ConnectionState, Flush};
pub use handle::ExchangeHandle;
pub use outbound::{AnswerAwaited, Outbound, TrailerPolicy, Upload, UploadError, UploadFailure, UploadTally};
pub use progress::Progress;
pub use request_body::{RequestBody, RequestBodyError};
pub use status::{About, OpenExchange, Status};
