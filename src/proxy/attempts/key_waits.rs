//! The queues for keys in which one request waits at the same time.

use std::{
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
    time::Instant,
};

use crate::{
    snapshot::Upstream,
    upstream::{Key, Turn},
};

/// The places of one request in the queues for keys, at most one for each step of its route. Dropping them leaves the queues.
pub(super) struct KeyWaits {
    latest: Instant,
    waits: Vec<KeyWait>,
}

struct KeyWait {
    /// Index into the route's steps.
    step: usize,
    turn: Pin<Box<dyn Future<Output = Turn>>>,
}

impl KeyWaits {
    /// No place yet; each wait ends at `latest`.
    pub(super) fn until(latest: Instant) -> Self {
        Self { latest, waits: Vec::new() }
    }

    /// Waits for a key of `upstream` for `model` too, but for none that is `excluded`.
    pub(super) fn add(
        &mut self,
        step: usize,
        upstream: Arc<Upstream>,
        model: Option<Box<str>>,
        excluded: Vec<Key>,
    ) {
        let latest = self.latest;
        let turn = async move { upstream.keys.wait(model.as_deref(), &excluded, latest).await };
        self.waits.push(KeyWait { step, turn: Box::pin(turn) });
    }

    /// The first queue that has a key for the request, or that need not be waited in any more, by the number of its step. The request leaves each
    /// queue that has no key in time; `None`: there is no other.
    pub(super) fn poll(&mut self, cx: &mut Context<'_>) -> Poll<Option<(usize, Turn)>> {
        let mut index = 0;
        while let Some(wait) = self.waits.get_mut(index) {
            match wait.turn.as_mut().poll(cx) {
                Poll::Pending => index += 1,
                Poll::Ready(Turn::TooLate) => drop(self.waits.remove(index)),
                Poll::Ready(turn) => return Poll::Ready(Some((wait.step, turn))),
            }
        }
        if self.waits.is_empty() { Poll::Ready(None) } else { Poll::Pending }
    }
}
