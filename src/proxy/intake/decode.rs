//! Decodes compressed request bodies, within bounds, so that their facts can be read. They go upstream as they came.

use std::io::Read;

use flate2::read::MultiGzDecoder;
use http::{HeaderMap, header};
use ruzstd::decoding::{
    StreamingDecoder,
    errors::{FrameDecoderError, ReadFrameHeaderError},
};

use crate::{fault::Fault, openai::FactsError, proxy::buffered::Buffered};

/// The largest window of a zstd frame, in bytes: what a content coding may ask of a reader (RFC 9659 §3). The decoder holds that much for
/// as long as it runs, and it is counted for as long.
const LARGEST_WINDOW: u64 = 8 << 20;

/// What a zstd decoder holds beside its window, in bytes, and beyond it in the same buffer: literals, a block, sequences and tables.
const ZSTD_STATE: u64 = 512 << 10;

/// What a gzip decoder holds, in bytes: a window of 32 KiB (RFC 1951), an input buffer of 32 KiB, and tables.
const GZIP_STATE: u64 = 80 << 10;

/// How much larger than its coded form a body may be, once it is larger than [`SMALL`]. JSON reaches about 30.
const LARGEST_RATIO: usize = 200;

/// Up to this size in bytes the ratio does not matter.
const SMALL: usize = 1 << 20;

/// Bytes that are decoded at once.
const PIECE: usize = 64 << 10;

/// A content coding that is decoded (RFC 9110 §8.4.1, RFC 8878).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Coding {
    Gzip,
    Zstd,
}

/// Bounds on what is decoded, in bytes.
#[derive(Debug, Clone, Copy)]
pub(super) struct DecodeBounds {
    pub(super) limit: u64,
    /// Of all bodies that the process holds.
    pub(super) buffered: u64,
}

impl Coding {
    /// The coding of a body with these headers; `None` if there is another one, or several.
    pub(super) fn of(headers: &HeaderMap) -> Option<Self> {
        let mut codings = headers.get_all(header::CONTENT_ENCODING).iter();
        let coding = codings.next()?.as_bytes().trim_ascii();
        if codings.next().is_some() {
            return None;
        }
        let is = |name: &[u8]| coding.eq_ignore_ascii_case(name);
        match () {
            () if is(b"gzip") || is(b"x-gzip") => Some(Self::Gzip),
            () if is(b"zstd") => Some(Self::Zstd),
            () => None,
        }
    }

    /// Decodes a whole body. Its bytes are counted in `held` before they are allocated. What the decoder itself needs is counted until it is done.
    ///
    /// # Errors
    /// The body is not of this coding, expands too much, or does not fit into the bounds.
    pub(super) fn decode(
        self,
        coded: &[u8],
        bounds: DecodeBounds,
        held: &mut Buffered,
    ) -> Result<Vec<u8>, Fault> {
        let mut decoded = Decoded { bytes: Vec::new(), coded: coded.len(), bounds, held };
        match self {
            Self::Gzip => {
                let mut state = decoded.held.another();
                state.grow_to(GZIP_STATE, bounds.buffered)?;
                decoded.take(MultiGzDecoder::new(coded), "it is not gzip")?;
            }
            Self::Zstd => decoded.take_frames(coded)?,
        }
        Ok(decoded.bytes)
    }
}

/// What has been decoded so far.
struct Decoded<'h> {
    bytes: Vec<u8>,
    /// The size of the coded body.
    coded: usize,
    bounds: DecodeBounds,
    held: &'h mut Buffered,
}

