//! Finds where the ordinary part of a string ends: at its closing quote, at an escape or at a control character.

use memchr::memchr2;

/// Looks at eight bytes as one number, and sets the highest bit of the first byte that is special, which is the end of a string, an escape or a
/// control character. Subtracting borrows from a byte's highest bit where the byte was less, and from nothing before the first such byte. With
/// one bit turned over, the end is next to the control characters, and one comparison is for both.
#[inline]
pub(super) fn specials(bytes: u64) -> u64 {
    const EACH: u64 = u64::from_ne_bytes([1; 8]);
    let less = |bytes: u64, than: u8| bytes.wrapping_sub(EACH * u64::from(than)) & !bytes;
    let special = less(bytes ^ (EACH * 2), b' ' + 1) | less(bytes ^ (EACH * u64::from(b'\\')), 1);
    special & (EACH << 7)
}

/// How many bytes at the beginning of `text` are a string's own: neither its end, nor an escape, nor a control character. So many are `known` to be.
#[inline(always)]
pub(super) fn ordinary(text: &[u8], known: usize) -> usize {
    // Most strings end soon; of a longer one, many bytes are looked at together.
    let mut passed = known;
    while passed < NEAREST {
        match ordinary_word(text, passed) {
            Some(8) => passed += 8,
            Some(length) => return passed + length,
            None => break,
        }
    }
    while passed < NEAR {
        let Some(chunk) = text.get(passed..).and_then(|rest| rest.first_chunk::<16>()) else { break };
        if !is_ordinary(chunk) {
            let first = ordinary_word(text, passed).unwrap_or_default();
            let second = if first == 8 { ordinary_word(text, passed + 8).unwrap_or_default() } else { 0 };
            return passed + first + second;
        }
        passed += 16;
    }
    ordinary_beyond(text, passed)
}

/// How many bytes come before the end of a string or an escape, up to [`PIECE`] or a little more. Control characters among them may be passed: [`control`] finds
/// them, in many pieces at once.
#[inline(always)]
pub(super) fn plain(text: &[u8]) -> usize {
    let mut passed = 0;
    while passed < NEAREST {
        match ordinary_word(text, passed) {
            Some(8) => passed += 8,
            Some(length) => return passed + length,
            None => break,
        }
    }
    let rest = text.get(passed..).unwrap_or_default();
    let piece = rest.get(..PIECE).unwrap_or(rest);
    passed + memchr2(b'"', b'\\', piece).unwrap_or(piece.len())
}

/// Where the first control character is.
#[inline(never)]
pub(super) fn control(bytes: &[u8]) -> Option<usize> {
    if least(bytes) >= b' ' {
        return None;
    }
    bytes.iter().position(|byte| *byte < b' ')
}

/// How many of the eight bytes from there on come before the first special one.
#[inline(always)]
fn ordinary_word(text: &[u8], from: usize) -> Option<usize> {
    let word = text.get(from..).and_then(|rest| rest.first_chunk())?;
    Some(specials(u64::from_le_bytes(*word)).trailing_zeros() as usize / 8)
}

/// Whether no byte is special. Without an early exit, so that the compiler looks at all at once.
#[inline(always)]
fn is_ordinary(chunk: &[u8; 16]) -> bool {
    let is_special = |byte: u8| (byte ^ 2 <= b' ') | (byte == b'\\');
    chunk.iter().fold(0, |special, byte| special | u8::from(is_special(*byte))) == 0
}

/// The same when so many bytes at the beginning have been found to be. Apart from it, so that a short string costs no preparations for a long one.
#[inline(never)]
fn ordinary_beyond(text: &[u8], mut passed: usize) -> usize {
    loop {
        let rest = text.get(passed..).unwrap_or_default();
        let piece = rest.get(..PIECE).unwrap_or(rest);
        let end = passed + memchr2(b'"', b'\\', piece).unwrap_or(piece.len());
        // Bytes that were passed are looked at again where that makes one chunk of what is left.
        let bytes = text.get(passed.saturating_sub(LANES)..end).unwrap_or_default();
        if least(bytes) < b' ' {
            return bytes.iter().position(|byte| *byte < b' ').map_or(end, |at| end - bytes.len() + at);
        }
        let is_over = end < passed + PIECE;
        passed = end;
        if is_over {
            return passed;
        }
    }
}

