//! A request on its way out.

use std::{
    io,
    pin::Pin,
    task::{Context, Poll, ready},
};

use bytes::{Buf, Bytes};
use http::{HeaderMap, HeaderName, HeaderValue, Request, header};
use http_body::{Body, Frame};
use tokio::io::AsyncWrite;

use super::{
    Http1Error,
    head::{length, write, write_lines},
};
use crate::{body::Outbound, upstream::io::Io};

/// The end of a chunk.
const CHUNK_END: &[u8] = b"\r\n";

/// The end of the only chunk of a body, and of the body.
const LAST_CHUNK_END: &[u8] = b"\r\n0\r\n\r\n";

/// The part of a request that has not been written: its head or a line of the chunked coding, bytes of its body, and what ends a chunk. Of a body that is
/// streamed it holds one frame at most. One that is held in memory goes in as few writes as the connection takes it.
#[derive(Debug)]
pub(super) struct Outgoing {
    front: Vec<u8>,
    /// Bytes of `front` that have been written.
    front_written: usize,
    data: Bytes,
    tail: &'static [u8],
    coding: Coding,
    /// Whether the body has ended.
    is_ended: bool,
    has_written: bool,
}

/// How the body is sent.
#[derive(Debug)]
enum Coding {
    /// As it is; so many bytes are left.
    Length(u64),
    /// In chunks. Only the trailers that the head names are sent.
    Chunked(Vec<HeaderName>),
}

impl Outgoing {
    /// Begins to send `request`, and completes its head. A body that is held in memory goes along with the head, and stays in the request: until something has
    /// been written, the request is as good as new.
    pub(super) fn new(request: &mut Request<Outbound>) -> Self {
        let coding = coding(request);
        let mut outgoing = Self {
            front: write(request),
            front_written: 0,
            data: Bytes::new(),
            tail: b"",
            coding,
            is_ended: request.body().is_end_stream(),
            has_written: false,
        };
        if let Some(bytes) = request.body().in_memory()
            && !bytes.is_empty()
        {
            outgoing.data = bytes.clone();
            outgoing.is_ended = true;
            if let Coding::Chunked(_) = outgoing.coding {
                outgoing.size_line(bytes.len());
                outgoing.tail = LAST_CHUNK_END;
            }
        }
        outgoing
    }

    /// Whether any byte has been written.
    pub(super) fn has_written(&self) -> bool {
        self.has_written
    }

    /// Writes as much as goes now. Ready when the request has been sent.
    ///
    /// # Errors
    /// The connection failed, or the body broke off.
    pub(super) fn poll(
        &mut self,
        io: &mut Io,
        body: &mut Outbound,
        cx: &mut Context<'_>,
    ) -> Poll<Result<(), Http1Error>> {
        loop {
            ready!(self.poll_write(io, body, cx)).map_err(Http1Error::Io)?;
            // The last byte is the end: the client may not say so before it has the response.
            if self.is_ended || matches!(self.coding, Coding::Length(0)) {
                return Pin::new(io).poll_flush(cx).map_err(Http1Error::Io);
            }
            match Pin::new(&mut *body).poll_frame(cx) {
                Poll::Ready(Some(Ok(frame))) => self.put(frame)?,
                Poll::Ready(Some(Err(error))) => return Poll::Ready(Err(Http1Error::Upload(error))),
                Poll::Ready(None) => self.end(None)?,
                Poll::Pending => {
                    // What TLS keeps must not wait for more of the body.
                    let flushed = Pin::new(io).poll_flush(cx).map_err(Http1Error::Io);
                    return if let Poll::Ready(Err(error)) = flushed {
                        Poll::Ready(Err(error))
                    } else {
                        Poll::Pending
                    };
                }
            }
        }
    }

