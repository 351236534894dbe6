//! Token counts as the upstream reports them.

mod chunk;
mod point;
mod tokens;

use std::time::Duration;

pub use chunk::is_usage_event;
pub(super) use point::StreamOptions;
pub use point::UsagePoint;
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
    /// Of `input`, those of audio, without audio that came from the cache.
    pub audio_input: Option<u64>,
    /// Of `output`, those of audio.
    pub audio_output: Option<u64>,
    /// Length of the audio, where an upstream charges by time (`whisper-1`) and reports no tokens.
    pub audio: Option<Duration>,
}

impl Usage {
    /// The sum of this use and another. A count that only one of them has counts alone.
    #[must_use]
    pub fn plus(self, other: Self) -> Self {
        let sum = |one: Option<u64>, other: Option<u64>| match (one, other) {
            (Some(one), Some(other)) => Some(one.saturating_add(other)),
            (one, other) => one.or(other),
        };
        Self {
            input: sum(self.input, other.input),
            output: sum(self.output, other.output),
            total: sum(self.total, other.total),
            cached_input: sum(self.cached_input, other.cached_input),
            cache_write: sum(self.cache_write, other.cache_write),
            reasoning: sum(self.reasoning, other.reasoning),
            audio_input: sum(self.audio_input, other.audio_input),
            audio_output: sum(self.audio_output, other.audio_output),
            audio: match (self.audio, other.audio) {
                (Some(one), Some(other)) => Some(one.saturating_add(other)),
                (one, other) => one.or(other),
            },
        }
    }

    /// The tokens in classes of which none is a part of another, as they are priced.
    pub fn classes(&self) -> TokenClasses {
        let of_cache = self.cached_input.unwrap_or(0).saturating_add(self.cache_write.unwrap_or(0));
        let fresh = self.input.map(|input| input.saturating_sub(of_cache));
        let spoken = self.output.map(|output| output.saturating_sub(self.reasoning.unwrap_or(0)));
        // No class is larger than what it is a part of, whatever the upstream reports.
        let part = |part: Option<u64>, of: Option<u64>| part.map(|part| of.map_or(part, |of| part.min(of)));
        let rest = |of: Option<u64>, part: Option<u64>| of.map(|of| of.saturating_sub(part.unwrap_or(0)));
        let (audio_input, audio_output) = (part(self.audio_input, fresh), part(self.audio_output, spoken));
        TokenClasses {
            input: rest(fresh, audio_input),
            cached_input: self.cached_input,
            cache_write: self.cache_write,
            output: rest(spoken, audio_output),
            reasoning: self.reasoning,
            audio_input,
            audio_output,
        }
    }
}

/// Tokens in classes that never overlap: their sum is all that was used. `None` is not known.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
pub struct TokenClasses {
    /// Input that is no audio, and was neither read from a cache nor written to it.
    pub input: Option<u64>,
    /// Input that came from the provider's cache.
    pub cached_input: Option<u64>,
    /// Input that was written to the provider's cache.
    pub cache_write: Option<u64>,
    /// Output that is neither reasoning nor audio.
    pub output: Option<u64>,
    /// Reasoning.
    pub reasoning: Option<u64>,
    /// Audio in the input that did not come from the cache.
    pub audio_input: Option<u64>,
    /// Audio in the output.
    pub audio_output: Option<u64>,
}

#[cfg(test)]
mod tests;
