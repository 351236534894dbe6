//! A reader of HTTP/1.1 that takes nothing but the canonical form (RFC 9112), and shares no code with the gateway.

/// A request, as it can be read in one way only.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Request {
    pub method: String,
    pub target: String,
    pub headers: Vec<(String, Vec<u8>)>,
    pub body: Vec<u8>,
    pub trailers: Vec<(String, Vec<u8>)>,
}

/// An answer, as far as these tests look at it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Answer {
    pub status: u16,
    pub headers: Vec<(String, Vec<u8>)>,
    pub body: Vec<u8>,
}

/// Why bytes are not what was looked for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Not {
    /// There may be more to come.
    Yet,
    /// They never will be.
    Canonical(String),
}

type Fields = Vec<(String, Vec<u8>)>;

/// Never on the way to an upstream: what belongs to one connection (RFC 9110 §7.6.1, RFC 7540 §3.2.1), and what the gateway answers
/// itself (`expect`).
const HOP_BY_HOP: [&str; 9] = [
    "connection",
    "keep-alive",
    "te",
    "upgrade",
    "http2-settings",
    "expect",
    "proxy-authorization",
    "proxy-connection",
    "proxy-authenticate",
];

/// The request at the start of `bytes`, and how long it is.
pub fn request(bytes: &[u8]) -> Result<(Request, usize), Not> {
    let mut reader = Reader { bytes, at: 0 };
    let line = text(reader.line()?)?;
    let parts: Vec<_> = line.split(' ').collect();
    let [method, target, "HTTP/1.1"] = parts[..] else {
        return not(format!("request line {line:?} (RFC 9112 §3)"));
    };
    demand(is_token(method), || format!("method {method:?} (RFC 9110 §9.1)"))?;
    demand(is_target(target), || format!("target {target:?} (RFC 9112 §3.2.1, RFC 3986 §3.3)"))?;
    let headers = reader.fields()?;
    let count = |name: &str| headers.iter().filter(|(known, _)| known == name).count();
    demand(count("host") == 1, || format!("{} hosts (RFC 9112 §3.2)", count("host")))?;
    for (name, _) in &headers {
        demand(!HOP_BY_HOP.contains(&name.as_str()), || format!("hop-by-hop {name}"))?;
        // CGI and its heirs read both as the same variable (RFC 3875 §4.1.18).
        let alike = name.replace('_', "-");
        let framing = ["content-length", "transfer-encoding", "host"].contains(&alike.as_str());
        demand(!framing || alike == *name, || format!("{name} reads as {alike}"))?;
    }
    let (body, trailers) = reader.body(&headers)?;
    let [method, target] = [method, target].map(str::to_owned);
    Ok((Request { method, target, headers, body, trailers }, reader.at))
}

/// The answer at the start of `bytes`, and how long it is.
pub fn answer(bytes: &[u8]) -> Result<(Answer, usize), Not> {
    let mut reader = Reader { bytes, at: 0 };
    let line = text(reader.line()?)?;
    let status = line.strip_prefix("HTTP/1.1 ").or_else(|| line.strip_prefix("HTTP/1.0 "));
    let status = status.and_then(|rest| rest.get(..3)).and_then(|digits| digits.parse().ok());
    let Some(status) = status else { return not(format!("status line {line:?} (RFC 9112 §4)")) };
    let headers = reader.fields()?;
    let bodiless = matches!(status, 100..=199 | 204 | 304);
    let body = if bodiless { Vec::new() } else { reader.body(&headers)?.0 };
    Ok((Answer { status, headers, body }, reader.at))
}

/// All answers in `bytes`, which hold nothing else.
pub fn answers(mut bytes: &[u8]) -> Vec<Answer> {
    let mut answers = Vec::new();
    while !bytes.is_empty() {
        let (answer, length) = answer(bytes)
            .unwrap_or_else(|not| panic!("{not:?} after {answers:?}: {:?}", String::from_utf8_lossy(bytes)));
        answers.push(answer);
        bytes = &bytes[length..];
    }
    answers
}

struct Reader<'b> {
    bytes: &'b [u8],
    at: usize,
}

