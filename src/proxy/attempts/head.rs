//! The head of a response while it is waited for.

use std::{
    fmt,
    pin::Pin,
    task::{Context, Poll},
    time::{Duration, Instant},
};

use http::Request;

use crate::{
    body::Outbound,
    fault::{Cause, Fault},
    pause,
    upstream::Answer,
};

/// When the head of a response is late, because something else can be tried.
#[derive(Debug, Clone, Copy)]
pub(super) struct HeadLimit {
    /// Start of the attempt.
    pub(super) start: Instant,
    /// `timeout.first_token`
    pub(super) limit: Duration,
}

/// A request that was sent, and the head of its response, which has not arrived. Dropping it cancels the request.
pub(super) struct PendingHead {
    answer: Pin<Box<dyn Future<Output = Result<Answer, SendOutcome>>>>,
    /// Number of the attempt, from 1.
    pub(super) number: u32,
}

/// Why a connection gave no response.
pub(super) enum SendOutcome {
    /// The upstream has not seen the request, which is included if the connection gave it back.
    Unseen(Cause, Option<Box<Request<Outbound>>>),
    /// The upstream may have seen the request, but sending it again does no harm.
    Harmless(Cause),
    /// Anything else.
    Failed(Fault),
}

impl HeadLimit {
    /// Waits for `wanted` until the head is late.
    ///
    /// # Errors
    /// [`Fault::FirstTokenTimeout`]: it is late.
    pub(super) async fn within<T>(self, wanted: impl Future<Output = T>) -> Result<T, Fault> {
        let waited = pause::timeout_from(self.start, self.limit, wanted).await;
        waited.map_err(|_| Fault::FirstTokenTimeout(self.limit))
    }

    /// Waits until the `answer` to the attempt of that `number` has a result or is late.
    ///
    /// # Errors
    /// It is late, and still to come.
    pub(super) async fn answer_within(
        self,
        answer: impl Future<Output = Result<Answer, SendOutcome>> + 'static,
        number: u32,
    ) -> Result<Result<Answer, SendOutcome>, PendingHead> {
        // Boxed, so that it can be moved after it was polled.
        let mut answer: Pin<Box<dyn Future<Output = _>>> = Box::pin(answer);
        self.within(answer.as_mut()).await.map_err(|_| PendingHead { answer, number })
    }
}

impl SendOutcome {
    /// The fault if the request is not sent again.
    pub(super) fn into_fault(self) -> Fault {
        match self {
            Self::Unseen(cause, _) | Self::Harmless(cause) => Fault::NoAnswer(cause),
            Self::Failed(fault) => fault,
        }
    }
}

impl Future for PendingHead {
    type Output = Result<Answer, Fault>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        self.answer.as_mut().poll(cx).map_err(SendOutcome::into_fault)
    }
}

impl fmt::Debug for PendingHead {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("PendingHead").field("number", &self.number).finish_non_exhaustive()
    }
}
