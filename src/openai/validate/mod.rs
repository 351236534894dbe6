//! Checks request bodies against what the APIs document, in the same pass that reads their [`Facts`].
//!
//! The rules are tables, one file for each operation: `chat.rs`, `completions.rs`, `embeddings.rs`, `responses.rs`, `messages.rs`. A rule
//! says which types a member may have, between which values a number lies, how long a string or an array may be, what an object must have.
//! [`Walk`](walk::Walk) follows a body and its table at once; nothing is built or copied until something is wrong.
//!
//! What is never refused: members that no table names, and values of enumerations, because both grow every few months; only a `role` must be
//! known. An object whose `type` is not known is not checked at all.

mod chat;
mod common;
mod completions;
mod embeddings;
mod invalid;
mod kinds;
mod member_set;
mod messages;
mod notation;
mod reading;
mod responses;
mod schema;
mod walk;

pub use invalid::{CheckError, Invalid, Names, Problem};
pub use kinds::Kinds;
pub use reading::DEPTH_LIMIT;

use super::{Endpoint, Facts};
use reading::Rules;
use schema::{Schema, Shape};

/// How much of a request is checked.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Level {
    /// What any server needs: a model, something to answer, known roles, a boolean `stream`.
    Basic,
    /// All documented types, ranges and shapes as well.
    Strict,
}

/// What is checked of a request.
#[derive(Debug, Clone, Copy)]
pub struct Check {
    schema: &'static Schema,
    level: Level,
    /// The model may be missing.
    model_elsewhere: bool,
}

impl Check {
    /// The check of requests to `endpoint`, if there is one.
    pub fn of(endpoint: Endpoint, level: Level) -> Option<Self> {
        let schema = match endpoint {
            Endpoint::ChatCompletions => &chat::SCHEMA,
            Endpoint::Completions => &completions::SCHEMA,
            Endpoint::Embeddings => &embeddings::SCHEMA,
            Endpoint::Responses => &responses::SCHEMA,
            Endpoint::Messages => &messages::SCHEMA,
            _ => return None,
        };
        Some(Self { schema, level, model_elsewhere: false })
    }

    /// The same for a request whose model is named in its path, or set by the gateway: the body need not name one.
    #[must_use]
    pub fn without_model(self) -> Self {
        Self { model_elsewhere: true, ..self }
    }

    /// Reads the facts of a whole JSON request body, and checks it on the way.
    ///
    /// # Errors
    /// The body is not JSON, or a rule is broken.
    pub fn read(self, body: &[u8]) -> Result<Facts, CheckError> {
        let (notation, model_elsewhere) = (self.schema.notation, self.model_elsewhere);
        reading::read(Rules { shape: self.shape(), notation, model_elsewhere }, body)
    }

    fn shape(self) -> &'static Shape {
        match self.level {
            Level::Basic => &self.schema.basic,
            Level::Strict => &self.schema.strict,
        }
    }
}

#[cfg(test)]
mod tests;
