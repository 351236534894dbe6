//! The process-wide count of body bytes that are held in memory (`server.max_buffered`).

use std::sync::{Arc, atomic::Ordering};

use bytes::Bytes;

use super::Gateway;
use crate::fault::Fault;

/// The bytes of one body in memory, counted for the whole process. Dropping the count subtracts them.
#[derive(Debug)]
pub(super) struct Buffered {
    gateway: Arc<Gateway>,
    bytes: u64,
}

impl Buffered {
    /// A count of zero bytes.
    pub(super) fn new(gateway: &Arc<Gateway>) -> Self {
        Self { gateway: gateway.clone(), bytes: 0 }
    }

    /// A count of zero bytes for the same process.
    pub(super) fn another(&self) -> Self {
        Self { gateway: self.gateway.clone(), bytes: 0 }
    }

    /// Raises the count to `bytes`.
    ///
    /// # Errors
    /// [`Fault::Overloaded`] if the process would then hold more than `bound`; the count stays as it was.
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

    /// Lowers the count to `bytes`, if it is higher.
    pub(super) fn shrink_to(&mut self, bytes: u64) {
        let less = self.bytes.saturating_sub(bytes);
        self.gateway.buffered.fetch_sub(less, Ordering::Relaxed);
        self.bytes -= less;
    }
}

impl Drop for Buffered {
    fn drop(&mut self) {
        self.gateway.buffered.fetch_sub(self.bytes, Ordering::Relaxed);
    }
}

/// `bytes`, together with their count: `counted` is dropped with the last clone of them.
pub(super) fn own(bytes: Bytes, counted: impl Send + 'static) -> Bytes {
    Bytes::from_owner(CountedBytes { bytes, _counted: counted })
}

/// Bytes and their count.
struct CountedBytes<C> {
    bytes: Bytes,
    _counted: C,
}

impl<C> AsRef<[u8]> for CountedBytes<C> {
    fn as_ref(&self) -> &[u8] {
        &self.bytes
    }
}
