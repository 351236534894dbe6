//! Ends one exchange early: the deadline, the cause, and the tasks to wake or abort.

use std::{
    cell::{Cell, RefCell},
    task::Waker,
    time::{Duration, Instant},
};

use tokio::task::AbortHandle;

use crate::pause::deadline;

/// The reason for which the gateway ended an exchange that neither peer ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Cut {
    /// The client read no byte of the pending response for too long.
    WriteStall,
    /// The drain's deadline passed.
    Drain,
    /// The whole exchange took longer than `timeout.total`.
    Total,
    /// What the client was granted is withdrawn, and it has `on_revoke = "cut"`.
    Revoked,
    /// The operator has cancelled it.
    Operator,
}

/// Ends one exchange early.
#[derive(Debug, Default)]
#[repr(C)]
pub struct Abort {
    cut: Cell<Option<(Cut, Instant)>>,
    /// The task that polls the response body or waits for a response.
    waker: RefCell<Option<Waker>>,
    /// When the exchange began, and how long it may take.
    total: Cell<Option<(Instant, Duration)>>,
    /// The exchange's own task (an HTTP/2 stream).
    task: RefCell<Option<AbortHandle>>,
}

impl Abort {
    /// Sets the task that runs only this exchange (an HTTP/2 stream). An exchange without such a task can only be ended by ending its connection.
    pub fn runs_in(&self, task: AbortHandle) {
        *self.task.borrow_mut() = Some(task);
    }

    /// Sets how long the exchange may take, from `start` on.
    pub fn set_total(&self, start: Instant, total: Option<Duration>) {
        self.total.set(total.map(|total| (start, total)));
    }

    /// The time at which the exchange must be over, if the process is not paused.
    pub fn deadline(&self) -> Option<Instant> {
        self.total.get().map(|(start, total)| start + total)
    }

    /// Whether the deadline has passed, with the pauses of the process added to it.
    pub fn is_late(&self, now: Instant) -> bool {
        let late =
            |(start, total): (Instant, Duration)| now >= start + total && now >= deadline(start, total);
        self.total.get().is_some_and(late)
    }

    /// Registers the task that [`Abort::cut`] wakes. Returns true when it differs from the task registered before.
    pub fn register(&self, waker: &Waker) -> bool {
        let mut slot = self.waker.borrow_mut();
        if slot.as_ref().is_some_and(|known| known.will_wake(waker)) {
            return false;
        }
        *slot = Some(waker.clone());
        true
    }

    /// Requests the end of the exchange and wakes its task. The response body reports the end to the client at its next poll. The first cause is
    /// kept.
    pub fn cut(&self, cause: Cut) {
        if self.cut.get().is_none() {
            self.cut.set(Some((cause, Instant::now())));
        }
        self.wake();
    }

    /// Wakes the task, so that it looks at what has changed.
    pub fn wake(&self) {
        if let Some(waker) = self.waker.borrow_mut().take() {
            waker.wake();
        }
    }

    /// The cause passed to the first [`Abort::cut`], if it was called.
    pub fn cause(&self) -> Option<Cut> {
        self.cut.get().map(|(cause, _)| cause)
    }

    /// The time of the first [`Abort::cut`], if it was called.
    pub fn cut_since(&self) -> Option<Instant> {
        self.cut.get().map(|(_, since)| since)
    }

    /// Aborts the exchange's own task. Returns false when it has none and the connection must be ended instead.
    pub fn abort_task(&self) -> bool {
        self.task.borrow().as_ref().map(AbortHandle::abort).is_some()
    }
}
