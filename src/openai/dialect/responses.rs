//! The Responses API.

use bytes::Bytes;
use serde::Serialize;

use super::{
    super::{
        FinishReason,
        flat_error::is_flat_error,
        json::{self, Leaf, NotJson, Object, Shape, Value},
        ordinary::Ordinary,
        reading::Gathered,
        usage::CachedTokens,
    },
    definition::{Definition, ErrorNotice, Found, Progress, Terminal, is_malformed},
    event_type::{event_type, leading_type},
};
use crate::sse::{Event, writer};

pub(super) static DEFINITION: Definition = Definition {
    name: "Responses",
    has_terminal_event: true,
    // The SDKs yield an error event like any other.
    raises_on_error_event: false,
    is_numbered: true,
    is_lines: false,
    stays_open: false,
    cached_tokens: CachedTokens::PartOfInput,
    ordinary: Ordinary::chat,
    read_event,
    read_answer,
    error_event,
};

fn read_event(progress: &mut Progress, event: &Event<'_>) -> Found {
    let kind = event_type(event).map(Kind::of);
    if progress.content_seen
        && matches!(kind, Some(Kind::Delta | Kind::PartialImage | Kind::Other))
        && let Some(sequence) = certain_sequence(event.data)
    {
        progress.sequence = Some(sequence);
        return Found::default();
    }
    let mut read = StreamEvent::new(kind, &mut progress.gathered);
    progress.parsed += 1;
    let malformed = is_malformed(event, &mut read);
    // An event that was not read has taken its number all the same.
    let next = progress.sequence.map_or(Some(0), |last| last.checked_add(1));
    progress.sequence = read.sequence.or(next);
    let kind = read.kind();
    // All events of a Responses stream have a number.
    let may_be_flat = kind == Kind::Other && read.sequence.is_none() && event.name.is_empty();
    Found {
        content: read.content() || (event.oversized && matches!(kind, Kind::Delta | Kind::Item)),
        terminal: if let Kind::Terminal(terminal) = kind { Some(terminal) } else { None },
        error: read.error || kind == Kind::Error,
        failure: kind == Kind::Terminal(Terminal::Failed),
        flat_error: may_be_flat && is_flat_error(event.data),
        malformed,
    }
}

fn read_answer(json: &[u8], gathered: &mut Gathered) -> Result<Shape, NotJson> {
    let mut response = Response::new(gathered);
    let shape = json::read(json, &mut response);
    response.settle();
    shape
}

/// Source: openai-openapi, `ResponseErrorEvent`. It is flat, unlike the error of a response.
fn error_event(error: &ErrorNotice<'_>, next_sequence: u64) -> Bytes {
    #[derive(Serialize)]
    struct Data<'a> {
        #[serde(rename = "type")]
        kind: &'static str,
        code: &'a str,
        message: &'a str,
        param: Option<&'a str>,
        sequence_number: u64,
    }
    let ErrorNotice { code, message, param, .. } = *error;
    let data = Data { kind: "error", code, message, param, sequence_number: next_sequence };
    writer::event("error", &serde_json::to_string(&data).unwrap_or_else(|_| error.body.to_owned()))
}

/// The data of one event.
///
/// Source: OpenAI API reference, "Streaming events"; openai-python, `src/openai/types/responses/response_stream_event.py`.
#[derive(Default)]
struct StreamEvent<'a> {
    gathered: Option<&'a mut Gathered>,
    kind: Option<Kind>,
    sequence: Option<u64>,
    /// The event carries a piece of the output.
    delta: bool,
    /// The output item that the event adds or completes.
    item: Item,
    error: bool,
}

impl<'a> StreamEvent<'a> {
    /// An event whose kind is known from its name or from the start of its data, or is yet to be read.
    fn new(kind: Option<Kind>, gathered: &'a mut Gathered) -> Self {
        Self { gathered: Some(gathered), kind, ..Self::default() }
    }

    fn kind(&self) -> Kind {
        self.kind.unwrap_or(Kind::Other)
    }

    fn content(&self) -> bool {
        match self.kind() {
            Kind::Delta => self.delta,
            Kind::Item => self.item.content,
            Kind::PartialImage => true,
            Kind::Terminal(_) | Kind::Error | Kind::Other => false,
        }
    }
}

impl Object for StreamEvent<'_> {
    fn member(&mut self, key: &[u8], value: &mut Value<'_>) -> Result<(), NotJson> {
        match key {
            b"type" if self.kind.is_none() => {
                self.kind = value.leaf()?.text().map(|kind| Kind::of(kind.as_bytes()));
            }
            b"sequence_number" => self.sequence = value.leaf()?.count(),
            b"delta" => self.delta = value.filled()?,
            b"error" => self.error = value.leaf()?.truthy(),
            b"item" => {
                value.object(&mut self.item)?;
                if let Some(gathered) = &mut self.gathered {
                    gathered.calls_client |= self.item.calls_client;
                }
            }
            b"response" => {
                if let Some(gathered) = &mut self.gathered {
                    return Response::read_member(gathered, value);
                }
                value.skip()?;
            }
            _ => value.skip()?,
        }
        Ok(())
    }
}

/// What matters of an event's `type`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    Delta,
    PartialImage,
    /// An output item begins, or is complete.
    Item,
    Terminal(Terminal),
    Error,
    Other,
}

