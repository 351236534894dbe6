//! HTTP/1.1 towards an upstream (RFC 9112), without a task of its own: the task that waits for a response writes the request and reads the
//! response.
//!
//! hyper's client is not used, because it is made for a task of its own. Driven by another one, it is polled twice for each frame, passes each frame through a
//! channel, reads the size of a chunk byte by byte, and keeps 30 KiB for a connection on which nothing happens. This one keeps no buffer while it waits.
//!
//! What is read is taken apart where it lies: the frames of a response share the buffer that they were read into.

mod chunks;
mod error;
mod head;
mod outgoing;
#[cfg(test)]
mod tests;

use std::{
    fmt,
    future::poll_fn,
    io,
    pin::{Pin, pin},
    task::{Context, Poll, Waker, ready},
    time::{Instant, SystemTime},
};

use bytes::{Bytes, BytesMut};
use http::{Request, Response};
use http_body::{Frame, SizeHint};
use tokio::{
    io::{AsyncRead, AsyncReadExt, ReadBuf},
    task::coop::unconstrained,
};

pub use self::error::Http1Error;
use self::{
    chunks::{Chunks, Piece},
    head::{KnownNames, ResponseHead},
    outgoing::Outgoing,
};
use super::{dialer::Dialled, io::Io, tls::has_passed};
use crate::body::{Outbound, Upgraded};

/// Larger response heads are an error of the upstream, on HTTP/2 too.
pub(super) const MAX_HEAD: usize = 256 << 10;

/// Limit for all interim responses together with the final head, and with what is read of the body along with them.
const MAX_BEFORE_ANSWER: usize = 2 << 20;

/// The most lines of a head, and of trailers.
const MAX_LINES: usize = 100;

/// Bytes that are read at once. More, if as many came as there was room for.
const READ: usize = 8 << 10;

/// The most bytes that are read at once.
const MOST_READ: usize = 64 << 10;

/// An HTTP/1.1 connection. Boxed, because it is handed on many times: between the pool, a request, and the body of its response.
pub(super) struct Http1 {
    io: Io,
    /// What was read and not used yet. It has no memory while the connection waits and nothing is in it.
    read: BytesMut,
    /// Bytes that are read at once.
    read_size: usize,
    /// Whether nothing had come when it was last read.
    has_waited: bool,
    names: KnownNames,
    /// The rest of a request whose response has begun.
    upload: Option<Box<(Outgoing, Outbound)>>,
    /// Why the request cannot be sent to its end. What has come of its response goes first.
    upload_error: Option<Http1Error>,
    /// Whether the connection may take another request when this one is over.
    keep_alive: bool,
    /// Whether any byte has come since the last request was sent.
    answered: bool,
    /// When the server's certificate expires.
    expires: Option<SystemTime>,
    /// When it last became idle.
    pub(super) idle_since: Instant,
}

/// The body of a response, with the connection that it comes from.
pub(super) struct Http1Body {
    connection: Box<Http1>,
    framing: Framing,
}

/// How the end of a body is found.
#[derive(Debug)]
enum Framing {
    /// By its length: so many bytes are left.
    Length(u64),
    Chunked(Chunks),
    /// By the end of the connection.
    UntilClose,
    /// There is no body: what follows is of another protocol.
    Switched,
}

/// Why there is no response.
#[derive(Debug)]
pub(super) struct NoResponse {
    pub(super) error: Http1Error,
    /// The request, if nothing of it was written.
    pub(super) request: Option<Box<Request<Outbound>>>,
}

/// A request whose response has not begun.
struct Sending {
    request: Request<Outbound>,
    /// `None` when it has been sent, or cannot be: then a response may have come before the connection failed.
    outgoing: Option<Outgoing>,
    /// Bytes of the response that were searched for the end of its head, without finding it.
    searched: usize,
    /// Bytes that have come for it.
    received: usize,
}

impl Http1 {
    /// HTTP/1.1 on a new connection.
    pub(super) fn new(dialled: Dialled) -> Box<Self> {
        let expires = dialled.expires;
        Box::new(Self {
            io: Io::new(dialled),
            read: BytesMut::new(),
            read_size: READ,
            has_waited: false,
            names: KnownNames::default(),
            upload: None,
            upload_error: None,
            keep_alive: true,
            answered: false,
            expires,
            idle_since: Instant::now(),
        })
    }

