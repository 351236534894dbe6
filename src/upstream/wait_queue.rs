//! The one queue for what is limited at an upstream: requests in flight (`max_pending`) and connections (`max_connections`).
//!
//! A [`WaitQueue`] counts permits and keeps the requests that wait for one. A permit that is given back goes to the first waiter directly: no waiter
//! polls, one waiter is woken for one permit, and a request that comes later does not overtake. Waiters belong to flows. Within a flow the
//! first to come is the first to be served; flows take turns.
//!
//! There is one queue per target in the process, whichever worker asks. A reload may change a limit while permits are out, so each caller
//! passes the limit that applies to it.

use std::{
    collections::{HashMap, VecDeque},
    fmt,
    pin::Pin,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError, Weak,
        atomic::{AtomicUsize, Ordering},
    },
    task::{Context, Poll, ready},
};

use tokio::sync::{Notify, oneshot};

/// Waiters in one queue. A request that finds so many before it is refused at once.
const MOST_WAITERS: usize = 65_536;

/// Counts permits, and queues those who wait for one.
#[derive(Default)]
pub struct WaitQueue {
    /// Permits that are out.
    taken: AtomicUsize,
    /// The number of waiters, so that no lock is taken while none waits.
    waiting: AtomicUsize,
    state: Mutex<State>,
}

/// Which waiters are served in turns with others. Waiters of one flow are served in the order in which they came.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash)]
pub struct FlowKey(pub u64);

/// A permit; given back, or to the first waiter, when dropped.
#[derive(Debug)]
pub struct QueuePermit(Arc<WaitQueue>);

/// A waiter's place in the queue: resolves to its permit. Dropping it leaves the queue, and passes on a permit that has come meanwhile.
#[derive(Debug)]
#[must_use = "leaves the queue when it is dropped"]
pub struct Waiter {
    queue: Arc<WaitQueue>,
    flow: FlowKey,
    number: u64,
    /// `None` once it has resolved.
    granted: Option<oneshot::Receiver<QueuePermit>>,
}

#[derive(Default)]
struct State {
    /// Entries by flow, in the order of arrival; no flow is empty. Bounded by [`MOST_WAITERS`] in all.
    flows: HashMap<FlowKey, VecDeque<Entry>>,
    /// The flows in the order of their turns; each once.
    turns: VecDeque<FlowKey>,
    /// No waiter has a larger limit.
    largest_limit: usize,
    /// The number of the next waiter.
    next: u64,
    /// Notified when a request begins to wait: workers that may keep idle what holds a permit. At most one for each worker.
    holders: Vec<Weak<Notify>>,
}

/// One waiter.
struct Entry {
    number: u64,
    /// The limit that applies to this waiter.
    limit: usize,
    grant: oneshot::Sender<QueuePermit>,
}

impl WaitQueue {
    /// The permits that are out.
    pub fn taken(&self) -> usize {
        self.taken.load(Ordering::Relaxed)
    }

    /// The number of requests that wait for a permit.
    pub fn waiting(&self) -> usize {
        self.waiting.load(Ordering::SeqCst)
    }

    /// Whether any request waits for a permit.
    pub fn has_waiters(&self) -> bool {
        self.waiting() > 0
    }

    /// A permit, if fewer than `limit` are out and no request waits. Without a limit there always is one.
    pub fn try_take(self: &Arc<Self>, limit: Option<usize>) -> Option<QueuePermit> {
        match limit {
            None => _ = self.taken.fetch_add(1, Ordering::SeqCst),
            Some(limit) if self.has_waiters() || !self.count_one(limit) => return None,
            Some(_) => {}
        }
        Some(QueuePermit(self.clone()))
    }

    /// Joins the queue as the last of `flow`. `None` if the queue itself is full.
    pub fn enqueue(self: &Arc<Self>, limit: usize, flow: FlowKey) -> Option<Waiter> {
        let (grant, granted) = oneshot::channel();
        let mut state = self.lock();
        if self.waiting() >= MOST_WAITERS {
            return None;
        }
        let number = state.push(flow, limit, grant);
        self.waiting.fetch_add(1, Ordering::SeqCst);
        let holders = std::mem::take(&mut state.holders);
        holders.iter().filter_map(Weak::upgrade).for_each(|holder| holder.notify_one());
        state.holders = holders;
        drop(state);
        // A permit that was given back before it could see this waiter.
        self.hand_over();
        Some(Waiter { queue: self.clone(), flow, number, granted: Some(granted) })
    }

