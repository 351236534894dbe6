//! The dialects of the APIs: how their requests, responses and streams differ.

mod chat;
mod completions;
mod definition;
mod event_type;
mod gemini;
mod images;
mod messages;
mod ollama;
mod other;
mod responses;
mod sessions;
mod speech;
mod threads;
mod transcriptions;
mod typed;

use std::{fmt, ptr};

use bytes::Bytes;

pub(super) use definition::{Definition, Found, Progress};
pub use definition::{ErrorNotice, OUTLINED, Terminal};
pub(super) use event_type::is_keep_alive_name;

/// How the requests and responses of an operation are read, and how errors are written into its streams.
///
/// A dialect is one file beside this one, which has its `Definition`, and one constant here.
#[derive(Clone, Copy)]
pub struct Dialect(&'static Definition);

impl Dialect {
    /// Chat completions: events without a name, `[DONE]` at the end.
    pub const CHAT: Self = Self(&chat::DEFINITION);
    /// Legacy completions: like chat, with `text` in place of `delta`.
    pub const COMPLETIONS: Self = Self(&completions::DEFINITION);
    /// Responses: named events with a sequence number, no `[DONE]`.
    pub const RESPONSES: Self = Self(&responses::DEFINITION);
    /// Anthropic Messages: named events, `message_stop` at the end.
    pub const MESSAGES: Self = Self(&messages::DEFINITION);
    /// Images: named events, `image_generation.completed` or `image_edit.completed` for each image.
    pub const IMAGES: Self = Self(&images::DEFINITION);
    /// Speech: named events, `speech.audio.done` at the end.
    pub const SPEECH: Self = Self(&speech::DEFINITION);
    /// Transcriptions: named events, `transcript.text.done` at the end.
    pub const TRANSCRIPTIONS: Self = Self(&transcriptions::DEFINITION);
    /// Runs of Assistants threads: named events, `done` with `[DONE]` at the end.
    pub const THREADS: Self = Self(&threads::DEFINITION);
    /// Agents' sessions: named events, no end.
    pub const SESSIONS: Self = Self(&sessions::DEFINITION);
    /// Gemini's own API: events without a name and without a terminal event.
    pub const GEMINI: Self = Self(&gemini::DEFINITION);
    /// Ollama's own API: JSON in lines, the last of which has `"done": true`.
    pub const OLLAMA: Self = Self(&ollama::DEFINITION);
    /// Anything else; it is read as far as it resembles one of the others.
    pub const OTHER: Self = Self(&other::DEFINITION);

    /// Whether the dialect says how its streams end: a stream without such an end is incomplete.
    pub fn has_terminal_event(self) -> bool {
        self.0.has_terminal_event
    }

    /// Whether the SDKs raise an exception on an error event of this dialect, so that the stream may end in order after it. Otherwise
    /// only an aborted transport makes them raise.
    pub fn raises_on_error_event(self) -> bool {
        self.0.raises_on_error_event
    }

    /// Whether streams are JSON, one document in each line, and not server-sent events.
    pub fn is_lines(self) -> bool {
        self.0.is_lines
    }

    /// Whether streams have no end by design and may be silent for any length of time, so that silence is no failure.
    pub fn stays_open(self) -> bool {
        self.0.stays_open
    }

    /// The event that tells a client of `error`. `next_sequence` is the `sequence_number` that the stream would continue with; dialects
    /// without numbers ignore it.
    pub fn error_event(self, error: &ErrorNotice<'_>, next_sequence: u64) -> Bytes {
        (self.0.error_event)(error, next_sequence)
    }

    pub(super) fn definition(self) -> &'static Definition {
        self.0
    }
}

impl PartialEq for Dialect {
    fn eq(&self, other: &Self) -> bool {
        ptr::eq(self.0, other.0)
    }
}

impl Eq for Dialect {}

impl fmt::Debug for Dialect {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.0.name)
    }
}
