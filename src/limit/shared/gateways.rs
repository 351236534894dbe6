//! How many gateways share the limits.

use std::{
    collections::VecDeque,
    sync::{
        Mutex, PoisonError,
        atomic::{AtomicU32, Ordering},
    },
};

use crate::limit::Now;

/// How long a reading counts, in nanoseconds.
const MINUTE: i64 = 60_000_000_000;

/// The most readings that are kept: there is one each second.
const READINGS: usize = 64;

/// How many gateways the store has seen, by several readings. One reading may be too low: a server that has lost its data knows nobody.
#[derive(Debug)]
pub(super) struct SeenGateways {
    readings: Mutex<VecDeque<Reading>>,
    last: AtomicU32,
    /// The most of the minute before the last reading.
    most: AtomicU32,
}

#[derive(Debug, Clone, Copy)]
struct Reading {
    at: Now,
    count: u32,
}

impl SeenGateways {
    /// This gateway alone.
    pub(super) fn new() -> Self {
        Self { readings: Mutex::default(), last: AtomicU32::new(1), most: AtomicU32::new(1) }
    }

    /// Notes a reading.
    pub(super) fn seen(&self, count: u32, at: Now) {
        let count = count.max(1);
        let mut readings = self.readings.lock().unwrap_or_else(PoisonError::into_inner);
        readings.push_back(Reading { at, count });
        let is_old = |reading: &Reading| at.nanos().saturating_sub(reading.at.nanos()) > MINUTE;
        while readings.len() > READINGS || readings.front().is_some_and(is_old) {
            readings.pop_front();
        }
        let most = readings.iter().map(|reading| reading.count).max().unwrap_or(count);
        self.most.store(most, Ordering::Relaxed);
        self.last.store(count, Ordering::Relaxed);
    }

    /// The last reading.
    pub(super) fn last(&self) -> u32 {
        self.last.load(Ordering::Relaxed)
    }

    /// The most of all readings within a minute before the last one. While the store is away, it stays as it was.
    pub(super) fn most(&self) -> u32 {
        self.most.load(Ordering::Relaxed)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const fn second(seconds: i64) -> Now {
        Now::from_nanos(seconds * 1_000_000_000)
    }

    #[test]
    fn the_most_of_a_minute_counts_and_not_the_last_reading() {
        let gateways = SeenGateways::new();
        gateways.seen(4, second(0));
        // The server has lost its data: it knows this gateway only.
        gateways.seen(1, second(1));
        assert_eq!((gateways.last(), gateways.most()), (1, 4));
        gateways.seen(2, second(60));
        assert_eq!(gateways.most(), 4);
        gateways.seen(1, second(61));
        assert_eq!(gateways.most(), 2);
    }

    #[test]
    fn readings_are_bounded() {
        let gateways = SeenGateways::new();
        (0..1_000).for_each(|_| gateways.seen(3, second(0)));
        assert_eq!(gateways.readings.lock().unwrap().len(), READINGS);
    }
}
