//! Whether an upstream takes a request for the usage of a stream.

use std::{
    sync::atomic::{AtomicU64, Ordering},
    time::{Duration, Instant},
};

/// How long an upstream that refused `stream_options.include_usage` is not sent it again.
const REMEMBERED: Duration = Duration::from_secs(3600);

/// Remembers for an hour that an upstream refused a request for the usage of a stream. Shared by all threads; it outlives a reload.
#[derive(Debug)]
pub struct UsageSupport {
    began: Instant,
    /// When the upstream may be sent it again, in milliseconds after `began`; 0: it has refused none.
    refused_until: AtomicU64,
}

impl UsageSupport {
    /// Whether the upstream may be sent the request at `now`.
    pub fn may_be_asked(&self, now: Instant) -> bool {
        self.refused_until.load(Ordering::Relaxed) <= self.since(now)
    }

    /// Notes at `now` that the upstream refused the request, and accepted it without the member. Returns for how long this is remembered, if it
    /// was not remembered before.
    pub fn refused(&self, now: Instant) -> Option<Duration> {
        let now = self.since(now);
        let until = now.saturating_add(millis(REMEMBERED));
        let before = self.refused_until.swap(until, Ordering::Relaxed);
        (before <= now).then_some(REMEMBERED)
    }

    fn since(&self, now: Instant) -> u64 {
        millis(now.saturating_duration_since(self.began))
    }
}

impl Default for UsageSupport {
    fn default() -> Self {
        Self { began: Instant::now(), refused_until: AtomicU64::new(0) }
    }
}

fn millis(span: Duration) -> u64 {
    u64::try_from(span.as_millis()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_refusal_is_remembered_for_an_hour_and_reported_once() {
        let support = UsageSupport::default();
        let start = Instant::now();
        assert!(support.may_be_asked(start));
        assert_eq!(support.refused(start), Some(REMEMBERED));
        assert_eq!(support.refused(start), None);
        assert!(!support.may_be_asked(start + REMEMBERED - Duration::from_millis(1)));
        let later = start + REMEMBERED + Duration::from_secs(1);
        assert!(support.may_be_asked(later));
        assert_eq!(support.refused(later), Some(REMEMBERED));
    }
}
