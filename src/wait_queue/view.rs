//! What a queue holds, for operators.

use std::time::{Duration, Instant};

use crate::priority::Priority;

/// What a queue holds at one time.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct QueueView {
    /// Requests that wait, in the order of [`Priority::ALL`].
    pub by_priority: [usize; Priority::ALL.len()],
    /// Bytes of these requests.
    pub bytes: u64,
    /// How long the oldest has waited; `None`: none waits.
    pub oldest: Option<Duration>,
}

impl QueueView {
    /// The number of requests that wait.
    pub fn depth(&self) -> usize {
        self.by_priority.iter().sum()
    }

    /// Adds what another queue holds.
    #[must_use]
    pub fn with(mut self, other: &Self) -> Self {
        self.by_priority.iter_mut().zip(other.by_priority).for_each(|(sum, more)| *sum += more);
        self.bytes = self.bytes.saturating_add(other.bytes);
        self.oldest = self.oldest.max(other.oldest);
        self
    }

    /// Counts a request that waits since then.
    pub(super) fn add(&mut self, priority: usize, since: Instant, now: Instant) {
        if let Some(count) = self.by_priority.get_mut(priority) {
            *count += 1;
        }
        self.oldest = self.oldest.max(Some(now.saturating_duration_since(since)));
    }
}