    /// Whether the connection can take a request: it is between two responses, and the upstream has neither closed it nor sent anything.
    pub(super) fn is_usable(&mut self) -> bool {
        if !self.keep_alive || self.upload.is_some() || !self.read.is_empty() || has_passed(self.expires) {
            return false;
        }
        let mut byte = [0];
        // Without a budget: a task that has used up its own would find nothing to read on any connection.
        let read =
            unconstrained(poll_fn(|cx| Pin::new(&mut self.io).poll_read(cx, &mut ReadBuf::new(&mut byte))));
        pin!(read).poll(&mut Context::from_waker(Waker::noop())).is_pending()
    }

    /// Whether any byte has come since the last request was sent.
    pub(super) fn answered(&self) -> bool {
        self.answered
    }

    /// Sends `request` and waits for the response head. The rest of the request is sent while the body of the response is read.
    ///
    /// # Errors
    /// [`NoResponse`]; the connection is of no further use.
    pub(super) async fn send(
        mut self: Box<Self>,
        mut request: Request<Outbound>,
    ) -> Result<Response<Http1Body>, (NoResponse, Box<Self>)> {
        // It may have been closed since it was taken, and what comes before a request is no response to it.
        if !self.is_usable() {
            let no_response = NoResponse { error: Http1Error::NoHead, request: Some(Box::new(request)) };
            return Err((no_response, self));
        }
        (self.answered, self.has_waited) = (false, false);
        let outgoing = Some(Outgoing::new(&mut request));
        let mut sending = Sending { request, outgoing, searched: 0, received: 0 };
        let head = poll_fn(|cx| self.poll_send(&mut sending, cx)).await;
        let Sending { request, outgoing, .. } = sending;
        let ResponseHead { response, framing, keep_alive } = match head {
            Ok(head) => head,
            Err(error) => {
                let is_unseen = outgoing.is_some_and(|outgoing| !outgoing.has_written());
                return Err((NoResponse { error, request: is_unseen.then(|| Box::new(request)) }, self));
            }
        };
        self.keep_alive = keep_alive && self.upload_error.is_none();
        self.upload = outgoing.map(|outgoing| Box::new((outgoing, request.into_body())));
        Ok(response.map(|()| Http1Body { connection: self, framing }))
    }

    fn poll_send(
        &mut self,
        sending: &mut Sending,
        cx: &mut Context<'_>,
    ) -> Poll<Result<ResponseHead, Http1Error>> {
        if let Some(outgoing) = &mut sending.outgoing {
            match outgoing.poll(&mut self.io, sending.request.body_mut(), cx) {
                Poll::Pending => {}
                Poll::Ready(Ok(())) => sending.outgoing = None,
                Poll::Ready(Err(error)) if outgoing.has_written() => {
                    (sending.outgoing, self.upload_error) = (None, Some(error));
                }
                Poll::Ready(Err(error)) => return Poll::Ready(Err(error)),
            }
        }
        loop {
            if let Some(head) =
                head::read(&mut self.read, sending.request.method(), &mut sending.searched, &mut self.names)?
            {
                return Poll::Ready(Ok(head));
            }
            let read = ready!(self.poll_read_or_fail(cx))?;
            if read == 0 {
                return Poll::Ready(Err(Http1Error::NoHead));
            }
            sending.received += read;
            if sending.received > MAX_BEFORE_ANSWER {
                return Poll::Ready(Err(Http1Error::EndlessHead));
            }
        }
    }

    /// Reads what has come, and returns the number of bytes; 0 at the end of the connection. While nothing has come, no buffer is kept.
    fn poll_read(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<usize>> {
        // After a wait something has come, mostly. Behind that there is mostly nothing, which is found out without a buffer.
        if !self.has_waited && self.io.poll_readable(cx).is_pending() {
            return self.wait();
        }
        if self.read.capacity() - self.read.len() < self.read_size / 2 {
            self.read.reserve(self.read_size);
        }
        let room = self.read.capacity() - self.read.len();
        let Poll::Ready(read) = pin!(self.io.read_buf(&mut self.read)).poll(cx) else { return self.wait() };
        self.has_waited = false;
        let read = read?;
        self.answered |= read > 0;
        if read == room {
            self.read_size = MOST_READ.min(self.read_size * 2);
        } else if read < self.read_size / 4 {
            self.read_size = READ.max(self.read_size / 2);
        }
        Poll::Ready(Ok(read))
    }

    fn wait<T>(&mut self) -> Poll<T> {
        self.has_waited = true;
        self.forget_buffer();
        Poll::Pending
    }

    /// Reads as [`Self::poll_read`] does; if nothing has come, the request's error counts.
    fn poll_read_or_fail(&mut self, cx: &mut Context<'_>) -> Poll<Result<usize, Http1Error>> {
        match self.poll_read(cx) {
            Poll::Ready(read) => Poll::Ready(read.map_err(Http1Error::Io)),
            Poll::Pending => match self.upload_error.take() {
                Some(error) => Poll::Ready(Err(error)),
                None => Poll::Pending,
            },
        }
    }

    fn forget_buffer(&mut self) {
        if self.read.is_empty() {
            self.read = BytesMut::new();
        }
    }

    /// Sends more of the request, if its response has begun before it was sent.
    fn go_on_sending(&mut self, cx: &mut Context<'_>) {
        let Some(upload) = &mut self.upload else { return };
        let (outgoing, body) = &mut **upload;
        let Poll::Ready(sent) = outgoing.poll(&mut self.io, body, cx) else { return };
        self.upload = None;
        if let Err(error) = sent {
            (self.keep_alive, self.upload_error) = (false, Some(error));
        }
    }
}

impl fmt::Debug for Http1 {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Http1").field("keep_alive", &self.keep_alive).finish_non_exhaustive()
    }
}

