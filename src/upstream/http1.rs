//! One HTTP/1.1 connection, polled by the task that waits for its response.

use std::{
    error::Error,
    fmt,
    future::poll_fn,
    io,
    pin::{Pin, pin},
    sync::Arc,
    task::{Context, Poll, Waker},
    time::{Instant, SystemTime},
};

use bytes::Bytes;
use http::{Request, Response};
use http_body::{Body, Frame, SizeHint};
use hyper::{
    body::Incoming,
    client::conn::{
        TrySendError,
        http1::{self, SendRequest},
    },
    upgrade::{OnUpgrade, Upgraded},
};
use hyper_util::rt::TokioIo;

use super::{
    deferred_waker::DeferredWaker,
    dialer::Dialled,
    io::{EndlessHead, Io, ReadState},
    tls::has_passed,
};
use crate::body::Outbound;

/// Rounds of "poll the wanted future, then the connection" within one poll. A connection that still has work after them has its
/// task woken again, so that other tasks on the thread get their turn.
const ROUNDS: usize = 8;

/// Larger response heads are an error of the upstream, on HTTP/2 too.
pub(super) const MAX_HEAD: usize = 256 << 10;

/// Limit for all interim responses together with the final head, and with what hyper reads of the body along with them.
const MAX_BEFORE_ANSWER: usize = 2 << 20;

/// hyper's connection, able to switch protocols; that type of hyper's has no public name.
type Driven = dyn Future<Output = hyper::Result<()>>;

/// An HTTP/1.1 connection with its request sender.
pub(super) struct Http1 {
    sender: SendRequest<Outbound>,
    /// `None` once it has ended, or its I/O has left it for another protocol.
    driven: Option<Pin<Box<Driven>>>,
    deferred: Arc<DeferredWaker>,
    waker: Waker,
    /// Whether the future that is polled with the connection was pending, and waits for the connection's waker.
    is_waiting: bool,
    reads: Arc<ReadState>,
    /// When the server's certificate expires.
    expires: Option<SystemTime>,
    /// When it last became idle.
    pub(super) idle_since: Instant,
}

/// The body of a response, with the connection that it comes from.
pub(super) struct Http1Body {
    body: Incoming,
    connection: Http1,
}

impl Http1 {
    /// Opens HTTP/1.1 on a new connection.
    pub(super) async fn open(dialled: Dialled) -> hyper::Result<Self> {
        let reads = Arc::<ReadState>::default();
        let expires = dialled.expires;
        let io = TokioIo::new(Io::new(dialled, reads.clone()));
        let (sender, driven) = builder().handshake(io).await?;
        let driven: Pin<Box<Driven>> = Box::pin(driven.with_upgrades());
        let deferred = DeferredWaker::new();
        let waker = Waker::from(deferred.clone());
        let idle_since = Instant::now();
        let mut opened = Self {
            sender,
            driven: Some(driven),
            deferred,
            waker,
            is_waiting: false,
            reads,
            expires,
            idle_since,
        };
        opened.settle();
        Ok(opened)
    }

    /// Whether the connection can take a request. Polls it, which detects that the upstream has closed it.
    pub(super) fn is_usable(&mut self) -> bool {
        self.settle();
        self.driven.is_some() && self.sender.is_ready() && !has_passed(self.expires)
    }

    /// Sends `request` and waits for the response head.
    ///
    /// # Errors
    /// hyper's, with the request if nothing of it was written.
    pub(super) async fn send(
        &mut self,
        request: Request<Outbound>,
    ) -> Result<Response<Incoming>, TrySendError<Request<Outbound>>> {
        self.reads.await_head(MAX_BEFORE_ANSWER);
        self.is_waiting = false;
        let mut response = pin!(self.sender.try_send_request(request));
        let answered = poll_fn(|cx| self.poll_with(cx, |cx| response.as_mut().poll(cx))).await;
        self.reads.head_received();
        answered
    }

    /// Whether any byte has arrived since the last request was sent.
    pub(super) fn answered(&self) -> bool {
        self.reads.answered()
    }

