//! What the messages of a WebSocket connection say: turns, usage, errors, and the models that a client names.
//!
//! Sources: OpenAI API reference, Realtime "Client events" and "Server events"; Responses "WebSocket mode". Both send the events of a turn as
//! text messages; a turn ends with `response.done` (Realtime), or with the terminal event of a Responses stream.

use super::{
    Usage,
    json::{self, NotJson, Object, Value},
    reading::{Gathered, MODEL_KEPT},
    usage::{CachedTokens, Tokens},
};
use crate::outline::Members;

/// Limit of the models that are read from one message. A message that names more is unclear.
const MOST_MODELS: usize = 8;

/// What is kept of client messages that are too long to be kept whole.
pub static CLIENT_OUTLINED: Members = Members {
    named: &[
        b"type",
        b"model",
        b"session",
        b"setup",
        b"response",
        b"audio",
        b"input",
        b"transcription",
        b"input_audio_transcription",
    ],
    whole: &[],
};

/// What a message of the server says.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct ServerMessage {
    /// What it is.
    pub kind: ServerKind,
    /// The tokens that a turn, or a transcription, has used.
    pub usage: Option<Usage>,
    /// The model that answers.
    pub model: Option<String>,
    /// The code of an error, or its type.
    pub code: Option<String>,
}

/// What a message of the server is.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
pub enum ServerKind {
    /// A turn begins.
    Begun,
    /// A turn has ended.
    Ended,
    /// A turn has ended without success.
    Failed,
    /// An error, which ends no turn that has begun.
    Error,
    /// Anything else.
    #[default]
    Other,
}

/// What a message of the client says.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct ClientMessage {
    /// Whether it asks for a turn.
    pub asks: bool,
    /// The models that it names, wherever a model is read from such a message.
    pub models: Vec<String>,
    /// Whether it is a JSON object.
    pub is_object: bool,
    /// Whether it may say more than was read: an object may be in it that was not read, or it names too many models.
    pub is_unclear: bool,
}

impl ServerMessage {
    /// Whether a message that begins with these bytes may say anything that is read from it. Nearly all are pieces of the output.
    pub fn is_wanted(beginning: &[u8]) -> bool {
        leading_type(beginning).is_none_or(|kind| kind_of(kind).is_some())
    }

    /// Reads a message, whole or its outline. What is no such message says nothing.
    pub fn read(text: &[u8]) -> Self {
        let mut event = ServerEvent::default();
        // Of an outline that broke off, what came before is read.
        let _ = json::read(text, &mut event);
        let kind = event.kind.unwrap_or_default();
        let reads_usage = !matches!(kind, Reads::Begun | Reads::Session);
        let usage = event.tokens.usage(CachedTokens::PartOfInput).filter(|_| reads_usage);
        let kind = match kind {
            Reads::Begun => ServerKind::Begun,
            Reads::Ended if event.status_failed => ServerKind::Failed,
            Reads::Ended => ServerKind::Ended,
            Reads::Failed => ServerKind::Failed,
            Reads::Error => ServerKind::Error,
            Reads::Transcribed | Reads::Session | Reads::Nothing => ServerKind::Other,
        };
        let usage = usage.filter(|_| event.kind.is_some());
        Self { kind, usage, model: event.model, code: event.code }
    }
}

impl ClientMessage {
    /// Whether a message that begins with these bytes may say anything that is read from it. Nearly all are audio.
    pub fn is_wanted(beginning: &[u8]) -> bool {
        leading_type(beginning).is_none_or(|kind| matches!(kind, b"response.create" | b"session.update"))
    }

    /// Reads a message, whole or its outline.
    pub fn read(text: &[u8]) -> Self {
        let mut event = ClientEvent::default();
        let begins = text.trim_ascii_start().first() == Some(&b'{');
        let is_object = begins && json::read(text, &mut event).is_ok();
        // Some readers take an object behind a byte order mark, in another Unicode encoding, or in an array.
        let is_unread = !is_object && memchr::memchr(b'{', text).is_some();
        let ClientEvent { asks, models, too_many, .. } = event;
        Self { asks, models, is_object, is_unclear: is_unread || too_many }
    }
}

