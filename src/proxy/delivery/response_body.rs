//! The response body that hyper is given: a [`Relay`], or heartbeats until there is one.

use std::{
    pin::Pin,
    rc::Rc,
    task::{Context, Poll},
    time::Duration,
};

use http_body::{Body, Frame, SizeHint};
use tokio::time::{Instant, Sleep, sleep_until};

use super::{Aborted, DetachedDispatch, Relay, drain, observer::KEEP_ALIVE};
use crate::{
    body::{Chunk, ExchangeHandle},
    proxy::Worker,
    sse::writer,
};

/// The body of a response.
#[derive(Debug)]
pub struct ResponseBody {
    stage: Stage,
    /// Where a response whose client leaves is read on for its usage.
    drains_on: Option<Rc<Worker>>,
}

#[derive(Debug)]
enum Stage {
    /// There is a response.
    Relay(Relay),
    /// The head was sent before there was a response.
    Early(Box<Early>),
    /// There is no body, or the relay was taken out, because the body is dropped.
    Gone,
}

/// The client has a head, and gets comments until the dispatch is done.
#[derive(Debug)]
struct Early {
    dispatch: DetachedDispatch,
    handle: Rc<ExchangeHandle>,
    beat: Duration,
    next: Pin<Box<Sleep>>,
}

impl ResponseBody {
    /// Sends what `relay` sends; `drains_on` reads the response to its end when the client leaves.
    pub(in crate::proxy) fn relay(relay: Relay, drains_on: Option<Rc<Worker>>) -> Self {
        Self { stage: Stage::Relay(relay), drains_on }
    }

    /// No body: that of a response of 101.
    pub(in crate::proxy) fn none() -> Self {
        Self { stage: Stage::Gone, drains_on: None }
    }

    /// Sends a comment now and after each `beat` until `dispatch` is done, and then its response.
    pub(in crate::proxy) fn early(
        dispatch: DetachedDispatch,
        beat: Duration,
        drains_on: Option<Rc<Worker>>,
    ) -> Self {
        let (handle, next) = (dispatch.handle().clone(), Box::pin(sleep_until(Instant::now())));
        Self { stage: Stage::Early(Box::new(Early { dispatch, handle, beat, next })), drains_on }
    }

    fn poll_early(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Chunk>, Aborted>>> {
        let Stage::Early(early) = &mut self.stage else { return Poll::Ready(None) };
        early.handle.progress.polled();
        if let Poll::Ready(done) = Pin::new(&mut early.dispatch).poll(cx) {
            let mut relay = done.into_late_relay();
            let polled = Pin::new(&mut relay).poll_frame(cx);
            self.stage = Stage::Relay(relay);
            return polled;
        }
        let comment = match early.handle.status.take_comments() {
            Some(comments) => comments,
            None if early.next.as_mut().poll(cx).is_pending() => return Poll::Pending,
            None => writer::comment(KEEP_ALIVE),
        };
        let now = Instant::now();
        early.next.as_mut().reset(now + early.beat);
        early.handle.progress.handed(now.into());
        Poll::Ready(Some(Ok(Frame::data(Chunk::new(comment, early.handle.clone())))))
    }
}

impl Body for ResponseBody {
    type Data = Chunk;
    type Error = Aborted;

    fn poll_frame(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Chunk>, Aborted>>> {
        let this = self.get_mut();
        match &mut this.stage {
            Stage::Relay(relay) => Pin::new(relay).poll_frame(cx),
            Stage::Early(_) => this.poll_early(cx),
            Stage::Gone => Poll::Ready(None),
        }
    }

    fn is_end_stream(&self) -> bool {
        match &self.stage {
            Stage::Relay(relay) => relay.is_end_stream(),
            Stage::Early(_) => false,
            Stage::Gone => true,
        }
    }

    fn size_hint(&self) -> SizeHint {
        match &self.stage {
            Stage::Relay(relay) => relay.size_hint(),
            Stage::Early(_) | Stage::Gone => SizeHint::default(),
        }
    }
}

impl Drop for ResponseBody {
    fn drop(&mut self) {
        // A detached dispatch continues by itself, in its own Drop.
        if let Some(worker) = self.drains_on.take()
            && let Stage::Relay(relay) = std::mem::replace(&mut self.stage, Stage::Gone)
            && relay.is_left_unfinished()
        {
            drain::read_for_usage(&worker, relay.drain());
        }
    }
}
