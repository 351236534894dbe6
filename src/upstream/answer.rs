//! An upstream's response: its head, and its body with the connection behind it.

use std::{
    pin::Pin,
    rc::Rc,
    sync::Arc,
    task::{Context, Poll},
};

use bytes::Bytes;
use http::Response;
use http_body::{Body, Frame, SizeHint};
use hyper::body::Incoming;
use thiserror::Error;

use super::{
    Dialer, Pools,
    http1::{Http1Body, Http1Error},
    http2::Lease,
    io::Io,
};
use crate::body::{AnswerAwaited, Upgraded};

/// The head and the body of a response.
pub type Answer = Box<Response<AnswerBody>>;

/// Why a response body ended early.
#[derive(Debug, Error)]
pub enum BodyError {
    /// HTTP/1.1: the connection or the protocol failed.
    #[error(transparent)]
    Http1(#[from] Http1Error),
    /// HTTP/2: the connection or the protocol failed.
    #[error(transparent)]
    Http2(#[from] hyper::Error),
    /// HTTP/2: the stream was reset with NO_ERROR before its end, which hyper reports as an end. RFC 9113 §8.1 allows that reset
    /// only after a complete response.
    #[error("response stream was reset before its end")]
    Reset,
}

/// Why an upstream's connection was not handed over for another protocol.
#[derive(Debug, Error)]
pub enum UpgradeError {
    /// Its response was not 101.
    #[error("the upstream connection did not switch protocols")]
    Http1(#[from] Http1Error),
    /// One stream of an HTTP/2 connection does not become a connection of its own.
    #[error("protocol upgrades need an HTTP/1.1 connection to the upstream")]
    NotHttp1,
}

/// Takes the connection behind the body of a response of 101 (Switching Protocols). It first yields what the upstream sent right behind that
/// response, counts as an open connection until it is dropped, and never returns to the pool.
///
/// # Errors
/// [`UpgradeError`]: the upstream has not switched protocols.
pub fn upgrade(mut answer: AnswerBody) -> Result<Upgraded<Io>, UpgradeError> {
    match answer.take_source() {
        Source::Http1(body) => Ok(body.upgrade()?),
        Source::Http2(..) | Source::Unread(_) | Source::Gone => Err(UpgradeError::NotHttp1),
    }
}

/// The body of a response. Dropping it after its end returns the connection to the pool. Dropping it earlier, or before the
/// request has ended, closes the connection (HTTP/1.1) or resets the stream (HTTP/2) at once.
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
    /// Bytes that were read and given back come first.
    Unread(Box<Unread>),
    /// Returned to the pool, or failed.
    Gone,
}

#[derive(Debug)]
pub(super) struct Unread {
    first: Bytes,
    source: Source,
    ended: bool,
}

impl Source {
    fn size_hint(&self, ended: bool) -> SizeHint {
        match self {
            Self::Http1(body) => body.size_hint(),
            Self::Http2(body, ..) => body.size_hint(),
            Self::Gone if ended => SizeHint::with_exact(0),
            Self::Unread(_) | Self::Gone => SizeHint::default(),
        }
    }
}

impl AnswerBody {
    pub(super) fn new(source: Source, pools: Rc<Pools>, dialer: Arc<Dialer>) -> Self {
        let mut body = Self { source, ended: false, pools, dialer };
        body.ended = body.is_end_stream();
        body
    }

    /// Whether the body has been read to its end.
    pub fn is_ended(&self) -> bool {
        self.ended || self.is_end_stream()
    }

    /// Whether all bytes have arrived: the body has ended, or as many bytes came as were announced. On HTTP/2 the end of the
    /// stream may come in its own frame, after the last byte.
    pub fn is_whole(&self) -> bool {
        self.is_ended() || self.size_hint().exact() == Some(0)
    }

    /// Gives back `first`, which was read of this body: it is the next frame.
    pub fn unread(&mut self, first: Bytes) {
        let ended = std::mem::replace(&mut self.ended, false);
        let source = self.take_source();
        self.source = Source::Unread(Box::new(Unread { first, source, ended }));
    }

    fn take_unread(&mut self) -> Option<Bytes> {
        match self.take_source() {
            Source::Unread(unread) => {
                let Unread { first, source, ended } = *unread;
                self.ended = ended;
                self.source = source;
                Some(first)
            }
            source => {
                self.source = source;
                None
            }
        }
    }

    fn take_source(&mut self) -> Source {
        std::mem::replace(&mut self.source, Source::Gone)
    }

    fn poll_source(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        match &mut self.source {
            Source::Http1(body) => body.poll_frame(cx).map_err(BodyError::Http1),
            Source::Http2(body, ..) => match Pin::new(&mut *body).poll_frame(cx) {
                Poll::Ready(None) if !body.is_end_stream() => Poll::Ready(Some(Err(BodyError::Reset))),
                polled => polled.map_err(BodyError::Http2),
            },
            Source::Unread(_) => Poll::Ready(self.take_unread().map(|first| Ok(Frame::data(first)))),
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
                // A failure after the last announced byte loses nothing.
                this.ended = this.is_whole();
                this.source = Source::Gone;
                if this.ended {
                    return Poll::Ready(None);
                }
            }
            // Nothing comes after trailers, and hyper does not poll for more.
            Poll::Ready(Some(Ok(frame))) => this.ended |= frame.is_trailers(),
            Poll::Pending => {}
        }
        polled
    }

    fn is_end_stream(&self) -> bool {
        match &self.source {
            Source::Http1(body) => body.is_end_stream(),
            Source::Http2(body, ..) => body.is_end_stream(),
            Source::Unread(_) => false,
            Source::Gone => self.ended,
        }
    }

    fn size_hint(&self) -> SizeHint {
        match &self.source {
            Source::Unread(unread) => {
                let first = unread.first.len() as u64;
                let rest = unread.source.size_hint(unread.ended);
                rest.exact().map_or_else(SizeHint::default, |rest| SizeHint::with_exact(first + rest))
            }
            source => source.size_hint(self.ended),
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

#[cfg(test)]
mod tests {
    use std::{sync::Arc, time::Duration};

    use http::{Request, StatusCode, Uri, header};
    use rustls::{ClientConfig, RootCertStore, crypto::aws_lc_rs};
    use tokio::{
        io::{AsyncReadExt, AsyncWriteExt},
        net::{TcpListener, TcpStream},
    };

    use super::*;
    use crate::{
        body::Outbound,
        telemetry::metrics::worker::WorkerMetrics,
        upstream::{DialerOptions, PoolLimits},
    };

    const LONG: Duration = Duration::from_secs(60);
    const SWITCHED: &str = "HTTP/1.1 101 Switching Protocols\r\nconnection: upgrade\r\nupgrade: echo\r\n\r\n";

    fn dialer(to: &TcpListener) -> Arc<Dialer> {
        let tls = ClientConfig::builder_with_provider(Arc::new(aws_lc_rs::default_provider()))
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_root_certificates(RootCertStore::empty())
            .with_no_client_auth();
        let limits = PoolLimits { idle: LONG, max_idle: 8, max_open: Some(1) };
        Arc::new(Dialer::new(&DialerOptions {
            origin: Uri::try_from(format!("http://{}", to.local_addr().unwrap())).unwrap(),
            tls,
            server_name: None,
            http2: false,
            egress: None,
            connect: LONG,
            limits,
            identity: String::new(),
            connection_limit: Arc::default(),
        }))
    }

    /// Sends a request to upgrade to an upstream that answers with `answer`.
    async fn ask(
        dialer: &Arc<Dialer>,
        pools: &Rc<Pools>,
        to: &TcpListener,
        answer: &str,
    ) -> (Answer, TcpStream) {
        let request = Request::get("/")
            .header(header::HOST, "a")
            .header(header::CONNECTION, "upgrade")
            .header(header::UPGRADE, "echo")
            .body(Outbound::EMPTY)
            .unwrap();
        let upstream = async {
            let (mut upstream, _) = to.accept().await.unwrap();
            read_to(&mut upstream, b"\r\n\r\n").await;
            upstream.write_all(answer.as_bytes()).await.unwrap();
            upstream
        };
        let sent = async {
            let connection = pools.dial(dialer, LONG).await.unwrap();
            connection.send(request).await.unwrap()
        };
        tokio::join!(sent, upstream)
    }

    async fn read_to(io: &mut (impl AsyncReadExt + Unpin), end: &[u8]) -> Vec<u8> {
        let mut read = Vec::new();
        while !read.ends_with(end) {
            read.push(io.read_u8().await.unwrap());
        }
        read
    }

    #[tokio::test]
    async fn a_connection_that_has_switched_carries_bytes_both_ways_and_counts_as_open() {
        let to = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let (dialer, pools) = (dialer(&to), Rc::new(Pools::new(Arc::<WorkerMetrics>::default())));
        let (answer, mut upstream) = ask(&dialer, &pools, &to, &format!("{SWITCHED}at once.")).await;
        assert_eq!(answer.status(), StatusCode::SWITCHING_PROTOCOLS);
        let mut switched = upgrade(answer.into_body()).unwrap();
        assert_eq!(read_to(&mut switched, b".").await, b"at once.");
        switched.write_all(b"there.").await.unwrap();
        assert_eq!(read_to(&mut upstream, b".").await, b"there.");
        upstream.write_all(b"and back.").await.unwrap();
        assert_eq!(read_to(&mut switched, b".").await, b"and back.");
        assert!(dialer.is_full());
        drop(switched);
        assert_eq!(upstream.read(&mut [0]).await.unwrap(), 0, "closed");
        assert!(!dialer.is_full());
        assert_eq!(pools.idle(), 0);
    }

    #[tokio::test]
    async fn a_response_of_101_that_nobody_wants_closes_its_connection() {
        let to = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let (dialer, pools) = (dialer(&to), Rc::new(Pools::new(Arc::<WorkerMetrics>::default())));
        let (answer, mut upstream) = ask(&dialer, &pools, &to, SWITCHED).await;
        drop(answer);
        assert_eq!(upstream.read(&mut [0]).await.unwrap(), 0, "closed");
        assert!(!dialer.is_full());
        assert_eq!(pools.idle(), 0);
    }

    #[tokio::test]
    async fn a_refused_upgrade_is_an_error() {
        let to = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let (dialer, pools) = (dialer(&to), Rc::new(Pools::new(Arc::<WorkerMetrics>::default())));
        let (answer, _upstream) =
            ask(&dialer, &pools, &to, "HTTP/1.1 403 No\r\ncontent-length: 0\r\n\r\n").await;
        assert!(matches!(upgrade(answer.into_body()), Err(UpgradeError::Http1(_))));
    }
}
