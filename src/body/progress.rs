//! How the client takes a response body: what hyper and h2 still hold of it, and for how long nothing has moved.

use std::{
    cell::{Cell, RefCell},
    task::{Context, Poll, Waker},
    time::{Duration, Instant},
};

/// The progress of one response body towards the client.
#[derive(Debug, Default)]
pub struct Progress {
    /// When bytes were handed to hyper; `None` while the body is being polled, that is, while the client keeps up.
    handed: Cell<Option<Instant>>,
    /// Bytes of the body that hyper and h2 hold.
    held: Cell<usize>,
    /// Whether some of them have been taken since [`Progress::is_stalled`] last looked.
    moved: Cell<bool>,
    /// The task that waits for `held` to reach 0.
    emptied: RefCell<Option<Waker>>,
}

impl Progress {
    /// Notes that the body gave hyper bytes at `now`; the next [`Progress::polled`] says that hyper came for more.
    pub fn handed(&self, now: Instant) {
        self.handed.set(Some(now));
    }

    /// Notes that hyper polls the body again: what was handed over found room.
    pub fn polled(&self) {
        self.handed.set(None);
    }

    /// Whether hyper and h2 hold bytes of the body that they have not written.
    pub fn is_held(&self) -> bool {
        self.held.get() > 0
    }

    /// Ready when hyper and h2 hold nothing of the body any more. They may have it in a buffer for the socket still: see
    /// [`super::Flush`].
    pub fn poll_emptied(&self, cx: &Context<'_>) -> Poll<()> {
        if self.held.get() == 0 {
            return Poll::Ready(());
        }
        *self.emptied.borrow_mut() = Some(cx.waker().clone());
        Poll::Pending
    }

    /// Whether nothing of what was handed over has been taken for `stall`. Callers ask several times within that span.
    pub fn is_stalled(&self, now: Instant, stall: Duration) -> bool {
        let Some(since) = self.handed.get() else { return false };
        if self.moved.take() {
            self.handed.set(Some(now));
            return false;
        }
        now.saturating_duration_since(since) >= stall
    }

    pub(super) fn add_held(&self, bytes: usize) {
        self.held.set(self.held.get() + bytes);
    }

    /// Notes that `bytes` have been written, or thrown away.
    pub(super) fn taken(&self, bytes: usize) {
        let held = self.held.get().saturating_sub(bytes);
        self.held.set(held);
        self.moved.set(true);
        if held > 0 {
            return;
        }
        if let Some(waker) = self.emptied.borrow_mut().take() {
            waker.wake();
        }
    }
}
