//! Ollama's own API: `/api/chat` and `/api/generate`. A stream is JSON, one document in each line.

use bytes::Bytes;
use serde::Serialize;

use super::{
    super::{
        FinishReason,
        json::{self, NotJson, Object, Shape, Value},
        reading::Gathered,
        usage::Tokens,
    },
    definition::{Definition, ErrorNotice, Found, Progress, Terminal, is_malformed},
    other,
};
use crate::sse::Event;

/// Source: Ollama API documentation, "Streaming", "Errors", "Usage".
pub(super) static DEFINITION: Definition = Definition {
    name: "Ollama",
    has_terminal_event: true,
    // ollama-python, `ollama/_client.py`, and ollama-js, `src/utils.ts`, raise on a line with an `error`.
    raises_on_error_event: true,
    is_lines: true,
    read_event,
    read_answer,
    error_event,
    ..other::LIKE_OTHER
};

fn read_event(progress: &mut Progress, event: &Event<'_>) -> Found {
    progress.parsed += 1;
    let mut line = OutputLine::new(&mut progress.gathered);
    let malformed = is_malformed(event, &mut line);
    let OutputLine { content, error, done, .. } = line;
    Found {
        content: content || event.oversized,
        terminal: done.then_some(Terminal::Last),
        error,
        malformed,
        ..Found::default()
    }
}

fn read_answer(json: &[u8], gathered: &mut Gathered) -> Result<Shape, NotJson> {
    json::read(json, &mut OutputLine::new(gathered))
}

fn error_event(error: &ErrorNotice<'_>, _next_sequence: u64) -> Bytes {
    #[derive(Serialize)]
    struct ErrorLine<'a> {
        error: &'a str,
    }
    let line = serde_json::to_string(&ErrorLine { error: error.message });
    let mut line = line.unwrap_or_else(|_| error.body.to_owned());
    line.push('\n');
    line.into()
}

/// One line of a stream, or an answer.
struct OutputLine<'a> {
    gathered: &'a mut Gathered,
    content: bool,
    error: bool,
    done: bool,
}

impl<'a> OutputLine<'a> {
    fn new(gathered: &'a mut Gathered) -> Self {
        Self { gathered, content: false, error: false, done: false }
    }
}

impl Object for OutputLine<'_> {
    fn member(&mut self, key: &[u8], value: &mut Value<'_>) -> Result<(), NotJson> {
        match key {
            b"model" if self.gathered.model.is_none() => self.gathered.name_model(value.leaf()?.text()),
            b"message" => {
                let mut message = Message { content: false };
                value.object(&mut message)?;
                self.content |= message.content;
            }
            b"response" | b"thinking" => self.content |= value.filled()?,
            b"done" => self.done = value.leaf()?.truthy(),
            b"done_reason" => {
                let reason = value.leaf()?.text().and_then(FinishReason::of_word);
                self.gathered.finish_reason = reason.or(self.gathered.finish_reason);
            }
            b"prompt_eval_count" | b"eval_count" => {
                self.gathered.tokens.update(&Tokens::of_member(key, value)?);
            }
            b"error" => self.error |= value.leaf()?.truthy(),
            _ => value.skip()?,
        }
        Ok(())
    }
}

struct Message {
    content: bool,
}

impl Object for Message {
    fn member(&mut self, key: &[u8], value: &mut Value<'_>) -> Result<(), NotJson> {
        match key {
            b"role" => value.skip()?,
            // Text, thinking, images, calls.
            _ => self.content |= value.filled()?,
        }
        Ok(())
    }
}