impl Kind {
    fn of(kind: &[u8]) -> Self {
        match kind {
            b"response.completed" => Self::Terminal(Terminal::Completed),
            b"response.failed" => Self::Terminal(Terminal::Failed),
            b"response.incomplete" => Self::Terminal(Terminal::Incomplete),
            b"response.output_item.added" | b"response.output_item.done" => Self::Item,
            b"error" => Self::Error,
            _ if kind.ends_with(b".delta") => Self::Delta,
            _ if kind.ends_with(b".partial_image") => Self::PartialImage,
            _ => Self::Other,
        }
    }
}

/// The response object: a whole answer, or a member of lifecycle events.
struct Response<'a> {
    gathered: &'a mut Gathered,
    status: Option<String>,
    reason: Option<String>,
}

/// Longest `status` or `reason` that is looked at, in bytes.
const WORD_LIMIT: usize = 32;

impl<'a> Response<'a> {
    fn new(gathered: &'a mut Gathered) -> Self {
        Self { gathered, status: None, reason: None }
    }

    fn read_member(gathered: &'a mut Gathered, value: &mut Value<'_>) -> Result<(), NotJson> {
        let mut response = Self::new(gathered);
        value.object(&mut response)?;
        response.settle();
        Ok(())
    }

    /// Status, reason and output may come in any order; now they are there. A response that leaves calls to its client is complete, and
    /// says so in its output alone.
    fn settle(self) {
        let Some(status) = self.status else { return };
        let reason = FinishReason::of_status(&status, self.reason.as_deref());
        let calls = reason == Some(FinishReason::Stop) && self.gathered.calls_client;
        self.gathered.finish_reason = if calls { Some(FinishReason::ToolCalls) } else { reason };
    }
}

impl Object for Response<'_> {
    fn member(&mut self, key: &[u8], value: &mut Value<'_>) -> Result<(), NotJson> {
        match key {
            b"model" if self.gathered.model.is_none() => self.gathered.name_model(value.leaf()?.text()),
            b"status" => self.status = word(&value.leaf()?),
            b"incomplete_details" => {
                value.object(&mut IncompleteDetails(&mut self.reason))?;
            }
            b"usage" => {
                self.gathered.read_usage(value)?;
            }
            b"output" => value.each(|item: Item| self.gathered.calls_client |= item.calls_client)?,
            _ => value.skip()?,
        }
        Ok(())
    }
}

struct IncompleteDetails<'a>(&'a mut Option<String>);

impl Object for IncompleteDetails<'_> {
    fn member(&mut self, key: &[u8], value: &mut Value<'_>) -> Result<(), NotJson> {
        if key != b"reason" {
            return value.skip();
        }
        *self.0 = word(&value.leaf()?);
        Ok(())
    }
}

/// An output item.
///
/// Source: openai-python, `src/openai/types/responses/response_output_item.py`.
#[derive(Default)]
struct Item {
    /// The item is a piece of the output as it stands: not the empty beginning of a message or of reasoning.
    content: bool,
    /// The item is a call that the client is to make or to approve, and so the last word of the response.
    calls_client: bool,
}

impl Object for Item {
    fn member(&mut self, key: &[u8], value: &mut Value<'_>) -> Result<(), NotJson> {
        match key {
            b"type" => {
                let kind = value.leaf()?;
                let kind = kind.text().unwrap_or_default();
                self.content |= !matches!(kind, "message" | "reasoning" | "");
                self.calls_client = is_for_the_client(kind);
            }
            b"content" | b"summary" => self.content |= value.filled()?,
            _ => value.skip()?,
        }
        Ok(())
    }
}

/// Whether an output item of this type waits for the client. Other calls (`web_search_call`, `mcp_call` …) are made by the provider.
fn is_for_the_client(kind: &str) -> bool {
    matches!(
        kind,
        "function_call"
            | "custom_tool_call"
            | "computer_call"
            | "local_shell_call"
            | "shell_call"
            | "apply_patch_call"
            | "mcp_approval_request"
    )
}

fn word(leaf: &Leaf<'_>) -> Option<String> {
    leaf.text().filter(|word| word.len() <= WORD_LIMIT).map(str::to_owned)
}

/// The event's `sequence_number`, where it can be told for certain without parsing: behind a leading `type`, or so near
/// the end that only the end of the event's own object follows.
///
/// A `"` that no backslash precedes and that is followed by the key and a colon can only begin a key; between it and the
/// end there is one `}`, so the object it is in is the outermost one.
fn certain_sequence(data: &[u8]) -> Option<u64> {
    const KEY: &[u8] = br#","sequence_number":"#;
    const NEAR: usize = 160;
    if let Some(kind) = leading_type(data) {
        let behind = data.get(br#"{"type":""#.len() + kind.len() + 1..)?;
        if let Some(number) = behind.strip_prefix(KEY) {
            return leading_number(number);
        }
    }
    let near = data.get(data.len().saturating_sub(NEAR)..)?;
    let number = near.get(memchr::memmem::rfind(near, KEY)? + KEY.len()..)?;
    (memchr::memchr(b'}', number)? == number.len() - 1).then(|| leading_number(number)).flatten()
}

fn leading_number(text: &[u8]) -> Option<u64> {
    let digits = text.iter().take_while(|byte| byte.is_ascii_digit()).count();
    let (number, after) = text.split_at(digits);
    matches!(after.first(), Some(b',' | b'}')).then_some(())?;
    std::str::from_utf8(number).ok()?.parse().ok()
}
