//! Writes the JSON of errors into a buffer whose length is known: a client over its limit gets many of them.

/// A JSON object that is being written. Names are the program's, and need no escapes.
pub(super) struct Object<'o> {
    out: &'o mut String,
    /// What comes before the next member.
    before: char,
}

impl<'o> Object<'o> {
    /// Begins an object behind what is in `out`.
    pub(super) fn begin(out: &'o mut String) -> Self {
        Self { out, before: '{' }
    }

    /// Writes a member that is a text.
    #[must_use]
    pub(super) fn text(mut self, name: &str, text: &str) -> Self {
        self.name(name);
        write_text(self.out, text);
        self
    }

    /// Writes a member that is a text or `null`.
    #[must_use]
    pub(super) fn optional(mut self, name: &str, text: Option<&str>) -> Self {
        self.name(name);
        match text {
            Some(text) => write_text(self.out, text),
            None => self.out.push_str("null"),
        }
        self
    }

    /// Writes a member that is a number.
    #[must_use]
    pub(super) fn number(mut self, name: &str, number: u16) -> Self {
        self.name(name);
        self.out.push_str(itoa::Buffer::new().format(number));
        self
    }

    /// Writes a member whose value `write` writes.
    #[must_use]
    pub(super) fn member(mut self, name: &str, write: impl FnOnce(&mut String)) -> Self {
        self.name(name);
        write(self.out);
        self
    }

    /// Ends the object, which has at least one member.
    pub(super) fn end(self) {
        self.out.push('}');
    }

    fn name(&mut self, name: &str) {
        self.out.push(std::mem::replace(&mut self.before, ','));
        self.out.push('"');
        self.out.push_str(name);
        self.out.push_str("\":");
    }
}

/// Writes a text. serde_json looks at its bytes one by one; nearly no message has one that needs an escape.
fn write_text(out: &mut String, text: &str) {
    let is_plain = |byte: u8| byte >= b' ' && byte != b'"' && byte != b'\\';
    // No early exit, so that the compiler can vectorize the loop.
    if text.bytes().fold(true, |all, byte| all & is_plain(byte)) {
        out.push('"');
        out.push_str(text);
        out.push('"');
    } else {
        // A text can always be written.
        out.push_str(&serde_json::to_string(text).unwrap_or_default());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_object_is_written_as_serde_json_writes_it() {
        let texts =
            ["", "plain", "\"quoted\" \\", "\u{0}\u{1f}\n\u{7f}", "已达到上游的速率限制。", "é\u{2028}"];
        for text in texts {
            let mut out = "before ".to_owned();
            Object::begin(&mut out)
                .text("text", text)
                .optional("none", None)
                .optional("some", Some(text))
                .number("number", 429)
                .member("inner", |out| Object::begin(out).text("text", text).end())
                .end();
            let inner = serde_json::json!({ "text": text });
            let expected = serde_json::json!({ "text": text, "none": null, "some": text, "number": 429, "inner": inner });
            let written = out.strip_prefix("before ").unwrap();
            assert_eq!(serde_json::from_str::<serde_json::Value>(written).unwrap(), expected);
            let quoted = serde_json::to_string(text).unwrap();
            assert!(written.starts_with(&format!(
                r#"{{"text":{quoted},"none":null,"some":{quoted},"number":429,"inner""#
            )));
        }
    }
}
