//! The queue of requests that wait for a key in cooldown.
//!
//! When a key becomes free, the first request in the queue gets it. The others are woken when its attempt has a result: after a success all of
//! them go on; after a new rate limit each one ends its wait at once if no key becomes free in time.

use std::{
    collections::VecDeque,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
    time::Instant,
};

use tokio::sync::Notify;

/// Requests that may wait for the keys of one upstream at the same time. Further ones do not wait.
const MAX_WAITING: usize = 1024;

/// The queue for the keys of one upstream. It belongs to the process and survives reloads.
#[derive(Debug, Default)]
pub(super) struct KeyQueue {
    /// The length of the queue, read before each use of a key.
    waiting: AtomicUsize,
    /// In the order of arrival; at most [`MAX_WAITING`].
    waiters: Mutex<VecDeque<Waiter>>,
}

#[derive(Debug)]
struct Waiter {
    model: Option<Box<str>>,
    /// The request excludes keys, and may therefore wait longer than those behind it.
    excludes_keys: bool,
    ticket: Arc<Ticket>,
}

#[derive(Debug, Default)]
struct Ticket {
    changed: Notify,
    /// The limit is lifted: the request need not wait for a turn.
    released: AtomicBool,
}

/// One request in the queue. Dropping it leaves the queue.
#[derive(Debug)]
pub(super) struct Queued<'a> {
    queue: &'a KeyQueue,
    model: Option<&'a str>,
    ticket: Arc<Ticket>,
}

impl KeyQueue {
    /// Joins the queue; `None`: it is full.
    pub(super) fn join<'a>(&'a self, model: Option<&'a str>, excludes_keys: bool) -> Option<Queued<'a>> {
        let mut waiters = self.lock();
        if waiters.len() >= MAX_WAITING {
            return None;
        }
        let ticket = Arc::<Ticket>::default();
        waiters.push_back(Waiter { model: model.map(Into::into), excludes_keys, ticket: ticket.clone() });
        self.count(&waiters);
        Some(Queued { queue: self, model, ticket })
    }

    /// Whether any request waits for a key for `model`.
    pub(super) fn is_waited_for(&self, model: Option<&str>) -> bool {
        self.waiting.load(Ordering::Acquire) > 0
            && self.lock().iter().any(|waiter| waiter.model.as_deref() == model)
    }

    /// Wakes the requests for the models that `concerns` selects, because something has changed for them. If they are `released`, they need no
    /// turn any more.
    pub(super) fn wake(&self, concerns: impl Fn(Option<&str>) -> bool, released: bool) {
        if self.waiting.load(Ordering::Acquire) == 0 {
            return;
        }
        for waiter in self.lock().iter().filter(|waiter| concerns(waiter.model.as_deref())) {
            if released {
                waiter.ticket.released.store(true, Ordering::Release);
            }
            waiter.ticket.changed.notify_one();
        }
    }

    fn count(&self, waiters: &VecDeque<Waiter>) {
        self.waiting.store(waiters.len(), Ordering::Release);
    }

    /// Nothing panics while it holds the lock.
    fn lock(&self) -> MutexGuard<'_, VecDeque<Waiter>> {
        self.waiters.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Queued<'_> {
    /// Whether the request need not wait for a turn any more.
    pub(super) fn is_released(&self) -> bool {
        self.ticket.released.load(Ordering::Acquire)
    }

    /// Whether the next free key is this request's.
    pub(super) fn is_first(&self) -> bool {
        let waiters = self.queue.lock();
        let own_or_before = |waiter: &&Waiter| {
            Arc::ptr_eq(&waiter.ticket, &self.ticket)
                || (waiter.model.as_deref() == self.model && !waiter.excludes_keys)
        };
        waiters.iter().find(own_or_before).is_some_and(|first| Arc::ptr_eq(&first.ticket, &self.ticket))
    }

    /// Waits until something changes, or until `alarm`.
    pub(super) async fn changed(&self, alarm: Instant) {
        // Whichever comes first, the caller looks again.
        let _ = tokio::time::timeout_at(alarm.into(), self.ticket.changed.notified()).await;
    }
}

/// Another request may be the first now, for each of the keys: those that exclude keys, up to the next one that does not.
impl Drop for Queued<'_> {
    fn drop(&mut self) {
        let mut waiters = self.queue.lock();
        waiters.retain(|waiter| !Arc::ptr_eq(&waiter.ticket, &self.ticket));
        self.queue.count(&waiters);
        for next in waiters.iter().filter(|waiter| waiter.model.as_deref() == self.model) {
            next.ticket.changed.notify_one();
            if !next.excludes_keys {
                break;
            }
        }
    }
}
