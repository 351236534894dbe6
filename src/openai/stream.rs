//! Reading a stream of events as they pass.

use super::{
    Dialect, Reading, Terminal,
    choices::Choices,
    dialect::{Found, Progress, is_keep_alive_name},
    reading::Gathered,
};
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
    /// The upstream says that it failed: an error event, or `response.failed`.
    pub failed: bool,
    /// An error of the upstream that SDKs take for a chunk, because it has no envelope ([`is_flat_error`](super::is_flat_error)). Not counted
    /// in `failed`: without more, a client would not notice that the answer is not whole.
    pub flat_error: bool,
    /// The data should be JSON and is not.
    pub malformed: bool,
    /// The event says nothing but that the connection is alive. It need not be JSON.
    pub keep_alive: bool,
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

/// Reads one stream in one dialect, event by event, parsing only events that can say something new.
///
/// Memory: one model name and the pattern of one chunk, about 1 KiB at most.
#[derive(Debug)]
pub struct StreamReader {
    dialect: Dialect,
    progress: Progress,
    counts: Counts,
    terminal: Option<Terminal>,
}

impl StreamReader {
    /// A reader at the start of a stream.
    pub fn new(dialect: Dialect) -> Self {
        let progress = Progress {
            gathered: Gathered::default(),
            choices: Choices::default(),
            ordinary: (dialect.definition().ordinary)(),
            content_seen: false,
            finished: false,
            sequence: None,
            parsed: 0,
        };
        Self { dialect, progress, counts: Counts::default(), terminal: None }
    }

    /// Takes in the next event.
    #[inline]
    pub fn event(&mut self, event: &Event<'_>) -> Notice {
        self.counts.events += 1;
        if is_keep_alive(event) {
            return Notice { keep_alive: true, ..Notice::default() };
        }
        // In every dialect the SDKs stop here, and look only at the beginning of the data
        // (openai-python, `src/openai/_streaming.py`).
        let found = if event.data.starts_with(b"[DONE]") {
            Found { terminal: Some(Terminal::Done), ..Found::default() }
        } else {
            (self.dialect.definition().read_event)(&mut self.progress, event)
        };
        self.notice(found)
    }

    /// Takes in an event that the end of the stream left without its blank line. Half of one, whatever its name, says nothing.
    #[cold]
    pub fn last_event(&mut self, event: &Event<'_>) -> Notice {
        let is_json = || serde_json::from_slice::<serde::de::IgnoredAny>(event.data).is_ok();
        if event.data.starts_with(b"[DONE]") || is_json() { self.event(event) } else { Notice::default() }
    }

    /// Takes in the usage of a chunk that is not part of the stream as its reader gets it ([`is_usage_event`](super::is_usage_event)).
    #[cold]
    pub fn removed(&mut self, event: &Event<'_>) {
        (self.dialect.definition().read_event)(&mut self.progress, event);
    }

    /// What the stream has said so far.
    pub fn reading(&self) -> Reading {
        self.progress.gathered.reading(self.dialect.definition().cached_tokens)
    }

    /// The terminal event, once it was seen.
    pub fn terminal(&self) -> Option<Terminal> {
        self.terminal
    }

    /// Whether the answer is whole if the stream ends in order now, though its terminal event may be missing: choices were seen and each
    /// of them has its finish reason (chat, completions), the message has its `stop_reason` (Messages), the run or the image is done.
    pub fn all_finished(&self) -> bool {
        self.progress.finished || self.progress.choices.all_finished()
    }

    /// The `sequence_number` that the next event of a Responses stream would have; 0 at the start, `None` for other
    /// dialects or after the largest number there is.
    pub fn next_sequence(&self) -> Option<u64> {
        if !self.dialect.definition().is_numbered {
            return None;
        }
        self.progress.sequence.map_or(Some(0), |last| last.checked_add(1))
    }

    /// How many events there were of each kind.
    pub fn counts(&self) -> Counts {
        Counts { parsed: self.progress.parsed, ..self.counts }
    }

    #[inline]
    fn notice(&mut self, found: Found) -> Notice {
        let first_content = found.content && !self.progress.content_seen;
        self.progress.content_seen |= found.content;
        self.terminal = found.terminal.or(self.terminal);
        self.counts.errors += u64::from(found.error || found.flat_error);
        self.counts.malformed += u64::from(found.malformed);
        Notice {
            first_content,
            terminal: found.terminal.is_some(),
            error: found.error,
            failed: found.error || found.failure,
            flat_error: found.flat_error,
            malformed: found.malformed,
            keep_alive: false,
        }
    }
}

/// Whether an event has nothing to read: no data but white space, or the name of a keep-alive and data that is no object. A
/// keep-alive with an object is left to the dialect, because it may have a number (OpenAI's `keepalive` in Responses has).
#[inline]
fn is_keep_alive(event: &Event<'_>) -> bool {
    let first = event.data.iter().find(|byte| !byte.is_ascii_whitespace());
    match first {
        Some(b'{') => false,
        None => !event.oversized && event.name != b"error",
        Some(_) => is_keep_alive_name(event.name),
    }
}

#[cfg(test)]
mod tests;
