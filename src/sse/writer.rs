//! Formats the events and comments that the gateway itself inserts into a stream.

use bytes::Bytes;

/// Formats a comment with the blank line after it. Readers ignore the comment, and it keeps the connection from looking dead.
///
/// Text of several lines becomes several comment lines.
pub fn comment(text: &str) -> Bytes {
    let mut out = Vec::with_capacity(text.len() + 4);
    lines(&mut out, ": ", text);
    finished(out)
}

/// Formats a comment without a blank line after it, for streams whose readers dispatch an event at any blank line: see
/// [`Scanner::has_ids`](super::Scanner::has_ids).
pub fn comment_line(text: &str) -> Bytes {
    let mut out = Vec::with_capacity(text.len() + 3);
    lines(&mut out, ": ", text);
    Bytes::from(out)
}

/// Formats an event without a name. A payload of several lines becomes several data lines, so that the reader's data has
/// LF where the payload has LF, CRLF or CR.
pub fn data(payload: &str) -> Bytes {
    let mut out = Vec::with_capacity(payload.len() + 8);
    lines(&mut out, "data: ", payload);
    finished(out)
}

/// Formats an event with a name. Only the first line of the name is used, since a name cannot span lines.
pub fn event(name: &str, payload: &str) -> Bytes {
    let mut out = Vec::with_capacity(name.len() + payload.len() + 16);
    out.extend_from_slice(b"event: ");
    out.extend_from_slice(name.split(['\r', '\n']).next().unwrap_or_default().as_bytes());
    out.push(b'\n');
    lines(&mut out, "data: ", payload);
    finished(out)
}

fn lines(out: &mut Vec<u8>, field: &str, text: &str) {
    let mut rest = text;
    loop {
        let end = rest.find(['\r', '\n']);
        let (line, after) = rest.split_at(end.unwrap_or(rest.len()));
        out.extend_from_slice(field.as_bytes());
        out.extend_from_slice(line.as_bytes());
        out.push(b'\n');
        if end.is_none() {
            return;
        }
        rest = after.strip_prefix("\r\n").unwrap_or_else(|| after.get(1..).unwrap_or_default());
    }
}

fn finished(mut out: Vec<u8>) -> Bytes {
    out.push(b'\n');
    Bytes::from(out)
}

#[cfg(test)]
mod tests {
    use super::super::reference;
    use super::*;

    #[test]
    fn what_is_written_is_read_back() {
        assert_eq!(reference::events(&data("{}")), [(vec![], b"{}".to_vec())]);
        assert_eq!(reference::events(&data("")), [(vec![], vec![])]);
        assert_eq!(reference::events(&event("error", "{}")), [(b"error".to_vec(), b"{}".to_vec())]);
        assert_eq!(reference::events(&comment("keep-alive")), []);
        let then_event = [comment_line("keep-alive"), data("{}")].concat();
        assert_eq!(reference::events(&then_event), [(vec![], b"{}".to_vec())]);
    }

    #[test]
    fn line_ends_cannot_break_out_of_a_field() {
        let written = data("a\nb\r\nc\rdata: d\n\n[DONE]\n");
        assert_eq!(reference::events(&written), [(vec![], b"a\nb\nc\ndata: d\n\n[DONE]\n".to_vec())]);
        assert_eq!(reference::events(&comment("x\n\ndata: forged\n\n")), []);
        assert_eq!(reference::events(&event("e\ndata: forged", "x")), [(b"e".to_vec(), b"x".to_vec())]);
    }

    #[test]
    fn everything_written_ends_at_a_boundary() {
        for written in [comment(""), comment("a\r"), data("x\r"), event("n", "y\n")] {
            assert!(reference::at_boundary(&written), "{written:?}");
        }
    }

    #[test]
    fn the_usual_bytes() {
        assert_eq!(comment("keep-alive"), ": keep-alive\n\n");
        assert_eq!(comment_line("keep-alive"), ": keep-alive\n");
        assert_eq!(event("error", "{\"a\":1}"), "event: error\ndata: {\"a\":1}\n\n");
    }
}