/// The least byte. Without an early exit, so that the compiler looks at many at once.
#[inline(always)]
fn least(bytes: &[u8]) -> u8 {
    if let Some(last) = bytes.last_chunk::<LANES>() {
        return least_of_chunks(bytes, *last);
    }
    match bytes.last_chunk::<16>().zip(bytes.first_chunk::<16>()) {
        Some((first, last)) => first.iter().zip(last).fold(u8::MAX, |least, (a, b)| least.min(*a).min(*b)),
        None => bytes.iter().fold(u8::MAX, |least, byte| least.min(*byte)),
    }
}

/// The least byte of whole chunks, and of those that are given.
#[inline(always)]
fn least_of_chunks(bytes: &[u8], mut least: [u8; LANES]) -> u8 {
    let (pairs, rest) = bytes.as_chunks::<{ 2 * LANES }>();
    for pair in pairs {
        let (front, back) = pair.split_at(LANES);
        for (least, byte) in least.iter_mut().zip(front) {
            *least = (*least).min(*byte);
        }
        for (least, byte) in least.iter_mut().zip(back) {
            *least = (*least).min(*byte);
        }
    }
    if let Some(chunk) = rest.first_chunk::<LANES>() {
        for (least, byte) in least.iter_mut().zip(chunk) {
            *least = (*least).min(*byte);
        }
    }
    least.into_iter().fold(u8::MAX, u8::min)
}

/// As many bytes as the compiler looks at at once.
const LANES: usize = 32;

/// A long string is searched in pieces of so many bytes, for its end and then for control characters, so that each is in the nearest cache.
pub(super) const PIECE: usize = 4096;

/// So many bytes are looked at in words of eight, and so many in chunks of sixteen.
const NEAREST: usize = 16;
const NEAR: usize = 48;

#[cfg(test)]
mod tests {
    use super::*;

    /// The same, byte by byte.
    fn slow(text: &[u8]) -> usize {
        text.iter().position(|byte| matches!(byte, b'"' | b'\\' | ..b' ')).unwrap_or(text.len())
    }

    #[test]
    fn every_byte_is_found_wherever_it_is() {
        for byte in 0..=u8::MAX {
            for length in (0..200).chain([PIECE - 1, PIECE, PIECE + 1, PIECE + NEAR, PIECE + NEAR + 1]) {
                let mut text = vec![b'x'; length + 70];
                text[length] = byte;
                for end in [length, length + 1, text.len()] {
                    let text = &text[..end];
                    assert_eq!(ordinary(text, 0), slow(text), "{byte} at {length} of {end}");
                }
            }
        }
    }

    #[test]
    fn a_plain_piece_ends_where_a_string_or_an_escape_may() {
        for byte in [b'"', b'\\'] {
            for length in (0..200).chain([PIECE - 1, PIECE, PIECE + 1]) {
                let mut text = vec![b'x'; length + 70];
                text[length] = byte;
                assert_eq!(plain(&text), length, "{byte} at {length}");
                assert_eq!(control(&text), None);
                for at in [0, length / 2, length] {
                    let mut text = text.clone();
                    text[at] = b'\n';
                    assert_eq!(control(&text), Some(at), "{length}");
                    assert!(plain(&text) >= at.min(NEAREST), "{at} of {length}");
                }
            }
        }
        let long = vec![b'x'; 3 * PIECE];
        assert!((PIECE..=PIECE + NEAREST).contains(&plain(&long)));
    }

    #[test]
    fn the_first_of_several_is_found_from_anywhere() {
        let mut text = vec![0; 3 * PIECE];
        let mut state = 1_u64;
        for rarity in [4, 40, 400, 4_000] {
            for byte in &mut text {
                state = state.wrapping_mul(0x5851_F42D_4C95_7F2D).wrapping_add(1);
                let random = state >> 33;
                let special = [b'"', b'\\', b'\n', 0, 0x1F][random as usize % 5];
                *byte =
                    if random.is_multiple_of(rarity) { special } else { b' ' | ((random >> 8) as u8 & 0xDF) };
                *byte = if *byte == b'"' && !random.is_multiple_of(rarity) { b'\'' } else { *byte };
            }
            for from in (0..text.len()).step_by(7) {
                let rest = &text[from..];
                assert_eq!(ordinary(rest, 0), slow(rest), "{from} {rarity}");
            }
        }
    }
}
