//! Decodes bodies that are compressed, within bounds.
//!
//! Pure: bytes in, bytes out. What memory there is, the caller knows.

use std::io::Read;

use flate2::read::MultiGzDecoder;
use http::{HeaderMap, header};
use ruzstd::decoding::{
    StreamingDecoder,
    errors::{FrameDecoderError, ReadFrameHeaderError},
};

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
pub enum Coding {
    /// RFC 1952, with any number of members.
    Gzip,
    /// RFC 8878, with any number of frames.
    Zstd,
}

/// Why a body is not decoded. `R` is what the caller says when there is no memory.
#[derive(Debug, PartialEq, Eq)]
pub enum DecodeError<R> {
    /// The body is not of this coding, or expands too much.
    Invalid {
        /// What is wrong with it.
        problem: Undecodable,
    },
    /// Decoded, the body is larger than the limit.
    TooLarge,
    /// The caller refused memory.
    NoRoom(R),
}

/// What is wrong with a body that is not decoded.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Undecodable {
    /// The body is not gzip.
    #[error("it is not gzip")]
    NotGzip,
    /// The body is not zstd, or its window is too large.
    #[error("it is not zstd, or its window is larger than 8 MiB")]
    NotZstd,
    /// The body expands too much.
    #[error("it is more than {times} times as large when it is decoded")]
    Expands {
        /// How much larger a body may be when it is decoded.
        times: usize,
    },
}

/// Memory that is needed, in bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Need {
    /// For the decoded body as far as it is known. While it grows, the smaller memory is there as well.
    Body(u64),
    /// For the decoder, while it runs.
    Decoder(u64),
}

impl Coding {
    /// The coding of a body with these headers; `None` if there is another one, or several.
    pub fn of(headers: &HeaderMap) -> Option<Self> {
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

    /// Decodes a whole body that has at most `limit` bytes then. `reserve` is called before memory is allocated.
    ///
    /// # Errors
    /// The body is not of this coding, expands too much, or is larger than `limit`; or `reserve` failed.
    pub fn decode<R>(
        self,
        coded: &[u8],
        limit: u64,
        reserve: impl FnMut(Need) -> Result<(), R>,
    ) -> Result<Vec<u8>, DecodeError<R>> {
        let mut decoded = Decoded { bytes: Vec::new(), filled: 0, coded: coded.len(), limit, reserve };
        match self {
            Self::Gzip => {
                decoded.ask(Need::Decoder(GZIP_STATE))?;
                decoded.take(MultiGzDecoder::new(coded), Undecodable::NotGzip)?;
            }
            Self::Zstd => decoded.take_frames(coded)?,
        }
        decoded.bytes.truncate(decoded.filled);
        Ok(decoded.bytes)
    }
}

/// What has been decoded so far.
struct Decoded<F> {
    /// What has been decoded, and memory behind it that was zeroed once: a decoder that gives little at a time costs no more.
    bytes: Vec<u8>,
    /// How much of it has been decoded.
    filled: usize,
    /// The size of the coded body.
    coded: usize,
    limit: u64,
    reserve: F,
}

impl<R, F: FnMut(Need) -> Result<(), R>> Decoded<F> {
    /// Takes all that `decoder` gives; `problem` says what is wrong with its input if it fails.
    fn take(&mut self, mut decoder: impl Read, problem: Undecodable) -> Result<(), DecodeError<R>> {
        loop {
            self.make_room()?;
            let read = decoder.read(self.bytes.get_mut(self.filled..).unwrap_or_default());
            let count = read.map_err(|_| DecodeError::Invalid { problem })?;
            if count == 0 {
                return Ok(());
            }
            self.filled += count;
            self.check()?;
        }
    }

    /// Takes a sequence of zstd frames (RFC 8878 §3); skippable ones are skipped.
    fn take_frames(&mut self, mut coded: &[u8]) -> Result<(), DecodeError<R>> {
        let problem = Undecodable::NotZstd;
        while !coded.is_empty() {
            if let Some(window) = window_of(coded) {
                // The decoder's buffer has a size that is a power of two.
                let window = window.min(LARGEST_WINDOW).next_power_of_two();
                self.ask(Need::Decoder(window + ZSTD_STATE))?;
            }
            match StreamingDecoder::new_with_max_window_size(&mut coded, LARGEST_WINDOW) {
                Ok(decoder) => self.take(decoder, problem)?,
                Err(FrameDecoderError::ReadFrameHeaderError(ReadFrameHeaderError::SkipFrame {
                    length,
                    ..
                })) => coded = coded.get(length as usize..).ok_or(DecodeError::Invalid { problem })?,
                Err(_) => return Err(DecodeError::Invalid { problem }),
            }
        }
        Ok(())
    }

    /// Makes room for another piece, after the caller has been asked.
    fn make_room(&mut self) -> Result<(), DecodeError<R>> {
        let needed = self.filled + PIECE;
        if needed > self.bytes.capacity() {
            let room = needed.max(2 * self.bytes.capacity());
            self.ask(Need::Body(room as u64))?;
            self.bytes.reserve_exact(room - self.bytes.len());
        }
        if needed > self.bytes.len() {
            self.bytes.resize(needed, 0);
        }
        Ok(())
    }

