//! HTTP/1.1 by hand (RFC 9112), because scripts decide over each byte and records keep heads as they came.

use std::{io, sync::Arc};

use bytes::{BufMut, Bytes, BytesMut};
use http::{HeaderMap, Method, StatusCode, Version, header};
use tokio::io::{AsyncReadExt, AsyncWriteExt};

use super::{
    connection::Place,
    record::Ended,
    respond::{self, Request},
    script::{Cut, Framing, Head, WHOLE},
    shared::Shared,
    socket::Socket,
    upload::{self, Decoder, Found, Upload},
    wire::Wire,
};

/// The longest head, and the most bytes taken in ahead of the script, bytes.
const MAX_INBOX: usize = 64 * 1024;
/// The most header lines.
const MAX_HEADERS: usize = 128;
/// One read of a head, and one of a body, bytes.
const HEAD_READ: usize = 2 * 1024;
const BODY_READ: usize = 64 * 1024;

/// Answers one connection's requests, one after the other.
pub(super) async fn serve(socket: Socket, mut place: Place, shared: &Arc<Shared>) {
    let mut wire = Http1::new(socket);
    loop {
        match wire.next().await {
            Ok(request) => {
                place.next_request();
                let ended = respond::respond(&mut wire, request, &place, shared).await;
                if ended != Ended::Answered {
                    return;
                }
            }
            Err(Next::Closed) => return,
            Err(Next::BadHead) => {
                wire.outbox
                    .put_slice(b"HTTP/1.1 400 Bad Request\r\ncontent-length: 0\r\nconnection: close\r\n\r\n");
                let _ = wire.flush().await;
                wire.keep = false;
            }
        }
        if !wire.keep {
            // The other side may be gone, which is as well.
            let _ = wire.socket.shutdown().await;
            return;
        }
    }
}

/// A connection and the request on it.
struct Http1 {
    socket: Socket,
    inbox: BytesMut,
    outbox: BytesMut,
    upload: Upload,
    decoder: Decoder,
    expects_continue: bool,
    /// The request is one whose answer has no body.
    bodiless: bool,
    version: Version,
    /// Once the answer has begun: how its end is told.
    framing: Option<Framing>,
    sent: u64,
    keep: bool,
}

/// Why there is no next request.
enum Next {
    Closed,
    BadHead,
}

impl Http1 {
    fn new(socket: Socket) -> Self {
        Self {
            socket,
            inbox: BytesMut::new(),
            outbox: BytesMut::new(),
            upload: Upload::new(),
            decoder: Decoder::Done,
            expects_continue: false,
            bodiless: false,
            version: Version::HTTP_11,
            framing: None,
            sent: 0,
            keep: true,
        }
    }

    async fn next(&mut self) -> Result<Request, Next> {
        loop {
            if !self.inbox.is_empty() {
                if let Some(request) = self.parse()? {
                    return Ok(request);
                }
                if self.inbox.len() >= MAX_INBOX {
                    return Err(Next::BadHead);
                }
            }
            self.fill(HEAD_READ).await.map_err(|_| Next::Closed)?;
        }
    }

    fn parse(&mut self) -> Result<Option<Request>, Next> {
        let mut lines = [httparse::EMPTY_HEADER; MAX_HEADERS];
        let mut parsed = httparse::Request::new(&mut lines);
        let length = match parsed.parse(&self.inbox) {
            Ok(httparse::Status::Complete(length)) => length,
            Ok(httparse::Status::Partial) => return Ok(None),
            Err(_) => return Err(Next::BadHead),
        };
        let headers = upload::header_map(parsed.headers).ok_or(Next::BadHead)?;
        let method = parsed.method.and_then(|method| method.parse::<Method>().ok()).ok_or(Next::BadHead)?;
        let target = parsed.path.ok_or(Next::BadHead)?.to_owned();
        let version = if parsed.version == Some(0) { Version::HTTP_10 } else { Version::HTTP_11 };
        let authority = headers.get(header::HOST).and_then(|host| host.to_str().ok()).map(str::to_owned);
        let head = Bytes::copy_from_slice(&self.inbox.split_to(length));
        let request = Request { method, target, version, headers, head, authority };
        self.begin(&request)?;
        Ok(Some(request))
    }

