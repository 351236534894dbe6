//! Counters that any thread may increment.

use std::{
    sync::atomic::{AtomicU64, Ordering},
    time::{SystemTime, UNIX_EPOCH},
};

/// A counter that only grows.
#[derive(Debug, Default)]
pub struct Count(AtomicU64);

/// A level that goes up and down.
#[derive(Debug, Default)]
pub struct Level(AtomicU64);

/// Counts of events of a worker's upstream connections.
#[derive(Debug, Default)]
pub struct PoolCounts {
    /// Connections that were opened.
    pub opened: Count,
    /// Idle connections that were reused.
    pub reused: Count,
    /// Idle connections that were found closed.
    pub dead: Count,
}

/// Counts of reloads.
#[derive(Debug, Default)]
pub struct Reloads {
    /// Reloads whose configuration was applied.
    pub succeeded: Count,
    /// Reloads whose configuration was rejected.
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

    /// Adds so many.
    pub fn add_many(&self, count: u64) {
        self.0.fetch_add(count, Ordering::Relaxed);
    }
}

impl Level {
    /// The current value.
    pub fn value(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }

    /// Sets the value.
    pub fn set(&self, value: u64) {
        self.0.store(value, Ordering::Relaxed);
    }
}

impl Reloads {
    /// Sets the time at which a configuration was applied. The first configuration of the process does not count as a reload.
    pub fn success(&self, at: SystemTime) {
        let seconds = at.duration_since(UNIX_EPOCH).unwrap_or_default().as_secs();
        self.last_success.store(seconds, Ordering::Relaxed);
    }

    /// Unix time at which a configuration was last applied, in seconds.
    pub fn last_success(&self) -> u64 {
        self.last_success.load(Ordering::Relaxed)
    }
}
