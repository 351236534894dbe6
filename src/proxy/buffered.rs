//! The process-wide count of body bytes that are held in memory (`server.max_buffered`).

use std::sync::{Arc, atomic::Ordering};

use bytes::Bytes;

use super::Gateway;
use crate::fault::Fault;

/// Bytes of a body that is held in memory, counted for the whole process; dropping it gives them back.
#[derive(Debug)]
pub(super) struct Buffered {
    gateway: Arc<Gateway>,
    bytes: u64,
}

impl Buffered {
    /// A count of nothing yet.
    pub(super) fn new(gateway: &Arc<Gateway>) -> Self {
        Self { gateway: gateway.clone(), bytes: 0 }
    }

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

/// `bytes`, which `counted` counts for as long as anybody has them.
pub(super) fn own(bytes: Bytes, counted: impl Send + 'static) -> Bytes {
    Bytes::from_owner(CountedBytes { bytes, _counted: counted })
}

/// Bytes, and what counts them.
struct CountedBytes<C> {
    bytes: Bytes,
    _counted: C,
}

impl<C> AsRef<[u8]> for CountedBytes<C> {
    fn as_ref(&self) -> &[u8] {
        &self.bytes
    }
}
