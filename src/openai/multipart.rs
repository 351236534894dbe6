//! Reads the few fields of a multipart form that the gateway acts on (RFC 7578, RFC 2046 §5.1).
//!
//! Programs differ in how they read forms that are not quite in order: lines that end in LF alone, two names for one part, encoded
//! parts. Such a form has no facts here, so that nobody else can find another model in it than was checked.

use std::ops::Range;

use memchr::memmem;

use super::{
    edit::{EditPoints, FormPoints},
    facts::{Facts, FactsError, MODEL_LIMIT, Type},
};

/// The longest boundary (RFC 2046 §5.1.1), in bytes.
const LONGEST_BOUNDARY: usize = 70;

/// The most parts of a form that is read. Images are edited with at most 16 images.
const MOST_PARTS: usize = 1000;

/// The boundary that a `content-type` names, if that is `multipart/form-data`.
pub fn boundary(content_type: &str) -> Option<&str> {
    let (essence, parameters) = content_type.split_once(';')?;
    if !essence.trim().eq_ignore_ascii_case("multipart/form-data") {
        return None;
    }
    let mut boundaries = Parameters(parameters).filter(|(name, _)| name.eq_ignore_ascii_case("boundary"));
    let (_, boundary) = boundaries.next()?;
    let fits = (1..=LONGEST_BOUNDARY).contains(&boundary.len()) && !boundary.contains(['\\', '"']);
    (fits && boundaries.next().is_none()).then_some(boundary)
}

impl Facts {
    /// Reads the facts of a whole form with this `boundary`: its fields `model` and `stream`. A form that is not in order has none.
    ///
    /// # Errors
    /// `model` is there twice, is a file, or is too long.
    pub fn read_form(body: &[u8], boundary: &str) -> Result<Self, FactsError> {
        let delimiter = ["--", boundary].concat();
        let Some(parts) = parts(body, delimiter.as_bytes()) else { return Ok(Self::default()) };
        let first = parts.first().map_or(0, |part| part.delimiter);
        let mut facts = Self::default();
        let mut model: Option<Range<usize>> = None;
        for part in parts {
            let Some(head) = body.get(part.head).and_then(FieldHead::read) else {
                return Ok(Self::default());
            };
            let content = body.get(part.content.clone()).unwrap_or_default();
            match head.name {
                "model" if model.is_some() => return Err(FactsError::Duplicate { field: "model" }),
                "model" => {
                    facts.model = Some(name_of(content, &head)?);
                    model = Some(part.content);
                }
                "stream" => facts.stream |= matches!(content, b"true" | b"True" | b"1"),
                _ => {}
            }
        }
        facts.model.take_if(|model| model.is_empty());
        facts.edit_points = EditPoints::Form(Box::new(FormPoints { model, first, delimiter }));
        Ok(facts)
    }
}

fn name_of(content: &[u8], head: &FieldHead<'_>) -> Result<String, FactsError> {
    let text = std::str::from_utf8(content).ok().filter(|text| !head.is_file && !text.contains(['\r', '\n']));
    match text {
        None => Err(FactsError::WrongType { field: "model", expected: Type::String }),
        Some(name) if name.len() > MODEL_LIMIT => Err(FactsError::ModelTooLong),
        Some(name) => Ok(name.to_owned()),
    }
}

/// One part, as offsets in the body.
struct FormField {
    /// Where the delimiter before it begins.
    delimiter: usize,
    head: Range<usize>,
    content: Range<usize>,
}

/// All parts of a body; `None` if it is not in order: another reader might find other parts in it.
fn parts(body: &[u8], delimiter: &[u8]) -> Option<Vec<FormField>> {
    let mut parts = Vec::new();
    // Behind the line of the last delimiter, and where that delimiter begins.
    let mut open: Option<(usize, usize)> = None;
    for at in memmem::find_iter(body, delimiter) {
        let (before, behind) = (body.get(..at)?, body.get(at + delimiter.len()..)?);
        let begins_line = at == 0 || before.ends_with(b"\n") || before.ends_with(b"\r");
        if !begins_line {
            continue;
        }
        let in_order = at == 0 || before.ends_with(b"\r\n");
        let last = behind.strip_prefix(b"--");
        let rest = last.unwrap_or(behind);
        // White space may follow a delimiter.
        let padding = rest.iter().take_while(|byte| matches!(byte, b' ' | b'\t')).count();
        let line_ends = rest.get(padding..)?.starts_with(b"\r\n");
        let is_end = last.is_some() && (line_ends || rest.len() == padding);
        if !in_order || !(line_ends || is_end) {
            return None;
        }
        if let Some((begun, delimiter)) = open {
            let part = body.get(begun..at.checked_sub(2)?)?;
            // A part without a header has no name.
            if part.starts_with(b"\r\n") || parts.len() == MOST_PARTS {
                return None;
            }
            let head = memmem::find(part, b"\r\n\r\n")?;
            let content = begun + head + 4..begun + part.len();
            parts.push(FormField { delimiter, head: begun..begun + head, content });
        }
        if is_end {
            // What follows the end is to be ignored, and so must hold nothing that looks like a part.
            let trailer = rest.get(padding..).unwrap_or_default();
            return memmem::find(trailer, delimiter).is_none().then_some(parts);
        }
        open = Some((body.len() - rest.len() + padding + 2, at));
    }
    None
}

