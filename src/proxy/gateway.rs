//! What lives as long as the process.

use std::sync::{
    Arc,
    atomic::{AtomicU64, Ordering},
};

use arc_swap::ArcSwap;

use crate::{exchange::AccessLog, fault::Fault, snapshot::Snapshot};

/// Shared by all workers; read-only but for atomics.
#[derive(Debug)]
pub struct Gateway {
    /// The current configuration, compiled.
    pub live: ArcSwap<Snapshot>,
    /// Where access lines go, when they are written.
    pub access_log: AccessLog,
    buffered: AtomicU64,
}

/// Bytes of request bodies that are held in memory, counted against the process' bound; dropping it gives them back.
#[derive(Debug)]
pub(super) struct Buffered {
    gateway: Arc<Gateway>,
    bytes: u64,
}

impl Gateway {
    /// Begins with `snapshot`.
    pub fn new(snapshot: Snapshot, access_log: AccessLog) -> Arc<Self> {
        let live = ArcSwap::from_pointee(snapshot);
        Arc::new(Self { live, access_log, buffered: AtomicU64::new(0) })
    }

    /// Bytes of request bodies held now, by all workers.
    pub fn buffered(&self) -> u64 {
        self.buffered.load(Ordering::Relaxed)
    }

    pub(super) fn hold(self: &Arc<Self>) -> Buffered {
        Buffered { gateway: self.clone(), bytes: 0 }
    }
}

impl Buffered {
    /// Counts `bytes` in all from now on.
    ///
    /// # Errors
    /// [`Fault::Overloaded`] when that would pass `bound`; what was counted stays counted.
    pub(super) fn grow_to(&mut self, bytes: u64, bound: u64) -> Result<(), Fault> {
        let more = bytes.saturating_sub(self.bytes);
        let before = self.gateway.buffered.fetch_add(more, Ordering::Relaxed);
        if before.saturating_add(more) > bound {
            self.gateway.buffered.fetch_sub(more, Ordering::Relaxed);
            return Err(Fault::Overloaded);
        }
        self.bytes += more;
        Ok(())
    }
}

impl Drop for Buffered {
    fn drop(&mut self) {
        self.gateway.buffered.fetch_sub(self.bytes, Ordering::Relaxed);
    }
}
