//! One client connection, from accepting it to closing it.

use std::{
    cell::{OnceCell, RefCell},
    convert::Infallible,
    error::Error,
    net::SocketAddr,
    pin::Pin,
    rc::Rc,
    sync::Arc,
    time::Duration,
};

use http_body::Body;
use hyper::{
    Request, Response,
    body::Incoming,
    server::conn::{
        http1::{self, Parts},
        http2,
    },
    service::Service,
    upgrade::OnUpgrade,
};
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::{net::TcpStream, sync::OwnedSemaphorePermit};

use super::{
    clock::ConnectionTimeouts,
    counters::Counters,
    drive::{DriveEnd, Driver},
    executor::StreamExecutor,
    io::Io,
    linger,
    open::{self, OpenError, Opened},
    plain_http,
    registry::RegistryEntry,
};
use crate::{
    body::{ConnectionState, Upgraded},
    config::{ClientAddress, Network, Server},
    proxy::{CallerMemo, Counted, Downstream, Gateway, HeadMemo},
    snapshot::Snapshot,
};

/// hyper's buffers on HTTP/1.1: how much of a request body one read may take, and how much may wait to be written.
/// `max_header_size` may make the first of them larger.
const HTTP1_BUFFER: usize = 64 * 1024;
/// The number of headers that hyper parses into a buffer on the stack. Other limits cost an allocation per request.
const HTTP1_MAX_HEADERS: usize = 100;
/// Bytes of an upload that may be unacknowledged: enough for 80 Mbit/s over 100 ms on one stream, and for two such streams.
const HTTP2_STREAM_WINDOW: u32 = 1024 * 1024;
const HTTP2_CONNECTION_WINDOW: u32 = 2 * 1024 * 1024;
/// Bytes of a response that h2 may buffer for each stream.
const HTTP2_SEND_BUFFER: usize = 64 * 1024;
/// The reply to a PING comes after all that the client has not taken yet, and a slow client takes 1 KiB/s. One that has vanished is found by
/// [`super::clock::Clock`].
const HTTP2_PING_TIMEOUT: Duration = Duration::from_secs(5 * 60);
/// Limits on streams that the peer reset before they were accepted, and on streams reset for the peer's errors: protection
/// against rapid reset (CVE-2023-44487) and its made-you-reset variant (CVE-2025-8671).
const HTTP2_PENDING_RESETS: usize = 20;
const HTTP2_ERROR_RESETS: usize = 256;

/// Longer timeouts are as good as none, and adding them to an `Instant` could overflow.
const LONGEST: Duration = Duration::from_secs(365 * 24 * 60 * 60);

/// The future of a response. Boxed, because hyper's HTTP/1.1 reserves room for a handler's whole future for as long as the
/// connection lives, which a streamed response would hold for minutes.
pub(crate) type Answer<B> = Pin<Box<dyn Future<Output = Result<Response<B>, Infallible>>>>;

/// The response to a request to upgrade, and what speaks the other protocol if it is 101.
pub(crate) struct UpgradeAnswer<H: Handler> {
    pub(crate) response: Response<H::Body>,
    pub(crate) switched: Option<H::Switched>,
}

/// Responds to requests: the proxy, or a test's stand-in.
pub(crate) trait Handler: Clone + Unpin + 'static {
    /// The body of its responses.
    type Body: Body<Error: Into<Box<dyn Error + Send + Sync>>> + 'static;
    /// Speaks the protocol that a connection has switched to.
    type Switched: 'static;

    /// Responds to one request.
    fn handle(&self, downstream: Rc<Downstream>, request: Request<Incoming>) -> Answer<Self::Body>;

    /// Responds to a request that asks to switch protocols.
    fn handle_upgrade(
        &self,
        downstream: Rc<Downstream>,
        request: Request<Incoming>,
    ) -> Pin<Box<dyn Future<Output = UpgradeAnswer<Self>>>>;

    /// Speaks the other protocol, after the response of 101 has been written. The connection counts as open until the future ends, and is
    /// closed then.
    fn upgraded(switched: Self::Switched, io: Upgraded<Io>) -> Pin<Box<dyn Future<Output = ()>>>;
}

/// An accepted connection on its way to a worker.
#[derive(Debug)]
pub(super) struct Accepted {
    pub(super) tcp: std::net::TcpStream,
    pub(super) peer: SocketAddr,
    /// The configured address of the listener, which is its key in the snapshot.
    pub(super) listener: SocketAddr,
    /// Counted for the worker from the moment in which the worker was chosen.
    pub(super) counted: Counted,
    /// Its permit of `max_connections`.
    pub(super) permit: OwnedSemaphorePermit,
}

