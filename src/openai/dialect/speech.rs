//! Speech, with `stream_format: "sse"`.

use super::{
    definition::{Definition, Found, Progress},
    typed::{self, Kind, LIKE_MEDIA},
};
use crate::sse::Event;

/// The SDKs hand on the bytes of speech and read no events (openai-python, `src/openai/resources/audio/speech.py`; openai-node,
/// `src/resources/audio/speech.ts`). They raise only when the transport is aborted.
pub(super) static DEFINITION: Definition =
    Definition { name: "Speech", raises_on_error_event: false, read_event, ..LIKE_MEDIA };

fn read_event(progress: &mut Progress, event: &Event<'_>) -> Found {
    typed::read_event(progress, event, kind_of)
}

/// Source: OpenAI API reference, "Speech streaming events".
fn kind_of(kind: &[u8]) -> Kind {
    match kind {
        b"speech.audio.delta" => Kind::Piece,
        b"speech.audio.done" => Kind::Last,
        _ => Kind::Other,
    }
}
