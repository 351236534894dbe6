//! The server's side of a WebSocket connection: reads messages, writes events.

use std::collections::VecDeque;

use bytes::{Buf, BytesMut};
use tokio::io::{AsyncReadExt, AsyncWriteExt};

use super::super::{
    ending::{Cut, Ended},
    generate::marks,
    plan::Plan,
    script::{Mark, MarkAction},
    shared::Shared,
    socket::Socket,
    upload::Upload,
};
use crate::websocket::{
    Close, FramePart, FrameScanner, Opcode,
    writer::{self, Sender},
};

/// The longest message, bytes: 15 MiB of audio in base64, and what is around it.
const MAX_MESSAGE: usize = 24 << 20;
/// The size of one read, bytes.
const READ: usize = 64 << 10;

/// The client, as the server sees it.
pub(super) struct Peer {
    socket: Socket,
    input: BytesMut,
    scanner: FrameScanner,
    /// The payload of the frame that is arriving.
    frame: Option<OpenFrame>,
    /// The message whose first frames have come; `true`: it is a text.
    message: Option<(bool, Vec<u8>)>,
    /// All messages of the client, one a line.
    received: Upload,
    marks: VecDeque<Mark>,
    sent: u64,
}

struct OpenFrame {
    fin: bool,
    opcode: Opcode,
    mask: [u8; 4],
    payload: Vec<u8>,
}

/// What the client has done.
pub(super) enum Received {
    Text(String),
    Binary,
    Ping(Vec<u8>),
    Close(u16),
    /// Violates the protocol: the connection is closed with this code.
    Violation(u16),
    /// Has left without a close frame.
    Gone(Ended),
}

impl Peer {
    pub(super) fn new(socket: Socket, early: BytesMut, plan: &Plan, shared: &Shared) -> Self {
        Self {
            socket,
            input: early,
            scanner: FrameScanner::default(),
            frame: None,
            message: None,
            received: Upload::new(),
            marks: marks(plan, shared).into(),
            sent: 0,
        }
    }

    /// The messages of the client, one a line.
    pub(super) fn received(&self) -> &Upload {
        &self.received
    }

    /// Bytes sent in frames.
    pub(super) fn sent(&self) -> u64 {
        self.sent
    }

    /// Writes the response of 101.
    pub(super) async fn begin(&mut self, head: String) -> Result<(), Ended> {
        self.write(head.as_bytes()).await
    }

    /// Waits for the next thing that the client does. The future may be dropped and the function called again.
    pub(super) async fn next(&mut self) -> Received {
        loop {
            if let Some(received) = self.parse() {
                return received;
            }
            self.input.reserve(READ);
            match self.socket.read_buf(&mut self.input).await {
                Ok(1..) => {}
                Ok(0) => return Received::Gone(Ended::PeerClosed),
                Err(error) => return Received::Gone(Ended::of_peer(&error)),
            }
        }
    }

    /// Sends events, one message each, in one write.
    pub(super) async fn send(&mut self, events: &[String]) -> Result<(), Ended> {
        let mut bytes = Vec::new();
        for event in events {
            bytes.extend_from_slice(&writer::text(Sender::Server, event));
        }
        self.send_frames(&bytes).await
    }

    /// Answers a ping.
    pub(super) async fn pong(&mut self, payload: &[u8]) -> Result<(), Ended> {
        self.send_frames(&writer::pong(Sender::Server, payload)).await
    }

    /// Sends a close frame.
    pub(super) async fn close(&mut self, code: u16, reason: &str) -> Result<(), Ended> {
        self.send_frames(&writer::close(Sender::Server, code, reason)).await
    }

    /// Ends the connection.
    pub(super) async fn end(&mut self) {
        let _ = self.socket.shutdown().await;
    }

