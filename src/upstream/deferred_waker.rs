//! A waker that records wake-ups, so that a connection is polled only when something happened on it.

use std::{
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
    task::{Context, Wake, Waker},
};

/// Connects an upstream connection with the task that polls it.
///
/// The connection, its response future and its body all register this waker. A wake-up from outside marks the connection as ready
/// to be polled and wakes the task. A wake-up while the connection is being polled only marks it, since the task checks the mark
/// before it returns. So a frame costs its task no second wake-up.
#[derive(Debug, Default)]
pub(super) struct DeferredWaker {
    marked: AtomicBool,
    polling: AtomicBool,
    task: Mutex<Option<Waker>>,
}

impl DeferredWaker {
    /// Marked initially: a new connection has to be polled once to register its waker.
    pub(super) fn new() -> Arc<Self> {
        let waker = Self::default();
        waker.marked.store(true, Ordering::SeqCst);
        Arc::new(waker)
    }

    /// From now on wake-ups go to the task behind `cx`. Until [`DeferredWaker::leave`] they only set the mark.
    pub(super) fn enter(&self, cx: &Context<'_>) {
        self.polling.store(true, Ordering::SeqCst);
        let mut task = self.task.lock().unwrap_or_else(PoisonError::into_inner);
        match &mut *task {
            Some(known) => known.clone_from(cx.waker()),
            None => *task = Some(cx.waker().clone()),
        }
    }

    /// Takes the mark and returns whether it was set.
    pub(super) fn take(&self) -> bool {
        self.marked.swap(false, Ordering::SeqCst)
    }

    /// Ends what [`DeferredWaker::enter`] began. If the mark is still set, the task is woken again.
    pub(super) fn leave(&self, cx: &Context<'_>, pending: bool) {
        self.polling.store(false, Ordering::SeqCst);
        if pending && self.marked.load(Ordering::SeqCst) {
            cx.waker().wake_by_ref();
        }
    }
}

impl Wake for DeferredWaker {
    fn wake(self: Arc<Self>) {
        self.wake_by_ref();
    }

    fn wake_by_ref(self: &Arc<Self>) {
        self.marked.store(true, Ordering::SeqCst);
        if !self.polling.load(Ordering::SeqCst)
            && let Some(task) = &*self.task.lock().unwrap_or_else(PoisonError::into_inner)
        {
            task.wake_by_ref();
        }
    }
}
