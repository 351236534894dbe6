//! One line of the log.

use std::borrow::Cow;

use serde_json::{Map, Value};

/// One line.
#[derive(Debug)]
pub(super) struct Entry<'a> {
    text: Cow<'a, str>,
    fields: Option<Map<String, Value>>,
}

impl<'a> Entry<'a> {
    /// Reads a line, in whatever wraps it: `journalctl --output json` (`MESSAGE`), Docker's files (`log`), and those of the Container Runtime
    /// Interface (`TIME stdout F LINE`).
    pub(super) fn read(text: &'a str) -> Self {
        let text = without_runtime(text);
        let Some(fields) = object(text) else { return Self { text: text.into(), fields: None } };
        let is_own = fields.contains_key("kind");
        let wrapped = if is_own { None } else { fields.get("MESSAGE").or_else(|| fields.get("log")) };
        match wrapped.and_then(Value::as_str) {
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
        for text in ["time=2026 kind=access", "", "{", "[1]"] {
            assert_eq!(Entry::read(text).fields().count(), 0, "{text}");
        }
    }
}
