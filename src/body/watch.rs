//! The abort handle of one exchange.

use std::{
    cell::{Cell, RefCell},
    task::{Context, Poll, Waker},
    time::{Duration, Instant},
};

use tokio::task::AbortHandle;

use super::{About, OpenExchange};
use crate::fault::Phase;

/// Why somebody other than the two peers ended an exchange.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Cut {
    /// The caller took no byte of what waited for it for too long.
    WriteStall,
    /// The drain's deadline passed.
    Drain,
    /// The exchange as a whole took too long (`timeout.total`).
    Total,
}

/// What the connection's driver sees of an exchange whose body hyper may not be polling, and how it ends one.
#[derive(Debug)]
pub struct ExchangeHandle {
    /// When bytes were handed to hyper; `None` while the body is being polled, that is, while the caller keeps up.
    handed: Cell<Option<Instant>>,
    total: Cell<Option<Instant>>,
    cut: Cell<Option<(Cut, Instant)>>,
    waker: RefCell<Option<Waker>>,
    /// Bytes of the body that hyper and h2 hold.
    held: Cell<usize>,
    /// Some of them have been taken since that was last asked.
    moved: Cell<bool>,
    /// Who waits for `held` to be nothing.
    emptied: RefCell<Option<Waker>>,
    task: RefCell<Option<AbortHandle>>,
    about: RefCell<Option<About>>,
    /// Of the answer, as given to hyper.
    frames: Cell<u64>,
    bytes: Cell<u64>,
    phase: Cell<Phase>,
    /// In which phase the caller left, though the exchange goes on.
    left: Cell<Option<Phase>>,
    /// The answer's head went out before there was an answer.
    early: Cell<bool>,
}

impl Default for ExchangeHandle {
    fn default() -> Self {
        Self {
            handed: Cell::default(),
            total: Cell::default(),
            cut: Cell::default(),
            waker: RefCell::default(),
            held: Cell::default(),
            moved: Cell::default(),
            emptied: RefCell::default(),
            task: RefCell::default(),
            about: RefCell::default(),
            frames: Cell::default(),
            bytes: Cell::default(),
            phase: Cell::new(Phase::Request),
            left: Cell::default(),
            early: Cell::default(),
        }
    }
}

impl ExchangeHandle {
    /// The task that runs this exchange alone (an HTTP/2 stream); without one the connection is what must be ended.
    pub fn runs_in(&self, task: AbortHandle) {
        *self.task.borrow_mut() = Some(task);
    }

    /// From here on the exchange must be over by `deadline`.
    pub fn set_total(&self, deadline: Option<Instant>) {
        self.total.set(deadline);
    }

    /// When the exchange must be over.
    pub fn total(&self) -> Option<Instant> {
        self.total.get()
    }

    /// The body gave `hyper` bytes at `now`; the next [`ExchangeHandle::polled`] says that it came for more.
    pub fn handed(&self, now: Instant) {
        self.handed.set(Some(now));
    }

    /// The body is polled again: what was handed over found room.
    pub fn polled(&self) {
        self.handed.set(None);
    }

    /// Says what the exchange is; said again, when more is known.
    pub fn introduce(&self, about: About) {
        *self.about.borrow_mut() = Some(about);
    }

    /// The exchange as it is now, once it was introduced.
    pub fn open_exchange(&self) -> Option<OpenExchange> {
        let about = self.about.borrow().clone()?;
        Some(OpenExchange { about, frames: self.frames.get(), bytes: self.bytes.get() })
    }

    /// How far the exchange has come.
    pub fn phase(&self) -> Phase {
        self.phase.get()
    }

    /// It has come to `phase`.
    pub fn reach(&self, phase: Phase) {
        self.phase.set(phase);
    }

    /// The caller is gone, and the upstream's answer is read on without it. The first time counts.
    pub fn leave(&self) {
        self.left.set(self.left.get().or(Some(self.phase.get())));
    }

    /// In which phase the caller left an exchange that goes on.
    pub fn left(&self) -> Option<Phase> {
        self.left.get()
    }

    /// The head of an answer goes out before it is known what will be in it.
    pub fn answer_early(&self) {
        self.early.set(true);
    }

    /// Whether one did.
    pub fn is_early(&self) -> bool {
        self.early.get()
    }

    /// Frames and bytes of the answer that hyper was given.
    pub fn given(&self) -> (u64, u64) {
        (self.frames.get(), self.bytes.get())
    }

    /// hyper was given `bytes`.
    pub(super) fn gave(&self, bytes: usize) {
        if self.left.get().is_none() {
            self.frames.set(self.frames.get() + 1);
            self.bytes.set(self.bytes.get() + bytes as u64);
        }
        self.held.set(self.held.get() + bytes);
    }

    /// So many of them have been written, or thrown away.
    pub(super) fn taken(&self, bytes: usize) {
        let held = self.held.get().saturating_sub(bytes);
        self.held.set(held);
        self.moved.set(true);
        if held == 0
            && let Some(waker) = self.emptied.borrow_mut().take()
        {
            waker.wake();
        }
    }

    /// Whether hyper and h2 hold something of the body that they have not written.
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

    /// The body waits and wants to be woken by [`ExchangeHandle::cut_by`]. True when another task waits than before.
    pub fn waits(&self, waker: &Waker) -> bool {
        let mut slot = self.waker.borrow_mut();
        if slot.as_ref().is_some_and(|known| known.will_wake(waker)) {
            return false;
        }
        *slot = Some(waker.clone());
        true
    }

    /// Why the exchange is to end, if it is.
    pub fn cut(&self) -> Option<Cut> {
        self.cut.get().map(|(cause, _)| cause)
    }

    /// Since when the exchange has been asked to end.
    pub fn cut_since(&self) -> Option<Instant> {
        self.cut.get().map(|(_, since)| since)
    }

    /// Asks the exchange to end: its body will say so to the caller when it is polled next. The first cause stays.
    pub fn cut_by(&self, cause: Cut) {
        if self.cut.get().is_none() {
            self.cut.set(Some((cause, Instant::now())));
        }
        if let Some(waker) = self.waker.borrow_mut().take() {
            waker.wake();
        }
    }

    /// Ends the exchange's own task at once; false when it has none and the connection must be ended instead.
    pub fn abort(&self) -> bool {
        self.task.borrow().as_ref().map(AbortHandle::abort).is_some()
    }

    /// Whether nothing of what was handed over has been taken for `stall`. To be asked several times within that.
    pub fn is_stalled(&self, now: Instant, stall: Duration) -> bool {
        let Some(since) = self.handed.get() else { return false };
        if self.moved.take() {
            self.handed.set(Some(now));
            return false;
        }
        now.saturating_duration_since(since) >= stall
    }

    /// What is overdue at `now`: the caller's reading for `stall`, or the whole. `stall` is for HTTP/2, where each stream has its
    /// own window. On HTTP/1.1 a body may wait for long while the caller slowly takes what hyper has buffered, so there
    /// [`super::ConnectionState::blocked_since`] tells a stall, and none is given here.
    pub fn overdue(&self, now: Instant, stall: Option<Duration>) -> Option<Cut> {
        let stalled = stall.is_some_and(|stall| self.is_stalled(now, stall));
        let late = self.total.get().is_some_and(|deadline| now >= deadline);
        match (stalled, late) {
            (true, _) => Some(Cut::WriteStall),
            (_, true) => Some(Cut::Total),
            _ => None,
        }
    }
}