    /// Sets out for a new request.
    fn begin(&mut self, request: &Request) -> Result<(), Next> {
        let says = |name, word| tokens(&request.headers, name).any(|token| token.eq_ignore_ascii_case(word));
        self.upload = Upload::new();
        self.decoder = if says(header::TRANSFER_ENCODING, "chunked") {
            Decoder::ChunkSize
        } else if let Some(length) = request.headers.get(header::CONTENT_LENGTH) {
            Decoder::Length(length.to_str().ok().and_then(|length| length.parse().ok()).ok_or(Next::BadHead)?)
        } else {
            Decoder::Length(0)
        };
        self.expects_continue = says(header::EXPECT, "100-continue");
        self.bodiless = request.method == Method::HEAD;
        self.version = request.version;
        self.keep = if request.version == Version::HTTP_10 {
            says(header::CONNECTION, "keep-alive")
        } else {
            !says(header::CONNECTION, "close")
        };
        self.framing = None;
        self.sent = 0;
        Ok(())
    }

    async fn fill(&mut self, read: usize) -> Result<(), Ended> {
        if self.inbox.capacity() - self.inbox.len() < read / 2 {
            self.inbox.reserve(read);
        }
        match self.socket.read_buf(&mut self.inbox).await {
            Ok(0) => Err(Ended::PeerClosed),
            Ok(_) => Ok(()),
            Err(error) => Err(left(&error)),
        }
    }

    fn put_head(&mut self, status: StatusCode, headers: &HeaderMap) {
        self.outbox.put_slice(b"HTTP/1.1 ");
        self.outbox.put_slice(status.as_str().as_bytes());
        self.outbox.put_u8(b' ');
        self.outbox.put_slice(status.canonical_reason().unwrap_or("Unknown").as_bytes());
        self.outbox.put_slice(b"\r\n");
        self.put_headers(headers);
    }

    fn put_headers(&mut self, headers: &HeaderMap) {
        for (name, value) in headers {
            self.put_line(name.as_str(), value.as_bytes());
        }
    }

    fn put_line(&mut self, name: &str, value: &[u8]) {
        self.outbox.put_slice(name.as_bytes());
        self.outbox.put_slice(b": ");
        self.outbox.put_slice(value);
        self.outbox.put_slice(b"\r\n");
    }

    fn put_chunk(&mut self, bytes: &[u8]) {
        use std::fmt::Write as _;
        // Writing into memory cannot fail.
        let _ = write!(self.outbox, "{:x}\r\n", bytes.len());
        self.outbox.put_slice(bytes);
        self.outbox.put_slice(b"\r\n");
    }
}

impl Wire for Http1 {
    async fn read_body(&mut self, up_to: u64) -> Result<(), Ended> {
        let mut left = up_to;
        while left > 0 && !self.upload.complete() {
            match self.decoder.decode(&mut self.inbox, left) {
                Ok(Found::Data(bytes)) => {
                    left -= bytes.len() as u64;
                    self.upload.take(&bytes);
                }
                Ok(Found::End(trailers)) => self.upload.finish(trailers),
                Ok(Found::Nothing) => {
                    if std::mem::take(&mut self.expects_continue) && self.framing.is_none() {
                        self.outbox.put_slice(b"HTTP/1.1 100 Continue\r\n\r\n");
                        self.flush().await?;
                    }
                    self.fill(BODY_READ).await?;
                }
                Err(upload::Broken) => return Err(Ended::BadBody),
            }
        }
        Ok(())
    }

    fn upload(&self) -> &Upload {
        &self.upload
    }

