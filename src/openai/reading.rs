//! What both readers of answers give.

use super::json::{NotJson, Value};
use super::usage::{CachedTokens, Tokens};
use super::{FinishReason, Usage};

/// Most bytes of a model's name that are kept from an answer.
pub const MODEL_KEPT: usize = 128;

/// What an answer says about itself, as far as it is known.
#[derive(Debug, Default, Clone, PartialEq, Eq)]
pub struct Reading {
    /// The model that answered, at most [`MODEL_KEPT`] bytes of its name.
    pub model: Option<String>,
    /// Tokens used.
    pub usage: Option<Usage>,
    /// Why the model stopped; of several choices, the one that stopped last.
    pub finish_reason: Option<FinishReason>,
}

/// A reading in progress.
#[derive(Debug, Default)]
pub(super) struct Gathered {
    pub(super) model: Option<String>,
    pub(super) tokens: Tokens,
    pub(super) finish_reason: Option<FinishReason>,
    /// The answer leaves calls to its client (Responses only).
    pub(super) calls_client: bool,
}

impl Gathered {
    /// Keeps the first model that is named; some upstreams begin with a chunk that names none.
    pub(super) fn name_model(&mut self, name: Option<&str>) {
        if let (None, Some(name)) = (&self.model, name.filter(|name| !name.is_empty())) {
            let end = (0..=MODEL_KEPT.min(name.len())).rev().find(|at| name.is_char_boundary(*at));
            self.model = name.get(..end.unwrap_or(0)).map(str::to_owned);
        }
    }

    /// Takes over a `usage` object, if the whole of it is there; half of one would be wrong.
    pub(super) fn read_usage(&mut self, value: &mut Value<'_>) -> Result<bool, NotJson> {
        let mut tokens = Tokens::default();
        value.object(&mut tokens)?;
        self.tokens.update(&tokens);
        Ok(tokens.is_known())
    }

    pub(super) fn reading(&self, cached_tokens: CachedTokens) -> Reading {
        Reading {
            model: self.model.clone(),
            usage: self.tokens.usage(cached_tokens),
            finish_reason: self.finish_reason,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_long_model_name_is_cut_between_characters() {
        let mut gathered = Gathered::default();
        gathered.name_model(Some(""));
        gathered.name_model(Some(&"é".repeat(100).replacen('é', "x", 1)));
        gathered.name_model(Some("later"));
        let model = gathered.reading(CachedTokens::PartOfInput).model.unwrap();
        assert_eq!((model.len(), model.starts_with('x')), (MODEL_KEPT - 1, true));
    }
}
