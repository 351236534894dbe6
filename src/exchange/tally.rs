//! Measurements of a response body as it is sent to the client.

use std::time::{Duration, Instant};

use crate::{body::HandedOver, telemetry::metrics::histogram::Histogram};

/// Measurements of a response body.
#[derive(Debug, Default, Clone, Copy)]
pub struct Tally {
    /// Bytes handed to the client's connection.
    pub bytes: u64,
    /// Data frames.
    pub frames: u64,
    /// SSE events; `None` if the response is not an event stream.
    pub events: Option<u64>,
    /// The longest time between two frames.
    pub max_gap: Option<Duration>,
    pub(super) gaps: Histogram,
    last: Option<Instant>,
}

impl Tally {
    /// Adds what was handed over before the first measured frame.
    pub(super) fn begin(&mut self, before: HandedOver) {
        if self.frames == 0 {
            (self.frames, self.bytes) = (before.frames, before.bytes);
        }
    }

    /// Counts a data frame of `bytes` that is sent at `now`.
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
