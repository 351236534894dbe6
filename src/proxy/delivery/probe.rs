//! A first look at an event stream, before any of it goes out.

use memchr::memchr2;

use crate::{
    openai::{Dialect, OUTLINED, StreamReader},
    sse::{Event, Scanner},
};

/// A first look at an event stream, before any of it goes out.
#[derive(Debug)]
pub(super) struct Probe {
    scanner: Scanner,
    reader: StreamReader,
    dialect: Dialect,
    /// Whether the response is read to its end, and passed on only if all of it can be read.
    whole: bool,
    content: bool,
    ended: bool,
    failed: bool,
    /// The data of the event that is an error, at most 64 KiB of it.
    error: Vec<u8>,
}

/// The most bytes that are kept of an error event's data.
pub(super) const ERROR_KEPT: usize = 64 << 10;

/// What a [`Probe`] has found.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Finding {
    /// Nothing decisive.
    Nothing,
    /// Content, or a regular end.
    Content,
    /// An error event, or one that cannot be read, before any content.
    Failed,
}

impl Probe {
    pub(super) fn new(dialect: Dialect) -> Self {
        Self {
            scanner: Scanner::outlining(&OUTLINED),
            reader: StreamReader::new(dialect),
            dialect,
            whole: false,
            content: false,
            ended: false,
            failed: false,
            error: Vec::new(),
        }
    }

    /// A probe for a whole response: SDKs raise on an unreadable event anywhere in the stream.
    pub(super) fn of_whole(dialect: Dialect) -> Self {
        Self { whole: true, ..Self::new(dialect) }
    }

    /// Looks at the next bytes. Returns the finding of the first decisive event in them.
    pub(super) fn look(&mut self, bytes: &[u8]) -> Finding {
        let mut seen = Finding::Nothing;
        let Self { scanner, reader, content, ended, failed, error, .. } = self;
        let whole = self.whole && self.dialect.has_terminal_event();
        scanner.scan(bytes, &mut |event| {
            // Nobody reads on after the end.
            if *ended {
                return;
            }
            let notice = reader.event(&event);
            // What cannot be read is passed on, unless it is the first thing that should have been content, or nothing has gone out yet.
            let malformed = if whole {
                !notice.keep_alive && !is_readable(&event)
            } else {
                notice.malformed && !*content
            };
            let fails = malformed || notice.failed || notice.flat_error;
            let decides = match (fails, notice.first_content || notice.terminal) {
                (true, _) => Finding::Failed,
                (_, true) => Finding::Content,
                (false, false) => Finding::Nothing,
            };
            if seen == Finding::Nothing {
                seen = decides;
            }
            *content |= decides == Finding::Content;
            *ended |= notice.terminal;
            if fails && !std::mem::replace(failed, true) {
                error.extend_from_slice(&event.data[..event.data.len().min(ERROR_KEPT)]);
            }
        });
        seen
    }

    /// Looks at the next bytes, up to the event that ends the response or is an error. Returns the first finding, and how many of the bytes
    /// belong to the response.
    pub(super) fn look_to_end(&mut self, bytes: &[u8]) -> (Finding, usize) {
        let mut seen = Finding::Nothing;
        let mut looked = 0;
        while looked < bytes.len() && !self.ended && !self.failed {
            let rest = &bytes[looked..];
            let event = &rest[..through_blank_line(rest)];
            looked += event.len();
            let finding = self.look(event);
            if seen == Finding::Nothing {
                seen = finding;
            }
        }
        (seen, looked)
    }

    /// Whether an error has been seen, wherever in the stream.
    pub(super) fn has_failed(&self) -> bool {
        self.failed
    }

    /// Whether the bytes so far end between two events, or before the first.
    pub(super) fn is_between_events(&self) -> bool {
        self.scanner.at_boundary() && !self.scanner.after_cr()
    }

    /// Whether the bytes so far are nothing but whole lines of comments, and blank ones.
    pub(super) fn has_only_comments(&self) -> bool {
        self.is_between_events() && self.scanner.events() == 0
    }

    /// Whether the terminal event has been seen.
    pub(super) fn has_ended(&self) -> bool {
        self.ended
    }

    /// The data of the error event that was seen.
    pub(super) fn into_error(self) -> Vec<u8> {
        self.error
    }

    /// The finding if the stream ends here, perhaps without the blank line after its last event.
    pub(super) fn at_end(&mut self) -> Finding {
        let Self { scanner, reader, ended, failed, .. } = self;
        scanner.finish(&mut |event| {
            let notice = reader.last_event(&event);
            *ended |= notice.terminal;
            *failed |= notice.failed || notice.flat_error;
        });
        let known = self.dialect.has_terminal_event();
        let unfinished = known && !self.ended && !self.reader.all_finished();
        if unfinished || self.failed { Finding::Failed } else { Finding::Content }
    }
}

/// The number of bytes up to the end of the first blank line; all of them if there is none.
fn through_blank_line(bytes: &[u8]) -> usize {
    let mut line = 0;
    while let Some(length) = memchr2(b'\n', b'\r', &bytes[line..]) {
        let ended = &bytes[line + length..];
        line += length + if ended.starts_with(b"\r\n") { 2 } else { 1 };
        if length == 0 {
            return line;
        }
    }
    bytes.len()
}

/// Whether SDKs can read an event: each as JSON, but for the word at the end. The reader of a stream does not parse all that it sees.
fn is_readable(event: &Event<'_>) -> bool {
    let last = event.data.starts_with(b"[DONE]");
    event.oversized
        || event.data.is_empty()
        || last
        || serde_json::from_slice::<serde::de::IgnoredAny>(event.data).is_ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_blank_line_ends_with_any_line_end() {
        for (bytes, length) in [
            ("data: a\n\ndata: b", 9),
            ("data: a\r\n\r\ndata: b", 11),
            ("data: a\r\rdata: b", 9),
            ("a\nb\n", 4),
            ("\na", 1),
            ("", 0),
        ] {
            assert_eq!(through_blank_line(bytes.as_bytes()), length, "{bytes:?}");
        }
    }
}
