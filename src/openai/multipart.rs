//! Reads the few fields of a multipart form that the gateway acts on (RFC 7578, RFC 2046 §5.1).
//!
//! Programs differ in how they read forms that are not quite in order: lines that end in LF alone, two names for one part, encoded
//! parts. Such a form has no facts here, so that nobody else can find another model in it than was checked.

use std::ops::Range;

use memchr::memmem;

use super::{
    edit::{EditPoints, FormPoints},
    facts::{Facts, FactsError, MODEL_LIMIT, Type},
    session_models::SessionModels,
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
    /// Reads the facts of a whole form with this `boundary`, as [`FormReader`] does.
    ///
    /// # Errors
    /// As for [`FormReader::finish`].
    pub fn read_form(body: &[u8], boundary: &str) -> Result<Self, FactsError> {
        let mut reader = FormReader::new(boundary);
        reader.feed(body);
        reader.finish()
    }
}

/// Reads a form as it arrives: its fields `model` and `stream`. Of the form it keeps no more than a piece, and the header of one part.
#[derive(Debug)]
pub struct FormReader {
    /// Two hyphens and the boundary.
    delimiter: String,
    /// What has arrived and may be needed.
    window: Vec<u8>,
    /// Where the window begins in the form.
    offset: usize,
    /// Where what was not read yet begins in the window.
    start: usize,
    /// In the window: what is looked for does not begin before this.
    searched: usize,
    state: State,
    /// The part whose content is being read.
    part: Option<FormPart>,
    /// Parts that are over.
    parts: usize,
    /// Where the first delimiter begins.
    first: usize,
    facts: Facts,
    /// The content of the field `model`.
    model: Option<Range<usize>>,
    problem: Option<FactsError>,
    /// Whether the model stands in the field `session`, a JSON text.
    in_session: bool,
}

/// What is read next.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    /// Anything up to the next delimiter: the content of a part, or what comes before the first.
    Text,
    /// What follows a delimiter at once: two hyphens behind the last one.
    Delimited,
    /// The end of a delimiter's line.
    Padding { is_last: bool },
    /// The header of a part.
    Head,
    /// What follows the last delimiter, and is to be ignored.
    Epilogue,
    /// Another reader might find other parts in the form.
    Unreadable,
}

/// A part whose content is being read.
#[derive(Debug)]
struct FormPart {
    field: Field,
    is_file: bool,
    /// Where its content begins in the form.
    begin: usize,
    /// The content of a field that is read, as far as it is kept.
    kept: Vec<u8>,
    /// Whether there is more content than is kept.
    is_longer: bool,
}

/// A field of the form.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Field {
    Model,
    Stream,
    Session,
    Other,
}

impl Field {
    /// How much of its content is kept, in bytes.
    fn kept(self) -> usize {
        match self {
            Self::Model | Self::Stream => MODEL_LIMIT + 1,
            Self::Session => 64 << 10,
            Self::Other => 0,
        }
    }
}

/// The form is copied into the window in pieces of this size, in bytes.
const PIECE: usize = 32 << 10;

/// The longest header of a part, in bytes.
const LONGEST_HEAD: usize = 16 << 10;

impl FormReader {
    /// A reader of a form with this `boundary`.
    pub fn new(boundary: &str) -> Self {
        Self {
            delimiter: ["--", boundary].concat(),
            window: Vec::new(),
            offset: 0,
            start: 0,
            searched: 0,
            state: State::Text,
            part: None,
            parts: 0,
            first: 0,
            facts: Facts::default(),
            model: None,
            problem: None,
            in_session: false,
        }
    }

    /// A reader of a form whose field `session` is a Realtime session, and names the model.
    pub fn of_session(boundary: &str) -> Self {
        Self { in_session: true, ..Self::new(boundary) }
    }

    /// Reads the next bytes of the form.
    pub fn feed(&mut self, bytes: &[u8]) {
        for piece in bytes.chunks(PIECE) {
            if self.state == State::Unreadable {
                return;
            }
            self.window.extend_from_slice(piece);
            while self.step() {}
            self.window.drain(..self.start);
            self.offset += self.start;
            self.searched = self.searched.saturating_sub(self.start);
            self.start = 0;
        }
    }

