//! How long to wait before a request to a collector is sent again.

use std::time::Duration;

/// The first wait, about.
const FIRST: Duration = Duration::from_secs(1);

/// The longest wait that the collector has not named itself.
const LONGEST: Duration = Duration::from_secs(30);

/// Waits that double, with jitter, so that many gateways do not all come back at once (OpenTelemetry Protocol specification, "OTLP/HTTP Throttling" and
/// "OTLP/HTTP Connection").
#[derive(Debug, Default)]
pub struct Backoff {
    failures: u32,
}

impl Backoff {
    /// The wait after a failure, at least as long as the collector has said.
    pub fn after_failure(&mut self, named: Option<Duration>) -> Duration {
        let doubled = FIRST.saturating_mul(1 << self.failures.min(10)).min(LONGEST);
        self.failures = self.failures.saturating_add(1);
        let jittered = doubled.mul_f64(0.5 + fastrand::f64() / 2.0);
        named.unwrap_or_default().max(jittered)
    }

    /// Begins again with the first wait.
    pub fn success(&mut self) {
        self.failures = 0;
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
        backoff.success();
        assert!(backoff.after_failure(None) <= FIRST);
    }
}
