//! An upstream that keeps every byte it is sent, and a reading of those bytes that takes one form of message only.

use std::{
    net::SocketAddr,
    sync::{Arc, Mutex},
};

use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpStream},
    sync::watch,
    task::JoinHandle,
};

use crate::harness::safely;

const ANSWER: &[u8] =
    b"HTTP/1.1 200 OK\r\ncontent-type: text/plain\r\ncontent-length: 2\r\nconnection: close\r\n\r\nok";

/// It answers what is a whole message, closes, and goes on reading: nothing that comes after it is overlooked.
pub struct Tap {
    pub address: SocketAddr,
    kept: Arc<Mutex<Vec<Vec<u8>>>>,
    open: watch::Receiver<usize>,
    accepting: JoinHandle<()>,
}

/// A message as the strictest reader has it.
#[derive(Debug)]
pub struct Message {
    pub line: String,
    pub headers: Vec<(String, String)>,
    pub body: Vec<u8>,
    pub trailers: Vec<(String, String)>,
}

impl Tap {
    pub async fn open() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let kept: Arc<Mutex<Vec<Vec<u8>>>> = Arc::default();
        let (count, open) = watch::channel(0);
        let keeping = kept.clone();
        let accepting = tokio::spawn(async move {
            while let Ok((tcp, _)) = listener.accept().await {
                let (kept, count) = (keeping.clone(), count.clone());
                count.send_modify(|open| *open += 1);
                tokio::spawn(async move {
                    let bytes = keep(tcp).await;
                    if !bytes.is_empty() {
                        kept.lock().unwrap().push(bytes);
                    }
                    count.send_modify(|open| *open -= 1);
                });
            }
        });
        Self { address, kept, open, accepting }
    }

    pub fn url(&self) -> String {
        format!("http://{}", self.address)
    }

    /// What each connection has brought, once all are closed.
    pub async fn take(&self) -> Vec<Vec<u8>> {
        let mut open = self.open.clone();
        safely(open.wait_for(|open| *open == 0)).await.unwrap();
        std::mem::take(&mut *self.kept.lock().unwrap())
    }
}

impl Drop for Tap {
    fn drop(&mut self) {
        self.accepting.abort();
    }
}

async fn keep(mut tcp: TcpStream) -> Vec<u8> {
    let (mut bytes, mut answered) = (Vec::new(), false);
    // A reset is an end too.
    while let Ok(1..) = tcp.read_buf(&mut bytes).await {
        if !answered && Message::read(&bytes).is_some() {
            answered = true;
            let _ = tcp.write_all(ANSWER).await;
        }
    }
    bytes
}

impl Message {
    /// Reads one message and what follows it; none if it is not whole or not in canonical form.
    pub fn read(bytes: &[u8]) -> Option<(Self, &[u8])> {
        let mut rest = bytes;
        let line = line(&mut rest)?;
        let headers = fields(&mut rest)?;
        let of = |name: &str| headers.iter().filter(|(known, _)| known == name).collect::<Vec<_>>();
        let (lengths, codings) = (of("content-length"), of("transfer-encoding"));
        let (mut body, mut trailers) = (Vec::new(), Vec::new());
        match (&lengths[..], &codings[..]) {
            ([], []) => {}
            ([(_, length)], []) => body.extend_from_slice(rest.split_off(..length.parse().ok()?)?),
            ([], [(_, coding)]) if coding == "chunked" => {
                trailers = chunks(&mut rest, &mut body)?;
            }
            _ => return None,
        }
        Some((Self { line, headers, body, trailers }, rest))
    }

    /// The only message in these bytes.
    pub fn only(bytes: &[u8]) -> Self {
        let shown = String::from_utf8_lossy(bytes);
        let (message, rest) = Self::read(bytes).unwrap_or_else(|| panic!("no message: {shown:?}"));
        assert!(rest.is_empty(), "more than one message: {shown:?}");
        let hosts = message.headers.iter().filter(|(name, _)| name == "host").count();
        assert_eq!(hosts, 1, "{shown:?}");
        message
    }

    /// The values of a header.
    pub fn all(&self, name: &str) -> Vec<&str> {
        self.headers.iter().filter(|(known, _)| known == name).map(|(_, value)| &**value).collect()
    }
}

/// Up to CRLF, without other control characters.
fn line(rest: &mut &[u8]) -> Option<String> {
    let end = rest.windows(2).position(|two| two == b"\r\n")?;
    let line = rest.split_off(..end)?;
    *rest = &rest[2..];
    let clean = line.iter().all(|byte| matches!(byte, b'\t' | b' '..=b'~' | 128..));
    clean.then(|| String::from_utf8_lossy(line).into_owned())
}

/// Lines `name: value` to the empty one (RFC 9112, section 5), with names in small letters.
fn fields(rest: &mut &[u8]) -> Option<Vec<(String, String)>> {
    let mut fields = Vec::new();
    loop {
        let line = line(rest)?;
        if line.is_empty() {
            return Some(fields);
        }
        let (name, value) = line.split_once(": ")?;
        let token = |byte: u8| {
            byte.is_ascii_digit() || byte.is_ascii_lowercase() || b"!#$%&'*+-.^_`|~".contains(&byte)
        };
        if name.is_empty() || !name.bytes().all(token) {
            return None;
        }
        fields.push((name.to_owned(), value.to_owned()));
    }
}

/// Chunks without extensions, and the trailers after the last.
fn chunks(rest: &mut &[u8], body: &mut Vec<u8>) -> Option<Vec<(String, String)>> {
    loop {
        let size = usize::from_str_radix(&line(rest)?, 16).ok()?;
        if size == 0 {
            return fields(rest);
        }
        body.extend_from_slice(rest.split_off(..size)?);
        *rest = rest.strip_prefix(b"\r\n")?;
    }
}
