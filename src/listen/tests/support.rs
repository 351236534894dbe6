//! A listening gateway with a handler that does as the path says, and raw clients.

use std::{
    convert::Infallible,
    net::SocketAddr,
    pin::Pin,
    rc::Rc,
    sync::{Arc, Mutex},
    task::{Context, Poll},
    time::{Duration, Instant},
};

use bytes::Bytes;
use http_body::{Body, Frame, SizeHint};
use http_body_util::{BodyExt, Full};
use hyper::{Request, Response, body::Incoming, client::conn::http2};
use hyper_util::rt::{TokioExecutor, TokioIo};
use tokio::{
    io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt},
    net::TcpStream,
    sync::{Semaphore, mpsc},
    time::timeout,
};

use crate::{
    body::{ConnectionState, Cut, ExchangeHandle, Flush, Upgraded},
    config::{self, ClientAddress},
    exchange::AccessLog,
    listen::{
        Counters, Listening, bind,
        io::Io,
        listening::start_with,
        serve::{Answer, Handler, UpgradeAnswer},
    },
    proxy::{Downstream, Gateway, Load},
    snapshot::{Listener, Snapshot},
    telemetry::metrics::count::Count,
};

/// Past this a test has hung; nothing is measured by it.
pub(super) const SAFETY: Duration = Duration::from_secs(60);

/// Fails a test that hangs.
pub(super) async fn safely<T>(what: impl Future<Output = T>) -> T {
    timeout(SAFETY, what).await.expect("hung")
}

pub(super) fn server() -> config::Server {
    let long = Duration::from_secs(600);
    config::Server {
        threads: 1,
        max_connections: 1000,
        backlog: 64,
        handshake_timeout: long,
        header_timeout: long,
        keep_alive: long,
        body_idle: long,
        write_stall: long,
        linger: long,
        http2_ping: None,
        max_buffered: 1 << 20,
        drain: config::Drain { announce: Duration::ZERO, deadline: long },
        ..config::Server::default()
    }
}

pub(super) fn plain() -> Listener {
    let address = "127.0.0.1:0".parse().unwrap();
    Listener { address, tls: None, certificates: Vec::new(), h2c: false, client_address: ClientAddress::Peer }
}

pub(super) struct Setup {
    pub(super) gateway: Arc<Gateway>,
    pub(super) listening: Listening,
    pub(super) told: mpsc::UnboundedReceiver<StandInEvent>,
    /// Each permit lets one request to `/slow` end.
    pub(super) go: Arc<Semaphore>,
    /// What each worker has to do.
    pub(super) loads: Arc<Mutex<Vec<Arc<Load>>>>,
}

/// What the handler tells its test.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum StandInEvent {
    Begun(String),
    Ended(String, Option<Cut>),
}

/// Nothing is written to it here.
impl Setup {
    pub(super) fn new(server: config::Server, listener: Listener) -> Self {
        let socket = bind(listener.address, server.backlog).unwrap();
        let snapshot = Snapshot::of_listeners(1, server, vec![listener]);
        let gateway = Gateway::new(snapshot, AccessLog::discarding());
        let (tell, told) = mpsc::unbounded_channel();
        let go = Arc::new(Semaphore::new(0));
        let stand_in = StandIn { tell, go: go.clone() };
        let loads = Arc::<Mutex<Vec<_>>>::default();
        let known = loads.clone();
        let handler = move |load| {
            known.lock().unwrap().push(load);
            stand_in.clone()
        };
        let listening = start_with(&gateway, vec![socket], handler).unwrap();
        Self { gateway, listening, told, go, loads }
    }

    pub(super) fn address(&self) -> SocketAddr {
        self.listening.addresses()[0]
    }

    pub(super) async fn connect(&self) -> TcpStream {
        let tcp = TcpStream::connect(self.address()).await.unwrap();
        tcp.set_nodelay(true).unwrap();
        tcp
    }

