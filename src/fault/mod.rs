//! Every failure that a client can see: what it is ([`Fault`]), its text ([`Fault::message`]), the response that it becomes (one
//! table, [`Row`]), and how that is written ([`Fault::render`] before the first byte, [`Fault::event`] after it); and how an
//! exchange ended ([`Outcome`]), whether or not it failed.
//!
//! Nothing else in the program writes error JSON, except that an event which a stream gets is written by its dialect.

mod form;
mod json;
mod kinds;
mod messages;
mod outcome;
mod phrase;
mod render;
mod reword;
mod rules;
mod table;

pub use form::ErrorForm;
pub use kinds::{Cause, Fault, LimitReached, Mistake, retry_seconds};
pub use messages::{Language, LanguageChoice, Languages};
pub use outcome::{Outcome, Phase, Who};
pub use phrase::{CloseReason, Decoding, Reason, ValueType};
pub use render::{ANTHROPIC_REQUEST_ID, ForeignError, Recipient, SHOULD_RETRY, event_of, would_be_retried};
pub use reword::reword;
pub use rules::{ErrorFilter, ErrorRule, ErrorRules, PLACEHOLDERS};
pub use table::Row;
