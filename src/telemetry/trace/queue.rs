//! The bounded queue of encoded spans between the workers and the exporter.

use std::{
    collections::VecDeque,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use tokio::sync::Notify;

use super::{DropReason, SpanCounts, rates::Rates};

/// Limit in bytes of the spans that wait.
const MOST_BYTES: usize = 8 << 20;

/// The exporter is woken when so many spans wait, and puts so many into one request (the specification's default for batches).
const BATCH_SPANS: u64 = 512;

/// Limit in bytes of the spans in one request. A piece is never split, so a request may be larger by one piece.
const BATCH_BYTES: usize = 512 << 10;

/// Spans that wait to be exported, in pieces: those of one exchange belong together. It belongs to the process and outlives reloads.
#[derive(Debug, Default)]
pub struct SpanQueue {
    waiting: Mutex<Waiting>,
    enough: Notify,
    counts: Arc<SpanCounts>,
    rates: Rates,
}

#[derive(Debug, Default)]
struct Waiting {
    pieces: VecDeque<Piece>,
    bytes: usize,
    spans: u64,
}

#[derive(Debug)]
struct Piece {
    bytes: Box<[u8]>,
    spans: u64,
}

/// Spans for one request.
#[derive(Debug, Default, Clone)]
pub struct Batch {
    /// Encoded spans, one field after another.
    pub bytes: Vec<u8>,
    /// How many they are.
    pub spans: u64,
}

impl SpanQueue {
    /// How many spans were exported and dropped.
    pub fn counts(&self) -> &Arc<SpanCounts> {
        &self.counts
    }

    /// How much is exported because something went wrong.
    pub(super) fn rates(&self) -> &Rates {
        &self.rates
    }

    /// Adds the encoded spans of one exchange, and returns whether there was room. Never waits: without room, they are dropped and counted.
    pub(crate) fn push(&self, bytes: &[u8], spans: u64) -> bool {
        let piece = Piece { bytes: bytes.into(), spans };
        let mut waiting = self.lock();
        if waiting.bytes + bytes.len() > MOST_BYTES {
            drop(waiting);
            self.counts.dropped(DropReason::QueueFull, spans);
            return false;
        }
        let before = waiting.spans;
        waiting.spans += spans;
        waiting.bytes += bytes.len();
        waiting.pieces.push_back(piece);
        let is_enough = before < BATCH_SPANS && waiting.spans >= BATCH_SPANS;
        drop(waiting);
        if is_enough {
            self.enough.notify_one();
        }
        true
    }

    /// Takes spans for one request; `None` if there are none.
    pub fn take(&self) -> Option<Batch> {
        let mut batch = Batch::default();
        let mut waiting = self.lock();
        while batch.spans < BATCH_SPANS && batch.bytes.len() < BATCH_BYTES {
            let Some(piece) = waiting.pieces.pop_front() else { break };
            waiting.bytes -= piece.bytes.len();
            waiting.spans -= piece.spans;
            batch.bytes.extend_from_slice(&piece.bytes);
            batch.spans += piece.spans;
        }
        (batch.spans > 0).then_some(batch)
    }

    /// Waits until there are enough spans for a whole request. May return without any.
    pub async fn enough(&self) {
        self.enough.notified().await;
    }

    /// Whether there are enough spans for a whole request now.
    pub fn has_enough(&self) -> bool {
        let waiting = self.lock();
        waiting.spans >= BATCH_SPANS || waiting.bytes >= BATCH_BYTES
    }

    /// Nothing panics while it holds the lock.
    fn lock(&self) -> MutexGuard<'_, Waiting> {
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_has_no_room_is_dropped_and_counted_and_what_waits_comes_out_in_order() {
        let queue = SpanQueue::default();
        let piece = |first: u8| {
            let mut bytes = vec![0; 1 << 20];
            bytes[0] = first;
            bytes
        };
        let pushed: Vec<bool> = (0..9).map(|number| queue.push(&piece(number), 3)).collect();
        assert_eq!(pushed, [[true; 8].as_slice(), &[false]].concat());
        let dropped = |queue: &SpanQueue| queue.counts().drops()[0];
        assert_eq!(dropped(&queue), ("queue_full", 3));
        for number in 0..8 {
            let batch = queue.take().unwrap();
            assert_eq!((batch.bytes[0], batch.spans), (number, 3), "one piece is more than a batch");
        }
        assert!(queue.take().is_none());
        assert!(queue.push(&piece(9), 3));
        assert_eq!((queue.take().map(|batch| batch.spans), dropped(&queue)), (Some(3), ("queue_full", 3)));
    }

    #[tokio::test]
    async fn the_exporter_is_woken_for_a_whole_batch() {
        let queue = SpanQueue::default();
        (0..BATCH_SPANS / 2).for_each(|_| assert!(queue.push(b"x", 2)));
        assert!(queue.has_enough());
        queue.enough().await;
        assert!(queue.push(b"x", 2));
        assert_eq!(queue.take().map(|batch| batch.spans), Some(BATCH_SPANS));
        assert_eq!(queue.take().map(|batch| batch.spans), Some(2));
    }
}
