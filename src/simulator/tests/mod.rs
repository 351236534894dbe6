//! The simulator, seen from raw sockets.

mod generated;
mod http1;
mod http2;
mod tls;
mod websocket;

use std::{io, time::Duration};

use bytes::Bytes;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
};

use super::*;

async fn simulator() -> Simulator {
    Simulator::start(Options::default()).await.unwrap()
}

/// A raw HTTP/1.1 connection.
struct Client {
    socket: TcpStream,
    /// Read, but not asked for yet.
    inbox: Vec<u8>,
}

impl Client {
    async fn of(simulator: &Simulator) -> Self {
        Self { socket: TcpStream::connect(simulator.addr()).await.unwrap(), inbox: Vec::new() }
    }

    async fn send(&mut self, text: &str) {
        self.socket.write_all(text.as_bytes()).await.unwrap();
    }

    /// Reads up to and with `end`.
    async fn until(&mut self, end: &str) -> String {
        loop {
            if let Some(place) = memchr::memmem::find(&self.inbox, end.as_bytes()) {
                let rest = self.inbox.split_off(place + end.len());
                return String::from_utf8(std::mem::replace(&mut self.inbox, rest)).unwrap();
            }
            assert_ne!(
                self.socket.read_buf(&mut self.inbox).await.unwrap(),
                0,
                "no {end:?} in {:?}",
                self.inbox
            );
        }
    }

    /// Reads until the other side ends, and how it did.
    async fn rest(mut self) -> (String, io::Result<()>) {
        let read = self.socket.read_to_end(&mut self.inbox).await;
        (String::from_utf8_lossy(&self.inbox).into_owned(), read.map(drop))
    }

    /// A whole answer with a `content-length`: its head and body.
    async fn answer(&mut self) -> (String, String) {
        let head = self.until("\r\n\r\n").await;
        let length = head.split_once("content-length: ").unwrap().1.split_once("\r\n").unwrap().0;
        let length: usize = length.parse().unwrap();
        while self.inbox.len() < length {
            assert_ne!(self.socket.read_buf(&mut self.inbox).await.unwrap(), 0);
        }
        let rest = self.inbox.split_off(length);
        (head, String::from_utf8(std::mem::replace(&mut self.inbox, rest)).unwrap())
    }
}

fn post(path: &str, headers: &str, body: &str) -> String {
    format!("POST {path} HTTP/1.1\r\nHost: sim\r\n{headers}Content-Length: {}\r\n\r\n{body}", body.len())
}

/// A stream of unknown length with `parts`, a gate between each two.
fn gated(parts: &[&'static str], gate: &Gate) -> Script {
    let mut steps = vec![Step::Head(Head::event_stream())];
    for part in parts {
        steps.push(Step::Send(Bytes::from_static(part.as_bytes())));
        steps.push(Step::Gate(gate.clone()));
    }
    steps.pop();
    Script::new(steps)
}

fn ended(record: &Record) -> Ended {
    record.ended.unwrap().1
}
