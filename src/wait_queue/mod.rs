//! The one queue in which requests wait their turn: for room at an upstream's target (requests in flight, `max_pending`; connections,
//! `max_connections`), and for a limit that would refuse them (`queue`).
//!
//! A [`WaitQueue`] counts permits and keeps the requests that wait for one. A permit that is given back goes to the next waiter directly: no waiter
//! polls, one waiter is woken for one permit, and a request that comes later does not overtake those of its client. Which waiter is next is decided by
//! priority, with a least share for each lower one, and within a priority by turns of the clients, in which each gets the same number of tokens.
//!
//! There is one queue per target in the process, whichever worker asks, and one per subject of a limit. A reload may change a limit while permits are
//! out, so each caller passes the limit that applies to it.

mod flows;
mod schedule;
mod ticket;
mod turns;
mod view;

use std::{
    fmt,
    pin::Pin,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError, Weak,
        atomic::{AtomicU64, AtomicUsize, Ordering},
    },
    task::{Context, Poll, ready},
};

use tokio::sync::{Notify, oneshot};

use schedule::Schedule;
pub use ticket::{ArrivalNumber, FlowKey, Ticket};
pub use turns::{QueueBounds, TurnQueue, TurnWaiter};
pub use view::QueueView;

/// Waiters in one queue, whatever else bounds it.
const MOST_WAITERS: usize = 65_536;

/// Counts permits, and queues those who wait for one.
#[derive(Default)]
pub struct WaitQueue {
    /// Permits that are out.
    taken: AtomicUsize,
    /// The number of waiters without a permit, so that no lock is taken while none waits.
    waiting: AtomicUsize,
    /// The number of [`Waiter`]s, with those that have got their permits.
    waiters: AtomicUsize,
    /// Bytes of the requests of all [`Waiter`]s.
    bytes: AtomicU64,
    state: Mutex<State>,
}

/// How much a queue holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Room {
    /// Requests, at most 65,536.
    pub waiters: usize,
    /// Bytes of these requests.
    pub bytes: u64,
}

impl Room {
    /// As many requests as a queue can have, with as many bytes as the process may hold.
    pub const LARGEST: Self = Self { waiters: MOST_WAITERS, bytes: u64::MAX };
}

/// A permit; given back, or to the next waiter, when dropped.
#[derive(Debug)]
pub struct QueuePermit(Arc<WaitQueue>);

/// A waiter's place in the queue: resolves to its permit. Dropping it leaves the queue, and passes on a permit that has come meanwhile. It counts in
/// the queue's [`Room`] until it is dropped.
#[derive(Debug)]
#[must_use = "leaves the queue when it is dropped"]
pub struct Waiter {
    queue: Arc<WaitQueue>,
    ticket: Ticket,
    number: u64,
    position: usize,
    /// `None` once it has resolved.
    granted: Option<oneshot::Receiver<QueuePermit>>,
}

#[derive(Default)]
struct State {
    /// Bounded by [`MOST_WAITERS`].
    schedule: Schedule<Grant>,
    /// No waiter has a larger limit.
    largest_limit: usize,
    /// The number of the next waiter.
    next: u64,
    /// Notified when a request begins to wait: workers that may keep idle what holds a permit. At most one for each worker.
    holders: Vec<Weak<Notify>>,
}

/// How one waiter gets its permit.
#[derive(Debug)]
struct Grant {
    number: u64,
    /// The limit that applies to this waiter.
    limit: usize,
    sender: oneshot::Sender<QueuePermit>,
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

    /// The number of [`Waiter`]s: also of those that have a permit, and wait for something else before they leave.
    pub fn waiters(&self) -> usize {
        self.waiters.load(Ordering::Relaxed)
    }

