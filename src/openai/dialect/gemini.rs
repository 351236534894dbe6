//! Gemini's own API: `generateContent` and `streamGenerateContent`.

use bytes::Bytes;
use serde::Serialize;

use super::{
    super::{
        FinishReason,
        choices::Choices,
        json::{self, NotJson, Object, Shape, Value},
        ordinary::Ordinary,
        reading::Gathered,
        usage::CachedTokens,
    },
    definition::{Definition, ErrorNotice, Found, Progress, is_malformed},
    other,
};
use crate::sse::{Event, writer};

/// Streams (`alt=sse`) have no terminal event: a stream is whole when each candidate has its `finishReason`, or the prompt was blocked.
///
/// Source: Gemini API reference, "Generating content".
pub(super) static DEFINITION: Definition = Definition {
    name: "Gemini",
    has_terminal_event: true,
    cached_tokens: CachedTokens::PartOfInput,
    ordinary: Ordinary::chat,
    read_event,
    read_answer,
    error_event,
    // Not all of its SDKs raise on an error in a stream.
    ..other::LIKE_OTHER
};

fn read_event(progress: &mut Progress, event: &Event<'_>) -> Found {
    progress.parsed += 1;
    let mut response = Response::new(&mut progress.gathered, &mut progress.choices);
    let malformed = is_malformed(event, &mut response);
    let Response { content, error, blocked, .. } = response;
    progress.finished |= blocked;
    Found { content: content || event.oversized, error, malformed, ..Found::default() }
}

/// Without `alt=sse`, a stream is a JSON array of responses, which is read as one.
fn read_answer(json: &[u8], gathered: &mut Gathered) -> Result<Shape, NotJson> {
    let mut choices = Choices::default();
    if json.trim_ascii_start().first() == Some(&b'[') {
        return json::read_each(json, &mut Response::new(gathered, &mut choices)).map(|()| Shape::Object);
    }
    json::read(json, &mut Response::new(gathered, &mut choices))
}

/// Source: Google Cloud APIs, "Errors", "HTTP mapping".
fn error_event(error: &ErrorNotice<'_>, _next_sequence: u64) -> Bytes {
    #[derive(Serialize)]
    struct Data<'a> {
        error: Status<'a>,
    }
    #[derive(Serialize)]
    struct Status<'a> {
        code: u16,
        message: &'a str,
        status: &'static str,
    }
    let data = Data { error: Status { code: 503, message: error.message, status: "UNAVAILABLE" } };
    writer::data(&serde_json::to_string(&data).unwrap_or_else(|_| error.body.to_owned()))
}

/// A response, or one of a stream.
struct Response<'a> {
    gathered: &'a mut Gathered,
    choices: &'a mut Choices,
    content: bool,
    error: bool,
    /// The prompt was not accepted, so there are no candidates.
    blocked: bool,
}

impl<'a> Response<'a> {
    fn new(gathered: &'a mut Gathered, choices: &'a mut Choices) -> Self {
        Self { gathered, choices, content: false, error: false, blocked: false }
    }

    fn candidate(&mut self, candidate: &Candidate) {
        self.content |= candidate.content;
        self.choices.see(candidate.index, candidate.finish_reason.is_some());
        self.gathered.finish_reason = candidate.finish_reason.or(self.gathered.finish_reason);
    }
}

impl Object for Response<'_> {
    fn member(&mut self, key: &[u8], value: &mut Value<'_>) -> Result<(), NotJson> {
        match key {
            b"candidates" => value.each(|candidate: Candidate| self.candidate(&candidate))?,
            b"modelVersion" if self.gathered.model.is_none() => {
                self.gathered.name_model(value.leaf()?.text());
            }
            b"usageMetadata" => drop(self.gathered.read_usage(value)?),
            b"promptFeedback" => {
                let mut feedback = PromptFeedback { blocked: false };
                value.object(&mut feedback)?;
                if feedback.blocked {
                    self.blocked = true;
                    self.gathered.finish_reason = Some(FinishReason::ContentFilter);
                }
            }
            b"error" => self.error |= value.leaf()?.truthy(),
            _ => value.skip()?,
        }
        Ok(())
    }
}

#[derive(Default)]
struct Candidate {
    index: u64,
    content: bool,
    finish_reason: Option<FinishReason>,
}

impl Object for Candidate {
    fn member(&mut self, key: &[u8], value: &mut Value<'_>) -> Result<(), NotJson> {
        match key {
            b"index" => self.index = value.leaf()?.count().unwrap_or(0),
            b"finishReason" => self.finish_reason = value.leaf()?.text().and_then(reason_of),
            b"content" => {
                let mut content = Content { filled: false };
                value.object(&mut content)?;
                self.content |= content.filled;
            }
            _ => value.skip()?,
        }
        Ok(())
    }
}

struct Content {
    filled: bool,
}

impl Object for Content {
    fn member(&mut self, key: &[u8], value: &mut Value<'_>) -> Result<(), NotJson> {
        if key == b"parts" {
            return value.each(|part: ContentPart| self.filled |= part.filled);
        }
        value.skip()
    }
}

#[derive(Default)]
struct ContentPart {
    filled: bool,
}

impl Object for ContentPart {
    fn member(&mut self, key: &[u8], value: &mut Value<'_>) -> Result<(), NotJson> {
        match key {
            // Says whether the text is a thought, and by whom it was signed.
            b"thought" | b"thoughtSignature" => value.skip()?,
            _ => self.filled |= value.filled()?,
        }
        Ok(())
    }
}

struct PromptFeedback {
    blocked: bool,
}

impl Object for PromptFeedback {
    fn member(&mut self, key: &[u8], value: &mut Value<'_>) -> Result<(), NotJson> {
        if key == b"blockReason" {
            self.blocked = value.leaf()?.filled();
            return Ok(());
        }
        value.skip()
    }
}

/// Source: Gemini API reference, `FinishReason`.
fn reason_of(word: &str) -> Option<FinishReason> {
    Some(match word {
        "" | "FINISH_REASON_UNSPECIFIED" => return None,
        "STOP" => FinishReason::Stop,
        "MAX_TOKENS" => FinishReason::Length,
        "SAFETY" | "RECITATION" | "BLOCKLIST" | "PROHIBITED_CONTENT" | "SPII" | "IMAGE_SAFETY"
        | "LANGUAGE" => FinishReason::ContentFilter,
        _ => FinishReason::Other,
    })
}
