//! A `usage` object under any of its names.

use std::time::Duration;

use super::{
    super::json::{Leaf, NotJson, Object, Value},
    Usage,
};

/// How a dialect counts the tokens of the provider's prompt cache.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::openai) enum CachedTokens {
    /// As a part of the input (OpenAI).
    PartOfInput,
    /// In addition to the input (Anthropic docs, "Prompt caching", "Tracking cache performance").
    BesideInput,
}

/// A `usage` object under any of its names, possibly reported in several parts.
///
/// Sources, by name of the members:
/// - `prompt_tokens`, `completion_tokens`: OpenAI API reference, `CompletionUsage`; also vLLM, SGLang, llama.cpp, Ollama, Mistral.
/// - `input_tokens`, `output_tokens`: OpenAI API reference, `ResponseUsage`, `ImagesUsage`, `TranscriptTextUsageTokens`,
///   `SpeechAudioDoneEvent`; the details of the last three and of Realtime are called `input_token_details`.
/// - `cache_creation_input_tokens`, `cache_read_input_tokens`, `cache_creation`, `thinking_tokens`: Anthropic Messages API reference, `Usage`.
/// - `prompt_cache_hit_tokens`, `prompt_cache_miss_tokens`: DeepSeek API docs, "Context Caching".
/// - `cached_tokens` on top: Moonshot API docs, "Chat".
/// - `reasoning_tokens` on top: Perplexity API reference, `UsageInfo`.
/// - `cache_write_tokens`: OpenRouter docs, "Prompt Caching".
/// - `promptTokenCount`, `candidatesTokenCount`, `thoughtsTokenCount`, `cachedContentTokenCount`: Gemini API reference, `UsageMetadata`.
/// - `toolUsePromptTokenCount`, which is a part of neither: Google Cloud, Vertex AI API reference, `UsageMetadata`. `promptTokensDetails`,
///   `cacheTokensDetails`, `candidatesTokensDetails`: Gemini API reference, `ModalityTokenCount`.
/// - `prompt_eval_count`, `eval_count`: Ollama API documentation, "Usage".
/// - `seconds`: OpenAI API reference, `TranscriptTextUsageDuration`.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
pub(in crate::openai) struct Tokens {
    input: Option<u64>,
    output: Option<u64>,
    total: Option<u64>,
    cached: Option<u64>,
    cache_write: Option<u64>,
    cache_write_1h: Option<u64>,
    cache_miss: Option<u64>,
    reasoning: Option<u64>,
    audio_input: Option<u64>,
    cached_audio: Option<u64>,
    tool_use: Option<u64>,
    audio_output: Option<u64>,
    audio: Option<Duration>,
}

impl Tokens {
    /// Takes over the counts that `later` has; counts in a stream are cumulative. A zero takes nothing away: some upstreams end a stream
    /// with an object of zeros.
    pub(in crate::openai) fn update(&mut self, later: &Self) {
        let counts = |count: Option<u64>| count.is_some_and(|count| count > 0);
        if later.total.is_none() && (counts(later.input) || counts(later.output)) {
            // A total of earlier counts is not the total of these.
            self.total = None;
        }
        for (count, later) in [
            (&mut self.input, later.input),
            (&mut self.output, later.output),
            (&mut self.total, later.total),
            (&mut self.cached, later.cached),
            (&mut self.cache_write, later.cache_write),
            (&mut self.cache_write_1h, later.cache_write_1h),
            (&mut self.cache_miss, later.cache_miss),
            (&mut self.reasoning, later.reasoning),
            (&mut self.audio_input, later.audio_input),
            (&mut self.cached_audio, later.cached_audio),
            (&mut self.tool_use, later.tool_use),
            (&mut self.audio_output, later.audio_output),
        ] {
            *count = later.filter(|later| *later > 0).or(*count).or(later);
        }
        self.audio = later.audio.or(self.audio);
    }

