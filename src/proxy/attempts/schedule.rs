//! The number of retries of a request, and the waits between rounds.

use std::time::Duration;

use super::candidates::{NextAvailable, Unavailable};
use crate::config::Retry;

/// The retries that one request has left, and the waits between its rounds.
#[derive(Debug)]
pub(super) struct RetrySchedule {
    retry: Retry,
    left: u32,
    rounds: u32,
    /// The shortest wait that the failures of this round have requested; zero if one of them requested none. `None`: nothing failed yet.
    requested: Option<Duration>,
}

impl RetrySchedule {
    /// A schedule for a request that an SDK has sent `already` times; those retries count here too.
    pub(super) fn new(retry: Retry, already: u32) -> Self {
        Self { retry, left: retry.retries.saturating_sub(already), rounds: 0, requested: None }
    }

    /// Notes the wait that a failed upstream requested, if it did.
    pub(super) fn note_retry_after(&mut self, requested: Option<Duration>) {
        let requested = requested.unwrap_or_default();
        self.requested = Some(self.requested.map_or(requested, |known| known.min(requested)));
    }

    /// Takes one retry; false when none is left.
    pub(super) fn take(&mut self) -> bool {
        let any = self.left > 0;
        self.left = self.left.saturating_sub(1);
        any
    }

    /// How long to wait before the next round, now that every candidate was tried or is unavailable: the backoff, or until the first one becomes
    /// available. `None`: there is no next round.
    pub(super) fn pause(&mut self, available: Option<NextAvailable>, any_failed: bool) -> Option<Duration> {
        let NextAvailable { span, why } = available?;
        let span = span.max(self.requested.take().unwrap_or_default());
        // An open circuit breaker exists so that clients do not wait for a failing target.
        let only_open = why == Unavailable::Circuit && !any_failed;
        if only_open || span > self.retry.max_backoff || self.rounds >= self.retry.retries {
            return None;
        }
        let doubled = self.retry.backoff.saturating_mul(1 << self.rounds.min(16));
        self.rounds += 1;
        let backoff = doubled.min(self.retry.max_backoff).mul_f64(0.75 + fastrand::f64() / 2.0);
        Some(backoff.min(self.retry.max_backoff).max(span))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const RETRY: Retry =
        Retry { retries: 3, backoff: Duration::from_secs(1), max_backoff: Duration::from_secs(8) };

    fn at(seconds: u64) -> Option<NextAvailable> {
        Some(NextAvailable { span: Duration::from_secs(seconds), why: Unavailable::Limited })
    }

    #[test]
    fn waits_double_up_to_their_bound() {
        let mut schedule = RetrySchedule::new(Retry { retries: 5, ..RETRY }, 0);
        for expected in [1.0_f64, 2.0, 4.0, 8.0, 8.0] {
            let wait = schedule.pause(at(0), true).unwrap().as_secs_f64();
            assert!((expected * 0.75..=(expected * 1.25).min(8.0)).contains(&wait), "{expected}: {wait}");
        }
        assert_eq!(schedule.pause(at(0), true), None, "as many as there are retries");
    }

    #[test]
    fn an_unavailable_candidate_is_waited_for_within_the_bound() {
        let mut schedule = RetrySchedule::new(RETRY, 0);
        assert!(schedule.pause(at(5), true).unwrap() >= Duration::from_secs(5));
        assert_eq!(schedule.pause(at(9), true), None);
        assert_eq!(schedule.pause(None, true), None);
        let open = Some(NextAvailable { span: Duration::ZERO, why: Unavailable::Circuit });
        assert_eq!(schedule.pause(open, false), None);
        assert!(schedule.pause(open, true).is_some());
    }

    #[test]
    fn a_wait_that_is_asked_for_is_kept_unless_another_upstream_asks_for_none() {
        let mut schedule = RetrySchedule::new(RETRY, 0);
        schedule.note_retry_after(Some(Duration::from_secs(6)));
        assert!(schedule.pause(at(0), true).unwrap() >= Duration::from_secs(6));
        schedule.note_retry_after(Some(Duration::from_secs(3600)));
        schedule.note_retry_after(None);
        assert!(schedule.pause(at(0), true).unwrap() < Duration::from_secs(3));
        schedule.note_retry_after(Some(Duration::from_secs(3600)));
        assert_eq!(schedule.pause(at(0), true), None);
    }

    #[test]
    fn an_sdk_that_retries_leaves_less_to_the_gateway() {
        let takes = |already| {
            let mut schedule = RetrySchedule::new(RETRY, already);
            (0..10).filter(|_| schedule.take()).count()
        };
        assert_eq!((takes(0), takes(2), takes(9)), (3, 1, 0));
    }
}