    /// Polls the connection as often as it has work, and `wanted`, which only the connection can make ready. A future that was pending is not
    /// polled again before something has happened on the connection: it keeps the connection's waker, which is always the same.
    fn poll_with<T>(
        &mut self,
        cx: &mut Context<'_>,
        mut wanted: impl FnMut(&mut Context<'_>) -> Poll<T>,
    ) -> Poll<T> {
        self.deferred.enter(cx);
        let mut polled = Poll::Pending;
        for _ in 0..ROUNDS {
            if self.deferred.take() {
                self.poll_driven();
            } else if self.is_waiting {
                break;
            }
            polled = wanted(&mut Context::from_waker(&self.waker));
            self.is_waiting = polled.is_pending();
            if polled.is_ready() {
                break;
            }
        }
        self.deferred.leave(cx, polled.is_pending());
        polled
    }

    /// Lets the connection do its pending work without waiting: a later wake-up only sets the mark. (Handing it a request would
    /// otherwise wake the task that is about to poll it anyway.)
    fn settle(&mut self) {
        let cx = &Context::from_waker(Waker::noop());
        self.deferred.enter(cx);
        for _ in 0..ROUNDS {
            if !self.deferred.take() {
                break;
            }
            self.poll_driven();
        }
        self.deferred.leave(cx, false);
    }

    fn poll_driven(&mut self) {
        let Some(driven) = &mut self.driven else { return };
        // An error reaches the response or the body through hyper's own channels.
        if driven.as_mut().poll(&mut Context::from_waker(&self.waker)).is_ready() {
            self.driven = None;
        }
    }
}

/// What is read of heads that are not quite HTTP: a space before a colon, which a proxy must remove from a response (RFC 9112 §5.1), and a value
/// that goes on in the next line, which it may replace by spaces (§5.2). hyper does both.
fn builder() -> http1::Builder {
    // `max_headers` stays at hyper's default of 100 lines, which takes no memory: any other number is a tenth of all instructions of a request.
    let mut builder = http1::Builder::new();
    builder
        .max_header_size(MAX_HEAD)
        .allow_spaces_after_header_name_in_responses(true)
        .allow_obsolete_multiline_headers_in_responses(true);
    builder
}

/// Whether `error` says that the upstream has sent a response head that cannot be read.
pub(super) fn is_unreadable(error: &hyper::Error) -> bool {
    if error.is_parse() {
        return true;
    }
    let source = Error::source(error).and_then(|source| source.downcast_ref::<io::Error>());
    let Some(inner) = source.and_then(io::Error::get_ref) else { return false };
    inner.is::<EndlessHead>()
}

impl fmt::Debug for Http1 {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Http1").field("open", &self.driven.is_some()).finish_non_exhaustive()
    }
}

impl Http1Body {
    /// `body` comes from `connection`.
    pub(super) fn new(body: Incoming, connection: Http1) -> Self {
        let connection = Http1 { is_waiting: false, ..connection };
        Self { body, connection }
    }

    /// See [`Body::poll_frame`].
    pub(super) fn poll_frame(
        &mut self,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, hyper::Error>>> {
        let Self { body, connection } = self;
        connection.poll_with(cx, |cx| Pin::new(&mut *body).poll_frame(cx))
    }

    /// See [`Body::is_end_stream`].
    pub(super) fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    /// See [`Body::size_hint`].
    pub(super) fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }

    /// The connection's I/O, once the upstream has switched protocols: `switched` comes with its response of 101. The I/O first yields
    /// what the upstream sent right behind that response.
    ///
    /// # Errors
    /// hyper's: the connection failed, or has not switched.
    pub(super) async fn upgrade(self, mut switched: OnUpgrade) -> hyper::Result<Upgraded> {
        let Self { body: _body, mut connection } = self;
        connection.is_waiting = false;
        poll_fn(|cx| connection.poll_with(cx, |cx| Pin::new(&mut switched).poll(cx))).await
    }

    /// The connection, if it can be reused after the response was read to its end.
    pub(super) fn into_reusable(self) -> Option<Http1> {
        let Self { body, mut connection } = self;
        drop(body);
        connection.is_usable().then_some(connection)
    }
}

impl fmt::Debug for Http1Body {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Http1Body").field("body", &self.body).finish_non_exhaustive()
    }
}
