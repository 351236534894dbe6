//! How many spans were exported, and how many were not, and why.

use crate::telemetry::metrics::count::Count;

/// Counts of spans since the process started.
#[derive(Debug, Default)]
pub struct SpanCounts {
    /// Spans that a collector has taken.
    pub exported: Count,
    queue_full: Count,
    rejected: Count,
    failed: Count,
    rate_limited: Count,
}

/// Why spans were dropped.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum DropReason {
    /// The queue had no room.
    QueueFull,
    /// The collector has taken the request, and rejected these spans.
    Rejected,
    /// The collector has refused the request, or could not be reached for too long.
    Failed,
    /// Something had gone wrong or was slow, but more of that ended in the same second than is exported.
    RateLimited,
}

impl SpanCounts {
    /// Counts `spans` that were dropped.
    pub fn dropped(&self, reason: DropReason, spans: u64) {
        self.of(reason).add_many(spans);
    }

    /// The drops, with the metrics' label values.
    pub fn drops(&self) -> [(&'static str, u64); 4] {
        [DropReason::QueueFull, DropReason::Rejected, DropReason::Failed, DropReason::RateLimited]
            .map(|reason| (reason.as_str(), self.of(reason).value()))
    }

    fn of(&self, reason: DropReason) -> &Count {
        match reason {
            DropReason::QueueFull => &self.queue_full,
            DropReason::Rejected => &self.rejected,
            DropReason::Failed => &self.failed,
            DropReason::RateLimited => &self.rate_limited,
        }
    }
}

impl DropReason {
    /// The metrics' label value.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::QueueFull => "queue_full",
            Self::Rejected => "rejected",
            Self::Failed => "failed",
            Self::RateLimited => "rate_limited",
        }
    }
}
