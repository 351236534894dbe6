//! A queue in which one waiter at a time has the turn to try something that may fail.
//!
//! Who has the turn is decided by the same schedule as in a [`WaitQueue`](super::WaitQueue). A waiter that has the turn and fails keeps its place; it
//! tries again when it is woken, because something was given back, or when a time has come. With each event, and with each request that joins, the
//! turn is decided again. A waiter counts as served when it is admitted. Nobody polls, and one waiter is woken for one event.

use std::{
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use tokio::sync::Notify;

use super::{MOST_WAITERS, QueueView, Room, schedule::Schedule, ticket::Ticket};

/// How much such a queue holds, and for how long.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct QueueBounds {
    /// Requests and their bytes.
    pub room: Room,
    /// The longest wait of a request.
    pub wait: Duration,
}

/// The requests that wait for one thing.
#[derive(Debug, Default)]
pub struct TurnQueue {
    /// The number of waiters, so that no lock is taken while none waits.
    depth: AtomicUsize,
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    /// Bounded by [`MOST_WAITERS`].
    schedule: Schedule<Attempt>,
    /// Bytes of the requests.
    bytes: u64,
    /// Who has the turn: somebody, whenever anybody waits.
    turn: Option<Attempt>,
}

/// How a waiter is woken.
#[derive(Debug, Clone)]
struct Attempt(Arc<Notify>);

/// A waiter. Dropping it leaves the queue.
#[derive(Debug)]
#[must_use = "leaves the queue when it is dropped"]
pub struct TurnWaiter {
    queue: Arc<TurnQueue>,
    ticket: Ticket,
    position: usize,
    attempt: Attempt,
    is_served: bool,
}

impl TurnQueue {
    /// Joins the queue. `None`: there is no room.
    pub fn join(self: &Arc<Self>, room: Room, ticket: Ticket) -> Option<TurnWaiter> {
        let attempt = Attempt(Arc::default());
        let mut state = self.lock();
        let is_full = state.schedule.waiting() >= room.waiters.min(MOST_WAITERS);
        if is_full || state.bytes.saturating_add(ticket.bytes) > room.bytes {
            return None;
        }
        state.bytes += ticket.bytes;
        let position = state.schedule.insert(ticket, attempt.clone());
        self.depth.fetch_add(1, Ordering::SeqCst);
        state.decide();
        drop(state);
        Some(TurnWaiter { queue: self.clone(), ticket, position, attempt, is_served: false })
    }

    /// The number of waiters.
    pub fn depth(&self) -> usize {
        self.depth.load(Ordering::SeqCst)
    }

    /// What the queue holds.
    pub fn view(&self) -> QueueView {
        if self.depth() == 0 {
            return QueueView::default();
        }
        self.lock().schedule.view()
    }

    /// Has a waiter try, because something was given back.
    pub fn wake(&self) {
        if self.depth() == 0 {
            return;
        }
        let mut state = self.lock();
        state.decide();
        if let Some(turn) = &state.turn {
            turn.0.notify_one();
        }
    }

    /// Charges what a request that was served here has really used. The next turns of its client are the later for it, or the sooner.
    pub fn correct(&self, ticket: &Ticket, used: u64) {
        let excess = ticket.excess(used);
        if excess != 0 && self.depth() > 0 {
            self.lock().schedule.charge(ticket.priority, ticket.flow, excess);
        }
    }

    /// Nothing panics while it holds the lock.
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    /// Gives the turn to the waiter that is next. Who has lost it is woken as well, to see that.
    fn decide(&mut self) {
        let next = self.schedule.peek_next().cloned();
        if next == self.turn {
            return;
        }
        next.iter().chain(&self.turn).for_each(|attempt| attempt.0.notify_one());
        self.turn = next;
    }
}

impl TurnWaiter {
    /// Its position when it joined, from 1: the number of waiters that are admitted until it is, if all requests cost the same and no other
    /// joins or leaves.
    pub fn position(&self) -> usize {
        self.position
    }

    /// Waits for the turn.
    pub async fn turn(&self) {
        while self.queue.lock().turn.as_ref() != Some(&self.attempt) {
            self.woken().await;
        }
    }

    /// Waits until something has changed since the last call.
    pub async fn woken(&self) {
        self.attempt.0.notified().await;
    }

    /// Decides again who has the turn, because a time has come.
    pub fn time_has_come(&self) {
        self.queue.lock().decide();
    }

    /// Leaves the queue as one that was served.
    pub fn admitted(mut self) {
        self.is_served = true;
    }
}

impl Drop for TurnWaiter {
    fn drop(&mut self) {
        let mut state = self.queue.lock();
        if self.is_served {
            state.schedule.serve(&self.ticket);
        } else {
            state.schedule.remove(&self.ticket);
        }
        state.bytes -= self.ticket.bytes;
        self.queue.depth.fetch_sub(1, Ordering::SeqCst);
        if state.turn.as_ref() == Some(&self.attempt) {
            state.turn = None;
        }
        state.decide();
    }
}

