//! Scripts: how the simulator responds to a request, step by step.

use std::{sync::Arc, time::Duration};

use bytes::Bytes;
use http::{HeaderMap, HeaderValue, StatusCode, header};
use tokio::sync::Semaphore;

use super::{ending::Cut, events::Events};

/// For [`Step::ReadBody`]: the whole request body.
pub const WHOLE: u64 = u64::MAX;

/// One step of a [`Script`].
#[derive(Debug)]
pub enum Step {
    /// Reads up to this many more bytes of the request body (see [`WHOLE`]).
    ReadBody(u64),
    /// Sends an interim response (1xx).
    Informational(StatusCode, HeaderMap),
    /// Begins the response. The head is sent together with the next step, in one write if that is a [`Step::Send`].
    Head(Head),
    /// Sends body bytes in one write, and in one chunk or DATA frame where the framing has them.
    Send(Bytes),
    /// Sends a generated event stream.
    Events(Box<Events>),
    /// Waits for this long.
    Wait(Duration),
    /// Waits until the test opens the gate.
    Gate(Gate),
    /// Adds trailers to the end of the body (HTTP/1.1: of a chunked body).
    Trailers(HeaderMap),
    /// Writes exactly these bytes to the connection (HTTP/1.1 only). No head, no framing and no close are added.
    Raw(Bytes),
    /// Sends nothing until the client leaves.
    Stall,
    /// Cuts the response off.
    Cut(Cut),
}

/// The head of a response.
#[derive(Clone, Debug)]
pub struct Head {
    /// The status code.
    pub status: StatusCode,
    /// The headers, without `content-length` and `transfer-encoding`.
    pub headers: HeaderMap,
    /// How the end of the body is marked.
    pub framing: Framing,
}

/// How the end of a body is marked (RFC 9112, section 6.3). HTTP/2 has its own framing: there, only `Known` (adds a
/// `content-length`) and `Bare` (no body) make a difference.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Framing {
    /// `transfer-encoding: chunked`.
    Chunked,
    /// `content-length` with this number, even if the body has another length.
    Known(u64),
    /// Closing the connection.
    Close,
    /// No body and no framing header, as for 204 and 304.
    Bare,
}

/// Holds scripts at [`Step::Gate`]. Each [`open`](Gate::open) releases one waiting step: the current one or the next.
#[derive(Clone, Debug)]
pub struct Gate(Arc<Semaphore>);

/// The response to one request, as a list of steps.
#[derive(Debug, Default)]
pub struct Script {
    pub(super) steps: Vec<Step>,
    /// Whether the script starts before the request body has been read.
    pub(super) before_body: bool,
    /// Sorted by [`Mark::at`].
    pub(super) marks: Vec<Mark>,
    /// The most body bytes in one write; 0 = no limit.
    pub(super) split: usize,
}

/// An action at a byte position of the response body.
#[derive(Debug)]
pub(super) struct Mark {
    /// Body bytes sent before it.
    pub(super) at: u64,
    pub(super) action: MarkAction,
}

/// The action of a [`Mark`].
#[derive(Debug)]
pub(super) enum MarkAction {
    Gate(Gate),
    Stall,
    Cut(Cut),
}

impl Script {
    /// A script that starts when the request body has been read.
    pub fn new(steps: Vec<Step>) -> Self {
        Self { steps, ..Self::default() }
    }

    /// A script that starts when the request head has been read. [`Step::ReadBody`] reads from the body; the rest of it
    /// is read after the last step.
    pub fn before_body(steps: Vec<Step>) -> Self {
        Self { steps, before_body: true, ..Self::default() }
    }
}

impl Head {
    /// A 200 with a chunked event stream.
    pub fn event_stream() -> Self {
        Self::new(StatusCode::OK, "text/event-stream; charset=utf-8", Framing::Chunked)
    }

    /// A JSON response of `length` bytes.
    pub fn json(status: StatusCode, length: usize) -> Self {
        Self::new(status, "application/json", Framing::Known(length as u64))
    }

    /// A head whose only header is the content type.
    pub fn new(status: StatusCode, content_type: &'static str, framing: Framing) -> Self {
        let mut headers = HeaderMap::new();
        headers.insert(header::CONTENT_TYPE, HeaderValue::from_static(content_type));
        Self { status, headers, framing }
    }
}

impl Gate {
    /// A closed gate.
    pub fn new() -> Self {
        Self(Arc::new(Semaphore::new(0)))
    }

    /// Releases one step: the one that waits, or the next one.
    pub fn open(&self) {
        self.0.add_permits(1);
    }

    /// Waits until the gate is opened, and uses up that opening.
    pub(super) async fn wait(&self) {
        // The semaphore is never closed, so waiting cannot fail.
        if let Ok(permit) = self.0.acquire().await {
            permit.forget();
        }
    }
}

impl Default for Gate {
    fn default() -> Self {
        Self::new()
    }
}