    fn ask(&mut self, need: Need) -> Result<(), DecodeError<R>> {
        (self.reserve)(need).map_err(DecodeError::NoRoom)
    }

    fn check(&self) -> Result<(), DecodeError<R>> {
        if self.filled as u64 > self.limit {
            return Err(DecodeError::TooLarge);
        }
        if self.filled > SMALL && self.filled / LARGEST_RATIO > self.coded {
            let problem = Undecodable::Expands { times: LARGEST_RATIO };
            return Err(DecodeError::Invalid { problem });
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

#[cfg(test)]
mod tests {
    use std::io::Write;

    use flate2::{Compression, write::GzEncoder};
    use ruzstd::encoding::{CompressionLevel, compress_to_vec};

    use super::*;

    fn gzip(text: &[u8]) -> Vec<u8> {
        let mut encoder = GzEncoder::new(Vec::new(), Compression::default());
        encoder.write_all(text).unwrap();
        encoder.finish().unwrap()
    }

    fn zstd(text: &[u8]) -> Vec<u8> {
        compress_to_vec(text, CompressionLevel::Fastest)
    }

    fn decode(coding: Coding, coded: &[u8], limit: u64) -> Result<Vec<u8>, DecodeError<()>> {
        let mut reserved = 0;
        let decoded = coding.decode(coded, limit, |need| {
            if let Need::Body(bytes) = need {
                reserved = bytes;
            }
            Ok(())
        });
        if let Ok(decoded) = &decoded {
            assert!(decoded.capacity() as u64 <= reserved, "all of it is reserved");
        }
        decoded
    }

    fn problem(coding: Coding, coded: &[u8], limit: u64) -> String {
        let DecodeError::Invalid { problem } = decode(coding, coded, limit).unwrap_err() else {
            panic!("{coding:?} is not invalid")
        };
        problem.to_string()
    }

    /// Frames and members of one byte each, in windows of 8 MiB: none costs more than its own bytes. If each did, this would take minutes.
    #[test]
    fn many_small_frames_are_decoded_in_linear_time() {
        let member = gzip(b"x");
        let frame =
            [0xFD2F_B528_u32.to_le_bytes().as_slice(), &[0x00, 13 << 3, 0x09, 0x00, 0x00, b'x']].concat();
        for (coding, one) in [(Coding::Gzip, member), (Coding::Zstd, frame)] {
            assert_eq!(decode(coding, &one.repeat(30_000), 1 << 20).unwrap().len(), 30_000, "{coding:?}");
        }
    }

    /// A caller without memory ends it.
    #[test]
    fn no_more_is_decoded_than_there_is_memory_for() {
        let coded = gzip(&[b'x'; 500_000]);
        let refused = Coding::Gzip.decode(&coded, 1 << 20, |need| {
            if matches!(need, Need::Body(300_001..)) { Err("no") } else { Ok(()) }
        });
        assert_eq!(refused, Err(DecodeError::NoRoom("no")));
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
                assert!(problem(coding, &coded, 1 << 20).starts_with("it is not"), "{coding:?}");
            }
        }
        // A frame that asks for a window of 16 MiB.
        let window = [0xFD2F_B528_u32.to_le_bytes().as_slice(), &[0x00, 14 << 3, 0x01, 0x00, 0x00]].concat();
        assert!(problem(Coding::Zstd, &window, 1 << 20).contains("8 MiB"));
    }

    #[test]
    fn what_expands_too_much_is_refused() {
        let zeros = vec![b' '; 16 << 20];
        for (coding, coded) in [(Coding::Gzip, gzip(&zeros)), (Coding::Zstd, zstd(&zeros))] {
            assert!(problem(coding, &coded, 32 << 20).contains("200 times"), "{coding:?}");
            assert_eq!(decode(coding, &coded, 100_000), Err(DecodeError::TooLarge), "{coding:?}");
        }
    }

    #[test]
    fn what_a_decoder_needs_is_asked_for_before_it_runs() {
        // One frame with a window of 8 MiB, and in it one raw block of two bytes, the last.
        let header = [0x00, 13 << 3];
        let frame = [0xFD2F_B528_u32.to_le_bytes().as_slice(), &header, &[2 << 3 | 1, 0, 0], b"{}"].concat();
        let cases = [
            (Coding::Zstd, frame, LARGEST_WINDOW + ZSTD_STATE),
            (Coding::Zstd, zstd(b"{}"), ZSTD_STATE),
            (Coding::Gzip, gzip(b"{}"), GZIP_STATE),
        ];
        for (coding, coded, least) in cases {
            let mut most = 0;
            let decoded = coding.decode(&coded, 100, |need| {
                if let Need::Decoder(bytes) = need {
                    most = bytes.max(most);
                }
                Ok::<(), ()>(())
            });
            assert_eq!(decoded, Ok(b"{}".to_vec()));
            assert!(most >= least, "{coding:?}: {most}");
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
}
