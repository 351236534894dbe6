//! Images that are generated or edited.

use super::{
    definition::{Definition, Found, Progress},
    typed::{self, Kind, LIKE_MEDIA},
};
use crate::sse::Event;

pub(super) static DEFINITION: Definition = Definition { name: "Images", read_event, ..LIKE_MEDIA };

fn read_event(progress: &mut Progress, event: &Event<'_>) -> Found {
    typed::read_event(progress, event, kind_of)
}

/// Source: OpenAI API reference, "Image generation streaming events", "Image edit streaming events". Each image of a request for several
/// has its own `completed`, so that event is not the end of the stream; nothing else is.
fn kind_of(kind: &[u8]) -> Kind {
    match kind {
        b"image_generation.partial_image" | b"image_edit.partial_image" => Kind::Piece,
        b"image_generation.completed" | b"image_edit.completed" => Kind::Finish,
        _ => Kind::Other,
    }
}
