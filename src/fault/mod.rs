//! Every failure that a caller can see: what it is ([`Fault`]), what it is answered with (one table, [`Row`]), and how
//! that is written ([`render`](Fault::render) before the first byte, [`event`](Fault::event) after it); and how an
//! exchange ended ([`Outcome`]), whether or not it failed.
//!
//! Nothing else in the program writes error JSON.

mod kinds;
mod outcome;
mod render;
mod table;

pub use kinds::{Cause, Fault};
pub use outcome::{Outcome, Phase, Who};
pub use render::{SHOULD_RETRY, error_body, event_of};
pub use table::Row;
