//! The words in which the `rows` are written.

use http::StatusCode;
use sluicegate::simulator::{Head, Script, Step, WHOLE};

use super::{
    heartbeats::{MESSAGE_DELTA, MESSAGE_STOP, SPARE_BLOCK},
    media::{
        RUN_COMPLETED, SPARE_IMAGE, SPARE_MESSAGE, SPARE_SPEECH, SPARE_TRANSCRIPT, SPEECH_DONE, THREAD_DONE,
        TRANSCRIPT_DONE,
    },
};
use crate::faults::rig::{DONE, ROLE, SPARE, stream};

/// A fault, and what comes of it.
pub(super) struct Row {
    pub(super) name: &'static str,
    pub(super) ask: Ask,
    /// How often the SDK itself may ask again.
    pub(super) retries: u32,
    /// What the upstream answers to one request after another.
    pub(super) answers: fn() -> Vec<Script>,
    /// Keys of its table.
    pub(super) upstream: &'static str,
    /// Keys of both routes.
    pub(super) route: &'static str,
    /// Heartbeats are sent, and the SDK sees this many events.
    pub(super) events_among_heartbeats: Option<u64>,
    /// Where the upstream is the only one.
    pub(super) alone: Expected,
    /// Where another may be asked, and an answer is given whole or not at all.
    pub(super) elsewhere: Expected,
}

/// What the SDK is asked to do; its name is that of the scripts' function.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Ask {
    Chat,
    ChatStream,
    ResponsesStream,
    ImagesStream,
    SpeechStream,
    TranscriptionStream,
    ThreadRunStream,
    /// By Anthropic's SDK.
    MessagesStream,
    Batch,
    /// The second of two, so that the upstream's connection may be a kept one.
    TwoBatches,
}

/// What comes of a fault.
#[derive(Clone, Copy)]
pub(super) struct Expected {
    /// What the caller has of an answer; all of it if there is no error.
    pub(super) text: &'static str,
    pub(super) error: Option<Error>,
    /// Requests that reached the upstream, and the spare one.
    pub(super) seen: (usize, usize),
    /// In the log: why the exchange was not whole, and what was tried.
    pub(super) log: (Option<&'static str>, &'static [&'static str]),
}

/// What an SDK raises.
#[derive(Clone, Copy)]
pub(super) struct Error {
    pub(super) python: &'static str,
    pub(super) node: &'static str,
    pub(super) status: Option<u16>,
    pub(super) code: Option<&'static str>,
    /// Where Node's SDK has one and Python's has none.
    pub(super) node_code: Option<&'static str>,
    /// Headers of the answer.
    pub(super) retry_after: Option<&'static str>,
    pub(super) should_retry: Option<&'static str>,
}

/// The text of [`SPARE`].
const SPARES: &str = "from the spare one";

pub(super) const CREATED: &str = "event: response.created\ndata: {\"type\":\"response.created\",\"sequence_number\":0,\"response\":{\"id\":\"r\",\"output\":[]}}\n\n";
const SPARE_DELTA: &str = "event: response.output_text.delta\ndata: {\"type\":\"response.output_text.delta\",\"sequence_number\":1,\"delta\":\"from the spare one\"}\n\n";
pub(super) const COMPLETED: &str = "event: response.completed\ndata: {\"type\":\"response.completed\",\"sequence_number\":2,\"response\":{\"id\":\"r\",\"output\":[]}}\n\n";

/// The connection ended before the answer did.
pub(super) const ABORTED: Error = Error {
    python: "APIConnectionError",
    // What fetch throws, and no class of the SDK's own.
    node: "TypeError",
    status: None,
    code: None,
    node_code: None,
    retry_after: None,
    should_retry: None,
};

/// The same behind an error event: Node's SDK raises on it, Python's hands it on.
pub(super) fn aborted_behind(code: &'static str) -> Error {
    Error { node: "APIError", node_code: Some(code), ..ABORTED }
}

/// An answer or an event that is no JSON.
pub(super) const UNREADABLE: Error = Error { python: "JSONDecodeError", node: "SyntaxError", ..ABORTED };

/// A streamed chat, of which the text is Hello.
pub(super) fn row(
    name: &'static str,
    answers: fn() -> Vec<Script>,
    alone: Expected,
    elsewhere: Expected,
) -> Row {
    Row {
        name,
        ask: Ask::ChatStream,
        retries: 0,
        answers,
        upstream: "",
        route: "",
        events_among_heartbeats: None,
        alone,
        elsewhere,
    }
}

/// The upstream's own whole answer, after these attempts.
pub(super) fn hello(tried: &'static [&'static str]) -> Expected {
    Expected { text: "Hello", error: None, seen: (tried.len() + 1, 0), log: (None, tried) }
}

/// The spare one's whole answer, after these attempts.
pub(super) fn spare(tried: &'static [&'static str]) -> Expected {
    Expected { text: SPARES, error: None, seen: (tried.len(), 1), log: (None, tried) }
}

