//! What the gateway knows of the OpenAI-compatible APIs, and nothing it does not need.
//!
//! From a request: which operation it is ([`Endpoint`]) and a few members of its body ([`Facts`]). From an answer, as
//! it passes: model, [`Usage`] and [`FinishReason`], read from a stream of events ([`StreamReader`]) or from a JSON
//! document ([`AnswerReader`]), both into a [`Reading`]. Reading an answer never fails: what is of another shape than
//! expected is not known, and that is all.
//!
//! Pure: bytes in, values out. No document is ever built as a tree.

mod answer;
mod chat;
mod edit;
mod endpoint;
mod facts;
mod finish;
mod json;
mod messages;
mod ordinary;
mod prompt;
mod reading;
mod responses;
mod stream;
mod usage;

pub use answer::AnswerReader;
pub use edit::with_model;
pub use endpoint::{Dialect, Endpoint, deployment};
pub use facts::{Facts, FactsError, MODEL_LIMIT};
pub use finish::FinishReason;
pub use prompt::opening;
pub use reading::{MODEL_KEPT, Reading};
pub use stream::{Counts, Notice, StreamReader, Terminal};
pub use usage::Usage;
