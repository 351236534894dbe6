//! Makes connections to one origin with one set of connection settings.

use std::{
    error::Error,
    fmt, io,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::{Duration, Instant, SystemTime},
};

use http::{HeaderValue, Uri, uri::Scheme};
use hyper_rustls::{
    DefaultServerNameResolver, FixedServerNameResolver, HttpsConnector, MaybeHttpsStream, ResolveServerName,
};
use hyper_util::client::legacy::connect::{Connection as _, HttpConnector, proxy::Tunnel};
use hyper_util::rt::TokioIo;
use rustls::{ClientConfig, pki_types::ServerName};
use tokio::net::TcpStream;
use tower_service::Service;

use super::{
    io::{Socket, bare},
    resolver::Resolver,
    tls::expiry_of_connection,
};
use crate::{
    fault::Cause,
    pause,
    wait_queue::{QueuePermit, Room, Ticket, WaitQueue, Waiter},
};

/// Interval between TCP keepalive probes, and the longest time for which sent data may stay unacknowledged (`TCP_USER_TIMEOUT`).
/// A peer that vanished is detected within it.
const TCP_TIMEOUT: Duration = Duration::from_secs(60);

/// Makes connections to one (scheme, host, port, TLS settings, egress proxy). The host name is resolved for each connection, by
/// a [`Resolver`] that remembers answers for some seconds, and each of its addresses is tried.
pub struct Dialer {
    id: u64,
    origin: Uri,
    identity: String,
    http2: bool,
    limits: PoolLimits,
    connector: Connector,
    /// Counts the open connections to the target.
    connection_limit: Arc<WaitQueue>,
    /// Opens connections that can switch protocols, if those of this dialer cannot.
    for_upgrades: Option<Arc<Self>>,
}

/// A new connection with its permit.
pub(super) struct Dialled {
    pub(super) socket: Socket,
    pub(super) permit: QueuePermit,
    /// When the server's certificate expires. From then on the connection takes no further request.
    pub(super) expires: Option<SystemTime>,
}

/// Limits on the connections of one worker to one origin.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PoolLimits {
    /// An idle connection is closed after this time.
    pub idle: Duration,
    /// The number of idle connections that are kept.
    pub max_idle: usize,
    /// The number of connections that may be open at once, idle ones included, in the whole process.
    pub max_open: Option<usize>,
}

/// An HTTP CONNECT proxy in front of the origin.
#[derive(Debug, Clone)]
pub struct Egress {
    /// `http://host:port`
    pub proxy: Uri,
    /// Value of `proxy-authorization`.
    pub authorization: Option<HeaderValue>,
}

/// The settings of a dialer.
#[derive(Debug)]
pub struct DialerOptions {
    /// `scheme://host:port`, nothing after it.
    pub origin: Uri,
    /// The TLS configuration. It holds the sessions for resumption, which all its clones share.
    pub tls: ClientConfig,
    /// The name expected in the server's certificate, if not the host.
    pub server_name: Option<ServerName<'static>>,
    /// Whether to use HTTP/2.
    pub http2: bool,
    /// The egress proxy, if any.
    pub egress: Option<Egress>,
    /// The time for connecting by TCP, divided among the host's addresses.
    pub connect: Duration,
    /// Limits on the connections.
    pub limits: PoolLimits,
    /// Distinguishes this dialer from others to the same origin.
    pub identity: String,
    /// Counts the connections that are already open to the target.
    pub connection_limit: Arc<WaitQueue>,
}

