//! Bytes on their way to the caller, which tell when they have been taken.

use std::rc::Rc;

use bytes::{Buf, Bytes};

use super::ExchangeHandle;

/// A frame's bytes. hyper and h2 advance over what they have written, so its [`ExchangeHandle`] knows how many are still held by them.
///
/// hyper gives h2 a whole frame as soon as the stream's window has room for one byte of it, and asks for the next. Only from the bytes
/// themselves can it be learned when the rest has gone.
#[derive(Debug)]
pub struct Chunk {
    bytes: Bytes,
    handle: Rc<ExchangeHandle>,
}

impl Chunk {
    /// `bytes` of the exchange that `handle` belongs to.
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
        self.handle.progress.taken(self.bytes.len());
    }
}
