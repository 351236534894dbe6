//! Recognises an event stream by its first bytes, where no `content-type` says what a body is.

/// What the first bytes of a body show.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Sniffed {
    /// They begin an event stream.
    Events,
    /// They begin something else.
    SomethingElse,
    /// They could begin either; more of them are needed, at most [`SNIFFED`] in all.
    Undecided,
}

/// The most first bytes that are needed to recognise a stream.
pub const SNIFFED: usize = 64;

const BOM: &[u8] = b"\xEF\xBB\xBF";

/// How the first line of a stream may begin: a field (WHATWG HTML, "Parsing an event stream") or a comment.
const STARTS: [&[u8]; 5] = [b"data:", b"event:", b"id:", b"retry:", b":"];

/// Recognises an event stream by its first bytes: a byte order mark and empty lines may come before the first field or comment.
pub fn sniff(first: &[u8]) -> Sniffed {
    if first.len() < BOM.len() && BOM.starts_with(first) {
        return Sniffed::Undecided;
    }
    let rest = first.strip_prefix(BOM).unwrap_or(first);
    let blank = rest.iter().take_while(|byte| matches!(byte, b'\n' | b'\r')).count();
    let line = rest.get(blank..).unwrap_or_default();
    if STARTS.iter().any(|start| line.starts_with(start)) {
        return Sniffed::Events;
    }
    let may_begin = first.len() < SNIFFED && STARTS.iter().any(|start| start.starts_with(line));
    if may_begin { Sniffed::Undecided } else { Sniffed::SomethingElse }
}

#[cfg(test)]
mod tests {
    use super::{Sniffed::*, *};

    #[test]
    fn streams_are_recognised_at_their_first_field_or_comment() {
        for stream in [
            "data: {}",
            "data:{}",
            "event: message_start\n",
            "id: 1\n",
            "retry: 3000\n",
            ": OPENROUTER PROCESSING\n\n",
            ":\n",
            "\u{FEFF}data: {}",
            "\n\ndata: {}",
            "\r\n: ping",
        ] {
            assert_eq!(sniff(stream.as_bytes()), Events, "{stream:?}");
            // No cut changes that: shorter beginnings are undecided, or say the same.
            let decided = (0..=stream.len()).find(|end| sniff(&stream.as_bytes()[..*end]) != Undecided);
            let decided = decided.unwrap();
            assert!((decided..=stream.len()).all(|end| sniff(&stream.as_bytes()[..end]) == Events));
        }
    }

    #[test]
    fn anything_else_is_recognised_as_that() {
        for other in [
            "{\"error\":{}}",
            " data: {}",
            "<!DOCTYPE html>",
            "Hello: world",
            "dat: x",
            "database",
            "events",
            "idea",
            "\u{FEFF}{}",
            "\u{FEFF}\u{FEFF}data:",
            "1\n00:00:00,000 --> 00:00:02,000\n",
            "WEBVTT",
        ] {
            assert_eq!(sniff(other.as_bytes()), SomethingElse, "{other:?}");
        }
        assert_eq!(sniff(&[b'\n'; SNIFFED]), SomethingElse, "there is a bound");
        assert_eq!(sniff(b""), Undecided);
    }
}
