//! Token counts as the upstream reports them.

mod tokens;

use std::time::Duration;

pub(super) use tokens::{CachedTokens, Tokens};

/// What the exchange used according to the upstream. A count that the upstream did not report is `None`; zero is a count.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
pub struct Usage {
    /// Tokens of the request, those included that were read from a cache or written to it.
    pub input: Option<u64>,
    /// Tokens of the answer, reasoning included.
    pub output: Option<u64>,
    /// All tokens; the sum of both if the upstream does not report it.
    pub total: Option<u64>,
    /// Of `input`, those that came from the provider's prompt cache.
    pub cached_input: Option<u64>,
    /// Of `input`, those that were written to the provider's prompt cache.
    pub cache_write: Option<u64>,
    /// Of `output`, those spent on reasoning.
    pub reasoning: Option<u64>,
    /// Length of the audio, where an upstream charges by time (`whisper-1`) and reports no tokens.
    pub audio: Option<Duration>,
}

impl Usage {
    /// The tokens in classes of which none is a part of another, as they are priced.
    pub fn classes(&self) -> TokenClasses {
        let of_cache = self.cached_input.unwrap_or(0).saturating_add(self.cache_write.unwrap_or(0));
        TokenClasses {
            input: self.input.map(|input| input.saturating_sub(of_cache)),
            cached_input: self.cached_input,
            cache_write: self.cache_write,
            output: self.output.map(|output| output.saturating_sub(self.reasoning.unwrap_or(0))),
            reasoning: self.reasoning,
        }
    }
}

/// Tokens in classes that never overlap: their sum is all that was used. `None` is not known.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
pub struct TokenClasses {
    /// Input that was neither read from a cache nor written to it.
    pub input: Option<u64>,
    /// Input that came from the provider's cache.
    pub cached_input: Option<u64>,
    /// Input that was written to the provider's cache.
    pub cache_write: Option<u64>,
    /// Output that is no reasoning.
    pub output: Option<u64>,
    /// Reasoning.
    pub reasoning: Option<u64>,
}

#[cfg(test)]
mod tests;
