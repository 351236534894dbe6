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
    /// Of `cache_write`, those that the cache keeps for an hour.
    pub cache_write_1h: Option<u64>,
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
            cache_write_1h: sum(self.cache_write_1h, other.cache_write_1h),
            reasoning: sum(self.reasoning, other.reasoning),
            audio_input: sum(self.audio_input, other.audio_input),
            audio_output: sum(self.audio_output, other.audio_output),
            audio: match (self.audio, other.audio) {
                (Some(one), Some(other)) => Some(one.saturating_add(other)),
                (one, other) => one.or(other),
            },
        }
    }

    /// The tokens in classes of which none is a part of another, as they are priced. No class is larger than what it is a part of, whatever the
    /// upstream reports.
    pub fn classes(&self) -> TokenClasses {
        let mut input = Whole(self.input);
        let cached_input = input.take(self.cached_input);
        let mut written = Whole(input.take(self.cache_write.or(self.cache_write_1h)));
        let cache_write_1h = written.take(self.cache_write_1h);
        let audio_input = input.take(self.audio_input);
        let mut output = Whole(self.output);
        let reasoning = output.take(self.reasoning);
        let audio_output = output.take(self.audio_output);
        TokenClasses {
            input: input.0,
            cached_input,
            cache_write: written.0,
            cache_write_1h,
            output: output.0,
            reasoning,
            audio_input,
            audio_output,
        }
    }
}

/// Tokens of which parts are taken; `None`: nobody knows how many there are.
struct Whole(Option<u64>);

impl Whole {
    /// Takes a part, at most what is left.
    fn take(&mut self, part: Option<u64>) -> Option<u64> {
        let part = part?;
        let Some(left) = &mut self.0 else { return Some(part) };
        let part = part.min(*left);
        *left -= part;
        Some(part)
    }
}

/// Tokens in classes that never overlap: their sum is all that was used. `None` is not known.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
pub struct TokenClasses {
    /// Input that is no audio, and was neither read from a cache nor written to it.
    pub input: Option<u64>,
    /// Input that came from the provider's cache.
    pub cached_input: Option<u64>,
    /// Input that was written to the provider's cache, for less than an hour.
    pub cache_write: Option<u64>,
    /// Input that was written to the provider's cache for an hour.
    pub cache_write_1h: Option<u64>,
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
