//! The I/O under an upstream connection.

use std::{
    io,
    pin::Pin,
    task::{Context, Poll},
};

use hyper_rustls::MaybeHttpsStream;
use hyper_util::rt::TokioIo;
use socket2::SockRef;
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

/// The I/O of an HTTP/1.1 connection, and of one that has switched to another protocol.
#[derive(Debug)]
pub struct Io {
    socket: Socket,
    /// Dropped after the socket, so the connection is closed before the permit is free.
    _permit: QueuePermit,
}

impl Io {
    /// I/O over a new connection.
    pub(super) fn new(Dialled { socket, permit, .. }: Dialled) -> Self {
        Self { socket, _permit: permit }
    }

    /// Ready if something may have come. It says so without a buffer where that is possible: TLS may hold what it has decrypted.
    pub(super) fn poll_readable(&self, cx: &mut Context<'_>) -> Poll<()> {
        match &self.socket {
            Either::Left(tcp) => tcp.poll_read_ready(cx).map(|_| ()),
            Either::Right(_) => Poll::Ready(()),
        }
    }
}

impl AsyncRead for Io {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.socket).poll_read(cx, buf)
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
