//! An attempt whose response head is late: it goes on while the next candidate is tried, and its response is used if nothing better comes.

use std::{
    future::poll_fn,
    pin::{Pin, pin},
    task::{Context, Poll, ready},
};

use http::StatusCode;

use super::{attempt::AttemptHead, candidates::Candidate, head::PendingHead};
use crate::{exchange::Exchange, fault::Fault, upstream::Answer};

/// An attempt that is late and goes on. The candidate's permits live as long as the attempt.
#[derive(Debug)]
pub(super) struct LateAttempt {
    candidate: Box<Candidate>,
    /// Number of the attempt, from 1.
    number: u32,
    head: LateHead,
}

#[derive(Debug)]
enum LateHead {
    Pending(PendingHead),
    Arrived(Result<Answer, Fault>),
}

impl LateAttempt {
    /// Keeps the attempt at `candidate` in `late` if its head is pending, unless an older attempt is there.
    pub(super) fn keep(late: &mut Option<Box<Self>>, mut candidate: Box<Candidate>) {
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
    pub(super) fn into_head(self, exchange: &mut Exchange) -> Option<AttemptHead> {
        let Self { mut candidate, number, head: LateHead::Arrived(head) } = self else { return None };
        // Its content is due `first_token` after its head.
        candidate.head_limit = None;
        exchange.resume_attempt(number);
        if let Ok(answer) = &head {
            exchange.head_received(answer.status());
        }
        Some(AttemptHead { candidate, head })
    }

    fn poll_head(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        if let LateHead::Pending(pending) = &mut self.head {
            let outcome = ready!(Pin::new(pending).poll(cx));
            self.head = LateHead::Arrived(outcome);
        }
        Poll::Ready(())
    }

    /// Whether the response may be given to the client.
    fn is_usable(&self) -> bool {
        let LateHead::Arrived(head) = &self.head else { return false };
        head.as_ref().is_ok_and(|answer| answer.status() < StatusCode::BAD_REQUEST)
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
