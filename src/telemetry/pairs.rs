//! Writes a log line as pairs of a key and a value: one JSON object, or `key=value`.

use std::{io::Write, net::IpAddr, time::Duration};

use crate::config::LogFormat;

/// Limit in bytes of a value; a longer value is truncated, so that a line stays small regardless of what a client sends.
pub(super) const LONGEST_VALUE: usize = 1024;

/// Writes one line to a buffer that the caller owns and reuses.
///
/// Keys are constants of the program and are not escaped. Values are escaped so that no client can forge a line, end a line,
/// or control a terminal: JSON's escapes (RFC 8259 section 7) and all control characters, in both formats.
pub(super) struct Pairs<'b> {
    out: &'b mut Vec<u8>,
    format: LogFormat,
    first: bool,
}

impl<'b> Pairs<'b> {
    pub(super) fn begin(out: &'b mut Vec<u8>, format: LogFormat) -> Self {
        if format == LogFormat::Json {
            out.push(b'{');
        }
        Self { out, format, first: true }
    }

    /// Ends the line, without a line feed.
    pub(super) fn end(self) {
        if self.format == LogFormat::Json {
            self.out.push(b'}');
        }
    }

    pub(super) fn text(&mut self, key: Key, value: &str) {
        self.key(key);
        self.text_value(value);
    }

    /// Writes a text after its name.
    pub(super) fn text_value(&mut self, value: &str) {
        let value = cut(value, LONGEST_VALUE);
        if self.format == LogFormat::Text && bare(value) {
            self.out.extend_from_slice(value.as_bytes());
        } else {
            self.out.push(b'"');
            escape(value, self.out);
            self.out.push(b'"');
        }
    }

    /// Writes a text that needs no escaping, such as a time or an id.
    pub(super) fn plain(&mut self, key: Key, value: &[u8]) {
        self.key(key);
        self.quote();
        self.out.extend_from_slice(value);
        self.quote();
    }

    fn quote(&mut self) {
        if self.format == LogFormat::Json {
            self.out.push(b'"');
        }
    }

    pub(super) fn address(&mut self, key: Key, value: IpAddr) {
        self.key(key);
        self.quote();
        match value {
            // Nearly all addresses are IPv4, and `Display` is slow for them.
            IpAddr::V4(value) => {
                for (at, octet) in value.octets().into_iter().enumerate() {
                    self.out.extend_from_slice(if at == 0 { b"" } else { b"." });
                    self.out.extend_from_slice(itoa::Buffer::new().format(octet).as_bytes());
                }
            }
            IpAddr::V6(value) => {
                // Writing to memory cannot fail.
                let _ = write!(self.out, "{value}");
            }
        }
        self.quote();
    }

    pub(super) fn number(&mut self, key: Key, value: impl itoa::Integer) {
        self.key(key);
        self.number_value(value);
    }

    /// Writes a number after its name.
    pub(super) fn number_value(&mut self, value: impl itoa::Integer) {
        self.out.extend_from_slice(itoa::Buffer::new().format(value).as_bytes());
    }

    pub(super) fn flag(&mut self, key: Key, value: bool) {
        self.key(key);
        self.flag_value(value);
    }

    /// Writes a truth value after its name.
    pub(super) fn flag_value(&mut self, value: bool) {
        self.out.extend_from_slice(if value { b"true" } else { b"false" });
    }

    /// Writes milliseconds with three decimals (microsecond resolution).
    pub(super) fn millis(&mut self, key: Key, value: Duration) {
        // A number of 128 bits takes twice as long to write.
        self.number(key, u64::try_from(value.as_millis()).unwrap_or(u64::MAX));
        let micros = value.subsec_micros() % 1000;
        self.out.push(b'.');
        self.out.extend([micros / 100, micros / 10, micros].map(|n| b'0' + (n % 10) as u8));
    }

