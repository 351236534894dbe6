//! What is counted about the shared store.

use std::{
    sync::atomic::{AtomicU64, Ordering},
    time::Duration,
};

use crate::telemetry::metrics::{
    histogram::{SharedTotal, Total},
    scale::Scale,
};

/// Counts since the start.
#[derive(Debug)]
pub struct Statistics {
    durations: SharedTotal,
    connections: AtomicU64,
}

impl Default for Statistics {
    fn default() -> Self {
        Self { durations: SharedTotal::new(Self::SCALE), connections: AtomicU64::new(0) }
    }
}

impl Statistics {
    /// The buckets of [`Statistics::durations`].
    pub const SCALE: Scale = Scale::STORE;

    /// Counts an admission that waited for the store for so long.
    pub fn admission(&self, duration: Duration) {
        self.durations.observe(duration);
    }

    /// Counts a connection that was made.
    pub(super) fn connected(&self) {
        self.connections.fetch_add(1, Ordering::Relaxed);
    }

    /// How long admissions have waited for the store.
    pub fn durations(&self) -> Total {
        self.durations.total()
    }

    /// Connections made since the start.
    pub fn connections(&self) -> u64 {
        self.connections.load(Ordering::Relaxed)
    }
}
