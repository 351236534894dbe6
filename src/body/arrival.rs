//! The request body as it arrives.

use std::{
    pin::Pin,
    rc::Rc,
    task::{Context, Poll},
};

use bytes::Bytes;
use http_body::{Body, Frame, SizeHint};
use hyper::body::Incoming;

use super::Link;

/// A request body that has not been read to its end yet. When it is dropped so, its connection is told: bytes of it may still
/// come, and must be waited for when the connection closes, or the caller would lose the answer to a reset.
#[derive(Debug)]
pub struct Arrival {
    body: Incoming,
    link: Rc<Link>,
    ended: bool,
}

impl Arrival {
    /// `body` comes on `link`.
    pub fn new(body: Incoming, link: Rc<Link>) -> Self {
        let ended = body.is_end_stream();
        Self { body, link, ended }
    }
}

impl Body for Arrival {
    type Data = Bytes;
    type Error = hyper::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, hyper::Error>>> {
        let polled = Pin::new(&mut self.body).poll_frame(cx);
        if let Poll::Ready(None) = polled {
            self.ended = true;
        }
        polled
    }

    fn is_end_stream(&self) -> bool {
        self.ended || self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

impl Drop for Arrival {
    fn drop(&mut self) {
        if !self.is_end_stream() {
            self.link.leave_body_unread();
        }
    }
}
