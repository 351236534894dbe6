//! A client of either protocol.

use std::{
    error::Error,
    io,
    net::SocketAddr,
    pin::Pin,
    sync::{Arc, Mutex},
    task::{Context, Poll},
};

use bytes::Bytes;
use http::{HeaderMap, Request, Response, StatusCode};
use http_body_util::{BodyExt, Full, combinators::BoxBody};
use hyper::{
    body::{Body, Frame, Incoming},
    client::conn::{http1, http2},
    rt::Executor,
};
use hyper_util::rt::TokioIo;
use serde_json::Value;
use tokio::{net::TcpSocket, sync::mpsc, task::JoinHandle};

use super::{CHAT, CLIENT_KEY, Http, safely};

/// A request's body.
pub type Sent = BoxBody<Bytes, io::Error>;

/// A client's connection to a gateway.
pub struct Client {
    sender: Sender,
    driver: JoinHandle<()>,
    tasks: Tasks,
}

/// The tasks that hyper's HTTP/2 starts: one of them holds the socket.
#[derive(Clone, Default)]
struct Tasks(Arc<Mutex<Vec<JoinHandle<()>>>>);

impl<F: Future<Output: Send> + Send + 'static> Executor<F> for Tasks {
    fn execute(&self, task: F) {
        let task = async move { drop(task.await) };
        self.0.lock().unwrap().push(tokio::spawn(task));
    }
}

/// The head of an answer, on its way.
pub type Pending = Pin<Box<dyn Future<Output = hyper::Result<Response<Incoming>>> + Send>>;

enum Sender {
    One(http1::SendRequest<Sent>),
    Two(http2::SendRequest<Sent>),
}

/// How little a client takes at a time, so that much must wait in the gateway.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Small {
    /// As usual.
    No,
    /// Small receive buffers and windows.
    Yes,
}

impl Client {
    /// Connects, plain.
    pub async fn connect(address: SocketAddr, http: Http) -> Self {
        Self::connect_with(address, http, Small::No).await
    }

    /// Connects with buffers of its own.
    pub async fn connect_with(address: SocketAddr, http: Http, small: Small) -> Self {
        let socket = TcpSocket::new_v4().unwrap();
        if small == Small::Yes {
            socket.set_recv_buffer_size(4 << 10).unwrap();
        }
        let stream = socket.connect(address).await.unwrap();
        stream.set_nodelay(true).unwrap();
        Self::over(TokioIo::new(stream), http, small).await.unwrap()
    }

    /// Speaks HTTP over a connection that is there.
    pub async fn over<T>(io: T, http: Http, small: Small) -> hyper::Result<Self>
    where
        T: hyper::rt::Read + hyper::rt::Write + Send + Unpin + 'static,
    {
        let tasks = Tasks::default();
        Ok(match http {
            Http::One => {
                let (sender, connection) = http1::handshake(io).await?;
                Self { sender: Sender::One(sender), driver: tokio::spawn(ignored(connection)), tasks }
            }
            Http::Two => {
                let mut builder = http2::Builder::new(tasks.clone());
                if small == Small::Yes {
                    builder.initial_stream_window_size(5000).initial_connection_window_size(70_000);
                }
                let (sender, connection) = builder.handshake(io).await?;
                Self { sender: Sender::Two(sender), driver: tokio::spawn(ignored(connection)), tasks }
            }
        })
    }

    /// Whether another request can be sent.
    pub async fn is_usable(&mut self) -> bool {
        match &mut self.sender {
            Sender::One(sender) => sender.ready().await.is_ok(),
            Sender::Two(sender) => sender.ready().await.is_ok(),
        }
    }

    /// Sends a request with any body. Dropping what is given back resets the stream (HTTP/2) or closes the connection.
    pub async fn begin(&mut self, request: Request<Sent>) -> Pending {
        match &mut self.sender {
            Sender::One(sender) => {
                safely(sender.ready()).await.unwrap();
                Box::pin(sender.send_request(request))
            }
            Sender::Two(sender) => {
                safely(sender.ready()).await.unwrap();
                Box::pin(sender.send_request(request))
            }
        }
    }

    /// Sends a request with any body and waits for the head of the answer.
    pub async fn send(&mut self, request: Request<Sent>) -> hyper::Result<Response<Incoming>> {
        self.begin(request).await.await
    }

    /// Sends a request and reads the whole answer, again and again on the same connection.
    pub async fn ask(&mut self, request: Request<Sent>) -> Answer {
        safely(async { Answer::read(self.send(request).await.unwrap()).await }).await
    }

    /// Waits until the connection is over.
    pub async fn closed(&mut self) {
        safely(&mut self.driver).await.unwrap();
    }

