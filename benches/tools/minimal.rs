//! The least that a proxy made of hyper does, for `benches/instructions --peers`: what the gateway costs more than this is what it does more.
//!
//! It has one thread, checks the client's key (401), replaces it with the upstream's key, keeps upstream connections open, passes bodies on as
//! they come, and logs a line of JSON for each request. It has no timeouts, no limits, no retries, and knows nothing of the API.

use std::{
    env,
    error::Error,
    io::{BufWriter, Stdout, Write, stdout},
    net::SocketAddr,
    sync::{Arc, Mutex},
    time::Instant,
};

use bytes::Bytes;
use clap::Parser;
use http::{
    HeaderValue, Request, Response, StatusCode, Uri,
    header::{AUTHORIZATION, HOST},
    uri::{Authority, PathAndQuery, Scheme},
};
use http_body_util::{Either, Full};
use hyper::{body::Incoming, server::conn::http1, service::service_fn};
use hyper_util::{
    client::legacy::{Client, connect::HttpConnector},
    rt::{TokioExecutor, TokioIo},
};
use tokio::{
    net::{TcpListener, TcpStream},
    signal::unix::{SignalKind, signal},
};

type Failure = Box<dyn Error + Send + Sync>;
/// The upstream's body, or none.
type Body = Either<Incoming, Full<Bytes>>;

/// Bytes of the log that are kept until they are written, as many as nginx's.
const LOG_BUFFER: usize = 64 * 1024;

#[derive(Debug, Parser)]
struct Options {
    #[arg(long)]
    listen: SocketAddr,
    /// Host and port
    #[arg(long)]
    upstream: Authority,
}

struct Proxy {
    client: Client<HttpConnector, Incoming>,
    upstream: Authority,
    /// The `authorization` header of the client, and the one that replaces it.
    expected: HeaderValue,
    replacement: HeaderValue,
    log: Mutex<BufWriter<Stdout>>,
}

fn main() -> Result<(), Failure> {
    let options = Options::parse();
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    runtime.block_on(serve(options))
}

/// Serves all connections until SIGTERM.
async fn serve(options: Options) -> Result<(), Failure> {
    let listener = TcpListener::bind(options.listen).await?;
    let proxy = Arc::new(Proxy::new(options.upstream)?);
    let mut terminate = signal(SignalKind::terminate())?;
    loop {
        let (stream, _) = tokio::select! {
            accepted = listener.accept() => accepted?,
            _ = terminate.recv() => return Ok(()),
        };
        stream.set_nodelay(true)?;
        tokio::spawn(proxy.clone().connection(stream));
    }
}

impl Proxy {
    fn new(upstream: Authority) -> Result<Self, Failure> {
        let mut connector = HttpConnector::new();
        connector.set_nodelay(true);
        Ok(Self {
            client: Client::builder(TokioExecutor::new()).build(connector),
            upstream,
            expected: bearer("LOAD_CALLER_KEY")?,
            replacement: bearer("LOAD_UPSTREAM_KEY")?,
            log: Mutex::new(BufWriter::with_capacity(LOG_BUFFER, stdout())),
        })
    }

    /// Serves a connection to its end.
    async fn connection(self: Arc<Self>, stream: TcpStream) {
        let service = service_fn(|request| self.answer(request));
        // A connection that fails is a wrong answer for the client, which counts those.
        let _ = http1::Builder::new().serve_connection(TokioIo::new(stream), service).await;
    }

    async fn answer(&self, mut request: Request<Incoming>) -> Result<Response<Body>, Failure> {
        let begun = Instant::now();
        if request.headers().get(AUTHORIZATION) != Some(&self.expected) {
            let mut refusal = Response::new(Either::Right(Full::default()));
            *refusal.status_mut() = StatusCode::UNAUTHORIZED;
            return Ok(refusal);
        }
        let method = request.method().clone();
        let target = request.uri().path_and_query().cloned();
        let target = target.unwrap_or_else(|| PathAndQuery::from_static("/"));
        *request.uri_mut() = self.address(target.clone())?;
        let headers = request.headers_mut();
        headers.insert(AUTHORIZATION, self.replacement.clone());
        // The client of hyper-util sets it.
        headers.remove(HOST);
        let response = self.client.request(request).await?;
        let (status, waited) = (response.status().as_u16(), begun.elapsed().as_micros());
        if let Ok(mut log) = self.log.lock() {
            writeln!(
                log,
                r#"{{"method":"{method}","target":"{target}","status":{status},"first_byte_us":{waited}}}"#
            )?;
        }
        Ok(response.map(Either::Left))
    }

    /// The upstream's URL for this path and query.
    fn address(&self, target: PathAndQuery) -> Result<Uri, http::Error> {
        Uri::builder().scheme(Scheme::HTTP).authority(self.upstream.clone()).path_and_query(target).build()
    }
}

/// The header with the key in this variable.
fn bearer(variable: &str) -> Result<HeaderValue, Failure> {
    Ok(HeaderValue::try_from(format!("Bearer {}", env::var(variable)?))?)
}
