//! Opens a client connection: socket options, PROXY protocol header, TLS, and protocol detection.

use std::{io, net::SocketAddr, rc::Rc, time::Duration};

use bytes::BytesMut;
use socket2::{SockRef, TcpKeepalive};
use tokio::{io::AsyncReadExt, net::TcpStream};
use tokio_rustls::TlsAcceptor;

use super::{
    io::{Io, Wire},
    plain_http::is_plain_http,
    proxy_header::{self, ProxyHeaderError},
};
use crate::{
    body::ConnectionState,
    config::{ClientAddress, Server},
    pause,
    snapshot::Listener,
};

/// The connection preface of HTTP/2 with prior knowledge (RFC 9113 section 3.4).
const PREFACE: &[u8; 24] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";

const KEEPALIVE: Duration = Duration::from_secs(60);
const KEEPALIVE_INTERVAL: Duration = Duration::from_secs(15);
/// So many probes without a reply end a connection.
const KEEPALIVE_PROBES: u32 = 3;

/// A connection that is ready for HTTP.
#[derive(Debug)]
pub(super) struct Opened {
    pub(super) io: Io,
    pub(super) http2: bool,
    /// The TCP peer, or the source address from the PROXY protocol header.
    pub(super) client: SocketAddr,
}

/// Why a connection failed before its first request.
#[derive(Debug, thiserror::Error)]
pub(super) enum OpenError {
    #[error("PROXY protocol header rejected")]
    Proxy(#[from] ProxyHeaderError),
    #[error("TLS handshake failed")]
    Handshake(#[source] io::Error),
    #[error("handshake timed out (server.handshake_timeout)")]
    HandshakeTimeout,
    #[error("first bytes of a request timed out (server.header_timeout)")]
    PrefaceTimeout,
    /// The socket, from which the request is unread.
    #[error("plain HTTP on a port that expects TLS")]
    PlainHttp(TcpStream),
    #[error("connection ended before its first request")]
    Ended(#[source] io::Error),
}

/// Prepares a socket for hyper.
pub(super) async fn open(
    tcp: TcpStream,
    peer: SocketAddr,
    listener: &Listener,
    server: &Server,
    state: &Rc<ConnectionState>,
) -> Result<Opened, OpenError> {
    set_options(&tcp);
    let shaken = pause::timeout(server.handshake_timeout, handshake(tcp, peer, listener, state));
    let (opening, client) = shaken.await.map_err(|_| OpenError::HandshakeTimeout)??;
    let (tcp, mut ahead) = match opening {
        Opening::Tls(io, http2) => return Ok(Opened { io, http2, client }),
        Opening::Plain(tcp, ahead) => (tcp, ahead),
    };
    let mut tcp = tcp;
    let http2 = listener.h2c
        && pause::timeout(server.header_timeout, is_http2(&mut tcp, &mut ahead))
            .await
            .map_err(|_| OpenError::PrefaceTimeout)?
            .map_err(OpenError::Ended)?;
    Ok(Opened { io: Io::plain(Wire::new(tcp, state.clone(), ahead.freeze())), http2, client })
}

enum Opening {
    Plain(TcpStream, BytesMut),
    Tls(Io, bool),
}

async fn handshake(
    mut tcp: TcpStream,
    peer: SocketAddr,
    listener: &Listener,
    state: &Rc<ConnectionState>,
) -> Result<(Opening, SocketAddr), OpenError> {
    let mut ahead = BytesMut::new();
    let client = match &listener.client_address {
        ClientAddress::ProxyProtocol(trusted) => {
            if !trusted.is_empty() && !trusted.iter().any(|network| network.contains(peer.ip())) {
                return Err(ProxyHeaderError::Untrusted.into());
            }
            proxy_header::read(&mut tcp, &mut ahead).await?.unwrap_or(peer)
        }
        ClientAddress::Peer | ClientAddress::ForwardedFor(_) => peer,
    };
    let Some(tls) = &listener.tls else { return Ok((Opening::Plain(tcp, ahead), client)) };
    if is_plain_http(&tcp, &ahead).await.map_err(OpenError::Handshake)? {
        return Err(OpenError::PlainHttp(tcp));
    }
    let wire = Wire::new(tcp, state.clone(), ahead.freeze());
    let stream = TlsAcceptor::from(tls.clone()).accept(wire).await.map_err(OpenError::Handshake)?;
    let http2 = stream.get_ref().1.alpn_protocol() == Some(b"h2");
    Ok((Opening::Tls(Io::tls(stream), http2), client))
}

/// Whether the connection begins with the HTTP/2 preface. Reads no further than the first byte that differs; the bytes read are
/// left in `ahead`.
async fn is_http2(tcp: &mut TcpStream, ahead: &mut BytesMut) -> io::Result<bool> {
    loop {
        if !ahead.iter().zip(PREFACE).all(|(byte, expected)| byte == expected) {
            return Ok(false);
        }
        if ahead.len() >= PREFACE.len() {
            return Ok(true);
        }
        ahead.reserve(PREFACE.len());
        if tcp.read_buf(ahead).await? == 0 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
    }
}

/// Without `TCP_USER_TIMEOUT`: it ends connections whose peer keeps its window almost shut, however steadily it reads, because Linux counts
/// from the first probe of the window until a whole segment fits in (`icsk_probes_tstamp` in `net/ipv4/tcp_input.c`). A peer that
/// acknowledges nothing is found by [`super::clock::Clock`], and after an upgrade by the clocks of what speaks the other protocol.
fn set_options(tcp: &TcpStream) {
    let socket = SockRef::from(tcp);
    let keepalive = TcpKeepalive::new()
        .with_time(KEEPALIVE)
        .with_interval(KEEPALIVE_INTERVAL)
        .with_retries(KEEPALIVE_PROBES);
    let set = socket.set_tcp_nodelay(true).and_then(|()| socket.set_tcp_keepalive(&keepalive));
    if let Err(error) = set {
        tracing::debug!(%error, "socket options could not be set");
    }
}
