//! What the relay sees of the bytes that it passes on.

use bytes::Bytes;

use super::relay::ERROR_EVENT;
use crate::{
    fault::{Fault, Outcome},
    openai::{AnswerReader, Dialect, Reading, StreamReader},
    sse::{Event, Scanner},
};

/// A view of an answer's bytes. Looking never fails and never changes anything.
#[derive(Debug)]
pub(super) enum ResponseObserver {
    /// An event stream.
    Events(Box<Events>),
    /// A JSON document.
    Document(Box<AnswerReader>),
    /// Anything else: files, audio, compressed bodies.
    Nothing,
}

/// An event stream as far as it has gone out.
#[derive(Debug)]
pub(super) struct Events {
    scanner: Scanner,
    reader: StreamReader,
    dialect: Dialect,
    terminated: bool,
    failed: bool,
}

/// A first look at an event stream, before any of it goes out.
#[derive(Debug)]
pub(super) struct Probe {
    scanner: Scanner,
    reader: StreamReader,
    dialect: Dialect,
    /// The answer is looked at to its end, and given only if all of it can be read.
    whole: bool,
    content: bool,
    ended: bool,
    failed: bool,
    /// The data of the event that is an error, at most 64 KiB of it.
    error: Vec<u8>,
}

/// Of an error event's data, what is kept to tell what it is about.
const ERROR_KEPT: usize = 64 << 10;

/// What a [`Probe`] has seen.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Seen {
    /// Nothing that decides.
    Nothing,
    /// Content, or an end in order.
    Content,
    /// An error event, or one that cannot be read, before any content.
    AttemptError,
}

impl Probe {
    pub(super) fn new(dialect: Dialect) -> Self {
        Self {
            scanner: Scanner::new(),
            reader: StreamReader::new(dialect),
            dialect,
            whole: false,
            content: false,
            ended: false,
            failed: false,
            error: Vec::new(),
        }
    }

    /// One for all of an answer: SDKs raise on an event that cannot be read wherever it stands.
    pub(super) fn of_whole(dialect: Dialect) -> Self {
        Self { whole: true, ..Self::new(dialect) }
    }

    /// Looks at the next bytes, and tells of the first event in them that decides.
    pub(super) fn look(&mut self, bytes: &[u8]) -> Seen {
        let mut seen = Seen::Nothing;
        let Self { scanner, reader, content, ended, failed, error, .. } = self;
        let whole = self.whole && self.dialect.has_terminal_event();
        scanner.scan(bytes, &mut |event| {
            let notice = reader.event(&event);
            // What cannot be read is passed on, unless it is the first thing that should have been content, or nothing has gone out yet.
            let malformed = if whole { !is_readable(&event) } else { notice.malformed && !*content };
            let fails = malformed || notice.failed;
            let decides = match (fails, notice.first_content || notice.terminal) {
                (true, _) => Seen::AttemptError,
                (_, true) => Seen::Content,
                (false, false) => Seen::Nothing,
            };
            if seen == Seen::Nothing {
                seen = decides;
            }
            *content |= decides == Seen::Content;
            *ended |= notice.terminal;
            if fails && !std::mem::replace(failed, true) {
                error.extend_from_slice(&event.data[..event.data.len().min(ERROR_KEPT)]);
            }
        });
        seen
    }

    /// Whether an error has been seen, wherever in the stream.
    pub(super) fn has_failed(&self) -> bool {
        self.failed
    }

    /// The data of the error event that was seen.
    pub(super) fn into_error(self) -> Vec<u8> {
        self.error
    }

    /// What an end means here.
    pub(super) fn at_end(&self) -> Seen {
        let known = self.dialect.has_terminal_event();
        if known && !self.ended && !self.reader.all_finished() { Seen::AttemptError } else { Seen::Content }
    }
}

/// Whether SDKs can read an event: each as JSON, but for the word at the end. The reader of a stream does not parse all that it sees.
fn is_readable(event: &Event<'_>) -> bool {
    let last = event.data.starts_with(b"[DONE]");
    event.oversized
        || event.data.is_empty()
        || last
        || serde_json::from_slice::<serde::de::IgnoredAny>(event.data).is_ok()
}