    /// Writes frames, and runs the action of each mark at its position.
    async fn send_frames(&mut self, mut bytes: &[u8]) -> Result<(), Ended> {
        loop {
            while self.marks.front().is_some_and(|mark| mark.at <= self.sent) {
                match self.marks.pop_front().map(|mark| mark.action) {
                    Some(MarkAction::Gate(gate)) => gate.wait().await,
                    Some(MarkAction::Stall) => std::future::pending().await,
                    Some(MarkAction::Cut(cut)) => return Err(self.cut(cut).await),
                    None => {}
                }
            }
            if bytes.is_empty() {
                return Ok(());
            }
            let to_mark = self.marks.front().map_or(u64::MAX, |mark| mark.at - self.sent);
            let length = usize::try_from(to_mark).unwrap_or(usize::MAX).min(bytes.len());
            let (piece, rest) = bytes.split_at(length);
            self.write(piece).await?;
            self.sent += length as u64;
            bytes = rest;
        }
    }

    async fn write(&mut self, bytes: &[u8]) -> Result<(), Ended> {
        let wrote = self.socket.write_all(bytes).await;
        wrote.map_err(|error| Ended::of_peer(&error))?;
        self.socket.flush().await.map_err(|error| Ended::of_peer(&error))
    }

    async fn cut(&mut self, cut: Cut) -> Ended {
        match cut {
            Cut::Reset => self.socket.reset_when_dropped(),
            Cut::Close | Cut::NoError => self.end().await,
            Cut::ChunkError => {
                // A frame with a reserved opcode.
                let _ = self.write(b"\x83\x00").await;
                self.end().await;
            }
        }
        Ended::CutByScript(cut)
    }

    /// Takes the next thing out of what was read.
    fn parse(&mut self) -> Option<Received> {
        loop {
            let mut rest = &*self.input;
            let part = self.scanner.next(&mut rest);
            let taken = self.input.len() - rest.len();
            let received = match part {
                None => {
                    self.input.advance(taken);
                    return None;
                }
                Some(FramePart::Start(frame)) => {
                    let Some(mask) = frame.mask else { return Some(Received::Violation(1002)) };
                    let Ok(length @ ..=MAX_MESSAGE) = usize::try_from(frame.length) else {
                        return Some(Received::Violation(1009));
                    };
                    if frame.reserved != 0 || (frame.opcode.is_control() && (!frame.fin || length > 125)) {
                        return Some(Received::Violation(1002));
                    }
                    let payload = Vec::with_capacity(length);
                    self.frame = Some(OpenFrame { fin: frame.fin, opcode: frame.opcode, mask, payload });
                    None
                }
                Some(FramePart::Payload { bytes, offset }) => {
                    if let Some(frame) = &mut self.frame {
                        // The remainder is below 4.
                        let keys = frame.mask.iter().cycle().skip((offset % 4) as usize);
                        frame.payload.extend(bytes.iter().zip(keys).map(|(byte, key)| byte ^ key));
                    }
                    None
                }
                Some(FramePart::End) => self.frame.take().and_then(|frame| self.end_frame(frame)),
            };
            self.input.advance(taken);
            if received.is_some() {
                return received;
            }
        }
    }

    fn end_frame(&mut self, frame: OpenFrame) -> Option<Received> {
        let OpenFrame { fin, opcode, payload, .. } = frame;
        let (is_text, mut whole) = match (opcode, self.message.take()) {
            (Opcode::Ping, message) => {
                self.message = message;
                return Some(Received::Ping(payload));
            }
            (Opcode::Pong, message) => {
                self.message = message;
                return None;
            }
            (Opcode::Close, _) => {
                let code = payload.first_chunk().map_or(Close::NORMAL, |code| u16::from_be_bytes(*code));
                return Some(Received::Close(code));
            }
            (Opcode::Text, None) => (true, Vec::new()),
            (Opcode::Binary, None) => (false, Vec::new()),
            (Opcode::Continuation, Some(begun)) => begun,
            (_, _) => return Some(Received::Violation(1002)),
        };
        if whole.len() + payload.len() > MAX_MESSAGE {
            return Some(Received::Violation(1009));
        }
        whole.extend_from_slice(&payload);
        if !fin {
            self.message = Some((is_text, whole));
            return None;
        }
        self.received.take(&whole);
        self.received.take(b"\n");
        if !is_text {
            return Some(Received::Binary);
        }
        Some(String::from_utf8(whole).map_or(Received::Violation(1007), Received::Text))
    }
}
