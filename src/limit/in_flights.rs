//! Requests in flight under one limit, by the names of their subjects.

use std::{
    collections::HashMap,
    sync::{Mutex, PoisonError},
};

use super::{CountedSubject, InFlight};

/// Counts that are kept without looking which of them are of no use any more.
const FEW: usize = 1_024;

/// The requests in flight of all subjects of one limit. They go on under each configuration that has a limit of this name for such subjects, whatever
/// else it counts, and for what time: a stream that runs is in flight until it ends. Holds the counts that some counter or request has, and at
/// most as many others, and 1,024.
#[derive(Debug, Default)]
pub struct InFlights {
    known: Mutex<Known>,
}

#[derive(Debug, Default)]
struct Known {
    counts: HashMap<CountedSubject, InFlight>,
    /// How many there were when useless ones were last removed.
    after_sweep: usize,
}

impl InFlights {
    /// The requests in flight of a subject.
    pub fn of(&self, subject: &CountedSubject) -> InFlight {
        // Nothing panics while it holds the lock.
        let mut known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(in_flight) = known.counts.get(subject) {
            return in_flight.clone();
        }
        if known.counts.len() >= 2 * known.after_sweep + FEW {
            // Every count is handed out here, under the lock.
            known.counts.retain(|_, in_flight| !in_flight.is_alone());
            known.after_sweep = known.counts.len();
        }
        known.counts.entry(subject.clone()).or_default().clone()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_count_is_the_same_as_long_as_anybody_has_it() {
        let all = InFlights::default();
        let named = |name: &str| CountedSubject::Named(name.into());
        let slot = all.of(&named("stream")).enter(1).unwrap();
        for number in 0..10 * FEW {
            assert!(all.of(&named(&number.to_string())).enter(1).is_some());
        }
        assert_eq!(all.of(&named("stream")).count(), 1);
        drop(slot);
        assert_eq!(all.of(&named("stream")).count(), 0);
        assert!(all.known.lock().unwrap().counts.len() <= 2 * FEW);
    }
}
