//! Serves one connection: TLS handshake, choice of HTTP version, requests until it closes.

use std::{io, sync::Arc, time::Duration};

use bytes::{Bytes, BytesMut};
use tokio::{io::AsyncReadExt, net::TcpStream, time::timeout};
use tokio_rustls::TlsAcceptor;

use super::{
    http1, http2,
    options::Protocols,
    request::RequestOrigin,
    shared::Shared,
    socket::{Socket, Stream},
    tls::{self, Handshake},
};

/// The time limit for the TLS handshake, or for the first bytes of a plain connection.
const OPEN_TIMEOUT: Duration = Duration::from_secs(30);
/// The first bytes of every HTTP/2 connection, and of no HTTP/1.1 connection (RFC 9113, section 3.4).
const HTTP2_PREFACE: &[u8] = b"PRI ";

/// A connection that is ready for its first request.
struct Opened {
    socket: Socket,
    tls: Option<Arc<Handshake>>,
    http2: bool,
}

/// Serves a connection until it closes.
pub(super) async fn serve(tcp: TcpStream, acceptor: Option<TlsAcceptor>, shared: Arc<Shared>) {
    let guard = shared.connections.open();
    match timeout(OPEN_TIMEOUT, open(tcp, acceptor, shared.protocols)).await {
        Ok(Ok(Opened { socket, tls, http2 })) => {
            let origin = RequestOrigin { connection: guard.number(), on_connection: 0, tls };
            if http2 {
                http2::serve(socket, origin, &shared).await;
            } else {
                http1::serve(socket, origin, &shared).await;
            }
        }
        Ok(Err(error)) => {
            shared.connections.failed();
            tracing::debug!(%error, "simulator connection failed before its first request");
        }
        Err(_) => shared.connections.failed(),
    }
}

async fn open(mut tcp: TcpStream, acceptor: Option<TlsAcceptor>, protocols: Protocols) -> io::Result<Opened> {
    tcp.set_nodelay(true)?;
    if let Some(acceptor) = acceptor {
        let stream = acceptor.accept(tcp).await?;
        let handshake = Handshake::of(stream.get_ref().1);
        let http2 = stream.get_ref().1.alpn_protocol() == Some(tls::H2) || protocols == Protocols::Http2;
        let socket = Socket::new(Stream::Tls(Box::new(stream)), Bytes::new());
        return Ok(Opened { socket, tls: Some(Arc::new(handshake)), http2 });
    }
    let mut early = BytesMut::new();
    while protocols == Protocols::Both
        && early.len() < HTTP2_PREFACE.len()
        && HTTP2_PREFACE.starts_with(&early)
    {
        if tcp.read_buf(&mut early).await? == 0 {
            break;
        }
    }
    let http2 = protocols == Protocols::Http2 || early.starts_with(HTTP2_PREFACE);
    Ok(Opened { socket: Socket::new(Stream::Plain(tcp), early.freeze()), tls: None, http2 })
}
