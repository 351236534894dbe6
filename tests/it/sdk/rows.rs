//! What an upstream does wrong, and what the official SDKs make of what the gateway makes of it. Everything else is in `faults`.

use std::time::Duration;

use http::StatusCode;
use sluicegate::simulator::{Cut, Head, Script, Step, WHOLE};

use crate::faults::rig::{DONE, HELLO, ROLE, SPARE, refusal, refusing, stream, stream_then};

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
#[derive(Clone, Copy, Default)]
pub(super) struct Error {
    pub(super) python: &'static str,
    pub(super) node: &'static str,
    pub(super) status: Option<u16>,
    pub(super) code: Option<&'static str>,
    /// Headers of the answer.
    pub(super) retry_after: Option<&'static str>,
    pub(super) should_retry: Option<&'static str>,
}

impl Ask {
    pub(super) fn name(self) -> &'static str {
        match self {
            Self::Chat => "chat",
            Self::ChatStream => "chat_stream",
            Self::ResponsesStream => "responses_stream",
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
            Self::Batch | Self::TwoBatches => json(r#"{"id":"of the spare one"}"#),
        }
    }
}

/// The text of [`SPARE`].
const SPARES: &str = "from the spare one";
const HALF: &str = "data: {\"choices\":[{\"index\":0,\"delta\":{\"content\":\"wor";
const FINISHED: &str = "data: {\"choices\":[{\"index\":0,\"delta\":{},\"finish_reason\":\"stop\"}]}\n\n";
const ERROR: &str = "data: {\"error\":{\"message\":\"it broke\",\"type\":\"server_error\",\"param\":null,\"code\":\"broken\"}}\n\n";
const MALFORMED: &str = "data: {\"choices\": nonsense}\n\n";

const CREATED: &str = "event: response.created\ndata: {\"type\":\"response.created\",\"sequence_number\":0,\"response\":{\"id\":\"r\",\"output\":[]}}\n\n";
const DELTA: &str = "event: response.output_text.delta\ndata: {\"type\":\"response.output_text.delta\",\"sequence_number\":1,\"delta\":\"Hello\"}\n\n";
const SPARE_DELTA: &str = "event: response.output_text.delta\ndata: {\"type\":\"response.output_text.delta\",\"sequence_number\":1,\"delta\":\"from the spare one\"}\n\n";
const COMPLETED: &str = "event: response.completed\ndata: {\"type\":\"response.completed\",\"sequence_number\":2,\"response\":{\"id\":\"r\",\"output\":[]}}\n\n";

/// More than are ever asked for.
const MANY: usize = 8;

const RATE: &str = "rate_limit_exceeded";

/// A row with nothing particular about it.
const PLAIN: Row = Row {
    name: "",
    ask: Ask::ChatStream,
    retries: 0,
    answers: Vec::new,
    upstream: "",
    route: "",
    alone: whole("Hello", (1, 0), &[]),
    elsewhere: whole("Hello", (1, 0), &[]),
};

pub(super) fn rows() -> Vec<Row> {
    [refused(), no_answer(), broken_off(), not_broken(), batches(), other_dialects()]
        .into_iter()
        .flatten()
        .collect()
}

/// An upstream that says no.
fn refused() -> Vec<Row> {
    vec![
        Row {
            name: "429-once",
            answers: || vec![refusal(429, RATE, &[("retry-after-ms", "60")]), stream(&[ROLE, HELLO, DONE])],
            alone: whole("Hello", (2, 0), &["4xx"]),
            elsewhere: spare(&["4xx"]),
            ..PLAIN
        },
        Row {
            name: "429-for-an-hour",
            answers: || vec![refusal(429, RATE, &[("retry-after", "3600")])],
            alone: nothing(
                1,
                &["4xx"],
                Error { retry_after: Some("60"), ..status("RateLimitError", 429, RATE) },
            ),
            elsewhere: spare(&["4xx"]),
            ..PLAIN
        },
        Row {
            name: "429",
            retries: 2,
            answers: || many(|| refusal(429, RATE, &[("retry-after-ms", "30")])),
            alone: nothing(4, &["4xx"; 4], Error { should_retry: NO, ..status("RateLimitError", 429, RATE) }),
            elsewhere: spare(&["4xx"]),
            ..PLAIN
        },
        Row {
            name: "500-once",
            answers: || vec![refusal(500, "server_error", &[]), stream(&[ROLE, HELLO, DONE])],
            alone: whole("Hello", (2, 0), &["5xx"]),
            elsewhere: spare(&["5xx"]),
            ..PLAIN
        },
        Row {
            name: "503",
            // They come to nothing: what the gateway has tried again is not multiplied.
            retries: 2,
            answers: || many(|| refusal(503, "server_is_overloaded", &[])),
            alone: nothing(
                4,
                &["5xx"; 4],
                Error { should_retry: NO, ..status("InternalServerError", 503, "server_is_overloaded") },
            ),
            elsewhere: spare(&["5xx"]),
            ..PLAIN
        },
        Row {
            name: "503-late",
            answers: || {
                many(|| {
                    let mut steps = refusing(503, "server_is_overloaded", &[]);
                    steps.insert(0, Step::Wait(Duration::from_millis(100)));
                    Script::new(steps)
                })
            },
            route: "commit_after = \"50ms\"",
            alone: failed(4, "upstream_error_event", &["5xx"; 4], event("server_is_overloaded")),
            elsewhere: spare(&["5xx"]),
            ..PLAIN
        },
        Row {
            name: "too-long-for-the-model",
            answers: || vec![refusal(400, "context_length_exceeded", &[])],
            route: "next_on_context_length = true",
            alone: nothing(1, &["4xx"], status("BadRequestError", 400, "context_length_exceeded")),
            elsewhere: spare(&["4xx"]),
            ..PLAIN
        },
        Row {
            name: "content-filter",
            answers: || vec![refusal(400, "content_filter", &[])],
            alone: nothing(1, &["4xx"], status("BadRequestError", 400, "content_filter")),
            elsewhere: nothing(1, &["4xx"], status("BadRequestError", 400, "content_filter")),
            ..PLAIN
        },
        Row {
            name: "our-key",
            retries: 2,
            answers: || vec![refusal(401, "invalid_api_key", &[])],
            alone: failed(
                1,
                "upstream_auth_failed",
                &["4xx"],
                Error { should_retry: NO, ..status("InternalServerError", 502, "upstream_auth_failed") },
            ),
            elsewhere: spare(&["4xx"]),
            ..PLAIN
        },
    ]
}

