//! Token counts as the upstream reports them.

use super::json::{NotJson, Object, Value};

/// What the exchange used according to the upstream, in tokens.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Usage {
    /// Tokens of the request, those found in a cache included.
    pub input: u64,
    /// Tokens of the answer, reasoning included.
    pub output: u64,
    /// All tokens; the sum of both if the upstream does not report it.
    pub total: u64,
    /// Of `input`, those that came from the provider's prompt cache.
    pub cached_input: Option<u64>,
    /// Of `output`, those spent on reasoning.
    pub reasoning: Option<u64>,
}

/// How a dialect counts the tokens that were found in the provider's prompt cache.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum CachedTokens {
    /// As a part of the input (OpenAI).
    PartOfInput,
    /// In addition to the input (Anthropic docs, "Prompt caching", "Tracking cache performance").
    BesideInput,
}

/// A `usage` object under any of its names, possibly reported in several parts.
///
/// Sources: OpenAI API reference, `CompletionUsage` (`prompt_tokens`, `completion_tokens`) and `ResponseUsage`
/// (`input_tokens`, `output_tokens`); Anthropic Messages API reference, `Usage`.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
pub(super) struct Tokens {
    input: Option<u64>,
    output: Option<u64>,
    total: Option<u64>,
    cached_input: Option<u64>,
    reasoning: Option<u64>,
    /// Anthropic only.
    cache_creation: Option<u64>,
    /// Anthropic only.
    cache_read: Option<u64>,
}

impl Tokens {
    /// Takes over the counts that `later` has; counts in a stream are cumulative.
    pub(super) fn update(&mut self, later: &Self) {
        self.input = later.input.or(self.input);
        self.output = later.output.or(self.output);
        self.total = later.total.or(self.total);
        self.cached_input = later.cached_input.or(self.cached_input);
        self.reasoning = later.reasoning.or(self.reasoning);
        self.cache_creation = later.cache_creation.or(self.cache_creation);
        self.cache_read = later.cache_read.or(self.cache_read);
    }

    /// The counts, if input or output is known at all.
    pub(super) fn usage(&self, cached_tokens: CachedTokens) -> Option<Usage> {
        self.input.or(self.output)?;
        let (mut input, mut cached_input) = (self.input.unwrap_or(0), self.cached_input);
        if cached_tokens == CachedTokens::BesideInput {
            let beside = self.cache_creation.unwrap_or(0).saturating_add(self.cache_read.unwrap_or(0));
            input = input.saturating_add(beside);
            cached_input = self.cache_read;
        }
        let output = self.output.unwrap_or(0);
        let total = self.total.unwrap_or_else(|| input.saturating_add(output));
        Some(Usage { input, output, total, cached_input, reasoning: self.reasoning })
    }

    pub(super) fn is_known(&self) -> bool {
        *self != Self::default()
    }
}

impl Object for Tokens {
    fn member(&mut self, key: &[u8], value: &mut Value<'_>) -> Result<(), NotJson> {
        let slot = match key {
            b"prompt_tokens" | b"input_tokens" => &mut self.input,
            b"completion_tokens" | b"output_tokens" => &mut self.output,
            b"total_tokens" => &mut self.total,
            b"cache_creation_input_tokens" => &mut self.cache_creation,
            b"cache_read_input_tokens" => &mut self.cache_read,
            b"prompt_tokens_details" | b"input_tokens_details" => {
                return value.object(&mut Detail(b"cached_tokens", &mut self.cached_input)).map(drop);
            }
            b"completion_tokens_details" | b"output_tokens_details" => {
                return value.object(&mut Detail(b"reasoning_tokens", &mut self.reasoning)).map(drop);
            }
            _ => return value.skip(),
        };
        *slot = value.leaf()?.count().or(*slot);
        Ok(())
    }
}

/// The one member of a details object that counts.
struct Detail<'a>(&'static [u8], &'a mut Option<u64>);

impl Object for Detail<'_> {
    fn member(&mut self, key: &[u8], value: &mut Value<'_>) -> Result<(), NotJson> {
        if key != self.0 {
            return value.skip();
        }
        *self.1 = value.leaf()?.count().or(*self.1);
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::super::json;
    use super::CachedTokens::{BesideInput, PartOfInput};
    use super::*;

    fn usage(cached_tokens: CachedTokens, json: &str) -> Option<Usage> {
        let mut tokens = Tokens::default();
        json::read(json.as_bytes(), &mut tokens).unwrap();
        tokens.usage(cached_tokens)
    }

    #[test]
    fn chat_names() {
        let json = r#"{"prompt_tokens":19,"completion_tokens":10,"total_tokens":29,
            "prompt_tokens_details":{"cached_tokens":7,"audio_tokens":0},
            "completion_tokens_details":{"reasoning_tokens":3,"accepted_prediction_tokens":0}}"#;
        let expected = Usage { input: 19, output: 10, total: 29, cached_input: Some(7), reasoning: Some(3) };
        assert_eq!(usage(PartOfInput, json), Some(expected));
    }

    #[test]
    fn responses_names() {
        let json = r#"{"input_tokens":36,"input_tokens_details":{"cached_tokens":0},"output_tokens":87,
            "output_tokens_details":{"reasoning_tokens":64},"total_tokens":123}"#;
        let expected =
            Usage { input: 36, output: 87, total: 123, cached_input: Some(0), reasoning: Some(64) };
        assert_eq!(usage(PartOfInput, json), Some(expected));
    }

    #[test]
    fn anthropic_counts_the_cache_beside_the_input() {
        let json = r#"{"input_tokens":5,"cache_creation_input_tokens":100,"cache_read_input_tokens":1000,"output_tokens":2}"#;
        let expected =
            Usage { input: 1105, output: 2, total: 1107, cached_input: Some(1000), reasoning: None };
        assert_eq!(usage(BesideInput, json), Some(expected));
        // Some OpenAI-like upstreams add these names to counts that already hold them.
        let json = r#"{"prompt_tokens":1105,"cache_read_input_tokens":1000,"completion_tokens":2}"#;
        assert_eq!(usage(PartOfInput, json).map(|usage| usage.input), Some(1105));
    }

    #[test]
    fn what_has_another_shape_is_not_known() {
        for json in [
            "{}",
            "null",
            "[1,2]",
            r#"{"prompt_tokens":"19"}"#,
            r#"{"prompt_tokens":-1}"#,
            r#"{"prompt_tokens":1.5}"#,
        ] {
            assert_eq!(usage(PartOfInput, json), None, "{json}");
        }
        let json = r#"{"prompt_tokens":8,"total_tokens":8,"prompt_tokens_details":null}"#;
        let expected = Usage { input: 8, output: 0, total: 8, cached_input: None, reasoning: None };
        assert_eq!(usage(PartOfInput, json), Some(expected));
    }
}
