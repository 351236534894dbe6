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
    most: usize,
    grant: oneshot::Sender<Slot>,
}

/// One connection that is counted, until it is dropped.
#[derive(Debug)]
pub(super) struct Slot(Arc<ConnectionLimit>);

/// A place in the queue, given up when dropped.
struct Queued<'a> {
    slots: &'a ConnectionLimit,
    number: u64,
}

impl ConnectionLimit {
    /// Counts one more connection, now or as soon as there are fewer than `most`: of those who may have one, the first to ask is the first
    /// to get it. `None` when that takes longer than `patience`.
    pub(super) async fn take(self: &Arc<Self>, most: usize, patience: Duration) -> Option<Slot> {
        let (_queued, granted) = {
            let mut state = self.lock();
            if state.open < most {
                state.open += 1;
                return Some(Slot(self.clone()));
            }
            self.enqueue(&mut state, most)
        };
        tokio::time::timeout(patience, granted).await.ok()?.ok()
    }

    /// How many there are.
    pub(super) fn open(&self) -> usize {
        self.lock().open
    }

    /// Whether anybody waits.
    pub(super) fn are_waited_for(&self) -> bool {
        self.waiting.load(Ordering::Relaxed) > 0
    }

    fn enqueue(&self, state: &mut State, most: usize) -> (Queued<'_>, oneshot::Receiver<Slot>) {
        let (grant, granted) = oneshot::channel();
        let number = state.next;
        state.next += 1;
        state.queue.push_back(Waiter { number, most, grant });
        self.waiting.store(state.queue.len(), Ordering::Relaxed);
        (Queued { slots: self, number }, granted)
    }

    fn release(self: &Arc<Self>) {
        let mut state = self.lock();
        state.open -= 1;
        let open = state.open;
        let first = state.queue.iter().position(|waiter| open < waiter.most);
        let Some(waiter) = first.and_then(|first| state.queue.remove(first)) else { return };
        state.open += 1;
        self.waiting.store(state.queue.len(), Ordering::Relaxed);
        drop(state);
        // Who has just stopped waiting does not take it: it is dropped, and comes back here.
        let _ = waiter.grant.send(Slot(self.clone()));
    }

    /// Nothing panics while it holds the lock.
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Slot {
    fn drop(&mut self) {
        self.0.release();
    }
}

impl Drop for Queued<'_> {
    fn drop(&mut self) {
        let mut state = self.slots.lock();
        state.queue.retain(|waiter| waiter.number != self.number);
        self.slots.waiting.store(state.queue.len(), Ordering::Relaxed);
    }
}

impl fmt::Debug for ConnectionLimit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Slots").field("open", &self.open()).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use std::task::{Context, Waker};

    use super::*;

    const LONG: Duration = Duration::from_secs(60);

    #[tokio::test]
    async fn the_first_to_ask_of_those_who_may_is_the_first_to_get_it() {
        let slots = Arc::new(ConnectionLimit::default());
        let (one, two) = (slots.take(2, LONG).await.unwrap(), slots.take(2, LONG).await.unwrap());
        assert!(slots.take(2, Duration::ZERO).await.is_none() && !slots.are_waited_for());
        // Where only one is allowed, two are to go first.
        let fewer = tokio::spawn({
            let slots = slots.clone();
            async move { slots.take(1, LONG).await.is_some() }
        });
        tokio::task::yield_now().await;
        let more = tokio::spawn({
            let slots = slots.clone();
            async move { slots.take(2, LONG).await.unwrap() }
        });
        tokio::task::yield_now().await;
        assert!(slots.are_waited_for());
        drop(one);
        let three = more.await.unwrap();
        assert!(slots.open() == 2 && !fewer.is_finished());
        drop((two, three));
        assert!(fewer.await.unwrap());
        assert!(slots.open() == 0 && !slots.are_waited_for());
        assert!(slots.take(usize::MAX, LONG).await.is_some());
    }

    #[tokio::test]
    async fn who_is_given_one_and_no_longer_waits_gives_it_back() {
        let slots = Arc::new(ConnectionLimit::default());
        let one = slots.take(1, LONG).await;
        let mut waiting = Box::pin(slots.take(1, LONG));
        let mut cx = Context::from_waker(Waker::noop());
        assert!(waiting.as_mut().poll(&mut cx).is_pending());
        drop(one);
        assert_eq!(slots.open(), 1, "it is his");
        drop(waiting);
        assert_eq!(slots.open(), 0);
    }
}
