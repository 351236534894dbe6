//! Requests in flight of this process, as the shared store counts or will count them.

use std::{
    collections::HashMap,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError, Weak,
        atomic::{AtomicI64, AtomicU32, Ordering},
    },
    time::Duration,
};

use crate::limit::Now;

/// How long a refusal by requests of other gateways is remembered: so long, and up to twice as long, so that gateways do not ask in step.
const REMEMBERED: Duration = Duration::from_millis(50);

/// What this process knows of all subjects, by their keys. Snapshots before and after a reload may have a counter each for one subject; both have
/// the same numbers and leases. Holds at most as many as there are counters, and those that are gone until it is tidied.
#[derive(Debug, Default)]
pub(super) struct Subjects {
    known: Mutex<HashMap<Arc<str>, Weak<SubjectState>>>,
    /// The highest number of any subject. One whose counters were gone goes on above it: the store may still know its earlier numbers.
    highest: Arc<AtomicU32>,
}

impl Subjects {
    /// What is known of the subject with this key.
    pub(super) fn of(&self, key: &Arc<str>) -> Arc<SubjectState> {
        let mut known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(state) = known.get(key).and_then(Weak::upgrade) {
            return state;
        }
        let state = Arc::new(SubjectState::after(&self.highest));
        known.insert(key.clone(), Arc::downgrade(&state));
        state
    }

    /// Forgets subjects that have no counter any more.
    pub(super) fn tidy(&self) {
        let mut known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        known.retain(|_, state| state.strong_count() > 0);
    }
}

/// What this process knows of one subject, whatever snapshot its counters are of.
#[derive(Debug)]
pub(super) struct SubjectState {
    /// The number of the last admission.
    admissions: AtomicU32,
    /// The highest number of any subject.
    highest: Arc<AtomicU32>,
    /// By the tags of their counts; one for each limit on requests at once.
    leases: Mutex<Vec<(u32, Arc<Lease>)>>,
}

#[cfg(test)]
impl Subjects {
    /// Subjects of a process that has used all numbers up to this one.
    pub(super) fn after(highest: u32) -> Self {
        Self { known: Mutex::default(), highest: Arc::new(AtomicU32::new(highest)) }
    }
}

impl SubjectState {
    fn after(highest: &Arc<AtomicU32>) -> Self {
        let last = highest.load(Ordering::SeqCst);
        Self { admissions: AtomicU32::new(last), highest: highest.clone(), leases: Mutex::default() }
    }

    /// The number of the next admission, by which the store knows one that it has executed already.
    pub(super) fn number(&self) -> u32 {
        let number = self.admissions.fetch_add(1, Ordering::SeqCst).wrapping_add(1);
        // Most subjects have few: what is only read is cheaper for all who share it.
        if number > self.highest.load(Ordering::SeqCst) {
            self.highest.fetch_max(number, Ordering::SeqCst);
        }
        number
    }

    /// The number of the last admission.
    pub(super) fn last_number(&self) -> u32 {
        self.admissions.load(Ordering::SeqCst)
    }

    /// The lease of a count.
    pub(super) fn lease(&self, tag: u32) -> Arc<Lease> {
        let mut leases = self.leases.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some((_, lease)) = leases.iter().find(|(known, _)| *known == tag) {
            return lease.clone();
        }
        let lease = Arc::new(Lease::default());
        leases.push((tag, lease.clone()));
        lease
    }
}

/// The requests in flight of one subject under one limit, and what the store does not know of them yet.
///
/// The store's count is `held + pending`, plus `flying` if the batch that is on its way has not been applied, and up to `asking + unknown` more.
#[derive(Debug, Default)]
pub(super) struct Lease {
    counts: Mutex<LeaseCounts>,
    /// Until when the limit is known to be used up by requests of other gateways, in nanoseconds as those of [`Now`].
    full_until: AtomicI64,
}

#[derive(Debug, Default, Clone, Copy, PartialEq)]
struct LeaseCounts {
    /// Requests in flight.
    held: i64,
    /// Admissions on their way.
    asking: i64,
    /// Admissions without a reply, which may have been executed.
    unknown: i64,
    /// Requests that have ended less those that were begun without the store: corrections that have not been sent.
    pending: i64,
    /// The same, sent and not confirmed.
    flying: i64,
    /// The store is known to count nothing.
    is_settled: bool,
}

impl LeaseCounts {
    fn is_used_up(self, most: u32) -> bool {
        self.held + self.asking >= i64::from(most)
    }
}

/// How many requests the store may count.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct LeaseRange {
    pub(super) fewest: f64,
    pub(super) most: f64,
    /// Whether there are none, and none are on their way.
    pub(super) is_idle: bool,
}

impl Lease {
    fn counts(&self) -> MutexGuard<'_, LeaseCounts> {
        self.counts.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Counts an admission that will be asked for, unless this process' own requests are `most` already.
    pub(super) fn ask(&self, most: Option<u32>) -> bool {
        let mut counts = self.counts();
        if most.is_some_and(|most| counts.is_used_up(most)) {
            return false;
        }
        counts.asking += 1;
        counts.is_settled = false;
        true
    }

    /// Whether this process' own requests in flight are `most` already, without those that may be refused.
    pub(super) fn is_held(&self, most: u32) -> bool {
        self.counts().held >= i64::from(most)
    }