/// An upstream that says nothing.
fn no_answer() -> Vec<Row> {
    vec![
        Row {
            name: "reset-before-a-head",
            answers: || many(|| Script::new(vec![Step::ReadBody(WHOLE), Step::Cut(Cut::Reset)])),
            alone: failed(
                4,
                "upstream_closed",
                &["upstream_closed"; 4],
                Error { should_retry: NO, ..status("InternalServerError", 502, "upstream_closed") },
            ),
            elsewhere: spare(&["upstream_closed"]),
            ..PLAIN
        },
        Row {
            name: "silent",
            retries: 2,
            answers: || vec![Script::new(vec![Step::Stall])],
            upstream: "timeout = { first_byte = \"200ms\" }",
            alone: failed(
                1,
                "upstream_timeout",
                &["upstream_timeout"],
                Error { should_retry: NO, ..status("InternalServerError", 504, "upstream_timeout") },
            ),
            elsewhere: spare(&["upstream_timeout"]),
            ..PLAIN
        },
        Row {
            name: "late-first-token",
            answers: || vec![stream_then(&[ROLE], Step::Stall)],
            upstream: "timeout = { first_token = \"300ms\" }",
            alone: failed(1, "upstream_first_token_timeout", &[], event("upstream_first_token_timeout")),
            elsewhere: spare(&["upstream_first_token_timeout"]),
            ..PLAIN
        },
    ]
}

/// An answer that breaks off within what it says.
fn broken_off() -> Vec<Row> {
    let after_hello = |code, error| Expected { text: "Hello", ..failed(1, code, &[], error) };
    vec![
        Row {
            name: "cut-in-an-event",
            answers: || vec![stream_then(&[ROLE, HELLO, HALF], Step::Cut(Cut::Reset))],
            alone: after_hello("upstream_truncated", ABORTED),
            elsewhere: spare(&["upstream_truncated"]),
            ..PLAIN
        },
        Row {
            name: "cut-between-events",
            answers: || vec![stream_then(&[ROLE, HELLO], Step::Cut(Cut::Reset))],
            alone: after_hello("upstream_truncated", event("upstream_truncated")),
            elsewhere: spare(&["upstream_truncated"]),
            ..PLAIN
        },
        Row {
            name: "ended-too-soon",
            answers: || vec![stream(&[ROLE, HELLO])],
            alone: after_hello("upstream_truncated", event("upstream_truncated")),
            elsewhere: spare(&["upstream_truncated"]),
            ..PLAIN
        },
        Row {
            name: "closed-too-soon",
            answers: || vec![stream_then(&[ROLE, HELLO], Step::Cut(Cut::Close))],
            alone: after_hello("upstream_truncated", event("upstream_truncated")),
            elsewhere: spare(&["upstream_truncated"]),
            ..PLAIN
        },
        Row {
            name: "stall",
            answers: || vec![stream_then(&[ROLE, HELLO], Step::Stall)],
            upstream: "timeout = { idle = \"300ms\" }",
            alone: after_hello("upstream_idle", event("upstream_idle")),
            elsewhere: spare(&["upstream_idle"]),
            ..PLAIN
        },
        Row {
            name: "error-event",
            answers: || vec![stream(&[ROLE, HELLO, ERROR])],
            alone: after_hello("upstream_error_event", event("broken")),
            elsewhere: spare(&["error_event"]),
            ..PLAIN
        },
    ]
}

