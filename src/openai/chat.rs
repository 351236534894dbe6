//! Chunks and answers of chat completions and legacy completions, and of operations that answer alike.

use super::FinishReason;
use super::json::{NotJson, Object, Value};
use super::reading::Gathered;

/// The top level of a chunk or an answer.
///
/// Source: OpenAI API reference, chat completion object and chunk, completion object. Embeddings have `model` and
/// `usage` in the same places.
pub(super) struct Body<'a> {
    gathered: &'a mut Gathered,
    choices: &'a mut Choices,
    /// A choice has text, reasoning, refusal, audio or a tool call in its delta.
    pub(super) content: bool,
    pub(super) error: bool,
    pub(super) finished: bool,
    pub(super) usage: bool,
    pub(super) choice_count: usize,
}

impl<'a> Body<'a> {
    pub(super) fn new(gathered: &'a mut Gathered, choices: &'a mut Choices) -> Self {
        Self {
            gathered,
            choices,
            content: false,
            error: false,
            finished: false,
            usage: false,
            choice_count: 0,
        }
    }

    fn choice(&mut self, choice: &Choice) {
        self.choice_count += 1;
        self.content |= choice.content;
        self.choices.see(choice.index, choice.finish_reason.is_some());
        if choice.finish_reason.is_some() {
            self.finished = true;
            self.gathered.finish_reason = choice.finish_reason;
        }
    }
}

impl Object for Body<'_> {
    fn member(&mut self, key: &[u8], value: &mut Value<'_>) -> Result<(), NotJson> {
        match key {
            b"choices" => value.each(|choice: Choice| self.choice(&choice))?,
            b"model" if self.gathered.model.is_none() => self.gathered.name_model(value.leaf()?.text()),
            b"usage" => self.usage |= self.gathered.read_usage(value)?,
            b"error" => self.error |= value.leaf()?.truthy(),
            _ => value.skip()?,
        }
        Ok(())
    }
}

#[derive(Default)]
struct Choice {
    index: u64,
    finish_reason: Option<FinishReason>,
    content: bool,
}

impl Object for Choice {
    fn member(&mut self, key: &[u8], value: &mut Value<'_>) -> Result<(), NotJson> {
        match key {
            b"index" => self.index = value.leaf()?.count().unwrap_or(0),
            b"finish_reason" => self.finish_reason = value.leaf()?.text().map(FinishReason::of_word),
            b"text" => self.content |= value.filled()?,
            b"delta" => {
                let mut delta = Delta::default();
                value.object(&mut delta)?;
                self.content |= delta.content;
            }
            _ => value.skip()?,
        }
        Ok(())
    }
}

#[derive(Default)]
struct Delta {
    content: bool,
}

impl Object for Delta {
    fn member(&mut self, key: &[u8], value: &mut Value<'_>) -> Result<(), NotJson> {
        match key {
            // `reasoning*` are what vLLM, DeepSeek and OpenRouter call it.
            b"content" | b"reasoning_content" | b"reasoning" | b"reasoning_details" | b"refusal"
            | b"audio" | b"tool_calls" | b"function_call" => self.content |= value.filled()?,
            _ => value.skip()?,
        }
        Ok(())
    }
}

/// Which choices a stream has shown and which of them have finished; of the first 128, the most that the API gives.
#[derive(Debug, Default)]
pub(super) struct Choices {
    seen: u128,
    finished: u128,
    beyond: bool,
}

impl Choices {
    fn see(&mut self, index: u64, finished: bool) {
        let bit = u32::try_from(index).ok().and_then(|index| 1u128.checked_shl(index));
        self.beyond |= bit.is_none();
        let bit = bit.unwrap_or(0);
        self.seen |= bit;
        if finished {
            self.finished |= bit;
        }
    }

    /// Whether there were choices and every one has finished.
    pub(super) fn all_finished(&self) -> bool {
        self.seen != 0 && self.seen == self.finished && !self.beyond
    }
}
