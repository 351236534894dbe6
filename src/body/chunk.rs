//! Response bytes that report when hyper has written them.

use std::rc::Rc;

use bytes::{Buf, Bytes};

use super::ExchangeHandle;

/// The bytes of one frame. hyper and h2 advance over the bytes they have written, so the [`ExchangeHandle`] knows how many they still hold.
///
/// hyper gives h2 a whole frame as soon as the stream's window has room for one byte of it, and then polls for the next frame. Only the
/// bytes themselves show when the remainder has been written.
#[derive(Debug)]
pub struct Chunk {
    bytes: Bytes,
    handle: Rc<ExchangeHandle>,
}

impl Chunk {
    /// Wraps `bytes` of the exchange of `handle`, and counts them as a frame given to hyper.
    pub fn new(bytes: Bytes, handle: Rc<ExchangeHandle>) -> Self {
        handle.frame_given(bytes.len());
        Self { bytes, handle }
    }
}

impl Buf for Chunk {
    fn remaining(&self) -> usize {
        self.bytes.len()
    }

    fn chunk(&self) -> &[u8] {
        &self.bytes
    }

    fn advance(&mut self, count: usize) {
        self.bytes.advance(count);
        self.handle.progress.taken(count);
    }

    fn copy_to_bytes(&mut self, count: usize) -> Bytes {
        self.handle.progress.taken(count);
        self.bytes.copy_to_bytes(count)
    }
}

impl Drop for Chunk {
    fn drop(&mut self) {
        // A chunk without a client was never meant for hyper.
        match self.handle.status.left() {
            None => self.handle.progress.discard(self.bytes.len()),
            Some(_) => self.handle.progress.taken(self.bytes.len()),
        }
    }
}
