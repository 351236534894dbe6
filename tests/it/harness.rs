//! A gateway in this process, a simulated upstream behind it, and clients of both protocols before it.

use std::{
    ffi::OsString,
    io::{self, Write},
    net::SocketAddr,
    path::Path,
    sync::{Arc, Mutex},
    thread::JoinHandle,
    time::Duration,
};

use bytes::Bytes;
use http::{HeaderMap, Request, Response, StatusCode};
use http_body_util::{BodyExt, Full, combinators::BoxBody};
use hyper::body::Incoming;
use hyper_util::rt::{TokioExecutor, TokioIo};
use serde_json::Value;
use sluicegate::{
    app::{App, Ended},
    config::{Env, KeyHash, LogFormat, parse},
    simulator::{Options, Protocols, Simulator},
    telemetry::queue::Queue,
};
use tokio::{net::TcpStream, sync::mpsc};

/// What the caller presents.
pub const CLIENT_KEY: &str = "sk-sg-client-key-0123456789abcdefABCDEF";
/// What the simulator must be given.
pub const UPSTREAM_KEY: &str = "sk-upstream-key-9876543210fedcbaFEDCBA";

/// A wait that lasts longer than this has failed. Nothing is measured with it.
pub const SAFETY: Duration = Duration::from_secs(60);

/// A protocol, on either leg.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Http {
    One,
    Two,
}

/// Both.
pub const BOTH: [Http; 2] = [Http::One, Http::Two];

/// A running gateway; dropped, it is stopped at once.
pub struct Gateway {
    pub addresses: Vec<SocketAddr>,
    pub admin: Option<SocketAddr>,
    pub log: LogLines,
    stop: mpsc::Sender<()>,
    thread: Option<JoinHandle<Ended>>,
}

/// The gateway's log, as it was written.
#[derive(Clone, Default)]
pub struct LogLines {
    text: Arc<Mutex<Vec<u8>>>,
    written: Arc<tokio::sync::Notify>,
}

impl Gateway {
    /// A gateway for this gateway.toml; `$CLIENT_HASH` in it becomes the hash of [`CLIENT_KEY`], and `UPSTREAM_KEY` is in its environment.
    pub fn start(toml: &str) -> Self {
        let toml = toml.replace("$CLIENT_HASH", &KeyHash::of(CLIENT_KEY.as_bytes()).to_string());
        let log = LogLines::default();
        let out = log.clone();
        let (stop, mut stopped) = mpsc::channel(2);
        let (report, started) = std::sync::mpsc::channel();
        let thread = std::thread::spawn(move || {
            let variable = |name: &str| (name == "UPSTREAM_KEY").then(|| OsString::from(UPSTREAM_KEY));
            let config =
                parse(&toml, &Env::new(Path::new("."), &variable)).unwrap_or_else(|p| panic!("{p:#?}"));
            let queue = Queue::start(Box::new(out), 64 << 20, LogFormat::Json);
            let app = App::start_with(config, queue).unwrap();
            report.send((app.addresses().to_vec(), app.admin_address())).unwrap();
            app.run_until(async move || {
                let _ = stopped.recv().await;
            })
            .unwrap()
        });
        let Ok((addresses, admin)) = started.recv() else {
            std::panic::resume_unwind(thread.join().unwrap_err());
        };
        Self { addresses, admin, log, stop, thread: Some(thread) }
    }

    /// The usual one: plain HTTP/1.1 and h2c on one listener, two workers, one route `/v1` to `upstream`, one client; `more` is
    /// added to the end of the file.
    pub fn before(upstream: &Simulator, leg: Http, more: &str) -> Self {
        Self::start(&format!(
            r#"
            [[listener]]
            address = "127.0.0.1:0"
            h2c = true
            [server]
            threads = 2
            [upstream.sim]
            url = "{}"
            key = {{ env = "UPSTREAM_KEY" }}
            http2 = {}
            [route.main]
            path = "/v1"
            upstreams = ["sim"]
            [client.tester]
            key = "$CLIENT_HASH"
            {more}
            "#,
            upstream.url(),
            leg == Http::Two,
        ))
    }

    /// Its first listener.
    pub fn address(&self) -> SocketAddr {
        self.addresses[0]
    }

    /// Asks it to stop: first to drain, when asked again to cut.
    pub fn ask_to_stop(&self) {
        self.stop.try_send(()).unwrap();
    }

    /// Stops it in order and waits for that.
    pub async fn stop(mut self) -> Ended {
        let _ = self.stop.try_send(());
        let thread = self.thread.take().unwrap();
        tokio::task::spawn_blocking(move || thread.join().unwrap()).await.unwrap()
    }
}

impl Drop for Gateway {
    fn drop(&mut self) {
        let _ = self.stop.try_send(());
        let _ = self.stop.try_send(());
        if let Some(thread) = self.thread.take()
            && let Err(panic) = thread.join()
            && !std::thread::panicking()
        {
            std::panic::resume_unwind(panic);
        }
    }
}

impl LogLines {
    /// Everything written so far.
    pub fn text(&self) -> String {
        String::from_utf8(self.text.lock().unwrap().clone()).unwrap()
    }

    /// The access lines so far.
    pub fn access(&self) -> Vec<Value> {
        let text = self.text();
        let lines = text.lines().map(|line| serde_json::from_str::<Value>(line).unwrap());
        lines.filter(|line| line["kind"] == "access").collect()
    }

