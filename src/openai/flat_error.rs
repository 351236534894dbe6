//! Recognises an error that is written without the envelope that OpenAI's errors have.

use super::json::{self, NotJson, Object, Shape, Value};

/// Whether `json` is an error object without an envelope: `{"object":"error","message":"…","type":"…","code":"…"}` (Mistral, older releases of
/// vLLM and SGLang). Nothing with `choices` is one.
pub fn is_flat_error(json: &[u8]) -> bool {
    let mut members = Members::default();
    json::read(json, &mut members) == Ok(Shape::Object) && members.are_an_errors()
}

#[derive(Default)]
struct Members {
    choices: bool,
    /// `object` is `error`.
    named: bool,
    message: bool,
    kind: bool,
    code: bool,
}

impl Members {
    fn are_an_errors(&self) -> bool {
        !self.choices && (self.named || (self.message && self.kind && self.code))
    }
}

impl Object for Members {
    fn member(&mut self, key: &[u8], value: &mut Value<'_>) -> Result<(), NotJson> {
        match key {
            b"object" => self.named = value.leaf()?.text() == Some("error"),
            b"message" => self.message = value.leaf()?.text().is_some(),
            b"type" => self.kind = value.leaf()?.text().is_some(),
            b"code" => {
                let code = value.leaf()?;
                self.code = code.text().is_some() || code.count().is_some();
            }
            b"choices" => {
                self.choices = true;
                value.skip()?;
            }
            _ => value.skip()?,
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_error_says_so_or_has_all_members_of_one() {
        for error in [
            r#"{"object":"error","message":"Service unavailable.","type":"internal_server_error","param":null,"code":"1000"}"#,
            r#"{"object":"error","message":"m","type":"invalid_request_error","param":null,"code":null}"#,
            r#"{"message":"m","type":"BadRequestError","param":null,"code":400}"#,
        ] {
            assert!(is_flat_error(error.as_bytes()), "{error}");
        }
    }

    #[test]
    fn chunks_and_other_documents_are_none() {
        for other in [
            r#"{"object":"chat.completion.chunk","choices":[]}"#,
            r#"{"object":"error","choices":[]}"#,
            r#"{"message":"m","type":"t","code":"c","choices":null}"#,
            r#"{"message":"m","type":"t","code":null}"#,
            r#"{"message":{"text":"m"},"type":"t","code":"c"}"#,
            r#"{"inner":{"object":"error"}}"#,
            r#"{"object":"error""#,
            r#"["error"]"#,
            "",
        ] {
            assert!(!is_flat_error(other.as_bytes()), "{other}");
        }
    }
}