    /// The reply to an admission is there, or it is not waited for any more.
    pub(super) fn answered(&self) {
        self.counts().asking -= 1;
    }

    /// Nobody knows whether an admission was executed, until [`is_known`](Self::is_known).
    pub(super) fn is_unknown(&self) {
        self.counts().unknown += 1;
    }

    /// The store has been told what became of an admission without a reply.
    pub(super) fn is_known(&self) {
        self.counts().unknown -= 1;
    }

    /// Counts a request that the store has admitted.
    pub(super) fn hold(&self) {
        let mut counts = self.counts();
        counts.held += 1;
        counts.is_settled = false;
    }

    /// Counts a request that this process has admitted alone. The caller notes a correction of -1.
    pub(super) fn hold_alone(&self) {
        let mut counts = self.counts();
        counts.held += 1;
        counts.pending -= 1;
        counts.is_settled = false;
    }

    /// A request has ended. The caller notes a correction of 1. Returns whether that makes room which the next request may need at once: the limit
    /// of `most` was used up.
    pub(super) fn end(&self, most: u32, now: Now) -> bool {
        let mut counts = self.counts();
        let was_used_up = counts.is_used_up(most);
        counts.held -= 1;
        counts.pending += 1;
        was_used_up || self.is_full(now)
    }

    /// The store counts a request that this process does not have. The caller notes a correction of 1.
    pub(super) fn give_back(&self) {
        self.counts().pending += 1;
    }

    /// Corrections have been put into a batch.
    pub(super) fn sent(&self, amount: f64) {
        let amount = amount as i64;
        let mut counts = self.counts();
        counts.pending -= amount;
        counts.flying += amount;
    }

    /// The store has a batch with these corrections.
    pub(super) fn confirmed(&self, amount: f64) {
        self.counts().flying -= amount as i64;
        if amount > 0.0 {
            // There is room, as far as this process knows.
            self.full_until.store(i64::MIN, Ordering::Relaxed);
        }
    }

    /// How many requests the store may count. What it counts beyond is a leak, and less is a loss.
    pub(super) fn range(&self) -> LeaseRange {
        let counts = *self.counts();
        let known = counts.held + counts.pending;
        let most = known + counts.flying.max(0) + counts.asking + counts.unknown;
        LeaseRange {
            fewest: (known + counts.flying.min(0)).max(0) as f64,
            most: most.max(0) as f64,
            is_idle: LeaseCounts { is_settled: false, ..counts } == LeaseCounts::default(),
        }
    }

    /// The store has been told that there is nothing. Whatever has begun since makes it unsettled again.
    pub(super) fn settled(&self) {
        let mut counts = self.counts();
        counts.is_settled = LeaseCounts { is_settled: false, ..*counts } == LeaseCounts::default();
    }

    /// Whether the store has to be told of it from time to time.
    pub(super) fn is_needed(&self) -> bool {
        *self.counts() != LeaseCounts { is_settled: true, ..LeaseCounts::default() }
    }

    /// Whether the store has just refused a request because of those of other gateways.
    pub(super) fn is_full(&self, now: Now) -> bool {
        self.full_until.load(Ordering::Relaxed) > now.nanos()
    }

    /// Remembers that the store has refused a request, unless it may have refused it because of requests of this process that have ended.
    pub(super) fn was_full(&self, now: Now) {
        let counts = *self.counts();
        if counts.pending > 0 || counts.flying > 0 {
            return;
        }
        let remembered = REMEMBERED.mul_f64(1.0 + fastrand::f64());
        let nanos = i64::try_from(remembered.as_nanos()).unwrap_or(i64::MAX);
        self.full_until.store(now.nanos().saturating_add(nanos), Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: Now = Now::from_nanos(1_000_000_000);

    #[test]
    fn a_subject_whose_counters_were_gone_goes_on_above_its_numbers() {
        let subjects = Subjects::default();
        let (busy, other): (Arc<str>, Arc<str>) = ("busy".into(), "other".into());
        let state = subjects.of(&busy);
        let last = (0..100).fold(0, |_, _| state.number());
        assert!(Arc::ptr_eq(&state, &subjects.of(&busy)));
        drop(state);
        assert!(subjects.of(&busy).number() > last);
        assert!(subjects.of(&other).number() > last);
    }

    #[test]
    fn a_refusal_is_not_remembered_beyond_the_end_of_an_own_request() {
        let lease = Lease::default();
        assert!(lease.ask(Some(1)));
        lease.hold();
        lease.answered();
        // The limit was used up: the store has to be told at once.
        assert!(lease.end(1, NOW));
        lease.was_full(NOW);
        assert!(!lease.is_full(NOW), "the store does not know of the end yet");
        lease.sent(1.0);
        lease.was_full(NOW);
        assert!(!lease.is_full(NOW));
        lease.confirmed(1.0);
        lease.was_full(NOW);
        assert!(lease.is_full(NOW), "other gateways have used it up");
        lease.hold();
        assert!(lease.end(9, NOW), "it was full a moment ago");
        lease.sent(1.0);
        lease.confirmed(1.0);
        assert!(!lease.is_full(NOW));
        lease.hold();
        assert!(!lease.end(9, NOW), "nobody needs the room at once");
    }
}