    /// From now on `holder` is notified when a request begins to wait.
    pub(super) fn notify(&self, holder: &Arc<Notify>) {
        let mut state = self.lock();
        state.holders.retain(|known| known.strong_count() > 0);
        let holder = Arc::downgrade(holder);
        if !state.holders.iter().any(|known| known.ptr_eq(&holder)) {
            state.holders.push(holder);
        }
    }

    /// Takes the waiter to be served next out of the queue if it `is_wanted`, by its number. It is then served in another way, together
    /// with a permit that is out already.
    pub(super) fn withdraw_next(&self, is_wanted: impl Fn(u64) -> bool) -> Option<u64> {
        let mut state = self.lock();
        let out = self.taken();
        let entry = state.remove_first(|entry| out <= entry.limit, |entry| is_wanted(entry.number))?;
        self.waiting.fetch_sub(1, Ordering::SeqCst);
        Some(entry.number)
    }

    /// Counts one more permit if fewer than `limit` are out.
    fn count_one(&self, limit: usize) -> bool {
        let more = |taken: usize| (taken < limit).then(|| taken + 1);
        self.taken.fetch_update(Ordering::SeqCst, Ordering::SeqCst, more).is_ok()
    }

    /// Gives permits to waiters for as long as there are both.
    fn hand_over(self: &Arc<Self>) {
        while let Some(entry) = self.next_entry() {
            // If the waiter has just left, the permit is dropped, and goes to the next one.
            let _ = entry.grant.send(QueuePermit(self.clone()));
        }
    }

    /// The waiter to be served now. Its permit is counted.
    fn next_entry(&self) -> Option<Entry> {
        if !self.has_waiters() {
            return None;
        }
        let mut state = self.lock();
        if self.taken() >= state.largest_limit {
            return None;
        }
        let entry = state.remove_first(|entry| self.count_one(entry.limit), |_| true)?;
        self.waiting.fetch_sub(1, Ordering::SeqCst);
        Some(entry)
    }

    /// Nothing panics while it holds the lock.
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    fn push(&mut self, flow: FlowKey, limit: usize, grant: oneshot::Sender<QueuePermit>) -> u64 {
        let number = self.next;
        self.next += 1;
        self.largest_limit = self.largest_limit.max(limit);
        let entries = self.flows.entry(flow).or_default();
        if entries.is_empty() {
            self.turns.push_back(flow);
        }
        entries.push_back(Entry { number, limit, grant });
        number
    }

    /// Finds the first entry that `may` have a permit, and removes it if it `is_wanted`. Its flow's next turn comes after all others.
    fn remove_first(
        &mut self,
        mut may: impl FnMut(&Entry) -> bool,
        is_wanted: impl Fn(&Entry) -> bool,
    ) -> Option<Entry> {
        for turn in 0..self.turns.len() {
            let flow = *self.turns.get(turn)?;
            let entries = self.flows.get(&flow)?;
            let Some(index) = entries.iter().position(&mut may) else { continue };
            if !entries.get(index).is_some_and(is_wanted) {
                return None;
            }
            self.turns.remove(turn);
            self.turns.push_back(flow);
            return self.remove(flow, index);
        }
        None
    }

    fn remove(&mut self, flow: FlowKey, index: usize) -> Option<Entry> {
        let entries = self.flows.get_mut(&flow)?;
        let entry = entries.remove(index);
        if entries.is_empty() {
            self.flows.remove(&flow);
            self.turns.retain(|turn| *turn != flow);
        }
        if self.flows.is_empty() {
            self.largest_limit = 0;
        }
        entry
    }
}

impl QueuePermit {
    /// The queue that the permit is from.
    pub(super) fn queue(&self) -> &Arc<WaitQueue> {
        &self.0
    }
}

impl Drop for QueuePermit {
    fn drop(&mut self) {
        self.0.taken.fetch_sub(1, Ordering::SeqCst);
        self.0.hand_over();
    }
}

