//! An upstream and a client that speak WebSocket byte by byte.

use std::{io, net::SocketAddr};

use sluicegate::websocket::{
    handshake,
    writer::{self, Sender},
};
use tokio::{
    io::{AsyncRead, AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpSocket, TcpStream, tcp},
    sync::Notify,
};

use crate::harness::{CLIENT_KEY, Gateway, GatewayToml, UPSTREAM_KEY, safely};

/// A client's key for its handshakes; the example of RFC 6455 §1.3.
const KEY: &str = "dGhlIHNhbXBsZSBub25jZQ==";
/// The headers of a handshake that offers no extension.
pub const HANDSHAKE: &str = "connection: upgrade\r\nupgrade: websocket\r\nsec-websocket-version: 13\r\n\
                             sec-websocket-key: dGhlIHNhbXBsZSBub25jZQ==\r\n";

const MASK: [u8; 4] = [0x37, 0xfa, 0x21, 0x3d];

pub const TEXT: u8 = 1;
pub const CLOSE: u8 = 8;

/// Listens for connections of the gateway.
pub struct Upstream(TcpListener);

/// One side of a connection: what the other side sent in its handshake, and the socket.
pub struct Peer {
    pub head: String,
    io: TcpStream,
    is_client: bool,
}

/// What a side reads.
pub struct ReadHalf(tcp::OwnedReadHalf);

/// What a side writes.
pub struct WriteHalf(tcp::OwnedWriteHalf);

/// A frame, unmasked.
#[derive(Debug, PartialEq, Eq)]
pub struct Frame {
    pub fin: bool,
    pub opcode: u8,
    pub masked: bool,
    pub payload: Vec<u8>,
}

impl Upstream {
    pub async fn start() -> Self {
        Self(TcpListener::bind("127.0.0.1:0").await.unwrap())
    }

    pub fn url(&self) -> String {
        format!("http://{}", self.0.local_addr().unwrap())
    }

    /// The next connection, with the head of its first request.
    pub async fn next(&self) -> Peer {
        let (io, _) = safely(self.0.accept()).await.unwrap();
        let mut peer = Peer { head: String::new(), io, is_client: false };
        peer.read_head().await;
        peer
    }

    /// The same, however long it takes.
    pub async fn next_at_any_time(&self) -> Peer {
        let (io, _) = self.0.accept().await.unwrap();
        let mut peer = Peer { head: String::new(), io, is_client: false };
        peer.read_head().await;
        peer
    }

    /// The next connection, accepted as WebSocket.
    pub async fn accept(&self) -> Peer {
        let mut peer = self.next().await;
        peer.accept("").await;
        peer
    }
}

/// A gateway before this upstream, which tries once.
pub fn before(upstream: &Upstream) -> GatewayToml {
    GatewayToml::before(&upstream.url(), "retry = \"off\"\nbreaker = \"off\"").admin()
}

/// A client and the upstream's side of its connection.
pub async fn open(gateway: &Gateway, upstream: &Upstream, path: &str) -> (Peer, Peer) {
    let key = authorized();
    let client = ask(gateway.address(), path, &key);
    let (client, upstream) = tokio::join!(client, upstream.accept());
    assert!(client.head.starts_with("HTTP/1.1 101 "), "{}", client.head);
    (client, upstream)
}

/// The same, of a client whose kernel has little room for what it has not read.
pub async fn open_narrow(gateway: &Gateway, upstream: &Upstream, path: &str) -> (Peer, Peer) {
    let socket = TcpSocket::new_v4().unwrap();
    socket.set_recv_buffer_size(4 << 10).unwrap();
    let io = socket.connect(gateway.address()).await.unwrap();
    let mut client = Peer { head: String::new(), io, is_client: true };
    client
        .raw(format!("GET {path} HTTP/1.1\r\nhost: gateway\r\n{HANDSHAKE}{}\r\n", authorized()).as_bytes())
        .await;
    let (_, upstream) = tokio::join!(client.read_head(), upstream.accept());
    assert!(client.head.starts_with("HTTP/1.1 101 "), "{}", client.head);
    (client, upstream)
}

