//! Bodies and what surrounds them: the parts that the relay is made of, the wrappers beside it, and the two cells through
//! which a connection and the exchanges on it speak to one another.
//!
//! hyper does not poll a response body while the caller takes nothing, and drops what it has buffered when a body fails.
//! So whatever must hold under backpressure or before an abort is told through [`Link`] (one per downstream connection)
//! and [`Watch`] (one per exchange) instead of being decided inside a body.

mod about;
mod arrival;
mod chunk;
mod link;
mod outbound;
mod watch;

pub use about::{About, OpenExchange};
pub use arrival::{Arrival, ArrivalError};
pub use chunk::Chunk;
pub use link::{Flush, Link};
pub use outbound::{AnswerAwaited, Outbound, TrailerPolicy, Upload, UploadError, UploadFailure, UploadTally};
pub use watch::{Cut, Watch};
