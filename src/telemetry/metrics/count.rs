//! Numbers that only grow.

use std::{
    sync::atomic::{AtomicU64, Ordering},
    time::{SystemTime, UNIX_EPOCH},
};

/// A number that only grows.
#[derive(Debug, Default)]
pub struct Count(AtomicU64);

/// What became of a worker's upstream connections.
#[derive(Debug, Default)]
pub struct PoolCounts {
    /// Made.
    pub opened: Count,
    /// Used once more.
    pub reused: Count,
    /// Found closed when they were to be used again.
    pub dead: Count,
}

/// What became of reloads.
#[derive(Debug, Default)]
pub struct Reloads {
    /// The new configuration was taken.
    pub succeeded: Count,
    /// It was not.
    pub failed: Count,
    last_success: AtomicU64,
}

impl Count {
    /// The number now.
    pub fn value(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }

    /// One more.
    pub fn add(&self) {
        self.0.fetch_add(1, Ordering::Relaxed);
    }
}

impl Reloads {
    /// A configuration was taken just now; the first one, with which the process starts, is none that was reloaded.
    pub fn success(&self, at: SystemTime) {
        let seconds = at.duration_since(UNIX_EPOCH).unwrap_or_default().as_secs();
        self.last_success.store(seconds, Ordering::Relaxed);
    }

    /// When a configuration was last taken, in seconds since 1970.
    pub fn last_success(&self) -> u64 {
        self.last_success.load(Ordering::Relaxed)
    }
}
