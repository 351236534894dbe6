//! An HTTP/2 upstream that writes and reads frames, for what a well-made one says seldom, or not at a known moment.

use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpStream},
};

use super::safely;

const DATA: u8 = 0;
const HEADERS: u8 = 1;
const RST_STREAM: u8 = 3;
const SETTINGS: u8 = 4;
const GOAWAY: u8 = 7;

/// Its side of one connection (RFC 9113, sections 4.1 and 6).
pub struct Frames {
    tcp: TcpStream,
}

impl Frames {
    /// Waits for the next connection. Nothing has been said on it: its `settings` come first.
    pub async fn accept(listener: &TcpListener) -> Self {
        let (mut tcp, _) = safely(listener.accept()).await.unwrap();
        tcp.set_nodelay(true).unwrap();
        let mut preface = [0; 24];
        safely(tcp.read_exact(&mut preface)).await.unwrap();
        Self { tcp }
    }

    /// Waits for the next request, and gives its stream.
    pub async fn request(&mut self) -> u32 {
        loop {
            let mut head = [0; 9];
            safely(self.tcp.read_exact(&mut head)).await.unwrap();
            let [a, b, c, kind, _, stream @ ..] = head;
            let mut payload = vec![0; u32::from_be_bytes([0, a, b, c]) as usize];
            safely(self.tcp.read_exact(&mut payload)).await.unwrap();
            if kind == HEADERS {
                return u32::from_be_bytes(stream);
            }
        }
    }

    /// So many streams may be open at once.
    pub async fn settings(&mut self, most_streams: u32) {
        let mut payload = vec![0, 3];
        payload.extend(most_streams.to_be_bytes());
        self.write(SETTINGS, 0, 0, &payload).await;
    }

    /// `200`, and nothing else.
    pub async fn head(&mut self, stream: u32) {
        self.write(HEADERS, 4, stream, &[0x88]).await;
    }

    /// More of an answer's body.
    pub async fn data(&mut self, stream: u32, data: &[u8]) {
        self.write(DATA, 0, stream, data).await;
    }

    /// The end of an answer.
    pub async fn end(&mut self, stream: u32) {
        self.write(DATA, 1, stream, &[]).await;
    }

    /// It was not looked at (REFUSED_STREAM).
    pub async fn refuse(&mut self, stream: u32) {
        self.write(RST_STREAM, 0, stream, &7_u32.to_be_bytes()).await;
    }

    /// In order: no stream after `last` was or will be looked at.
    pub async fn go_away(&mut self, last: u32) {
        let payload = [last.to_be_bytes(), [0; 4]].concat();
        self.write(GOAWAY, 0, 0, &payload).await;
    }

    async fn write(&mut self, kind: u8, flags: u8, stream: u32, payload: &[u8]) {
        let [_, length @ ..] = u32::try_from(payload.len()).unwrap().to_be_bytes();
        let frame = [&length[..], &[kind, flags], &stream.to_be_bytes(), payload].concat();
        safely(self.tcp.write_all(&frame)).await.unwrap();
    }
}
