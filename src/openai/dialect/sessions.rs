//! Events of agents' sessions. Their streams stay open by design, and say nothing while the agent does nothing.

use super::{
    definition::{Definition, Found, Progress},
    messages, other,
};
use crate::sse::Event;

/// The error event is Anthropic's, whose SDKs raise on it (anthropic-sdk-python, `src/anthropic/_streaming.py`). Those of OpenAI do not
/// raise on any event of a session, so the transport is aborted as well.
pub(super) static DEFINITION: Definition = Definition {
    name: "Sessions",
    stays_open: true,
    read_event,
    error_event: messages::error_event,
    ..other::LIKE_OTHER
};

/// An error of a session is one of its events, and does not end the stream.
fn read_event(progress: &mut Progress, event: &Event<'_>) -> Found {
    let found = other::read_event(progress, event);
    Found { content: found.content, ..Found::default() }
}
