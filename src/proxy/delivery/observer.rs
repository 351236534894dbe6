//! What the relay observes of the bytes that it passes on.

use bytes::Bytes;

use super::probe::ERROR_KEPT;
use crate::{
    fault::{Fault, Language, Outcome},
    openai::{AnswerReader, Dialect, Notice, OUTLINED, Reading, StreamReader},
    sse::{Event, LineScanner, Scanner, writer},
};

/// The upstream's own error was passed on in the stream.
pub(super) const ERROR_EVENT: Outcome = Outcome { fault: Some("upstream_error_event"), ..Outcome::COMPLETE };

/// The text of the gateway's own comments.
pub(super) const KEEP_ALIVE: &str = "keep-alive";

/// Observes a response's bytes. Looking never fails and never changes anything.
#[derive(Debug)]
pub(in crate::proxy) enum ResponseObserver {
    /// An event stream.
    Events(Box<Events>),
    /// A JSON document.
    Document(Box<AnswerReader>),
    /// Anything else: files, audio, compressed bodies.
    Nothing,
}

/// The part of an event stream that was sent to the client. Its fields are in this order (`repr(C)`), so that what a frame touches lies together.
#[derive(Debug)]
#[repr(C)]
pub(in crate::proxy) struct Events {
    scanner: StreamScanner,
    found: Findings,
    dialect: Dialect,
    reader: StreamReader,
}

/// What the events so far have said.
#[derive(Debug, Default)]
struct Findings {
    terminated: bool,
    failed: bool,
    /// The upstream's error was passed on in a form that SDKs do not recognise, so that the stream still lacks its end.
    unnoticed: bool,
    /// There was an event that is neither an error nor a keep-alive.
    answered: bool,
    /// There was content.
    begun: bool,
    /// An error event, until it is taken.
    error: Option<ErrorEvent>,
}

/// An error event. Its beginning may have gone out: nothing is held back until an event is whole.
#[derive(Debug)]
pub(super) struct ErrorEvent {
    /// Its data, at most 64 KiB of it.
    pub(super) data: Vec<u8>,
    /// There was no content before it.
    pub(super) opens: bool,
    /// The bytes that were looked at before those with its end did not end within an event.
    began_between: bool,
}

/// What can still be sent in a stream that broke off.
#[derive(Debug)]
pub(super) struct LastEvent {
    /// An error event.
    pub(super) event: Bytes,
    /// SDKs raise on it, so that the stream may then end in order. Otherwise the transport must be aborted as well.
    pub(super) is_enough: bool,
}

impl ResponseObserver {
    /// Observes an event stream.
    pub(in crate::proxy) fn events(dialect: Dialect) -> Self {
        Self::Events(Box::new(Events {
            scanner: StreamScanner::new(dialect),
            found: Findings::default(),
            dialect,
            reader: StreamReader::new(dialect),
        }))
    }

    /// Observes a JSON document.
    pub(in crate::proxy) fn document(dialect: Dialect) -> Self {
        Self::Document(Box::new(AnswerReader::new(dialect)))
    }

    /// Looks at the next bytes; true when the response's first content is among them.
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

    /// Reads the usage in an event, given by its bytes, that was asked for by the gateway and is not sent to the client. It is no event of what the
    /// client gets, and counts as none.
    #[cold]
    pub(super) fn see_removed(&mut self, event: &[u8]) {
        let Self::Events(events) = self else { return };
        let mut scanner = Scanner::new();
        let mut see = |event: Event<'_>| events.reader.removed(&event);
        scanner.scan(event, &mut see);
        scanner.finish(&mut see);
    }

    /// Notes that the body has ended in order: a last event without its blank line counts.
    pub(super) fn at_end(&mut self) {
        if let Self::Events(events) = self {
            events.at_end();
        }
    }

    /// Whether the stream's terminal event (`[DONE]`, `response.completed`, `message_stop` …) went out, or an error event of the
    /// upstream's that SDKs raise on: they close at either.
    pub(super) fn is_terminated(&self) -> bool {
        let Self::Events(events) = self else { return false };
        events.found.terminated || (events.found.failed && events.dialect.raises_on_error_event())
    }

    /// Whether the response is a stream that is open by design, however silent it is.
    pub(super) fn stays_open(&self) -> bool {
        matches!(self, Self::Events(events) if events.dialect.stays_open())
    }

    /// Whether it observes an event stream.
    pub(super) fn is_events(&self) -> bool {
        matches!(self, Self::Events(_))
    }

    /// Whether it observes a JSON document.
    pub(super) fn is_document(&self) -> bool {
        matches!(self, Self::Document(_))
    }

    /// Whether an end here would cut a stream whose dialect says how it ends: its terminal event is missing, not every choice
    /// has finished, and there was no error event.
    pub(in crate::proxy) fn is_unfinished(&self) -> bool {
        let Self::Events(events) = self else { return false };
        let known = events.dialect.has_terminal_event();
        known && !events.found.terminated && !events.found.failed && !events.reader.all_finished()
    }

    /// The outcome of an exchange whose response is complete.
    pub(super) fn outcome(&self) -> Outcome {
        match self {
            Self::Events(events) if events.found.failed || events.found.unnoticed => ERROR_EVENT,
            _ => Outcome::COMPLETE,
        }
    }

    /// The event for `fault` in the stream's own dialect. `None` if this is not an event stream, or if the stream is within an event, because
    /// the new event would become a part of that.
    pub(super) fn last_event(&self, fault: &Fault, language: Language) -> Option<LastEvent> {
        let Self::Events(events) = self else { return None };
        if self.is_terminated() || !events.scanner.at_boundary() {
            return None;
        }
        let event = fault.event(events.dialect, events.reader.next_sequence().unwrap_or_default(), language);
        let event = if events.scanner.after_cr() { [b"\n", &event[..]].concat().into() } else { event };
        Some(LastEvent { event, is_enough: events.dialect.raises_on_error_event() })
    }

