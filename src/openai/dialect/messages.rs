//! Anthropic's Messages API.

use bytes::Bytes;
use serde::Serialize;

use super::{
    super::{
        FinishReason,
        flat_error::is_flat_error,
        json::{self, NotJson, Object, Shape, Value},
        ordinary::Ordinary,
        reading::Gathered,
        usage::CachedTokens,
    },
    definition::{Definition, ErrorNotice, Found, Progress, Terminal, is_malformed},
    event_type::event_type,
};
use crate::sse::{Event, writer};

pub(super) static DEFINITION: Definition = Definition {
    name: "Messages",
    has_terminal_event: true,
    // anthropic-sdk-python, `src/anthropic/_streaming.py`.
    raises_on_error_event: true,
    is_numbered: false,
    is_lines: false,
    stays_open: false,
    cached_tokens: CachedTokens::BesideInput,
    ordinary: Ordinary::chat,
    read_event,
    read_answer,
    error_event,
};

fn read_event(progress: &mut Progress, event: &Event<'_>) -> Found {
    let kind = event_type(event).map(Kind::of);
    let mut read = StreamEvent::new(kind, &mut progress.gathered);
    let says_something = match kind {
        Some(Kind::Content) => !progress.content_seen,
        Some(Kind::Stop | Kind::Other) => false,
        Some(Kind::Start | Kind::Delta | Kind::Error) | None => true,
    };
    let mut malformed = false;
    if says_something {
        progress.parsed += 1;
        malformed = is_malformed(event, &mut read);
    }
    let (kind, content, error) = (read.kind, read.content, read.error);
    // All events of a Messages stream have a name.
    let may_be_flat = matches!(kind, None | Some(Kind::Other)) && event.name.is_empty() && !error;
    progress.finished |= kind == Some(Kind::Delta) && progress.gathered.finish_reason.is_some();
    Found {
        content: kind == Some(Kind::Content) && (content || event.oversized),
        terminal: (kind == Some(Kind::Stop)).then_some(Terminal::MessageStop),
        error: error || kind == Some(Kind::Error),
        flat_error: may_be_flat && is_flat_error(event.data),
        malformed,
        ..Found::default()
    }
}

fn read_answer(json: &[u8], gathered: &mut Gathered) -> Result<Shape, NotJson> {
    json::read(json, &mut Message(gathered))
}

/// Source: Anthropic docs, "Streaming Messages", "Error events".
pub(super) fn error_event(error: &ErrorNotice<'_>, _next_sequence: u64) -> Bytes {
    #[derive(Serialize)]
    struct Data<'a> {
        #[serde(rename = "type")]
        kind: &'static str,
        error: ErrorObject<'a>,
    }
    #[derive(Serialize)]
    struct ErrorObject<'a> {
        #[serde(rename = "type")]
        kind: &'a str,
        message: &'a str,
    }
    let object = ErrorObject { kind: error.kind.unwrap_or("api_error"), message: error.message };
    let data = serde_json::to_string(&Data { kind: "error", error: object });
    writer::event("error", &data.unwrap_or_else(|_| error.body.to_owned()))
}

/// The data of one event.
///
/// Source: Anthropic docs, "Streaming Messages".
struct StreamEvent<'a> {
    gathered: &'a mut Gathered,
    kind: Option<Kind>,
    content: bool,
    error: bool,
}

impl<'a> StreamEvent<'a> {
    /// An event whose kind is known from its name, or is yet to be read.
    fn new(kind: Option<Kind>, gathered: &'a mut Gathered) -> Self {
        Self { gathered, kind, content: false, error: false }
    }
}

impl Object for StreamEvent<'_> {
    fn member(&mut self, key: &[u8], value: &mut Value<'_>) -> Result<(), NotJson> {
        match key {
            b"type" if self.kind.is_none() => {
                self.kind = value.leaf()?.text().map(|kind| Kind::of(kind.as_bytes()));
            }
            b"message" => {
                value.object(&mut Message(self.gathered))?;
            }
            b"usage" => {
                self.gathered.read_usage(value)?;
            }
            b"delta" | b"content_block" => {
                let mut piece = Piece { finish_reason: &mut self.gathered.finish_reason, content: false };
                value.object(&mut piece)?;
                self.content |= piece.content;
            }
            b"error" => self.error |= value.leaf()?.truthy(),
            _ => value.skip()?,
        }
        Ok(())
    }
}

/// What matters of an event's `type`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    Start,
    Content,
    Delta,
    Stop,
    Error,
    Other,
}

impl Kind {
    fn of(kind: &[u8]) -> Self {
        match kind {
            b"message_start" => Self::Start,
            b"content_block_start" | b"content_block_delta" => Self::Content,
            b"message_delta" => Self::Delta,
            b"message_stop" => Self::Stop,
            b"error" => Self::Error,
            _ => Self::Other,
        }
    }
}

/// The message object: a whole answer, or a member of `message_start`.
struct Message<'a>(&'a mut Gathered);

impl Object for Message<'_> {
    fn member(&mut self, key: &[u8], value: &mut Value<'_>) -> Result<(), NotJson> {
        match key {
            b"model" if self.0.model.is_none() => self.0.name_model(value.leaf()?.text()),
            b"stop_reason" => self.0.finish_reason = value.leaf()?.text().and_then(FinishReason::of_word),
            b"usage" => {
                self.0.read_usage(value)?;
            }
            _ => value.skip()?,
        }
        Ok(())
    }
}

/// A delta or the beginning of a content block.
struct Piece<'a> {
    finish_reason: &'a mut Option<FinishReason>,
    content: bool,
}

impl Object for Piece<'_> {
    fn member(&mut self, key: &[u8], value: &mut Value<'_>) -> Result<(), NotJson> {
        match key {
            // A tool call's first event already tells which tool.
            b"type" => self.content |= value.leaf()?.text().is_some_and(|kind| kind.ends_with("tool_use")),
            b"stop_reason" => {
                if let Some(word) = value.leaf()?.text() {
                    *self.finish_reason = FinishReason::of_word(word).or(*self.finish_reason);
                }
            }
            _ => self.content |= value.filled()?,
        }
        Ok(())
    }
}
