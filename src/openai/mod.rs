//! What the gateway knows of the OpenAI-compatible APIs, and nothing it does not need.
//!
//! From a request: which operation it is ([`Operation`]) and a few members of its body ([`Facts`]). From an answer, as
//! it passes: model, [`Usage`] and [`FinishReason`], read from a stream of events ([`StreamReader`]) or from a JSON
//! document ([`AnswerReader`]), both into a [`Reading`]. Reading an answer never fails: members of another form than
//! expected are ignored. Everything that differs between the APIs is in one place, a [`Dialect`].
//!
//! Pure: bytes in, values out. No document is ever built as a tree.

mod answer;
mod attached;
mod azure;
mod batch_results;
mod choices;
mod dialect;
mod document;
mod edit;
mod endpoint;
mod ephemeral;
mod facts;
mod finish;
mod flat_error;
mod gen_ai;
mod ids;
mod json;
mod multipart;
mod operation;
mod ordinary;
mod path_model;
mod prompt;
mod reading;
mod segments;
mod session_models;
mod stream;
mod turns;
mod usage;
mod validate;

pub use answer::AnswerReader;
pub use attached::Attached;
pub use azure::{NoDeployment, azure_path};
pub use batch_results::{ResultsUrl, batches_base, results_urls};
pub use dialect::{Dialect, ErrorNotice, OUTLINED, Terminal};
pub use document::{NoAnswer, check_answer};
pub use edit::{EditError, EditPoints, EditedPiece, FormPoints, Splices};
pub use endpoint::Endpoint;
pub use ephemeral::{EphemeralSecret, ephemeral_secrets, issues_ephemeral_keys, takes_ephemeral_keys};
pub use facts::{Facts, FactsError, MODEL_LIMIT, Type};
pub use finish::FinishReason;
pub use flat_error::is_flat_error;
pub use gen_ai::{gen_ai_operation, provider_of_host};
pub use ids::{FoundId, IdScanner};
pub use multipart::{FormReader, boundary};
pub use operation::{Kept, ModelUse, Need, Operation, Repeat, base_of_endpoint, operation_part};
pub use path_model::{path_model, with_path_model};
pub use prompt::opening;
pub use reading::{MODEL_KEPT, Reading};
pub use stream::{Counts, Notice, StreamReader};
pub use turns::{CLIENT_OUTLINED, ClientMessage, ServerKind, ServerMessage};
pub use usage::{TokenClasses, Usage, UsagePoint, is_usage_event};
pub use validate::{Check, CheckError, DEPTH_LIMIT, Invalid, Kinds, Level, Names, Problem};
