//! What one process knows of counts that are kept in the shared store.
//!
//! The process' own counters are copies of the shared ones: each reply sets them. So a client over its limit is refused without a call, headers and
//! `/status` show the shared state, and a process that has to count by itself goes on where the shared counts were.

use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};

use super::{
    alone::Alone,
    copy::LastCopies,
    lease::{Lease, SubjectState, Subjects},
    subject::{Subject, tag},
    waiting::Waiting,
};
use crate::limit::{Limit, Unit};

/// Units that are counted by time, in the order in which they are asked of.
pub(super) const TIMED: [Unit; 3] = [Unit::Requests, Unit::Tokens, Unit::Cost];

/// The shared side of a [`Counter`](crate::limit::Counter).
#[derive(Debug)]
pub struct Replica {
    pub(super) subject: Subject,
    tags: [u32; 4],
    /// Numbers and leases, which all counters of the subject have together.
    state: OnceLock<Arc<SubjectState>>,
    /// Where the limit is on requests at once.
    lease: OnceLock<Arc<Lease>>,
    known: Mutex<Known>,
}

/// What is known of the shared counts.
#[derive(Debug, Default)]
pub(super) struct Known {
    /// Until when the copies are good enough to refuse a request, in nanoseconds as those of [`Now`](crate::limit::Now); 0: they are of no use.
    pub(super) fresh_until: i64,
    /// The replies that were copied last.
    pub(super) copied: LastCopies,
    /// What requests ask for whose replies are not there yet.
    pub(super) waiting: Waiting,
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
        Self { subject, tags, state: OnceLock::new(), lease: OnceLock::new(), known: Mutex::default() }
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

    /// Whether the store has all that is counted here.
    pub(crate) fn is_settled(&self) -> bool {
        self.state.get().is_some() && !self.known().is_listed
    }

    #[cfg(test)]
    pub(super) fn try_known(&self) -> Option<MutexGuard<'_, Known>> {
        self.known.try_lock().ok()
    }

    /// What the process knows of the subject.
    pub(super) fn state(&self, subjects: &Subjects) -> &Arc<SubjectState> {
        self.state.get_or_init(|| subjects.of(&self.subject.key))
    }

    /// The requests in flight that count for the limit.
    pub(super) fn lease(&self, subjects: &Subjects) -> &Arc<Lease> {
        self.lease.get_or_init(|| self.state(subjects).lease(self.tag(Unit::Concurrent)))
    }

    /// The same, if there have been any.
    pub(super) fn used_lease(&self) -> Option<&Arc<Lease>> {
        self.lease.get()
    }

    /// The number of the last admission that was asked for.
    pub(super) fn last_number(&self) -> u32 {
        self.state.get().map_or(0, |state| state.last_number())
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
