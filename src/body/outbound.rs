//! The request body that goes upstream.

use std::{
    cell::{Cell, RefCell},
    fmt,
    pin::Pin,
    rc::Rc,
    task::{Context, Poll, Waker, ready},
    time::{Duration, Instant},
};

use bytes::Bytes;
use http::HeaderMap;
use http_body::{Body, Frame, SizeHint};
use thiserror::Error;
use tokio::time::{Sleep, sleep};

use super::{RequestBody, RequestBodyError};

/// A request body on its way upstream: held whole, or passed on as it comes.
#[derive(Debug)]
pub enum Outbound {
    /// Read whole; `None` once sent, or when there is none.
    Whole(Option<Bytes>),
    /// Passed on frame by frame, in constant memory.
    Stream(Box<Upload>),
}

/// Why a passing request body ended early. hyper hands it back as the source of its own error.
#[derive(Debug, Error)]
pub enum UploadError {
    /// Nothing came for so long.
    #[error("the caller sent nothing for {} s", .0.as_secs_f64())]
    Stalled(Duration),
    /// The caller left, or broke the protocol.
    #[error("the caller's request body broke off")]
    Broken(#[source] RequestBodyError),
    /// Its answer is over. hyper takes the reason that it resets the stream with from the source.
    #[error("the answer to it is over")]
    Over(#[source] h2::Error),
}

/// What is measured of a passing request body; shared with the exchange, which reads it when it ends.
#[derive(Debug, Default)]
pub struct UploadTally {
    bytes: Cell<u64>,
    moved: Cell<Option<Instant>>,
    under_way: Cell<bool>,
    failure: Cell<Option<UploadFailure>>,
}

/// What is kept of an [`UploadError`] for the exchange: hyper does not hand every one of them back (on HTTP/2 it says no more than
/// that the stream was reset).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum UploadFailure {
    /// Nothing came for so long.
    Stalled(Duration),
    /// The caller left, or broke the protocol.
    Broken,
}

/// A request body that is passed on as it comes.
pub struct Upload {
    body: RequestBody,
    tally: Rc<UploadTally>,
    idle: Duration,
    clock: Option<Pin<Box<Sleep>>>,
    trailers: TrailerPolicy,
    answer: Rc<Awaited>,
}

/// As long as this is there, a passing body has an answer to come, or one that is being read. Without it what is left of the body is of no
/// use: the stream is reset. (On HTTP/1.1 the connection is closed; on HTTP/2 hyper pipes a body in a task of its own, which knows nothing of
/// the answer. It looks for more of the body, and so finds this, when what it had before fits into the upstream's window.)
#[derive(Debug)]
pub struct AnswerAwaited(Rc<Awaited>);

#[derive(Debug, Default)]
struct Awaited {
    over: Cell<bool>,
    /// Of who waits for more of the body.
    waker: RefCell<Option<Waker>>,
}

/// Takes out of trailers what must not cross.
pub type TrailerPolicy = Box<dyn Fn(&mut HeaderMap)>;

impl UploadTally {
    /// Bytes passed on so far.
    pub fn bytes(&self) -> u64 {
        self.bytes.get()
    }

    /// When the last of them were.
    pub fn moved(&self) -> Option<Instant> {
        self.moved.get()
    }

    /// Whether a body is being passed on and has not ended.
    pub fn is_under_way(&self) -> bool {
        self.under_way.get()
    }

    /// Why it ended early, if it did.
    pub fn failure(&self) -> Option<UploadFailure> {
        self.failure.get()
    }

    /// Notes how much has come of a body that is read whole.
    pub fn whole(&self, bytes: u64) {
        self.bytes.set(bytes);
    }

    fn add(&self, bytes: usize) {
        self.bytes.set(self.bytes.get().saturating_add(bytes as u64));
        self.moved.set(Some(Instant::now()));
    }
}

impl Outbound {
    /// No body.
    pub const EMPTY: Self = Self::Whole(None);

