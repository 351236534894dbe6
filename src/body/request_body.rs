//! The request body as it arrives.

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

/// A request body that has not been read to its end yet.
///
/// When it is dropped so, the caller may be about to send the rest of it, and many callers read no answer before they have
/// (httpcore and curl among them, on HTTP/2 too). On HTTP/1.1 the connection is told, and waits for the rest when it closes. On HTTP/2
/// the connection lives on; what would keep the caller from its answer is the reset that tells it to stop (RFC 9113 §8.1), so the
/// rest is read and dropped for a while before that.
#[derive(Debug)]
pub struct RequestBody {
    /// `None` once it is being dropped.
    body: Option<Incoming>,
    link: Rc<ConnectionState>,
    ended: bool,
    linger: Option<Duration>,
}

impl RequestBody {
    /// `body` comes on `link`. With `linger`, what is left of it when this is dropped is read for so long: on HTTP/2, and only on a
    /// thread that runs local tasks.
    pub fn new(body: Incoming, link: Rc<ConnectionState>, linger: Option<Duration>) -> Self {
        let ended = body.is_end_stream();
        Self { body: Some(body), link, ended, linger }
    }
}

/// Why a request's body broke off.
#[derive(Debug, Error)]
pub enum RequestBodyError {
    /// The caller left, or broke the protocol.
    #[error(transparent)]
    Http(#[from] hyper::Error),
    /// HTTP/2: the stream was reset with NO_ERROR before its end, which hyper reports as an end.
    #[error("the stream was reset before its end")]
    Reset,
    /// HTTP/1.1: a trailer section without fields, though there is something in it.
    #[error("the trailers are no fields")]
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
                // hyper skips all in a trailer section that follows an empty line, and that may end in LF alone (RFC 9112 §2.2): what it
                // skips may be another's request.
                self.link.leave_body_unread();
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
        self.link.leave_body_unread();
        if let (Some(longest), Some(body)) = (self.linger, self.body.take()) {
            tokio::task::spawn_local(tokio::time::timeout(longest, discard(body)));
        }
    }
}

/// Reads `body` to its end, keeping nothing of it.
async fn discard(mut body: Incoming) {
    while let Some(Ok(_)) = poll_fn(|cx| Pin::new(&mut body).poll_frame(cx)).await {}
}