/// Why no connection was made.
#[derive(Debug, thiserror::Error)]
pub enum DialError {
    /// No connection within the timeout.
    #[error("connecting timed out after {} s", .0.as_secs_f64())]
    Timeout(Duration),
    /// DNS, TCP, TLS or the egress proxy failed.
    #[error("connecting failed")]
    Failed(#[source] Cause),
    /// The connection limit is reached, and no connection became free in time.
    #[error("connection limit reached (max_connections of the upstream)")]
    Full,
    /// HTTP/2 is configured and TLS negotiated another protocol.
    #[error("upstream does not support HTTP/2 (ALPN selected another protocol)")]
    NotHttp2,
    /// This process or machine has no file descriptors left; the upstream is not at fault.
    #[error("gateway is out of file descriptors")]
    Exhausted(#[source] Cause),
}

/// What a dialer's connections speak.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Speaks {
    Http1,
    /// HTTP/1.1, which ALPN demands: a server that has only HTTP/2 refuses the handshake.
    Http1Alone,
    Http2,
}

#[derive(Clone)]
enum Connector {
    Direct(HttpsConnector<HttpConnector<Resolver>>),
    Tunnelled(HttpsConnector<Tunnel<HttpConnector<Resolver>>>),
}

impl Dialer {
    /// A dialer with these `options`.
    pub fn new(options: &DialerOptions) -> Self {
        if !options.http2 {
            return Self::speaking(Speaks::Http1, options);
        }
        let for_upgrades = Some(Arc::new(Self::speaking(Speaks::Http1Alone, options)));
        Self { for_upgrades, ..Self::speaking(Speaks::Http2, options) }
    }

    fn speaking(speaks: Speaks, options: &DialerOptions) -> Self {
        static NEXT: AtomicU64 = AtomicU64::new(0);
        Self {
            id: NEXT.fetch_add(1, Ordering::Relaxed),
            connector: Connector::new(options, speaks),
            origin: options.origin.clone(),
            identity: options.identity.clone(),
            http2: speaks == Speaks::Http2,
            connection_limit: options.connection_limit.clone(),
            limits: options.limits,
            for_upgrades: None,
        }
    }

    /// The dialer of connections that can switch protocols: over HTTP/1.1, to the same origin, and counted in the same limit.
    pub fn for_upgrades(self: &Arc<Self>) -> &Arc<Self> {
        self.for_upgrades.as_ref().unwrap_or(self)
    }

    /// An id that is unique in the process; the pools' key.
    pub fn id(&self) -> u64 {
        self.id
    }

    /// Two dialers with the same identity are interchangeable.
    pub fn identity(&self) -> &str {
        &self.identity
    }

    /// `scheme://host:port`
    pub fn origin(&self) -> &Uri {
        &self.origin
    }

    /// Whether it uses HTTP/2.
    pub fn http2(&self) -> bool {
        self.http2
    }

    /// Whether its connections go through an egress proxy.
    pub fn is_tunnelled(&self) -> bool {
        matches!(self.connector, Connector::Tunnelled(_))
    }

    /// Limits on the connections.
    pub fn limits(&self) -> PoolLimits {
        self.limits
    }

    /// The connections that are open to its target, for a dialer that takes its place.
    pub fn connection_limit(&self) -> &Arc<WaitQueue> {
        &self.connection_limit
    }

    /// Whether an idle connection should be closed, because a request waits for a permit.
    pub(super) fn has_waiters(&self) -> bool {
        self.connection_limit.has_waiters()
    }

    /// Whether the connection limit is reached.
    pub(super) fn is_full(&self) -> bool {
        self.connection_limit.taken() >= self.max_open()
    }

    fn max_open(&self) -> usize {
        self.limits.max_open.unwrap_or(usize::MAX)
    }

    /// A permit for a connection, if the limit allows one and nobody waits for it.
    pub(super) fn permit(&self) -> Option<QueuePermit> {
        self.connection_limit.try_take(self.limits.max_open)
    }

    /// Waits for a permit for a connection.
    ///
    /// # Errors
    /// [`DialError::Full`]: too many wait already.
    pub(super) fn enqueue(&self) -> Result<Waiter, DialError> {
        self.connection_limit
            .enqueue(self.max_open(), Room::LARGEST, Ticket::anonymous())
            .ok_or(DialError::Full)
    }

