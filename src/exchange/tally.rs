//! Measurements of a response body sent to the client.

use std::time::{Duration, Instant};

use crate::{body::Status, telemetry::metrics::histogram::Gaps};

/// Measurements of a response body.
#[derive(Debug, Default, Clone, Copy)]
#[repr(C)]
pub struct Tally {
    /// The longest time between two frames.
    pub max_gap: Option<Duration>,
    pub(super) gaps: Gaps,
    /// Number of bytes handed to the client's connection, of which only those count that were written to it. Known at the end.
    pub bytes: u64,
    /// Number of data frames. Known at the end.
    pub frames: u64,
    /// Number of SSE events; `None` when the response is not an event stream.
    pub events: Option<u64>,
    last: Option<Instant>,
}

/// Measurements of a WebSocket connection.
#[derive(Debug, Default, Clone)]
pub struct TunnelTally {
    /// Turns that have ended: responses of the model.
    pub turns: u64,
    /// Of `turns`, those that failed.
    pub failed_turns: u64,
    /// Tokens of output of turns that ended without a report of their usage: one for each message of theirs.
    pub unreported_tokens: u64,
    /// Frames from the client.
    pub frames_in: u64,
    /// The status code of the first close frame; 1005 if it has none.
    pub close_code: Option<u16>,
    /// The code of the last error that the upstream has reported in a message.
    pub error: Option<String>,
}

impl Tally {
    /// Sets what `status` has counted while the response was sent, if it has counted anything.
    pub(super) fn count(&mut self, status: &Status) {
        let (frames, bytes) = status.given();
        if frames > 0 {
            (self.frames, self.bytes, self.last) = (frames, bytes, status.last_sent());
        }
    }

    /// When the last data frame was sent.
    pub fn last_frame(&self) -> Option<Instant> {
        self.last
    }

    /// Notes that `bytes` of those that were handed over have not been written.
    pub(super) fn not_written(&mut self, bytes: u64) {
        self.bytes = self.bytes.saturating_sub(bytes);
    }

    /// Measures the gap between a data frame that is sent at `now` and the one before it, sent at `last`. Frames and bytes are counted by
    /// [`Status`], where an operator can see them meanwhile.
    pub fn frame(&mut self, last: Option<Instant>, now: Instant) {
        if let Some(last) = last {
            let gap = now.saturating_duration_since(last);
            self.gaps.observe(gap);
            self.max_gap = Some(self.max_gap.map_or(gap, |longest| longest.max(gap)));
        }
    }
}
