//! What one process knows of counts that are kept in the shared store.
//!
//! The process' own counters are copies of the shared ones: each reply sets them. So a client over its limit is refused without a call, headers and
//! `/status` show the shared state, and a process that has to count by itself goes on where the shared counts were.

use std::sync::{
    Mutex, MutexGuard, PoisonError,
    atomic::{AtomicU32, Ordering},
};

use super::{
    alone::Alone,
    subject::{Subject, tag},
};
use crate::limit::{Limit, Unit};

/// Units that are counted by time, in the order in which they are asked of.
pub(super) const TIMED: [Unit; 3] = [Unit::Requests, Unit::Tokens, Unit::Cost];

/// The shared side of a [`Counter`](crate::limit::Counter).
#[derive(Debug)]
pub struct Replica {
    pub(super) subject: Subject,
    tags: [u32; 4],
    /// Requests of this process that are in flight and count in the store.
    held: AtomicU32,
    known: Mutex<Known>,
}

/// What is known of the shared counts.
#[derive(Debug, Default)]
pub(super) struct Known {
    /// Until when the copies are good enough to refuse a request, in nanoseconds as those of [`Now`](crate::limit::Now).
    pub(super) fresh_until: i64,
    /// The server's time of the replies that were copied last: an older reply changes nothing.
    pub(super) copied: [f64; 3],
    /// What requests have asked for since the start: nanoseconds of a clock, or units of a period.
    pub(super) asked: [i64; 3],
    /// How much of that is in the copies, or was not granted. A reply counts all requests that were sent before its own.
    pub(super) answered: [i64; 3],
    /// Such requests, where the limit is on requests at once.
    pub(super) asking: u32,
    /// The last sums of calendar periods.
    pub(super) seen: [Option<LastSum>; 3],
    /// What this process has counted by itself, since the store went away.
    pub(super) alone: Option<Box<Alone>>,
    /// Whether the counter is in the list of those that have to be looked after.
    pub(super) is_listed: bool,
}

/// A sum that the store had.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct LastSum {
    pub(super) end: f64,
    pub(super) sum: f64,
    pub(super) born: f64,
    /// Counts changes of the server.
    pub(super) servers: u32,
}

impl Replica {
    pub(crate) fn new(limit: &Limit, subject: Subject) -> Self {
        let tags = [Unit::Requests, Unit::Tokens, Unit::Cost, Unit::Concurrent].map(|unit| tag(limit, unit));
        Self { subject, tags, held: AtomicU32::new(0), known: Mutex::default() }
    }

    /// Whose counts these are.
    pub fn subject(&self) -> &Subject {
        &self.subject
    }

    pub(super) fn tag(&self, unit: Unit) -> u32 {
        let [requests, tokens, cost, concurrent] = self.tags;
        match unit {
            Unit::Requests => requests,
            Unit::Tokens => tokens,
            Unit::Cost => cost,
            Unit::Concurrent => concurrent,
        }
    }

    pub(super) fn known(&self) -> MutexGuard<'_, Known> {
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Requests of this process in flight, as the store counts or will count them.
    pub(super) fn held(&self) -> u32 {
        self.held.load(Ordering::Relaxed)
    }

    pub(super) fn hold(&self) {
        self.held.fetch_add(1, Ordering::Relaxed);
    }

    pub(super) fn let_go(&self) {
        let _ = self.held.fetch_update(Ordering::Relaxed, Ordering::Relaxed, |held| held.checked_sub(1));
    }
}

impl Known {
    /// What an admission says of the last sum of a period that ends at `end`: the sum and when its value was born. Negative: since then the
    /// server has become another one.
    pub(super) fn seen(&self, unit: usize, end: f64, servers: u32) -> (f64, f64) {
        let seen = self.seen.get(unit).copied().flatten();
        let Some(seen) = seen.filter(|seen| seen.end == end) else { return (0.0, 0.0) };
        (seen.sum, if seen.servers == servers { seen.born } else { -seen.born })
    }
}
