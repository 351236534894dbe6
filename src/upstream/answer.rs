//! An upstream's answer: its head, and its body with the connection behind it.

use std::{
    pin::Pin,
    rc::Rc,
    sync::Arc,
    task::{Context, Poll},
};

use bytes::Bytes;
use http::Response;
use http_body::{Body, Frame, SizeHint};
use hyper::{
    body::Incoming,
    upgrade::{self, Upgraded},
};
use thiserror::Error;

use super::{Dialer, Pools, http1::Http1Body, http2::Lease};
use crate::body::AnswerAwaited;

/// Head and body, as they come.
pub type Answer = Response<AnswerBody>;

/// Why an answer's body broke off.
#[derive(Debug, Error)]
pub enum BodyError {
    /// The connection or the protocol failed.
    #[error(transparent)]
    Http(#[from] hyper::Error),
    /// HTTP/2: the stream was reset with NO_ERROR before its end, which hyper reports as an end. RFC 9113 §8.1 allows that reset
    /// only after a whole answer.
    #[error("the stream was reset before its end")]
    Reset,
}

/// Why an upstream's connection was not handed over for another protocol.
#[derive(Debug, Error)]
pub enum UpgradeError {
    /// The connection failed, or its response was not 101.
    #[error("the upstream connection did not switch protocols")]
    Http(#[from] hyper::Error),
    /// One stream of an HTTP/2 connection does not become a connection of its own.
    #[error("protocol upgrades need an HTTP/1.1 connection to the upstream")]
    NotHttp1,
}

/// Takes the connection behind a response of 101 (Switching Protocols). It first yields what the upstream sent right behind that
/// response, counts as an open connection until it is dropped, and never returns to the pool.
///
/// # Errors
/// [`UpgradeError`]: the upstream has not switched protocols.
pub async fn upgrade(mut answer: Answer) -> Result<Upgraded, UpgradeError> {
    let switched = upgrade::on(&mut answer);
    match answer.into_body().take_source() {
        Source::Http1(body) => Ok(body.upgrade(switched).await?),
        Source::Http2(..) | Source::Gone => Err(UpgradeError::NotHttp1),
    }
}

/// The body of an answer. When it was read to its end, dropping it puts the connection back into the pool; otherwise
/// dropping it closes the connection (HTTP/1.1) or resets the stream (HTTP/2) at once; there also where the request has not ended.
#[derive(Debug)]
pub struct AnswerBody {
    source: Source,
    ended: bool,
    pools: Rc<Pools>,
    dialer: Arc<Dialer>,
}

#[derive(Debug)]
pub(super) enum Source {
    Http1(Http1Body),
    #[expect(dead_code, reason = "what is beside the body is held for its drop")]
    Http2(Incoming, Option<AnswerAwaited>, Lease),
    /// Given back.
    Gone,
}

impl AnswerBody {
    pub(super) fn new(source: Source, pools: Rc<Pools>, dialer: Arc<Dialer>) -> Self {
        let mut body = Self { source, ended: false, pools, dialer };
        body.ended = body.is_end_stream();
        body
    }

    /// Whether the whole of it has been read.
    pub fn is_ended(&self) -> bool {
        self.ended || self.is_end_stream()
    }

    /// Whether all its bytes are there: it has ended, or as many came as were promised. On HTTP/2 the end of the stream may come in a
    /// frame of its own, after the last byte.
    pub fn is_whole(&self) -> bool {
        self.is_ended() || self.size_hint().exact() == Some(0)
    }

    fn take_source(&mut self) -> Source {
        std::mem::replace(&mut self.source, Source::Gone)
    }

    fn poll_source(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        match &mut self.source {
            Source::Http1(body) => body.poll_frame(cx).map_err(BodyError::Http),
            Source::Http2(body, ..) => match Pin::new(&mut *body).poll_frame(cx) {
                Poll::Ready(None) if !body.is_end_stream() => Poll::Ready(Some(Err(BodyError::Reset))),
                polled => polled.map_err(BodyError::Http),
            },
            Source::Gone => Poll::Ready(None),
        }
    }
}

impl Body for AnswerBody {
    type Data = Bytes;
    type Error = BodyError;

    fn poll_frame(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        let this = self.get_mut();
        let polled = this.poll_source(cx);
        match &polled {
            Poll::Ready(None) => this.ended = true,
            Poll::Ready(Some(Err(_))) => {
                // What fails after the last promised byte takes nothing away.
                this.ended = this.is_whole();
                this.source = Source::Gone;
                if this.ended {
                    return Poll::Ready(None);
                }
            }
            // Nothing comes after trailers, and nobody asks whether it does.
            Poll::Ready(Some(Ok(frame))) => this.ended |= frame.is_trailers(),
            Poll::Pending => {}
        }
        polled
    }

    fn is_end_stream(&self) -> bool {
        match &self.source {
            Source::Http1(body) => body.is_end_stream(),
            Source::Http2(body, ..) => body.is_end_stream(),
            Source::Gone => self.ended,
        }
    }

    fn size_hint(&self) -> SizeHint {
        match &self.source {
            Source::Http1(body) => body.size_hint(),
            Source::Http2(body, ..) => body.size_hint(),
            Source::Gone if self.ended => SizeHint::with_exact(0),
            Source::Gone => SizeHint::default(),
        }
    }
}

impl Drop for AnswerBody {
    fn drop(&mut self) {
        let ended = self.is_ended();
        if let Source::Http1(body) = self.take_source()
            && ended
            && let Some(connection) = body.into_reusable()
        {
            self.pools.put(&self.dialer, connection);
        }
    }
}
