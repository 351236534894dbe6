//! State shared by the parts of one exchange: its status, the progress of its response body, and its early end.

use std::time::{Duration, Instant};

use super::{Abort, Cut, OpenAttempts, OpenExchange, Progress, Status};

/// State shared by the exchange, its response body and the driver of its connection, on one thread.
///
/// hyper does not poll a response body while the client reads nothing, so the driver monitors such an exchange from outside and can end it.
///
/// Its parts are in this order, and the fields of each (`repr(C)`), so that what a frame touches lies together.
#[derive(Debug, Default)]
#[repr(C)]
pub struct ExchangeHandle {
    /// Progress of the response body towards the client.
    pub progress: Progress,
    /// Deadline and cause of an early end.
    pub abort: Abort,
    /// Identity and phase of the exchange.
    pub status: Status,
    /// The attempts at upstreams.
    pub attempts: OpenAttempts,
}

impl ExchangeHandle {
    /// The current state of the exchange; `None` before [`Status::introduce`].
    pub fn open_exchange(&self) -> Option<OpenExchange> {
        let mut open = self.status.open_exchange()?;
        open.attempt_count = self.attempts.count();
        open.attempts = self.attempts.list();
        Some(open)
    }

    /// Returns the cause to end the exchange at `now`, if there is one: the client has read nothing for `stall`, or `timeout.total` has passed.
    ///
    /// `stall` applies to HTTP/2, where each stream has its own window. On HTTP/1.1 a body may wait long while the client slowly reads
    /// the bytes that hyper has buffered; there [`super::ConnectionState::blocked_since`] detects a stall, and `stall` is `None`.
    pub fn overdue(&self, now: Instant, stall: Option<Duration>) -> Option<Cut> {
        if stall.is_some_and(|stall| self.progress.is_stalled(now, stall)) {
            return Some(Cut::WriteStall);
        }
        self.abort.is_late(now).then_some(Cut::Total)
    }

    /// Counts a frame of `bytes` given to hyper.
    pub(super) fn frame_given(&self, bytes: usize) {
        self.status.count_frame(bytes);
        self.progress.add_held(bytes);
    }
}