    /// Whether the stream has had an event that is neither an error nor a keep-alive.
    pub(super) fn has_answered(&self) -> bool {
        matches!(self, Self::Events(events) if events.found.answered)
    }

    /// The first error event among the bytes that were looked at last.
    pub(super) fn take_error(&mut self) -> Option<ErrorEvent> {
        let Self::Events(events) = self else { return None };
        events.found.error.take()
    }

    /// The event for `fault` in place of the bytes that were looked at last, with the error event `instead_of` in them. `None` if the client has
    /// the beginning of an event.
    pub(super) fn event_instead(
        &mut self,
        fault: &Fault,
        language: Language,
        instead_of: &ErrorEvent,
    ) -> Option<LastEvent> {
        let Self::Events(events) = self else { return None };
        // What is withheld has not ended the stream.
        (events.found.failed, events.found.unnoticed, events.found.terminated) = (false, false, false);
        let event = fault.event(events.dialect, events.reader.next_sequence().unwrap_or_default(), language);
        let last = LastEvent { event, is_enough: events.dialect.raises_on_error_event() };
        instead_of.began_between.then_some(last)
    }

    /// Whether a comment may be inserted now: between two events of a stream that has not ended.
    pub(super) fn takes_comments(&self) -> bool {
        matches!(self, Self::Events(events) if events.scanner.takes_comments()) && !self.is_terminated()
    }

    /// The comment to send after silence. The blank line behind it is for readers that split a stream at blank lines and would take the comment
    /// for a part of the next event. Where events carry ids there is none: some SDKs would dispatch an event ([`Scanner::has_ids`]).
    pub(super) fn heartbeat(&self) -> Bytes {
        match self {
            Self::Events(events) if events.scanner.has_ids() => writer::comment_line(KEEP_ALIVE),
            _ => writer::comment(KEEP_ALIVE),
        }
    }

    /// The number of events so far; `None` if the response is not an event stream.
    pub(super) fn count(&self) -> Option<u64> {
        match self {
            Self::Events(events) => Some(events.scanner.events()),
            Self::Document(_) | Self::Nothing => None,
        }
    }

    /// The facts that were read from the response. For a document, this may be called once.
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

/// Finds the events of a stream, in the form that its dialect gives them.
#[derive(Debug)]
enum StreamScanner {
    Events(Scanner),
    Lines(LineScanner),
}

impl StreamScanner {
    fn new(dialect: Dialect) -> Self {
        if dialect.is_lines() {
            Self::Lines(LineScanner::default())
        } else {
            Self::Events(Scanner::outlining(&OUTLINED))
        }
    }

    fn scan(&mut self, bytes: &[u8], sink: &mut impl FnMut(Event<'_>)) {
        match self {
            Self::Events(scanner) => scanner.scan(bytes, sink),
            Self::Lines(scanner) => scanner.scan(bytes, sink),
        }
    }

    fn finish(&mut self, sink: &mut impl FnMut(Event<'_>)) {
        match self {
            Self::Events(scanner) => scanner.finish(sink),
            Self::Lines(scanner) => scanner.finish(sink),
        }
    }

    /// Whether an event can be inserted here.
    fn at_boundary(&self) -> bool {
        match self {
            Self::Events(scanner) => scanner.at_boundary(),
            Self::Lines(scanner) => scanner.at_boundary(),
        }
    }

    fn after_cr(&self) -> bool {
        matches!(self, Self::Events(scanner) if scanner.after_cr())
    }

    /// Lines of JSON have no comments.
    fn takes_comments(&self) -> bool {
        matches!(self, Self::Events(scanner) if scanner.at_boundary() && !scanner.after_cr())
    }

    fn has_ids(&self) -> bool {
        matches!(self, Self::Events(scanner) if scanner.has_ids())
    }

    fn events(&self) -> u64 {
        match self {
            Self::Events(scanner) => scanner.events(),
            Self::Lines(scanner) => scanner.events(),
        }
    }
}

impl Events {
    fn look(&mut self, bytes: &[u8]) -> bool {
        let began_between = self.scanner.at_boundary() && !self.scanner.after_cr();
        let mut first_content = false;
        let Self { scanner, reader, found, .. } = self;
        scanner.scan(bytes, &mut |event| {
            let notice = reader.event(&event);
            first_content |= notice.first_content;
            found.note(&notice, &event, began_between);
        });
        first_content
    }

    #[cold]
    fn at_end(&mut self) {
        let Self { scanner, reader, found, .. } = self;
        let began_between = scanner.at_boundary();
        scanner.finish(&mut |event| found.note(&reader.last_event(&event), &event, began_between));
    }
}

impl Findings {
    fn note(&mut self, notice: &Notice, event: &Event<'_>, began_between: bool) {
        self.begun |= notice.first_content;
        self.terminated |= notice.terminal;
        self.failed |= notice.failed;
        self.unnoticed |= notice.flat_error;
        if notice.failed || notice.flat_error {
            self.keep(event, began_between);
        } else {
            self.answered |= !notice.keep_alive;
        }
    }

    #[cold]
    fn keep(&mut self, event: &Event<'_>, began_between: bool) {
        let data = &event.data[..event.data.len().min(ERROR_KEPT)];
        let error = || ErrorEvent { data: data.to_vec(), opens: !self.begun, began_between };
        self.error = Some(self.error.take().unwrap_or_else(error));
    }
}