/// What a worker needs to serve its connections.
#[derive(Debug)]
pub(super) struct ServeContext<H> {
    pub(super) gateway: Arc<Gateway>,
    pub(super) counters: Arc<Counters>,
    pub(super) handler: H,
}

/// hyper's service for one connection.
struct ConnectionService<H: Handler> {
    handler: H,
    downstream: Rc<Downstream>,
    /// What has switched the connection to another protocol; there from the first request to upgrade on.
    switched: OnceCell<Rc<RefCell<Option<H::Switched>>>>,
}

impl<H: Handler> ConnectionService<H> {
    /// Keeps what speaks the other protocol, since hyper's connection does not tell whether it has switched: to hyper, an upgrade that was
    /// refused stays pending until the connection ends.
    fn answer_upgrade(&self, request: Request<Incoming>) -> Answer<H::Body> {
        let slot = self.switched.get_or_init(Rc::default).clone();
        let answer = self.handler.handle_upgrade(self.downstream.clone(), request);
        Box::pin(async move {
            let UpgradeAnswer { response, switched } = answer.await;
            slot.replace(switched);
            Ok(response)
        })
    }

    fn take_switched(&self) -> Option<H::Switched> {
        self.switched.get()?.take()
    }
}

impl<H: Handler> Service<Request<Incoming>> for ConnectionService<H> {
    type Response = Response<H::Body>;
    type Error = Infallible;
    type Future = Answer<H::Body>;

    fn call(&self, request: Request<Incoming>) -> Self::Future {
        if request.extensions().get::<OnUpgrade>().is_some() {
            return self.answer_upgrade(request);
        }
        self.handler.handle(self.downstream.clone(), request)
    }
}

/// Serves one connection to its end. Its parts are boxed, so that no part occupies memory after its time: a handshake's state
/// while a response streams, or HTTP/2's state in an HTTP/1.1 connection.
pub(super) async fn serve<H: Handler>(
    connection: Accepted,
    state: Rc<ConnectionState>,
    entry: RegistryEntry,
    context: Rc<ServeContext<H>>,
) {
    let Accepted { tcp, peer, listener, counted: _counted, permit: _permit } = connection;
    // The snapshot is not borrowed across an await and not kept: a connection outlives many snapshots.
    let snapshot = context.gateway.live.load_full();
    let Some(listener) = snapshot.listeners.iter().find(|known| known.address == listener) else {
        tracing::debug!(%peer, address = %listener, "client connection dropped: its listener is no longer configured");
        return;
    };
    let local = tcp.local_addr().unwrap_or(listener.address);
    let opened = match TcpStream::from_std(tcp).map_err(OpenError::Ended) {
        Ok(tcp) => {
            let opening = Box::pin(open::open(tcp, peer, listener, &snapshot.server, &state));
            // Half a handshake is no exchange: nothing is lost when a drain ends it.
            let Some(opened) = entry.before_cut(&state, opening).await else { return };
            opened
        }
        Err(error) => Err(error),
    };
    let Opened { io, http2, client } = match opened {
        Ok(opened) => opened,
        Err(error) => {
            count_open_error(&context.counters, peer, &error);
            if let OpenError::PlainHttp(mut tcp) = error {
                let refusing = Box::pin(plain_http::refuse(&mut tcp, &snapshot));
                let _ = entry.before_cut(&state, refusing).await;
            }
            return;
        }
    };
    let trusted = trusted(&listener.client_address, peer);
    let tls = listener.tls.is_some();
    let service = ConnectionService {
        handler: context.handler.clone(),
        downstream: Rc::new(Downstream {
            client,
            local,
            tls,
            trusted,
            connection: state.clone(),
            memo: CallerMemo::default(),
            head_memo: HeadMemo::default(),
        }),
        switched: OnceCell::new(),
    };
    let driver =
        Driver::new(state, ConnectionTimeouts::of(&snapshot.server), http2, &context.counters, &entry);
    if http2 {
        Box::pin(serve_http2(io, service, snapshot, driver)).await;
    } else {
        Box::pin(serve_http1(io, service, snapshot, driver)).await;
    }
}

/// How a TLS connection begins: the type of a handshake's record, and the major version (RFC 8446 section 5.1).
const TLS_HANDSHAKE: &[u8] = &[22, 3];

