//! What lives as long as the process.

use arc_swap::ArcSwap;

use crate::snapshot::Snapshot;

/// Shared by all workers; read-only but for atomics.
#[derive(Debug)]
pub struct Gateway {
    /// The current configuration, compiled.
    pub live: ArcSwap<Snapshot>,
}