    /// Writes what is there, and has `body` note that it moves.
    fn poll_write(&mut self, io: &mut Io, body: &Outbound, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        loop {
            let front = self.front.get(self.front_written..).unwrap_or_default();
            let slices = [front, &self.data, self.tail].map(io::IoSlice::new);
            if slices.iter().all(|slice| slice.is_empty()) {
                if !self.front.is_empty() {
                    (self.front, self.front_written) = (Vec::new(), 0);
                }
                return Poll::Ready(Ok(()));
            }
            let written = ready!(Pin::new(&mut *io).poll_write_vectored(cx, &slices))?;
            if written == 0 {
                return Poll::Ready(Err(io::ErrorKind::WriteZero.into()));
            }
            self.has_written = true;
            body.has_moved();
            self.advance(written);
        }
    }

    fn advance(&mut self, mut written: usize) {
        let of_front = written.min(self.front.len() - self.front_written);
        self.front_written += of_front;
        written -= of_front;
        let of_data = written.min(self.data.len());
        self.data.advance(of_data);
        written -= of_data;
        self.tail = self.tail.get(written..).unwrap_or_default();
    }

    /// Takes the body's next frame. Nothing of the one before is left.
    fn put(&mut self, frame: Frame<Bytes>) -> Result<(), Http1Error> {
        let data = match frame.into_data() {
            Ok(data) => data,
            Err(frame) => return self.end(frame.into_trailers().ok()),
        };
        if data.is_empty() {
            return Ok(());
        }
        match &mut self.coding {
            Coding::Length(left) => {
                *left = left.checked_sub(data.len() as u64).ok_or(Http1Error::UploadLength)?;
            }
            Coding::Chunked(_) => {
                self.size_line(data.len());
                self.tail = CHUNK_END;
            }
        }
        self.data = data;
        Ok(())
    }

    fn size_line(&mut self, size: usize) {
        self.front.extend_from_slice(format!("{size:x}\r\n").as_bytes());
    }

    /// Ends the body.
    fn end(&mut self, trailers: Option<HeaderMap>) -> Result<(), Http1Error> {
        self.is_ended = true;
        match &self.coding {
            Coding::Length(0) => {}
            Coding::Length(_) => return Err(Http1Error::UploadLength),
            Coding::Chunked(announced) => {
                self.front.extend_from_slice(b"0\r\n");
                if let Some(mut trailers) = trailers {
                    let unknown: Vec<_> =
                        trailers.keys().filter(|name| !announced.contains(name)).cloned().collect();
                    unknown.iter().for_each(|name| _ = trailers.remove(name));
                    write_lines(&mut self.front, &trailers);
                }
                self.front.extend_from_slice(CHUNK_END);
            }
        }
        Ok(())
    }
}

/// How the body of `request` is sent, and has its head say so: as the head says, or as is known of the body.
fn coding(request: &mut Request<Outbound>) -> Coding {
    let body = request.body();
    let (is_empty, exact) = (body.is_end_stream(), body.size_hint().exact());
    let headers = request.headers_mut();
    if is_empty {
        headers.remove(header::TRANSFER_ENCODING);
        return Coding::Length(0);
    }
    if headers.contains_key(header::TRANSFER_ENCODING) {
        return chunked(headers);
    }
    if let Ok(Some(length)) = length(headers) {
        return Coding::Length(length);
    }
    let Some(length) = exact else { return chunked(headers) };
    headers.insert(header::CONTENT_LENGTH, HeaderValue::from(length));
    Coding::Length(length)
}

fn chunked(headers: &mut HeaderMap) -> Coding {
    headers.insert(header::TRANSFER_ENCODING, HeaderValue::from_static("chunked"));
    headers.remove(header::CONTENT_LENGTH);
    let lines = headers.get_all(header::TRAILER).iter();
    let names = lines.flat_map(|line| line.as_bytes().split(|byte| *byte == b','));
    Coding::Chunked(names.filter_map(|name| HeaderName::from_bytes(name.trim_ascii()).ok()).collect())
}
