//! The number of retries of a request, and how long it may wait between them.

use std::time::{Duration, Instant};

use super::available::{NextAvailable, Unavailable};
use crate::config::Retry;

/// The retries that one request has left, and the waits between its rounds.
#[derive(Debug)]
pub(super) struct RetrySchedule {
    retry: Retry,
    left: u32,
    rounds: u32,
    /// The shortest wait that the failures of this round have requested; zero if one of them requested none. `None`: nothing failed yet.
    requested: Option<Duration>,
    /// When the request is ended by its total timeout.
    deadline: Option<Instant>,
    /// The sum of all waits so far.
    waited: Duration,
    /// How often the current candidate was tried again.
    same: u32,
}

impl RetrySchedule {
    /// A schedule for a request that ends at `deadline`, and that an SDK has sent `already` times; those retries count here too.
    pub(super) fn new(retry: Retry, already: u32, deadline: Option<Instant>) -> Self {
        let left = retry.retries.saturating_sub(already);
        Self { retry, left, rounds: 0, requested: None, deadline, waited: Duration::ZERO, same: 0 }
    }

    /// Notes the wait that a failed upstream requested, if it did.
    pub(super) fn note_retry_after(&mut self, requested: Option<Duration>) {
        let requested = requested.unwrap_or_default();
        self.requested = Some(self.requested.map_or(requested, |known| known.min(requested)));
    }

    /// Notes that the request has waited for `span`.
    pub(super) fn note_wait(&mut self, span: Duration) {
        self.waited += span;
    }

    /// Whether any retry is left.
    pub(super) fn any_left(&self) -> bool {
        self.left > 0
    }

    /// Takes one retry; false when none is left.
    pub(super) fn take(&mut self) -> bool {
        let any = self.left > 0;
        self.left = self.left.saturating_sub(1);
        any
    }

    /// How long to wait before the next round, now that every candidate was tried or is unavailable: the backoff, or until the first one becomes
    /// available. `None`: there is no next round, because no attempt could begin in the time that is left.
    pub(super) fn pause(
        &mut self,
        available: Option<NextAvailable>,
        any_failed: bool,
        now: Instant,
    ) -> Option<Duration> {
        let NextAvailable { span, why, .. } = available?;
        let span = span.max(self.requested.take().unwrap_or_default());
        // An open circuit breaker exists so that clients do not wait for a failing target.
        let only_open = why == Unavailable::Circuit && !any_failed;
        if only_open || self.rounds >= self.retry.retries {
            return None;
        }
        let pause = self.backoff(self.rounds, span, now)?;
        self.rounds += 1;
        Some(pause)
    }

    /// Until when a request that wants to try again may wait in the queue for a key that is free after `span`. `None`: that is too late.
    pub(super) fn latest_turn(&self, span: Duration, now: Instant) -> Option<Instant> {
        let longest = self.longest_wait(now);
        let has_any = self.retry.retries > 0 && !longest.is_zero();
        (has_any && span <= longest).then(|| now + longest)
    }

    /// How long to wait before the candidate that failed last is tried once more, if its upstream has requested to wait for `requested`.
    /// `None`: it is the next candidate's turn.
    pub(super) fn pause_at_same(&mut self, requested: Option<Duration>, now: Instant) -> Option<Duration> {
        let same = self.retry.same_candidate?;
        let requested = requested.unwrap_or_default();
        if self.same >= same.attempts || requested > same.within {
            return None;
        }
        let pause = self.backoff(self.same, requested, now)?;
        self.same += 1;
        Some(pause)
    }

    /// Notes that another candidate is tried.
    pub(super) fn next_candidate(&mut self) {
        self.same = 0;
    }

    /// The backoff after so many others, and at least `span`. `None`: that is longer than the request may wait.
    fn backoff(&self, earlier: u32, span: Duration, now: Instant) -> Option<Duration> {
        let longest = self.longest_wait(now);
        let doubled = self.retry.backoff.saturating_mul(1 << earlier.min(16)).min(self.retry.max_backoff);
        let shortest = doubled.mul_f64(0.75);
        if longest.is_zero() || span > longest || shortest > longest {
            return None;
        }
        let spread = shortest.mul_f64(1.0 + fastrand::f64() * 2.0 / 3.0);
        Some(if spread > longest { shortest } else { spread }.max(span))
    }

