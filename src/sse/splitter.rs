//! Where the events of a stream begin and end in its bytes.

use memchr::memchr2;

const BOM: &[u8] = b"\xEF\xBB\xBF";

/// Splits the bytes of one stream into its events and what is between them, however the stream is split into chunks. It keeps no bytes.
///
/// An event is here what a reader collects until it dispatches: from the first line that is neither blank nor a comment, through the blank
/// line (WHATWG HTML, section 9.2.6 "Interpreting an event stream").
#[derive(Debug, Default)]
pub struct Splitter {
    /// Number of bytes of a leading byte order mark found so far; `BOM.len()` also when the stream has no mark.
    bom: usize,
    in_event: bool,
    /// The unfinished line has begun.
    mid_line: bool,
    /// The last line ended with CR, so that a following LF belongs to its line end.
    after_cr: bool,
}

/// A piece of the bytes of a stream.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Piece {
    /// What it is.
    pub kind: PieceKind,
    /// Its length in bytes; not zero.
    pub length: usize,
}

/// What a piece of a stream is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum PieceKind {
    /// Comments, blank lines and the byte order mark, outside of events.
    Between,
    /// A piece of an event that has not ended.
    Unfinished,
    /// The end of an event, or all of it.
    End,
    /// The LF of a line end whose CR came before. It belongs to the piece before.
    LineFeed,
}

impl Splitter {
    /// The first piece of `bytes`, which come next in the stream. `None` if there are none.
    #[inline]
    pub fn next(&mut self, bytes: &[u8]) -> Option<Piece> {
        let first = *bytes.first()?;
        if std::mem::take(&mut self.after_cr) && first == b'\n' {
            let kind = if self.in_event { PieceKind::Unfinished } else { PieceKind::LineFeed };
            return Some(Piece { kind, length: 1 });
        }
        if self.bom < BOM.len()
            && let Some(piece) = self.mark(bytes)
        {
            return Some(piece);
        }
        let between = if self.in_event { 0 } else { self.between(bytes) };
        if between > 0 {
            return Some(Piece { kind: PieceKind::Between, length: between });
        }
        self.in_event = true;
        Some(self.event(bytes))
    }

    /// The piece of the byte order mark that `bytes` begin with. `None`: the stream has none.
    fn mark(&mut self, bytes: &[u8]) -> Option<Piece> {
        let length =
            bytes.iter().zip(BOM.iter().skip(self.bom)).take_while(|(byte, mark)| byte == mark).count();
        let is_whole = self.bom + length == BOM.len();
        if is_whole || (length > 0 && length == bytes.len()) {
            self.bom += length;
            // Half of it may be the beginning of a line.
            let kind = if is_whole { PieceKind::Between } else { PieceKind::Unfinished };
            return Some(Piece { kind, length });
        }
        if self.bom > 0 {
            (self.in_event, self.mid_line) = (true, true);
        }
        self.bom = BOM.len();
        None
    }

    /// The length of the comments and blank lines that `bytes` begin with.
    fn between(&mut self, bytes: &[u8]) -> usize {
        let mut at = 0;
        while let Some(rest) = bytes.get(at..).filter(|rest| !rest.is_empty()) {
            if !self.mid_line && !matches!(rest.first(), Some(b':' | b'\n' | b'\r')) {
                break;
            }
            let Some(length) = memchr2(b'\n', b'\r', rest) else {
                self.mid_line = true;
                return bytes.len();
            };
            self.mid_line = false;
            at += length + self.line_end(&rest[length..]);
        }
        at
    }

    /// The rest of the event, as far as it is in `bytes`.
    #[inline]
    fn event(&mut self, bytes: &[u8]) -> Piece {
        let mut at = 0;
        while let Some(length) = memchr2(b'\n', b'\r', &bytes[at..]) {
            let is_blank = length == 0 && !self.mid_line;
            self.mid_line = false;
            at += length + self.line_end(&bytes[at + length..]);
            if is_blank {
                self.in_event = false;
                return Piece { kind: PieceKind::End, length: at };
            }
        }
        self.mid_line |= at < bytes.len();
        Piece { kind: PieceKind::Unfinished, length: bytes.len() }
    }

    /// The length of the line end that `ended` begins with.
    fn line_end(&mut self, ended: &[u8]) -> usize {
        match ended {
            [b'\r', b'\n', ..] => 2,
            [b'\r'] => {
                self.after_cr = true;
                1
            }
            _ => 1,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The pieces of a stream that comes in chunks of this size; pieces of the same event are one.
    fn pieces(stream: &[u8], size: usize) -> Vec<(PieceKind, String)> {
        let mut splitter = Splitter::default();
        let mut pieces: Vec<(PieceKind, String)> = Vec::new();
        for mut chunk in stream.chunks(size) {
            while let Some(piece) = splitter.next(chunk) {
                let (bytes, rest) = chunk.split_at(piece.length);
                let text = String::from_utf8_lossy(bytes);
                match pieces.last_mut() {
                    Some((kind, before)) if *kind == PieceKind::Unfinished => {
                        *before += &text;
                        *kind = piece.kind;
                    }
                    Some((kind, before)) if *kind == piece.kind && piece.kind == PieceKind::Between => {
                        *before += &text;
                    }
                    Some((_, before)) if piece.kind == PieceKind::LineFeed => *before += &text,
                    _ => pieces.push((piece.kind, text.into_owned())),
                }
                chunk = rest;
            }
        }
        pieces
    }

    #[test]
    fn the_parts_do_not_depend_on_chunks_or_line_ends() {
        let lines = [
            (PieceKind::Between, ":a\n\n"),
            (PieceKind::End, "event: e\ndata: 1\n: within\ndata:2\n\n"),
            (PieceKind::Between, "\n: c\n"),
            (PieceKind::End, "data: [DONE]\n\n"),
            (PieceKind::Unfinished, "data: cut\n"),
        ];
        for end in ["\n", "\r\n", "\r"] {
            let expected: Vec<_> =
                lines.iter().map(|(kind, text)| (*kind, text.replace('\n', end))).collect();
            let stream: String = expected.iter().map(|(_, text)| text.as_str()).collect();
            for size in 1..=stream.len() {
                assert_eq!(pieces(stream.as_bytes(), size), expected, "{end:?} by {size}");
            }
        }
    }

    #[test]
    fn a_byte_order_mark_is_between_events_and_half_of_one_begins_a_line() {
        for size in 1..12 {
            let marked = pieces(b"\xEF\xBB\xBFdata: 1\n\n", size);
            assert_eq!(marked.last(), Some(&(PieceKind::End, "data: 1\n\n".to_owned())), "by {size}");
            let odd = pieces(b"\xEF\xBBdata: 1\n\n", size);
            assert!(odd.len() == 1 && odd[0].0 == PieceKind::End, "{odd:?} by {size}");
        }
    }
}