    /// A new socket. An address has its share of the time; if the process was paused meanwhile, all of them are tried once more.
    async fn connect(&self) -> Result<MaybeHttpsStream<TokioIo<TcpStream>>, Cause> {
        let start = Instant::now();
        let connected = self.connector.clone().call(self.origin.clone()).await;
        match connected {
            Err(error) if is_caused(&*error, is_timeout) && !pause::lost_since(start).is_zero() => {
                self.connector.clone().call(self.origin.clone()).await
            }
            connected => connected,
        }
    }

    /// A new connection with this permit, TLS included, within `timeout`.
    pub(super) async fn dial(&self, permit: QueuePermit, timeout: Duration) -> Result<Dialled, DialError> {
        let socket = match pause::timeout(timeout, self.connect()).await {
            Err(_) => return Err(DialError::Timeout(timeout)),
            Ok(Err(error)) if is_caused(&*error, is_timeout) => return Err(DialError::Timeout(timeout)),
            Ok(Err(error)) if is_caused(&*error, is_exhaustion) => {
                tracing::warn!(
                    error = &*error as &dyn Error,
                    "upstream connection failed: the gateway is out of file descriptors"
                );
                return Err(DialError::Exhausted(error));
            }
            Ok(Err(error)) => return Err(DialError::Failed(error)),
            Ok(Ok(socket)) => socket,
        };
        let tls = self.origin.scheme() == Some(&Scheme::HTTPS);
        if self.http2 && tls && !socket.connected().is_negotiated_h2() {
            return Err(DialError::NotHttp2);
        }
        let socket = bare(socket);
        let expires = match &socket {
            Socket::Left(_) => None,
            Socket::Right(tls) => expiry_of_connection(tls.get_ref().1),
        };
        Ok(Dialled { socket, permit, expires })
    }
}

impl fmt::Debug for Dialer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Dialer")
            .field("origin", &self.origin)
            .field("http2", &self.http2)
            .finish_non_exhaustive()
    }
}

impl Connector {
    async fn call(&mut self, origin: Uri) -> Result<MaybeHttpsStream<TokioIo<TcpStream>>, Cause> {
        match self {
            Self::Direct(connector) => connector.call(origin).await,
            Self::Tunnelled(connector) => connector.call(origin).await,
        }
    }

    fn new(options: &DialerOptions, speaks: Speaks) -> Self {
        let tcp = tcp(Resolver::system(), options.connect);
        match &options.egress {
            None => Self::Direct(tls(options, speaks, tcp)),
            Some(egress) => {
                let mut tunnel = Tunnel::new(egress.proxy.clone(), tcp);
                if let Some(authorization) = &egress.authorization {
                    tunnel = tunnel.with_auth(authorization.clone());
                }
                Self::Tunnelled(tls(options, speaks, tunnel))
            }
        }
    }
}

/// Whether the address that reported `error` used up its share of the time.
fn is_timeout(error: &io::Error) -> bool {
    error.kind() == io::ErrorKind::TimedOut
}

/// ENFILE and EMFILE, which have no `ErrorKind`. EADDRNOTAVAIL is not among them: local ports run out for one address only, and
/// the same error comes when the host's last address is of a family that is disabled here (connect(2)).
fn is_exhaustion(error: &io::Error) -> bool {
    matches!(error.raw_os_error(), Some(23 | 24))
}

