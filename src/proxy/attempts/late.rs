//! An attempt whose response head is late: it goes on while the next candidate is tried, and its response is used if nothing better comes.

use std::{
    fmt,
    future::poll_fn,
    pin::{Pin, pin},
    task::{Context, Poll, ready},
    time::{Duration, Instant},
};

use http::StatusCode;

use super::{attempt::Asked, candidates::Candidate, send::SendOutcome};
use crate::{exchange::Exchange, fault::Fault, pause, upstream::Answer};

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
    number: u32,
}

/// An attempt that is late and goes on. The candidate's permits live as long as the attempt.
#[derive(Debug)]
pub(super) struct LateAttempt {
    candidate: Candidate,
    number: u32,
    head: LateHead,
}

#[derive(Debug)]
enum LateHead {
    Pending(PendingHead),
    Arrived(Result<Answer, Fault>),
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

    /// Waits for the `answer` to the attempt of that `number`. If it is late, it is left with `candidate`.
    ///
    /// # Errors
    /// It is late, or there is none.
    pub(super) async fn answer_within(
        self,
        answer: impl Future<Output = Result<Answer, SendOutcome>> + 'static,
        candidate: &mut Candidate,
        number: u32,
    ) -> Result<Answer, SendOutcome> {
        // It must be possible to move it after it was polled.
        let mut answer: Pin<Box<dyn Future<Output = _>>> = Box::pin(answer);
        match self.within(answer.as_mut()).await {
            Ok(outcome) => outcome,
            Err(fault) => {
                candidate.pending_head = Some(PendingHead { answer, number });
                Err(SendOutcome::Failed(fault))
            }
        }
    }
}

impl LateAttempt {
    /// Keeps the attempt at `candidate` in `late` if its head is pending, unless an older attempt is there.
    pub(super) fn keep(late: &mut Option<Box<Self>>, mut candidate: Candidate) {
        let Some(pending) = candidate.pending_head.take() else { return };
        if late.is_none() {
            let number = pending.number;
            *late = Some(Box::new(Self { candidate, number, head: LateHead::Pending(pending) }));
        }
    }

    /// Waits until the head of the response has arrived, or is known not to come.
    pub(super) async fn arrived(&mut self) {
        poll_fn(|cx| self.poll_head(cx)).await;
    }

    /// Whether the head of the response has arrived, or is known not to come.
    pub(super) fn has_arrived(&self) -> bool {
        matches!(self.head, LateHead::Arrived(_))
    }

    /// The candidate with its response; the attempt is the running one of `exchange` again. `None`: it is still pending.
    pub(super) fn into_asked(self, exchange: &mut Exchange) -> Option<Asked> {
        let Self { mut candidate, number, head: LateHead::Arrived(head) } = self else { return None };
        // Its content is due `first_token` after its head.
        candidate.is_last = true;
        exchange.resume_attempt(number);
        if let Ok(answer) = &head {
            exchange.head_received(answer.status());
        }
        Some(Asked { candidate, head })
    }

    fn poll_head(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        if let LateHead::Pending(pending) = &mut self.head {
            let outcome = ready!(pending.answer.as_mut().poll(cx));
            self.head = LateHead::Arrived(outcome.map_err(SendOutcome::into_fault));
        }
        Poll::Ready(())
    }

    /// Whether the response may be given to the client.
    fn is_usable(&self) -> bool {
        let status = |head: &LateHead| match head {
            LateHead::Arrived(Ok(answer)) => Some(answer.status()),
            LateHead::Arrived(Err(_)) | LateHead::Pending(_) => None,
        };
        status(&self.head).is_some_and(|status| status < StatusCode::BAD_REQUEST)
    }
}

/// Waits for `running` while the `late` attempt goes on, which is dropped if it fails. `None`: the late one has a usable response, and `running`
/// was dropped.
pub(super) async fn beside<T>(
    late: &mut Option<Box<LateAttempt>>,
    running: impl Future<Output = T>,
) -> Option<T> {
    let mut running = pin!(running);
    let first = poll_fn(|cx| {
        if let Poll::Ready(done) = running.as_mut().poll(cx) {
            return Poll::Ready(Some(done));
        }
        let Some(attempt) = late else { return Poll::Pending };
        ready!(attempt.poll_head(cx));
        if attempt.is_usable() {
            return Poll::Ready(None);
        }
        *late = None;
        Poll::Pending
    });
    first.await
}

impl fmt::Debug for PendingHead {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("PendingHead").field("number", &self.number).finish_non_exhaustive()
    }
}
