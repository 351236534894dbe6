//! An upstream that notes what it was sent, and how it had to read it.

use std::{
    convert::Infallible,
    net::SocketAddr,
    sync::{Arc, Mutex},
};

use bytes::Bytes;
use http_body_util::{BodyExt, Full};
use hyper::{Request, Response, body::Incoming, server::conn::http2, service::service_fn};
use hyper_util::rt::{TokioExecutor, TokioIo};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpStream},
    sync::watch,
    task::JoinHandle,
};

use super::strict::{self, Not};
use crate::harness::{Http, safely};

/// What it answers every request with.
pub const ANSWER: &str = r#"{"ok":true}"#;

/// What reached it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Seen {
    /// One whole request.
    Whole(strict::Request),
    /// A request that broke off with its connection or stream.
    Cut,
    /// Bytes that are no canonical request.
    Broken(String, Vec<u8>),
}

/// A running one; gone when dropped.
pub struct Recorder {
    pub address: SocketAddr,
    notes: Notes,
    accepting: JoinHandle<()>,
}

#[derive(Clone)]
struct Notes {
    seen: Arc<Mutex<Vec<Seen>>>,
    /// Requests of which a part is there.
    begun: watch::Sender<usize>,
}

impl Recorder {
    /// Speaks one protocol, HTTP/2 by prior knowledge.
    pub async fn start(http: Http) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let notes = Notes { seen: Arc::default(), begun: watch::Sender::new(0) };
        let noting = notes.clone();
        let accepting = tokio::spawn(async move {
            loop {
                let Ok((tcp, _)) = listener.accept().await else { return };
                tcp.set_nodelay(true).unwrap();
                let notes = noting.clone();
                match http {
                    Http::One => drop(tokio::spawn(http1(tcp, notes))),
                    Http::Two => drop(tokio::spawn(http2(tcp, notes))),
                }
            }
        });
        Self { address, notes, accepting }
    }

    pub fn url(&self) -> String {
        format!("http://{}", self.address)
    }

    /// What came since this was last asked, when nothing is half there any more.
    pub async fn take(&self) -> Vec<Seen> {
        safely(self.notes.begun.subscribe().wait_for(|begun| *begun == 0)).await.unwrap();
        std::mem::take(&mut *self.notes.seen.lock().unwrap())
    }
}

impl Drop for Recorder {
    fn drop(&mut self) {
        self.accepting.abort();
    }
}

impl Notes {
    fn begins(&self) {
        self.begun.send_modify(|begun| *begun += 1);
    }

    fn ends(&self, as_what: Seen) {
        self.seen.lock().unwrap().push(as_what);
        self.begun.send_modify(|begun| *begun -= 1);
    }
}

async fn http1(mut tcp: TcpStream, notes: Notes) {
    let mut bytes = Vec::new();
    loop {
        let was_empty = bytes.is_empty();
        let read = tcp.read_buf(&mut bytes).await.unwrap_or(0);
        if was_empty && read > 0 {
            notes.begins();
        }
        if read == 0 {
            if !bytes.is_empty() {
                notes.ends(Seen::Cut);
            }
            return;
        }
        loop {
            match strict::request(&bytes) {
                Ok((request, length)) => {
                    bytes.drain(..length);
                    // What follows at once has begun as well.
                    (!bytes.is_empty()).then(|| notes.begins());
                    notes.ends(Seen::Whole(request));
                    let answer = format!(
                        "HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: {}\r\n\r\n{ANSWER}",
                        ANSWER.len()
                    );
                    // Whoever is gone needs none.
                    let _ = tcp.write_all(answer.as_bytes()).await;
                    if bytes.is_empty() {
                        break;
                    }
                }
                Err(Not::Yet) => break,
                Err(Not::Canonical(why)) => return notes.ends(Seen::Broken(why, bytes)),
            }
        }
    }
}

async fn http2(tcp: TcpStream, notes: Notes) {
    let service = service_fn(move |request: Request<Incoming>| {
        let notes = notes.clone();
        async move {
            notes.begins();
            let seen = read(request).await;
            notes.ends(seen);
            let answer = Response::builder().header("content-type", "application/json");
            Ok::<_, Infallible>(answer.body(Full::new(Bytes::from_static(ANSWER.as_bytes()))).unwrap())
        }
    });
    let _ = http2::Builder::new(TokioExecutor::new()).serve_connection(TokioIo::new(tcp), service).await;
}

async fn read(request: Request<Incoming>) -> Seen {
    let (head, body) = request.into_parts();
    let Ok(body) = body.collect().await else { return Seen::Cut };
    let fields = |map: &http::HeaderMap| {
        map.iter().map(|(name, value)| (name.to_string(), value.as_bytes().to_vec())).collect()
    };
    let trailers = body.trailers().map(fields).unwrap_or_default();
    Seen::Whole(strict::Request {
        method: head.method.to_string(),
        target: head.uri.path_and_query().map(ToString::to_string).unwrap_or_default(),
        headers: fields(&head.headers),
        body: body.to_bytes().to_vec(),
        trailers,
    })
}
