//! The Scanner under any chunking.
//!
//! - However a stream is cut, byte by byte or into empty pieces, the same events are seen, and they are those that a parser
//!   written from the standard dispatches (names to [`NAME_LIMIT`], data to [`DATA_LIMIT`]).
//! - An end without the blank line that the last event lacks gives that event, as if the blank line were there, and makes no boundary.
//! - Between events, and only there, is a boundary; at one, a comment or an event can be put in, and all others stay as they were,
//!   with an LF before it where the last byte was CR, or without.
//!
//! That no byte is changed is the signature's promise: the stream is lent. That what is kept stays within its bound is
//! `memory_stays_within_the_bound_and_is_given_back` beside the Scanner.
//!
//! Input: eight bytes that decide the cuts, then the stream.

use sluicegate::sse::{DATA_LIMIT, NAME_LIMIT, Scanner};

use super::sse;

const BOM: &[u8] = b"\xEF\xBB\xBF";
/// Prefixes that are parsed anew, so that a long input costs no square.
const PREFIXES: usize = 32;

type Seen = (Vec<u8>, Vec<u8>, bool);

pub fn check(data: &[u8]) {
    let Some((seed, stream)) = data.split_first_chunk::<8>() else { return };
    let mut cuts = Cuts(u64::from_le_bytes(*seed) | 1);
    let expected: Vec<Seen> = sse::events(stream).into_iter().map(kept).collect();
    assert_eq!(scan_all([stream]), expected, "in one piece");
    assert_eq!(scan_all(stream.chunks(1)), expected, "byte by byte");
    in_pieces(stream, &expected, &mut cuts);
    with_insertion(stream, cuts.next(stream.len()));
}

fn in_pieces(stream: &[u8], expected: &[Seen], cuts: &mut Cuts) {
    let (mut scanner, mut seen, mut from, mut prefixes) = (Scanner::new(), Vec::new(), 0, 0);
    while from < stream.len() {
        // Often a byte or none, sometimes much.
        let longest = [1, 3, 16, stream.len()][cuts.next(3)];
        let to = (from + cuts.next(longest)).min(stream.len());
        scan(&mut scanner, &stream[from..to], &mut seen);
        prefixes += 1;
        if prefixes < PREFIXES {
            assert_eq!(scanner.at_boundary(), sse::at_boundary(&stream[..to]), "after {to}");
            assert_eq!(scanner.after_cr(), stream[..to].ends_with(b"\r"), "after {to}");
        }
        from = to;
    }
    assert_eq!(seen, expected, "in pieces");
    assert_eq!(scanner.events(), expected.len() as u64);
    assert_eq!(scanner.at_boundary(), sse::at_boundary(stream), "at the end");
    let ended: Vec<Seen> = sse::events(&[stream, b"\n\n"].concat()).into_iter().map(kept).collect();
    scanner.finish(&mut |event| seen.push((event.name.to_vec(), event.data.to_vec(), event.oversized)));
    assert_eq!(seen, ended, "ended");
    assert_eq!(scanner.at_boundary(), sse::at_boundary(stream), "after the end");
}

fn with_insertion(stream: &[u8], cut: usize) {
    let (before, after) = stream.split_at(cut);
    let mut scanner = Scanner::new();
    scanner.scan(before, &mut |_| {});
    // The one exception that `at_boundary` names.
    if !scanner.at_boundary() || (cut == 0 && after.starts_with(BOM)) {
        return;
    }
    let (earlier, all) = (sse::events(before), sse::events(stream));
    let later = &all[earlier.len()..];
    let ours = [(b"error".to_vec(), b"ours".to_vec())];
    let line_ends: &[&[u8]] = if scanner.after_cr() { &[b"", b"\n"] } else { &[b""] };
    for lf in line_ends {
        let with = |what: &[u8]| sse::events(&[before, lf, what, after].concat());
        assert_eq!(with(b": keep-alive\n\n"), all, "a comment at {cut}");
        let expected = [earlier.as_slice(), &ours, later].concat();
        assert_eq!(with(b"event: error\ndata: ours\n\n"), expected, "an event at {cut}");
    }
}

fn scan(scanner: &mut Scanner, chunk: &[u8], seen: &mut Vec<Seen>) {
    scanner.scan(chunk, &mut |event| seen.push((event.name.to_vec(), event.data.to_vec(), event.oversized)));
}

fn scan_all<'c>(chunks: impl IntoIterator<Item = &'c [u8]>) -> Vec<Seen> {
    let (mut scanner, mut seen) = (Scanner::new(), Vec::new());
    chunks.into_iter().for_each(|chunk| scan(&mut scanner, chunk, &mut seen));
    seen
}

fn kept((mut name, mut data): sse::Dispatched) -> Seen {
    name.truncate(NAME_LIMIT);
    let oversized = data.len() > DATA_LIMIT;
    if oversized {
        data.clear();
    }
    (name, data, oversized)
}

/// Numbers that the input decides (xorshift).
struct Cuts(u64);

impl Cuts {
    /// From 0 to `most`.
    fn next(&mut self, most: usize) -> usize {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        usize::try_from(self.0 >> 16).unwrap_or(0) % (most + 1)
    }
}
