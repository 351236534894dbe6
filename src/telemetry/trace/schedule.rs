//! When the next request to a collector may be sent.

use std::time::{Duration, Instant};

/// The first wait, about.
const FIRST: Duration = Duration::from_secs(1);

/// The longest wait that the collector has not named itself.
const LONGEST: Duration = Duration::from_secs(30);

/// When the next request may be sent, whichever it is: a time that the collector has named holds for the next batch as it does for the same one again.
#[derive(Debug, Default)]
pub struct Pace {
    backoff: Backoff,
    not_before: Option<Instant>,
}

impl Pace {
    /// The collector has taken a request.
    pub fn taken(&mut self) {
        *self = Self::default();
    }

    /// A request failed at `now`, and may be sent again later, or as the collector has named.
    pub fn failed(&mut self, named: Option<Duration>, now: Instant) {
        self.not_before = Some(now + self.backoff.after_failure(named));
    }

    /// How long to wait from `now` on.
    pub fn wait(&self, now: Instant) -> Duration {
        self.not_before.map_or(Duration::ZERO, |at| at.saturating_duration_since(now))
    }
}

/// Waits that double, with jitter, so that many gateways do not all come back at once (OpenTelemetry Protocol specification, "OTLP/HTTP Throttling" and
/// "OTLP/HTTP Connection").
#[derive(Debug, Default)]
struct Backoff {
    failures: u32,
}

impl Backoff {
    /// The wait after a failure, at least as long as the collector has said.
    fn after_failure(&mut self, named: Option<Duration>) -> Duration {
        let doubled = FIRST.saturating_mul(1 << self.failures.min(10)).min(LONGEST);
        self.failures = self.failures.saturating_add(1);
        let jittered = doubled.mul_f64(0.5 + fastrand::f64() / 2.0);
        named.unwrap_or_default().max(jittered)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn waits_double_up_to_a_bound_and_a_named_wait_holds() {
        let mut backoff = Backoff::default();
        for longest in [1, 2, 4, 8, 16, 30, 30] {
            let wait = backoff.after_failure(None);
            let longest = Duration::from_secs(longest);
            assert!(longest / 2 <= wait && wait <= longest, "{wait:?}");
        }
        let named = Duration::from_secs(120);
        assert_eq!(backoff.after_failure(Some(named)), named);
    }

    #[test]
    fn a_named_wait_holds_until_it_is_over_or_something_is_taken() {
        let (mut pace, now) = (Pace::default(), Instant::now());
        let second = Duration::from_secs(1);
        assert_eq!(pace.wait(now), Duration::ZERO);
        pace.failed(Some(120 * second), now);
        assert_eq!((pace.wait(now + second), pace.wait(now + 120 * second)), (119 * second, Duration::ZERO));
        // What fails then has no shorter wait than the second of the back-off.
        pace.failed(None, now + 120 * second);
        assert!(pace.wait(now + 120 * second) >= second);
        pace.taken();
        assert_eq!(pace.wait(now), Duration::ZERO);
        pace.failed(None, now);
        assert!(pace.wait(now) <= FIRST, "the back-off begins again");
    }
}
