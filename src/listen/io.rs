//! The I/O under hyper: a TCP stream, with or without TLS, that reports its progress to the connection's [`ConnectionState`].

use std::{
    io::{self, IoSlice},
    pin::Pin,
    rc::Rc,
    task::{Context, Poll},
    time::Duration,
};

use bytes::{Buf, Bytes};
use socket2::SockRef;
use tokio::{
    io::{AsyncRead, AsyncWrite, ReadBuf},
    net::TcpStream,
};
use tokio_rustls::server::TlsStream;
use tokio_util::either::Either;

use crate::body::{ClientSocket, ConnectionState, SocketWatch};

/// The socket. It lies beneath TLS, so progress and stalls are those of the network. TLS asks it to flush only when TLS itself
/// has nothing buffered (tokio-rustls `common::Stream::poll_flush`), so a flush means the same with and without TLS.
#[derive(Debug)]
pub(super) struct Wire {
    socket: ClientSocket,
    state: Rc<ConnectionState>,
    /// Bytes read while the protocol was detected. They come before what is still in the socket.
    ahead: Bytes,
}

/// The most bytes that the kernel holds for a client and has not sent yet (Linux `TCP_NOTSENT_LOWAT`), in bytes; one segment more at times.
///
/// Without this, the kernel takes up to 4 MiB and reports room again only when a third of that is free (`sk_stream_is_writeable` in
/// `include/net/sock.h`). A client that reads steadily but slowly would then look as if it took nothing for minutes, and bytes that never
/// left would count as sent.
const MOST_UNSENT: u32 = 16 << 10;

impl Wire {
    pub(super) fn new(tcp: TcpStream, state: Rc<ConnectionState>, ahead: Bytes) -> Self {
        if let Err(error) = SockRef::from(&tcp).set_tcp_notsent_lowat(MOST_UNSENT) {
            tracing::debug!(%error, "unsent bytes of a client connection could not be limited");
        }
        let socket = ClientSocket::new(tcp);
        state.writes_to(socket.watch());
        Self { socket, state, ahead }
    }

    fn report(&self, written: &Poll<io::Result<usize>>) {
        match written {
            Poll::Ready(Ok(bytes)) => self.state.wrote(*bytes),
            Poll::Ready(Err(_)) => {}
            Poll::Pending => self.state.write_blocked(),
        }
    }
}

impl AsyncRead for Wire {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        into: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        if !self.ahead.is_empty() {
            let length = self.ahead.len().min(into.remaining());
            into.put_slice(self.ahead.get(..length).unwrap_or_default());
            self.ahead.advance(length);
            self.state.read();
            return Poll::Ready(Ok(()));
        }
        let before = into.filled().len();
        let read = Pin::new(&mut *self.socket.tcp()).poll_read(cx, into);
        if into.filled().len() > before {
            self.state.read();
        }
        read
    }
}

impl AsyncWrite for Wire {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        let written = Pin::new(&mut *self.socket.tcp()).poll_write(cx, bytes);
        self.report(&written);
        written
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        slices: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let written = Pin::new(&mut *self.socket.tcp()).poll_write_vectored(cx, slices);
        self.report(&written);
        written
    }

    fn is_write_vectored(&self) -> bool {
        true
    }

    /// A TCP stream buffers nothing.
    fn poll_flush(self: Pin<&mut Self>, _cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.state.flushed();
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut *self.socket.tcp()).poll_shutdown(cx)
    }
}

impl Drop for Wire {
    fn drop(&mut self) {
        self.state.closes();
        if self.state.reset_on_close()
            && let Err(error) = SockRef::from(&*self.socket.tcp()).set_linger(Some(Duration::ZERO))
        {
            tracing::debug!(%error, "client connection could not be reset: closed normally");
        }
    }
}

/// What hyper reads from and writes to. It reports to the [`ConnectionState`] what hyper was given, which with TLS differs from
/// what arrived from the network.
#[derive(Debug)]
pub(super) struct Io {
    stream: Stream,
    state: Rc<ConnectionState>,
}

/// TLS is boxed, because its state is ten times as large as the rest.
type Stream = Either<Wire, Box<TlsStream<Wire>>>;

impl Io {
    pub(super) fn plain(wire: Wire) -> Self {
        Self { state: wire.state.clone(), stream: Either::Left(wire) }
    }

    pub(super) fn tls(stream: TlsStream<Wire>) -> Self {
        Self { state: stream.get_ref().0.state.clone(), stream: Either::Right(Box::new(stream)) }
    }

    /// The socket beneath TLS, which is no longer watched. Bytes written to it bypass TLS.
    pub(super) fn tcp(&mut self) -> Option<&mut TcpStream> {
        self.state.writes_to(SocketWatch::default());
        let wire = match &mut self.stream {
            Either::Left(wire) => wire,
            Either::Right(stream) => stream.get_mut().0,
        };
        wire.socket.exclusive()
    }
}

impl AsyncRead for Io {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        into: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let read = Pin::new(&mut self.stream).poll_read(cx, into);
        self.state.polled_read(read.is_ready());
        read
    }
}

impl AsyncWrite for Io {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write(cx, bytes)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        slices: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write_vectored(cx, slices)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }
}