impl Waiter {
    /// The number of the waiter, unique in its queue.
    pub(super) fn number(&self) -> u64 {
        self.number
    }
}

impl Future for Waiter {
    type Output = QueuePermit;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<QueuePermit> {
        let Some(granted) = &mut self.granted else { return Poll::Pending };
        let granted = ready!(Pin::new(granted).poll(cx));
        self.granted = None;
        // Without a permit it was withdrawn, and is served in another way.
        granted.map_or(Poll::Pending, Poll::Ready)
    }
}

impl Drop for Waiter {
    fn drop(&mut self) {
        let mut state = self.queue.lock();
        let entries = state.flows.get(&self.flow);
        let index =
            entries.and_then(|entries| entries.binary_search_by_key(&self.number, |entry| entry.number).ok());
        if let Some(index) = index {
            state.remove(self.flow, index);
            self.queue.waiting.fetch_sub(1, Ordering::SeqCst);
        }
        drop(state);
        // A waiter with a larger limit may have stood behind this one.
        self.queue.hand_over();
    }
}

impl fmt::Debug for WaitQueue {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("WaitQueue")
            .field("taken", &self.taken())
            .field("waiting", &self.waiting())
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use std::{
        sync::{Barrier, atomic::AtomicBool},
        task::Waker,
        thread,
    };

    use super::*;

    const ONE: FlowKey = FlowKey(1);
    const TWO: FlowKey = FlowKey(2);

    fn queue() -> Arc<WaitQueue> {
        Arc::default()
    }

    fn wait(queue: &Arc<WaitQueue>, limit: usize, flow: FlowKey) -> Waiter {
        queue.enqueue(limit, flow).expect("there is room in the queue")
    }

    fn granted(waiter: &mut Waiter) -> Option<QueuePermit> {
        match Pin::new(waiter).poll(&mut Context::from_waker(Waker::noop())) {
            Poll::Ready(permit) => Some(permit),
            Poll::Pending => None,
        }
    }

    #[test]
    fn the_first_to_come_is_the_first_to_be_served() {
        let queue = queue();
        let first = queue.try_take(Some(1)).unwrap();
        assert!(queue.try_take(Some(1)).is_none());
        let mut waiters: Vec<_> = (0..3).map(|_| wait(&queue, 1, ONE)).collect();
        assert!(waiters.iter_mut().all(|waiter| granted(waiter).is_none()));
        let mut permit = first;
        for turn in 0..3 {
            drop(permit);
            assert_eq!(queue.taken(), 1, "it is handed over, and never free");
            assert!(queue.try_take(Some(1)).is_none(), "no request overtakes");
            let mut served = waiters
                .iter_mut()
                .enumerate()
                .filter_map(|(index, waiter)| granted(waiter).map(|permit| (index, permit)));
            let (index, next) = served.next().unwrap();
            assert!(index == turn && served.next().is_none());
            permit = next;
        }
        drop(permit);
        assert!(queue.taken() == 0 && !queue.has_waiters());
        assert!(queue.try_take(Some(1)).is_some());
    }

    #[test]
    fn a_later_request_does_not_overtake_those_that_wait() {
        let queue = queue();
        let permit = queue.try_take(Some(2)).unwrap();
        let second = queue.try_take(Some(2)).unwrap();
        let _waiting = wait(&queue, 1, ONE);
        drop(second);
        assert_eq!(queue.taken(), 1, "the waiter's own limit is reached");
        assert!(queue.try_take(Some(2)).is_none());
        assert!(granted(&mut wait(&queue, 2, ONE)).is_some(), "a waiter with a larger limit is not delayed");
        drop(permit);
    }

    #[test]
    fn flows_take_turns() {
        let queue = queue();
        let mut permit = queue.try_take(Some(1)).unwrap();
        let mut waiters: Vec<_> =
            [ONE, ONE, ONE, TWO, TWO].into_iter().map(|flow| wait(&queue, 1, flow)).collect();
        let mut order = Vec::new();
        for _ in 0..waiters.len() {
            drop(permit);
            let mut served = waiters
                .iter_mut()
                .enumerate()
                .filter_map(|(index, waiter)| granted(waiter).map(|permit| (index, permit)));
            let (index, next) = served.next().unwrap();
            order.push(index);
            permit = next;
        }
        assert_eq!(order, [0, 3, 1, 4, 2]);
    }

