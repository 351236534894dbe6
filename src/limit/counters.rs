//! The counters of one limit, by the names of their subjects.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use super::{Counter, Moment};
use crate::wait_queue::QueueView;

/// Parts with locks of their own, so that a reader of all counters blocks others for one part only.
const SHARDS: usize = 16;

/// Counters of a shard that are kept without looking which of them are of no use any more.
const FEW: usize = 64;

/// Whose use a counter counts.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum CountedSubject {
    /// The callers of open routes, the models without a table, or the gateway.
    Unnamed,
    /// A client, a group, a route, a model's table, or a pattern of models.
    Named(Arc<str>),
    /// A client without a group, as a group.
    Alone(Arc<str>),
}

/// The counters of one limit. All configurations that the limit is in have the same, also an older one that still serves requests, so that nothing is
/// forgotten while one takes the other's place.
///
/// A counter is made when its subject first uses something. Each configuration remembers the counters that it has found, so the lock is taken
/// once for each subject and configuration. Holds the counters of all subjects that have used something, without those that nobody remembers and of
/// which nothing counts as used any more: at most twice as many, and 64 in each of 16 shards.
#[derive(Debug, Default)]
pub struct Counters {
    shards: [Mutex<Shard>; SHARDS],
}

#[derive(Debug, Default)]
struct Shard {
    counters: HashMap<CountedSubject, Arc<Counter>>,
    /// How many there were when useless ones were last removed.
    after_sweep: usize,
}

impl Counters {
    /// The counter of a subject, if it `fits`; else a `new` one takes its place.
    pub fn of(
        &self,
        subject: CountedSubject,
        now: Moment,
        fits: impl FnOnce(&Counter) -> bool,
        new: impl FnOnce() -> Counter,
    ) -> Arc<Counter> {
        let mut shard = self.shard(&subject);
        if let Some(counter) = shard.counters.get(&subject).filter(|counter| fits(counter)) {
            return counter.clone();
        }
        let counter = Arc::new(new());
        shard.counters.insert(subject, counter.clone());
        shard.sweep(now);
        counter
    }

    /// All subjects that have used something, with their counters, in no order.
    pub fn all(&self) -> impl Iterator<Item = (CountedSubject, Arc<Counter>)> {
        self.shards.iter().flat_map(|shard| {
            let shard = lock(shard);
            let entries = shard.counters.iter().map(|(subject, counter)| (subject.clone(), counter.clone()));
            entries.collect::<Vec<_>>()
        })
    }

    /// What waits for all subjects together.
    pub fn queue_view(&self) -> QueueView {
        self.all().fold(QueueView::default(), |sum, (_, counter)| sum.with(&counter.queue_view()))
    }

    fn shard(&self, subject: &CountedSubject) -> MutexGuard<'_, Shard> {
        let (CountedSubject::Named(name) | CountedSubject::Alone(name)) = subject else {
            return lock(&self.shards[0]);
        };
        // FNV-1a. Names are the configuration's, so nobody chooses them to fill one shard.
        let hash = name
            .bytes()
            .fold(0x811c_9dc5_u32, |hash, byte| (hash ^ u32::from(byte)).wrapping_mul(0x0100_0193));
        lock(&self.shards[hash as usize % SHARDS])
    }
}

impl Shard {
    /// Removes counters of which nobody knows and nothing counts as used: a new one would say the same. Each counter that is made pays for
    /// looking at two others.
    fn sweep(&mut self, now: Moment) {
        if self.counters.len() < 2 * self.after_sweep + FEW {
            return;
        }
        // Every counter is handed out here, under the lock.
        self.counters.retain(|_, counter| Arc::strong_count(counter) > 1 || !counter.is_unused(now));
        self.after_sweep = self.counters.len();
    }
}

/// Nothing panics while it holds the lock.
fn lock(shard: &Mutex<Shard>) -> MutexGuard<'_, Shard> {
    shard.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use jiff::Timestamp;

    use super::*;
    use crate::limit::{Admitted, Allowance, Applied, Demand, Limit, Now, Rate, Weights};

    fn at(seconds: i64) -> Moment {
        Moment {
            monotonic: Now::from_nanos(seconds * 1_000_000_000),
            wall: Timestamp::from_second(1_800_000_000 + seconds).unwrap(),
        }
    }

    fn limit() -> Arc<Limit> {
        Arc::new(Limit {
            name: "one".into(),
            requests: Some(Allowance::Rate(Rate::new(60, Duration::from_secs(60), 10))),
            tokens: None,
            cost: None,
            concurrent: Some(1_000),
            weights: Weights::default(),
            enforce: true,
            goes_on: false,
            queue: None,
        })
    }

    fn of(counters: &Counters, name: &str, limit: &Arc<Limit>, now: Moment) -> Applied {
        let subject = CountedSubject::Named(name.into());
        let counter = counters.of(subject, now, |_| true, || Counter::new(limit));
        Applied { limit: limit.clone(), counter }
    }

    #[test]
    fn a_subject_has_one_counter_and_a_client_alone_is_no_group_of_its_name() {
        let (counters, limit) = (Counters::default(), limit());
        let one = of(&counters, "one", &limit, at(0));
        assert!(Arc::ptr_eq(&one.counter, &of(&counters, "one", &limit, at(0)).counter));
        let alone = CountedSubject::Alone("one".into());
        let alone = counters.of(alone, at(0), |_| true, || Counter::new(&limit));
        assert!(!Arc::ptr_eq(&one.counter, &alone));
        let other =
            counters.of(CountedSubject::Named("one".into()), at(0), |_| false, || Counter::new(&limit));
        assert!(Arc::ptr_eq(&other, &of(&counters, "one", &limit, at(0)).counter));
        assert_eq!(counters.all().count(), 2);
    }

    #[test]
    fn subjects_that_come_and_go_leave_nothing_once_nothing_counts_as_used() {
        let (counters, limit) = (Counters::default(), limit());
        let in_flight =
            Admitted::take(&[of(&counters, "in flight", &limit, at(0))], Demand::default(), at(0));
        let kept = of(&counters, "kept", &limit, at(0));
        for day in 0..200 {
            let now = at(day * 86_400);
            for client in 0..100 {
                let client = of(&counters, &format!("{day} {client}"), &limit, now);
                Admitted::take(&[client], Demand::default(), now).unwrap().settle(Demand::default(), now);
            }
            // What was used just now still counts.
            assert!(counters.all().count() >= 100);
        }
        let most = SHARDS * (2 * FEW) + 2 * 100;
        assert!(counters.all().count() < most, "{} of 20,000", counters.all().count());
        let last = at(200 * 86_400);
        assert_eq!(of(&counters, "in flight", &limit, last).counter.in_flight(), 1);
        assert!(Arc::ptr_eq(&kept.counter, &of(&counters, "kept", &limit, last).counter));
        drop(in_flight);
    }
}