    /// The longest wait from `now` on.
    fn longest_wait(&self, now: Instant) -> Duration {
        let left = self.retry.max_wait.saturating_sub(self.waited).min(self.retry.max_backoff);
        // An attempt that begins at the deadline cannot succeed.
        let deadline = self.deadline.map(|deadline| deadline.saturating_duration_since(now));
        deadline.map_or(left, |rest| left.min(rest.saturating_sub(Duration::from_millis(1))))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::SameCandidate;

    const SECOND: Duration = Duration::from_secs(1);
    const HOUR: Duration = Duration::from_secs(3600);
    const RETRY: Retry = Retry {
        retries: 3,
        backoff: SECOND,
        max_backoff: Duration::from_secs(8),
        max_wait: HOUR,
        same_candidate: None,
    };

    fn schedule(retry: Retry) -> RetrySchedule {
        RetrySchedule::new(retry, 0, None)
    }

    fn at(seconds: u64) -> Option<NextAvailable> {
        Some(NextAvailable::after(Duration::from_secs(seconds), Unavailable::Limited))
    }

    fn pause(
        schedule: &mut RetrySchedule,
        available: Option<NextAvailable>,
        any_failed: bool,
    ) -> Option<Duration> {
        schedule.pause(available, any_failed, Instant::now())
    }

    #[test]
    fn waits_double_up_to_their_bound() {
        let mut schedule = schedule(Retry { retries: 5, ..RETRY });
        for expected in [1.0_f64, 2.0, 4.0, 8.0, 8.0] {
            let wait = pause(&mut schedule, at(0), true).unwrap().as_secs_f64();
            assert!((expected * 0.75..=(expected * 1.25).min(8.0)).contains(&wait), "{expected}: {wait}");
        }
        assert_eq!(pause(&mut schedule, at(0), true), None, "as many as there are retries");
    }

    #[test]
    fn an_unavailable_candidate_is_waited_for_within_the_bound() {
        let mut schedule = schedule(RETRY);
        assert!(pause(&mut schedule, at(5), true).unwrap() >= Duration::from_secs(5));
        assert_eq!(pause(&mut schedule, at(9), true), None);
        assert_eq!(pause(&mut schedule, None, true), None);
        let open = Some(NextAvailable::after(Duration::ZERO, Unavailable::Circuit));
        assert_eq!(pause(&mut schedule, open, false), None);
        assert!(pause(&mut schedule, open, true).is_some());
    }

    #[test]
    fn a_wait_that_is_asked_for_is_kept_unless_another_upstream_asks_for_none() {
        let mut schedule = schedule(RETRY);
        schedule.note_retry_after(Some(Duration::from_secs(6)));
        assert!(pause(&mut schedule, at(0), true).unwrap() >= Duration::from_secs(6));
        schedule.note_retry_after(Some(HOUR));
        schedule.note_retry_after(None);
        assert!(pause(&mut schedule, at(0), true).unwrap() < Duration::from_secs(3));
        schedule.note_retry_after(Some(HOUR));
        assert_eq!(pause(&mut schedule, at(0), true), None);
    }

    #[test]
    fn an_sdk_that_retries_leaves_less_to_the_gateway() {
        let takes = |already| {
            let mut schedule = RetrySchedule::new(RETRY, already, None);
            (0..10).filter(|_| schedule.take()).count()
        };
        assert_eq!((takes(0), takes(2), takes(9)), (3, 1, 0));
    }

    /// The built-in values allow 1, 2 and 4 s, whatever is added or taken off at random.
    #[test]
    fn all_waits_together_are_bounded() {
        let seven = Retry { retries: 10, max_wait: 7 * SECOND, ..RETRY };
        for _ in 0..100 {
            let mut schedule = schedule(seven);
            let mut waits = Vec::new();
            while let Some(wait) = pause(&mut schedule, at(0), true) {
                schedule.note_wait(wait);
                waits.push(wait);
            }
            assert!(waits.len() == 3 && waits.iter().sum::<Duration>() <= 7 * SECOND, "{waits:?}");
        }
        // A key that is free after what is left is not waited for.
        let mut schedule = schedule(seven);
        let now = Instant::now();
        assert_eq!(schedule.latest_turn(7 * SECOND, now), Some(now + 7 * SECOND));
        schedule.note_wait(3 * SECOND);
        assert_eq!(schedule.latest_turn(5 * SECOND, now), None);
        assert_eq!(pause(&mut schedule, at(5), true), None);
        assert!(pause(&mut schedule, at(4), true).is_some());
    }

    #[test]
    fn no_wait_goes_beyond_the_total_timeout() {
        let now = Instant::now();
        for (left, waits) in [(500, false), (1000, true), (10_000, true)] {
            let deadline = now + Duration::from_millis(left);
            let mut schedule = RetrySchedule::new(RETRY, 0, Some(deadline));
            let pause = schedule.pause(at(0), true, now);
            assert_eq!(pause.is_some(), waits, "{left}");
            assert!(pause.is_none_or(|pause| now + pause < deadline), "{left} {pause:?}");
        }
        let mut schedule = RetrySchedule::new(RETRY, 0, Some(now + 3 * SECOND));
        assert_eq!(schedule.pause(at(3), true, now), None);
        assert_eq!(schedule.latest_turn(3 * SECOND, now), None);
    }

    #[test]
    fn the_same_candidate_is_tried_as_often_as_is_set() {
        let same = |attempts| {
            let same_candidate = Some(SameCandidate { attempts, within: 3 * SECOND });
            schedule(Retry { same_candidate, ..RETRY })
        };
        let now = Instant::now();
        assert_eq!(schedule(RETRY).pause_at_same(None, now), None, "off by default");
        let mut twice = same(2);
        assert!((0..2).all(|_| twice.pause_at_same(None, now).is_some()));
        assert_eq!(twice.pause_at_same(None, now), None);
        twice.next_candidate();
        assert!(twice.pause_at_same(Some(3 * SECOND), now).is_some_and(|pause| pause >= 3 * SECOND));
        assert_eq!(twice.pause_at_same(Some(4 * SECOND), now), None, "longer than `within`");
    }
}
