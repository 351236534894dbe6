//! The progress of a response body: the bytes that hyper and h2 still hold, and for how long nothing has moved.

use std::{
    cell::{Cell, RefCell},
    task::{Context, Poll, Waker},
    time::{Duration, Instant},
};

/// The progress of one response body towards the client.
#[derive(Debug, Default)]
#[repr(C)]
pub struct Progress {
    /// Time at which hyper was given bytes; `None` while the body is being polled, that is, while the client keeps up.
    handed: Cell<Option<Instant>>,
    /// Number of bytes of the body that hyper and h2 hold.
    held: Cell<usize>,
    /// Whether any held bytes were written since the last call of [`Progress::is_stalled`].
    moved: Cell<bool>,
    /// Number of bytes of the body that hyper and h2 have dropped unwritten.
    discarded: Cell<usize>,
    /// The task that waits for `held` to reach 0.
    emptied: RefCell<Option<Waker>>,
}

impl Progress {
    /// Notes that the body gave hyper bytes at `now`; the next [`Progress::polled`] notes that hyper wants more.
    pub fn handed(&self, now: Instant) {
        self.handed.set(Some(now));
    }

    /// Notes that hyper polls the body again: there was room for the previous bytes.
    pub fn polled(&self) {
        self.handed.set(None);
    }

    /// Whether hyper and h2 hold bytes of the body that they have not written.
    pub fn is_held(&self) -> bool {
        self.held.get() > 0
    }

    /// Number of bytes that hyper and h2 were given and have not written, whether or not they may still do so.
    pub fn unwritten(&self) -> u64 {
        (self.held.get() + self.discarded.get()) as u64
    }

    /// Number of bytes that hyper and h2 have dropped unwritten.
    pub fn discarded(&self) -> u64 {
        self.discarded.get() as u64
    }

    /// Begins the wait of [`Progress::is_stalled`] again at its next call, because the body is held up by other bytes of its connection.
    pub fn excuse(&self) {
        self.moved.set(true);
    }

    /// Returns ready when hyper and h2 hold no frame of the body any more. Its bytes may still be in a buffer for the socket:
    /// see [`super::Flush`].
    pub fn poll_emptied(&self, cx: &Context<'_>) -> Poll<()> {
        if self.held.get() == 0 {
            return Poll::Ready(());
        }
        *self.emptied.borrow_mut() = Some(cx.waker().clone());
        Poll::Pending
    }

    /// Whether none of the held bytes has been written for `stall`. It must be called several times within that span.
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

    /// Notes that `bytes` were dropped unwritten.
    pub(super) fn discard(&self, bytes: usize) {
        self.discarded.set(self.discarded.get() + bytes);
        self.taken(bytes);
    }

    /// Notes that `bytes` have been written or discarded.
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
