//! Runs of Assistants threads. Their last event is `done` with the data `[DONE]`.

use super::{
    definition::{Definition, Found, Progress},
    typed::{self, Kind, LIKE_MEDIA},
};
use crate::sse::Event;

pub(super) static DEFINITION: Definition = Definition { name: "Threads", read_event, ..LIKE_MEDIA };

fn read_event(progress: &mut Progress, event: &Event<'_>) -> Found {
    typed::read_event(progress, event, kind_of)
}

/// Source: OpenAI API reference, "Assistant stream events". A run that requires an action goes on in another stream.
fn kind_of(kind: &[u8]) -> Kind {
    match kind {
        b"thread.message.delta" | b"thread.run.step.delta" => Kind::Piece,
        b"thread.run.completed"
        | b"thread.run.incomplete"
        | b"thread.run.cancelled"
        | b"thread.run.expired"
        | b"thread.run.requires_action" => Kind::Finish,
        b"thread.run.failed" => Kind::Failure,
        _ => Kind::Other,
    }
}
