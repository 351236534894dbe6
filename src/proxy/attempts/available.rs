//! When a candidate that is unavailable becomes available, and why it is not.

use std::time::Duration;

/// Earliest time at which an unavailable candidate becomes available, and why it is not.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct NextAvailable {
    pub(super) span: Duration,
    pub(super) why: Unavailable,
    /// Index into the route's steps.
    pub(super) step: usize,
}

/// Why a candidate is unavailable.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Unavailable {
    /// It is at its concurrency limit.
    Full,
    /// A rate limit is reached.
    Limited,
    /// Its circuit breaker is open, or half-open with its probe under way.
    Circuit,
    /// The upstream refuses all of its keys, or their accounts have no credit left.
    Refused,
}

impl NextAvailable {
    /// A candidate of the route's first upstream.
    #[cfg(test)]
    pub(super) fn after(span: Duration, why: Unavailable) -> Self {
        Self { span, why, step: 0 }
    }

    /// Whether the candidate lacks only a key that is not in cooldown.
    pub(super) fn is_a_key(&self) -> bool {
        matches!(self.why, Unavailable::Limited | Unavailable::Refused)
    }
}
