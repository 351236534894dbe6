//! The I/O under an upstream connection.

use std::{
    io,
    pin::Pin,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
    task::{Context, Poll},
};

use hyper_rustls::MaybeHttpsStream;
use hyper_util::rt::TokioIo;
use socket2::SockRef;
use thiserror::Error;
use tokio::{
    io::{AsyncRead, AsyncWrite, ReadBuf},
    net::TcpStream,
};
use tokio_rustls::client::TlsStream;
use tokio_util::either::Either;

use super::dialer::Dialled;
use crate::wait_queue::QueuePermit;

/// TCP, or TLS over it. TLS is boxed, so that a connection without it does not keep room for a kibibyte of its state.
pub(super) type Socket = Either<TcpStream, Box<TlsStream<TokioIo<TokioIo<TcpStream>>>>>;

/// The most bytes of requests that the kernel holds and has not sent yet (Linux `TCP_NOTSENT_LOWAT`), in bytes.
///
/// Without this, the kernel takes up to 4 MiB (tcp(7), `tcp_wmem`), and a large request looks as if it had been sent while the upstream has
/// still to read most of it: `first_byte` would run meanwhile. What is on its way over the network does not count, so uploads are as fast.
const MOST_UNSENT: u32 = 128 << 10;

/// The bare socket, without the connector's layers.
pub(super) fn bare(made: MaybeHttpsStream<TokioIo<TcpStream>>) -> Socket {
    match made {
        MaybeHttpsStream::Http(tcp) => {
            limit_unsent(tcp.inner());
            Either::Left(tcp.into_inner())
        }
        MaybeHttpsStream::Https(tls) => {
            let tls = tls.into_inner();
            limit_unsent(tls.get_ref().0.inner().inner());
            Either::Right(Box::new(tls))
        }
    }
}

fn limit_unsent(tcp: &TcpStream) {
    if let Err(error) = SockRef::from(tcp).set_tcp_notsent_lowat(MOST_UNSENT) {
        tracing::debug!(%error, "unsent bytes of an upstream connection could not be limited");
    }
}

/// What is known of the bytes that the upstream sends. Only one thread uses it; it is atomic because hyper moves the I/O out of a
/// connection that has switched protocols, and demands that it is `Send`.
#[derive(Debug)]
pub(super) struct ReadState {
    answered: AtomicBool,
    /// Bytes that may still come before the response head is complete; [`UNLIMITED`] while no response is awaited.
    allowance: AtomicUsize,
}

const UNLIMITED: usize = usize::MAX;

/// More bytes came before a final response than are allowed.
#[derive(Debug, Error)]
#[error("interim responses exceed the limit before a final response")]
pub(super) struct EndlessHead;

impl ReadState {
    /// A request is about to be sent: until [`ReadState::head_received`] no more than `allowance` bytes may come.
    pub(super) fn await_head(&self, allowance: usize) {
        self.answered.store(false, Ordering::Relaxed);
        self.allowance.store(allowance, Ordering::Relaxed);
    }

    /// The response head has come, or is not awaited any longer.
    pub(super) fn head_received(&self) {
        self.allowance.store(UNLIMITED, Ordering::Relaxed);
    }

    /// Whether any byte came since the last request was sent: then the request must not be sent again.
    pub(super) fn answered(&self) -> bool {
        self.answered.load(Ordering::Relaxed)
    }

    fn note(&self, read: usize) -> io::Result<()> {
        if read == 0 {
            return Ok(());
        }
        self.answered.store(true, Ordering::Relaxed);
        let allowance = self.allowance.load(Ordering::Relaxed);
        if allowance == UNLIMITED {
            return Ok(());
        }
        let Some(left) = allowance.checked_sub(read) else {
            return Err(io::Error::other(EndlessHead));
        };
        self.allowance.store(left, Ordering::Relaxed);
        Ok(())
    }
}

impl Default for ReadState {
    fn default() -> Self {
        Self { answered: AtomicBool::new(false), allowance: AtomicUsize::new(UNLIMITED) }
    }
}

/// The I/O under hyper. It limits how many bytes may come before a response, because hyper skips any number of interim responses (1xx).
#[derive(Debug)]
pub(super) struct Io {
    socket: Socket,
    reads: Arc<ReadState>,
    /// Dropped after the socket, so the connection is closed before the permit is free. It is kept here because the I/O may live
    /// longer or shorter than the request sender.
    _permit: QueuePermit,
}

impl Io {
    /// I/O over a new connection, which reports its reads to `reads`.
    pub(super) fn new(Dialled { socket, permit, .. }: Dialled, reads: Arc<ReadState>) -> Self {
        Self { socket, reads, _permit: permit }
    }
}

impl AsyncRead for Io {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let before = buf.filled().len();
        let polled = Pin::new(&mut self.socket).poll_read(cx, buf);
        match self.reads.note(buf.filled().len() - before) {
            Ok(()) => polled,
            Err(error) => Poll::Ready(Err(error)),
        }
    }
}

impl AsyncWrite for Io {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.socket).poll_write(cx, buf)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.socket).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.socket).poll_shutdown(cx)
    }

    fn is_write_vectored(&self) -> bool {
        self.socket.is_write_vectored()
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.socket).poll_write_vectored(cx, bufs)
    }
}