/// The value of a leading `type`, also behind white space; `None` if it stands elsewhere, or is longer than what is there.
fn leading_type(text: &[u8]) -> Option<&[u8]> {
    let inside = text.trim_ascii_start().strip_prefix(b"{")?.trim_ascii_start();
    let value = inside.strip_prefix(br#""type""#)?.trim_ascii_start().strip_prefix(b":")?;
    let value = value.trim_ascii_start().strip_prefix(b"\"")?;
    let end = memchr::memchr2(b'"', b'\\', value)?;
    (value.get(end) == Some(&b'"')).then(|| value.get(..end)).flatten()
}

/// What is read from a message of the server.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
enum Reads {
    Begun,
    Ended,
    Failed,
    Error,
    /// Usage beside the turns.
    Transcribed,
    Session,
    #[default]
    Nothing,
}

fn kind_of(kind: &[u8]) -> Option<Reads> {
    Some(match kind {
        b"response.created" => Reads::Begun,
        b"response.done" | b"response.completed" | b"response.incomplete" => Reads::Ended,
        b"response.failed" => Reads::Failed,
        b"error" => Reads::Error,
        b"conversation.item.input_audio_transcription.completed" => Reads::Transcribed,
        b"session.created" | b"session.updated" => Reads::Session,
        _ => return None,
    })
}

#[derive(Default)]
struct ServerEvent {
    kind: Option<Reads>,
    tokens: Tokens,
    model: Option<String>,
    code: Option<String>,
    status_failed: bool,
}

impl ServerEvent {
    fn read_model(&mut self, value: &mut Value<'_>) -> Result<(), NotJson> {
        let mut gathered = Gathered { model: self.model.take(), ..Gathered::default() };
        gathered.name_model(value.leaf()?.text());
        self.model = gathered.model;
        Ok(())
    }
}

impl Object for ServerEvent {
    fn member(&mut self, key: &[u8], value: &mut Value<'_>) -> Result<(), NotJson> {
        match key {
            b"type" => {
                self.kind = value.leaf()?.text().and_then(|kind| kind_of(kind.as_bytes()));
                Ok(())
            }
            b"response" | b"session" => value.object(&mut Inner(self)).map(drop),
            b"usage" => value.object(&mut self.tokens).map(drop),
            b"error" => value.object(&mut ErrorCode(&mut self.code)).map(drop),
            _ => value.skip(),
        }
    }
}

/// The object that an event is about.
struct Inner<'a>(&'a mut ServerEvent);

impl Object for Inner<'_> {
    fn member(&mut self, key: &[u8], value: &mut Value<'_>) -> Result<(), NotJson> {
        match key {
            b"usage" => value.object(&mut self.0.tokens).map(drop),
            b"model" => self.0.read_model(value),
            b"status" => {
                self.0.status_failed = value.leaf()?.text() == Some("failed");
                Ok(())
            }
            b"error" => value.object(&mut ErrorCode(&mut self.0.code)).map(drop),
            b"status_details" => value.object(&mut StatusDetails(&mut self.0.code)).map(drop),
            _ => value.skip(),
        }
    }
}

/// Realtime, `response.status_details`.
struct StatusDetails<'a>(&'a mut Option<String>);

impl Object for StatusDetails<'_> {
    fn member(&mut self, key: &[u8], value: &mut Value<'_>) -> Result<(), NotJson> {
        if key != b"error" {
            return value.skip();
        }
        value.object(&mut ErrorCode(self.0)).map(drop)
    }
}

/// The code of an error, or its type if it has none.
struct ErrorCode<'a>(&'a mut Option<String>);

impl Object for ErrorCode<'_> {
    fn member(&mut self, key: &[u8], value: &mut Value<'_>) -> Result<(), NotJson> {
        let is_code = key == b"code";
        if !is_code && (key != b"type" || self.0.is_some()) {
            return value.skip();
        }
        let leaf = value.leaf()?;
        let code = leaf.text().filter(|code| !code.is_empty() && code.len() <= MODEL_KEPT);
        *self.0 = code.map(str::to_owned).or(self.0.take());
        Ok(())
    }
}

#[derive(Default)]
struct ClientEvent {
    asks: bool,
    models: Vec<String>,
    too_many: bool,
    /// Objects around the member that is read.
    depth: u8,
}

impl ClientEvent {
    fn read_model(&mut self, value: &mut Value<'_>) -> Result<(), NotJson> {
        let leaf = value.leaf()?;
        let Some(model) = leaf.text() else { return Ok(()) };
        if self.models.iter().any(|known| known == model) {
            return Ok(());
        }
        self.too_many |= self.models.len() == MOST_MODELS || model.len() > MODEL_KEPT;
        if !self.too_many {
            self.models.push(model.to_owned());
        }
        Ok(())
    }
}

/// `model`, `session.model`, `setup.model` (Gemini API reference, Live API, `BidiGenerateContentSetup`), `response.model`, `session.audio.input.transcription.model`, `session.input_audio_transcription.model`.
impl Object for ClientEvent {
    fn member(&mut self, key: &[u8], value: &mut Value<'_>) -> Result<(), NotJson> {
        // Some upstreams do not look at case (Go's encoding/json).
        let is = |name: &[u8]| key.eq_ignore_ascii_case(name);
        if is(b"model") {
            return self.read_model(value);
        }
        if self.depth == 0 && is(b"type") {
            self.asks |= value.leaf()?.text() == Some("response.create");
            return Ok(());
        }
        let is_inside = match self.depth {
            0 => is(b"session") || is(b"response") || is(b"setup"),
            1 => is(b"audio") || is(b"input_audio_transcription"),
            2 => is(b"input"),
            3 => is(b"transcription"),
            _ => false,
        };
        if !is_inside {
            return value.skip();
        }
        self.depth += 1;
        let read = value.object(self).map(drop);
        self.depth -= 1;
        read
    }
}

#[cfg(test)]
mod tests;