/// What the header of a part says.
struct FieldHead<'b> {
    name: &'b str,
    is_file: bool,
}

impl<'b> FieldHead<'b> {
    /// `None` if it can be read in more than one way.
    fn read(head: &'b [u8]) -> Option<Self> {
        let head = std::str::from_utf8(head).ok()?;
        let mut found = None;
        for line in head.split("\r\n") {
            let (name, value) = line.split_once(':')?;
            if line.starts_with([' ', '\t']) || line.contains(['\r', '\n', '\0']) {
                return None;
            }
            if name.eq_ignore_ascii_case("content-transfer-encoding") {
                let plain = ["binary", "8bit", "7bit"];
                plain.iter().find(|plain| value.trim().eq_ignore_ascii_case(plain))?;
            }
            if name.eq_ignore_ascii_case("content-disposition") {
                let disposition = Self::of_disposition(value)?;
                if found.replace(disposition).is_some() {
                    return None;
                }
            }
        }
        found
    }

    fn of_disposition(value: &'b str) -> Option<Self> {
        let (kind, parameters) = value.split_once(';')?;
        if !kind.trim().eq_ignore_ascii_case("form-data") {
            return None;
        }
        let (mut name, mut is_file) = (None, false);
        for (key, value) in Parameters(parameters) {
            if key.eq_ignore_ascii_case("name") {
                if name.replace(value).is_some() || value.contains('\\') {
                    return None;
                }
            } else if key.eq_ignore_ascii_case("filename") || key.eq_ignore_ascii_case("filename*") {
                is_file = true;
            } else {
                return None;
            }
        }
        Some(Self { name: name?, is_file })
    }
}

/// The parameters of a header's value: `; name=value; name="value"`. What cannot be read ends them as a parameter without a name.
struct Parameters<'t>(&'t str);

impl<'t> Iterator for Parameters<'t> {
    type Item = (&'t str, &'t str);

    fn next(&mut self) -> Option<Self::Item> {
        let text = self.0.trim_start_matches([' ', '\t', ';']);
        if text.is_empty() {
            return None;
        }
        let unreadable = ("", "");
        self.0 = "";
        let Some((name, rest)) = text.split_once('=') else { return Some(unreadable) };
        let Some(quoted) = rest.strip_prefix('"') else {
            let end = rest.find(';').unwrap_or(rest.len());
            let (value, rest) = rest.split_at(end);
            self.0 = rest;
            return Some((name.trim(), value.trim()));
        };
        let Some(end) = end_of_quoted(quoted) else { return Some(unreadable) };
        let rest = quoted.get(end + 1..).unwrap_or_default().trim_start();
        if !rest.is_empty() && !rest.starts_with(';') {
            return Some(unreadable);
        }
        self.0 = rest;
        Some((name.trim(), quoted.get(..end).unwrap_or_default()))
    }
}

