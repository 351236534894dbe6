//! What a request is answered with, step by step.

use std::{sync::Arc, time::Duration};

use bytes::Bytes;
use http::{HeaderMap, HeaderValue, StatusCode, header};
use tokio::sync::Semaphore;

use super::events::Events;

/// For [`Step::ReadBody`]: all of the request's body.
pub const WHOLE: u64 = u64::MAX;

/// One step of a [`Script`].
#[derive(Debug)]
pub enum Step {
    /// Reads up to so many more bytes of the request's body (see [`WHOLE`]).
    ReadBody(u64),
    /// Sends an interim answer (1xx).
    Informational(StatusCode, HeaderMap),
    /// Begins the answer. It goes out with the step that follows, in one write if that is a [`Step::Send`].
    Head(Head),
    /// Sends body bytes: one write, and one chunk or DATA frame where the framing has these.
    Send(Bytes),
    /// Sends a generated stream of events.
    Events(Box<Events>),
    /// Lets time pass.
    Wait(Duration),
    /// Waits until the gate is opened.
    Gate(Gate),
    /// Ends the body with trailers (HTTP/1.1: of a chunked body).
    Trailers(HeaderMap),
    /// Writes exactly these bytes to the connection (HTTP/1.1 only) and implies nothing: neither a head, nor
    /// framing, nor a close.
    Raw(Bytes),
    /// Sends nothing more, until the other side goes away.
    Stall,
    /// Ends the answer before its time.
    Cut(Cut),
}

/// How an answer is cut off. What was sent before is flushed to the kernel first.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Cut {
    /// HTTP/1.1: a TCP reset. HTTP/2: `RST_STREAM` with `INTERNAL_ERROR`.
    #[default]
    Reset,
    /// HTTP/1.1: FIN (after a TLS `close_notify`). HTTP/2: `GOAWAY`, then the connection is closed.
    Close,
    /// HTTP/1.1: a chunk size that is no number, then FIN. HTTP/2: `RST_STREAM` with `PROTOCOL_ERROR`.
    ChunkError,
    /// HTTP/1.1: as [`Close`](Cut::Close). HTTP/2: `RST_STREAM` with `NO_ERROR`, which a careless client takes for an end.
    NoError,
}

/// The head of an answer.
#[derive(Clone, Debug)]
pub struct Head {
    /// The status.
    pub status: StatusCode,
    /// The headers, without those that say the framing.
    pub headers: HeaderMap,
    /// How the end of the body is told.
    pub framing: Framing,
}

/// How the end of a body is told (RFC 9112, section 6.3). HTTP/2 has its own framing and takes from this only
/// whether there is a `content-length` or a body.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Framing {
    /// `transfer-encoding: chunked`.
    Chunked,
    /// `content-length` with this number, whatever is sent.
    Known(u64),
    /// The close of the connection.
    Close,
    /// No body and no word of one, as with 204 and 304.
    Bare,
}

/// Holds scripts at [`Step::Gate`]: each [`open`](Gate::open) lets one waiting step pass, now or later.
#[derive(Clone, Debug)]
pub struct Gate(Arc<Semaphore>);

/// How one request is answered.
#[derive(Debug, Default)]
pub struct Script {
    pub(super) steps: Vec<Step>,
    pub(super) before_body: bool,
    /// Ascending by [`Mark::at`].
    pub(super) marks: Vec<Mark>,
    /// The most body bytes of one write; 0 = as the steps have them.
    pub(super) split: usize,
}

/// Something that happens when exactly so many body bytes have been sent.
#[derive(Debug)]
pub(super) struct Mark {
    pub(super) at: u64,
    pub(super) what: Event,
}

/// What happens at a [`Mark`].
#[derive(Debug)]
pub(super) enum Event {
    Gate(Gate),
    Stall,
    Cut(Cut),
}

impl Script {
    /// A script that begins when the request's body has been read.
    pub fn new(steps: Vec<Step>) -> Self {
        Self { steps, ..Self::default() }
    }

    /// A script that begins at the request's head. A [`Step::ReadBody`] may read the body on the way; what is
    /// left of it when the script has ended is read then.
    pub fn before_body(steps: Vec<Step>) -> Self {
        Self { steps, before_body: true, ..Self::default() }
    }

    pub(super) fn mark(&mut self, at: u64, what: Event) {
        self.marks.push(Mark { at, what });
        self.marks.sort_by_key(|mark| mark.at);
    }
}

impl Head {
    /// 200 with an event stream of unknown length.
    pub fn event_stream() -> Self {
        Self::new(StatusCode::OK, "text/event-stream; charset=utf-8", Framing::Chunked)
    }

    /// A JSON answer of `length` bytes.
    pub fn json(status: StatusCode, length: usize) -> Self {
        Self::new(status, "application/json", Framing::Known(length as u64))
    }

    /// A head with nothing but its content type.
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

    /// Lets one step pass: the one that waits, or the next that comes.
    pub fn open(&self) {
        self.0.add_permits(1);
    }

    pub(super) async fn pass(&self) {
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
