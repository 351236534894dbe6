//! What an upstream does wrong, and what the official SDKs make of what the gateway makes of it.

use std::time::Duration;

use http::StatusCode;
use sluicegate::simulator::{Cut, Head, Script, Step, WHOLE};

use super::{
    heartbeats, media,
    row::{
        ABORTED, Ask, COMPLETED, CREATED, Error, Expected, Row, UNREADABLE, aborted_behind, broken, failed,
        hello, json, row, spare, told,
    },
};
use crate::faults::rig::{DONE, HELLO, ROLE, refusal, refusing, stream, stream_then};

const HALF: &str = "data: {\"choices\":[{\"index\":0,\"delta\":{\"content\":\"wor";
const FINISHED: &str = "data: {\"choices\":[{\"index\":0,\"delta\":{},\"finish_reason\":\"stop\"}]}\n\n";
pub(super) const ERROR: &str = "data: {\"error\":{\"message\":\"it broke\",\"type\":\"server_error\",\"param\":null,\"code\":\"broken\"}}\n\n";
const MALFORMED: &str = "data: {\"choices\": nonsense}\n\n";
const DELTA_UNENDED: &str = "event: response.output_text.delta\ndata: {\"type\":\"response.output_text.delta\",\"sequence_number\":2,\"delta\":\"wor\n\n";
const DELTA: &str = "event: response.output_text.delta\ndata: {\"type\":\"response.output_text.delta\",\"sequence_number\":1,\"delta\":\"Hello\"}\n\n";

/// More than are ever asked for.
const MANY: usize = 8;

const LIMIT: &str = "rate_limit_exceeded";
const OVERLOADED: &str = "server_is_overloaded";
const TOO_LONG: &str = "context_length_exceeded";
const FILTER: &str = "content_filter";
const UNAVAILABLE: &str = "upstream_unavailable";
const CLOSED: &str = "upstream_closed";
const SILENT: &str = "upstream_timeout";
const LATE: &str = "upstream_first_token_timeout";
const IDLE: &str = "upstream_idle";
pub(super) const TRUNCATED: &str = "upstream_truncated";
pub(super) const IN_STREAM: &str = "upstream_error_event";

pub(super) fn rows() -> Vec<Row> {
    [
        limited(),
        refused(),
        no_answer(),
        broken_off(),
        odd(),
        batches(),
        responses(),
        media::rows(),
        heartbeats::rows(),
    ]
    .into_iter()
    .flatten()
    .collect()
}

fn limited() -> Vec<Row> {
    let limited = || Error::status("RateLimitError", 429, LIMIT);
    vec![
        row(
            "429-once",
            || vec![refusal(429, LIMIT, &[("retry-after-ms", "60")]), stream(&[ROLE, HELLO, DONE])],
            hello(&["4xx"]),
            spare(&["4xx"]),
        ),
        row(
            "429-for-an-hour",
            || vec![refusal(429, LIMIT, &[("retry-after", "3600")])],
            told(limited().retry_after("59"), &["4xx"]),
            spare(&["4xx"]),
        ),
        row(
            "429",
            || many(|| refusal(429, LIMIT, &[("retry-after-ms", "30")])),
            told(limited().for_good(), &["4xx"; 4]),
            spare(&["4xx"]),
        )
        .sdk_retries(),
    ]
}

/// An upstream that says no.
fn refused() -> Vec<Row> {
    let overloaded = Error::status("InternalServerError", 503, OVERLOADED).for_good();
    let bad = |code| told(Error::status("BadRequestError", 400, code), &["4xx"]);
    let ours = Error::status("InternalServerError", 503, UNAVAILABLE).for_good();
    vec![
        row(
            "500-once",
            || vec![refusal(500, "server_error", &[]), stream(&[ROLE, HELLO, DONE])],
            hello(&["5xx"]),
            spare(&["5xx"]),
        ),
        row("503", || many(|| refusal(503, OVERLOADED, &[])), told(overloaded, &["5xx"; 4]), spare(&["5xx"]))
            .sdk_retries(),
        // The answer has begun before there was one.
        row("503-late", late, failed(IN_STREAM, Error::event(OVERLOADED), &["5xx"; 4]), spare(&["5xx"]))
            .route("commit_after = \"50ms\""),
        row("too-long", || vec![refusal(400, TOO_LONG, &[])], bad(TOO_LONG), spare(&["4xx"]))
            .route("next_on_context_length = true"),
        row("too-long-for-all", || vec![refusal(400, TOO_LONG, &[])], bad(TOO_LONG), bad(TOO_LONG)),
        row("content-filter", || vec![refusal(400, FILTER, &[])], bad(FILTER), bad(FILTER)),
        row(
            "our-key",
            // A key that is refused for everything would not be used by the next client.
            || vec![refusal(401, "missing_scope", &[])],
            failed(UNAVAILABLE, ours, &["4xx"]),
            spare(&["4xx"]),
        )
        .sdk_retries(),
    ]
}

/// An upstream that says nothing.
fn no_answer() -> Vec<Row> {
    let closed = Error::status("InternalServerError", 502, CLOSED).for_good();
    let silent = Error::status("InternalServerError", 504, SILENT).for_good();
    vec![
        row("reset", || many(reset), failed(CLOSED, closed, &[CLOSED; 4]), spare(&[CLOSED])),
        row(
            "silent",
            || vec![Script::new(vec![Step::Stall])],
            failed(SILENT, silent, &[SILENT]),
            spare(&[SILENT]),
        )
        .upstream("timeout = { first_byte = \"200ms\" }")
        .sdk_retries(),
        row(
            "late-first-token",
            || vec![stream_then(&[ROLE], Step::Stall)],
            broken("", LATE, Error::event(LATE)),
            spare(&[LATE]),
        )
        .upstream("timeout = { first_token = \"300ms\" }"),
    ]
}

