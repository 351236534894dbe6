//! Streams whose events have a `type` and carry pieces of media, or of a run: what their dialects have in common.

use super::{
    super::{
        json::{NotJson, Object, Value},
        reading::Gathered,
    },
    chat,
    definition::{Definition, Found, Progress, Terminal, is_malformed},
    event_type::event_type,
};
use crate::sse::Event;

/// For a dialect to begin with. Both SDKs raise on an `error` member in streams that they read (openai-python, `src/openai/_streaming.py`;
/// openai-node, `src/core/streaming.ts`), so the error event is that of chat.
pub(super) const LIKE_MEDIA: Definition = Definition { name: "Media", ..chat::LIKE_CHAT };

/// What an event's `type` says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    /// A piece of the output.
    Piece,
    /// The answer is whole if the stream ends in order after this event; more may follow.
    Finish,
    /// The same, and the event says that the answer failed.
    Failure,
    /// The last event of the stream.
    Last,
    /// Anything else.
    Other,
}

/// Reads one event; `kind_of` knows the types of the dialect.
pub(super) fn read_event(progress: &mut Progress, event: &Event<'_>, kind_of: fn(&[u8]) -> Kind) -> Found {
    let kind = event_type(event).map(kind_of);
    if progress.content_seen && kind == Some(Kind::Piece) {
        progress.finished = false;
        return Found { content: true, ..Found::default() };
    }
    progress.parsed += 1;
    let mut read = TypedEvent { gathered: &mut progress.gathered, kind, kind_of, piece: false, error: false };
    let malformed = is_malformed(event, &mut read);
    let TypedEvent { kind, piece, error, .. } = read;
    let kind = kind.unwrap_or(Kind::Other);
    match kind {
        Kind::Piece => progress.finished = false,
        Kind::Finish | Kind::Failure => progress.finished = true,
        Kind::Last | Kind::Other => {}
    }
    Found {
        content: kind != Kind::Other && piece,
        terminal: (kind == Kind::Last).then_some(Terminal::Last),
        error: error || event.name == b"error",
        failure: kind == Kind::Failure,
        flat_error: false,
        malformed,
    }
}

/// The data of one event.
///
/// Sources: OpenAI API reference, "Image streaming events", "Speech streaming events", "Transcription streaming events", "Assistant stream
/// events".
struct TypedEvent<'a> {
    gathered: &'a mut Gathered,
    kind: Option<Kind>,
    kind_of: fn(&[u8]) -> Kind,
    /// A member that carries output is not empty.
    piece: bool,
    error: bool,
}

impl Object for TypedEvent<'_> {
    fn member(&mut self, key: &[u8], value: &mut Value<'_>) -> Result<(), NotJson> {
        match key {
            b"type" if self.kind.is_none() => {
                self.kind = value.leaf()?.text().map(|kind| (self.kind_of)(kind.as_bytes()));
            }
            b"delta" | b"audio" | b"b64_json" | b"text" => self.piece |= value.filled()?,
            b"model" if self.gathered.model.is_none() => self.gathered.name_model(value.leaf()?.text()),
            b"usage" => drop(self.gathered.read_usage(value)?),
            b"error" => self.error |= value.leaf()?.truthy(),
            _ => value.skip()?,
        }
        Ok(())
    }
}
