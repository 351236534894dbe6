//! Reads the messages in one direction of a connection.

use super::{
    close::Close,
    frame::{Frame, Opcode, unmask},
    scanner::{FramePart, FrameScanner},
    writer::MOST_CONTROL,
};
use crate::outline::{Members, Outline};

/// Limit of what is kept of a message, in bytes. Of a longer one, an [`Outline`] is kept.
pub const KEPT: usize = 64 << 10;

/// Bytes of a message's beginning by which it is decided whether the message is read.
const LOOKED_AT: usize = 96;

/// Room for a message that is kept until the next one, in bytes.
const KEPT_ROOM: usize = 4 << 10;

/// Which messages are read, and what of them.
#[derive(Debug, Clone, Copy)]
pub struct Interest {
    /// Whether a message that begins with these bytes, up to 96 of them, is read.
    pub wants: fn(&[u8]) -> bool,
    /// What is kept of a message of more than [`KEPT`] bytes.
    pub members: &'static Members,
    /// Whether binary messages are read too.
    pub binary: bool,
}

/// What was seen.
#[derive(Debug, Clone, Copy)]
pub enum Observed<'m> {
    /// A message has ended, in which there is an interest.
    Message {
        /// Its bytes, unmasked; if not `whole`, its outline.
        text: &'m [u8],
        /// Whether these are all bytes of the message.
        whole: bool,
        /// Whether nothing of the [`Interest`]'s members can be missing in an outline.
        certain: bool,
    },
    /// A data frame begins that RFC 6455 does not allow here, or with bits of an extension: what a peer makes of it is not known.
    Unreadable,
    /// A close frame has ended.
    Close(&'m Close),
}

/// Reads one direction of a connection from bytes that are cut anywhere. Time is linear; memory is bounded by [`KEPT`] and the bound of an
/// [`Outline`].
#[derive(Debug)]
pub struct MessageReader {
    interest: Interest,
    scanner: FrameScanner,
    frame: Option<Frame>,
    message: Message,
    /// The payload of the control frame that is arriving.
    control: Vec<u8>,
    frames: u64,
    messages: u64,
}

/// What is known of the message that is arriving.
#[derive(Debug, Default)]
struct Message {
    state: State,
    kept: Vec<u8>,
    outline: Option<Box<Outline>>,
}

#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
enum State {
    /// No message has begun.
    #[default]
    Between,
    /// So little has arrived that it is not known whether the message is of interest.
    Begun,
    Read,
    Ignored,
}

impl MessageReader {
    /// Reads a direction from its first frame on.
    pub fn new(interest: Interest) -> Self {
        Self {
            interest,
            scanner: FrameScanner::default(),
            frame: None,
            message: Message::default(),
            control: Vec::new(),
            frames: 0,
            messages: 0,
        }
    }

    /// Whether everything so far were whole frames, so that another frame may be put here.
    pub fn is_between_frames(&self) -> bool {
        self.scanner.is_between_frames()
    }

    /// Number of frames that have ended.
    pub fn frames(&self) -> u64 {
        self.frames
    }

    /// Number of messages that have ended.
    pub fn messages(&self) -> u64 {
        self.messages
    }

