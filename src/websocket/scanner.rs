//! Finds the frames in one direction of a connection.

use super::frame::{Frame, LONGEST};

/// Finds the frames in bytes that are cut anywhere. It keeps at most one unfinished header.
#[derive(Debug, Default)]
pub struct FrameScanner {
    header: [u8; LONGEST],
    /// Bytes of `header` that have arrived.
    arrived: usize,
    frame: Option<Frame>,
    /// Payload that has passed, in bytes.
    passed: u64,
}

/// What follows in the bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum FramePart<'b> {
    /// A header is complete.
    Start(Frame),
    /// A piece of the payload, as it is on the wire; never empty.
    Payload {
        /// The bytes.
        bytes: &'b [u8],
        /// Where they begin in the payload.
        offset: u64,
    },
    /// The frame is complete.
    End,
}

impl FrameScanner {
    /// Whether everything so far were whole frames, so that another frame may be put here.
    pub fn is_between_frames(&self) -> bool {
        self.frame.is_none() && self.arrived == 0
    }

    /// Takes the next part from the front of `bytes`. `None`: nothing is left of them, and no frame ends here.
    pub fn next<'b>(&mut self, bytes: &mut &'b [u8]) -> Option<FramePart<'b>> {
        let Some(frame) = self.frame else { return self.header(bytes).map(FramePart::Start) };
        let left = frame.length - self.passed;
        if left == 0 {
            *self = Self::default();
            return Some(FramePart::End);
        }
        if bytes.is_empty() {
            return None;
        }
        let taken = usize::try_from(left).unwrap_or(usize::MAX).min(bytes.len());
        let (payload, rest) = bytes.split_at(taken);
        let offset = self.passed;
        *bytes = rest;
        self.passed += taken as u64;
        Some(FramePart::Payload { bytes: payload, offset })
    }

    fn header(&mut self, bytes: &mut &[u8]) -> Option<Frame> {
        loop {
            let known = self.header.get(..self.arrived)?;
            let needed = Frame::header_length(known).unwrap_or(2);
            if self.arrived >= needed {
                self.frame = Frame::read(known);
                return self.frame;
            }
            let taken = (needed - self.arrived).min(bytes.len());
            if taken == 0 {
                return None;
            }
            let (first, rest) = bytes.split_at(taken);
            self.header.get_mut(self.arrived..self.arrived + taken)?.copy_from_slice(first);
            self.arrived += taken;
            *bytes = rest;
        }
    }
}