/// What may look broken.
fn not_broken() -> Vec<Row> {
    vec![
        Row { name: "no-done", answers: || vec![stream(&[ROLE, HELLO, FINISHED])], ..PLAIN },
        Row {
            name: "malformed",
            answers: || vec![stream(&[ROLE, HELLO, MALFORMED, DONE])],
            alone: Expected { error: Some(UNREADABLE), ..PLAIN.alone },
            elsewhere: spare(&["error_event"]),
            ..PLAIN
        },
    ]
}

/// What is not to be done twice, whatever came of it.
fn batches() -> Vec<Row> {
    let failing = |error| nothing(1, &["5xx"], error);
    let closed = |seen| {
        failed(
            seen,
            "upstream_closed",
            &["upstream_closed"],
            status("InternalServerError", 502, "upstream_closed"),
        )
    };
    vec![
        Row {
            name: "batch-500",
            ask: Ask::Batch,
            answers: || vec![refusal(500, "server_error", &[])],
            alone: failing(status("InternalServerError", 500, "server_error")),
            elsewhere: failing(status("InternalServerError", 500, "server_error")),
            ..PLAIN
        },
        Row {
            name: "batch-reset",
            ask: Ask::Batch,
            answers: || vec![Script::new(vec![Step::ReadBody(WHOLE), Step::Cut(Cut::Reset)])],
            alone: closed(1),
            elsewhere: closed(1),
            ..PLAIN
        },
        Row {
            name: "batch-reset-on-a-kept-connection",
            ask: Ask::TwoBatches,
            answers: || {
                vec![
                    json(r#"{"id":"batch_1"}"#),
                    Script::new(vec![Step::ReadBody(WHOLE), Step::Cut(Cut::Reset)]),
                ]
            },
            upstream: "pool = { max_idle = 9 }",
            alone: closed(2),
            elsewhere: closed(2),
            ..PLAIN
        },
    ]
}

fn other_dialects() -> Vec<Row> {
    vec![
        Row {
            name: "responses-cut-between-events",
            ask: Ask::ResponsesStream,
            answers: || vec![stream_then(&[CREATED, DELTA], Step::Cut(Cut::Reset))],
            alone: Expected { text: "Hello", ..failed(1, "upstream_truncated", &[], ABORTED) },
            elsewhere: spare(&["upstream_truncated"]),
            ..PLAIN
        },
        Row {
            name: "responses-cut-in-an-event",
            ask: Ask::ResponsesStream,
            answers: || vec![stream_then(&[CREATED, DELTA, "event: respo"], Step::Cut(Cut::Close))],
            alone: Expected { text: "Hello", ..failed(1, "upstream_truncated", &[], ABORTED) },
            elsewhere: spare(&["upstream_truncated"]),
            ..PLAIN
        },
        Row {
            name: "document-cut",
            ask: Ask::Chat,
            answers: || {
                let head = Head::json(StatusCode::OK, 100);
                vec![Script::new(vec![
                    Step::Head(head),
                    Step::Send("{\"choices\":".into()),
                    Step::Cut(Cut::Close),
                ])]
            },
            alone: failed(1, "upstream_truncated", &[], ABORTED),
            elsewhere: spare(&["upstream_truncated"]),
            ..PLAIN
        },
    ]
}

const NO: Option<&str> = Some("false");

/// The connection ended before the answer did.
const ABORTED: Error = Error {
    python: "APIConnectionError",
    // What fetch throws, and no class of the SDK's own.
    node: "TypeError",
    status: None,
    code: None,
    retry_after: None,
    should_retry: None,
};

/// An event that is no JSON.
const UNREADABLE: Error = Error { python: "JSONDecodeError", node: "SyntaxError", ..ABORTED };

/// An answer whose status is an error.
const fn status(class: &'static str, status: u16, code: &'static str) -> Error {
    Error { python: class, node: class, status: Some(status), code: Some(code), ..ABORTED }
}

/// An error event within a stream.
const fn event(code: &'static str) -> Error {
    Error { python: "APIError", node: "APIError", code: Some(code), ..ABORTED }
}

const fn whole(text: &'static str, seen: (usize, usize), tried: &'static [&'static str]) -> Expected {
    Expected { text, error: None, seen, log: (None, tried) }
}

/// The spare one's whole answer.
const fn spare(tried: &'static [&'static str]) -> Expected {
    whole(SPARES, (tried.len(), 1), tried)
}

/// The upstream's own error.
const fn nothing(seen: usize, tried: &'static [&'static str], error: Error) -> Expected {
    Expected { text: "", error: Some(error), seen: (seen, 0), log: (None, tried) }
}

/// An error of the gateway's making; `code` is what the log has.
const fn failed(seen: usize, code: &'static str, tried: &'static [&'static str], error: Error) -> Expected {
    Expected { text: "", error: Some(error), seen: (seen, 0), log: (Some(code), tried) }
}

fn many(script: fn() -> Script) -> Vec<Script> {
    (0..MANY).map(|_| script()).collect()
}

fn json(body: &str) -> Script {
    let head = Head::json(StatusCode::OK, body.len());
    Script::new(vec![Step::ReadBody(WHOLE), Step::Head(head), Step::Send(body.to_owned().into())])
}
