//! One line of the log.

use std::borrow::Cow;

use serde_json::{Map, Value};

/// What is shown of a line that journalctl has left out.
const LEFT_OUT: &str = "(journalctl has left out a line of more than 4096 bytes; it writes all with --all)";

/// One line.
#[derive(Debug)]
pub(super) struct Entry<'a> {
    text: Cow<'a, str>,
    fields: Option<Map<String, Value>>,
}

impl<'a> Entry<'a> {
    /// Reads a line, in whatever wraps it: `journalctl --output json` (`MESSAGE`), Docker's files (`log`), and those of the Container Runtime
    /// Interface (`TIME stdout F LINE`).
    ///
    /// In the journal's JSON, a text with bytes that cannot be printed is a list of its bytes, and one of more than 4096 bytes is null
    /// (journalctl(1), `--output json`).
    pub(super) fn read(text: &'a str) -> Self {
        let text = without_runtime(text);
        let Some(fields) = object(text) else { return Self { text: text.into(), fields: None } };
        let is_own = fields.contains_key("kind");
        let wrapped = if is_own { None } else { fields.get("MESSAGE").or_else(|| fields.get("log")) };
        match wrapped.and_then(wrapped_text) {
            Some(inner) => {
                let inner = inner.trim_end_matches(['\r', '\n']).to_owned();
                Self { fields: object(&inner), text: inner.into() }
            }
            None => Self { text: text.into(), fields: Some(fields) },
        }
    }

    /// The line as the gateway wrote it.
    pub(super) fn original(&self) -> &str {
        &self.text
    }

    /// The text of a field.
    pub(super) fn text(&self, name: &str) -> Option<&str> {
        self.fields.as_ref()?.get(name)?.as_str()
    }

    /// The number in a field.
    pub(super) fn number(&self, name: &str) -> Option<f64> {
        self.fields.as_ref()?.get(name)?.as_f64()
    }

    /// The items of a field.
    pub(super) fn list(&self, name: &str) -> &[Value] {
        let items = self.fields.as_ref().and_then(|fields| fields.get(name)?.as_array());
        items.map(Vec::as_slice).unwrap_or_default()
    }

    /// All fields, in the order of their names.
    pub(super) fn fields(&self) -> impl Iterator<Item = (&String, &Value)> {
        self.fields.iter().flatten()
    }

    /// Whether it is about something that went wrong.
    pub(super) fn is_bad(&self) -> bool {
        self.text("error").is_some() || matches!(self.text("level"), Some("error" | "warn"))
    }
}

/// The line in a field of what wraps it.
fn wrapped_text(field: &Value) -> Option<Cow<'_, str>> {
    match field {
        Value::String(text) => Some(text.into()),
        Value::Null => Some(LEFT_OUT.into()),
        Value::Array(bytes) => {
            let byte = |number: &Value| number.as_u64().and_then(|number| u8::try_from(number).ok());
            let bytes: Option<Vec<u8>> = bytes.iter().map(byte).collect();
            Some(String::from_utf8_lossy(&bytes?).into_owned().into())
        }
        _ => None,
    }
}

fn object(text: &str) -> Option<Map<String, Value>> {
    if !text.starts_with('{') {
        return None;
    }
    serde_json::from_str(text).ok()
}

/// A line of a container's log without what the runtime puts before it.
fn without_runtime(text: &str) -> &str {
    let mut parts = text.splitn(4, ' ');
    let (_time, stream, flag, rest) = (parts.next(), parts.next(), parts.next(), parts.next());
    match (stream, flag, rest) {
        (Some("stdout" | "stderr"), Some("F" | "P"), Some(rest)) => rest,
        _ => text,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_is_found_in_what_wraps_it() {
        let own = r#"{"kind":"access","status":200}"#;
        let journal = serde_json::json!({ "MESSAGE": own, "_PID": "1" }).to_string();
        let docker = serde_json::json!({ "log": format!("{own}\n"), "stream": "stdout" }).to_string();
        let runtime = format!("2026-11-28T12:00:00.0Z stdout F {own}");
        for text in [own, &journal, &docker, &runtime] {
            let entry = Entry::read(text);
            assert_eq!((entry.original(), entry.number("status")), (own, Some(200.0)), "{text}");
        }
        let bytes = serde_json::json!({ "MESSAGE": own.as_bytes() }).to_string();
        assert_eq!(Entry::read(&bytes).original(), own);
        let entry = Entry::read(r#"{"MESSAGE":null,"_PID":"1"}"#);
        assert_eq!((entry.original(), entry.fields().count()), (LEFT_OUT, 0));
        for text in ["time=2026 kind=access", "", "{", "[1]"] {
            assert_eq!(Entry::read(text).fields().count(), 0, "{text}");
        }
    }
}
