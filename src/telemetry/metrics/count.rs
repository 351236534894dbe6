//! Counters.

use std::{
    sync::atomic::{AtomicU64, Ordering},
    time::{SystemTime, UNIX_EPOCH},
};

/// A counter.
#[derive(Debug, Default)]
pub struct Count(AtomicU64);

/// Events of a worker's upstream connections.
#[derive(Debug, Default)]
pub struct PoolCounts {
    /// A connection was opened.
    pub opened: Count,
    /// A kept connection was used again.
    pub reused: Count,
    /// A kept connection was found closed.
    pub dead: Count,
}

/// Counts of reloads.
#[derive(Debug, Default)]
pub struct Reloads {
    /// The new configuration was applied.
    pub succeeded: Count,
    /// The new configuration was rejected.
    pub failed: Count,
    last_success: AtomicU64,
}

impl Count {
    /// The current value.
    pub fn value(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }

    /// Adds one.
    pub fn add(&self) {
        self.0.fetch_add(1, Ordering::Relaxed);
    }
}

impl Reloads {
    /// A configuration was applied just now; the one that the process starts with does not count as a reload.
    pub fn success(&self, at: SystemTime) {
        let seconds = at.duration_since(UNIX_EPOCH).unwrap_or_default().as_secs();
        self.last_success.store(seconds, Ordering::Relaxed);
    }

    /// Unix time at which a configuration was last applied, in seconds.
    pub fn last_success(&self) -> u64 {
        self.last_success.load(Ordering::Relaxed)
    }
}
