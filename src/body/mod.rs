//! Request and response bodies: the parts that the relay is made of, the wrappers beside it, and the two structs through
//! which a connection and its exchanges share state.
//!
//! hyper does not poll a response body while the client reads nothing, and drops its buffered bytes when a body fails.
//! Decisions that must work under backpressure or before an abort therefore go through [`ConnectionState`] (one per downstream
//! connection) and [`ExchangeHandle`] (one per exchange), and are not made inside a body.

mod abort;
mod chunk;
mod connection;
mod file_upload;
mod handle;
mod open_attempts;
mod outbound;
mod progress;
mod request_body;
mod socket;
mod spool;
mod status;
mod upgraded;

pub use abort::{Abort, Cut};
pub use chunk::Chunk;
pub use connection::{ConnectionState, Flush, Sent};
pub use file_upload::{FilePiece, FileUpload};
pub use handle::ExchangeHandle;
pub use open_attempts::{OpenAttempt, OpenAttempts};
pub use outbound::{AnswerAwaited, Outbound, TrailerPolicy, Upload, UploadError, UploadFailure, UploadTally};
pub use progress::Progress;
pub use request_body::{RequestBody, RequestBodyError};
pub use socket::{ClientSocket, SocketWatch};
pub use spool::{Spool, SpoolError, SpoolFile};
pub use status::{About, Grant, OpenExchange, OpenGrant, Status};
pub use upgraded::Upgraded;
