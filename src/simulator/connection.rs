//! A connection, from its accept to its end: handshake, choice of protocol.

use std::{io, sync::Arc, time::Duration};

use bytes::BytesMut;
use tokio::{io::AsyncReadExt, net::TcpStream, time::timeout};
use tokio_rustls::TlsAcceptor;

use super::{
    http1, http2,
    shared::Shared,
    socket::{Socket, Stream},
    tls::{self, Handshake},
};

/// A handshake, or the first bytes of a plain connection, must be in by then.
const OPENING: Duration = Duration::from_secs(30);
/// What an HTTP/2 connection begins with and no HTTP/1.1 one (RFC 9113, section 3.4).
const PREFACE: &[u8] = b"PRI ";

/// Which protocols are spoken. With TLS the ALPN list is made from it, and plain connections are told apart by their
/// first bytes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, clap::ValueEnum)]
pub enum Protocols {
    /// HTTP/1.1 and HTTP/2.
    #[default]
    Both,
    /// HTTP/1.1 alone.
    Http1,
    /// HTTP/2 alone; on plain connections by prior knowledge.
    Http2,
}

/// Where a request came in.
#[derive(Clone)]
pub(super) struct Place {
    pub(super) connection: u64,
    /// Requests on the connection so far, this one included.
    pub(super) on_connection: u64,
    pub(super) tls: Option<Arc<Handshake>>,
}

impl Place {
    pub(super) fn next_request(&mut self) {
        self.on_connection += 1;
    }
}

/// Serves a connection to its end.
pub(super) async fn serve(tcp: TcpStream, acceptor: Option<TlsAcceptor>, shared: Arc<Shared>) {
    let number = shared.connections.open();
    match timeout(OPENING, open(tcp, acceptor, shared.protocols)).await {
        Ok(Ok((socket, tls, http2))) => {
            let place = Place { connection: number.0, on_connection: 0, tls };
            if http2 {
                http2::serve(socket, place, &shared).await;
            } else {
                http1::serve(socket, place, &shared).await;
            }
        }
        Ok(Err(error)) => {
            shared.connections.failed();
            tracing::debug!(%error, "connection did not open");
        }
        Err(_) => shared.connections.failed(),
    }
}

type Opened = (Socket, Option<Arc<Handshake>>, bool);

async fn open(mut tcp: TcpStream, acceptor: Option<TlsAcceptor>, protocols: Protocols) -> io::Result<Opened> {
    tcp.set_nodelay(true)?;
    if let Some(acceptor) = acceptor {
        let stream = acceptor.accept(tcp).await?;
        let handshake = Handshake::of(stream.get_ref().1);
        let http2 = stream.get_ref().1.alpn_protocol() == Some(tls::H2) || protocols == Protocols::Http2;
        let socket = Socket::new(Stream::Tls(Box::new(stream)), bytes::Bytes::new());
        return Ok((socket, Some(Arc::new(handshake)), http2));
    }
    let mut early = BytesMut::new();
    while protocols == Protocols::Both && early.len() < PREFACE.len() && PREFACE.starts_with(&early) {
        if tcp.read_buf(&mut early).await? == 0 {
            break;
        }
    }
    let http2 = protocols == Protocols::Http2 || early.starts_with(PREFACE);
    Ok((Socket::new(Stream::Plain(tcp), early.freeze()), None, http2))
}