/// The offset of the quote that ends a quoted text. A backslash takes the next character with it.
fn end_of_quoted(text: &str) -> Option<usize> {
    let mut escaped = false;
    text.bytes().position(|byte| {
        let ends = byte == b'"' && !escaped;
        escaped = byte == b'\\' && !escaped;
        ends
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::openai::Splices;

    const FILE: &str = "Content-Disposition: form-data; name=\"file\"; filename=\"a \\\"b\\\".mp3\"\r\nContent-Type: audio/mpeg\r\n\r\n\
                        \u{1}\n--x not one\r\nmodel\r\n";
    const MODEL: &str = "content-disposition: form-data; name=\"model\"\r\n\r\nwhisper-1\r\n";

    fn form(parts: &[&str]) -> String {
        let parts: String = parts.iter().map(|part| format!("--xyz\r\n{part}")).collect();
        format!("{parts}--xyz--\r\n")
    }

    fn read(body: &str) -> Result<Facts, String> {
        Facts::read_form(body.as_bytes(), "xyz").map_err(|error| error.to_string())
    }

    #[test]
    fn the_boundary_of_a_form() {
        for (kind, expected) in [
            ("multipart/form-data; boundary=abc", Some("abc")),
            ("Multipart/Form-Data;charset=utf-8;Boundary=\"a b\"", Some("a b")),
            ("multipart/form-data", None),
            ("multipart/form-data; boundary=", None),
            ("multipart/form-data; boundary=a; boundary=b", None),
            ("multipart/mixed; boundary=a", None),
            ("application/json", None),
        ] {
            assert_eq!(boundary(kind), expected, "{kind}");
        }
        assert_eq!(boundary(&format!("multipart/form-data; boundary={}", "b".repeat(71))), None);
    }

    #[test]
    fn the_model_stands_anywhere() {
        let stream =
            "Content-Disposition: form-data; name=stream\r\nContent-Type: text/plain\r\n\r\ntrue\r\n";
        for parts in [[FILE, MODEL, stream], [MODEL, stream, FILE], [stream, FILE, MODEL]] {
            let facts = read(&form(&parts)).unwrap();
            assert_eq!((facts.model.as_deref(), facts.stream), (Some("whisper-1"), true));
        }
        let facts = read(&format!("preamble\r\n{}epilogue", form(&[FILE]))).unwrap();
        assert_eq!((facts.model.as_deref(), facts.stream), (None, false));
        assert_ne!(facts.edit_points, EditPoints::NotAnObject);
    }

    #[test]
    fn a_model_is_replaced_or_added_and_nothing_else_changes() {
        let with = |parts: &[&str], name: &str| {
            let body = form(parts);
            let mut splices = Splices::new();
            splices.set_model(&read(&body).unwrap().edit_points, name).unwrap();
            String::from_utf8(splices.apply(body.as_bytes()).unwrap()).unwrap()
        };
        let other = MODEL.replace("whisper-1", "large");
        assert_eq!(with(&[FILE, MODEL], "large"), form(&[FILE, &other]));
        let added = "Content-Disposition: form-data; name=\"model\"\r\n\r\nlarge\r\n";
        assert_eq!(with(&[FILE], "large"), form(&[added, FILE]));
        let mut splices = Splices::new();
        let points = read(&form(&[MODEL])).unwrap().edit_points;
        assert!(splices.set_model(&points, "a\r\n--xyz").is_err());
    }

    #[test]
    fn what_another_reader_may_read_differently_has_no_facts() {
        let twice = "Content-Disposition: form-data; name=\"model\"; name=\"x\"\r\n\r\na\r\n";
        let folded = "Content-Disposition: form-data;\r\n name=\"model\"\r\n\r\na\r\n";
        let encoded = "Content-Disposition: form-data; name=\"model\"\r\nContent-Transfer-Encoding: base64\r\n\r\nYQ==\r\n";
        let extended = "Content-Disposition: form-data; name*=utf-8''model\r\n\r\na\r\n";
        let escaped = "Content-Disposition: form-data; name=\"mod\\el\"\r\n\r\na\r\n";
        let nameless = "Content-Type: text/plain\r\n\r\na\r\n";
        let headless = "\r\na\r\n\r\nContent-Disposition: form-data; name=\"x\"\r\n\r\n";
        for part in [twice, folded, encoded, extended, escaped, nameless, headless] {
            assert_eq!(read(&form(&[MODEL, part])).unwrap(), Facts::default(), "{part}");
        }
        for body in [
            String::new(),
            form(&[MODEL]).replace("\r\n", "\n"),
            form(&[MODEL, FILE]).replace("\n--x not", "\n--xyz\nnot"),
            form(&[MODEL]).replace("--xyz--", "--xyz"),
            form(&[MODEL]).replace("--xyz--\r\n", ""),
            format!("{}{}", form(&[MODEL]), form(&[MODEL])),
            form(&[MODEL]).replace("--xyz\r\n", "--xyzzy\r\n"),
        ] {
            assert_eq!(read(&body).unwrap(), Facts::default(), "{body}");
        }
    }

    #[test]
    fn a_model_that_is_none_is_refused() {
        assert_eq!(read(&form(&[MODEL, FILE, MODEL])).unwrap_err(), "`model` is given more than once");
        let file = MODEL.replace("\"model\"", "\"model\"; filename=\"m\"");
        assert_eq!(read(&form(&[&file])).unwrap_err(), "`model` is not a string");
        let long = MODEL.replace("whisper-1", &"m".repeat(513));
        assert_eq!(read(&form(&[&long])).unwrap_err(), "`model` is longer than 512 bytes");
    }
}
