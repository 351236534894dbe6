//! What the parts of one exchange share: its status, the progress of its response body, and the means to end it.

use std::time::{Duration, Instant};

use super::{Abort, Cut, OpenExchange, Progress, Status};

/// Shared by the exchange, its response body and the driver of its connection, on one thread.
///
/// hyper does not poll a response body while the client takes nothing, so the driver watches such an exchange from outside and can end it.
#[derive(Debug, Default)]
pub struct ExchangeHandle {
    /// What the exchange is and how far it has come.
    pub status: Status,
    /// How the client takes the response body.
    pub progress: Progress,
    /// When and why the exchange is to end early.
    pub abort: Abort,
}

impl ExchangeHandle {
    /// The exchange as it is now; `None` before it was introduced.
    pub fn open_exchange(&self) -> Option<OpenExchange> {
        self.status.open_exchange()
    }

    /// Why the exchange must be ended at `now`, if it must: the client has taken nothing for `stall`, or `timeout.total` is over.
    ///
    /// `stall` is for HTTP/2, where each stream has its own window. On HTTP/1.1 a body may wait for long while the client slowly takes
    /// what hyper has buffered; there [`super::ConnectionState::blocked_since`] detects a stall, and `stall` is `None`.
    pub fn overdue(&self, now: Instant, stall: Option<Duration>) -> Option<Cut> {
        if stall.is_some_and(|stall| self.progress.is_stalled(now, stall)) {
            return Some(Cut::WriteStall);
        }
        self.abort.is_late(now).then_some(Cut::Total)
    }

    /// Counts `bytes` of a frame that hyper was given.
    pub(super) fn frame_given(&self, bytes: usize) {
        self.status.count_frame(bytes);
        self.progress.add_held(bytes);
    }
}
