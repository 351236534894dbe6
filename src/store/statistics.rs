//! What is counted about the shared store.

use std::{
    sync::atomic::{AtomicU64, Ordering},
    time::Duration,
};

/// Upper bounds of the histogram of admissions, in seconds.
pub const LATENCY_BUCKETS: [f64; 12] =
    [0.000_25, 0.000_5, 0.001, 0.002, 0.004, 0.008, 0.016, 0.032, 0.064, 0.128, 0.512, 1.024];

/// Counts since the start.
#[derive(Debug, Default)]
pub struct Statistics {
    /// Admissions by their duration; the last is for those above all bounds.
    durations: [AtomicU64; LATENCY_BUCKETS.len() + 1],
    /// The sum of the durations, in nanoseconds.
    duration_sum: AtomicU64,
    /// Connections made.
    connections: AtomicU64,
}

impl Statistics {
    /// Counts an admission that waited for the store for so long.
    pub fn admission(&self, duration: Duration) {
        let seconds = duration.as_secs_f64();
        let bucket = LATENCY_BUCKETS.iter().position(|bound| seconds <= *bound);
        if let Some(count) = self.durations.get(bucket.unwrap_or(LATENCY_BUCKETS.len())) {
            count.fetch_add(1, Ordering::Relaxed);
        }
        let nanos = u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX);
        self.duration_sum.fetch_add(nanos, Ordering::Relaxed);
    }

    /// Counts a connection that was made.
    pub(super) fn connected(&self) {
        self.connections.fetch_add(1, Ordering::Relaxed);
    }

    /// Admissions by their duration, beside [`LATENCY_BUCKETS`]; the last is for those above all bounds.
    pub fn durations(&self) -> [u64; LATENCY_BUCKETS.len() + 1] {
        std::array::from_fn(|bucket| {
            self.durations.get(bucket).map_or(0, |count| count.load(Ordering::Relaxed))
        })
    }

    /// The sum of the durations of admissions.
    pub fn duration_sum(&self) -> Duration {
        Duration::from_nanos(self.duration_sum.load(Ordering::Relaxed))
    }

    /// Connections made since the start.
    pub fn connections(&self) -> u64 {
        self.connections.load(Ordering::Relaxed)
    }
}