/// An answer that breaks off within what it says.
fn broken_off() -> Vec<Row> {
    let truncated = || broken("Hello", TRUNCATED, Error::event(TRUNCATED));
    let cut = |name, answers, alone| row(name, answers, alone, spare(&[TRUNCATED]));
    vec![
        cut(
            "cut-in-an-event",
            || vec![stream_then(&[ROLE, HELLO, HALF], Step::Cut(Cut::Reset))],
            broken("Hello", TRUNCATED, ABORTED),
        ),
        cut("cut-between-events", || vec![stream_then(&[ROLE, HELLO], Step::Cut(Cut::Reset))], truncated()),
        cut(
            "closed-between-events",
            || vec![stream_then(&[ROLE, HELLO], Step::Cut(Cut::Close))],
            truncated(),
        ),
        // As HTTP has it the answer is whole.
        cut("ended-too-soon", || vec![stream(&[ROLE, HELLO])], truncated()),
        cut("document-cut", half_a_document, broken("", TRUNCATED, ABORTED)).asks(Ask::Chat),
        row(
            "stall",
            || vec![stream_then(&[ROLE, HELLO], Step::Stall)],
            broken("Hello", IDLE, Error::event(IDLE)),
            spare(&[IDLE]),
        )
        .upstream("timeout = { idle = \"300ms\" }"),
        row(
            "error-event",
            || vec![stream(&[ROLE, HELLO, ERROR])],
            broken("Hello", IN_STREAM, Error::event("broken")),
            spare(&["error_event"]),
        ),
    ]
}

/// An answer that is whole, but odd.
fn odd() -> Vec<Row> {
    vec![
        row("no-done", || vec![stream(&[ROLE, HELLO, FINISHED])], hello(&[]), hello(&[])),
        // It passes untouched: what the SDK makes of it is its own affair.
        row(
            "malformed",
            || vec![stream(&[ROLE, HELLO, MALFORMED, DONE])],
            unreadable(),
            spare(&["error_event"]),
        ),
    ]
}

/// What is not to be done twice, whatever came of it.
fn batches() -> Vec<Row> {
    let twice = |name, answers, expected| row(name, answers, expected, expected).asks(Ask::Batch);
    let closed = failed(CLOSED, Error::status("InternalServerError", 502, CLOSED), &[CLOSED]);
    let failing = told(Error::status("InternalServerError", 500, "server_error"), &["5xx"]);
    let mut second = closed;
    second.seen = (2, 0);
    vec![
        twice("batch-500", || vec![refusal(500, "server_error", &[])], failing),
        twice("batch-reset", || vec![reset()], closed),
        // Where inference would be sent once more, since the close may have crossed it.
        twice("batch-reset-when-kept", || vec![json(r#"{"id":"batch_1"}"#), reset()], second)
            .asks(Ask::TwoBatches)
            .upstream("pool = { max_idle = 9 }"),
    ]
}

/// Python's SDK does not raise on an error event, but on the abort behind it.
fn responses() -> Vec<Row> {
    let cut = broken("Hello", TRUNCATED, aborted_behind(TRUNCATED));
    vec![
        row(
            "responses-cut-between-events",
            || vec![stream_then(&[CREATED, DELTA], Step::Cut(Cut::Reset))],
            cut,
            spare(&[TRUNCATED]),
        ),
        row(
            "responses-cut-in-an-event",
            || vec![stream_then(&[CREATED, DELTA, "event: respo"], Step::Cut(Cut::Close))],
            broken("Hello", TRUNCATED, ABORTED),
            spare(&[TRUNCATED]),
        ),
        row("responses-ended-too-soon", || vec![stream(&[CREATED, DELTA])], cut, spare(&[TRUNCATED])),
        // Its kind and number are told by its beginning, and the rest is no JSON.
        row(
            "responses-malformed",
            || vec![stream(&[CREATED, DELTA, DELTA_UNENDED, COMPLETED])],
            unreadable(),
            spare(&["error_event"]),
        ),
        row(
            "responses-late",
            late,
            failed(IN_STREAM, aborted_behind(OVERLOADED), &["5xx"; 4]),
            spare(&["5xx"]),
        )
        .route("commit_after = \"50ms\""),
    ]
    .into_iter()
    .map(|row| row.asks(Ask::ResponsesStream))
    .collect()
}

fn unreadable() -> Expected {
    Expected { error: Some(UNREADABLE), ..hello(&[]) }
}

fn many(script: fn() -> Script) -> Vec<Script> {
    (0..MANY).map(|_| script()).collect()
}

/// The request arrives, and no answer comes.
fn reset() -> Script {
    Script::new(vec![Step::ReadBody(WHOLE), Step::Cut(Cut::Reset)])
}

fn late() -> Vec<Script> {
    many(|| {
        let mut steps = refusing(503, OVERLOADED, &[]);
        steps.insert(0, Step::Wait(Duration::from_millis(100)));
        Script::new(steps)
    })
}

fn half_a_document() -> Vec<Script> {
    let head = Step::Head(Head::json(StatusCode::OK, 100));
    vec![Script::new(vec![head, Step::Send("{\"choices\":".into()), Step::Cut(Cut::Close)])]
}
