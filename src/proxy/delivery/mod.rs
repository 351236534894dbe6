//! The response on its way to the client: its source, what is held back of it, the relay that passes frames on, and what happens when the
//! client leaves.

mod active;
mod client_response;
mod clock;
mod commit;
mod detached;
mod document;
mod drain;
mod error_document;
mod filter;
mod learning;
mod observer;
mod pending;
mod policy;
mod probe;
mod relay;
mod response_body;
mod source;
mod switched;
mod whole;

pub(super) use client_response::ClientResponse;
pub(super) use commit::{HeldError, HoldBounds, HoldError, HoldTimeouts, LONGEST, next_within};
pub(super) use detached::{DetachPolicy, DetachedDispatch, DispatchResult};
pub(super) use filter::EventFilter;
pub(super) use observer::ResponseObserver;
pub(super) use pending::PendingStream;
pub(super) use policy::{EventVerdict, ResponsePolicy};
pub use relay::{Aborted, Relay};
pub use response_body::ResponseBody;
pub(super) use switched::SwitchedUpstream;
