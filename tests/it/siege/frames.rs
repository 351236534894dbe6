//! HTTP/2 frames by hand (RFC 9113), with header blocks that are never compressed (RFC 7541): for what no library sends or shows.

use std::{io, net::SocketAddr};

use bytes::BytesMut;
use tokio::{
    io::{AsyncRead, AsyncReadExt, AsyncWriteExt},
    net::{TcpSocket, TcpStream},
};

use crate::harness::{CLIENT_KEY, safely};

pub const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";

// Frame types (section 6).
pub const DATA: u8 = 0;
pub const HEADERS: u8 = 1;
pub const PRIORITY: u8 = 2;
pub const RST_STREAM: u8 = 3;
pub const SETTINGS: u8 = 4;
pub const PUSH_PROMISE: u8 = 5;
pub const PING: u8 = 6;
pub const GOAWAY: u8 = 7;
pub const WINDOW_UPDATE: u8 = 8;
pub const CONTINUATION: u8 = 9;

// Flags; ACK is that of SETTINGS and PING.
pub const ACK: u8 = 1;
pub const END_STREAM: u8 = 1;
pub const END_HEADERS: u8 = 4;
pub const PADDED: u8 = 8;
pub const WITH_PRIORITY: u8 = 0x20;

// Settings (section 6.5.2).
pub const HEADER_TABLE_SIZE: u16 = 1;
pub const ENABLE_PUSH: u16 = 2;
pub const MAX_CONCURRENT_STREAMS: u16 = 3;
pub const INITIAL_WINDOW_SIZE: u16 = 4;
pub const MAX_FRAME_SIZE: u16 = 5;
pub const MAX_HEADER_LIST_SIZE: u16 = 6;

// Error codes (section 7).
pub const PROTOCOL_ERROR: u32 = 1;
pub const FLOW_CONTROL_ERROR: u32 = 3;
pub const STREAM_CLOSED: u32 = 5;
pub const FRAME_SIZE_ERROR: u32 = 6;
pub const REFUSED_STREAM: u32 = 7;
pub const CANCEL: u32 = 8;
pub const COMPRESSION_ERROR: u32 = 9;
pub const ENHANCE_YOUR_CALM: u32 = 11;

/// One frame.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Frame {
    pub kind: u8,
    pub flags: u8,
    pub stream: u32,
    pub payload: Vec<u8>,
}

impl Frame {
    pub fn new(kind: u8, flags: u8, stream: u32, payload: impl Into<Vec<u8>>) -> Self {
        Self { kind, flags, stream, payload: payload.into() }
    }

    pub fn settings(settings: &[(u16, u32)]) -> Self {
        let pair = |(name, value): &(u16, u32)| [&name.to_be_bytes()[..], &value.to_be_bytes()].concat();
        Self::new(SETTINGS, 0, 0, settings.iter().flat_map(pair).collect::<Vec<_>>())
    }

    pub fn ping(payload: [u8; 8]) -> Self {
        Self::new(PING, 0, 0, payload)
    }

    pub fn window(stream: u32, by: u32) -> Self {
        Self::new(WINDOW_UPDATE, 0, stream, by.to_be_bytes())
    }

    pub fn reset(stream: u32, code: u32) -> Self {
        Self::new(RST_STREAM, 0, stream, code.to_be_bytes())
    }

    pub fn data(stream: u32, flags: u8, payload: impl Into<Vec<u8>>) -> Self {
        Self::new(DATA, flags, stream, payload)
    }

    /// HEADERS with a whole header block.
    pub fn headers(stream: u32, flags: u8, block: impl Into<Vec<u8>>) -> Self {
        Self::new(HEADERS, flags | END_HEADERS, stream, block)
    }

    /// The number that is all of its payload (or the last of it): an error code, a window.
    pub fn number(&self) -> u32 {
        let last = self.payload.last_chunk().unwrap_or_else(|| panic!("no number in {self:?}"));
        u32::from_be_bytes(*last)
    }

    /// The error code of GOAWAY, which comes after the last stream's number.
    pub fn goaway(&self) -> u32 {
        u32::from_be_bytes(*self.payload[4..].first_chunk().unwrap())
    }

    pub fn write_to(&self, bytes: &mut Vec<u8>) {
        bytes.extend_from_slice(&(self.payload.len() as u32).to_be_bytes()[1..]);
        bytes.extend_from_slice(&[self.kind, self.flags]);
        bytes.extend_from_slice(&self.stream.to_be_bytes());
        bytes.extend_from_slice(&self.payload);
    }
}

