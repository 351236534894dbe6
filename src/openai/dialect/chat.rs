//! Chat completions; legacy completions and operations of no known dialect are read in the same way.

use bytes::Bytes;

use super::{
    super::{
        FinishReason,
        choices::Choices,
        flat_error::is_flat_error,
        json::{self, NotJson, Object, Shape, Value},
        ordinary::Ordinary,
        reading::Gathered,
        usage::{CachedTokens, Tokens},
    },
    definition::{Definition, ErrorNotice, Found, Progress, is_malformed},
};
use crate::sse::{Event, writer};

pub(super) static DEFINITION: Definition = LIKE_CHAT;

/// For a dialect to begin with.
pub(super) const LIKE_CHAT: Definition = Definition {
    name: "Chat",
    has_terminal_event: true,
    // The SDK raises on an `error` member (openai-python, `src/openai/_streaming.py`).
    raises_on_error_event: true,
    is_numbered: false,
    is_lines: false,
    stays_open: false,
    cached_tokens: CachedTokens::PartOfInput,
    ordinary: Ordinary::chat,
    read_event,
    read_answer,
    error_event,
};

/// Reads one chunk. An ordinary one is recognised without parsing it.
fn read_event(progress: &mut Progress, event: &Event<'_>) -> Found {
    if progress.content_seen && event.name != b"error" && progress.ordinary.matches(event.data) {
        return Found { content: true, ..Found::default() };
    }
    uncommon_chunk(progress, event)
}

/// Reads a chunk that may say something new.
fn uncommon_chunk(progress: &mut Progress, event: &Event<'_>) -> Found {
    let named_error = event.name == b"error";
    progress.parsed += 1;
    let mut body = Body::new(&mut progress.gathered, &mut progress.choices);
    let malformed = is_malformed(event, &mut body);
    // A chunk that has a role and nothing else is never this large.
    body.content |= event.oversized && !named_error && !body.error;
    let error = body.error || named_error;
    let ordinary =
        !malformed && !event.oversized && !error && !body.finished && !body.usage && body.choice_count == 1;
    let content = body.content;
    // Nearly every chunk has a choice or the usage.
    let may_be_flat = body.choice_count == 0 && !body.usage && !error && !malformed;
    let flat_error = may_be_flat && is_flat_error(event.data);
    if ordinary && (content || progress.content_seen) {
        progress.ordinary.learn(event.data);
    }
    Found { content: content && !flat_error, error, flat_error, malformed, ..Found::default() }
}

/// Reads a chat completion, a completion, or an answer of the same form.
pub(super) fn read_answer(json: &[u8], gathered: &mut Gathered) -> Result<Shape, NotJson> {
    json::read(json, &mut Body::new(gathered, &mut Choices::default()))
}

/// An event without a name, whose data is what an error response would have as its body.
pub(super) fn error_event(error: &ErrorNotice<'_>, _next_sequence: u64) -> Bytes {
    writer::data(error.body)
}

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
        if choice.usage.is_known() {
            self.usage = true;
            self.gathered.tokens.update(&choice.usage);
        }
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
            // Groq, at the finish (vercel/ai#1651).
            b"x_groq" => {
                value.object(&mut Groq(self))?;
            }
            b"error" => self.error |= value.leaf()?.truthy(),
            _ => value.skip()?,
        }
        Ok(())
    }
}

struct Groq<'b, 'a>(&'b mut Body<'a>);

impl Object for Groq<'_, '_> {
    fn member(&mut self, key: &[u8], value: &mut Value<'_>) -> Result<(), NotJson> {
        if key != b"usage" {
            return value.skip();
        }
        self.0.usage |= self.0.gathered.read_usage(value)?;
        Ok(())
    }
}

#[derive(Default)]
struct Choice {
    index: u64,
    finish_reason: Option<FinishReason>,
    content: bool,
    usage: Tokens,
}

impl Object for Choice {
    fn member(&mut self, key: &[u8], value: &mut Value<'_>) -> Result<(), NotJson> {
        match key {
            b"index" => self.index = value.leaf()?.count().unwrap_or(0),
            b"finish_reason" => self.finish_reason = value.leaf()?.text().and_then(FinishReason::of_word),
            b"text" => self.content |= value.filled()?,
            // Moonshot, at the finish (northes/go-moonshot#17).
            b"usage" => drop(value.object(&mut self.usage)?),
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
            b"role" => value.skip()?,
            // Text, reasoning under any of its names, refusals, audio, images, calls, and whatever is added to the APIs later.
            _ => self.content |= value.filled()?,
        }
        Ok(())
    }
}
