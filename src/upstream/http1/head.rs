//! The heads of requests and responses on the wire.

use std::{io::Write, mem::MaybeUninit, ops::Range};

use bytes::{Bytes, BytesMut};
use http::{HeaderMap, HeaderName, HeaderValue, Method, Request, Response, StatusCode, Version, header};
use httparse::{Header, ParserConfig, Status};
use hyper::ext::ReasonPhrase;
use memchr::{memchr_iter, memmem};

use super::{Framing, Http1Error, MAX_HEAD, MAX_LINES};

/// Bytes of a head that is not complete which are parsed again when more has come. A longer one is parsed when its end has come, so that a
/// head that comes byte by byte is not read over and over.
const SOON: usize = 8 << 10;

/// Room for the headers that are added to those of a response before it goes to the client, so that its map need not grow: ids and what is left of limits.
const ADDED: usize = 8;

/// A response head, and what it says about what follows.
#[derive(Debug)]
pub(super) struct ResponseHead {
    pub(super) response: Response<()>,
    pub(super) framing: Framing,
    /// Whether the connection may take another request afterwards.
    pub(super) keep_alive: bool,
}

/// Writes the head of a request.
pub(super) fn write<B>(request: &Request<B>) -> Vec<u8> {
    // The names and values of SDKs have about 30 bytes each together.
    let mut head = Vec::with_capacity(128 + 48 * request.headers().len());
    head.extend_from_slice(request.method().as_str().as_bytes());
    head.push(b' ');
    let uri = request.uri();
    match uri.path_and_query() {
        Some(path) if uri.scheme().is_none() => head.extend_from_slice(path.as_str().as_bytes()),
        // Writing to memory cannot fail.
        _ => _ = write!(head, "{uri}"),
    }
    head.extend_from_slice(b" HTTP/1.1\r\n");
    write_lines(&mut head, request.headers());
    head.extend_from_slice(b"\r\n");
    head
}

/// Writes the lines of headers or trailers.
pub(super) fn write_lines(into: &mut Vec<u8>, headers: &HeaderMap) {
    for (name, value) in headers {
        for part in [name.as_str().as_bytes(), b": ", value.as_bytes(), b"\r\n"] {
            into.extend_from_slice(part);
        }
    }
}

/// Takes the head of the final response to a request with this method from what was read, and the interim responses (1xx) before it, which are
/// ignored. `None`: it is not complete. `searched` is 0 for a new response, and then left as it is.
///
/// Two things are read that are not quite HTTP: a space before a colon, which a proxy must remove from a response (RFC 9112 §5.1), and a value that goes
/// on in the next line, which it may replace by spaces (§5.2).
///
/// # Errors
/// One for which [`Http1Error::is_unreadable`] holds.
pub(super) fn read(
    read: &mut BytesMut,
    method: &Method,
    searched: &mut usize,
    names: &mut KnownNames,
) -> Result<Option<ResponseHead>, Http1Error> {
    while !read.is_empty() {
        let is_long = read.len() > SOON;
        let parsed = if is_long && !has_end(read, searched) { None } else { parse(read, method, names)? };
        let Some((length, head)) = parsed else {
            return if read.len() > MAX_HEAD { Err(Http1Error::HeadTooLarge) } else { Ok(None) };
        };
        *searched = 0;
        if length > MAX_HEAD {
            return Err(Http1Error::HeadTooLarge);
        }
        if head.is_some() {
            return Ok(head);
        }
    }
    Ok(None)
}

