//! Streams of JSON documents, one in each line (`application/x-ndjson`).

use memchr::memchr;

use super::{DATA_LIMIT, Event};

/// Unused room of this size, in bytes, is kept for the next line.
const KEPT: usize = 4 << 10;

/// Finds the lines of one stream in its bytes as they pass by, each as an [`Event`] without a name. Empty lines are none.
///
/// Memory: none while chunks end where lines end; otherwise the unfinished line, at most [`DATA_LIMIT`] bytes. A longer one is an
/// oversized event without data.
#[derive(Debug, Default)]
pub struct LineScanner {
    /// What came of the unfinished line in earlier chunks.
    line: Vec<u8>,
    oversized: bool,
    events: u64,
    /// The stream has ended within a line.
    ended_within: bool,
}

impl LineScanner {
    /// Scans the next bytes of the stream and calls `sink` once for each line that ends within them, in order.
    pub fn scan(&mut self, bytes: &[u8], sink: &mut impl FnMut(Event<'_>)) {
        let mut rest = bytes;
        while let Some(end) = memchr(b'\n', rest) {
            let (line, ended) = rest.split_at(end);
            rest = ended.get(1..).unwrap_or_default();
            if self.line.is_empty() && !self.oversized {
                self.emit(line, false, sink);
                continue;
            }
            self.keep(line);
            self.emit_kept(sink);
        }
        self.keep(rest);
    }

    /// Calls `sink` with the last line if the stream ended without a line end behind it. Afterwards, the stream is at a boundary only if it
    /// was before.
    pub fn finish(&mut self, sink: &mut impl FnMut(Event<'_>)) {
        self.ended_within = !self.at_boundary();
        self.emit_kept(sink);
    }

    /// Whether a line can be inserted here.
    pub fn at_boundary(&self) -> bool {
        self.line.is_empty() && !self.oversized && !self.ended_within
    }

    /// Number of lines found so far.
    pub fn events(&self) -> u64 {
        self.events
    }

    fn emit_kept(&mut self, sink: &mut impl FnMut(Event<'_>)) {
        let mut line = std::mem::take(&mut self.line);
        let oversized = std::mem::take(&mut self.oversized);
        self.emit(&line, oversized, sink);
        if line.capacity() <= KEPT {
            line.clear();
            self.line = line;
        }
    }

    fn keep(&mut self, part: &[u8]) {
        if self.oversized || self.line.len() + part.len() > DATA_LIMIT {
            self.oversized = true;
            self.line = Vec::new();
        } else {
            self.line.extend_from_slice(part);
        }
    }

    fn emit(&mut self, line: &[u8], oversized: bool, sink: &mut impl FnMut(Event<'_>)) {
        let data = line.trim_ascii();
        if !data.is_empty() || oversized {
            self.events += 1;
            sink(Event { name: b"", data, oversized });
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn lines_of(pieces: &[&[u8]]) -> (Vec<Vec<u8>>, LineScanner) {
        let mut scanner = LineScanner::default();
        let mut found = Vec::new();
        for piece in pieces {
            scanner.scan(piece, &mut |event| found.push(event.data.to_vec()));
        }
        (found, scanner)
    }

    #[test]
    fn each_line_is_an_event_and_empty_ones_are_none() {
        let (found, mut scanner) = lines_of(&[b"{\"a\":1}\r\n\n  \n{\"b\"", b":2}\n{}"]);
        assert_eq!(found, [&b"{\"a\":1}"[..], b"{\"b\":2}"]);
        assert!(!scanner.at_boundary());
        let mut last = Vec::new();
        scanner.finish(&mut |event| last.push(event.data.to_vec()));
        assert_eq!((last, scanner.events(), scanner.at_boundary()), (vec![b"{}".to_vec()], 3, false));
        scanner.finish(&mut |event| panic!("{event:?}"));
    }

    #[test]
    fn memory_is_bounded_and_the_next_line_is_found() {
        let mut scanner = LineScanner::default();
        let mut found = Vec::new();
        let piece = vec![b'x'; DATA_LIMIT / 4];
        for _ in 0..9 {
            scanner.scan(&piece, &mut |event| found.push((event.data.len(), event.oversized)));
            assert!(scanner.line.capacity() <= 2 * DATA_LIMIT);
        }
        assert!(!scanner.at_boundary());
        scanner.scan(b"\n{}\n", &mut |event| found.push((event.data.len(), event.oversized)));
        assert_eq!(found, [(0, true), (2, false)]);
    }

    proptest! {
        #[test]
        fn any_cut_gives_the_same_lines(text in "[a{}\r\n ]{0,60}", cuts in prop::collection::vec(0..61_usize, 0..6)) {
            let (whole, _) = lines_of(&[text.as_bytes()]);
            let mut cuts: Vec<_> = cuts.into_iter().map(|cut| cut.min(text.len())).collect();
            cuts.extend([0, text.len()]);
            cuts.sort_unstable();
            let pieces: Vec<_> = cuts.windows(2).map(|cut| &text.as_bytes()[cut[0]..cut[1]]).collect();
            prop_assert_eq!(lines_of(&pieces).0, whole);
        }
    }
}
