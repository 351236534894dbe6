//! The limit on connections to a target, and the queue of requests that wait for a connection.
//!
//! There is one count per target in the process, whichever worker connects. A reload may change the settings and with them the
//! dialer; open connections stay, so the count goes on. Each caller of `take` passes the limit that applies to it.

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

/// Counts the open connections to one target.
#[derive(Default)]
pub struct ConnectionLimit {
    state: Mutex<State>,
    /// The number of waiters; read whenever a connection becomes idle.
    waiting: AtomicUsize,
}

#[derive(Default)]
struct State {
    open: usize,
    /// Waiters in the order of arrival; at most one per request.
    queue: VecDeque<Waiter>,
    next: u64,
}

/// A queued request for a connection.
struct Waiter {
    number: u64,
    /// The limit that applies to this waiter.
    max: usize,
    grant: oneshot::Sender<ConnectionPermit>,
}

/// A permit for one connection; gives it back when dropped.
#[derive(Debug)]
pub(super) struct ConnectionPermit(Arc<ConnectionLimit>);

/// An entry in the queue, removed when dropped.
struct Queued<'a> {
    limit: &'a ConnectionLimit,
    number: u64,
}

impl ConnectionLimit {
    /// Takes a permit, now or as soon as fewer than `max` connections are open. Of the waiters that may have one, the first to
    /// ask gets it. `None` when that takes longer than `timeout`.
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

    /// The number of open connections.
    pub(super) fn open(&self) -> usize {
        self.lock().open
    }

    /// Whether any request waits for a permit.
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
        // If the waiter has just given up, the permit is dropped and released again.
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
        // With a limit of one, two connections have to close first.
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