impl<'b> Reader<'b> {
    /// To the next CRLF, which is not part of it. No other CR or LF is allowed (RFC 9112 §2.2).
    fn line(&mut self) -> Result<&'b [u8], Not> {
        let rest = &self.bytes[self.at..];
        let Some(end) = rest.windows(2).position(|pair| pair == b"\r\n") else { return Err(Not::Yet) };
        let line = &rest[..end];
        demand(!line.iter().any(|byte| matches!(byte, b'\r' | b'\n')), || {
            format!("bare CR or LF in {:?} (RFC 9112 §2.2)", String::from_utf8_lossy(line))
        })?;
        self.at += end + 2;
        Ok(line)
    }

    fn take(&mut self, length: usize) -> Result<&'b [u8], Not> {
        let taken = self.bytes[self.at..].get(..length).ok_or(Not::Yet)?;
        self.at += length;
        Ok(taken)
    }

    /// Field lines to the empty line (RFC 9112 §5).
    fn fields(&mut self) -> Result<Fields, Not> {
        let mut fields = Vec::new();
        loop {
            let line = self.line()?;
            if line.is_empty() {
                return Ok(fields);
            }
            let shown = || String::from_utf8_lossy(line).into_owned();
            let Some(colon) = line.iter().position(|byte| *byte == b':') else {
                return not(format!("no colon in {:?} (RFC 9112 §5)", shown()));
            };
            let name = std::str::from_utf8(&line[..colon]).unwrap_or_default().to_ascii_lowercase();
            demand(is_token(&name), || format!("name in {:?} (RFC 9112 §5.1)", shown()))?;
            let value = line[colon + 1..].trim_ascii();
            let vchar = |byte: &u8| matches!(byte, b'\t' | b' '..=b'~' | 0x80..);
            demand(value.iter().all(vchar), || format!("value in {:?} (RFC 9110 §5.5)", shown()))?;
            fields.push((name, value.to_vec()));
        }
    }

    /// RFC 9112 §6.3, with nothing left to interpretation.
    fn body(&mut self, headers: &Fields) -> Result<(Vec<u8>, Fields), Not> {
        let all = |name| -> Vec<_> {
            headers.iter().filter(|(known, _)| known == name).map(|(_, value)| value).collect()
        };
        let (codings, lengths) = (all("transfer-encoding"), all("content-length"));
        match (&codings[..], &lengths[..]) {
            ([], []) => Ok((Vec::new(), Vec::new())),
            ([coding], []) if *coding == b"chunked" => self.chunks(),
            ([], [length]) => {
                let length = std::str::from_utf8(length).unwrap_or_default();
                let number = length.parse::<usize>().ok().filter(|number| number.to_string() == *length);
                let Some(number) = number else { return not(format!("length {length:?} (RFC 9110 §8.6)")) };
                Ok((self.take(number)?.to_vec(), Vec::new()))
            }
            _ => not(format!("framed by {codings:?} and {lengths:?} (RFC 9112 §6.3)")),
        }
    }

    /// RFC 9112 §7.1, without extensions.
    fn chunks(&mut self) -> Result<(Vec<u8>, Fields), Not> {
        let mut body = Vec::new();
        loop {
            let line = text(self.line()?)?;
            let digits = !line.is_empty() && line.bytes().all(|byte| byte.is_ascii_hexdigit());
            let size = digits.then(|| usize::from_str_radix(line, 16).ok()).flatten();
            let Some(size) = size else { return not(format!("chunk size {line:?} (RFC 9112 §7.1)")) };
            if size == 0 {
                return Ok((body, self.fields()?));
            }
            body.extend_from_slice(self.take(size)?);
            demand(self.take(2)? == b"\r\n", || "a chunk without its CRLF (RFC 9112 §7.1)".to_owned())?;
        }
    }
}

fn not<T>(why: String) -> Result<T, Not> {
    Err(Not::Canonical(why))
}

fn demand(what: bool, why: impl FnOnce() -> String) -> Result<(), Not> {
    if what { Ok(()) } else { not(why()) }
}

fn text(line: &[u8]) -> Result<&str, Not> {
    std::str::from_utf8(line).or_else(|_| not(format!("{line:?} is no text")))
}

fn is_token(text: &str) -> bool {
    !text.is_empty()
        && text.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&byte))
}

/// Origin form: segments of `pchar`, none of them a dot segment, and a query, in which browsers' standard allows more of ASCII than RFC 3986.
fn is_target(target: &str) -> bool {
    let (path, query) = target.split_once('?').unwrap_or((target, ""));
    let plain = |text: &str| {
        text.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"-._~!$&'()*+,;=:@/?%".contains(&byte))
    };
    path.starts_with('/')
        && plain(path)
        && query.bytes().all(|byte| byte.is_ascii_graphic())
        && !path.split('/').any(|segment| segment == "." || segment == "..")
}
