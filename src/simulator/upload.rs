//! The body of a request: decoded, hashed and counted. Only its first bytes are kept.

use aws_lc_rs::digest;
use bytes::{Bytes, BytesMut};
use http::{HeaderMap, HeaderName, HeaderValue};

/// The most bytes of a body that are kept.
pub(super) const MAX_KEPT_PREFIX: usize = 64 * 1024;
/// The longest chunk-size line or trailer section, bytes.
const MAX_LINES: usize = 16 * 1024;
/// The most trailers.
const MAX_TRAILERS: usize = 64;

/// The body of a request as far as it has been read.
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
        let room = MAX_KEPT_PREFIX.saturating_sub(self.kept.len()).min(bytes.len());
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

    /// The hash of all bytes read so far.
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

/// Decodes the framing of an HTTP/1.1 request body (RFC 9112, sections 6 and 7).
pub(super) enum Decoder {
    Length(u64),
    ChunkSize,
    ChunkData(u64),
    /// The line break after the data of a chunk.
    ChunkEnd,
    Trailers,
    Done,
}

/// One result of a [`Decoder`].
pub(super) enum Decoded {
    Data(Bytes),
    End(HeaderMap),
    /// The next piece is incomplete.
    NeedsMore,
}

/// The framing of the body is invalid.
#[derive(Debug)]
pub(super) struct InvalidBody;

impl Decoder {
    /// Takes the next piece of at most `most` bytes from the front of `read_buffer`.
    pub(super) fn decode(&mut self, read_buffer: &mut BytesMut, most: u64) -> Result<Decoded, InvalidBody> {
        loop {
            match self {
                Self::Length(0) | Self::Done => {
                    *self = Self::Done;
                    return Ok(Decoded::End(HeaderMap::new()));
                }
                Self::Length(left) => return Ok(split(read_buffer, left, most)),
                Self::ChunkData(0) => *self = Self::ChunkEnd,
                Self::ChunkData(left) => return Ok(split(read_buffer, left, most)),
                Self::ChunkSize => match httparse::parse_chunk_size(read_buffer) {
                    Ok(httparse::Status::Complete((line, size))) => {
                        let _ = read_buffer.split_to(line);
                        *self = if size == 0 { Self::Trailers } else { Self::ChunkData(size) };
                    }
                    Ok(httparse::Status::Partial) => return unfinished(read_buffer),
                    Err(_) => return Err(InvalidBody),
                },
                Self::ChunkEnd if read_buffer.len() < 2 => return Ok(Decoded::NeedsMore),
                Self::ChunkEnd => {
                    if *read_buffer.split_to(2) != *b"\r\n" {
                        return Err(InvalidBody);
                    }
                    *self = Self::ChunkSize;
                }
                Self::Trailers => return self.trailers(read_buffer),
            }
        }
    }

    fn trailers(&mut self, read_buffer: &mut BytesMut) -> Result<Decoded, InvalidBody> {
        let mut lines = [httparse::EMPTY_HEADER; MAX_TRAILERS];
        match httparse::parse_headers(read_buffer, &mut lines) {
            Ok(httparse::Status::Complete((end, lines))) => {
                let trailers = header_map(lines).ok_or(InvalidBody)?;
                let _ = read_buffer.split_to(end);
                *self = Self::Done;
                Ok(Decoded::End(trailers))
            }
            Ok(httparse::Status::Partial) => unfinished(read_buffer),
            Err(_) => Err(InvalidBody),
        }
    }
}

/// Parsed header lines as a map; `None` if a name or value is invalid.
pub(super) fn header_map(lines: &[httparse::Header<'_>]) -> Option<HeaderMap> {
    let mut headers = HeaderMap::with_capacity(lines.len());
    for line in lines {
        let name = HeaderName::from_bytes(line.name.as_bytes()).ok()?;
        headers.try_append(name, HeaderValue::from_bytes(line.value).ok()?).ok()?;
    }
    Some(headers)
}

fn split(read_buffer: &mut BytesMut, left: &mut u64, most: u64) -> Decoded {
    let room = usize::try_from((*left).min(most)).unwrap_or(usize::MAX).min(read_buffer.len());
    if room == 0 {
        return Decoded::NeedsMore;
    }
    *left -= room as u64;
    Decoded::Data(read_buffer.split_to(room).freeze())
}

fn unfinished(read_buffer: &BytesMut) -> Result<Decoded, InvalidBody> {
    if read_buffer.len() > MAX_LINES { Err(InvalidBody) } else { Ok(Decoded::NeedsMore) }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Decodes `wire` in pieces of `step` bytes. Returns the body and its trailers, if it is complete.
    fn read(wire: &[u8], step: usize) -> Option<(Vec<u8>, HeaderMap)> {
        let (mut decoder, mut read_buffer, mut body) = (Decoder::ChunkSize, BytesMut::new(), Vec::new());
        for piece in wire.chunks(step) {
            read_buffer.extend_from_slice(piece);
            loop {
                match decoder.decode(&mut read_buffer, u64::MAX).ok()? {
                    Decoded::Data(bytes) => body.extend_from_slice(&bytes),
                    Decoded::End(trailers) => return read_buffer.is_empty().then_some((body, trailers)),
                    Decoded::NeedsMore => break,
                }
            }
        }
        None
    }

    #[test]
    fn chunks_are_joined_wherever_they_are_split() {
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
