//! What is measured of an answer's body on its way to the caller.

use std::time::{Duration, Instant};

use crate::telemetry::metrics::histogram::Histogram;

/// What is measured of an answer's body.
#[derive(Debug, Default, Clone, Copy)]
pub struct Tally {
    /// Bytes handed to the caller's connection.
    pub bytes: u64,
    /// Data frames.
    pub frames: u64,
    /// SSE events; `None` where the answer is not a stream of them.
    pub events: Option<u64>,
    /// The longest time between two frames.
    pub max_gap: Option<Duration>,
    pub(super) gaps: Histogram,
    last: Option<Instant>,
}

impl Tally {
    /// So many frames and bytes had gone out before the first one that is measured.
    pub(super) fn begin(&mut self, (frames, bytes): (u64, u64)) {
        if self.frames == 0 {
            (self.frames, self.bytes) = (frames, bytes);
        }
    }

    /// A data frame of `bytes` goes out at `now`.
    pub fn frame(&mut self, bytes: usize, now: Instant) {
        self.bytes += bytes as u64;
        self.frames += 1;
        if let Some(last) = self.last.replace(now) {
            let gap = now.saturating_duration_since(last);
            self.gaps.observe(gap);
            self.max_gap = Some(self.max_gap.map_or(gap, |longest| longest.max(gap)));
        }
    }
}
