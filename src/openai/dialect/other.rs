//! Operations of which no dialect is known. Their answers are read as far as they resemble those of the known ones.

use memchr::memmem;
use serde::Deserialize;

use super::{
    super::{flat_error::is_flat_error, json, ordinary::Ordinary, usage::CachedTokens},
    chat,
    definition::{Definition, Found, Progress},
    event_type::{event_type, is_keep_alive_name},
};
use crate::sse::Event;

pub(super) static DEFINITION: Definition = LIKE_OTHER;

/// The type of the last event of a failed response (Responses API).
const FAILED: &[u8] = b"response.failed";

/// For a dialect to begin with.
pub(super) const LIKE_OTHER: Definition = Definition {
    name: "Other",
    has_terminal_event: false,
    raises_on_error_event: false,
    is_numbered: false,
    is_lines: false,
    stays_open: false,
    cached_tokens: CachedTokens::PartOfInput,
    ordinary: Ordinary::chat,
    read_event,
    read_answer: chat::read_answer,
    error_event: chat::error_event,
};

/// The data of an event need not be JSON here.
pub(super) fn read_event(progress: &mut Progress, event: &Event<'_>) -> Found {
    let kind = event_type(event);
    let mut error = event.name == b"error";
    let mut flat_error = false;
    let contains = |key: &[u8]| memmem::find(event.data, key).is_some();
    let names_model = progress.gathered.model.is_none() && contains(b"\"model\"");
    if names_model || contains(b"\"usage\"") || contains(b"\"error\"") {
        progress.parsed += 1;
        let mut body = chat::Body::new(&mut progress.gathered, &mut progress.choices);
        // Data that is not JSON may be intended here.
        error |= json::read(event.data, &mut body).is_ok() && body.error;
        flat_error = !error && body.choice_count == 0 && is_flat_error(event.data);
    }
    let keep_alive = kind.is_some_and(is_keep_alive_name);
    Found {
        content: !error && !flat_error && !keep_alive,
        error,
        flat_error,
        failure: kind == Some(FAILED)
            || (kind.is_none() && contains(b"\"response.failed\"") && has_failed(event)),
        ..Found::default()
    }
}

/// Whether the event's `type`, wherever it stands in the data, says that a response failed.
#[cold]
fn has_failed(event: &Event<'_>) -> bool {
    #[derive(Deserialize)]
    struct Typed {
        r#type: String,
    }
    serde_json::from_slice::<Typed>(event.data).is_ok_and(|event| event.r#type.as_bytes() == FAILED)
}
