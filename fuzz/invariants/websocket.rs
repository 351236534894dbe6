//! The messages of a WebSocket connection under any chunking.
//!
//! - However the bytes are cut, the same messages and close frames are found, and as many frames.
//! - Every call reads on, and no further than to the end of a frame: the work is linear in the bytes.
//! - The frames are those of a reader that follows RFC 6455 §5.2 literally, and so are the messages that are not too long to be kept.
//! - What is kept of a message is never more than its bound.
//!
//! Input: eight bytes that decide the cuts, then the bytes of one direction.

use sluicegate::{
    openai::OUTLINED,
    websocket::{Interest, KEPT, MessageReader, Observed},
};

const ALL: Interest = Interest { wants: |_| true, members: &OUTLINED, binary: true };

/// What was found, each as text, and the number of frames.
type Found = (Vec<(Vec<u8>, bool)>, u64);

pub fn check(data: &[u8]) {
    let Some((seed, bytes)) = data.split_first_chunk::<8>() else { return };
    let whole = found([bytes]);
    assert_eq!(found(bytes.chunks(1)), whole, "byte by byte");
    for size in seed.map(|size| usize::from(size % 37) + 1) {
        assert_eq!(found(bytes.chunks(size)), whole, "{size} bytes at once");
    }
    let expected = literally(bytes);
    assert_eq!(whole.1, expected.1, "frames");
    if expected.0.iter().all(|(message, _)| message.len() <= KEPT) {
        assert_eq!(whole.0, expected.0);
    }
}

fn found<'b>(pieces: impl IntoIterator<Item = &'b [u8]>) -> Found {
    let mut reader = MessageReader::new(ALL);
    let mut found = Vec::new();
    for mut piece in pieces {
        while !piece.is_empty() {
            let frames = reader.frames();
            let read = reader.read_frame(piece, &mut |observed| match observed {
                Observed::Message { text, .. } => {
                    assert!(text.len() <= KEPT + 1024);
                    found.push((text.to_vec(), false));
                }
                Observed::Unreadable => {}
                Observed::Close(close) => {
                    found.push((format!("{:?} {}", close.code, close.reason).into_bytes(), true));
                }
            });
            assert!(read > 0 && reader.frames() <= frames + 1);
            piece = &piece[read..];
        }
    }
    (found, reader.frames())
}

/// Reads frame by frame, as the standard draws them.
fn literally(mut bytes: &[u8]) -> Found {
    let (mut found, mut frames, mut message) = (Vec::new(), 0, None::<Vec<u8>>);
    while let Some((first, payload, rest)) = frame(bytes) {
        bytes = rest;
        frames += 1;
        let (fin, reserved, opcode) = (first & 0x80 != 0, first & 0x70, first & 0xf);
        match opcode {
            1 | 2 => message = (reserved == 0).then_some(payload),
            0 => {
                if let Some(message) = &mut message {
                    message.extend(payload);
                }
            }
            8 => {
                let payload = &payload[..payload.len().min(125)];
                let (code, reason) = match payload.split_first_chunk() {
                    Some((code, reason)) => (Some(u16::from_be_bytes(*code)), reason),
                    None => (None, &[][..]),
                };
                let reason = String::from_utf8_lossy(reason);
                found.push((format!("{code:?} {reason}").into_bytes(), true));
            }
            _ => {}
        }
        if opcode <= 2 && fin {
            found.extend(message.take().map(|message| (message, false)));
        }
    }
    (found, frames)
}

/// The first byte, the unmasked payload, and what follows the frame; `None` if it is not whole.
fn frame(bytes: &[u8]) -> Option<(u8, Vec<u8>, &[u8])> {
    let (&[first, second], mut rest) = bytes.split_first_chunk()?;
    let wide = match second & 0x7f {
        126 => 2,
        127 => 8,
        _ => 0,
    };
    let (extended, after) = rest.split_at_checked(wide)?;
    rest = after;
    let extended = extended.iter().fold(0_u64, |sum, byte| sum << 8 | u64::from(*byte));
    let length = if wide == 0 { u64::from(second & 0x7f) } else { extended };
    let mut mask = [0; 4];
    if second & 0x80 != 0 {
        let (key, after) = rest.split_first_chunk()?;
        (mask, rest) = (*key, after);
    }
    let (payload, rest) = rest.split_at_checked(usize::try_from(length).ok()?)?;
    let payload = payload.iter().zip(mask.iter().cycle()).map(|(byte, key)| byte ^ key).collect();
    Some((first, payload, rest))
}