    /// The facts of the form, which is over. A form that is not in order has none.
    ///
    /// # Errors
    /// `model` is there twice, is a file, or is too long.
    pub fn finish(self) -> Result<Facts, FactsError> {
        let is_whole = match self.state {
            State::Epilogue => true,
            State::Padding { is_last } => is_last && self.rest().is_empty(),
            State::Text | State::Delimited | State::Head | State::Unreadable => false,
        };
        if !is_whole {
            return Ok(Facts::default());
        }
        if let Some(problem) = self.problem {
            return Err(problem);
        }
        let Self { mut facts, model, first, delimiter, in_session, .. } = self;
        facts.model.take_if(|model| model.is_empty());
        let points = FormPoints { model, is_json: in_session, first, delimiter };
        facts.edit_points = EditPoints::Form(Box::new(points));
        Ok(facts)
    }

    fn rest(&self) -> &[u8] {
        self.window.get(self.start..).unwrap_or_default()
    }

    /// Reads on. False: more of the form is needed.
    fn step(&mut self) -> bool {
        match self.state {
            State::Text => self.text(),
            State::Delimited => self.delimited(),
            State::Padding { is_last } => self.padding(is_last),
            State::Head => self.head(),
            State::Epilogue => self.epilogue(),
            State::Unreadable => false,
        }
    }

    fn give_up(&mut self) -> bool {
        self.state = State::Unreadable;
        self.window.clear();
        self.start = 0;
        false
    }

    fn text(&mut self) -> bool {
        let Some(at) = self.find_delimiter() else {
            // A delimiter may have begun, and the line end before it counts.
            let end = self.window.len().saturating_sub(self.delimiter.len() + 1).max(self.start);
            self.take_content(end);
            self.start = end;
            return false;
        };
        let before = self.window.get(self.start..at).unwrap_or_default();
        let is_first_byte = self.offset + at == 0;
        if !is_first_byte && !before.is_empty() && !before.ends_with(b"\n") && !before.ends_with(b"\r") {
            self.searched = at + 1;
            return true;
        }
        if !is_first_byte && !before.ends_with(b"\r\n") {
            return self.give_up();
        }
        self.take_content(at.saturating_sub(2));
        match self.part.take() {
            None => self.first = self.offset + at,
            Some(_) if self.parts == MOST_PARTS => return self.give_up(),
            Some(part) => {
                self.parts += 1;
                self.end_part(&part, self.offset + at - 2);
            }
        }
        self.start = at + self.delimiter.len();
        self.state = State::Delimited;
        true
    }

    fn delimited(&mut self) -> bool {
        let rest = self.rest();
        if matches!(rest, [] | [b'-']) {
            return false;
        }
        let is_last = rest.starts_with(b"--");
        self.start += if is_last { 2 } else { 0 };
        self.state = State::Padding { is_last };
        true
    }

    /// White space may follow a delimiter.
    fn padding(&mut self, is_last: bool) -> bool {
        let blank = self.rest().iter().take_while(|byte| matches!(byte, b' ' | b'\t')).count();
        self.start += blank;
        match self.rest() {
            [] | [b'\r'] => return false,
            [b'\r', b'\n', ..] => self.start += 2,
            _ => return self.give_up(),
        }
        self.searched = self.start;
        self.state = if is_last { State::Epilogue } else { State::Head };
        true
    }

    fn head(&mut self) -> bool {
        // A part without a header has no name.
        if self.rest().starts_with(b"\r\n") {
            return self.give_up();
        }
        let unread = self.window.get(self.searched..).unwrap_or_default();
        let Some(end) = memmem::find(unread, b"\r\n\r\n").map(|end| self.searched + end) else {
            self.searched = self.window.len().saturating_sub(3).max(self.start);
            return if self.rest().len() > LONGEST_HEAD { self.give_up() } else { false };
        };
        let head = self.window.get(self.start..end).unwrap_or_default();
        let begin = self.offset + end + 4;
        let part = if has_delimiter_line(head, self.delimiter.as_bytes()) {
            None
        } else {
            FieldHead::read(head).map(|head| FormPart::new(&head, begin, self.in_session))
        };
        let Some(part) = part.filter(|_| head.len() <= LONGEST_HEAD) else { return self.give_up() };
        self.part = Some(part);
        self.start = end + 4;
        self.searched = self.start;
        self.state = State::Text;
        true
    }