/// The upstream's own error, which the log has under the upstream's own code.
pub(super) fn told(error: Error, tried: &'static [&'static str]) -> Expected {
    Expected { text: "", error: Some(error), seen: (tried.len(), 0), log: (error.code, tried) }
}

/// An error of the gateway's making, which the log has as `code`.
pub(super) fn failed(code: &'static str, error: Error, tried: &'static [&'static str]) -> Expected {
    Expected { log: (Some(code), tried), ..told(error, tried) }
}

/// The same in an answer that has begun.
pub(super) fn broken(text: &'static str, code: &'static str, error: Error) -> Expected {
    Expected { text, seen: (1, 0), ..failed(code, error, &[]) }
}

impl Row {
    /// Not a streamed chat.
    pub(super) fn asks(self, ask: Ask) -> Self {
        Self { ask, ..self }
    }

    /// The SDK may retry twice, and it comes to nothing: what the gateway has tried is not multiplied.
    pub(super) fn sdk_retries(self) -> Self {
        Self { retries: 2, ..self }
    }

    /// With heartbeats; the SDK sees this many events, and nothing for a heartbeat.
    pub(super) fn heartbeats(self, events: u64) -> Self {
        Self { upstream: "heartbeat = \"1s\"", events_among_heartbeats: Some(events), ..self }
    }

    pub(super) fn upstream(self, upstream: &'static str) -> Self {
        Self { upstream, ..self }
    }

    pub(super) fn route(self, route: &'static str) -> Self {
        Self { route, ..self }
    }
}

impl Error {
    /// An answer whose status is an error.
    pub(super) fn status(class: &'static str, status: u16, code: &'static str) -> Self {
        Self { python: class, node: class, status: Some(status), code: Some(code), ..ABORTED }
    }

    /// An error event within a stream.
    pub(super) fn event(code: &'static str) -> Self {
        Self { python: "APIError", node: "APIError", code: Some(code), ..ABORTED }
    }

    /// The SDK is told that asking again is of no use.
    pub(super) fn for_good(self) -> Self {
        Self { should_retry: Some("false"), ..self }
    }

    pub(super) fn retry_after(self, seconds: &'static str) -> Self {
        Self { retry_after: Some(seconds), ..self }
    }
}

impl Ask {
    pub(super) fn name(self) -> &'static str {
        match self {
            Self::Chat => "chat",
            Self::ChatStream => "chat_stream",
            Self::ResponsesStream => "responses_stream",
            Self::ImagesStream => "images_stream",
            Self::SpeechStream => "speech_stream",
            Self::TranscriptionStream => "transcription_stream",
            Self::ThreadRunStream => "thread_run_stream",
            Self::MessagesStream => "messages_stream",
            Self::Batch => "batch",
            Self::TwoBatches => "two_batches",
        }
    }

    /// Requests that the SDK makes, if it repeats none.
    pub(super) fn requests(self) -> usize {
        if self == Self::TwoBatches { 2 } else { 1 }
    }

    /// The spare one's answer.
    pub(super) fn spare(self) -> Script {
        match self {
            Self::Chat => json(&format!(
                r#"{{"id":"1","choices":[{{"index":0,"finish_reason":"stop","message":{{"role":"assistant","content":"{SPARES}"}}}}]}}"#
            )),
            Self::ChatStream => stream(&[ROLE, SPARE, DONE]),
            Self::ResponsesStream => stream(&[CREATED, SPARE_DELTA, COMPLETED]),
            Self::ImagesStream => stream(&[SPARE_IMAGE]),
            Self::SpeechStream => stream(&[SPARE_SPEECH, SPEECH_DONE]),
            Self::TranscriptionStream => stream(&[SPARE_TRANSCRIPT, TRANSCRIPT_DONE]),
            Self::ThreadRunStream => stream(&[SPARE_MESSAGE, RUN_COMPLETED, THREAD_DONE]),
            Self::MessagesStream => stream(&[SPARE_BLOCK, MESSAGE_DELTA, MESSAGE_STOP]),
            Self::Batch | Self::TwoBatches => json(r#"{"id":"of the spare one"}"#),
        }
    }
}

/// A document.
pub(super) fn json(body: &str) -> Script {
    let head = Head::json(StatusCode::OK, body.len());
    Script::new(vec![Step::ReadBody(WHOLE), Step::Head(head), Step::Send(body.to_owned().into())])
}
