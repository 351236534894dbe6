//! Server-sent events: observing a passing stream, and writing whole events.
//!
//! [`Scanner`] finds the events in a stream that passes by: it never holds a byte back, never changes one, cannot fail,
//! and copies only data that a chunk boundary splits or that spans several lines. [`LineScanner`] does the same for streams
//! of one JSON document in each line. [`sniff`] recognises a stream that no
//! header announces. [`Splitter`] says where events begin and end, for those who take one out. [`writer`] formats the few events and
//! comments that the gateway itself inserts into a stream.
//!
//! The format is WHATWG HTML, section 9.2 "Server-sent events", subsections "Parsing an event stream" and
//! "Interpreting an event stream".

// This parser follows the standard literally; the property tests compare the Scanner with it.
mod lines;
#[cfg(test)]
#[path = "../../fuzz/invariants/sse.rs"]
mod reference;
mod scanner;
mod sniff;
mod splitter;
pub mod writer;

pub use lines::LineScanner;
pub use scanner::{DATA_LIMIT, NAME_LIMIT, Scanner};
pub use sniff::{SNIFFED, Sniffed, sniff};
pub use splitter::{Piece, PieceKind, Splitter};

/// One event that a reader of the stream would dispatch.
///
/// An event without a `data` field is not dispatched (WHATWG HTML, "Interpreting an event stream") and so never
/// becomes an `Event`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Event<'a> {
    /// Value of the last `event` field, at most [`NAME_LIMIT`] bytes of it; empty when the event has no name.
    pub name: &'a [u8],
    /// Value of the `data` fields, joined with LF when there are several. When `oversized`, the outline that the scanner was asked to keep
    /// ([`Scanner::outlining`]), else nothing.
    pub data: &'a [u8],
    /// Whether the data exceeded [`DATA_LIMIT`] and was not kept.
    pub oversized: bool,
}
