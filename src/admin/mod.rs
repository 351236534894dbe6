//! The admin listener: `/healthz`, `/readyz`, `/config`, `/status`, `/limits`, `/metrics`, and the live page.
//!
//! Served by the main thread, so that it responds whatever the workers are doing.

mod body;
mod connections;
mod limits;
mod live;
mod metrics;
mod queue;
mod status;

use std::{
    cell::Cell,
    io,
    net::{IpAddr, SocketAddr},
    rc::Rc,
    sync::Arc,
    time::Duration,
};

use aws_lc_rs::constant_time;
use bytes::Bytes;
use http::{HeaderValue, Method, Request, Response, StatusCode, header, uri::Authority};
use http_body_util::Full;
use hyper::body::Incoming;
use tokio::{net::TcpListener, sync::Notify};

use body::AdminBody;
use connections::{Connections, MAX_CONNECTIONS};
use live::Live;
pub use metrics::ScrapeSource;

use crate::{
    listen::{Counters, Listening, Socket, Workers},
    proxy::Gateway,
};

/// The admin listener. It runs as long as its runtime.
#[derive(Debug)]
pub struct Admin {
    address: SocketAddr,
    ready: Rc<Cell<bool>>,
    drain: Rc<Notify>,
}

/// The state that its responses are made from.
#[derive(Debug)]
struct AdminState {
    gateway: Arc<Gateway>,
    workers: Workers,
    counters: Arc<Counters>,
    /// Addresses as configured, and as bound.
    listeners: Vec<(SocketAddr, SocketAddr)>,
    ready: Rc<Cell<bool>>,
    /// Notified when an operator asks for a drain.
    drain: Rc<Notify>,
    live: Live,
}

impl Admin {
    /// Serves on `socket` clients that know the token, if one is configured. Must be called on a local runtime.
    ///
    /// # Errors
    /// The runtime does not take the socket.
    pub fn start(socket: Socket, gateway: &Arc<Gateway>, listening: &Listening) -> io::Result<Self> {
        let address = socket.local();
        let listener = TcpListener::from_std(socket.into_listener())?;
        let ready = Rc::new(Cell::new(true));
        let drain = Rc::<Notify>::default();
        let snapshot = gateway.live.load_full();
        let asked = snapshot.listeners.iter().map(|listener| listener.address);
        let state = Rc::new(AdminState {
            gateway: gateway.clone(),
            workers: listening.workers().clone(),
            counters: listening.counters().clone(),
            listeners: asked.zip(listening.addresses().iter().copied()).collect(),
            ready: ready.clone(),
            drain: drain.clone(),
            live: Live::default(),
        });
        tokio::task::spawn_local(live::run(state.clone()));
        tokio::task::spawn_local(accept(listener, state));
        Ok(Self { address, ready, drain })
    }

    /// The address it listens on.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Waits until an operator asks for a drain.
    pub async fn drain_requested(&self) {
        self.drain.notified().await;
    }

    /// Makes `/readyz` fail from now on: the gateway is draining.
    pub fn not_ready(&self) {
        self.ready.set(false);
    }
}

impl AdminState {
    async fn answer<B>(&self, request: &Request<B>) -> Response<AdminBody> {
        // Load balancers and kubelets have no token; these two paths reveal nothing else.
        if let Some(health) = self.health(request) {
            return health.map(Into::into);
        }
        if !self.has_allowed_host(request) {
            let text = "host not allowed: without admin.token, use an IP address or localhost as the host (protection against DNS rebinding)\n";
            return plain(StatusCode::FORBIDDEN, text).map(Into::into);
        }
        if let Some(file) = live::page(request) {
            return file;
        }
        if !self.is_authorized(request) {
            let text = "admin token required: send Authorization: Bearer TOKEN\n";
            return plain(StatusCode::UNAUTHORIZED, text).map(Into::into);
        }
        match self.live(request).await {
            Some(response) => response,
            None => self.report(request).await.map(Into::into),
        }
    }