/// These frames as they are written.
pub fn bytes_of<'f>(frames: impl IntoIterator<Item = &'f Frame>) -> Vec<u8> {
    let mut bytes = Vec::new();
    frames.into_iter().for_each(|frame| frame.write_to(&mut bytes));
    bytes
}

/// A header block of these fields as literals (RFC 7541, section 6.2.2), whatever is in them.
pub fn block<N: AsRef<[u8]>, V: AsRef<[u8]>>(fields: impl IntoIterator<Item = (N, V)>) -> Vec<u8> {
    fields.into_iter().flat_map(|(name, value)| literal(0, name.as_ref(), value.as_ref())).collect()
}

/// A literal field with a name of its own; `form` 0x40 puts it into the dynamic table (section 6.2.1).
pub fn literal(form: u8, name: &[u8], value: &[u8]) -> Vec<u8> {
    [&[form][..], &string(name), &string(value)].concat()
}

/// A string without Huffman coding (section 5.2).
fn string(text: &[u8]) -> Vec<u8> {
    let mut bytes = integer(0, 7, text.len());
    bytes.extend_from_slice(text);
    bytes
}

/// An integer after `first`'s high bits, with a prefix of so many (section 5.1).
pub fn integer(first: u8, prefix: u32, value: usize) -> Vec<u8> {
    let most = (1 << prefix) - 1;
    if value < most {
        return vec![first | value as u8];
    }
    let (mut bytes, mut rest) = (vec![first | most as u8], value - most);
    while rest >= 128 {
        bytes.push(rest as u8 | 128);
        rest >>= 7;
    }
    bytes.push(rest as u8);
    bytes
}

/// The usual request's fields: a POST to `path` with the caller's key.
pub fn post(path: &str) -> Vec<(String, String)> {
    let fields = [
        (":method", "POST"),
        (":scheme", "http"),
        (":authority", "gate.test"),
        (":path", path),
        ("authorization", &format!("Bearer {CLIENT_KEY}")),
        ("content-type", "text/plain"),
    ];
    fields.map(|(name, value)| (name.to_owned(), value.to_owned())).to_vec()
}

/// How a stream ended, or its connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Told {
    /// With a whole answer of this status.
    Answered(u16),
    Reset(u32),
    GoAway(u32),
    /// Without a word.
    Closed,
}

/// A caller of the gateway that reads and writes frames.
pub struct Peer {
    pub tcp: TcpStream,
    read: BytesMut,
}

impl Peer {
    /// Connects and sends the preface. An empty dynamic table keeps the answers' header blocks simple.
    pub async fn connect(address: SocketAddr) -> Self {
        Self::connect_with(address, &[]).await
    }

    pub async fn connect_with(address: SocketAddr, settings: &[(u16, u32)]) -> Self {
        let settings = [&[(HEADER_TABLE_SIZE, 0)], settings].concat();
        let mut peer = Self::connect_bare(address).await;
        let mut bytes = PREFACE.to_vec();
        Frame::settings(&settings).write_to(&mut bytes);
        peer.write_bytes(&bytes).await.unwrap();
        peer
    }

    /// Connects and says nothing yet. Its buffers are small, so that little waits in the kernel.
    pub async fn connect_bare(address: SocketAddr) -> Self {
        let socket = TcpSocket::new_v4().unwrap();
        socket.set_recv_buffer_size(16 << 10).unwrap();
        let tcp = socket.connect(address).await.unwrap();
        tcp.set_nodelay(true).unwrap();
        Self { tcp, read: BytesMut::new() }
    }

    pub async fn write_bytes(&mut self, bytes: &[u8]) -> io::Result<()> {
        safely(self.tcp.write_all(bytes)).await
    }

    /// Writes these frames in one go. The gateway may have closed by the end of them: what it said tells.
    pub async fn write(&mut self, frames: &[Frame]) {
        let _ = self.write_bytes(&bytes_of(frames)).await;
    }

    /// The next frame; none when the connection is over, in order or not.
    pub async fn next(&mut self) -> Option<Frame> {
        safely(next(&mut self.tcp, &mut self.read)).await
    }