    async fn inform(&mut self, status: StatusCode, headers: &HeaderMap) -> Result<(), Ended> {
        if self.framing.is_some() {
            return Err(Ended::BadScript);
        }
        self.put_head(status, headers);
        self.outbox.put_slice(b"\r\n");
        self.flush().await
    }

    async fn head(&mut self, head: &Head) -> Result<(), Ended> {
        if self.framing.is_some() {
            return Err(Ended::BadScript);
        }
        let framing = match head.framing {
            Framing::Chunked if self.version == Version::HTTP_10 => Framing::Close,
            framing => framing,
        };
        self.framing = Some(framing);
        self.put_head(head.status, &head.headers);
        match framing {
            Framing::Chunked => self.put_line("transfer-encoding", b"chunked"),
            Framing::Known(length) => {
                self.put_line("content-length", itoa::Buffer::new().format(length).as_bytes());
            }
            Framing::Close => self.put_line("connection", b"close"),
            Framing::Bare => {}
        }
        self.outbox.put_slice(b"\r\n");
        if framing == Framing::Close
            || tokens(&head.headers, header::CONNECTION).any(|token| token == "close")
        {
            self.keep = false;
        }
        Ok(())
    }

    async fn send(&mut self, bytes: Bytes) -> Result<(), Ended> {
        let framing = self.framing.ok_or(Ended::BadScript)?;
        if self.bodiless {
            return Ok(());
        }
        self.sent += bytes.len() as u64;
        if framing == Framing::Chunked {
            self.put_chunk(&bytes);
        } else {
            self.outbox.put_slice(&bytes);
        }
        self.flush().await
    }

    async fn raw(&mut self, bytes: Bytes) -> Result<(), Ended> {
        self.framing.get_or_insert(Framing::Bare);
        self.outbox.put_slice(&bytes);
        self.flush().await
    }

    async fn flush(&mut self) -> Result<(), Ended> {
        if self.outbox.is_empty() {
            return Ok(());
        }
        let wrote = self.socket.write_all(&self.outbox).await;
        self.outbox.clear();
        wrote.map_err(|error| left(&error))?;
        self.socket.flush().await.map_err(|error| left(&error))
    }

    async fn end(&mut self, trailers: Option<HeaderMap>) -> Result<(), Ended> {
        match self.framing.ok_or(Ended::BadScript)? {
            Framing::Chunked if !self.bodiless => {
                self.outbox.put_slice(b"0\r\n");
                self.put_headers(&trailers.unwrap_or_default());
                self.outbox.put_slice(b"\r\n");
            }
            // What was promised cannot come any more; only a close says so.
            Framing::Known(promised) if promised > self.sent && !self.bodiless => self.keep = false,
            _ => {}
        }
        self.flush().await?;
        self.read_body(WHOLE).await
    }

    async fn gone(&mut self) -> Ended {
        loop {
            if self.inbox.len() >= MAX_INBOX {
                return std::future::pending().await;
            }
            if let Err(ended) = self.fill(HEAD_READ).await {
                return ended;
            }
        }
    }

    async fn cut(&mut self, cut: Cut) -> Ended {
        match cut {
            Cut::Reset => self.socket.reset_when_dropped(),
            Cut::Close | Cut::NoError => {
                let _ = self.socket.shutdown().await;
            }
            Cut::ChunkError => {
                self.outbox.put_slice(b"no-size\r\n");
                let _ = self.flush().await;
                let _ = self.socket.shutdown().await;
            }
        }
        Ended::CutByScript(cut)
    }
}

/// The comma-separated items of a header.
fn tokens(headers: &HeaderMap, name: header::HeaderName) -> impl Iterator<Item = &str> {
    let values = headers.get_all(name).into_iter().filter_map(|value| value.to_str().ok());
    values.flat_map(|value| value.split(',')).map(str::trim)
}

/// How the other side left, by the error it left behind.
fn left(error: &io::Error) -> Ended {
    if error.kind() == io::ErrorKind::ConnectionReset { Ended::PeerReset } else { Ended::PeerClosed }
}
