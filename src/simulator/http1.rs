//! HTTP/1.1 (RFC 9112), written by hand: scripts control every byte sent, and records keep heads as received.

use std::sync::Arc;

use bytes::{BufMut, Bytes, BytesMut};
use http::{HeaderMap, Method, StatusCode, Version, header};
use tokio::io::{AsyncReadExt, AsyncWriteExt};

use super::{
    ending::{Cut, Ended},
    request::{Request, RequestOrigin},
    respond::respond,
    script::{Framing, Head, WHOLE},
    shared::Shared,
    socket::Socket,
    upload::{self, Decoded, Decoder, Upload},
    websocket,
    wire::Wire,
};

/// The longest request head, and the most bytes that are read before a script asks for them, bytes.
const MAX_READ_BUFFER: usize = 64 * 1024;
/// The most header lines in a request.
const MAX_HEADERS: usize = 128;
/// The size of one read of a head, and of one read of a body, bytes.
const HEAD_READ: usize = 2 * 1024;
const BODY_READ: usize = 64 * 1024;

/// Responds to the requests on a connection, one after the other.
pub(super) async fn serve(socket: Socket, mut origin: RequestOrigin, shared: &Arc<Shared>) {
    let mut wire = Http1::new(socket);
    loop {
        match wire.next().await {
            Ok(request) => {
                origin.next_request();
                let request = match websocket::Opening::of(request, shared) {
                    Ok(opening) => {
                        return opening.serve(wire.socket, wire.read_buffer, &origin, shared).await;
                    }
                    Err(request) => *request,
                };
                let ended = respond(&mut wire, request, &origin, shared).await;
                if ended != Ended::Answered {
                    return;
                }
            }
            Err(NoRequest::Closed) => return,
            Err(NoRequest::BadHead) => {
                wire.write_buffer
                    .put_slice(b"HTTP/1.1 400 Bad Request\r\ncontent-length: 0\r\nconnection: close\r\n\r\n");
                let _ = wire.flush().await;
                wire.keep_alive = false;
            }
        }
        if !wire.keep_alive {
            // Fails only if the client has closed the connection already.
            let _ = wire.socket.shutdown().await;
            return;
        }
    }
}

/// A connection and its current request.
struct Http1 {
    socket: Socket,
    read_buffer: BytesMut,
    write_buffer: BytesMut,
    upload: Upload,
    decoder: Decoder,
    expects_continue: bool,
    /// Whether the response has no body, because the request is a HEAD.
    no_body: bool,
    version: Version,
    /// How the end of the response is marked; `None` until the response begins.
    framing: Option<Framing>,
    sent: u64,
    /// Whether the connection can be used for another request.
    keep_alive: bool,
}

/// Why there is no next request.
enum NoRequest {
    Closed,
    BadHead,
}

impl Http1 {
    fn new(socket: Socket) -> Self {
        Self {
            socket,
            read_buffer: BytesMut::new(),
            write_buffer: BytesMut::new(),
            upload: Upload::new(),
            decoder: Decoder::Done,
            expects_continue: false,
            no_body: false,
            version: Version::HTTP_11,
            framing: None,
            sent: 0,
            keep_alive: true,
        }
    }

    async fn next(&mut self) -> Result<Request, NoRequest> {
        loop {
            if !self.read_buffer.is_empty() {
                if let Some(request) = self.parse()? {
                    return Ok(request);
                }
                if self.read_buffer.len() >= MAX_READ_BUFFER {
                    return Err(NoRequest::BadHead);
                }
            }
            self.fill(HEAD_READ).await.map_err(|_| NoRequest::Closed)?;
        }
    }

    fn parse(&mut self) -> Result<Option<Request>, NoRequest> {
        let mut lines = [httparse::EMPTY_HEADER; MAX_HEADERS];
        let mut parsed = httparse::Request::new(&mut lines);
        let length = match parsed.parse(&self.read_buffer) {
            Ok(httparse::Status::Complete(length)) => length,
            Ok(httparse::Status::Partial) => return Ok(None),
            Err(_) => return Err(NoRequest::BadHead),
        };
        let headers = upload::header_map(parsed.headers).ok_or(NoRequest::BadHead)?;
        let method =
            parsed.method.and_then(|method| method.parse::<Method>().ok()).ok_or(NoRequest::BadHead)?;
        let target = parsed.path.ok_or(NoRequest::BadHead)?.to_owned();
        let version = if parsed.version == Some(0) { Version::HTTP_10 } else { Version::HTTP_11 };
        let authority = headers.get(header::HOST).and_then(|host| host.to_str().ok()).map(str::to_owned);
        let head = Bytes::copy_from_slice(&self.read_buffer.split_to(length));
        let request = Request { method, target, version, headers, head, authority };
        self.begin(&request)?;
        Ok(Some(request))
    }

    /// Resets the state for a new request.
    fn begin(&mut self, request: &Request) -> Result<(), NoRequest> {
        let has_token =
            |name, word| tokens(&request.headers, name).any(|token| token.eq_ignore_ascii_case(word));
        self.upload = Upload::new();
        self.decoder = if has_token(header::TRANSFER_ENCODING, "chunked") {
            Decoder::ChunkSize
        } else if let Some(length) = request.headers.get(header::CONTENT_LENGTH) {
            Decoder::Length(
                length.to_str().ok().and_then(|length| length.parse().ok()).ok_or(NoRequest::BadHead)?,
            )
        } else {
            Decoder::Length(0)
        };
        self.expects_continue = has_token(header::EXPECT, "100-continue");
        self.no_body = request.method == Method::HEAD;
        self.version = request.version;
        self.keep_alive = if request.version == Version::HTTP_10 {
            has_token(header::CONNECTION, "keep_alive-alive")
        } else {
            !has_token(header::CONNECTION, "close")
        };
        self.framing = None;
        self.sent = 0;
        Ok(())
    }

