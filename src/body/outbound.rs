//! The request body sent upstream.

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

use super::{FileUpload, RequestBody, RequestBodyError};
use crate::pause::deadline;

/// A request body sent upstream: held whole, or streamed as it arrives.
#[derive(Debug)]
pub enum Outbound {
    /// A body that was read whole; `None` once it was sent, or when the request has no body.
    Whole(Option<Bytes>),
    /// A large body that was read whole. On HTTP/2 it is handed over piece by piece, which shows how far it has been sent.
    Pieces(Box<Pieces>),
    /// A body that was read whole into a file.
    File(Box<FileUpload>),
    /// A body that is streamed frame by frame, in constant memory.
    Stream(Box<Upload>),
}

/// A body that was read whole and is handed over piece by piece.
#[derive(Debug)]
pub struct Pieces {
    rest: Bytes,
    tally: Rc<UploadTally>,
    answer: Rc<Awaited>,
}

/// The size of a piece, in bytes.
const PIECE: usize = 64 << 10;

/// The reason why a streamed request body ended early. hyper returns it as the source of its own error.
#[derive(Debug, Error)]
pub enum UploadError {
    /// No byte arrived for this long.
    #[error("the client sent no byte of the request body for {} s", .0.as_secs_f64())]
    Stalled(Duration),
    /// The file that holds the body cannot be read.
    #[error("the file that holds the request body cannot be read")]
    File(#[source] std::io::Error),
    /// The client left, or violated the protocol.
    #[error("the client's request body ended early")]
    Broken(#[source] RequestBodyError),
    /// The response to the request is over. hyper takes the error code of the stream reset from the source.
    #[error("the response to the request body is over")]
    Over(#[source] h2::Error),
}

/// Measurements of a streamed request body; shared with the exchange, which reads them when it ends.
#[derive(Debug, Default)]
pub struct UploadTally {
    bytes: Cell<u64>,
    moved: Cell<Option<Instant>>,
    under_way: Cell<bool>,
    failure: Cell<Option<UploadFailure>>,
    waited: Cell<Duration>,
}

/// The kind of an [`UploadError`], kept for the exchange because hyper does not return every error (on HTTP/2 it only reports
/// that the stream was reset).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum UploadFailure {
    /// No byte arrived for this long.
    Stalled(Duration),
    /// The client left, or violated the protocol.
    Broken,
    /// The file that holds the body cannot be read.
    File,
}

/// A request body that is streamed upstream as it arrives.
pub struct Upload {
    body: RequestBody,
    tally: Rc<UploadTally>,
    idle: Duration,
    clock: Option<Pin<Box<Sleep>>>,
    /// When the body was first waited for.
    begun: Option<Instant>,
    trailers: TrailerPolicy,
    answer: Rc<Awaited>,
}

/// Marks that the response to a request body that is sent bit by bit is expected or being read. When it is dropped, the remainder of the body is useless and
/// the stream is reset. (On HTTP/1.1 the connection is closed. On HTTP/2 hyper pipes a body in a separate task that does not know the
/// response. The task polls for more of the body, and so notices the drop, when the previous bytes fit into the upstream's window.)
#[derive(Debug)]
pub struct AnswerAwaited(Rc<Awaited>);

/// Whether the response to a request body is over.
#[derive(Debug, Default)]
pub(super) struct Awaited {
    over: Cell<bool>,
    /// The waker of the task that waits for more of the body.
    waker: RefCell<Option<Waker>>,
}

/// Removes trailer fields that must not be forwarded.
pub type TrailerPolicy = Box<dyn Fn(&mut HeaderMap)>;

impl UploadTally {
    /// Number of bytes forwarded so far.
    pub fn bytes(&self) -> u64 {
        self.bytes.get()
    }

    /// Time at which the last bytes were forwarded.
    pub fn moved(&self) -> Option<Instant> {
        self.moved.get()
    }

    /// Whether a body is being streamed and has not ended.
    pub fn is_under_way(&self) -> bool {
        self.under_way.get()
    }

    /// The reason of an early end, if there was one.
    pub fn failure(&self) -> Option<UploadFailure> {
        self.failure.get()
    }

    /// How long a body that is read whole was waited for.
    pub fn waited(&self) -> Duration {
        self.waited.get()
    }

    /// Notes a wait for a body that is read whole.
    pub fn add_wait(&self, wait: Duration) {
        self.waited.set(self.waited.get() + wait);
    }

    /// Sets the number of bytes received of a body that is read whole.
    pub fn whole(&self, bytes: u64) {
        self.bytes.set(bytes);
    }

    /// Notes that bytes of a body that was read whole were handed over.
    pub(super) fn has_moved(&self) {
        self.moved.set(Some(Instant::now()));
    }

    /// Notes that the file that holds the body cannot be read.
    pub(super) fn file_failed(&self) {
        self.failure.set(Some(UploadFailure::File));
    }

    fn add(&self, bytes: usize) {
        self.bytes.set(self.bytes.get().saturating_add(bytes as u64));
        self.moved.set(Some(Instant::now()));
    }
}

impl Outbound {
    /// The absent body.
    pub const EMPTY: Self = Self::Whole(None);

    /// A body that was read whole. `tally` learns when its pieces are handed over, if it is large.
    pub fn held(bytes: Bytes, tally: &Rc<UploadTally>) -> Self {
        if bytes.len() <= PIECE {
            return Self::Whole(Some(bytes));
        }
        Self::Pieces(Box::new(Pieces { rest: bytes, tally: tally.clone(), answer: Rc::default() }))
    }

    /// Whether the body is held whole, and so can be sent again.
    pub fn is_held(&self) -> bool {
        matches!(self, Self::Whole(_) | Self::Pieces(_) | Self::File(_))
    }

    /// The body, or what has not been handed over of it, if it is held in memory.
    pub(crate) fn in_memory(&self) -> Option<&Bytes> {
        match self {
            Self::Whole(bytes) => bytes.as_ref(),
            Self::Pieces(pieces) => Some(&pieces.rest),
            Self::File(_) | Self::Stream(_) => None,
        }
    }

    /// Notes that bytes of a large body that is [held in memory](Self::in_memory) were written without being handed over.
    pub(crate) fn has_moved(&self) {
        if let Self::Pieces(pieces) = self {
            pieces.tally.has_moved();
        }
    }

    /// The marker that keeps a body going; `None` for a body that is handed over at once.
    pub fn answer_awaited(&self) -> Option<AnswerAwaited> {
        match self {
            Self::Whole(_) => None,
            Self::Pieces(pieces) => Some(AnswerAwaited(pieces.answer.clone())),
            Self::File(upload) => Some(AnswerAwaited(upload.answer.clone())),
            Self::Stream(upload) => Some(AnswerAwaited(upload.answer.clone())),
        }
    }
}

impl Pieces {
    fn next(&mut self) -> Option<Result<Frame<Bytes>, UploadError>> {
        if self.rest.is_empty() {
            return None;
        }
        if self.answer.over.get() {
            return Some(Err(UploadError::Over(h2::Reason::CANCEL.into())));
        }
        self.tally.has_moved();
        Some(Ok(Frame::data(self.rest.split_to(PIECE.min(self.rest.len())))))
    }
}

impl Upload {
    /// Streams `body` upstream with the trailers that `trailers` leaves. A pause of `idle` within the body ends it with an error.
    pub fn new(body: RequestBody, tally: Rc<UploadTally>, idle: Duration, trailers: TrailerPolicy) -> Self {
        tally.under_way.set(true);
        Self { body, tally, idle, clock: None, begun: None, trailers, answer: Rc::default() }
    }

    /// Returns the wrapped request body.
    pub fn into_inner(self) -> RequestBody {
        self.body
    }

    fn poll_clock(&mut self, cx: &mut Context<'_>) -> Poll<UploadError> {
        let begun = *self.begun.get_or_insert_with(Instant::now);
        let clock = self.clock.get_or_insert_with(|| Box::pin(sleep(self.idle)));
        loop {
            ready!(clock.as_mut().poll(cx));
            let since = self.tally.moved.get().unwrap_or(begun);
            let left = deadline(since, self.idle).saturating_duration_since(Instant::now());
            if left.is_zero() {
                return Poll::Ready(UploadError::Stalled(self.idle));
            }
            clock.as_mut().reset(tokio::time::Instant::now() + left);
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

impl Awaited {
    /// Whether it is over.
    pub(super) fn is_over(&self) -> bool {
        self.over.get()
    }

    /// Wakes this task when it is over.
    pub(super) fn wake_with(&self, waker: &Waker) {
        self.waker.replace(Some(waker.clone()));
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
            Self::Pieces(pieces) => Poll::Ready(pieces.next()),
            Self::File(upload) => upload.poll_frame(cx),
            Self::Stream(upload) => upload.poll_upload(cx),
        }
    }

    fn is_end_stream(&self) -> bool {
        match self {
            Self::Whole(bytes) => bytes.is_none(),
            Self::Pieces(pieces) => pieces.rest.is_empty(),
            Self::File(upload) => upload.left == 0,
            Self::Stream(upload) => upload.body.is_end_stream(),
        }
    }

    fn size_hint(&self) -> SizeHint {
        match self {
            Self::Whole(bytes) => SizeHint::with_exact(bytes.as_ref().map_or(0, |bytes| bytes.len() as u64)),
            Self::Pieces(pieces) => SizeHint::with_exact(pieces.rest.len() as u64),
            Self::File(upload) => SizeHint::with_exact(upload.left),
            Self::Stream(upload) => upload.body.size_hint(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pieces(body: &mut Outbound) -> Vec<usize> {
        let cx = &mut Context::from_waker(Waker::noop());
        let mut sizes = Vec::new();
        while let Poll::Ready(Some(frame)) = Pin::new(&mut *body).poll_frame(cx) {
            sizes.push(frame.unwrap().into_data().unwrap().len());
            let rest = body.size_hint().exact().unwrap();
            assert_eq!(body.is_end_stream(), rest == 0);
        }
        sizes
    }

    #[test]
    fn a_large_body_shows_how_far_it_has_been_sent() {
        let tally = Rc::<UploadTally>::default();
        let bytes = Bytes::from(vec![b'x'; 3 * PIECE + 1]);
        let mut body = Outbound::held(bytes.clone(), &tally);
        assert!(body.is_held() && tally.moved().is_none());
        assert_eq!(body.size_hint().exact(), Some(bytes.len() as u64));
        assert_eq!(pieces(&mut body), [PIECE, PIECE, PIECE, 1]);
        assert!(tally.moved().is_some());
    }

    #[test]
    fn a_small_body_goes_at_once() {
        let tally = Rc::<UploadTally>::default();
        for size in [1, PIECE] {
            let mut body = Outbound::held(Bytes::from(vec![b'x'; size]), &tally);
            assert_eq!(pieces(&mut body), [size]);
        }
        assert!(tally.moved().is_none());
    }

    #[test]
    fn a_large_body_ends_with_its_response() {
        let mut body = Outbound::held(Bytes::from(vec![b'x'; 3 * PIECE]), &Rc::default());
        let awaited = body.answer_awaited();
        let cx = &mut Context::from_waker(Waker::noop());
        assert!(matches!(Pin::new(&mut body).poll_frame(cx), Poll::Ready(Some(Ok(_)))));
        drop(awaited);
        let next = Pin::new(&mut body).poll_frame(cx);
        assert!(matches!(next, Poll::Ready(Some(Err(UploadError::Over(_))))), "{next:?}");
    }
}