    /// Waits until a counter has come to `value`: a connection may be closed a moment before it is counted.
    pub(super) async fn counted(&self, count: fn(&Counters) -> &Count, value: u64) {
        let count = count(self.listening.counters());
        safely(async {
            while count.value() < value {
                tokio::task::yield_now().await;
            }
        })
        .await;
        assert_eq!(count.value(), value);
    }

    pub(super) async fn told(&mut self) -> StandInEvent {
        self.told.recv().await.unwrap()
    }

    /// The next exchange that ends.
    pub(super) async fn ended(&mut self) -> (String, Option<Cut>) {
        loop {
            if let StandInEvent::Ended(path, cut) = self.told().await {
                return (path, cut);
            }
        }
    }
}

/// Answers by path: `/hello`; `/who` tells what is known of the connection; `/slow` waits for a permit; `/early` answers a
/// request without reading its body; `/switch` switches protocols and echoes from then on; `/break` does so too, and fails at the end of its answer; `/flood` never ends; `/panic` does.
#[derive(Clone)]
pub(super) struct StandIn {
    tell: mpsc::UnboundedSender<StandInEvent>,
    go: Arc<Semaphore>,
}

impl Handler for StandIn {
    type Body = Answered;
    type Switched = ();

    fn handle(&self, downstream: Rc<Downstream>, request: Request<Incoming>) -> Answer<Answered> {
        Box::pin(self.clone().answer(downstream, request))
    }

    fn handle_upgrade(
        &self,
        downstream: Rc<Downstream>,
        request: Request<Incoming>,
    ) -> Pin<Box<dyn Future<Output = UpgradeAnswer<Self>>>> {
        let answer = self.handle(downstream, request);
        Box::pin(async {
            let Ok(response) = answer.await;
            let switched = (response.status() == 101).then_some(());
            UpgradeAnswer { response, switched }
        })
    }

    /// Echoes until the client has closed its side, and says `bye`.
    fn upgraded((): (), io: Upgraded<Io>) -> Pin<Box<dyn Future<Output = ()>>> {
        Box::pin(async {
            let (mut from, mut to) = tokio::io::split(io);
            tokio::io::copy(&mut from, &mut to).await.ok();
            to.write_all(b"bye").await.ok();
            to.shutdown().await.ok();
        })
    }
}

impl StandIn {
    async fn answer(
        self,
        downstream: Rc<Downstream>,
        request: Request<Incoming>,
    ) -> Result<Response<Answered>, Infallible> {
        let path = request.uri().path().to_owned();
        let exchange = Exchange::begin(path.clone(), &downstream.connection, self.tell.clone());
        let text = |text: String| Some(Full::new(Bytes::from(text)));
        let (mut status, mut fails) = (200, false);
        let rest = match path.as_str() {
            "/who" => text(format!("{} {:?} tls={}", downstream.client, request.version(), downstream.tls)),
            "/slow" => {
                self.go.acquire().await.unwrap().forget();
                text("slow".into())
            }
            "/early" => {
                downstream.connection.leave_body_unread();
                status = 413;
                text("x".repeat(100_000))
            }
            "/break" => {
                downstream.connection.leave_body_unread();
                fails = true;
                text("x".repeat(100_000))
            }
            "/switch" => {
                status = 101;
                text(String::new())
            }
            "/panic" => panic!("as asked"),
            "/flood" => None,
            _ => {
                request.into_body().collect().await.ok();
                text("hello".into())
            }
        };
        let body = Answered { rest, fails, flush: None, exchange };
        Ok(Response::builder().status(status).body(body).unwrap())
    }
}

/// Open from the handler's call until its body is dropped.
struct Exchange {
    path: String,
    state: Rc<ConnectionState>,
    handle: Rc<ExchangeHandle>,
    tell: mpsc::UnboundedSender<StandInEvent>,
}

impl Exchange {
    fn begin(path: String, state: &Rc<ConnectionState>, tell: mpsc::UnboundedSender<StandInEvent>) -> Self {
        let handle = Rc::new(ExchangeHandle::default());
        if let Some(task) = state.own_task() {
            handle.abort.runs_in(task);
        }
        state.open(handle.clone());
        tell.send(StandInEvent::Begun(path.clone())).ok();
        Self { path, state: state.clone(), handle, tell }
    }
}

