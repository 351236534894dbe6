//! Events and answers of Anthropic's Messages API.

use serde::de::MapAccess;

use super::FinishReason;
use super::json::{Leaf, Object, Read, skip};
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
    fn member<'de, A: MapAccess<'de>>(&mut self, key: &str, map: &mut A) -> Result<(), A::Error> {
        match key {
            "type" if self.kind.is_none() => {
                self.kind = Leaf::of(map)?.text().map(|kind| Kind::of(kind.as_bytes()));
            }
            "message" => {
                map.next_value_seed(Read(&mut Message(self.gathered)))?;
            }
            "usage" => {
                self.gathered.read_usage(map)?;
            }
            "delta" | "content_block" => {
                let mut piece = Piece { finish_reason: &mut self.gathered.finish_reason, content: false };
                map.next_value_seed(Read(&mut piece))?;
                self.content |= piece.content;
            }
            "error" => self.error |= Leaf::of(map)?.truthy(),
            _ => skip(map)?,
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
    fn member<'de, A: MapAccess<'de>>(&mut self, key: &str, map: &mut A) -> Result<(), A::Error> {
        match key {
            "model" if self.0.model.is_none() => self.0.name_model(Leaf::of(map)?.text()),
            "stop_reason" => self.0.finish_reason = Leaf::of(map)?.text().map(FinishReason::of_word),
            "usage" => {
                self.0.read_usage(map)?;
            }
            _ => skip(map)?,
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
    fn member<'de, A: MapAccess<'de>>(&mut self, key: &str, map: &mut A) -> Result<(), A::Error> {
        match key {
            "text" | "thinking" | "partial_json" | "data" | "citation" => {
                self.content |= Leaf::of(map)?.filled();
            }
            // A tool call's first event already tells which tool.
            "type" => self.content |= Leaf::of(map)?.text().is_some_and(|kind| kind.ends_with("tool_use")),
            "stop_reason" => {
                if let Some(word) = Leaf::of(map)?.text() {
                    *self.finish_reason = Some(FinishReason::of_word(word));
                }
            }
            _ => skip(map)?,
        }
        Ok(())
    }
}