impl Decoded<'_> {
    /// Takes all that `decoder` gives; `problem` says what is wrong with its input if it fails.
    fn take(&mut self, mut decoder: impl Read, problem: &'static str) -> Result<(), Fault> {
        loop {
            let before = self.bytes.len();
            self.make_room()?;
            self.bytes.resize(before + PIECE, 0);
            let read = decoder.read(self.bytes.get_mut(before..).unwrap_or_default());
            let count = read.map_err(|_| invalid(problem))?;
            self.bytes.truncate(before + count);
            if count == 0 {
                return Ok(());
            }
            self.check()?;
        }
    }

    /// Takes a sequence of zstd frames (RFC 8878 §3); skippable ones are skipped.
    fn take_frames(&mut self, mut coded: &[u8]) -> Result<(), Fault> {
        const PROBLEM: &str = "it is not zstd, or its window is larger than 8 MiB";
        let mut state = self.held.another();
        while !coded.is_empty() {
            if let Some(window) = window_of(coded) {
                // The decoder's buffer has a size that is a power of two.
                let window = window.min(LARGEST_WINDOW).next_power_of_two();
                state.grow_to(window + ZSTD_STATE, self.bounds.buffered)?;
            }
            match StreamingDecoder::new_with_max_window_size(&mut coded, LARGEST_WINDOW) {
                Ok(decoder) => self.take(decoder, PROBLEM)?,
                Err(FrameDecoderError::ReadFrameHeaderError(ReadFrameHeaderError::SkipFrame {
                    length,
                    ..
                })) => coded = coded.get(length as usize..).ok_or_else(|| invalid(PROBLEM))?,
                Err(_) => return Err(invalid(PROBLEM)),
            }
        }
        Ok(())
    }

    /// Reserves memory for another piece, and counts it first.
    fn make_room(&mut self) -> Result<(), Fault> {
        let needed = self.bytes.len() + PIECE;
        if needed > self.bytes.capacity() {
            let room = needed.max(2 * self.bytes.capacity());
            self.held.grow_to(room as u64, self.bounds.buffered)?;
            self.bytes.reserve_exact(room - self.bytes.len());
        }
        Ok(())
    }

    fn check(&self) -> Result<(), Fault> {
        let length = self.bytes.len();
        if length as u64 > self.bounds.limit {
            return Err(Fault::BodyTooLarge { limit: self.bounds.limit });
        }
        if length > SMALL && length / LARGEST_RATIO > self.coded {
            return Err(invalid("it is more than 200 times as large when it is decoded"));
        }
        Ok(())
    }
}

/// The window of the zstd frame that `coded` begins with, in bytes (RFC 8878 §3.1.1.1). `None`: there is no such frame, or only a part of its
/// header.
fn window_of(coded: &[u8]) -> Option<u64> {
    const MAGIC: [u8; 4] = 0xFD2F_B528_u32.to_le_bytes();
    let (descriptor, rest) = coded.strip_prefix(&MAGIC)?.split_first()?;
    let is_single_segment = descriptor & 0x20 != 0;
    if !is_single_segment {
        let window = rest.first()?;
        let base = 1_u64 << (10 + (window >> 3));
        return Some(base + base / 8 * u64::from(window & 7));
    }
    // The window is the whole content, whose size is in 1, 2, 4 or 8 bytes behind the dictionary's id.
    let id = [0, 1, 2, 4][usize::from(descriptor & 3)];
    let length = 1 << (descriptor >> 6);
    let mut size = [0; 8];
    size[..length].copy_from_slice(rest.get(id..id + length)?);
    // Two bytes count from 256 on.
    Some(u64::from_le_bytes(size).saturating_add(if length == 2 { 256 } else { 0 }))
}

fn invalid(problem: &'static str) -> Fault {
    Fault::BodyInvalid(FactsError::NotDecodable { problem })
}

#[cfg(test)]
mod tests {
    use std::io::Write;

    use flate2::{Compression, write::GzEncoder};
    use ruzstd::encoding::{CompressionLevel, compress_to_vec};

    use super::*;
    use crate::{config::Server, exchange::AccessLog, proxy::Gateway, snapshot::Snapshot};

    fn gzip(text: &[u8]) -> Vec<u8> {
        let mut encoder = GzEncoder::new(Vec::new(), Compression::default());
        encoder.write_all(text).unwrap();
        encoder.finish().unwrap()
    }

    fn zstd(text: &[u8]) -> Vec<u8> {
        compress_to_vec(text, CompressionLevel::Fastest)
    }

    fn decode(coding: Coding, coded: &[u8], limit: u64) -> Result<Vec<u8>, String> {
        decode_within(64 << 20, coding, coded, limit)
    }

    /// Where the process may hold so many bytes.
    fn decode_within(buffered: u64, coding: Coding, coded: &[u8], limit: u64) -> Result<Vec<u8>, String> {
        let snapshot = Snapshot::of_listeners(1, Server::default(), Vec::new());
        let gateway = Gateway::new(snapshot, AccessLog::discarding());
        let mut held = Buffered::new(&gateway);
        let bounds = DecodeBounds { limit, buffered };
        let decoded = coding.decode(coded, bounds, &mut held).map_err(|fault| fault.to_string());
        if let Ok(decoded) = &decoded {
            assert!(decoded.capacity() as u64 <= gateway.buffered(), "all of it is counted");
            assert!(gateway.buffered() <= 2 * limit.max(PIECE as u64), "the decoder is not counted any more");
        }
        decoded
    }

