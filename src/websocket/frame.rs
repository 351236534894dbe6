//! The header of a frame (RFC 6455 §5.2).

/// Length of the longest header in bytes.
pub(super) const LONGEST: usize = 14;

/// The header of a frame, as it was written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Frame {
    /// Whether the frame is the last of its message.
    pub fin: bool,
    /// The reserved bits, RSV1 to RSV3, in the lowest three bits. An extension gives them a meaning; RSV1 marks a compressed message (RFC 7692).
    pub reserved: u8,
    /// What the frame is.
    pub opcode: Opcode,
    /// The key that the payload is masked with; only clients mask.
    pub mask: Option<[u8; 4]>,
    /// Length of the payload in bytes.
    pub length: u64,
}

/// What a frame is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Opcode {
    /// A further frame of the message that has begun.
    Continuation,
    /// The first frame of a text message.
    Text,
    /// The first frame of a binary message.
    Binary,
    /// The last frame of its sender.
    Close,
    /// Is to be answered by a pong.
    Ping,
    /// The answer to a ping, or unsolicited.
    Pong,
    /// Reserved.
    Other(u8),
}

impl Frame {
    /// The length of a header of which `start` has arrived; `None` if more of it is needed to tell.
    pub(super) fn header_length(start: &[u8]) -> Option<usize> {
        let second = *start.get(1)?;
        let extended = match second & 0x7f {
            126 => 2,
            127 => 8,
            _ => 0,
        };
        let mask = if second & 0x80 == 0 { 0 } else { 4 };
        Some(2 + extended + mask)
    }

    /// Reads a whole header.
    pub(super) fn read(header: &[u8]) -> Option<Self> {
        let (&[first, second], rest) = header.split_first_chunk()?;
        let (length, rest) = match second & 0x7f {
            126 => rest
                .split_first_chunk()
                .map(|(length, rest)| (u64::from(u16::from_be_bytes(*length)), rest))?,
            127 => rest.split_first_chunk().map(|(length, rest)| (u64::from_be_bytes(*length), rest))?,
            short => (u64::from(short), rest),
        };
        let mask = if second & 0x80 == 0 { None } else { Some(*rest.first_chunk()?) };
        Some(Self {
            fin: first & 0x80 != 0,
            reserved: first >> 4 & 0x7,
            opcode: Opcode::of(first & 0xf),
            mask,
            length,
        })
    }
}

impl Opcode {
    fn of(number: u8) -> Self {
        match number {
            0 => Self::Continuation,
            1 => Self::Text,
            2 => Self::Binary,
            8 => Self::Close,
            9 => Self::Ping,
            10 => Self::Pong,
            other => Self::Other(other),
        }
    }

    /// Whether the frame may stand between the frames of a message.
    pub fn is_control(self) -> bool {
        match self {
            Self::Close | Self::Ping | Self::Pong => true,
            Self::Other(number) => number >= 8,
            Self::Continuation | Self::Text | Self::Binary => false,
        }
    }
}

/// Removes the mask from bytes that begin at `offset` of a payload.
pub(super) fn unmask(bytes: &mut [u8], mask: Option<[u8; 4]>, offset: u64) {
    let Some(mut mask) = mask else { return };
    // The remainder is below 4.
    mask.rotate_left((offset % 4) as usize);
    for (byte, key) in bytes.iter_mut().zip(mask.iter().cycle()) {
        *byte ^= key;
    }
}