    /// Whether it is held whole, and so can be sent again.
    pub fn is_held(&self) -> bool {
        matches!(self, Self::Whole(_))
    }

    /// What a body that is passed on goes on for.
    pub fn answer_awaited(&self) -> Option<AnswerAwaited> {
        match self {
            Self::Whole(_) => None,
            Self::Stream(upload) => Some(AnswerAwaited(upload.answer.clone())),
        }
    }
}

impl Upload {
    /// Passes `body` on, its trailers as `trailers` leaves them; an `idle` pause within it ends it.
    pub fn new(body: RequestBody, tally: Rc<UploadTally>, idle: Duration, trailers: TrailerPolicy) -> Self {
        tally.under_way.set(true);
        Self { body, tally, idle, clock: None, trailers, answer: Rc::default() }
    }

    /// What was to be passed on.
    pub fn into_inner(self) -> RequestBody {
        self.body
    }

    fn poll_clock(&mut self, cx: &mut Context<'_>) -> Poll<UploadError> {
        let clock = self.clock.get_or_insert_with(|| Box::pin(sleep(self.idle)));
        loop {
            ready!(clock.as_mut().poll(cx));
            let silent = self.tally.moved.get().map_or(self.idle, |moved| moved.elapsed());
            if silent >= self.idle {
                return Poll::Ready(UploadError::Stalled(self.idle));
            }
            clock.as_mut().reset(tokio::time::Instant::now() + (self.idle - silent));
        }
    }

    fn poll_upload(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, UploadError>>> {
        if self.answer.over.get() {
            return Poll::Ready(Some(Err(UploadError::Over(h2::Reason::CANCEL.into()))));
        }
        match Pin::new(&mut self.body).poll_frame(cx) {
            Poll::Pending => {
                self.answer.waker.replace(Some(cx.waker().clone()));
                let error = ready!(self.poll_clock(cx));
                self.tally.failure.set(Some(UploadFailure::Stalled(self.idle)));
                Poll::Ready(Some(Err(error)))
            }
            Poll::Ready(None) => {
                self.tally.under_way.set(false);
                Poll::Ready(None)
            }
            Poll::Ready(Some(Err(error))) => {
                self.tally.failure.set(Some(UploadFailure::Broken));
                Poll::Ready(Some(Err(UploadError::Broken(error))))
            }
            Poll::Ready(Some(Ok(frame))) => Poll::Ready(Some(Ok(self.passed(frame)))),
        }
    }

    fn passed(&mut self, frame: Frame<Bytes>) -> Frame<Bytes> {
        if let Some(data) = frame.data_ref() {
            self.tally.add(data.len());
            self.tally.under_way.set(!self.body.is_end_stream());
            return frame;
        }
        match frame.into_trailers() {
            Ok(mut trailers) => {
                (self.trailers)(&mut trailers);
                Frame::trailers(trailers)
            }
            Err(frame) => frame,
        }
    }
}

impl Drop for AnswerAwaited {
    fn drop(&mut self) {
        self.0.over.set(true);
        if let Some(waker) = self.0.waker.take() {
            waker.wake();
        }
    }
}

impl fmt::Debug for Upload {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Upload").field("body", &self.body).finish_non_exhaustive()
    }
}

impl Body for Outbound {
    type Data = Bytes;
    type Error = UploadError;

    fn poll_frame(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, UploadError>>> {
        match self.get_mut() {
            Self::Whole(bytes) => Poll::Ready(bytes.take().map(|bytes| Ok(Frame::data(bytes)))),
            Self::Stream(upload) => upload.poll_upload(cx),
        }
    }

    fn is_end_stream(&self) -> bool {
        match self {
            Self::Whole(bytes) => bytes.is_none(),
            Self::Stream(upload) => upload.body.is_end_stream(),
        }
    }

    fn size_hint(&self) -> SizeHint {
        match self {
            Self::Whole(bytes) => SizeHint::with_exact(bytes.as_ref().map_or(0, |bytes| bytes.len() as u64)),
            Self::Stream(upload) => upload.body.size_hint(),
        }
    }
}
