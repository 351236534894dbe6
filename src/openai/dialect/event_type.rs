//! The type of a named event, without parsing it.

use crate::sse::Event;

/// The event's type: its name, or the `type` at the beginning of its data.
pub(super) fn event_type<'a>(event: &Event<'a>) -> Option<&'a [u8]> {
    telling_name(event).or_else(|| leading_type(event.data))
}

/// Whether events of this name or type say only that the connection is alive: `ping` (Anthropic docs, "Streaming Messages", "Ping
/// events"), `keepalive` (OpenAI Responses), and how other servers call theirs.
pub(in crate::openai) fn is_keep_alive_name(name: &[u8]) -> bool {
    matches!(name, b"ping" | b"keepalive" | b"keep-alive" | b"keep_alive" | b"heartbeat")
}

/// The event's name, unless that says no more than none would: `message` is the name of an event without one (WHATWG HTML,
/// "Interpreting an event stream"), and some upstreams write it out.
fn telling_name<'a>(event: &Event<'a>) -> Option<&'a [u8]> {
    Some(event.name).filter(|name| !matches!(*name, b"" | b"message"))
}

/// The event's `type`, if it is the first member of the data and has no escapes, as OpenAI writes it.
pub(super) fn leading_type(data: &[u8]) -> Option<&[u8]> {
    let value = data.strip_prefix(br#"{"type":""#)?;
    let end = memchr::memchr2(b'"', b'\\', value)?;
    (value.get(end) == Some(&b'"')).then(|| value.get(..end)).flatten()
}
