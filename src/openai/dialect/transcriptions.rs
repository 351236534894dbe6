//! Transcriptions of speech.

use super::{
    definition::{Definition, Found, Progress},
    typed::{self, Kind, LIKE_MEDIA},
};
use crate::sse::Event;

pub(super) static DEFINITION: Definition = Definition { name: "Transcriptions", read_event, ..LIKE_MEDIA };

fn read_event(progress: &mut Progress, event: &Event<'_>) -> Found {
    typed::read_event(progress, event, kind_of)
}

/// Source: OpenAI API reference, "Transcription streaming events".
fn kind_of(kind: &[u8]) -> Kind {
    match kind {
        b"transcript.text.delta" | b"transcript.text.segment" => Kind::Piece,
        b"transcript.text.done" => Kind::Last,
        _ => Kind::Other,
    }
}