    /// The next frame of this kind. Nothing may have failed before it.
    pub async fn next_of(&mut self, kind: u8) -> Frame {
        loop {
            let frame = self.next().await.expect("closed");
            if frame.kind == kind {
                return frame;
            }
            assert!(!matches!(frame.kind, GOAWAY | RST_STREAM), "{frame:?}");
        }
    }

    /// Reads until `stream` or the connection has ended.
    pub async fn told(&mut self, stream: u32) -> Told {
        let mut status = None;
        while let Some(frame) = self.next().await {
            match frame.kind {
                GOAWAY if frame.goaway() != 0 => return Told::GoAway(frame.goaway()),
                RST_STREAM if frame.stream == stream => return Told::Reset(frame.number()),
                HEADERS if frame.stream == stream => status = status.or(Some(self::status(&frame.payload))),
                _ => {}
            }
            if frame.stream == stream && matches!(frame.kind, HEADERS | DATA) && frame.flags & END_STREAM != 0
            {
                return Told::Answered(status.unwrap());
            }
        }
        Told::Closed
    }

    /// The status of `stream`'s answer, the rest of which is not waited for.
    pub async fn head(&mut self, stream: u32) -> u16 {
        while let Some(frame) = self.next().await {
            assert!(frame.kind != GOAWAY && (frame.stream != stream || frame.kind == HEADERS), "{frame:?}");
            if frame.stream == stream {
                return status(&frame.payload);
            }
        }
        panic!("closed")
    }

    /// Whether the connection lives on, and none of what was sent before has ended a stream. Two PINGs, since h2 answers one before
    /// it sends the resets that frames before it have caused.
    pub async fn is_unimpressed(&mut self) -> bool {
        for number in 1..=2 {
            let asked = [number; 8];
            self.write(&[Frame::ping(asked)]).await;
            loop {
                match self.next().await {
                    Some(frame) if frame.kind == PING && frame.flags & ACK != 0 && frame.payload == asked => {
                        break;
                    }
                    Some(frame) if matches!(frame.kind, GOAWAY | RST_STREAM) => return false,
                    Some(_) => {}
                    None => return false,
                }
            }
        }
        true
    }

    /// Reads to the end of the connection.
    pub async fn closed(&mut self) {
        while self.next().await.is_some() {}
    }
}

/// The next frame from `reader`; what was read beyond it stays in `read`.
pub async fn next(reader: &mut (impl AsyncRead + Unpin), read: &mut BytesMut) -> Option<Frame> {
    loop {
        if let Some(head) = read.first_chunk::<9>() {
            let length = 9 + u32::from_be_bytes([0, head[0], head[1], head[2]]) as usize;
            if read.len() >= length {
                let frame = read.split_to(length);
                let stream = u32::from_be_bytes(*frame[5..].first_chunk().unwrap());
                return Some(Frame::new(frame[3], frame[4], stream, &frame[9..]));
            }
        }
        if reader.read_buf(read).await.ok()? == 0 {
            return None;
        }
    }
}

/// The status in an answer's header block, which comes first in it: from the static table, or as a literal whose three digits may be
/// Huffman-coded (RFC 7541, appendices A and B).
fn status(block: &[u8]) -> u16 {
    let block = &block[block.iter().take_while(|byte| **byte & 0xe0 == 0x20).count()..];
    match block {
        [indexed @ 0x88..=0x8e, ..] => [200, 204, 206, 304, 400, 404, 500][usize::from(indexed - 0x88)],
        [0x08 | 0x18 | 0x48, length, text @ ..] if length & 0x80 != 0 => {
            coded_digits(&text[..usize::from(length & 0x7f)])
        }
        [0x08 | 0x18 | 0x48, 3, text @ ..] => std::str::from_utf8(&text[..3]).unwrap().parse().unwrap(),
        _ => panic!("no status begins {block:x?}"),
    }
}

/// 0, 1 and 2 have five bits, the other digits six.
fn coded_digits(text: &[u8]) -> u16 {
    let mut bits =
        text.iter().fold(0_u64, |bits, byte| bits << 8 | u64::from(*byte)) << (64 - 8 * text.len());
    (0..3).fold(0, |number, _| {
        let short = (bits >> 59) as u16;
        let (digit, length) = if short < 3 { (short, 5) } else { ((bits >> 58) as u16 - 0x19 + 3, 6) };
        bits <<= length;
        number * 10 + digit
    })
}