    #[test]
    fn whole_bodies_of_several_members_and_frames() {
        let text =
            br#"{"model":"m","messages":[{"role":"user","content":"hello hello hello"}]}"#.repeat(2000);
        let limit = 1 << 20;
        assert_eq!(decode(Coding::Gzip, &gzip(&text), limit).unwrap(), text);
        assert_eq!(decode(Coding::Zstd, &zstd(&text), limit).unwrap(), text);
        let two = [gzip(b"one "), gzip(b"two")].concat();
        assert_eq!(decode(Coding::Gzip, &two, limit).unwrap(), b"one two");
        let skippable = [0x184D_2A50_u32.to_le_bytes().as_slice(), &3_u32.to_le_bytes(), b"abc"].concat();
        let frames = [zstd(b"one "), skippable, zstd(b"two")].concat();
        assert_eq!(decode(Coding::Zstd, &frames, limit).unwrap(), b"one two");
    }

    #[test]
    fn what_is_not_of_the_coding_is_refused() {
        for coding in [Coding::Gzip, Coding::Zstd] {
            let whole = if coding == Coding::Gzip { gzip(&[b'x'; 1000]) } else { zstd(&[b'x'; 1000]) };
            let broken =
                [b"{}".to_vec(), whole[..whole.len() - 1].to_vec(), [whole, b"{}".to_vec()].concat()];
            for coded in broken {
                let error = decode(coding, &coded, 1 << 20).unwrap_err();
                assert!(error.contains("cannot be decoded"), "{coding:?}: {error}");
            }
        }
        // A frame that asks for a window of 16 MiB.
        let window = [0xFD2F_B528_u32.to_le_bytes().as_slice(), &[0x00, 14 << 3, 0x01, 0x00, 0x00]].concat();
        assert!(decode(Coding::Zstd, &window, 1 << 20).unwrap_err().contains("8 MiB"));
    }

    #[test]
    fn what_a_decoder_needs_is_counted_while_it_runs() {
        // One frame with a window of 8 MiB, and in it one raw block of two bytes, the last.
        let header = [0x00, 13 << 3];
        let frame = [0xFD2F_B528_u32.to_le_bytes().as_slice(), &header, &[2 << 3 | 1, 0, 0], b"{}"].concat();
        assert_eq!(window_of(&frame), Some(LARGEST_WINDOW));
        for (coding, coded, least) in [
            (Coding::Zstd, frame, LARGEST_WINDOW + ZSTD_STATE),
            (Coding::Zstd, zstd(b"{}"), ZSTD_STATE),
            (Coding::Gzip, gzip(b"{}"), GZIP_STATE),
        ] {
            let piece = PIECE as u64;
            let error = decode_within(least + piece - 1, coding, &coded, 100).unwrap_err();
            assert_eq!(error, Fault::Overloaded.to_string(), "{coding:?}");
            assert_eq!(decode_within(least + 2 * piece + (1 << 20), coding, &coded, 100).unwrap(), b"{}");
        }
    }

    #[test]
    fn windows_are_read() {
        let magic = 0xFD2F_B528_u32.to_le_bytes();
        for (rest, window) in [
            (&[0x00, 0x00][..], Some(1 << 10)),
            (&[0x00, (3 << 3) | 4], Some((8 << 10) + 4096)),
            (&[0x20, 7], Some(7)),
            (&[0x61, 9, 1, 0], Some(257)),
            (&[0xA0, 1, 1, 0, 0], Some(257)),
            (&[0xE0, 0, 0, 0, 0, 1, 0, 0, 0], Some(1 << 32)),
            (&[0x20], None),
            (&[], None),
        ] {
            assert_eq!(window_of(&[&magic, rest].concat()), window, "{rest:?}");
        }
        assert_eq!(window_of(b"{}"), None);
    }

    #[test]
    fn what_expands_too_much_is_refused() {
        let zeros = vec![b' '; 16 << 20];
        for (coding, coded) in [(Coding::Gzip, gzip(&zeros)), (Coding::Zstd, zstd(&zeros))] {
            let error = decode(coding, &coded, 32 << 20).unwrap_err();
            assert!(error.contains("200 times"), "{coding:?}: {error}");
            let error = decode(coding, &coded, 100_000).unwrap_err();
            assert!(error.contains("larger than 100000 bytes"), "{coding:?}: {error}");
        }
    }
}
