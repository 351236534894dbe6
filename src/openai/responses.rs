//! Events and answers of the Responses API.

use super::FinishReason;
use super::json::{Leaf, NotJson, Object, Value};
use super::reading::Gathered;
use super::stream::Terminal;

/// The data of one event.
///
/// Source: OpenAI API reference, "Streaming events"; openai-python, `src/openai/types/responses/response_stream_event.py`.
#[derive(Default)]
pub(super) struct StreamEvent<'a> {
    gathered: Option<&'a mut Gathered>,
    kind: Option<Kind>,
    pub(super) sequence: Option<u64>,
    /// The event carries a piece of the output.
    delta: bool,
    /// The output item that the event adds is a call.
    call: bool,
    pub(super) error: bool,
}

impl<'a> StreamEvent<'a> {
    /// An event whose kind is known from its name or from the start of its data, or is yet to be read.
    pub(super) fn new(kind: Option<Kind>, gathered: &'a mut Gathered) -> Self {
        Self { gathered: Some(gathered), kind, ..Self::default() }
    }

    pub(super) fn kind(&self) -> Kind {
        self.kind.unwrap_or(Kind::Other)
    }

    pub(super) fn content(&self) -> bool {
        match self.kind() {
            Kind::Delta => self.delta,
            Kind::ItemAdded => self.call,
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
                let mut item = Item::default();
                value.object(&mut item)?;
                self.call = item.call;
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
pub(super) enum Kind {
    Delta,
    PartialImage,
    ItemAdded,
    Terminal(Terminal),
    Error,
    Other,
}

impl Kind {
    pub(super) fn of(kind: &[u8]) -> Self {
        match kind {
            b"response.completed" => Self::Terminal(Terminal::Completed),
            b"response.failed" => Self::Terminal(Terminal::Failed),
            b"response.incomplete" => Self::Terminal(Terminal::Incomplete),
            b"response.output_item.added" => Self::ItemAdded,
            b"error" => Self::Error,
            _ if kind.ends_with(b".delta") => Self::Delta,
            _ if kind.ends_with(b".partial_image") => Self::PartialImage,
            _ => Self::Other,
        }
    }
}

/// The response object: a whole answer, or a member of lifecycle events.
pub(super) struct Response<'a> {
    gathered: &'a mut Gathered,
    status: Option<String>,
    reason: Option<String>,
}

/// Longest `status` or `reason` that is looked at, in bytes.
const WORD_LIMIT: usize = 32;

impl<'a> Response<'a> {
    pub(super) fn new(gathered: &'a mut Gathered) -> Self {
        Self { gathered, status: None, reason: None }
    }

    fn read_member(gathered: &'a mut Gathered, value: &mut Value<'_>) -> Result<(), NotJson> {
        let mut response = Self::new(gathered);
        value.object(&mut response)?;
        response.settle();
        Ok(())
    }

    /// Status and reason may come in any order; now both are there.
    pub(super) fn settle(self) {
        if let Some(status) = self.status {
            self.gathered.finish_reason = FinishReason::of_status(&status, self.reason.as_deref());
        }
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

#[derive(Default)]
struct Item {
    call: bool,
}

impl Object for Item {
    fn member(&mut self, key: &[u8], value: &mut Value<'_>) -> Result<(), NotJson> {
        if key != b"type" {
            return value.skip();
        }
        self.call = value.leaf()?.text().is_some_and(|kind| kind.ends_with("_call"));
        Ok(())
    }
}

fn word(leaf: &Leaf<'_>) -> Option<String> {
    leaf.text().filter(|word| word.len() <= WORD_LIMIT).map(str::to_owned)
}

/// The event's `type`, when it is the data's first member, written plainly, as OpenAI does.
pub(super) fn leading_type(data: &[u8]) -> Option<&[u8]> {
    let value = data.strip_prefix(br#"{"type":""#)?;
    let end = memchr::memchr2(b'"', b'\\', value)?;
    (value.get(end) == Some(&b'"')).then(|| value.get(..end)).flatten()
}

/// The event's `sequence_number`, where it can be told for certain without parsing: behind a leading `type`, or so near
/// the end that only the end of the event's own object follows.
///
/// A `"` that no backslash precedes and that is followed by the key and a colon can only begin a key; between it and the
/// end there is one `}`, so the object it is in is the outermost one.
pub(super) fn certain_sequence(data: &[u8]) -> Option<u64> {
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
