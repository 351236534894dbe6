//! What ends an exchange before there is a response: `timeout.total`, and an abort from elsewhere.

use std::{
    future::poll_fn,
    pin::Pin,
    task::Poll,
    time::{Duration, Instant},
};

use crate::{
    body::{Cut, ExchangeHandle},
    exchange::Exchange,
    fault::Fault,
    pause,
};

/// The bound on a whole exchange, from its start.
#[derive(Debug, Clone, Copy)]
pub(super) struct TotalTimeout {
    start: Instant,
    total: Option<Duration>,
}

impl TotalTimeout {
    /// Limits `exchange` to `total`, whatever phase it is in when the time is over.
    pub(super) fn set(exchange: &Exchange, total: Option<Duration>) -> Self {
        let start = exchange.record.start;
        exchange.handle.abort.set_total(start, total);
        Self { start, total }
    }

    /// Runs `rungs` within the bound.
    ///
    /// # Errors
    /// The fault of `rungs`, or [`Fault::TotalTimeout`].
    pub(super) async fn bound<T, F>(self, rungs: Pin<&mut F>) -> Result<T, Fault>
    where
        F: Future<Output = Result<T, Fault>>,
    {
        let Some(total) = self.total else { return rungs.await };
        let bounded = pause::timeout_from(self.start, total, rungs).await;
        bounded.unwrap_or(Err(Fault::TotalTimeout(total)))
    }
}

/// Runs `rungs` until they are done, or until the exchange of `handle` is aborted.
///
/// # Errors
/// The fault of `rungs`, or the fault for the cause of the abort.
pub(super) async fn until_cut<T, F>(handle: &ExchangeHandle, mut rungs: Pin<&mut F>) -> Result<T, Fault>
where
    F: Future<Output = Result<T, Fault>>,
{
    poll_fn(|cx| {
        if let Poll::Ready(done) = rungs.as_mut().poll(cx) {
            return Poll::Ready(done);
        }
        handle.abort.register(cx.waker());
        match handle.abort.cause() {
            None => Poll::Pending,
            Some(Cut::Drain) => Poll::Ready(Err(Fault::Draining)),
            Some(Cut::Revoked) => Poll::Ready(Err(Fault::KeyRevoked)),
            Some(Cut::Operator) => Poll::Ready(Err(Fault::CutByOperator)),
            Some(Cut::WriteStall) => Poll::Ready(Err(Fault::CallerStalled)),
            // The rungs run within the total timeout themselves, and are about to return its fault.
            Some(Cut::Total) => Poll::Pending,
        }
    })
    .await
}