    /// What follows the end must hold nothing that looks like a part.
    fn epilogue(&mut self) -> bool {
        if self.find_delimiter().is_some() {
            return self.give_up();
        }
        self.start = self.searched;
        false
    }

    /// Where the next delimiter begins in the window.
    fn find_delimiter(&mut self) -> Option<usize> {
        let unread = self.window.get(self.searched..)?;
        let found = memmem::find(unread, self.delimiter.as_bytes()).map(|at| self.searched + at);
        if found.is_none() {
            self.searched = self.window.len().saturating_sub(self.delimiter.len() - 1).max(self.searched);
        }
        found
    }

    /// Keeps what is read of the content up to `end` in the window.
    fn take_content(&mut self, end: usize) {
        let Some(part) = &mut self.part else { return };
        if part.field == Field::Other {
            return;
        }
        let content = self.window.get(self.start..end).unwrap_or_default();
        let room = part.field.kept().saturating_sub(part.kept.len()).min(content.len());
        part.is_longer |= room < content.len();
        part.kept.extend_from_slice(&content[..room]);
    }

    /// Notes a part whose content ends at `end` in the form.
    fn end_part(&mut self, part: &FormPart, end: usize) {
        match part.field {
            Field::Other => {}
            Field::Stream => {
                self.facts.stream |= matches!(&*part.kept, b"true" | b"True" | b"1") && !part.is_longer;
            }
            Field::Session if self.model.is_some() => {
                self.problem.get_or_insert(FactsError::Duplicate { field: "session" });
            }
            Field::Session if part.is_longer => {}
            Field::Session => match SessionModels::read(&part.kept) {
                Ok(SessionModels { range, model, others }) => {
                    self.model = range.map(|range| part.begin + range.start..part.begin + range.end);
                    (self.facts.model, self.facts.more_models) = (model, others);
                }
                Err(problem) => _ = self.problem.get_or_insert(problem),
            },
            Field::Model if self.model.is_some() => {
                self.problem.get_or_insert(FactsError::Duplicate { field: "model" });
            }
            Field::Model => {
                self.model = Some(part.begin..end);
                match part.name() {
                    Ok(name) => self.facts.model = Some(name),
                    Err(problem) => _ = self.problem.get_or_insert(problem),
                }
            }
        }
    }
}

impl FormPart {
    fn new(head: &FieldHead<'_>, begin: usize, in_session: bool) -> Self {
        let field = match head.name {
            "session" if in_session => Field::Session,
            "model" if !in_session => Field::Model,
            "stream" => Field::Stream,
            _ => Field::Other,
        };
        Self { field, is_file: head.is_file, begin, kept: Vec::new(), is_longer: false }
    }

    /// The name of a model that it holds.
    fn name(&self) -> Result<String, FactsError> {
        if self.is_longer && !self.is_file {
            return Err(FactsError::ModelTooLong);
        }
        let text = std::str::from_utf8(&self.kept).ok();
        match text.filter(|text| !self.is_file && !text.contains(['\r', '\n'])) {
            None => Err(FactsError::WrongType { field: "model", expected: Type::String }),
            Some(name) if name.len() > MODEL_LIMIT => Err(FactsError::ModelTooLong),
            Some(name) => Ok(name.to_owned()),
        }
    }
}

/// Whether a line of `text` begins with the delimiter.
fn has_delimiter_line(text: &[u8], delimiter: &[u8]) -> bool {
    memmem::find_iter(text, delimiter).any(|at| at == 0 || matches!(text.get(at - 1), Some(b'\r' | b'\n')))
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

    /// Reads a form, whole and in pieces of each size.
    fn read(body: &str) -> Result<Facts, String> {
        let whole = Facts::read_form(body.as_bytes(), "xyz").map_err(|error| error.to_string());
        for size in (1..=body.len()).take(100) {
            let mut reader = FormReader::new("xyz");
            body.as_bytes().chunks(size).for_each(|piece| reader.feed(piece));
            assert_eq!(reader.finish().map_err(|error| error.to_string()), whole, "{size}: {body}");
        }
        whole
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
