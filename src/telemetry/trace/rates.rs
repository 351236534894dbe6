//! How many exchanges a second are exported because something went wrong.

use std::{
    sync::atomic::{AtomicU64, Ordering},
    time::Instant,
};

use super::sampling::Mishap;

/// Exchanges a second that are exported because they failed or were slow.
const MOST_FAILED: u32 = 100;

/// Exchanges a second that are exported because the gateway refused them. Less than of those that failed, and counted apart, so that a flood of
/// refusals leaves room for failures of upstreams.
const MOST_REFUSED: u32 = 10;

/// The rates of the process, over all workers and configurations.
#[derive(Debug)]
pub(super) struct Rates {
    /// Seconds are counted from here.
    began: Instant,
    failed: RateBound,
    refused: RateBound,
}

impl Rates {
    /// Whether one more may be exported in the second of `at`.
    pub(super) fn admits(&self, mishap: Mishap, at: Instant) -> bool {
        let second = at.saturating_duration_since(self.began).as_secs();
        match mishap {
            Mishap::Failed => self.failed.admits(second, MOST_FAILED),
            Mishap::Refused => self.refused.admits(second, MOST_REFUSED),
        }
    }
}

impl Default for Rates {
    fn default() -> Self {
        Self { began: Instant::now(), failed: RateBound::default(), refused: RateBound::default() }
    }
}

/// Counts what was admitted in one second: the upper half is the second, the lower half the count.
#[derive(Debug, Default)]
struct RateBound(AtomicU64);

impl RateBound {
    fn admits(&self, second: u64, most: u32) -> bool {
        let next = |state: u64| {
            let (known, admitted) = (state >> 32, state & u64::from(u32::MAX));
            if known < second {
                return Some(second << 32 | 1);
            }
            // A worker may be late by a moment: it takes part in the second that others have begun.
            (admitted < u64::from(most)).then_some(state + 1)
        };
        self.0.fetch_update(Ordering::Relaxed, Ordering::Relaxed, next).is_ok()
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn each_second_begins_a_new_count_and_refusals_take_no_room_of_failures() {
        let rates = Rates::default();
        let admitted = |mishap, millis| {
            let at = rates.began + Duration::from_millis(millis);
            (0..500).filter(|_| rates.admits(mishap, at)).count()
        };
        assert_eq!((admitted(Mishap::Refused, 100), admitted(Mishap::Failed, 200)), (10, 100));
        assert_eq!((admitted(Mishap::Refused, 999), admitted(Mishap::Failed, 999)), (0, 0));
        assert_eq!((admitted(Mishap::Refused, 1000), admitted(Mishap::Failed, 7000)), (10, 100));
        assert_eq!(admitted(Mishap::Failed, 6999), 0, "a late worker");
    }
}
