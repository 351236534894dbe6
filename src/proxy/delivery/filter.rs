//! Removes the chunk with the usage from a stream whose client did not ask for it: the gateway did.

use std::{collections::VecDeque, mem};

use bytes::Bytes;
use http_body::Frame;

use crate::{
    openai::is_usage_event,
    sse::{PieceKind, Splitter},
};

/// The longest event that can be removed, in bytes: a longer one is passed on as it comes. Chunks with a usage have a few hundred bytes.
const LONGEST: usize = 16 << 10;

/// Unused room of this size, in bytes, is kept for the next unfinished event.
const KEPT: usize = 4 << 10;

/// Removes the chunk with the usage ([`is_usage_event`]) from an event stream; every other byte passes, in frames that are not copied.
///
/// An event that a frame leaves unfinished is kept back until it is known what it is: at most [`LONGEST`] bytes of it, copied, so that the frame's
/// memory can be released. A client could make nothing of them.
#[derive(Debug, Default)]
pub(in crate::proxy) struct EventFilter {
    splitter: Splitter,
    /// The beginning of an unfinished event.
    held: Vec<u8>,
    /// The unfinished event is longer than [`LONGEST`], and is passed on.
    is_passing: bool,
    /// The last event was removed.
    has_removed: bool,
    /// What passes, until it is taken: no more than two frames for each event of one frame of the source.
    ready: VecDeque<Frame<Bytes>>,
    has_ended: bool,
}

/// A frame while it is filtered.
struct Filtering {
    frame: Bytes,
    /// The first byte that was neither passed on nor removed.
    from: usize,
    /// The end of what was looked at.
    at: usize,
}

impl EventFilter {
    /// The next frame that passes, of those that were taken in.
    pub(super) fn next(&mut self) -> Option<Frame<Bytes>> {
        self.ready.pop_front()
    }

    /// Whether frames wait to be taken.
    pub(super) fn has_frames(&self) -> bool {
        !self.ready.is_empty()
    }

    /// Whether everything that was taken in has been passed on or removed.
    pub(super) fn is_empty(&self) -> bool {
        self.held.is_empty() && self.ready.is_empty()
    }

    /// Whether the source has ended in order.
    pub(super) fn has_ended(&self) -> bool {
        self.has_ended
    }

    /// Takes in the source's next frame of data. `removed` is given each event that is removed.
    pub(super) fn take(&mut self, frame: Bytes, removed: &mut impl FnMut(&[u8])) {
        let mut filtering = Filtering { frame, from: 0, at: 0 };
        while let Some(piece) = self.splitter.next(&filtering.frame[filtering.at..]) {
            let begin = filtering.at;
            filtering.at += piece.length;
            match piece.kind {
                PieceKind::Between => {
                    self.has_removed = false;
                    self.release();
                }
                PieceKind::LineFeed if self.has_removed => self.skip(&mut filtering, begin),
                PieceKind::LineFeed => {}
                PieceKind::Unfinished => self.keep(&mut filtering, begin),
                PieceKind::End => self.end(&mut filtering, begin, removed),
            }
        }
        self.forward_rest(&mut filtering);
    }

    /// Takes in the source's trailers.
    pub(super) fn take_trailers(&mut self, trailers: Frame<Bytes>, removed: &mut impl FnMut(&[u8])) {
        self.finish(removed);
        self.ready.push_back(trailers);
    }

    /// Notes that the source has ended, perhaps without the blank line after its last event.
    pub(super) fn finish(&mut self, removed: &mut impl FnMut(&[u8])) {
        self.has_ended = true;
        if is_usage_event(&self.held) {
            removed(&self.held);
            self.held.clear();
        }
        self.release();
    }

    /// The bytes that were not passed on, when the source has broken off.
    pub(super) fn rest(&mut self, removed: &mut impl FnMut(&[u8])) -> Option<Bytes> {
        self.finish(removed);
        let pieces = self.ready.drain(..).filter_map(|frame| frame.into_data().ok());
        let rest = pieces.collect::<Vec<_>>().concat();
        (!rest.is_empty()).then(|| rest.into())
    }

    /// Keeps a piece of an unfinished event, which is all that is left of the frame.
    fn keep(&mut self, filtering: &mut Filtering, begin: usize) {
        self.has_removed = false;
        let piece = &filtering.frame[begin..filtering.at];
        if self.is_passing || self.held.len() + piece.len() > LONGEST {
            self.is_passing = true;
            self.release();
            return;
        }
        if filtering.from < begin {
            self.ready.push_back(Frame::data(filtering.frame.slice(filtering.from..begin)));
        }
        self.held.extend_from_slice(piece);
        filtering.from = filtering.at;
    }

    /// Decides about an event whose end has come.
    fn end(&mut self, filtering: &mut Filtering, begin: usize, removed: &mut impl FnMut(&[u8])) {
        let piece = &filtering.frame[begin..filtering.at];
        let is_known = mem::take(&mut self.is_passing) || self.held.len() + piece.len() > LONGEST;
        self.has_removed = !is_known && self.is_removed(piece, removed);
        if self.has_removed {
            self.skip(filtering, begin);
        } else {
            self.release();
        }
    }

    /// Whether the event that ends with `piece` is removed.
    fn is_removed(&mut self, piece: &[u8], removed: &mut impl FnMut(&[u8])) -> bool {
        if self.held.is_empty() {
            let is_removed = is_usage_event(piece);
            if is_removed {
                removed(piece);
            }
            return is_removed;
        }
        let length = self.held.len();
        self.held.extend_from_slice(piece);
        let is_removed = is_usage_event(&self.held);
        if is_removed {
            removed(&self.held);
            self.held.clear();
        }
        self.held.truncate(length);
        is_removed
    }

    /// Removes the piece that begins at `begin`.
    fn skip(&mut self, filtering: &mut Filtering, begin: usize) {
        if filtering.from < begin {
            self.ready.push_back(Frame::data(filtering.frame.slice(filtering.from..begin)));
        }
        filtering.from = filtering.at;
    }

    /// Passes on what is left of the frame.
    fn forward_rest(&mut self, filtering: &mut Filtering) {
        if filtering.from == filtering.frame.len() {
            return;
        }
        let frame = mem::take(&mut filtering.frame);
        let rest = if filtering.from == 0 { frame } else { frame.slice(filtering.from..) };
        self.ready.push_back(Frame::data(rest));
    }

    /// Passes on what was kept.
    fn release(&mut self) {
        if self.held.is_empty() {
            return;
        }
        self.ready.push_back(Frame::data(Bytes::copy_from_slice(&self.held)));
        self.held.clear();
        if self.held.capacity() > KEPT {
            self.held = Vec::new();
        }
    }
}

#[cfg(test)]
mod tests;