async fn serve_http1<H: Handler>(
    io: Io,
    service: ConnectionService<H>,
    snapshot: Arc<Snapshot>,
    driver: Driver<'_>,
) {
    let state = service.downstream.connection.clone();
    let server = &snapshot.server;
    let linger = server.linger;
    let mut builder = http1::Builder::new();
    builder
        .header_read_timeout(None)
        .half_close(false)
        .max_header_size(server.max_header_size)
        .max_buf_size(server.max_header_size.max(HTTP1_BUFFER));
    if server.max_headers != HTTP1_MAX_HEADERS {
        builder.max_headers(server.max_headers);
    }
    let mut connection = builder.serve_connection(TokioIo::new(io), service);
    drop(snapshot);
    let counters = driver.counters();
    let DriveEnd::Done(done) = driver.drive(&mut connection).await else { return };
    let bad_head = done.as_ref().is_err_and(hyper::Error::is_parse);
    log_end(&done);
    let Parts { io, read_buf, service, .. } = connection.into_parts();
    if bad_head {
        let is_tls = read_buf.starts_with(TLS_HANDSHAKE);
        if is_tls { counters.tls_on_plain.add() } else { counters.bad_head.add() }
    }
    let mut io = io.into_inner();
    if done.is_ok()
        && let Some(switched) = service.take_switched()
    {
        drop(service);
        return H::upgraded(switched, Upgraded::new(io, read_buf)).await;
    }
    let Some(tcp) = io.tcp() else { return };
    if !state.reset_on_close() && (bad_head || state.unread_body() || linger::unread(tcp)) {
        Box::pin(linger::linger(tcp, linger)).await;
    }
}

async fn serve_http2<H: Handler>(
    io: Io,
    service: ConnectionService<H>,
    snapshot: Arc<Snapshot>,
    driver: Driver<'_>,
) {
    let server = &snapshot.server;
    let mut connection = http2::Builder::new(StreamExecutor::new(service.downstream.connection.clone()))
        .timer(TokioTimer::new())
        .initial_stream_window_size(HTTP2_STREAM_WINDOW)
        .initial_connection_window_size(HTTP2_CONNECTION_WINDOW)
        .max_concurrent_streams(server.http2_max_streams)
        .max_header_list_size(u32::try_from(server.max_header_size).unwrap_or(u32::MAX))
        .max_send_buf_size(HTTP2_SEND_BUFFER)
        .max_pending_accept_reset_streams(HTTP2_PENDING_RESETS)
        .max_local_error_reset_streams(HTTP2_ERROR_RESETS)
        .keep_alive_interval(server.http2_ping)
        .keep_alive_timeout(HTTP2_PING_TIMEOUT)
        .serve_connection(TokioIo::new(io), service);
    drop(snapshot);
    if let DriveEnd::Done(done) = driver.drive(&mut connection).await {
        log_end(&done);
    }
}

/// Most connections that end with an error end because the client left, which the access line has reported already.
fn log_end(done: &hyper::Result<()>) {
    if let Err(error) = done {
        tracing::debug!(error = error as &dyn Error, "client connection ended with an error");
    }
}

impl ConnectionTimeouts {
    fn of(server: &Server) -> Self {
        let bounded = |span: Duration| span.min(LONGEST);
        Self {
            header: bounded(server.header_timeout),
            keep_alive: bounded(server.keep_alive),
            stall: bounded(server.write_stall),
        }
    }
}

fn trusted(how: &ClientAddress, peer: SocketAddr) -> Option<Arc<[Network]>> {
    match how {
        ClientAddress::ForwardedFor(trusted) => {
            trusted.iter().any(|network| network.contains(peer.ip())).then(|| Arc::from(trusted.as_slice()))
        }
        ClientAddress::Peer | ClientAddress::ProxyProtocol(_) => None,
    }
}

fn count_open_error(counters: &Counters, peer: SocketAddr, error: &OpenError) {
    match error {
        OpenError::Proxy(_) => counters.proxy_refused.add(),
        OpenError::Handshake(_) => counters.handshake_failed.add(),
        OpenError::PlainHttp(_) => counters.plain_http.add(),
        OpenError::HandshakeTimeout => counters.handshake_timeout.add(),
        OpenError::PrefaceTimeout => counters.header_timeout.add(),
        OpenError::Ended(_) => {}
    }
    tracing::debug!(%peer, error = error as &dyn Error, "client connection failed before its first request");
}