    /// What is read at once.
    async fn report<B>(&self, request: &Request<B>) -> Response<Full<Bytes>> {
        if !matches!(*request.method(), Method::GET | Method::HEAD) {
            return plain(StatusCode::METHOD_NOT_ALLOWED, "method not allowed: use GET\n");
        }
        match request.uri().path() {
            "/config" => self.config(),
            "/status" => self.status().await,
            "/limits" => self.limits(request.uri()),
            "/metrics" => self.metrics(request.headers()).await,
            _ => plain(
                StatusCode::NOT_FOUND,
                "not found: available paths are /healthz, /readyz, /config, /status, /limits, /metrics and /live\n",
            ),
        }
    }

    fn health<B>(&self, request: &Request<B>) -> Option<Response<Full<Bytes>>> {
        if !matches!(*request.method(), Method::GET | Method::HEAD) {
            return None;
        }
        Some(match request.uri().path() {
            "/healthz" => plain(StatusCode::OK, "ok\n"),
            "/readyz" if self.ready.get() => plain(StatusCode::OK, "ready\n"),
            "/readyz" => plain(StatusCode::SERVICE_UNAVAILABLE, "draining\n"),
            _ => return None,
        })
    }

    fn is_authorized<B>(&self, request: &Request<B>) -> bool {
        let snapshot = self.gateway.live.load();
        let Some(token) = &snapshot.admin_token else { return true };
        let presented = request.headers().get(header::AUTHORIZATION).map(HeaderValue::as_bytes);
        let presented = presented.and_then(|value| value.strip_prefix(b"Bearer ")).unwrap_or_default();
        constant_time::verify_slices_are_equal(presented, token.expose().as_bytes()).is_ok()
    }

    /// Whether the request names an allowed host, when no token is required. A web page's host name may resolve to loopback (DNS
    /// rebinding), and its browser would send that name.
    fn has_allowed_host<B>(&self, request: &Request<B>) -> bool {
        if self.gateway.live.load().admin_token.is_some() {
            return true;
        }
        let target = request.uri().authority().is_none_or(|named| is_own(named.host()));
        let mut hosts = request.headers().get_all(header::HOST).iter();
        target && hosts.all(|host| Authority::try_from(host.as_bytes()).is_ok_and(|host| is_own(host.host())))
    }

    fn config(&self) -> Response<Full<Bytes>> {
        let snapshot = self.gateway.live.load();
        let shown = serde_json::json!({ "generation": snapshot.generation, "config": snapshot.redacted });
        json(&shown)
    }
}

/// Whether no DNS record decides where the host leads: an IP address, or `localhost` (RFC 6761 section 6.3).
fn is_own(host: &str) -> bool {
    let is_address = || host.trim_matches(['[', ']']).parse::<IpAddr>().is_ok();
    host.eq_ignore_ascii_case("localhost") || is_address()
}

fn json(value: &serde_json::Value) -> Response<Full<Bytes>> {
    let mut response = Response::new(Full::from(format!("{value:#}\n")));
    response.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static("application/json"));
    response
}

async fn accept(listener: TcpListener, state: Rc<AdminState>) {
    let connections = Rc::<Connections>::default();
    let mut accepted = 0_usize;
    loop {
        match listener.accept().await {
            Ok((stream, _)) => {
                let entry = connections.enter().await;
                let state = state.clone();
                let answer = move |request: Request<Incoming>| {
                    let state = state.clone();
                    async move { state.answer(&request).await }
                };
                tokio::task::spawn_local(entry.serve(stream, answer));
                accepted = accepted.wrapping_add(1);
                // A request that is already here is answered before its connection could become the quietest.
                if accepted.is_multiple_of(MAX_CONNECTIONS / 4) {
                    tokio::task::yield_now().await;
                }
            }
            Err(error) => {
                tracing::warn!(%error, "admin listener: accepting a connection failed; retrying");
                tokio::time::sleep(Duration::from_millis(100)).await;
            }
        }
    }
}

fn plain(status: StatusCode, text: &'static str) -> Response<Full<Bytes>> {
    let mut response = Response::new(Full::from(text));
    *response.status_mut() = status;
    response
}