/// Takes one head, with its length; no head if it is that of an interim response.
fn parse(
    read: &mut BytesMut,
    method: &Method,
    names: &mut KnownNames,
) -> Result<Option<(usize, Option<ResponseHead>)>, Http1Error> {
    let mut config = ParserConfig::default();
    config.allow_spaces_after_header_name_in_responses(true);
    config.allow_obsolete_multiline_headers_in_responses(true);
    let mut lines = [const { MaybeUninit::<Header<'_>>::uninit() }; MAX_LINES];
    let mut parsed = httparse::Response::new(&mut []);
    let status = config.parse_response_with_uninit_headers(&mut parsed, read, &mut lines);
    let Status::Complete(length) = status.map_err(Http1Error::Head)? else { return Ok(None) };
    let code = parsed.code.unwrap_or_default();
    let status = StatusCode::from_u16(code).map_err(|_| Http1Error::Head(httparse::Error::Status))?;
    if status.is_informational() && status != StatusCode::SWITCHING_PROTOCOLS {
        _ = read.split_to(length);
        return Ok(Some((length, None)));
    }
    let version = if parsed.version == Some(1) { Version::HTTP_11 } else { Version::HTTP_10 };
    let reason = parsed.reason.filter(|reason| Some(*reason) != status.canonical_reason());
    let reason = reason.and_then(|reason| ReasonPhrase::try_from(reason.as_bytes()).ok());
    let mut positions = [LinePosition::default(); MAX_LINES];
    let count = parsed.headers.len();
    let start = read.as_ptr() as usize;
    for (line, position) in parsed.headers.iter().zip(&mut positions) {
        *position = LinePosition::of(line, start)?;
    }
    let bytes = read.split_to(length).freeze();
    let mut response = Response::new(());
    *response.status_mut() = status;
    *response.version_mut() = version;
    if let Some(reason) = reason {
        response.extensions_mut().insert(reason);
    }
    response.headers_mut().reserve(count + ADDED);
    let is_folded = memmem::find(&bytes, b"\n ").is_some() || memmem::find(&bytes, b"\n\t").is_some();
    for (number, position) in positions.iter().take(count).enumerate() {
        let name = names.get(number, bytes.get(position.name()).unwrap_or_default())?;
        let value = bytes.slice(position.value());
        let value = if is_folded { unfold(&value) } else { value };
        let value = HeaderValue::from_maybe_shared(value);
        let value = value.map_err(|_| Http1Error::Head(httparse::Error::HeaderValue))?;
        response.headers_mut().append(name, value);
    }
    let framing = framing(&response, method)?;
    let keep_alive = keeps_alive(version, response.headers()) && !has_two_lengths(response.headers());
    Ok(Some((length, Some(ResponseHead { response, framing, keep_alive }))))
}

/// The names in the last head of a connection, by the number of their line; at most [`MAX_LINES`]. The heads of one upstream's responses nearly always have the
/// same names in the same order, and a name that is known need not be looked up.
#[derive(Debug, Default)]
pub(super) struct KnownNames(Vec<HeaderName>);

impl KnownNames {
    /// The name that is written as `raw` in the line with this number.
    fn get(&mut self, number: usize, raw: &[u8]) -> Result<HeaderName, Http1Error> {
        let known = self.0.get(number);
        if let Some(known) = known.filter(|known| known.as_str().as_bytes().eq_ignore_ascii_case(raw)) {
            return Ok(known.clone());
        }
        let name = HeaderName::from_bytes(raw);
        let name = name.map_err(|_| Http1Error::Head(httparse::Error::HeaderName))?;
        match self.0.get_mut(number) {
            Some(known) => known.clone_from(&name),
            None => self.0.push(name.clone()),
        }
        Ok(name)
    }
}

/// Where a line stands in its head.
#[derive(Debug, Clone, Copy, Default)]
struct LinePosition {
    name: u32,
    name_length: u32,
    value: u32,
    value_length: u32,
}

impl LinePosition {
    /// The position of a line in a head that begins at the address `start`.
    fn of(line: &Header<'_>, start: usize) -> Result<Self, Http1Error> {
        let number = |number: usize| u32::try_from(number).map_err(|_| Http1Error::HeadTooLarge);
        Ok(Self {
            name: number(line.name.as_ptr() as usize - start)?,
            name_length: number(line.name.len())?,
            value: number(line.value.as_ptr() as usize - start)?,
            value_length: number(line.value.len())?,
        })
    }

    fn name(self) -> Range<usize> {
        self.name as usize..(self.name + self.name_length) as usize
    }

    fn value(self) -> Range<usize> {
        self.value as usize..(self.value + self.value_length) as usize
    }
}

/// Whether an empty line is in what was read. It is not among the first bytes that were `searched`, except for the last ones of these.
fn has_end(read: &[u8], searched: &mut usize) -> bool {
    let new = read.get(searched.saturating_sub(2)..).unwrap_or_default();
    let found = memchr_iter(b'\n', new)
        .any(|line_end| matches!(new.get(line_end + 1..), Some([b'\n', ..] | [b'\r', b'\n', ..])));
    *searched = read.len();
    found
}

/// A value in one line: RFC 9112 §5.2 has a proxy replace what a line end and the spaces around it are by a space.
fn unfold(value: &[u8]) -> Bytes {
    let lines = value.split(|byte| *byte == b'\n').map(<[u8]>::trim_ascii);
    lines.collect::<Vec<_>>().join(&b' ').into()
}

/// How the end of the response's body is found (RFC 9112 §6.3).
fn framing(response: &Response<()>, method: &Method) -> Result<Framing, Http1Error> {
    let headers = response.headers();
    match response.status() {
        StatusCode::SWITCHING_PROTOCOLS => return Ok(Framing::Switched),
        StatusCode::NO_CONTENT | StatusCode::NOT_MODIFIED => return Ok(Framing::Length(0)),
        _ if *method == Method::HEAD => return Ok(Framing::Length(0)),
        _ => {}
    }
    if let Some(last) = headers.get_all(header::TRANSFER_ENCODING).iter().next_back() {
        if response.version() == Version::HTTP_10 {
            return Err(Http1Error::Coding);
        }
        let last = last.as_bytes().rsplit(|byte| *byte == b',').next().unwrap_or_default();
        let is_chunked = last.trim_ascii().eq_ignore_ascii_case(b"chunked");
        return Ok(if is_chunked { Framing::Chunked(Default::default()) } else { Framing::UntilClose });
    }
    Ok(length(headers)?.map_or(Framing::UntilClose, Framing::Length))
}

/// The length that the headers announce. Several equal ones are one.
pub(super) fn length(headers: &HeaderMap) -> Result<Option<u64>, Http1Error> {
    let mut length = None;
    for line in headers.get_all(header::CONTENT_LENGTH) {
        for number in line.as_bytes().split(|byte| *byte == b',') {
            let number = number.trim_ascii();
            let digits = str::from_utf8(number).ok().filter(|_| number.iter().all(u8::is_ascii_digit));
            let number: u64 = digits.and_then(|digits| digits.parse().ok()).ok_or(Http1Error::Length)?;
            if length.is_some_and(|known| known != number) {
                return Err(Http1Error::Length);
            }
            length = Some(number);
        }
    }
    Ok(length)
}

/// Whether two readers may find the end of the body in different places. RFC 9112 §6.3: the coding counts, and the connection is closed afterwards.
fn has_two_lengths(headers: &HeaderMap) -> bool {
    headers.contains_key(header::TRANSFER_ENCODING) && headers.contains_key(header::CONTENT_LENGTH)
}

/// Whether the connection stays open after the response (RFC 9112 §9.3). One `close` in any line ends it.
fn keeps_alive(version: Version, headers: &HeaderMap) -> bool {
    let has = |wanted: &[u8]| {
        let lines = headers.get_all(header::CONNECTION).iter();
        lines
            .flat_map(|line| line.as_bytes().split(|byte| *byte == b','))
            .any(|token| token.trim_ascii().eq_ignore_ascii_case(wanted))
    };
    !has(b"close") && (version == Version::HTTP_11 || has(b"keep-alive"))
}