    /// The counts in one meaning, if any are known.
    pub(in crate::openai) fn usage(&self, cached_tokens: CachedTokens) -> Option<Usage> {
        let input = self.all_input(cached_tokens);
        let output = self.all_output(input);
        input.or(output).or(self.audio.map(|_| 0))?;
        let sum = input.zip(output).map(|(input, output)| input.saturating_add(output));
        Some(Usage {
            input,
            output,
            total: self.total.or(sum),
            cached_input: self.cached,
            cache_write: self.cache_write,
            cache_write_1h: self.cache_write_1h,
            reasoning: self.reasoning,
            audio_input: self.audio_input.map(|audio| audio.saturating_sub(self.cached_audio.unwrap_or(0))),
            audio_output: self.audio_output,
            audio: self.audio,
        })
    }

    /// One count that stands by itself.
    pub(in crate::openai) fn of_member(key: &[u8], value: &mut Value<'_>) -> Result<Self, NotJson> {
        let mut tokens = Self::default();
        tokens.member(key, value)?;
        Ok(tokens)
    }

    pub(in crate::openai) fn is_known(&self) -> bool {
        *self != Self::default()
    }

    /// The input with everything of the cache.
    fn all_input(&self, cached_tokens: CachedTokens) -> Option<u64> {
        let of_cache = self.cached.unwrap_or(0).saturating_add(self.cache_write.unwrap_or(0));
        let Some(input) = self.input else {
            return self.cache_miss.map(|miss| miss.saturating_add(self.cached.unwrap_or(0)));
        };
        let with_cache = input.saturating_add(of_cache);
        // More than all of the input cannot be a part of it; and the total may say that it is none.
        let is_beside = cached_tokens == CachedTokens::BesideInput
            || of_cache > input
            || self.total == Some(with_cache.saturating_add(self.output.unwrap_or(0)));
        let input = if is_beside { with_cache } else { input };
        Some(input.saturating_add(self.tool_use.unwrap_or(0)))
    }

    /// The output with the reasoning. xAI (docs, "Consumption and Rate Limits") and Gemini's compatible endpoint count reasoning apart, in
    /// the total alone.
    fn all_output(&self, input: Option<u64>) -> Option<u64> {
        let of_total = self.total.zip(input).map(|(total, input)| total.saturating_sub(input));
        let Some(output) = self.output else { return of_total };
        let reasoning = self.reasoning.unwrap_or(0);
        // More than all of the output cannot be a part of it.
        let output = if reasoning > output { output.saturating_add(reasoning) } else { output };
        Some(of_total.map_or(output, |of_total| of_total.max(output)))
    }
}

impl Object for Tokens {
    fn member(&mut self, key: &[u8], value: &mut Value<'_>) -> Result<(), NotJson> {
        let slot = match key {
            b"prompt_tokens" | b"input_tokens" | b"promptTokenCount" | b"prompt_eval_count" => {
                &mut self.input
            }
            b"completion_tokens" | b"output_tokens" | b"candidatesTokenCount" | b"eval_count" => {
                &mut self.output
            }
            b"total_tokens" | b"totalTokenCount" => &mut self.total,
            b"cache_creation_input_tokens" => &mut self.cache_write,
            b"cache_read_input_tokens"
            | b"prompt_cache_hit_tokens"
            | b"cached_tokens"
            | b"cachedContentTokenCount" => &mut self.cached,
            b"prompt_cache_miss_tokens" => &mut self.cache_miss,
            b"reasoning_tokens" | b"thoughtsTokenCount" => &mut self.reasoning,
            b"prompt_tokens_details" | b"input_tokens_details" | b"input_token_details" => {
                return value.object(&mut InputDetails(self)).map(drop);
            }
            b"completion_tokens_details" | b"output_tokens_details" | b"output_token_details" => {
                return value.object(&mut OutputDetails(self)).map(drop);
            }
            b"cache_creation" => return self.read_cache_creation(value),
            b"toolUsePromptTokenCount" => &mut self.tool_use,
            b"promptTokensDetails" => return audio_of(&mut self.audio_input, value),
            b"cacheTokensDetails" => return audio_of(&mut self.cached_audio, value),
            b"candidatesTokensDetails" => return audio_of(&mut self.audio_output, value),
            b"seconds" => {
                self.audio = seconds(&value.leaf()?).or(self.audio);
                return Ok(());
            }
            _ => return value.skip(),
        };
        count(slot, value)
    }
}