impl PartialEq for Attempt {
    fn eq(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.0, &other.0)
    }
}

#[cfg(test)]
mod tests {
    use std::{
        pin::pin,
        task::{Context, Poll, Waker},
    };

    use super::*;
    use crate::{
        priority::Priority,
        wait_queue::{FlowKey, ticket::COMPARISONS},
    };

    fn join(queue: &Arc<TurnQueue>, flow: u64, priority: Priority) -> TurnWaiter {
        let ticket = Ticket { flow: FlowKey(flow), priority, ..Ticket::anonymous() };
        queue.join(Room::LARGEST, ticket).unwrap()
    }

    fn has_turn(waiter: &TurnWaiter) -> bool {
        pin!(waiter.turn()).poll(&mut Context::from_waker(Waker::noop())) == Poll::Ready(())
    }

    fn is_woken(waiter: &TurnWaiter) -> bool {
        pin!(waiter.woken()).poll(&mut Context::from_waker(Waker::noop())) == Poll::Ready(())
    }

    #[test]
    fn one_waiter_has_the_turn_and_leaves_it_to_the_next() {
        let queue = Arc::<TurnQueue>::default();
        let (first, second) = (join(&queue, 1, Priority::Normal), join(&queue, 1, Priority::Normal));
        assert!(has_turn(&first) && !has_turn(&second));
        assert_eq!((first.position(), second.position(), queue.depth()), (1, 2, 2));
        first.admitted();
        assert!(has_turn(&second));
        let third = join(&queue, 1, Priority::Normal);
        drop(second);
        assert!(has_turn(&third));
        drop(third);
        assert_eq!(queue.depth(), 0);
    }

    #[test]
    fn a_higher_priority_takes_the_turn_and_a_lower_one_does_not() {
        let queue = Arc::<TurnQueue>::default();
        let low = join(&queue, 1, Priority::Low);
        assert!(has_turn(&low));
        let high = join(&queue, 2, Priority::High);
        assert!(has_turn(&high) && !has_turn(&low));
        let _normal = join(&queue, 3, Priority::Normal);
        assert!(has_turn(&high));
        drop(high);
        assert!(!has_turn(&low));
    }

    #[test]
    fn what_is_given_back_wakes_who_has_the_turn_also_if_it_is_trying() {
        let queue = Arc::<TurnQueue>::default();
        let (first, second) = (join(&queue, 1, Priority::Normal), join(&queue, 2, Priority::Normal));
        assert!(has_turn(&first));
        while is_woken(&first) {}
        queue.wake();
        assert!(is_woken(&first) && !is_woken(&first) && !is_woken(&second));
    }

    #[test]
    fn flows_take_turns_and_a_failed_try_costs_nothing() {
        let queue = Arc::<TurnQueue>::default();
        let mut waiters: Vec<TurnWaiter> =
            [1, 1, 1, 2, 2].into_iter().map(|flow| join(&queue, flow, Priority::Normal)).collect();
        let mut order = Vec::new();
        while !waiters.is_empty() {
            for _ in 0..3 {
                queue.wake();
                waiters[0].time_has_come();
            }
            let index = waiters.iter().position(has_turn).unwrap();
            let waiter = waiters.remove(index);
            order.push(waiter.ticket.flow.0);
            waiter.admitted();
        }
        assert_eq!(order, [1, 2, 1, 2, 1]);
    }

    /// A client that had thousands of requests, or thousands of clients that had one each, may leave at once, in any order.
    #[test]
    fn those_who_leave_are_not_searched_for_among_all_others() {
        const WAITERS: u64 = 4_000;
        for flows in [1, WAITERS] {
            let queue = Arc::<TurnQueue>::default();
            let mut waiters: Vec<TurnWaiter> =
                (0..WAITERS).map(|number| join(&queue, number % flows, Priority::Normal)).collect();
            fastrand::Rng::with_seed(7).shuffle(&mut waiters);
            let before = COMPARISONS.get();
            drop(waiters);
            let steps = COMPARISONS.get() - before;
            assert!(
                steps < 20 * 4_000,
                "{steps} comparisons of flows for {WAITERS} waiters of {flows} flows"
            );
            assert_eq!(queue.depth(), 0);
        }
    }

    #[test]
    fn the_room_is_bounded() {
        let queue = Arc::<TurnQueue>::default();
        let room = Room { waiters: 2, bytes: 10 };
        let join = |bytes| queue.join(room, Ticket { bytes, ..Ticket::anonymous() });
        assert!(join(11).is_none());
        let first = join(6).unwrap();
        assert!(join(5).is_none());
        let _second = join(4).unwrap();
        assert!(join(0).is_none());
        drop(first);
        assert!(join(6).is_some());
    }
}
