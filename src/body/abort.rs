//! The means to end one exchange early: its deadline, the cause, and whom to wake or abort.

use std::{
    cell::{Cell, RefCell},
    task::Waker,
    time::Instant,
};

use tokio::task::AbortHandle;

/// Why an exchange was ended by somebody other than the two peers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Cut {
    /// The client took no byte of the waiting response for too long.
    WriteStall,
    /// The drain's deadline passed.
    Drain,
    /// The exchange as a whole took too long (`timeout.total`).
    Total,
}

/// Ends one exchange early.
#[derive(Debug, Default)]
pub struct Abort {
    deadline: Cell<Option<Instant>>,
    cut: Cell<Option<(Cut, Instant)>>,
    /// The task that polls the response body, or waits for a response.
    waker: RefCell<Option<Waker>>,
    /// The exchange's own task (an HTTP/2 stream).
    task: RefCell<Option<AbortHandle>>,
}

impl Abort {
    /// Sets the task that runs this exchange alone (an HTTP/2 stream). Without one, the connection is what must be ended.
    pub fn runs_in(&self, task: AbortHandle) {
        *self.task.borrow_mut() = Some(task);
    }

    /// Sets the moment by which the exchange must be over.
    pub fn set_deadline(&self, deadline: Option<Instant>) {
        self.deadline.set(deadline);
    }

    /// The moment by which the exchange must be over.
    pub fn deadline(&self) -> Option<Instant> {
        self.deadline.get()
    }

    /// Whether that moment has come.
    pub fn is_late(&self, now: Instant) -> bool {
        self.deadline.get().is_some_and(|deadline| now >= deadline)
    }

    /// Registers the task that [`Abort::cut`] wakes. True when it is another task than before.
    pub fn register(&self, waker: &Waker) -> bool {
        let mut slot = self.waker.borrow_mut();
        if slot.as_ref().is_some_and(|known| known.will_wake(waker)) {
            return false;
        }
        *slot = Some(waker.clone());
        true
    }

    /// Asks the exchange to end; its response body tells the client when it is polled next. The first cause stays.
    pub fn cut(&self, cause: Cut) {
        if self.cut.get().is_none() {
            self.cut.set(Some((cause, Instant::now())));
        }
        if let Some(waker) = self.waker.borrow_mut().take() {
            waker.wake();
        }
    }

    /// Why the exchange was asked to end, if it was.
    pub fn cause(&self) -> Option<Cut> {
        self.cut.get().map(|(cause, _)| cause)
    }

    /// When the exchange was asked to end.
    pub fn cut_since(&self) -> Option<Instant> {
        self.cut.get().map(|(_, since)| since)
    }

    /// Ends the exchange's own task at once; false when it has none and the connection must be ended instead.
    pub fn abort_task(&self) -> bool {
        self.task.borrow().as_ref().map(AbortHandle::abort).is_some()
    }
}