impl Tokens {
    /// The same tokens as `cache_creation_input_tokens`, by how long they are kept.
    fn read_cache_creation(&mut self, value: &mut Value<'_>) -> Result<(), NotJson> {
        let mut written = CacheCreation::default();
        value.object(&mut written)?;
        let all = written.all.filter(|written| *written > 0 || self.cache_write.is_none());
        self.cache_write = all.or(self.cache_write);
        self.cache_write_1h = written.for_an_hour.filter(|hour| *hour > 0).or(self.cache_write_1h);
        Ok(())
    }
}

struct InputDetails<'a>(&'a mut Tokens);

impl Object for InputDetails<'_> {
    fn member(&mut self, key: &[u8], value: &mut Value<'_>) -> Result<(), NotJson> {
        match key {
            b"cached_tokens" => count(&mut self.0.cached, value),
            b"audio_tokens" => count(&mut self.0.audio_input, value),
            b"cached_tokens_details" => value.object(&mut CachedDetails(self.0)).map(drop),
            b"cache_write_tokens" | b"cache_creation_tokens" => count(&mut self.0.cache_write, value),
            _ => value.skip(),
        }
    }
}

/// Realtime: of which kind the cached tokens are.
struct CachedDetails<'a>(&'a mut Tokens);

impl Object for CachedDetails<'_> {
    fn member(&mut self, key: &[u8], value: &mut Value<'_>) -> Result<(), NotJson> {
        match key {
            b"audio_tokens" => count(&mut self.0.cached_audio, value),
            _ => value.skip(),
        }
    }
}

struct OutputDetails<'a>(&'a mut Tokens);

impl Object for OutputDetails<'_> {
    fn member(&mut self, key: &[u8], value: &mut Value<'_>) -> Result<(), NotJson> {
        match key {
            b"reasoning_tokens" | b"thinking_tokens" => count(&mut self.0.reasoning, value),
            b"audio_tokens" => count(&mut self.0.audio_output, value),
            _ => value.skip(),
        }
    }
}

/// The sum of all members, one for each time to live: `ephemeral_5m_input_tokens` and `ephemeral_1h_input_tokens`.
#[derive(Default)]
struct CacheCreation {
    all: Option<u64>,
    for_an_hour: Option<u64>,
}

impl Object for CacheCreation {
    fn member(&mut self, key: &[u8], value: &mut Value<'_>) -> Result<(), NotJson> {
        let counted = value.leaf()?.count().filter(|_| key.starts_with(b"ephemeral_"));
        if let Some(counted) = counted {
            self.all = Some(self.all.unwrap_or(0).saturating_add(counted));
            if key == b"ephemeral_1h_input_tokens" {
                self.for_an_hour = Some(counted);
            }
        }
        Ok(())
    }
}

/// Gemini: tokens of one modality.
#[derive(Default)]
struct Modality {
    is_audio: bool,
    count: Option<u64>,
}

impl Object for Modality {
    fn member(&mut self, key: &[u8], value: &mut Value<'_>) -> Result<(), NotJson> {
        match key {
            b"modality" => self.is_audio = value.leaf()?.text() == Some("AUDIO"),
            b"tokenCount" => self.count = value.leaf()?.count(),
            _ => value.skip()?,
        }
        Ok(())
    }
}

/// Reads the tokens of audio from a list of modalities.
fn audio_of(slot: &mut Option<u64>, value: &mut Value<'_>) -> Result<(), NotJson> {
    value.each(|modality: Modality| *slot = modality.count.filter(|_| modality.is_audio).or(*slot))
}

/// Reads a count. One count has several names, and some upstreams write them all, the unused ones with zero.
fn count(slot: &mut Option<u64>, value: &mut Value<'_>) -> Result<(), NotJson> {
    let counted = value.leaf()?.count();
    *slot = counted.filter(|counted| *counted > 0).or(*slot).or(counted);
    Ok(())
}

fn seconds(leaf: &Leaf<'_>) -> Option<Duration> {
    match leaf {
        Leaf::Count(seconds) => Some(Duration::from_secs(*seconds)),
        Leaf::Number(seconds) => Duration::try_from_secs_f64(*seconds).ok(),
        _ => None,
    }
}
