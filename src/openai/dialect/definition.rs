//! What a dialect consists of.

use bytes::Bytes;

use super::super::{
    choices::Choices,
    json::{self, NotJson, Object, Shape},
    ordinary::Ordinary,
    reading::Gathered,
    usage::CachedTokens,
};
use crate::{outline::Members, sse::Event};

/// Everything that depends on the dialect. Each dialect's file has one of these.
pub(in crate::openai) struct Definition {
    /// For `Debug`.
    pub(in crate::openai) name: &'static str,
    /// The dialect says how its streams end, so that a missing end is an error.
    pub(in crate::openai) has_terminal_event: bool,
    /// The SDKs raise an exception on an error event of this dialect.
    pub(in crate::openai) raises_on_error_event: bool,
    /// Events carry a `sequence_number`.
    pub(in crate::openai) is_numbered: bool,
    /// Streams are JSON, one document in each line, and not server-sent events.
    pub(in crate::openai) is_lines: bool,
    /// Streams have no end by design, and may be silent for any length of time.
    pub(in crate::openai) stays_open: bool,
    /// How its usage counts the tokens found in a cache.
    pub(in crate::openai) cached_tokens: CachedTokens,
    /// What its ordinary events have in common.
    pub(in crate::openai) ordinary: fn() -> Ordinary,
    /// Reads one event of a stream, except `[DONE]`.
    pub(in crate::openai) read_event: fn(&mut Progress, &Event<'_>) -> Found,
    /// Reads a JSON answer, whole or from its beginning. What precedes an error is read nevertheless.
    pub(in crate::openai) read_answer: fn(&[u8], &mut Gathered) -> Result<Shape, NotJson>,
    /// Writes an error as an event; the number is the `sequence_number` that the stream would continue with.
    pub(in crate::openai) error_event: fn(&ErrorNotice<'_>, u64) -> Bytes,
}

/// What the events of a stream have said so far.
#[derive(Debug)]
pub(in crate::openai) struct Progress {
    pub(in crate::openai) gathered: Gathered,
    pub(in crate::openai) choices: Choices,
    pub(in crate::openai) ordinary: Ordinary,
    /// An event with content has been seen.
    pub(in crate::openai) content_seen: bool,
    /// The answer is whole if the stream ends in order now, though its terminal event may be missing.
    pub(in crate::openai) finished: bool,
    /// The last `sequence_number`.
    pub(in crate::openai) sequence: Option<u64>,
    /// Events whose data was parsed.
    pub(in crate::openai) parsed: u64,
}

/// What a dialect finds in one event.
#[derive(Debug, Default, Clone, Copy)]
pub(in crate::openai) struct Found {
    /// A piece of the output.
    pub(in crate::openai) content: bool,
    /// The event ends the stream.
    pub(in crate::openai) terminal: Option<Terminal>,
    /// The event is an error event.
    pub(in crate::openai) error: bool,
    /// The event is not an error event, but says that the answer failed.
    pub(in crate::openai) failure: bool,
    /// The event is an error without an envelope, which SDKs take for a chunk.
    pub(in crate::openai) flat_error: bool,
    /// The data should be JSON and is not.
    pub(in crate::openai) malformed: bool,
}

/// What is kept of events and answers that are too long to be kept whole: every member that a dialect reads.
pub static OUTLINED: Members = Members {
    named: &[
        b"type",
        b"model",
        b"status",
        b"sequence_number",
        b"choices",
        b"index",
        b"finish_reason",
        b"stop_reason",
        b"message",
        b"delta",
        b"response",
        b"output",
        b"item",
        b"incomplete_details",
        b"reason",
        b"x_groq",
        // The pieces of media streams, which show that there is content.
        b"audio",
        b"b64_json",
        b"text",
        // Gemini's own API.
        b"candidates",
        b"finishReason",
        b"modelVersion",
    ],
    whole: &[b"usage", b"error", b"usageMetadata"],
};

/// Reads the data of an event into `object`; true if it should be JSON and is not. Of an oversized event only an outline is there, which
/// may be broken.
pub(in crate::openai) fn is_malformed(event: &Event<'_>, object: &mut impl Object) -> bool {
    json::read(event.data, object).is_err() && !event.oversized
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
    /// `speech.audio.done`, `transcript.text.done`, a line with `"done": true`
    Last,
}

/// An error that is written into a stream.
#[derive(Debug, Clone, Copy)]
pub struct ErrorNotice<'a> {
    /// The whole error as JSON, in the form of an OpenAI error response.
    pub body: &'a str,
    /// `message`
    pub message: &'a str,
    /// `type`, if the upstream gave one.
    pub kind: Option<&'a str>,
    /// `code`
    pub code: &'a str,
    /// `param`
    pub param: Option<&'a str>,
}
