//! An attempt whose response head is late: it goes on while the next candidate is tried, and its response is used if nothing better comes.

use std::{
    fmt,
    future::poll_fn,
    pin::{Pin, pin},
    task::{Context, Poll, ready},
};

use http::StatusCode;

use super::{
    attempt::AttemptHead, candidate::Candidate, head::PendingHead, response::read_error,
    upstream_error::UpstreamError,
};
use crate::{exchange::Exchange, fault::Fault, proxy::context::RequestContext, upstream::Answer};

/// An attempt that is late and goes on. The candidate's permits live as long as the attempt.
#[derive(Debug)]
pub(super) struct LateAttempt {
    candidate: Box<Candidate>,
    /// Number of the attempt, from 1.
    number: u32,
    head: LateHead,
    context: RequestContext,
    /// The model that the request names.
    model: Option<Box<str>>,
}

#[derive(Debug)]
enum LateHead {
    Pending(PendingHead),
    Arrived(Result<Answer, Fault>),
    /// It is an error, the body of which is being read.
    Failing(ErrorReading),
    /// It was an error.
    Failed,
}

/// Reads an error response, for what it says about the key.
struct ErrorReading(Pin<Box<dyn Future<Output = UpstreamError>>>);

impl LateAttempt {
    /// Keeps the attempt at `candidate` in `late` if its head is pending, unless an older attempt is there.
    pub(super) fn keep(
        late: &mut Option<Box<Self>>,
        mut candidate: Box<Candidate>,
        context: &RequestContext,
        model: Option<&str>,
    ) {
        let Some(pending) = candidate.pending_head.take() else { return };
        if late.is_none() {
            let number = pending.number;
            let (context, model) = (context.clone(), model.map(Into::into));
            let head = LateHead::Pending(pending);
            *late = Some(Box::new(Self { candidate, number, head, context, model }));
        }
    }

    /// Waits until the result is known: the head of the response, or that there is none to use.
    pub(super) async fn decided(&mut self) {
        poll_fn(|cx| {
            ready!(self.poll_head(cx));
            match self.head {
                LateHead::Failing(_) => self.poll_error(cx),
                LateHead::Pending(_) | LateHead::Arrived(_) | LateHead::Failed => Poll::Ready(()),
            }
        })
        .await;
    }

    /// Whether the result is the head of a response, or a fault in its place.
    pub(super) fn has_arrived(&self) -> bool {
        matches!(self.head, LateHead::Arrived(_))
    }

    /// The candidate with its response; the attempt is the running one of `exchange` again. `None`: there is no response to use.
    pub(super) fn into_head(self, exchange: &mut Exchange) -> Option<AttemptHead> {
        let Self { mut candidate, number, head: LateHead::Arrived(head), .. } = self else { return None };
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

    /// Reads what an error response says about the key, so that other requests are kept away from a key that cannot be used. Ready when there is
    /// nothing more to read.
    fn poll_error(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        if let LateHead::Arrived(Ok(_)) = &self.head
            && let LateHead::Arrived(Ok(answer)) = std::mem::replace(&mut self.head, LateHead::Failed)
        {
            let upstream = self.candidate.upstream.clone();
            let reading = Box::pin(read_error(self.context.clone(), answer, upstream));
            self.head = LateHead::Failing(ErrorReading(reading));
        }
        let LateHead::Failing(reading) = &mut self.head else { return Poll::Ready(()) };
        let error = ready!(reading.0.as_mut().poll(cx));
        self.head = LateHead::Failed;
        let model = self.model.as_deref();
        let cooldown = error.cooldown(self.candidate.model.as_deref().or(model));
        if let (Some(cooldown), Some(key)) = (cooldown, &mut self.candidate.key) {
            key.failed(cooldown, model, &self.context.worker.metrics);
        }
        Poll::Ready(())
    }

    /// Whether the response may be given to the client.
    fn is_usable(&self) -> bool {
        let LateHead::Arrived(head) = &self.head else { return false };
        head.as_ref().is_ok_and(|answer| answer.status() < StatusCode::BAD_REQUEST)
    }
}

impl fmt::Debug for ErrorReading {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ErrorReading").finish_non_exhaustive()
    }
}

/// Waits for `running` while the `late` attempt goes on, which is dropped if it fails. `None`: the late one has a usable response, and `running`
/// was dropped.
pub(super) async fn beside<T>(
    late: &mut Option<Box<LateAttempt>>,
    running: impl Future<Output = T>,
) -> Option<T> {
    let mut running = pin!(running);
    let first = poll_fn(|cx| match running.as_mut().poll(cx) {
        Poll::Ready(done) => Poll::Ready(Some(done)),
        Poll::Pending => poll_late(late, cx).map(|()| None),
    });
    first.await
}

/// Waits for `running` while the `late` attempt goes on, which is dropped if it fails. A response of the late one stays there.
pub(super) async fn alongside<T>(
    late: &mut Option<Box<LateAttempt>>,
    mut running: Pin<&mut impl Future<Output = T>>,
) -> T {
    let finished = poll_fn(|cx| {
        let polled = running.as_mut().poll(cx);
        if polled.is_pending() {
            _ = poll_late(late, cx);
        }
        polled
    });
    finished.await
}

/// Ready when the `late` attempt has a usable response. An attempt that fails is dropped.
fn poll_late(late: &mut Option<Box<LateAttempt>>, cx: &mut Context<'_>) -> Poll<()> {
    let Some(attempt) = late else { return Poll::Pending };
    ready!(attempt.poll_head(cx));
    if attempt.is_usable() {
        return Poll::Ready(());
    }
    ready!(attempt.poll_error(cx));
    *late = None;
    Poll::Pending
}
