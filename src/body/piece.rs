//! The bytes of an answer on their way through hyper.

use std::rc::Rc;

use bytes::{Buf, Bytes};

use super::Watch;

/// Bytes of an answer's body that tell, by being dropped, that hyper has written them.
///
/// A body that fails makes hyper drop what it still holds: on HTTP/2, all that h2 keeps until the caller's windows let it through.
/// Nothing else shows how much that is. Costs a count without atomics for each frame.
#[derive(Debug)]
pub struct Piece {
    bytes: Bytes,
    watch: Rc<Watch>,
}

impl Piece {
    /// `bytes` of the exchange that `watch` is of.
    pub fn new(bytes: Bytes, watch: &Rc<Watch>) -> Self {
        watch.piece_given();
        Self { bytes, watch: watch.clone() }
    }
}

impl Buf for Piece {
    fn remaining(&self) -> usize {
        self.bytes.len()
    }

    fn chunk(&self) -> &[u8] {
        &self.bytes
    }

    fn advance(&mut self, count: usize) {
        self.bytes.advance(count);
    }

    fn copy_to_bytes(&mut self, length: usize) -> Bytes {
        self.bytes.copy_to_bytes(length)
    }
}

impl Drop for Piece {
    fn drop(&mut self) {
        self.watch.piece_gone();
    }
}
