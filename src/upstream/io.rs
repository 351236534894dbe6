//! The I/O under an upstream connection.

use std::{
    cell::Cell,
    io,
    pin::Pin,
    rc::Rc,
    task::{Context, Poll},
};

use hyper_rustls::MaybeHttpsStream;
use hyper_util::rt::TokioIo;
use tokio::{
    io::{AsyncRead, AsyncWrite, ReadBuf},
    net::TcpStream,
};
use tokio_rustls::client::TlsStream;
use tokio_util::either::Either;

use super::{connection_limit::Slot, dialer::Dialled};

/// TCP, or TLS over it. TLS is boxed, so that a connection without it does not keep room for a kibibyte of its state.
pub(super) type Socket = Either<TcpStream, Box<TlsStream<TokioIo<TokioIo<TcpStream>>>>>;

/// What a connector made, without the connector's layers around it.
pub(super) fn bare(made: MaybeHttpsStream<TokioIo<TcpStream>>) -> Socket {
    match made {
        MaybeHttpsStream::Http(tcp) => Either::Left(tcp.into_inner()),
        MaybeHttpsStream::Https(tls) => Either::Right(Box::new(tls.into_inner())),
    }
}

/// What is known of the bytes that come back.
#[derive(Debug, Default)]
pub(super) struct Reads {
    /// Any have, since the last request: it may not be sent again.
    pub(super) answered: Cell<bool>,
    /// How many more may come before an answer has begun.
    pub(super) room: Cell<Option<usize>>,
}

/// Notes what comes back. More than there is room for fails: hyper skips interim answers (1xx) without end.
#[derive(Debug)]
pub(super) struct Io {
    socket: Socket,
    reads: Rc<Reads>,
    /// Dropped after the socket: the connection is closed before there may be another in its place. It is here because whatever drives the
    /// connection may live longer than who sends on it, or less long.
    _slot: Slot,
}

impl Io {
    /// Reads are told to `reads`.
    pub(super) fn new(Dialled { socket, slot }: Dialled, reads: Rc<Reads>) -> Self {
        Self { socket, reads, _slot: slot }
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
        let read = buf.filled().len() - before;
        if read > 0 {
            self.reads.answered.set(true);
            if let Some(room) = self.reads.room.get() {
                let Some(left) = room.checked_sub(read) else {
                    return Poll::Ready(Err(io::Error::other("heads without end")));
                };
                self.reads.room.set(Some(left));
            }
        }
        polled
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