/// Whether `error` or one of its causes matches.
fn is_caused(error: &(dyn Error + 'static), by: impl Fn(&io::Error) -> bool) -> bool {
    let mut beneath = Some(error);
    while let Some(error) = beneath {
        if error.downcast_ref::<io::Error>().is_some_and(&by) {
            return true;
        }
        beneath = error.source();
    }
    false
}

fn tcp<R>(resolver: R, connect: Duration) -> HttpConnector<R> {
    let mut tcp = HttpConnector::new_with_resolver(resolver);
    tcp.enforce_http(false);
    tcp.set_nodelay(true);
    tcp.set_connect_timeout(Some(connect));
    tcp.set_keepalive(Some(TCP_TIMEOUT));
    #[cfg(target_os = "linux")]
    tcp.set_tcp_user_timeout(Some(TCP_TIMEOUT));
    tcp
}

fn tls<C>(options: &DialerOptions, speaks: Speaks, inner: C) -> HttpsConnector<C> {
    let mut config = options.tls.clone();
    config.alpn_protocols = match speaks {
        Speaks::Http1 => Vec::new(),
        Speaks::Http1Alone => vec![b"http/1.1".to_vec()],
        Speaks::Http2 => vec![b"h2".to_vec()],
    };
    let resolver: Arc<dyn ResolveServerName + Send + Sync> = match &options.server_name {
        Some(name) => Arc::new(FixedServerNameResolver::new(name.clone())),
        None => Arc::new(DefaultServerNameResolver::default()),
    };
    HttpsConnector::new(inner, config, false, resolver)
}

#[cfg(test)]
mod tests {
    use std::{
        collections::VecDeque,
        future::{Ready, ready},
        net::SocketAddr,
        sync::Mutex,
        task::{Context, Poll},
    };

    use hyper_util::client::legacy::connect::dns::Name;
    use tokio::net::TcpListener;

    use super::*;

    /// A name server whose responses change: each is given once.
    #[derive(Clone)]
    struct Changing(Arc<Mutex<VecDeque<Vec<SocketAddr>>>>);

    impl Service<Name> for Changing {
        type Response = std::vec::IntoIter<SocketAddr>;
        type Error = io::Error;
        type Future = Ready<io::Result<Self::Response>>;

        fn poll_ready(&mut self, _cx: &mut Context<'_>) -> Poll<io::Result<()>> {
            Poll::Ready(Ok(()))
        }

        fn call(&mut self, name: Name) -> Self::Future {
            assert_eq!(name.as_str(), "upstream.test");
            let answer = self.0.lock().unwrap().pop_front();
            ready(answer.map(Vec::into_iter).ok_or_else(|| io::Error::other("no such host")))
        }
    }

    #[tokio::test]
    async fn a_name_is_looked_up_for_each_connection_and_all_its_addresses_are_tried() {
        let old = TcpListener::bind("127.0.0.2:0").await.unwrap();
        let port = old.local_addr().unwrap().port();
        let new = TcpListener::bind(("127.0.0.3", port)).await.unwrap();
        let at = |host: u8| SocketAddr::from(([127, 0, 0, host], port));
        let answers = Arc::new(Mutex::new(VecDeque::from([
            vec![at(2)],
            vec![at(3)],
            // Nobody listens at the first.
            vec![at(4), at(3)],
        ])));
        let mut connector = tcp(Changing(answers), Duration::from_secs(60));
        let origin = Uri::try_from(format!("http://upstream.test:{port}")).unwrap();

        for listener in [&old, &new, &new] {
            let connected = connector.call(origin.clone()).await.unwrap();
            let to = connected.inner().peer_addr().unwrap();
            assert_eq!(to, listener.local_addr().unwrap(), "as the name is now");
        }
        let error = connector.call(origin).await.unwrap_err();
        assert!(is_caused(&error, |beneath| beneath.to_string() == "no such host"), "{error:?}");
    }

    /// One address refuses, and the other is of a family that this machine lacks: the host cannot be reached.
    #[test]
    fn descriptors_alone_run_out_for_every_address() {
        let code = |code| is_caused(&io::Error::from_raw_os_error(code), is_exhaustion);
        assert!(code(23) && code(24), "ENFILE, EMFILE");
        assert!(!code(99) && !code(111), "EADDRNOTAVAIL, ECONNREFUSED on Linux");
        assert!(!is_exhaustion(&io::ErrorKind::AddrNotAvailable.into()));
    }
}
