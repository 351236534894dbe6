//! Events and answers of Anthropic's Messages API.

use super::FinishReason;
use super::json::{NotJson, Object, Value};
use super::reading::Gathered;

/// The data of one event.
///
/// Source: Anthropic docs, "Streaming Messages".
pub(super) struct StreamEvent<'a> {
    gathered: &'a mut Gathered,
    pub(super) kind: Option<Kind>,
    pub(super) content: bool,
    pub(super) error: bool,
}

impl<'a> StreamEvent<'a> {
    /// An event whose kind is known from its name, or is yet to be read.
    pub(super) fn new(kind: Option<Kind>, gathered: &'a mut Gathered) -> Self {
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
pub(super) enum Kind {
    Start,
    Content,
    Delta,
    Stop,
    Error,
    Other,
}

impl Kind {
    pub(super) fn of(kind: &[u8]) -> Self {
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
pub(super) struct Message<'a>(pub(super) &'a mut Gathered);

impl Object for Message<'_> {
    fn member(&mut self, key: &[u8], value: &mut Value<'_>) -> Result<(), NotJson> {
        match key {
            b"model" if self.0.model.is_none() => self.0.name_model(value.leaf()?.text()),
            b"stop_reason" => self.0.finish_reason = value.leaf()?.text().map(FinishReason::of_word),
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
            b"text" | b"thinking" | b"partial_json" | b"data" | b"citation" => {
                self.content |= value.filled()?;
            }
            // A tool call's first event already tells which tool.
            b"type" => self.content |= value.leaf()?.text().is_some_and(|kind| kind.ends_with("tool_use")),
            b"stop_reason" => {
                if let Some(word) = value.leaf()?.text() {
                    *self.finish_reason = Some(FinishReason::of_word(word));
                }
            }
            _ => value.skip()?,
        }
        Ok(())
    }
}
