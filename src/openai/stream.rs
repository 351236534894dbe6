//! Reading a stream of events as they pass.

use memchr::memmem;

use super::chat::{Body, Choices};
use super::json;
use super::ordinary::Ordinary;
use super::reading::Gathered;
use super::{Dialect, Reading, messages, responses};
use crate::sse::Event;

/// What one event is to the exchange.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
pub struct Notice {
    /// The first event with a piece of the output: text, reasoning, refusal, audio or tool call. True exactly once.
    pub first_content: bool,
    /// The event that ends the stream in its dialect.
    pub terminal: bool,
    /// An error event of the upstream. (`response.failed` is not one: it is a terminal event.)
    pub error: bool,
    /// The data should be JSON and is not.
    pub malformed: bool,
}

/// The event that ended a stream.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Terminal {
    /// `[DONE]`
    Done,
    /// `response.completed`
    Completed,
    /// `response.failed`
    Failed,
    /// `response.incomplete`
    Incomplete,
    /// `message_stop`
    MessageStop,
}

/// How many events there were of each kind.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
pub struct Counts {
    /// All events.
    pub events: u64,
    /// Events whose data was parsed; the others were judged by a look.
    pub parsed: u64,
    /// Error events.
    pub errors: u64,
    /// Events whose data should have been JSON and was not.
    pub malformed: u64,
}

/// Reads one stream in one dialect, event by event, parsing only those that can tell something.
///
/// Memory: one model name and one chunk's pattern, about 1 KiB at most.
#[derive(Debug)]
pub struct StreamReader {
    dialect: Dialect,
    gathered: Gathered,
    choices: Choices,
    ordinary: Ordinary,
    counts: Counts,
    content_seen: bool,
    terminal: Option<Terminal>,
    sequence: Option<u64>,
}

/// What a dialect finds in one event.
#[derive(Default)]
struct Found {
    content: bool,
    terminal: Option<Terminal>,
    error: bool,
    malformed: bool,
}

impl StreamReader {
    /// A reader at the start of a stream.
    pub fn new(dialect: Dialect) -> Self {
        Self {
            dialect,
            gathered: Gathered::default(),
            choices: Choices::default(),
            ordinary: if dialect == Dialect::Completions {
                Ordinary::completions()
            } else {
                Ordinary::chat()
            },
            counts: Counts::default(),
            content_seen: false,
            terminal: None,
            sequence: None,
        }
    }

    /// Takes in the next event.
    #[inline]
    pub fn event(&mut self, event: &Event<'_>) -> Notice {
        self.counts.events += 1;
        // Whatever the dialect, the SDKs stop here, and look at the beginning alone
        // (openai-python, `src/openai/_streaming.py`).
        if event.data.starts_with(b"[DONE]") {
            return self.notice(&Found { terminal: Some(Terminal::Done), ..Found::default() });
        }
        let found = match self.dialect {
            Dialect::Chat | Dialect::Completions => self.chunk(event),
            Dialect::Responses => self.response_event(event),
            Dialect::Messages => self.message_event(event),
            Dialect::Other => self.other_event(event),
        };
        self.notice(&found)
    }

    /// What the stream has told so far.
    pub fn reading(&self) -> Reading {
        self.gathered.reading(self.dialect)
    }

    /// The terminal event, once it was seen.
    pub fn terminal(&self) -> Option<Terminal> {
        self.terminal
    }

    /// Whether choices were seen and each of them has its finish reason: the answer is then whole, though `[DONE]` may
    /// be missing. Chat and completions only.
    pub fn all_finished(&self) -> bool {
        self.choices.all_finished()
    }

    /// The `sequence_number` that the next event of a Responses stream would have; 0 at the start, none for other
    /// dialects or after the last number there is.
    pub fn next_sequence(&self) -> Option<u64> {
        if self.dialect != Dialect::Responses {
            return None;
        }
        self.sequence.map_or(Some(0), |last| last.checked_add(1))
    }

    /// How many events there were of each kind.
    pub fn counts(&self) -> Counts {
        self.counts
    }

    #[inline]
    fn notice(&mut self, found: &Found) -> Notice {
        let first_content = found.content && !self.content_seen;
        self.content_seen |= found.content;
        self.terminal = found.terminal.or(self.terminal);
        self.counts.errors += u64::from(found.error);
        self.counts.malformed += u64::from(found.malformed);
        Notice {
            first_content,
            terminal: found.terminal.is_some(),
            error: found.error,
            malformed: found.malformed,
        }
    }