    /// Closes the connection, whatever is going on on it.
    pub async fn leave(self) {
        let Self { sender: _sender, driver, tasks } = self;
        let tasks = std::mem::take(&mut *tasks.0.lock().unwrap());
        for task in [driver].into_iter().chain(tasks) {
            task.abort();
            // Its socket is closed when the task is gone.
            let _ = task.await;
        }
    }
}

async fn ignored(connection: impl Future<Output = hyper::Result<()>>) {
    // Whoever waits for an answer is told.
    let _ = connection.await;
}

/// A request as an SDK sends it, to be changed by its builder methods.
pub fn post(address: SocketAddr, http: Http, path: &str) -> http::request::Builder {
    authorised(address, http, "POST", path).header("content-type", "application/json")
}

/// A request of any method with the caller's key.
pub fn authorised(address: SocketAddr, http: Http, method: &str, path: &str) -> http::request::Builder {
    request(address, http, method, path).header("authorization", format!("Bearer {CLIENT_KEY}"))
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
pub fn whole(body: impl Into<Bytes>) -> Sent {
    Full::from(body.into()).map_err(|never| match never {}).boxed()
}

/// A body that comes piece by piece from the sender; it ends when that is dropped.
pub fn body_of() -> (mpsc::Sender<Frame<Bytes>>, Sent) {
    let (give, pieces) = mpsc::channel(1);
    (give, Pieces(pieces).boxed())
}

struct Pieces(mpsc::Receiver<Frame<Bytes>>);

impl Body for Pieces {
    type Data = Bytes;
    type Error = io::Error;

    fn poll_frame(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<io::Result<Frame<Bytes>>>> {
        self.0.poll_recv(cx).map(|piece| piece.map(Ok))
    }
}

/// An answer read to its end, whichever that was.
#[derive(Debug)]
pub struct Answer {
    pub status: StatusCode,
    pub headers: HeaderMap,
    pub body: Bytes,
    pub trailers: Option<HeaderMap>,
    /// Whether the message ended as HTTP has it; an abort did not.
    pub whole: bool,
    /// HTTP/2: the code of the `RST_STREAM` that ended it.
    pub reset: Option<h2::Reason>,
}

impl Answer {
    /// Reads it all.
    pub async fn read(response: Response<Incoming>) -> Self {
        let (head, body) = response.into_parts();
        let mut answer = Self {
            status: head.status,
            headers: head.headers,
            body: Bytes::new(),
            trailers: None,
            whole: true,
            reset: None,
        };
        answer.read_on(Vec::new(), body).await;
        answer
    }

    async fn read_on(&mut self, mut bytes: Vec<u8>, mut body: Incoming) {
        while let Some(frame) = body.frame().await {
            match frame.map(Frame::into_data) {
                Ok(Ok(data)) => bytes.extend_from_slice(&data),
                Ok(Err(frame)) => self.trailers = frame.into_trailers().ok(),
                Err(error) => {
                    self.whole = false;
                    let h2 = error.source().and_then(|error| error.downcast_ref::<h2::Error>());
                    self.reset = h2.filter(|error| error.is_reset()).and_then(h2::Error::reason);
                    break;
                }
            }
        }
        self.body = bytes.into();
    }

    /// Its body as JSON.
    pub fn json(&self) -> Value {
        serde_json::from_slice(&self.body).unwrap_or_else(|error| panic!("{error}: {:?}", self.body))
    }

    /// The code of the error that it is.
    pub fn code(&self) -> String {
        let error = &self.json()["error"];
        let keys: Vec<_> = error.as_object().unwrap().keys().cloned().collect();
        assert_eq!(keys, ["code", "message", "param", "type"], "OpenAI's error object");
        assert!(self.headers.contains_key("x-request-id"));
        error["code"].as_str().unwrap().to_owned()
    }

    /// Its body as text.
    pub fn text(&self) -> &str {
        std::str::from_utf8(&self.body).unwrap()
    }
}

/// Reads `bytes` bytes of an answer's body, no frame beyond them.
pub async fn take(body: &mut Incoming, bytes: usize) -> Vec<u8> {
    let mut taken = Vec::new();
    while taken.len() < bytes {
        let frame = safely(body.frame()).await.unwrap().unwrap();
        taken.extend_from_slice(frame.data_ref().unwrap());
    }
    assert_eq!(taken.len(), bytes, "more than was sent so far");
    taken
}

/// Sends a request on a connection of its own, and reads the answer.
pub async fn send(address: SocketAddr, http: Http, request: Request<Sent>) -> Answer {
    safely(async { Client::connect(address, http).await.ask(request).await }).await
}

/// Posts a chat request as an SDK does.
pub async fn chat(address: SocketAddr, http: Http) -> Answer {
    let request = post(address, http, "/v1/chat/completions").body(whole(CHAT)).unwrap();
    send(address, http, request).await
}
