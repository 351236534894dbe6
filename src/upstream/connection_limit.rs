//! How many connections there are to a target, and who waits until there may be one more.
//!
//! One count for each target in the process, whichever worker asks. Settings change with a reload, and with them the dialer; the
//! connections that are there stay, so the count goes on. Each who asks says how many there may be.

use std::{
    collections::VecDeque,
    fmt,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use tokio::sync::oneshot;

/// The connections to one target.
#[derive(Default)]
pub struct ConnectionLimit {
    state: Mutex<State>,
    /// How many wait: asked whenever a connection is put aside.
    waiting: AtomicUsize,
}

#[derive(Default)]
struct State {
    open: usize,
    /// In the order in which they came; no more than there are requests.
    queue: VecDeque<Waiter>,
    next: u64,
}

/// One who waits.
struct Waiter {
    number: u64,
    /// There may be so many.
    max: usize,
    grant: oneshot::Sender<ConnectionPermit>,
}

/// One connection that is counted, until it is dropped.
#[derive(Debug)]
pub(super) struct ConnectionPermit(Arc<ConnectionLimit>);

/// A place in the queue, given up when dropped.
struct Queued<'a> {
    limit: &'a ConnectionLimit,
    number: u64,
}

impl ConnectionLimit {
    /// Counts one more connection, now or as soon as there are fewer than `most`: of those who may have one, the first to ask is the first
    /// to get it. `None` when that takes longer than `patience`.
    pub(super) async fn take(self: &Arc<Self>, max: usize, timeout: Duration) -> Option<ConnectionPermit> {
        let (_queued, granted) = {
            let mut state = self.lock();
            if state.open < max {
                state.open += 1;
                return Some(ConnectionPermit(self.clone()));
            }
            self.enqueue(&mut state, max)
        };
        tokio::time::timeout(timeout, granted).await.ok()?.ok()
    }

    /// How many there are.
    pub(super) fn open(&self) -> usize {
        self.lock().open
    }

    /// Whether anybody waits.
    pub(super) fn has_waiters(&self) -> bool {
        self.waiting.load(Ordering::Relaxed) > 0
    }

    fn enqueue(&self, state: &mut State, max: usize) -> (Queued<'_>, oneshot::Receiver<ConnectionPermit>) {
        let (grant, granted) = oneshot::channel();
        let number = state.next;
        state.next += 1;
        state.queue.push_back(Waiter { number, max, grant });
        self.waiting.store(state.queue.len(), Ordering::Relaxed);
        (Queued { limit: self, number }, granted)
    }

    fn release(self: &Arc<Self>) {
        let mut state = self.lock();
        state.open -= 1;
        let open = state.open;
        let first = state.queue.iter().position(|waiter| open < waiter.max);
        let Some(waiter) = first.and_then(|first| state.queue.remove(first)) else { return };
        state.open += 1;
        self.waiting.store(state.queue.len(), Ordering::Relaxed);
        drop(state);
        // Who has just stopped waiting does not take it: it is dropped, and comes back here.
        let _ = waiter.grant.send(ConnectionPermit(self.clone()));
    }

    /// Nothing panics while it holds the lock.
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for ConnectionPermit {
    fn drop(&mut self) {
        self.0.release();
    }
}

impl Drop for Queued<'_> {
    fn drop(&mut self) {
        let mut state = self.limit.lock();
        state.queue.retain(|waiter| waiter.number != self.number);
        self.limit.waiting.store(state.queue.len(), Ordering::Relaxed);
    }
}

impl fmt::Debug for ConnectionLimit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ConnectionLimit").field("open", &self.open()).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use std::task::{Context, Waker};

    use super::*;

    const LONG: Duration = Duration::from_secs(60);

    #[tokio::test]
    async fn the_first_to_ask_of_those_who_may_is_the_first_to_get_it() {
        let limit = Arc::new(ConnectionLimit::default());
        let (one, two) = (limit.take(2, LONG).await.unwrap(), limit.take(2, LONG).await.unwrap());
        assert!(limit.take(2, Duration::ZERO).await.is_none() && !limit.has_waiters());
        // Where only one is allowed, two are to go first.
        let fewer = tokio::spawn({
            let limit = limit.clone();
            async move { limit.take(1, LONG).await.is_some() }
        });
        tokio::task::yield_now().await;
        let more = tokio::spawn({
            let limit = limit.clone();
            async move { limit.take(2, LONG).await.unwrap() }
        });
        tokio::task::yield_now().await;
        assert!(limit.has_waiters());
        drop(one);
        let three = more.await.unwrap();
        assert!(limit.open() == 2 && !fewer.is_finished());
        drop((two, three));
        assert!(fewer.await.unwrap());
        assert!(limit.open() == 0 && !limit.has_waiters());
        assert!(limit.take(usize::MAX, LONG).await.is_some());
    }

    #[tokio::test]
    async fn who_is_given_one_and_no_longer_waits_gives_it_back() {
        let limit = Arc::new(ConnectionLimit::default());
        let one = limit.take(1, LONG).await;
        let mut waiting = Box::pin(limit.take(1, LONG));
        let mut cx = Context::from_waker(Waker::noop());
        assert!(waiting.as_mut().poll(&mut cx).is_pending());
        drop(one);
        assert_eq!(limit.open(), 1, "it is his");
        drop(waiting);
        assert_eq!(limit.open(), 0);
    }
}