    #[inline]
    fn chunk(&mut self, event: &Event<'_>) -> Found {
        if self.content_seen && event.name != b"error" && self.ordinary.matches(event.data) {
            return Found { content: true, ..Found::default() };
        }
        self.uncommon_chunk(event)
    }

    /// A chunk that is not known to tell nothing.
    fn uncommon_chunk(&mut self, event: &Event<'_>) -> Found {
        let named_error = event.name == b"error";
        if event.oversized {
            // No role-only chunk has a mebibyte.
            return Found { content: !named_error, error: named_error, ..Found::default() };
        }
        self.counts.parsed += 1;
        let mut body = Body::new(&mut self.gathered, &mut self.choices);
        let malformed = json::read(event.data, &mut body).is_err();
        let error = body.error || named_error;
        let ordinary = !malformed && !error && !body.finished && !body.usage && body.choice_count == 1;
        let content = body.content;
        if ordinary && (content || self.content_seen) {
            self.ordinary.learn(event.data);
        }
        Found { content, error, malformed, terminal: None }
    }

    fn response_event(&mut self, event: &Event<'_>) -> Found {
        use responses::{Kind, StreamEvent, certain_sequence, leading_type};
        let kind = telling_name(event).or_else(|| leading_type(event.data)).map(Kind::of);
        if self.content_seen
            && matches!(kind, Some(Kind::Delta | Kind::PartialImage | Kind::ItemAdded | Kind::Other))
            && let Some(sequence) = certain_sequence(event.data)
        {
            self.sequence = Some(sequence);
            return Found::default();
        }
        let mut read = StreamEvent::new(kind, &mut self.gathered);
        let mut malformed = false;
        if !event.oversized {
            self.counts.parsed += 1;
            malformed = json::read(event.data, &mut read).is_err();
        }
        // An event that was not read has taken its number all the same.
        self.sequence = read.sequence.or_else(|| self.sequence.map_or(Some(0), |last| last.checked_add(1)));
        let kind = read.kind();
        Found {
            content: read.content() || (event.oversized && kind == Kind::Delta),
            terminal: if let Kind::Terminal(terminal) = kind { Some(terminal) } else { None },
            error: read.error || kind == Kind::Error,
            malformed,
        }
    }

    fn message_event(&mut self, event: &Event<'_>) -> Found {
        use messages::{Kind, StreamEvent};
        let kind = telling_name(event).or_else(|| responses::leading_type(event.data)).map(Kind::of);
        let mut read = StreamEvent::new(kind, &mut self.gathered);
        let told = match kind {
            Some(Kind::Content) => !self.content_seen,
            Some(Kind::Stop | Kind::Other) => false,
            Some(Kind::Start | Kind::Delta | Kind::Error) | None => true,
        };
        let mut malformed = false;
        if told && !event.oversized {
            self.counts.parsed += 1;
            malformed = json::read(event.data, &mut read).is_err();
        }
        Found {
            content: read.kind == Some(Kind::Content) && (read.content || event.oversized),
            terminal: (read.kind == Some(Kind::Stop)).then_some(Terminal::MessageStop),
            error: read.error || read.kind == Some(Kind::Error),
            malformed,
        }
    }

    /// An event of which only is known that it is one. Its data need not be JSON.
    fn other_event(&mut self, event: &Event<'_>) -> Found {
        let mut error = event.name == b"error";
        let told = |key: &[u8]| memmem::find(event.data, key).is_some();
        let model_told = self.gathered.model.is_none() && told(b"\"model\"");
        if model_told || told(b"\"usage\"") || told(b"\"error\"") {
            self.counts.parsed += 1;
            let mut body = Body::new(&mut self.gathered, &mut self.choices);
            // What is not JSON here may be meant so.
            error |= json::read(event.data, &mut body).is_ok() && body.error;
        }
        Found { content: !error && (event.oversized || !event.data.is_empty()), error, ..Found::default() }
    }
}

/// The event's name, if it says more than none would: `message` is the name of an event without one (WHATWG HTML,
/// "Interpreting an event stream"), and some upstreams write it out.
fn telling_name<'a>(event: &Event<'a>) -> Option<&'a [u8]> {
    Some(event.name).filter(|name| !matches!(*name, b"" | b"message"))
}

#[cfg(test)]
mod tests;
