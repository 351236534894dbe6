//! Reads the chunked coding of a response body (RFC 9112 §7.1).

use bytes::{Buf, Bytes, BytesMut};
use http::{HeaderMap, HeaderName, HeaderValue};
use memchr::{memchr2, memmem};

use super::{Http1Error, MAX_LINES};

/// The most bytes of extensions in all chunks of a body, and of one line with the size of a chunk. Extensions are ignored.
const MOST_EXTENSIONS: usize = 16 << 10;

/// The most bytes of trailers.
const MOST_TRAILERS: usize = 16 << 10;

/// What usually follows the last chunk but one: the last chunk, and no trailers.
const END: &[u8] = b"0\r\n\r\n";

/// The position in a chunked body.
#[derive(Debug, Default)]
pub(super) struct Chunks {
    position: Position,
    /// Bytes of extensions so far.
    extensions: usize,
}

#[derive(Debug, Default, Clone, Copy)]
enum Position {
    /// Before the line with a chunk's size.
    #[default]
    Size,
    /// Within a chunk that has so many bytes left.
    Data(u64),
    /// Behind a chunk's last byte.
    DataEnd,
    /// Behind the last chunk.
    Trailers,
    End,
}

/// What comes next in a body.
#[derive(Debug)]
pub(super) enum Piece {
    /// Bytes of a chunk; at least one.
    Data(Bytes),
    /// More has to be read first.
    More,
    /// Nothing; the trailers, if there are any.
    End(Option<HeaderMap>),
}

impl Chunks {
    /// Takes the next piece from what was read. What belongs to a line that is not complete stays there.
    ///
    /// # Errors
    /// [`Http1Error::Chunk`].
    pub(super) fn next(&mut self, read: &mut BytesMut) -> Result<Piece, Http1Error> {
        loop {
            match self.position {
                Position::Data(left) => return Ok(self.data(left, read)),
                Position::DataEnd => match read.as_ref() {
                    [b'\r', b'\n', ..] => {
                        read.advance(2);
                        self.position = Position::Size;
                    }
                    [] | [b'\r'] => return Ok(Piece::More),
                    _ => return Err(Http1Error::Chunk("no line end behind a chunk")),
                },
                Position::Size => match self.size(read)? {
                    None => return Ok(Piece::More),
                    Some(0) => self.position = Position::Trailers,
                    Some(size) => self.position = Position::Data(size),
                },
                Position::Trailers => return self.trailers(read),
                Position::End => return Ok(Piece::End(None)),
            }
        }
    }

    /// Whether nothing comes any more.
    pub(super) fn is_end(&self) -> bool {
        matches!(self.position, Position::End)
    }

    fn data(&mut self, left: u64, read: &mut BytesMut) -> Piece {
        if read.is_empty() {
            return Piece::More;
        }
        let length = usize::try_from(left).unwrap_or(usize::MAX).min(read.len());
        let left = left - length as u64;
        let data = read.split_to(length).freeze();
        self.position = match read.as_ref() {
            _ if left > 0 => Position::Data(left),
            // The end is known along with the last byte, if it came with it.
            [b'\r', b'\n', rest @ ..] if rest.starts_with(END) => {
                read.advance(2 + END.len());
                Position::End
            }
            [b'\r', b'\n', ..] => {
                read.advance(2);
                Position::Size
            }
            _ => Position::DataEnd,
        };
        Piece::Data(data)
    }

    /// The size in the next line; `None` if the line is not complete.
    fn size(&mut self, read: &mut BytesMut) -> Result<Option<u64>, Http1Error> {
        if read.is_empty() {
            return Ok(None);
        }
        let mut size: u64 = 0;
        let mut digits = 0;
        for byte in read.iter() {
            let Some(digit) = char::from(*byte).to_digit(16) else { break };
            size = size
                .checked_mul(16)
                .and_then(|size| size.checked_add(u64::from(digit)))
                .ok_or(Http1Error::Chunk("the size of a chunk is too large"))?;
            digits += 1;
        }
        let rest = read.get(digits..).unwrap_or_default();
        if digits == 0 && !rest.is_empty() {
            return Err(Http1Error::Chunk("the size of a chunk is no number"));
        }
        let Some(behind) = line_end(rest)? else {
            if read.len() > MOST_EXTENSIONS {
                return Err(Http1Error::Chunk("the line with the size of a chunk is too long"));
            }
            return Ok(None);
        };
        self.extensions += behind;
        if self.extensions > MOST_EXTENSIONS {
            return Err(Http1Error::Chunk("too many extensions"));
        }
        read.advance(digits + behind + 2);
        Ok(Some(size))
    }

    fn trailers(&mut self, read: &mut BytesMut) -> Result<Piece, Http1Error> {
        match read.as_ref() {
            [b'\r', b'\n', ..] => {
                read.advance(2);
                self.position = Position::End;
                return Ok(Piece::End(None));
            }
            [] | [b'\r'] => return Ok(Piece::More),
            [b'\r', ..] => return Err(Http1Error::Chunk("no line end behind the last chunk")),
            _ => {}
        }
        let end = memmem::find(read, b"\r\n\r\n");
        if end.unwrap_or(read.len()) > MOST_TRAILERS {
            return Err(Http1Error::Chunk("the trailers are too long"));
        }
        let Some(end) = end else { return Ok(Piece::More) };
        let trailers = parse_trailers(&read.split_to(end + 4))?;
        self.position = Position::End;
        Ok(Piece::End(Some(trailers)))
    }
}

/// How many bytes stand between a chunk's size and the end of its line: spaces, or extensions. `None` if the line is not complete.
fn line_end(rest: &[u8]) -> Result<Option<usize>, Http1Error> {
    let spaces = rest.iter().take_while(|byte| matches!(byte, b' ' | b'\t')).count();
    let end = match rest.get(spaces) {
        None => return Ok(None),
        Some(b'\r') => spaces,
        Some(b';') => match memchr2(b'\r', b'\n', rest) {
            None => return Ok(None),
            Some(end) => end,
        },
        Some(_) => return Err(Http1Error::Chunk("the size of a chunk is no number")),
    };
    match rest.get(end..) {
        Some([b'\r', b'\n', ..]) => Ok(Some(end)),
        Some([b'\r']) => Ok(None),
        _ => Err(Http1Error::Chunk("no line end behind the size of a chunk")),
    }
}

fn parse_trailers(lines: &[u8]) -> Result<HeaderMap, Http1Error> {
    const INVALID: Http1Error = Http1Error::Chunk("the trailers are not valid");
    let mut parsed = [httparse::EMPTY_HEADER; MAX_LINES];
    let Ok(httparse::Status::Complete((length, parsed))) = httparse::parse_headers(lines, &mut parsed) else {
        return Err(INVALID);
    };
    // An empty line that ends with LF alone is no end, and hides nothing.
    if length != lines.len() {
        return Err(INVALID);
    }
    let mut trailers = HeaderMap::with_capacity(parsed.len());
    for line in parsed {
        let name = HeaderName::from_bytes(line.name.as_bytes()).map_err(|_| INVALID)?;
        let value = HeaderValue::from_bytes(line.value).map_err(|_| INVALID)?;
        trailers.append(name, value);
    }
    Ok(trailers)
}