pub fn authorized() -> String {
    format!("authorization: Bearer {CLIENT_KEY}\r\n")
}

/// Sends a handshake with these further headers, and reads the head of the response.
pub async fn ask(address: SocketAddr, path: &str, headers: &str) -> Peer {
    let usual = format!(
        "connection: keep-alive, Upgrade\r\nupgrade: WebSocket\r\nsec-websocket-key: {KEY}\r\n\
         sec-websocket-version: 13\r\nsec-websocket-extensions: permessage-deflate\r\n"
    );
    ask_plainly(address, path, &format!("{usual}{headers}")).await
}

/// The same with these headers alone.
pub async fn ask_plainly(address: SocketAddr, path: &str, headers: &str) -> Peer {
    let mut io = TcpStream::connect(address).await.unwrap();
    let request = format!("GET {path} HTTP/1.1\r\nhost: gateway\r\n{headers}\r\n");
    io.write_all(request.as_bytes()).await.unwrap();
    let mut peer = Peer { head: String::new(), io, is_client: true };
    safely(peer.read_head()).await;
    peer
}

impl Peer {
    pub async fn read_head(&mut self) {
        let mut head = Vec::new();
        while !head.ends_with(b"\r\n\r\n") {
            head.push(safely(self.io.read_u8()).await.unwrap());
        }
        self.head = String::from_utf8(head).unwrap();
    }

    /// The value of a header, if it is there once.
    pub fn header(&self, name: &str) -> Option<&str> {
        let mut values = self
            .head
            .lines()
            .filter_map(|line| line.split_once(": "))
            .filter(|(key, _)| key.eq_ignore_ascii_case(name));
        let value = values.next().map(|(_, value)| value);
        assert!(values.next().is_none(), "{name} is there twice: {}", self.head);
        value
    }

    /// Accepts the handshake that was read, with these further headers.
    pub async fn accept(&mut self, headers: &str) {
        assert!(self.head.contains(&format!("Bearer {UPSTREAM_KEY}")), "{}", self.head);
        self.switch(headers).await;
    }

    /// Accepts the handshake that was read, whatever key it has.
    pub async fn accept_anybody(&mut self) {
        self.switch("").await;
    }

    async fn switch(&mut self, headers: &str) {
        let accept = handshake::accept(self.header("sec-websocket-key").unwrap().as_bytes());
        let head = format!(
            "HTTP/1.1 101 Switching Protocols\r\nconnection: upgrade\r\nupgrade: websocket\r\n\
             sec-websocket-accept: {accept}\r\n{headers}\r\n"
        );
        self.raw(head.as_bytes()).await;
    }

    pub async fn raw(&mut self, bytes: &[u8]) {
        safely(self.io.write_all(bytes)).await.unwrap();
    }

    /// Whether the other side takes these bytes.
    pub async fn try_raw(&mut self, bytes: &[u8]) -> bool {
        safely(self.io.write_all(bytes)).await.is_ok()
    }

    pub fn sender(&self) -> Sender {
        if self.is_client { Sender::Client { mask: MASK } } else { Sender::Server }
    }

    pub async fn text(&mut self, text: &str) {
        self.raw(&writer::text(self.sender(), text)).await;
    }

    pub async fn close(&mut self, code: u16, reason: &str) {
        self.raw(&writer::close(self.sender(), code, reason)).await;
    }

    /// Writes `bytes` in pieces while it reads all frames that come before the end of the connection. When the frame `until` has come, or a
    /// close frame, writes `last` and ends its side.
    pub async fn exchange(&mut self, bytes: &[u8], piece: usize, until: &[u8], last: &[u8]) -> Vec<Frame> {
        let (mut from, mut to) = self.io.split();
        let all = Notify::new();
        let writing = async {
            for piece in bytes.chunks(piece.min(bytes.len())) {
                if to.write_all(piece).await.is_err() {
                    return;
                }
            }
            all.notified().await;
            let _ = to.write_all(last).await;
            let _ = to.shutdown().await;
        };
        let reading = async {
            let mut frames = Vec::new();
            while let Ok(frame) = read_frame(&mut from).await {
                let is_last = frame.payload == until;
                if is_last || frame.opcode == CLOSE {
                    all.notify_one();
                }
                if !is_last {
                    frames.push(frame);
                }
            }
            all.notify_one();
            frames
        };
        safely(async { tokio::join!(writing, reading).1 }).await
    }

