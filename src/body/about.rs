//! What an open exchange shows of itself to an operator.

use std::{sync::Arc, time::Instant};

use crate::telemetry::ids::RequestId;

/// What an exchange is.
#[derive(Debug, Clone)]
pub struct About {
    /// As in the access line, and as the caller gets it.
    pub request_id: RequestId,
    /// When its request came.
    pub start: Instant,
    /// `[client.NAME]`, once known.
    pub caller: Option<Arc<str>>,
    /// `[route.NAME]`, once known.
    pub route: Option<Arc<str>>,
}

/// An exchange that is open now.
#[derive(Debug, Clone)]
pub struct OpenExchange {
    /// What it is.
    pub about: About,
    /// Data frames of the answer, as far as they were given to the caller's connection.
    pub frames: u64,
    /// Their bytes.
    pub bytes: u64,
}