    /// Waits until there are `count` access lines (more is a failure), and gives the last.
    pub async fn line(&self, count: usize) -> Value {
        let waiting = async {
            loop {
                let written = self.written.notified();
                let mut lines = self.access();
                assert!(lines.len() <= count, "more lines than exchanges: {lines:#?}");
                if lines.len() == count {
                    return lines.pop().unwrap();
                }
                written.await;
            }
        };
        tokio::time::timeout(SAFETY, waiting)
            .await
            .unwrap_or_else(|_| panic!("no line {count}:\n{}", self.text()))
    }
}

impl Write for LogLines {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.text.lock().unwrap().extend_from_slice(bytes);
        self.written.notify_waiters();
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// A plain simulator that insists on [`UPSTREAM_KEY`].
pub async fn simulator() -> Simulator {
    simulator_with(Options::default()).await
}

/// The same with other options; both protocols, HTTP/2 by prior knowledge.
pub async fn simulator_with(options: Options) -> Simulator {
    let options =
        Options { require_key: Some(UPSTREAM_KEY.to_owned()), protocols: Protocols::Both, ..options };
    Simulator::start(options).await.unwrap()
}

/// A client's connection to a gateway.
pub enum Client {
    One(hyper::client::conn::http1::SendRequest<BoxBody<Bytes, io::Error>>),
    Two(hyper::client::conn::http2::SendRequest<BoxBody<Bytes, io::Error>>),
}

impl Client {
    /// Connects, plain.
    pub async fn connect(address: SocketAddr, http: Http) -> Self {
        let stream = TcpStream::connect(address).await.unwrap();
        stream.set_nodelay(true).unwrap();
        let io = TokioIo::new(stream);
        match http {
            Http::One => {
                let (sender, connection) = hyper::client::conn::http1::handshake(io).await.unwrap();
                tokio::spawn(connection);
                Self::One(sender)
            }
            Http::Two => {
                let (sender, connection) =
                    hyper::client::conn::http2::handshake(TokioExecutor::new(), io).await.unwrap();
                tokio::spawn(connection);
                Self::Two(sender)
            }
        }
    }

    /// Sends a request with any body.
    pub async fn send(
        &mut self,
        request: Request<BoxBody<Bytes, io::Error>>,
    ) -> hyper::Result<Response<Incoming>> {
        match self {
            Self::One(sender) => {
                sender.ready().await?;
                sender.send_request(request).await
            }
            Self::Two(sender) => {
                sender.ready().await?;
                sender.send_request(request).await
            }
        }
    }
}

/// A request as an SDK sends it, to be changed by its builder methods.
pub fn post(address: SocketAddr, http: Http, path: &str) -> http::request::Builder {
    request(address, http, "POST", path)
        .header("authorization", format!("Bearer {CLIENT_KEY}"))
        .header("content-type", "application/json")
}

/// A request of any method, with nothing in it but what its protocol needs.
pub fn request(address: SocketAddr, http: Http, method: &str, path: &str) -> http::request::Builder {
    let request = Request::builder().method(method);
    match http {
        Http::One => request.uri(path).header("host", address.to_string()),
        Http::Two => request.uri(format!("http://{address}{path}")),
    }
}

/// A body that is there whole.
pub fn whole(body: impl Into<Bytes>) -> BoxBody<Bytes, io::Error> {
    Full::from(body.into()).map_err(|never| match never {}).boxed()
}

/// A chat request, streamed.
pub const CHAT: &str =
    r#"{"model":"gpt-4o-mini","stream":true,"messages":[{"role":"user","content":"Hello"}]}"#;

/// An answer read to its end, whichever that was.
#[derive(Debug)]
pub struct Answer {
    pub status: StatusCode,
    pub headers: HeaderMap,
    pub body: Bytes,
    pub trailers: Option<HeaderMap>,
    /// Whether the message ended as HTTP has it; an abort did not.
    pub whole: bool,
}

impl Answer {
    /// Reads it all.
    pub async fn read(response: Response<Incoming>) -> Self {
        let (head, mut body) = response.into_parts();
        let mut answer = Self {
            status: head.status,
            headers: head.headers,
            body: Bytes::new(),
            trailers: None,
            whole: true,
        };
        let mut bytes = Vec::new();
        while let Some(frame) = body.frame().await {
            match frame.map(http_body::Frame::into_data) {
                Ok(Ok(data)) => bytes.extend_from_slice(&data),
                Ok(Err(frame)) => answer.trailers = frame.into_trailers().ok(),
                Err(_) => {
                    answer.whole = false;
                    break;
                }
            }
        }
        answer.body = bytes.into();
        answer
    }

    /// Its body as JSON.
    pub fn json(&self) -> Value {
        serde_json::from_slice(&self.body).unwrap_or_else(|error| panic!("{error}: {:?}", self.body))
    }

    /// Its body as text.
    pub fn text(&self) -> &str {
        std::str::from_utf8(&self.body).unwrap()
    }
}

/// Sends a request on a connection of its own, and reads the answer.
pub async fn send(address: SocketAddr, http: Http, request: Request<BoxBody<Bytes, io::Error>>) -> Answer {
    let asking = async {
        let mut client = Client::connect(address, http).await;
        Answer::read(client.send(request).await.unwrap()).await
    };
    tokio::time::timeout(SAFETY, asking).await.unwrap()
}

/// Posts a chat request as an SDK does.
pub async fn chat(address: SocketAddr, http: Http) -> Answer {
    let request = post(address, http, "/v1/chat/completions").body(whole(CHAT)).unwrap();
    send(address, http, request).await
}
