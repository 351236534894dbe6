//! The request body as it arrives from the client.

use std::{
    future::poll_fn,
    pin::Pin,
    rc::Rc,
    task::{Context, Poll},
    time::Duration,
};

use bytes::Bytes;
use http_body::{Body, Frame, SizeHint};
use hyper::body::Incoming;
use thiserror::Error;

use super::ConnectionState;

/// The largest body, in bytes, that is read only to keep a connection: a new one would cost more.
const SMALL: u64 = 64 << 10;

/// How long its rest may take. Many clients write it right after the head.
const SOON: Duration = Duration::from_millis(100);

/// A request body that has not been read to its end yet.
///
/// When an incomplete body is dropped, the client may still send its remainder, and many clients (httpcore and curl among them, on HTTP/2
/// too) read no response before they have sent everything. On HTTP/1.1 the connection is marked and waits for the remainder when it
/// closes. On HTTP/2 the connection stays open, but the reset that stops the upload (RFC 9113 §8.1) would keep such a client from
/// reading its response, so the remainder is read and discarded for a while before the reset.
#[derive(Debug)]
pub struct RequestBody {
    /// The body; `None` once this is being dropped.
    body: Option<Incoming>,
    connection: Rc<ConnectionState>,
    ended: bool,
    linger: Option<Duration>,
}

impl RequestBody {
    /// Wraps `body`, which arrives on `connection`. With `linger`, the remainder of a dropped body is read for that long: on HTTP/2, and only
    /// on a thread that runs local tasks.
    pub fn new(body: Incoming, connection: Rc<ConnectionState>, linger: Option<Duration>) -> Self {
        let ended = body.is_end_stream();
        Self { body: Some(body), connection, ended, linger }
    }

    /// Reads the body to its end and discards it, if it has at most [`SMALL`] bytes and comes within [`SOON`]: then its HTTP/1.1 connection can
    /// carry another request. On HTTP/2 the rest of a body concerns its own stream only, and nothing is read.
    pub async fn discard_if_small(mut self) {
        if self.linger.is_some() || self.is_end_stream() || self.size_hint().lower() > SMALL {
            return;
        }
        let discarding = async {
            let mut read = 0;
            while let Some(Ok(frame)) = poll_fn(|cx| Pin::new(&mut self).poll_frame(cx)).await {
                read += frame.data_ref().map_or(0, |data| data.len() as u64);
                if read > SMALL {
                    return;
                }
            }
        };
        // A body that is late or too large is dropped, and then the connection is closed.
        let _ = tokio::time::timeout(SOON, discarding).await;
    }
}

/// The reason why a request body ended early.
#[derive(Debug, Error)]
pub enum RequestBodyError {
    /// The client left, or violated the protocol.
    #[error(transparent)]
    Http(#[from] hyper::Error),
    /// An HTTP/2 stream was reset with NO_ERROR before its end, which hyper reports as an end.
    #[error("the request stream was reset before its end")]
    Reset,
    /// An HTTP/1.1 trailer section has content but no fields.
    #[error("the request trailer section contains no valid field")]
    Trailers,
}

impl Body for RequestBody {
    type Data = Bytes;
    type Error = RequestBodyError;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, RequestBodyError>>> {
        let http2 = self.linger.is_some();
        let Some(body) = &mut self.body else { return Poll::Ready(None) };
        let polled = Pin::new(&mut *body).poll_frame(cx);
        if let Poll::Ready(None) = polled {
            if http2 && !body.is_end_stream() {
                return Poll::Ready(Some(Err(RequestBodyError::Reset)));
            }
            self.ended = true;
        }
        if let Poll::Ready(Some(Ok(frame))) = &polled
            && let Some(trailers) = frame.trailers_ref()
        {
            self.ended = true;
            if !http2 {
                // hyper skips everything in a trailer section after an empty line, which may end in LF alone (RFC 9112 §2.2): the
                // skipped bytes may be another client's request.
                self.connection.leave_body_unread();
                if trailers.is_empty() {
                    return Poll::Ready(Some(Err(RequestBodyError::Trailers)));
                }
            }
        }
        polled.map_err(RequestBodyError::Http)
    }

    fn is_end_stream(&self) -> bool {
        self.ended || self.body.as_ref().is_none_or(Body::is_end_stream)
    }

    fn size_hint(&self) -> SizeHint {
        self.body.as_ref().map_or_else(|| SizeHint::with_exact(0), Body::size_hint)
    }
}

impl Drop for RequestBody {
    fn drop(&mut self) {
        if self.is_end_stream() {
            return;
        }
        self.connection.leave_body_unread();
        if let (Some(longest), Some(body)) = (self.linger, self.body.take()) {
            tokio::task::spawn_local(tokio::time::timeout(longest, discard(body)));
        }
    }
}

/// Reads `body` to its end and discards it.
async fn discard(mut body: Incoming) {
    while let Some(Ok(_)) = poll_fn(|cx| Pin::new(&mut body).poll_frame(cx)).await {}
}