    /// Writes a list of objects, each with `write`: as JSON in a JSON line, and as the same JSON in quotes in a text line.
    pub(super) fn list<T>(&mut self, key: Key, items: &[T], write: impl Fn(&T, &mut Pairs<'_>)) {
        self.key(key);
        match self.format {
            LogFormat::Json => write_list(self.out, items, write),
            LogFormat::Text => {
                let mut list = Vec::new();
                write_list(&mut list, items, write);
                self.out.push(b'"');
                escape(&String::from_utf8_lossy(&list), self.out);
                self.out.push(b'"');
            }
        }
    }

    /// Writes an object of texts, whose names need no escaping: as JSON in a JSON line, and as the same JSON in quotes in a text line.
    pub(super) fn object(&mut self, key: Key, members: &[(Box<str>, Box<str>)]) {
        self.key(key);
        match self.format {
            LogFormat::Json => write_object(self.out, members),
            LogFormat::Text => {
                let mut object = Vec::new();
                write_object(&mut object, members);
                self.out.push(b'"');
                escape(&String::from_utf8_lossy(&object), self.out);
                self.out.push(b'"');
            }
        }
    }

    /// Begins a pair whose name is not known in advance.
    pub(super) fn name(&mut self, name: &str) {
        let first = std::mem::take(&mut self.first);
        let (before, behind) = match self.format {
            LogFormat::Json => (if first { "\"" } else { ",\"" }, "\":"),
            LogFormat::Text => (if first { "" } else { " " }, "="),
        };
        for part in [before, name, behind] {
            self.out.extend_from_slice(part.as_bytes());
        }
    }

    fn key(&mut self, key: Key) {
        if self.first || self.format == LogFormat::Text {
            return self.name(key.name());
        }
        self.out.extend_from_slice(key.0.as_bytes());
    }
}

/// A key as it is written in JSON, between a comma and a colon, so that it is written in one piece.
#[derive(Clone, Copy)]
pub(super) struct Key(pub(super) &'static str);

impl Key {
    fn name(self) -> &'static str {
        self.0.get(2..self.0.len() - 2).unwrap_or_default()
    }
}

/// The [`Key`] of this name.
macro_rules! key {
    ($name:literal) => {
        $crate::telemetry::pairs::Key(concat!(",\"", $name, "\":"))
    };
}
pub(super) use key;

/// Returns the longest prefix of `value` of at most `limit` bytes.
pub(super) fn cut(value: &str, limit: usize) -> &str {
    if value.len() <= limit {
        return value;
    }
    (0..=limit).rev().find_map(|end| value.get(..end)).unwrap_or_default()
}

/// Whether a value needs no quotes in a text line.
fn bare(value: &str) -> bool {
    !value.is_empty()
        && value.bytes().all(|byte| byte.is_ascii_graphic() && !matches!(byte, b'"' | b'=' | b'\\'))
}

/// Appends a JSON array of objects.
fn write_list<T>(out: &mut Vec<u8>, items: &[T], write: impl Fn(&T, &mut Pairs<'_>)) {
    out.push(b'[');
    for (at, item) in items.iter().enumerate() {
        if at > 0 {
            out.push(b',');
        }
        let mut pairs = Pairs::begin(out, LogFormat::Json);
        write(item, &mut pairs);
        pairs.end();
    }
    out.push(b']');
}

/// Appends a JSON object of texts.
fn write_object(out: &mut Vec<u8>, members: &[(Box<str>, Box<str>)]) {
    let mut pairs = Pairs::begin(out, LogFormat::Json);
    for (name, value) in members {
        pairs.name(name);
        pairs.text_value(value);
    }
    pairs.end();
}

fn escape(value: &str, out: &mut Vec<u8>) {
    let ordinary = |byte: u8| matches!(byte, b' '..=b'~') && byte != b'"' && byte != b'\\';
    // No early exit, so that the compiler can vectorize the loop.
    if value.bytes().fold(true, |all, byte| all & ordinary(byte)) {
        return out.extend_from_slice(value.as_bytes());
    }
    for character in value.chars() {
        match character {
            '"' => out.extend_from_slice(br#"\""#),
            '\\' => out.extend_from_slice(br"\\"),
            '\n' => out.extend_from_slice(br"\n"),
            '\r' => out.extend_from_slice(br"\r"),
            '\t' => out.extend_from_slice(br"\t"),
            unseen if is_unseen(unseen) => escape_unseen(unseen, out),
            other => out.extend_from_slice(other.encode_utf8(&mut [0; 4]).as_bytes()),
        }
    }
}

/// Whether a character is invisible and changes how the remainder of a line is displayed: control characters (C0, DEL, C1), line and paragraph
/// separators, and characters that change the text direction (UAX #9 section 2, CVE-2021-42574). All are below U+FFFF.
fn is_unseen(character: char) -> bool {
    character.is_control()
        || matches!(character, '\u{61C}' | '\u{200E}' | '\u{200F}' | '\u{2028}'..='\u{202E}' | '\u{2066}'..='\u{2069}')
}

fn escape_unseen(unseen: char, out: &mut Vec<u8>) {
    let hex = |nibble: u32| char::from_digit(nibble % 16, 16).map_or(b'0', |digit| digit as u8);
    let code = u32::from(unseen);
    out.extend_from_slice(br"\u");
    out.extend([hex(code >> 12), hex(code >> 8), hex(code >> 4), hex(code)]);
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn line(format: LogFormat, write: impl FnOnce(&mut Pairs<'_>)) -> String {
        let mut out = Vec::new();
        let mut pairs = Pairs::begin(&mut out, format);
        write(&mut pairs);
        pairs.end();
        String::from_utf8(out).unwrap()
    }

    #[test]
    fn both_forms() {
        let write = |pairs: &mut Pairs<'_>| {
            pairs.text(key!("a"), "x y");
            pairs.plain(key!("b"), b"id");
            pairs.number(key!("c"), 7_u64);
            pairs.flag(key!("d"), false);
            pairs.millis(key!("e"), Duration::from_nanos(12_034_567));
            pairs.text(key!("f"), "");
        };
        assert_eq!(line(LogFormat::Json, write), r#"{"a":"x y","b":"id","c":7,"d":false,"e":12.034,"f":""}"#);
        assert_eq!(line(LogFormat::Text, write), r#"a="x y" b=id c=7 d=false e=12.034 f="""#);
    }

    proptest! {
        #[test]
        fn any_text_survives_json_and_stays_on_its_line(value in ".{0,300}|[\\x00-\\xa0]{0,300}") {
            let line = line(LogFormat::Json, |pairs| pairs.text(key!("k"), &value));
            prop_assert!(!line.chars().any(char::is_control));
            let read: serde_json::Value = serde_json::from_str(&line).unwrap();
            prop_assert_eq!(read["k"].as_str(), Some(cut(&value, LONGEST_VALUE)));
        }

        #[test]
        fn any_text_stays_one_value_in_the_text_form(value in ".{0,300}|[\\x00-\\xa0]{0,300}") {
            let line = line(LogFormat::Text, |pairs| pairs.text(key!("k"), &value));
            prop_assert!(!line.chars().any(char::is_control));
            let rest = line.strip_prefix("k=").unwrap();
            if rest.starts_with('"') {
                prop_assert_eq!(serde_json::from_str::<String>(rest).unwrap(), cut(&value, LONGEST_VALUE));
            } else {
                prop_assert_eq!(rest, &value);
            }
        }
    }

    #[test]
    fn nothing_turns_a_line_around_or_ends_it() {
        for format in [LogFormat::Json, LogFormat::Text] {
            let line = line(format, |pairs| pairs.text(key!("k"), "a\u{2028}b\u{202e}c\u{2066}d\u{85}é"));
            assert!(line.contains(r"a\u2028b\u202ec\u2066d\u0085é"), "{line}");
        }
    }

    #[test]
    fn long_values_are_cut_between_characters() {
        let long = "é".repeat(LONGEST_VALUE);
        let line = line(LogFormat::Json, |pairs| pairs.text(key!("k"), &long));
        assert_eq!(line, format!("{{\"k\":\"{}\"}}", "é".repeat(LONGEST_VALUE / 2)));
    }
}