/// What can still be said in a stream that broke off.
#[derive(Debug)]
pub(super) struct LastWords {
    /// An error event.
    pub(super) event: Bytes,
    /// SDKs raise on it, so that the stream may then end in order. Otherwise the transport must be aborted as well.
    pub(super) is_enough: bool,
}

impl ResponseObserver {
    /// The sight of an event stream.
    pub(super) fn events_of(dialect: Dialect) -> Self {
        Self::Events(Box::new(Events {
            scanner: Scanner::new(),
            reader: StreamReader::new(dialect),
            dialect,
            terminated: false,
            failed: false,
        }))
    }

    /// The sight of a JSON document.
    pub(super) fn document(dialect: Dialect) -> Self {
        Self::Document(Box::new(AnswerReader::new(dialect)))
    }

    /// Looks at the next bytes; true when the answer's first content is among them.
    pub(super) fn look(&mut self, bytes: &[u8]) -> bool {
        match self {
            Self::Events(events) => events.look(bytes),
            Self::Document(reader) => {
                reader.bytes(bytes);
                false
            }
            Self::Nothing => false,
        }
    }

    /// Whether the stream's terminal event (`[DONE]`, `response.completed`, `message_stop` …) went out, or an error event of the
    /// upstream's that SDKs raise on: they close at either.
    pub(super) fn is_terminated(&self) -> bool {
        let Self::Events(events) = self else { return false };
        events.terminated || (events.failed && events.dialect.raises_on_error_event())
    }

    /// Whether it is one of an event stream.
    pub(super) fn is_events(&self) -> bool {
        matches!(self, Self::Events(_))
    }

    /// Whether an end here would cut a stream whose dialect says how it ends: its terminal event is missing, not every choice
    /// has finished, and it told of no error.
    pub(super) fn is_unfinished(&self) -> bool {
        let Self::Events(events) = self else { return false };
        let known = events.dialect.has_terminal_event();
        known && !events.terminated && !events.failed && !events.reader.all_finished()
    }

    /// How an exchange ended whose answer is whole.
    pub(super) fn outcome(&self) -> Outcome {
        match self {
            Self::Events(events) if events.failed => ERROR_EVENT,
            _ => Outcome::COMPLETE,
        }
    }

    /// What to say of `fault` in the stream's own dialect. Nothing, when it is no event stream or stands within an event: what were
    /// put there would become a part of that event.
    pub(super) fn last_words(&self, fault: &Fault) -> Option<LastWords> {
        let Self::Events(events) = self else { return None };
        if self.is_terminated() || !events.scanner.at_boundary() {
            return None;
        }
        let event = fault.event(events.dialect, events.reader.next_sequence().unwrap_or_default());
        let event = if events.scanner.after_cr() { [b"\n", &event[..]].concat().into() } else { event };
        Some(LastWords { event, is_enough: events.dialect.raises_on_error_event() })
    }

    /// Whether a comment may be put here: between two events of a stream that goes on.
    pub(super) fn takes_comments(&self) -> bool {
        matches!(self, Self::Events(events) if events.scanner.at_boundary() && !events.scanner.after_cr())
            && !self.is_terminated()
    }

    /// Events seen, where there are any to see.
    pub(super) fn events(&self) -> Option<u64> {
        match self {
            Self::Events(events) => Some(events.scanner.events()),
            Self::Document(_) | Self::Nothing => None,
        }
    }

    /// What the answer told of itself; the sight of a document is used up by it.
    pub(super) fn reading(&mut self) -> Reading {
        match self {
            Self::Events(events) => events.reader.reading(),
            Self::Nothing => Reading::default(),
            Self::Document(_) => match std::mem::replace(self, Self::Nothing) {
                Self::Document(reader) => reader.finish(),
                Self::Events(_) | Self::Nothing => Reading::default(),
            },
        }
    }
}

impl Events {
    fn look(&mut self, bytes: &[u8]) -> bool {
        let Self { scanner, reader, terminated, failed, .. } = self;
        let mut first_content = false;
        scanner.scan(bytes, &mut |event| {
            let notice = reader.event(&event);
            first_content |= notice.first_content;
            *terminated |= notice.terminal;
            *failed |= notice.failed;
        });
        first_content
    }
}