    #[test]
    fn a_waiter_that_leaves_gives_its_permit_to_the_next() {
        let queue = queue();
        let permit = queue.try_take(Some(1)).unwrap();
        let (left, given, mut last) = (wait(&queue, 1, ONE), wait(&queue, 1, ONE), wait(&queue, 1, TWO));
        drop(left);
        drop(permit);
        assert_eq!(queue.taken(), 1, "it is given to the second");
        drop(given);
        assert_eq!(queue.taken(), 1, "and passed on to the last");
        drop(granted(&mut last).unwrap());
        assert!(queue.taken() == 0 && !queue.has_waiters());
    }

    #[test]
    fn a_waiter_with_a_smaller_limit_that_leaves_delays_no_other() {
        let queue = queue();
        let permits: Vec<_> = (0..2).map(|_| queue.try_take(None).unwrap()).collect();
        let fewer = wait(&queue, 1, ONE);
        let mut more = wait(&queue, 2, ONE);
        drop(fewer);
        drop(permits);
        assert!(granted(&mut more).is_some());
    }

    #[test]
    fn the_next_one_can_be_served_with_a_permit_that_is_out() {
        let queue = queue();
        let _permit = queue.try_take(Some(1)).unwrap();
        let (first, second) = (wait(&queue, 1, ONE), wait(&queue, 1, ONE));
        assert_eq!(queue.withdraw_next(|number| number == second.number()), None);
        for waiter in [first, second] {
            assert_eq!(queue.withdraw_next(|_| true), Some(waiter.number()));
        }
        assert!(queue.taken() == 1 && !queue.has_waiters());
    }

    #[test]
    fn the_queue_is_bounded() {
        let queue = queue();
        let _permit = queue.try_take(Some(1)).unwrap();
        let waiters: Vec<_> = (0..MOST_WAITERS).map(|_| wait(&queue, 1, ONE)).collect();
        assert!(queue.enqueue(1, TWO).is_none());
        drop(waiters);
        assert!(queue.enqueue(1, TWO).is_some());
    }

    #[test]
    fn idle_holders_are_notified() {
        let (queue, holder) = (queue(), Arc::<Notify>::default());
        queue.notify(&holder);
        queue.notify(&holder);
        assert_eq!(queue.lock().holders.len(), 1);
        let mut notified = Box::pin(holder.notified());
        let mut cx = Context::from_waker(Waker::noop());
        assert!(notified.as_mut().poll(&mut cx).is_pending());
        let _waiting = wait(&queue, 0, ONE);
        assert!(notified.as_mut().poll(&mut cx).is_ready());
    }

    /// Threads take, wait, leave and give back; no permit is lost or counted twice, and every waiter that stays is served.
    #[tokio::test]
    async fn nothing_is_lost_between_threads() {
        const THREADS: usize = 4;
        let queue = queue();
        let start = Arc::new(Barrier::new(THREADS));
        let over = Arc::new(AtomicBool::new(false));
        let threads: Vec<_> = (0..THREADS as u64)
            .map(|thread| {
                let (queue, start, over) = (queue.clone(), start.clone(), over.clone());
                thread::spawn(move || {
                    let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
                    start.wait();
                    for round in 0..2_000_u64 {
                        if let Some(permit) = queue.try_take(Some(2)) {
                            drop(permit);
                            continue;
                        }
                        let mut waiter = wait(&queue, 2, FlowKey(thread % 2));
                        if round % 3 == 0 {
                            drop(granted(&mut waiter));
                            continue;
                        }
                        let permit = runtime.block_on(waiter);
                        over.fetch_or(queue.taken() > 2, Ordering::Relaxed);
                        drop(permit);
                    }
                })
            })
            .collect();
        threads.into_iter().for_each(|thread| thread.join().unwrap());
        assert!(!over.load(Ordering::Relaxed), "never more than the limit");
        assert!(queue.taken() == 0 && !queue.has_waiters());
        assert!(queue.lock().turns.is_empty());
    }
}
