//! What hyper is given as an answer's body: a [`Relay`], or what becomes one when there is an answer.

use std::{
    pin::Pin,
    rc::Rc,
    task::{Context, Poll},
    time::Duration,
};

use bytes::Bytes;
use http_body::{Body, Frame, SizeHint};
use tokio::time::{Instant, Sleep, sleep_until};

use super::{
    Worker,
    errand::DetachedDispatch,
    relay::{Aborted, Relay},
    tail,
};
use crate::{
    body::{Chunk, ExchangeHandle},
    sse::writer,
};

/// The body of an answer.
#[derive(Debug)]
pub struct ResponseBody {
    stage: Stage,
    /// Where an answer whose caller leaves is read on for its usage.
    drains_on: Option<Rc<Worker>>,
}

#[derive(Debug)]
enum Stage {
    /// There is an answer.
    Relay(Relay),
    /// Its head went out before there was one.
    Early(Box<Early>),
    /// It was given away.
    Gone,
}

/// The caller has a head, and comments until the attempts have come to something.
#[derive(Debug)]
struct Early {
    errand: DetachedDispatch,
    watch: Rc<ExchangeHandle>,
    beat: Duration,
    next: Pin<Box<Sleep>>,
}

impl ResponseBody {
    /// Gives what `relay` gives; it is read on, on `drains_on`, when the caller leaves.
    pub(super) fn relay(relay: Relay, drains_on: Option<Rc<Worker>>) -> Self {
        Self { stage: Stage::Relay(relay), drains_on }
    }

    /// Gives a comment now and after each `beat`, until `errand` is done, and then what came of it.
    pub(super) fn early(errand: DetachedDispatch, beat: Duration, drains_on: Option<Rc<Worker>>) -> Self {
        let (watch, next) = (errand.watch().clone(), Box::pin(sleep_until(Instant::now())));
        Self { stage: Stage::Early(Box::new(Early { errand, watch, beat, next })), drains_on }
    }

    fn poll_early(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Chunk>, Aborted>>> {
        let Stage::Early(early) = &mut self.stage else { return Poll::Ready(None) };
        early.watch.progress.polled();
        if let Poll::Ready(done) = Pin::new(&mut early.errand).poll(cx) {
            let mut relay = done.into_late_relay();
            let polled = Pin::new(&mut relay).poll_frame(cx);
            self.stage = Stage::Relay(relay);
            return polled;
        }
        if early.next.as_mut().poll(cx).is_pending() {
            return Poll::Pending;
        }
        let now = Instant::now();
        early.next.as_mut().reset(now + early.beat);
        early.watch.progress.handed(now.into());
        let comment: Bytes = writer::comment("keep-alive");
        Poll::Ready(Some(Ok(Frame::data(Chunk::new(comment, early.watch.clone())))))
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
        // An early one's errand sees to itself.
        if let Some(worker) = self.drains_on.take()
            && let Stage::Relay(relay) = std::mem::replace(&mut self.stage, Stage::Gone)
            && relay.is_left_unfinished()
        {
            tail::read_for_usage(&worker, relay.drain());
        }
    }
}