    /// Reads on to the end of the current frame, or to the end of `bytes`. Returns how many bytes that were.
    pub fn read_frame(&mut self, bytes: &[u8], on: &mut impl FnMut(Observed<'_>)) -> usize {
        let mut rest = bytes;
        while let Some(part) = self.scanner.next(&mut rest) {
            match part {
                FramePart::Start(frame) => self.start(frame, on),
                FramePart::Payload { bytes, offset } => self.payload(bytes, offset, on),
                FramePart::End => {
                    self.end(on);
                    break;
                }
            }
        }
        bytes.len() - rest.len()
    }

    fn start(&mut self, frame: Frame, on: &mut impl FnMut(Observed<'_>)) {
        self.frame = Some(frame);
        if !self.is_in_order(frame) {
            on(Observed::Unreadable);
        }
        match frame.opcode {
            Opcode::Text | Opcode::Binary => {
                let is_readable = frame.opcode == Opcode::Text || self.interest.binary;
                // A reserved bit means an extension, most likely compression.
                let is_plain = frame.reserved == 0;
                self.message.begin(if is_readable && is_plain { State::Begun } else { State::Ignored });
            }
            Opcode::Close => self.control.clear(),
            Opcode::Continuation | Opcode::Ping | Opcode::Pong | Opcode::Other(_) => {}
        }
    }

    /// Whether a frame may stand here, as far as it may carry a message.
    fn is_in_order(&self, frame: Frame) -> bool {
        let is_within = self.message.state != State::Between;
        match frame.opcode {
            Opcode::Text | Opcode::Binary => frame.reserved == 0 && !is_within,
            Opcode::Continuation => frame.reserved == 0 && is_within,
            Opcode::Other(_) => false,
            Opcode::Close | Opcode::Ping | Opcode::Pong => true,
        }
    }

    fn payload(&mut self, bytes: &[u8], offset: u64, on: &mut impl FnMut(Observed<'_>)) {
        let Some(frame) = self.frame else { return };
        match frame.opcode {
            Opcode::Text | Opcode::Binary | Opcode::Continuation => {
                let is_whole = frame.fin
                    && frame.opcode != Opcode::Continuation
                    && frame.mask.is_none()
                    && frame.length == bytes.len() as u64;
                if is_whole && self.message.state == State::Begun {
                    // The usual case of a server's message, without a copy.
                    self.message.state = State::Ignored;
                    let beginning = bytes.get(..LOOKED_AT).unwrap_or(bytes);
                    if (self.interest.wants)(beginning) {
                        on(Observed::Message { text: bytes, whole: true, certain: true });
                    }
                    return;
                }
                self.message.take(bytes, frame.mask, offset, self.interest);
            }
            Opcode::Close => {
                let room = MOST_CONTROL.saturating_sub(self.control.len());
                let begin = self.control.len();
                self.control.extend_from_slice(bytes.get(..room).unwrap_or(bytes));
                unmask(self.control.get_mut(begin..).unwrap_or_default(), frame.mask, offset);
            }
            Opcode::Ping | Opcode::Pong | Opcode::Other(_) => {}
        }
    }

    fn end(&mut self, on: &mut impl FnMut(Observed<'_>)) {
        let Some(frame) = self.frame.take() else { return };
        self.frames += 1;
        match frame.opcode {
            Opcode::Close => {
                on(Observed::Close(&Close::read(&self.control)));
                self.control = Vec::new();
            }
            Opcode::Text | Opcode::Binary | Opcode::Continuation if frame.fin => {
                self.messages += 1;
                self.message.end(self.interest, on);
            }
            _ => {}
        }
    }
}

impl Message {
    fn begin(&mut self, state: State) {
        self.state = state;
        self.kept.clear();
        self.outline = None;
    }

    /// Keeps a piece of the payload, as far as it is of interest.
    fn take(&mut self, bytes: &[u8], mask: Option<[u8; 4]>, offset: u64, interest: Interest) {
        let mut bytes = bytes;
        let mut offset = offset;
        if self.state == State::Begun {
            let (first, rest) = bytes.split_at(bytes.len().min(LOOKED_AT - self.kept.len()));
            self.keep(first, mask, offset);
            if self.kept.len() < LOOKED_AT {
                return;
            }
            self.decide(interest);
            bytes = rest;
            offset += first.len() as u64;
        }
        if self.state != State::Read {
            return;
        }
        if self.outline.is_none() && self.kept.len() + bytes.len() > KEPT {
            let mut outline = Box::new(Outline::new(interest.members));
            outline.push(&self.kept);
            self.kept = Vec::new();
            self.outline = Some(outline);
        }
        self.keep(bytes, mask, offset);
    }

    fn keep(&mut self, bytes: &[u8], mask: Option<[u8; 4]>, offset: u64) {
        let Some(outline) = &mut self.outline else {
            let begin = self.kept.len();
            self.kept.extend_from_slice(bytes);
            unmask(self.kept.get_mut(begin..).unwrap_or_default(), mask, offset);
            return;
        };
        if mask.is_none() {
            return outline.push(bytes);
        }
        let mut piece = [0; 1024];
        let mut offset = offset;
        for bytes in bytes.chunks(piece.len()) {
            let Some(piece) = piece.get_mut(..bytes.len()) else { return };
            piece.copy_from_slice(bytes);
            unmask(piece, mask, offset);
            offset += bytes.len() as u64;
            outline.push(piece);
        }
    }

    fn decide(&mut self, interest: Interest) {
        let wanted = (interest.wants)(&self.kept);
        self.state = if wanted { State::Read } else { State::Ignored };
    }

    fn end(&mut self, interest: Interest, on: &mut impl FnMut(Observed<'_>)) {
        if self.state == State::Begun {
            self.decide(interest);
        }
        if self.state == State::Read {
            match &self.outline {
                None => on(Observed::Message { text: &self.kept, whole: true, certain: true }),
                Some(outline) => on(Observed::Message {
                    text: outline.kept(),
                    whole: false,
                    certain: outline.is_complete() && !outline.has_escaped_names(),
                }),
            }
        }
        self.begin(State::Between);
        if self.kept.capacity() > KEPT_ROOM {
            self.kept = Vec::new();
        }
    }
}

#[cfg(test)]
mod tests;
