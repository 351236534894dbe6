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
    watch: Rc<ExchangeHandle>,
}

impl Chunk {
    /// `bytes` of the exchange that `watch` is for.
    pub fn new(bytes: Bytes, watch: Rc<ExchangeHandle>) -> Self {
        watch.gave(bytes.len());
        Self { bytes, watch }
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
        self.watch.taken(count);
    }

    fn copy_to_bytes(&mut self, count: usize) -> Bytes {
        self.watch.taken(count);
        self.bytes.copy_to_bytes(count)
    }
}

impl Drop for Chunk {
    fn drop(&mut self) {
        self.watch.taken(self.bytes.len());
    }
}