    async fn fill(&mut self, read: usize) -> Result<(), Ended> {
        if self.read_buffer.capacity() - self.read_buffer.len() < read / 2 {
            self.read_buffer.reserve(read);
        }
        match self.socket.read_buf(&mut self.read_buffer).await {
            Ok(0) => Err(Ended::PeerClosed),
            Ok(_) => Ok(()),
            Err(error) => Err(Ended::of_peer(&error)),
        }
    }

    fn put_head(&mut self, status: StatusCode, headers: &HeaderMap) {
        self.write_buffer.put_slice(b"HTTP/1.1 ");
        self.write_buffer.put_slice(status.as_str().as_bytes());
        self.write_buffer.put_u8(b' ');
        self.write_buffer.put_slice(status.canonical_reason().unwrap_or("Unknown").as_bytes());
        self.write_buffer.put_slice(b"\r\n");
        self.put_headers(headers);
    }

    fn put_headers(&mut self, headers: &HeaderMap) {
        for (name, value) in headers {
            self.put_line(name.as_str(), value.as_bytes());
        }
    }

    fn put_line(&mut self, name: &str, value: &[u8]) {
        self.write_buffer.put_slice(name.as_bytes());
        self.write_buffer.put_slice(b": ");
        self.write_buffer.put_slice(value);
        self.write_buffer.put_slice(b"\r\n");
    }

    fn put_chunk(&mut self, bytes: &[u8]) {
        use std::fmt::Write as _;
        // Writing into memory cannot fail.
        let _ = write!(self.write_buffer, "{:x}\r\n", bytes.len());
        self.write_buffer.put_slice(bytes);
        self.write_buffer.put_slice(b"\r\n");
    }
}

impl Wire for Http1 {
    async fn read_body(&mut self, up_to: u64) -> Result<(), Ended> {
        let mut remaining = up_to;
        while remaining > 0 && !self.upload.complete() {
            match self.decoder.decode(&mut self.read_buffer, remaining) {
                Ok(Decoded::Data(bytes)) => {
                    remaining -= bytes.len() as u64;
                    self.upload.take(&bytes);
                }
                Ok(Decoded::End(trailers)) => self.upload.finish(trailers),
                Ok(Decoded::NeedsMore) => {
                    if std::mem::take(&mut self.expects_continue) && self.framing.is_none() {
                        self.write_buffer.put_slice(b"HTTP/1.1 100 Continue\r\n\r\n");
                        self.flush().await?;
                    }
                    self.fill(BODY_READ).await?;
                }
                Err(upload::InvalidBody) => return Err(Ended::BadBody),
            }
        }
        Ok(())
    }

    fn upload(&self) -> &Upload {
        &self.upload
    }

    async fn informational(&mut self, status: StatusCode, headers: &HeaderMap) -> Result<(), Ended> {
        if self.framing.is_some() {
            return Err(Ended::BadScript);
        }
        self.put_head(status, headers);
        self.write_buffer.put_slice(b"\r\n");
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
        self.write_buffer.put_slice(b"\r\n");
        if framing == Framing::Close
            || tokens(&head.headers, header::CONNECTION).any(|token| token == "close")
        {
            self.keep_alive = false;
        }
        Ok(())
    }

    async fn send(&mut self, bytes: Bytes) -> Result<(), Ended> {
        let framing = self.framing.ok_or(Ended::BadScript)?;
        if self.no_body {
            return Ok(());
        }
        self.sent += bytes.len() as u64;
        if framing == Framing::Chunked {
            self.put_chunk(&bytes);
        } else {
            self.write_buffer.put_slice(&bytes);
        }
        self.flush().await
    }

    async fn raw(&mut self, bytes: Bytes) -> Result<(), Ended> {
        self.framing.get_or_insert(Framing::Bare);
        self.write_buffer.put_slice(&bytes);
        self.flush().await
    }

    async fn flush(&mut self) -> Result<(), Ended> {
        if self.write_buffer.is_empty() {
            return Ok(());
        }
        let wrote = self.socket.write_all(&self.write_buffer).await;
        self.write_buffer.clear();
        wrote.map_err(|error| Ended::of_peer(&error))?;
        self.socket.flush().await.map_err(|error| Ended::of_peer(&error))
    }

    async fn end(&mut self, trailers: Option<HeaderMap>) -> Result<(), Ended> {
        match self.framing.ok_or(Ended::BadScript)? {
            Framing::Chunked if !self.no_body => {
                self.write_buffer.put_slice(b"0\r\n");
                self.put_headers(&trailers.unwrap_or_default());
                self.write_buffer.put_slice(b"\r\n");
            }
            // The response is shorter than its content-length. Only closing the connection shows that it is over.
            Framing::Known(length) if length > self.sent && !self.no_body => self.keep_alive = false,
            _ => {}
        }
        self.flush().await?;
        self.read_body(WHOLE).await
    }

    async fn peer_gone(&mut self) -> Ended {
        loop {
            if self.read_buffer.len() >= MAX_READ_BUFFER {
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
                self.write_buffer.put_slice(b"no-size\r\n");
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