impl Drop for Exchange {
    fn drop(&mut self) {
        self.state.close(&self.handle);
        self.tell.send(StandInEvent::Ended(std::mem::take(&mut self.path), self.handle.abort.cause())).ok();
    }
}

/// The stand-in's body: what is left, or a flood.
pub(super) struct Answered {
    rest: Option<Full<Bytes>>,
    fails: bool,
    flush: Option<Flush>,
    exchange: Exchange,
}

impl Answered {
    /// Fails once all that was given has been written, for hyper drops what it holds when a body fails.
    fn fail<T>(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<T, std::io::Error>>> {
        let Exchange { state, .. } = &self.exchange;
        match self.flush.get_or_insert_with(|| state.flush()).poll(state, cx) {
            Poll::Ready(()) => Poll::Ready(Some(Err(std::io::Error::other("as asked")))),
            Poll::Pending => Poll::Pending,
        }
    }
}

impl Body for Answered {
    type Data = Bytes;
    type Error = std::io::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, std::io::Error>>> {
        self.exchange.handle.progress.polled();
        let frame = match &mut self.rest {
            Some(rest) => Pin::new(rest).poll_frame(cx).map_err(|never| match never {}),
            None => Poll::Ready(Some(Ok(Frame::data(Bytes::from_static(&[b'x'; 64 * 1024]))))),
        };
        if self.fails && matches!(frame, Poll::Ready(None)) {
            return self.fail(cx);
        }
        self.exchange.handle.progress.handed(Instant::now());
        frame
    }

    fn is_end_stream(&self) -> bool {
        !self.fails && self.rest.as_ref().is_some_and(Body::is_end_stream)
    }

    fn size_hint(&self) -> SizeHint {
        let exact = self.rest.as_ref().filter(|_| !self.fails);
        exact.map_or_else(SizeHint::default, Body::size_hint)
    }
}

/// A request head without a body.
pub(super) fn get(path: &str) -> String {
    format!("GET {path} HTTP/1.1\r\nhost: a\r\n\r\n")
}

pub(super) async fn send(io: &mut (impl AsyncWrite + Unpin), bytes: impl AsRef<[u8]>) {
    io.write_all(bytes.as_ref()).await.unwrap();
    io.flush().await.unwrap();
}

/// Reads until what was read ends with `end`.
pub(super) async fn read_to(io: &mut (impl AsyncRead + Unpin), end: &str) -> String {
    let mut read = Vec::new();
    while !read.ends_with(end.as_bytes()) {
        match io.read_u8().await {
            Ok(byte) => read.push(byte),
            Err(error) => panic!("{error} after {:?}", String::from_utf8_lossy(&read)),
        }
    }
    String::from_utf8(read).unwrap()
}

/// Reads until the connection is closed, however that shows.
pub(super) async fn read_to_close(io: &mut (impl AsyncRead + Unpin)) -> Vec<u8> {
    let mut read = Vec::new();
    io.read_to_end(&mut read).await.ok();
    read
}

pub(super) async fn http2<I>(io: I) -> http2::SendRequest<Full<Bytes>>
where
    I: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let (requests, connection) = http2::handshake(TokioExecutor::new(), TokioIo::new(io)).await.unwrap();
    tokio::spawn(connection);
    requests
}

pub(super) async fn get2(
    requests: &mut http2::SendRequest<Full<Bytes>>,
    path: &str,
) -> hyper::Result<Response<Incoming>> {
    requests.ready().await?;
    let request = Request::get(format!("http://a{path}")).body(Full::default()).unwrap();
    requests.send_request(request).await
}

pub(super) async fn text(answer: Response<Incoming>) -> String {
    String::from_utf8(answer.into_body().collect().await.unwrap().to_bytes().to_vec()).unwrap()
}