impl Http1Body {
    /// See [`Body::poll_frame`](http_body::Body::poll_frame).
    pub(super) fn poll_frame(
        &mut self,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Http1Error>>> {
        self.connection.go_on_sending(cx);
        loop {
            match self.framing.next(&mut self.connection.read) {
                Ok(Piece::Data(data)) => return Poll::Ready(Some(Ok(Frame::data(data)))),
                Ok(Piece::End(trailers)) => {
                    return Poll::Ready(trailers.map(|trailers| Ok(Frame::trailers(trailers))));
                }
                Ok(Piece::More) => {}
                Err(error) => return Poll::Ready(Some(Err(error))),
            }
            match ready!(self.connection.poll_read_or_fail(cx)) {
                Ok(0) if matches!(self.framing, Framing::UntilClose) => {
                    self.connection.keep_alive = false;
                    self.framing = Framing::Length(0);
                }
                Ok(0) => return Poll::Ready(Some(Err(Http1Error::Incomplete))),
                Ok(_) => {}
                Err(error) => return Poll::Ready(Some(Err(error))),
            }
        }
    }

    /// See [`Body::is_end_stream`](http_body::Body::is_end_stream).
    pub(super) fn is_end_stream(&self) -> bool {
        match &self.framing {
            Framing::Length(left) => *left == 0,
            Framing::Chunked(chunks) => chunks.is_end(),
            Framing::UntilClose => false,
            Framing::Switched => true,
        }
    }

    /// See [`Body::size_hint`](http_body::Body::size_hint).
    pub(super) fn size_hint(&self) -> SizeHint {
        match &self.framing {
            Framing::Length(left) => SizeHint::with_exact(*left),
            _ if self.is_end_stream() => SizeHint::with_exact(0),
            _ => SizeHint::default(),
        }
    }

    /// The connection's I/O, if the upstream has switched protocols. It first yields what the upstream sent right behind its response of 101.
    ///
    /// # Errors
    /// [`Http1Error::NotSwitched`].
    pub(super) fn upgrade(self) -> Result<Upgraded<Io>, Http1Error> {
        match self.framing {
            Framing::Switched if self.connection.upload.is_none() => {
                Ok(Upgraded::new(self.connection.io, self.connection.read.freeze()))
            }
            _ => Err(Http1Error::NotSwitched),
        }
    }

    /// The connection, if it can be reused after the response was read to its end.
    pub(super) fn into_reusable(self) -> Option<Box<Http1>> {
        let Self { mut connection, framing } = self;
        if matches!(framing, Framing::Switched) || !connection.is_usable() {
            return None;
        }
        connection.forget_buffer();
        Some(connection)
    }
}

impl fmt::Debug for Http1Body {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Http1Body").field("framing", &self.framing).finish_non_exhaustive()
    }
}

impl Framing {
    /// Takes the next piece of the body from what was read.
    fn next(&mut self, read: &mut BytesMut) -> Result<Piece, Http1Error> {
        match self {
            Self::Length(0) | Self::Switched => Ok(Piece::End(None)),
            Self::Chunked(chunks) => chunks.next(read),
            Self::Length(_) | Self::UntilClose if read.is_empty() => Ok(Piece::More),
            Self::UntilClose => Ok(Piece::Data(read.split().freeze())),
            Self::Length(left) => {
                let length = usize::try_from(*left).unwrap_or(usize::MAX).min(read.len());
                *left -= length as u64;
                Ok(Piece::Data(read.split_to(length).freeze()))
            }
        }
    }
}