    /// Its two halves.
    pub fn split(self) -> (ReadHalf, WriteHalf) {
        let (read, write) = self.io.into_split();
        (ReadHalf(read), WriteHalf(write))
    }

    /// Ends its side of the connection.
    pub async fn end(&mut self) {
        self.io.shutdown().await.unwrap();
    }

    /// The next frame.
    pub async fn next(&mut self) -> Frame {
        safely(read_frame(&mut self.io)).await.unwrap()
    }

    /// The next frame, which is a text.
    pub async fn next_text(&mut self) -> String {
        let frame = self.next().await;
        assert_eq!(frame.opcode, TEXT, "{frame:?}");
        String::from_utf8(frame.payload).unwrap()
    }

    /// The next frame, which closes the connection.
    pub async fn next_close(&mut self) -> (u16, String) {
        self.next().await.into_close()
    }

    /// What comes before the end of the connection, in order or not.
    pub async fn rest(&mut self) -> Vec<u8> {
        let mut rest = Vec::new();
        let _ = safely(self.io.read_to_end(&mut rest)).await;
        rest
    }

    /// The body of a response with a length.
    pub async fn body(&mut self) -> serde_json::Value {
        let length = self.header("content-length").unwrap().parse().unwrap();
        let mut body = vec![0; length];
        safely(self.io.read_exact(&mut body)).await.unwrap();
        serde_json::from_slice(&body).unwrap()
    }

    /// The next bytes.
    pub async fn next_bytes(&mut self, count: usize) -> Vec<u8> {
        let mut bytes = vec![0; count];
        safely(self.io.read_exact(&mut bytes)).await.unwrap();
        bytes
    }
}

impl ReadHalf {
    /// The next frame, which closes the connection.
    pub async fn next_close(&mut self) -> (u16, String) {
        safely(read_frame(&mut self.0)).await.unwrap().into_close()
    }
}

impl WriteHalf {
    /// Whether the other side takes these bytes.
    pub async fn try_raw(&mut self, bytes: &[u8]) -> bool {
        safely(self.0.write_all(bytes)).await.is_ok()
    }
}

impl Frame {
    fn into_close(self) -> (u16, String) {
        assert_eq!(self.opcode, CLOSE, "{self:?}");
        let (code, reason) = self.payload.split_at(2);
        (u16::from_be_bytes(code.try_into().unwrap()), String::from_utf8(reason.to_vec()).unwrap())
    }
}

async fn read_frame(io: &mut (impl AsyncRead + Unpin)) -> io::Result<Frame> {
    let [first, second] = [io.read_u8().await?, io.read_u8().await?];
    let length = match second & 0x7f {
        126 => u64::from(io.read_u16().await?),
        127 => io.read_u64().await?,
        short => u64::from(short),
    };
    let masked = second & 0x80 != 0;
    let mut mask = [0; 4];
    if masked {
        io.read_exact(&mut mask).await?;
    }
    let mut payload = vec![0; usize::try_from(length).unwrap()];
    io.read_exact(&mut payload).await?;
    payload.iter_mut().zip(mask.iter().cycle()).for_each(|(byte, key)| *byte ^= key);
    Ok(Frame { fin: first & 0x80 != 0, opcode: first & 0xf, masked, payload })
}

/// The text of an admin page.
pub async fn get(admin: SocketAddr, path: &str) -> String {
    let mut io = TcpStream::connect(admin).await.unwrap();
    let request = format!("GET {path} HTTP/1.1\r\nhost: {admin}\r\nconnection: close\r\n\r\n");
    io.write_all(request.as_bytes()).await.unwrap();
    let mut text = String::new();
    io.read_to_string(&mut text).await.unwrap();
    text
}
