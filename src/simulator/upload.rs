//! The body of a request: decoded, hashed, counted, and only its beginning kept.

use aws_lc_rs::digest;
use bytes::{Bytes, BytesMut};
use http::{HeaderMap, HeaderName, HeaderValue};

/// How much of a body is kept, bytes.
pub(super) const KEPT: usize = 64 * 1024;
/// The longest chunk-size line or trailer section, bytes.
const MAX_LINES: usize = 16 * 1024;
/// The most trailers.
const MAX_TRAILERS: usize = 64;

/// What is known of a request's body so far.
pub(super) struct Upload {
    digest: digest::Context,
    length: u64,
    kept: BytesMut,
    trailers: HeaderMap,
    complete: bool,
}

impl Upload {
    pub(super) fn new() -> Self {
        Self {
            digest: digest::Context::new(&digest::SHA256),
            length: 0,
            kept: BytesMut::new(),
            trailers: HeaderMap::new(),
            complete: false,
        }
    }

    pub(super) fn take(&mut self, bytes: &[u8]) {
        self.digest.update(bytes);
        self.length += bytes.len() as u64;
        let room = KEPT.saturating_sub(self.kept.len()).min(bytes.len());
        self.kept.extend_from_slice(bytes.get(..room).unwrap_or_default());
    }

    pub(super) fn finish(&mut self, trailers: HeaderMap) {
        self.trailers = trailers;
        self.complete = true;
    }

    pub(super) fn complete(&self) -> bool {
        self.complete
    }

    pub(super) fn length(&self) -> u64 {
        self.length
    }

    pub(super) fn kept(&self) -> &[u8] {
        &self.kept
    }

    pub(super) fn trailers(&self) -> &HeaderMap {
        &self.trailers
    }

    /// Of what has been read so far.
    pub(super) fn sha256(&self) -> [u8; 32] {
        self.digest.clone().finish().as_ref().try_into().unwrap_or_default()
    }

    pub(super) fn sha256_hex(&self) -> String {
        hex(&self.sha256())
    }
}

/// Lowercase hex.
pub(super) fn hex(bytes: &[u8]) -> String {
    use std::fmt::Write as _;
    bytes.iter().fold(String::with_capacity(bytes.len() * 2), |mut text, byte| {
        // Writing into memory cannot fail.
        let _ = write!(text, "{byte:02x}");
        text
    })
}

/// Finds the end of an HTTP/1.1 request body (RFC 9112, sections 6 and 7).
pub(super) enum Decoder {
    Length(u64),
    ChunkSize,
    ChunkData(u64),
    /// The line end after a chunk's data.
    ChunkEnd,
    Trailers,
    Done,
}

/// What a [`Decoder`] found.
pub(super) enum Found {
    Data(Bytes),
    End(HeaderMap),
    /// More bytes are needed.
    Nothing,
}

/// A body that breaks the rules of its framing.
#[derive(Debug)]
pub(super) struct Broken;

impl Decoder {
    /// Takes the next piece from the front of `inbox`, of at most `most` bytes.
    pub(super) fn decode(&mut self, inbox: &mut BytesMut, most: u64) -> Result<Found, Broken> {
        loop {
            match self {
                Self::Length(0) | Self::Done => {
                    *self = Self::Done;
                    return Ok(Found::End(HeaderMap::new()));
                }
                Self::Length(left) => return Ok(split(inbox, left, most)),
                Self::ChunkData(0) => *self = Self::ChunkEnd,
                Self::ChunkData(left) => return Ok(split(inbox, left, most)),
                Self::ChunkSize => match httparse::parse_chunk_size(inbox) {
                    Ok(httparse::Status::Complete((line, size))) => {
                        let _ = inbox.split_to(line);
                        *self = if size == 0 { Self::Trailers } else { Self::ChunkData(size) };
                    }
                    Ok(httparse::Status::Partial) => return unfinished(inbox),
                    Err(_) => return Err(Broken),
                },
                Self::ChunkEnd if inbox.len() < 2 => return Ok(Found::Nothing),
                Self::ChunkEnd => {
                    if *inbox.split_to(2) != *b"\r\n" {
                        return Err(Broken);
                    }
                    *self = Self::ChunkSize;
                }
                Self::Trailers => return self.trailers(inbox),
            }
        }
    }

    fn trailers(&mut self, inbox: &mut BytesMut) -> Result<Found, Broken> {
        let mut lines = [httparse::EMPTY_HEADER; MAX_TRAILERS];
        match httparse::parse_headers(inbox, &mut lines) {
            Ok(httparse::Status::Complete((end, lines))) => {
                let trailers = header_map(lines).ok_or(Broken)?;
                let _ = inbox.split_to(end);
                *self = Self::Done;
                Ok(Found::End(trailers))
            }
            Ok(httparse::Status::Partial) => unfinished(inbox),
            Err(_) => Err(Broken),
        }
    }
}

/// Parsed header lines as a map; nothing if a name or value is none.
pub(super) fn header_map(lines: &[httparse::Header<'_>]) -> Option<HeaderMap> {
    let mut headers = HeaderMap::with_capacity(lines.len());
    for line in lines {
        let name = HeaderName::from_bytes(line.name.as_bytes()).ok()?;
        headers.try_append(name, HeaderValue::from_bytes(line.value).ok()?).ok()?;
    }
    Some(headers)
}

fn split(inbox: &mut BytesMut, left: &mut u64, most: u64) -> Found {
    let room = usize::try_from((*left).min(most)).unwrap_or(usize::MAX).min(inbox.len());
    if room == 0 {
        return Found::Nothing;
    }
    *left -= room as u64;
    Found::Data(inbox.split_to(room).freeze())
}

fn unfinished(inbox: &BytesMut) -> Result<Found, Broken> {
    if inbox.len() > MAX_LINES { Err(Broken) } else { Ok(Found::Nothing) }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Feeds `wire` in pieces of `step` bytes; the body and its trailers, once its end is found.
    fn read(wire: &[u8], step: usize) -> Option<(Vec<u8>, HeaderMap)> {
        let (mut decoder, mut inbox, mut body) = (Decoder::ChunkSize, BytesMut::new(), Vec::new());
        for piece in wire.chunks(step) {
            inbox.extend_from_slice(piece);
            loop {
                match decoder.decode(&mut inbox, u64::MAX).ok()? {
                    Found::Data(bytes) => body.extend_from_slice(&bytes),
                    Found::End(trailers) => return inbox.is_empty().then_some((body, trailers)),
                    Found::Nothing => break,
                }
            }
        }
        None
    }

    #[test]
    fn chunks_are_joined_however_they_arrive() {
        let wire = b"3;note=x\r\nabc\r\nA\r\n0123456789\r\n0\r\nX-Sum: 7\r\n\r\n";
        for step in 1..=wire.len() {
            let (body, trailers) = read(wire, step).unwrap();
            assert_eq!(
                (body.as_slice(), trailers.get("x-sum").unwrap().as_bytes()),
                (&b"abc0123456789"[..], &b"7"[..])
            );
        }
        assert!(read(b"3\r\nabcX\r\n0\r\n\r\n", 64).is_none());
        assert!(read(b"z\r\n", 64).is_none());
    }
}
