//! The request body that goes upstream.

use std::{
    cell::Cell,
    pin::Pin,
    rc::Rc,
    task::{Context, Poll, ready},
    time::{Duration, Instant},
};

use bytes::Bytes;
use http::HeaderMap;
use http_body::{Body, Frame, SizeHint};
use hyper::body::Incoming;
use thiserror::Error;
use tokio::time::{Sleep, sleep};

use super::Link;

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
    Broken(#[source] hyper::Error),
}

/// What is measured of a passing request body; shared with the exchange, which reads it when it ends.
#[derive(Debug, Default)]
pub struct UploadTally {
    bytes: Cell<u64>,
    moved: Cell<Option<Instant>>,
}

/// A request body that is passed on as it comes.
#[derive(Debug)]
pub struct Upload {
    body: Incoming,
    tally: Rc<UploadTally>,
    link: Rc<Link>,
    idle: Duration,
    clock: Option<Pin<Box<Sleep>>>,
    /// Takes out of the trailers what must not cross.
    trailers: fn(&mut HeaderMap),
    ended: bool,
}

impl UploadTally {
    /// Bytes passed on so far.
    pub fn bytes(&self) -> u64 {
        self.bytes.get()
    }

    /// When the last of them were.
    pub fn moved(&self) -> Option<Instant> {
        self.moved.get()
    }

    /// Notes a body that was read whole.
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

    /// The same body once more, if it is held whole and so can be sent again.
    pub fn again(&self) -> Option<Self> {
        match self {
            Self::Whole(bytes) => Some(Self::Whole(bytes.clone())),
            Self::Stream(_) => None,
        }
    }
}

impl Upload {
    /// Passes `body` on; an `idle` pause within it ends it. When it is dropped before its end, `link` is told.
    pub fn new(body: Incoming, tally: Rc<UploadTally>, link: Rc<Link>, idle: Duration) -> Self {
        Self { body, tally, link, idle, clock: None, trailers: HeaderMap::clear, ended: false }
    }

    /// Lets trailers through, less what `policy` takes out; without this none pass.
    pub fn with_trailers(mut self, policy: fn(&mut HeaderMap)) -> Self {
        self.trailers = policy;
        self
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
        match Pin::new(&mut self.body).poll_frame(cx) {
            Poll::Pending => self.poll_clock(cx).map(|error| Some(Err(error))),
            Poll::Ready(None) => {
                self.ended = true;
                Poll::Ready(None)
            }
            Poll::Ready(Some(Err(error))) => Poll::Ready(Some(Err(UploadError::Broken(error)))),
            Poll::Ready(Some(Ok(frame))) => Poll::Ready(Some(Ok(self.passed(frame)))),
        }
    }

    fn passed(&mut self, frame: Frame<Bytes>) -> Frame<Bytes> {
        if let Some(data) = frame.data_ref() {
            self.tally.add(data.len());
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

impl Drop for Upload {
    fn drop(&mut self) {
        if !self.ended && !self.body.is_end_stream() {
            self.link.leave_body_unread();
        }
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