    /// What the queue holds.
    pub fn view(&self) -> QueueView {
        if !self.has_waiters() {
            return QueueView::default();
        }
        self.lock().schedule.view()
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

    /// Joins the queue, to get a permit when fewer than `limit` are out and its turn has come. `None`: the queue has no room for it.
    pub fn enqueue(self: &Arc<Self>, limit: usize, bounds: Room, ticket: Ticket) -> Option<Waiter> {
        if !self.count_waiter(bounds, ticket.bytes) {
            return None;
        }
        let (sender, granted) = oneshot::channel();
        let mut state = self.lock();
        let number = state.next;
        state.next += 1;
        state.largest_limit = state.largest_limit.max(limit);
        let position = state.schedule.insert(ticket, Grant { number, limit, sender });
        self.waiting.fetch_add(1, Ordering::SeqCst);
        let holders = std::mem::take(&mut state.holders);
        holders.iter().filter_map(Weak::upgrade).for_each(|holder| holder.notify_one());
        state.holders = holders;
        drop(state);
        let waiter = Waiter { queue: self.clone(), ticket, number, position, granted: Some(granted) };
        // A permit that was given back before it could see this waiter.
        self.hand_over();
        Some(waiter)
    }

    /// Charges what a request that this queue has served has really used. The next turns of its client are the later for it, or the sooner.
    pub fn correct(&self, ticket: &Ticket, used: u64) {
        let excess = ticket.excess(used);
        if excess != 0 && self.has_waiters() {
            self.lock().schedule.charge(ticket.priority, ticket.flow, excess);
        }
    }

    /// From now on `holder` is notified when a request begins to wait.
    pub fn notify(&self, holder: &Arc<Notify>) {
        let mut state = self.lock();
        state.holders.retain(|known| known.strong_count() > 0);
        let holder = Arc::downgrade(holder);
        if !state.holders.iter().any(|known| known.ptr_eq(&holder)) {
            state.holders.push(holder);
        }
    }

    /// Takes the waiter to be served next out of the queue if it `is_wanted`, by its number. It is then served in another way, together
    /// with a permit that is out already.
    pub fn withdraw_next(&self, is_wanted: impl Fn(u64) -> bool) -> Option<u64> {
        let mut state = self.lock();
        let out = self.taken();
        let grant = state.take_next(|grant| out <= grant.limit, |grant| is_wanted(grant.number))?;
        self.waiting.fetch_sub(1, Ordering::SeqCst);
        Some(grant.number)
    }

    /// Counts one more waiter with so many bytes, if `bounds` allow it.
    fn count_waiter(&self, bounds: Room, bytes: u64) -> bool {
        let most = bounds.waiters.min(MOST_WAITERS);
        let more = |waiters: usize| (waiters < most).then(|| waiters + 1);
        if self.waiters.fetch_update(Ordering::SeqCst, Ordering::SeqCst, more).is_err() {
            return false;
        }
        let held = self.bytes.fetch_add(bytes, Ordering::SeqCst);
        if held.saturating_add(bytes) > bounds.bytes {
            self.forget_waiter(bytes);
            return false;
        }
        true
    }

    fn forget_waiter(&self, bytes: u64) {
        self.bytes.fetch_sub(bytes, Ordering::SeqCst);
        self.waiters.fetch_sub(1, Ordering::SeqCst);
    }

    /// Counts one more permit if fewer than `limit` are out.
    fn count_one(&self, limit: usize) -> bool {
        let more = |taken: usize| (taken < limit).then(|| taken + 1);
        self.taken.fetch_update(Ordering::SeqCst, Ordering::SeqCst, more).is_ok()
    }

    /// Gives permits to waiters for as long as there are both.
    fn hand_over(self: &Arc<Self>) {
        while let Some(grant) = self.next_grant() {
            // If the waiter has just left, the permit is dropped, and goes to the next one.
            let _ = grant.sender.send(QueuePermit(self.clone()));
        }
    }

    /// The waiter to be served now. Its permit is counted.
    fn next_grant(&self) -> Option<Grant> {
        if !self.has_waiters() {
            return None;
        }
        let mut state = self.lock();
        let taken = self.taken();
        if taken >= state.largest_limit {
            return None;
        }
        // Where another has counted a permit meanwhile, giving that back leads here again.
        let grant = state.take_next(|grant| taken < grant.limit, |grant| self.count_one(grant.limit))?;
        self.waiting.fetch_sub(1, Ordering::SeqCst);
        Some(grant)
    }

    /// Nothing panics while it holds the lock.
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    fn take_next(
        &mut self,
        may: impl Fn(&Grant) -> bool,
        is_wanted: impl FnOnce(&Grant) -> bool,
    ) -> Option<Grant> {
        let grant = self.schedule.take_next(may, is_wanted);
        self.forget_limit_if_idle();
        grant
    }

    fn forget_limit_if_idle(&mut self) {
        if self.schedule.waiting() == 0 {
            self.largest_limit = 0;
        }
    }
}

impl QueuePermit {
    /// The queue that the permit is from.
    pub fn queue(&self) -> &Arc<WaitQueue> {
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
    pub fn number(&self) -> u64 {
        self.number
    }

    /// Its position when it joined the queue, from 1: how many permits are granted until it has one, if all requests cost the same and no other
    /// joins or leaves.
    pub fn position(&self) -> usize {
        self.position
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
        // A permit that has come is dropped with the receiver, without the lock.
        if state.schedule.remove(&self.ticket).is_some() {
            state.forget_limit_if_idle();
            self.queue.waiting.fetch_sub(1, Ordering::SeqCst);
        }
        drop(state);
        self.queue.forget_waiter(self.ticket.bytes);
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
mod tests;
