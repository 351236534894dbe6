//! How many requests of one subject are in flight.

use std::sync::{
    Arc,
    atomic::{AtomicU32, Ordering},
};

/// A count of requests in flight. Cheap to clone; clones count together.
#[derive(Debug, Clone, Default)]
pub struct InFlight {
    count: Arc<AtomicU32>,
}

impl InFlight {
    /// Counts one more request in flight, until the returned slot is dropped; `None` if there are `limit` already. The check and the count
    /// are one step.
    pub fn enter(&self, limit: u32) -> Option<Slot> {
        self.count
            .fetch_update(Ordering::AcqRel, Ordering::Relaxed, |count| (count < limit).then_some(count + 1))
            .ok()
            .map(|_| Slot { count: self.count.clone() })
    }

    /// Counts one more request in flight, whatever the limit: for limits that only count.
    pub fn enter_unchecked(&self) -> Slot {
        self.count.fetch_add(1, Ordering::AcqRel);
        Slot { count: self.count.clone() }
    }

    /// Whether nobody else has a clone, nor a slot.
    pub(super) fn is_alone(&self) -> bool {
        Arc::strong_count(&self.count) == 1
    }

    /// The requests in flight.
    pub fn count(&self) -> u32 {
        self.count.load(Ordering::Relaxed)
    }
}

/// One request in flight. It ends when this is dropped, however the request ended.
#[derive(Debug)]
pub struct Slot {
    count: Arc<AtomicU32>,
}

impl Drop for Slot {
    fn drop(&mut self) {
        self.count.fetch_sub(1, Ordering::AcqRel);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_slot_is_free_again_when_it_is_dropped() {
        let in_flight = InFlight::default();
        let first = in_flight.enter(2).unwrap();
        let second = in_flight.enter(2).unwrap();
        assert!(in_flight.enter(2).is_none());
        drop(first);
        assert_eq!(in_flight.count(), 1);
        let third = in_flight.enter(2).unwrap();
        assert!(in_flight.enter(2).is_none());
        // A limit that was lowered meanwhile admits nothing until enough have ended.
        drop(second);
        assert!(in_flight.enter(1).is_none());
        drop(third);
        assert!(in_flight.enter(1).is_some());
        assert_eq!(in_flight.count(), 0);
    }

    #[test]
    fn threads_never_exceed_the_limit() {
        let in_flight = InFlight::default();
        let threads: Vec<_> = (0..8)
            .map(|_| {
                let in_flight = in_flight.clone();
                std::thread::spawn(move || {
                    for _ in 0..2_000 {
                        let slot = in_flight.enter(3);
                        assert!(in_flight.count() <= 3);
                        drop(slot);
                    }
                })
            })
            .collect();
        threads.into_iter().for_each(|thread| thread.join().unwrap());
        assert_eq!(in_flight.count(), 0);
    }
}
