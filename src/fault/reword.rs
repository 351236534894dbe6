//! An upstream's error response in other words. The form of its body stays as it is: the client speaks the upstream's API.

use bytes::Bytes;
use http::{HeaderValue, StatusCode, header, response};
use serde_json::{Map, Value};

use super::{
    ForeignError, Recipient,
    render::{anthropic_type, insist_on_retry, json, name_language},
    rules::{Original, Quoted},
};

/// Error objects within error objects that are looked into, for example `{"error":{"error":{…}}}`.
const MOST_NESTED: usize = 4;

/// The error in a body, read for its code and its message.
struct ErrorDetails<'a> {
    /// Every word for the kind of error: `code`, `type`, and Google's `status` and `reason`.
    words: Vec<&'a str>,
    message: &'a str,
}

/// What becomes of an error.
struct Changes<'a> {
    message: Option<&'a str>,
    code: Option<&'a str>,
    before: StatusCode,
    after: StatusCode,
}

/// Applies the first fitting rule to an upstream's error response with this head and body. An error without a body has its status alone.
pub fn reword(head: &mut response::Parts, body: &mut Bytes, recipient: Recipient<'_>) {
    let mut document: Option<Value> = serde_json::from_slice(body).ok();
    let place = document.as_ref().and_then(place_of_error);
    let details = document
        .as_ref()
        .zip(place.as_deref())
        .and_then(|(document, place)| ErrorDetails::read(document, place));
    let (words, message) =
        details.as_ref().map_or((&[][..], ""), |details| (&details.words[..], details.message));
    let before = head.status;
    let original = Original { words, status: before, upstream: recipient.upstream };
    let Some(rule) = recipient.rules.find(original) else { return };
    let quoted = Quoted {
        message,
        code: words.first().copied().unwrap_or_default(),
        status: before,
        request_id: recipient.request_id,
    };
    let text = rule.message(recipient.languages, quoted);
    head.status = rule.status.unwrap_or(before);
    insist_on_retry(before, head.status, &mut head.headers);
    if body.is_empty() {
        return;
    }
    let changes = Changes {
        message: text.as_ref().map(|(_, text)| &**text),
        code: rule.code.as_deref(),
        before,
        after: head.status,
    };
    let written = match (&mut document, &place) {
        (Some(document), Some(place)) => changes.apply(document, place),
        _ => changes.instead(recipient),
    };
    let Some(written) = written else { return };
    *body = written;
    head.headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("application/json"));
    head.headers.remove(header::CONTENT_LENGTH);
    if let Some((language, _)) = text {
        name_language(&mut head.headers, language, recipient.languages);
    }
}

/// Where the error is in a document, as a JSON pointer (RFC 6901): an object in its envelope (OpenAI, Azure, Anthropic, Gemini), the first of an
/// array of these (Gemini's compatible endpoint), one within another object, or one without an envelope (Mistral, vLLM).
fn place_of_error(document: &Value) -> Option<String> {
    let mut place = String::new();
    let mut here = document;
    for _ in 0..MOST_NESTED {
        let step = match here {
            Value::Array(_) => "/0",
            Value::Object(object) if object.get("error").is_some_and(Value::is_object) => "/error",
            Value::Object(object) if object.get("response").is_some_and(Value::is_object) => "/response",
            Value::Object(_) => return Some(place),
            _ => return None,
        };
        here = document.pointer(&[&place, step].concat())?;
        place.push_str(step);
    }
    None
}

impl<'a> ErrorDetails<'a> {
    fn read(document: &'a Value, place: &str) -> Option<Self> {
        let error = document.pointer(place)?.as_object()?;
        let text = |name: &str| error.get(name).and_then(Value::as_str);
        let details = error.get("details").and_then(Value::as_array).into_iter().flatten();
        let reasons = details.filter_map(|detail| detail.get("reason")?.as_str());
        let words = [text("code"), text("type")].into_iter().flatten().chain(reasons).chain(text("status"));
        let message = ["message", "error", "detail"].into_iter().find_map(text).unwrap_or_default();
        Some(Self { words: words.collect(), message })
    }
}

impl Changes<'_> {
    /// The document with the changes at `place`; `None`: there are none.
    fn apply(&self, document: &mut Value, place: &str) -> Option<Bytes> {
        let is_anthropics = document.get("type").is_some_and(|kind| kind == "error");
        let error = document.pointer_mut(place)?.as_object_mut()?;
        let before = error.clone();
        self.apply_to(error);
        if is_anthropics && self.after != self.before {
            error.insert("type".to_owned(), anthropic_type(self.after).into());
        }
        let is_changed = *error != before;
        is_changed.then(|| Bytes::from(json(document)))
    }

    fn apply_to(&self, error: &mut Map<String, Value>) {
        if let Some(message) = self.message {
            // xAI, Ollama and FastAPI have other names for it.
            let name = ["message", "error", "detail"].into_iter().find(|name| error.contains_key(*name));
            error.insert(name.unwrap_or("message").to_owned(), message.into());
        }
        if let Some(code) = self.code {
            // Google's `code` is the status as a number, and `status` is what others call a code.
            let is_googles = error.get("status").is_some_and(Value::is_string);
            error.insert(if is_googles { "status" } else { "code" }.to_owned(), code.into());
        }
        // Whatever repeats the status as a number.
        for name in ["code", "status"] {
            if let Some(value) = error.get_mut(name)
                && value.as_u64() == Some(self.before.as_u16().into())
            {
                *value = self.after.as_u16().into();
            }
        }
    }

    /// A new body, in place of one that is no JSON object.
    fn instead(&self, recipient: Recipient<'_>) -> Option<Bytes> {
        let message = Value::from(self.message?);
        let kind = if self.after.is_server_error() { "server_error" } else { "invalid_request_error" };
        let error = ForeignError {
            status: self.after,
            message: &message,
            kind: &kind.into(),
            param: &Value::Null,
            code: &self.code.map_or(Value::Null, Value::from),
        };
        Some(error.body(recipient.form, recipient.request_id))
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use http::Response;
    use serde_json::json;

    use super::*;
    use crate::fault::{
        ErrorFilter, ErrorForm, ErrorRule, ErrorRules, Language, LanguageChoice, SHOULD_RETRY,
    };

    struct Changed {
        head: response::Parts,
        body: Bytes,
    }

    fn rule(code: Option<&str>) -> ErrorRule {
        ErrorRule {
            when: ErrorFilter {
                code: code.map(str::to_owned),
                status: None,
                upstream: Some("openai".into()),
            },
            message: BTreeMap::from([(Language::EN, "Busy: {message} ({code})".to_owned())]),
            status: Some(StatusCode::SERVICE_UNAVAILABLE),
            code: Some("busy".to_owned()),
        }
    }

    fn changed(rule: ErrorRule, status: u16, body: &str) -> Changed {
        let rules = ErrorRules::new(vec![rule]);
        let mut head = Response::builder().status(status).body(()).unwrap().into_parts().0;
        let mut body = Bytes::from(body.to_owned());
        let recipient = Recipient {
            form: ErrorForm::OpenAi,
            request_id: "r-1",
            languages: &LanguageChoice::default(),
            rules: &rules,
            upstream: Some("openai"),
        };
        reword(&mut head, &mut body, recipient);
        Changed { head, body }
    }

    fn document(changed: &Changed) -> Value {
        serde_json::from_slice(&changed.body).unwrap()
    }

    #[test]
    fn the_body_keeps_its_form() {
        for (before, after) in [
            // OpenAI, Azure.
            (
                json!({"error":{"message":"m","type":"t","param":null,"code":"c"}}),
                json!({"error":{"message":"Busy: m (c)","type":"t","param":null,"code":"busy"}}),
            ),
            (
                json!({"error":{"code":"429","message":"m","innererror":{"code":"x"}}}),
                json!({"error":{"code":"busy","message":"Busy: m (429)","innererror":{"code":"x"}}}),
            ),
            // Anthropic.
            (
                json!({"type":"error","error":{"type":"rate_limit_error","message":"m"},"request_id":"q"}),
                json!({"type":"error","error":{"type":"overloaded_error","message":"Busy: m (rate_limit_error)","code":"busy"},"request_id":"q"}),
            ),
            // Gemini, and its compatible endpoint.
            (
                json!({"error":{"code":429,"message":"m","status":"RESOURCE_EXHAUSTED"}}),
                json!({"error":{"code":503,"message":"Busy: m (RESOURCE_EXHAUSTED)","status":"busy"}}),
            ),
            (
                json!([{"error":{"code":429,"message":"m","status":"RESOURCE_EXHAUSTED"}}]),
                json!([{"error":{"code":503,"message":"Busy: m (RESOURCE_EXHAUSTED)","status":"busy"}}]),
            ),
            // Mistral and vLLM; xAI and Ollama; FastAPI.
            (
                json!({"object":"error","message":"m","type":"t","code":429}),
                json!({"object":"error","message":"Busy: m (t)","type":"t","code":"busy"}),
            ),
            (json!({"code":"c","error":"m"}), json!({"code":"busy","error":"Busy: m (c)"})),
            (json!({"detail":"m"}), json!({"code":"busy","detail":"Busy: m ()"})),
        ] {
            let changed = changed(rule(None), 429, &before.to_string());
            assert_eq!(document(&changed), after, "{before}");
            assert_eq!(changed.head.status, 503);
            assert_eq!(changed.head.headers["content-language"], "en");
        }
    }

    #[test]
    fn a_body_that_is_no_error_object_is_replaced_if_there_is_a_message() {
        for before in ["<html>", "", "null", "[]", "3", "\"text\""] {
            let got = changed(rule(None), 502, before);
            assert_eq!(got.head.status, 503, "{before}");
            if before.is_empty() {
                assert!(got.body.is_empty());
                continue;
            }
            let expected =
                json!({"error":{"message":"Busy:  ()","type":"server_error","param":null,"code":"busy"}});
            assert_eq!(document(&got), expected, "{before}");
            let without = changed(ErrorRule { message: BTreeMap::new(), ..rule(None) }, 502, before);
            assert_eq!(without.body, before);
        }
    }

    #[test]
    fn every_word_for_an_error_is_found() {
        let google = json!({"error":{"code":429,"status":"S","details":[{"reason":"R"}],"message":"m"}});
        for (word, body) in [
            ("c", json!({"error":{"code":"c","type":"t"}})),
            ("t", json!({"error":{"code":"c","type":"t"}})),
            ("S", google.clone()),
            ("R", google.clone()),
        ] {
            assert_eq!(changed(rule(Some(word)), 429, &body.to_string()).head.status, 503, "{word}");
        }
        assert_eq!(changed(rule(Some("other")), 429, &google.to_string()).head.status, 429);
    }

    #[test]
    fn what_a_rule_does_not_say_stays_and_so_do_the_bytes() {
        let rule = ErrorRule { message: BTreeMap::new(), code: None, ..rule(None) };
        let before = "{ \"error\": {\"message\":\"m\", \"code\":\"c\"}}\n";
        let changed = changed(rule, 429, before);
        assert_eq!((changed.head.status.as_u16(), &changed.body[..]), (503, before.as_bytes()));
        assert!(!changed.head.headers.contains_key("content-language"));
    }

    #[test]
    fn retries_follow_the_original_status() {
        let to = |status: u16| ErrorRule { status: StatusCode::from_u16(status).ok(), ..rule(None) };
        for (before, after, expected) in
            [(429, 503, None), (429, 400, Some("true")), (400, 503, Some("false")), (400, 404, None)]
        {
            let changed = changed(to(after), before, "{}");
            let retry = changed.head.headers.get(SHOULD_RETRY).map(|value| value.to_str().unwrap());
            assert_eq!(retry, expected, "{before} {after}");
        }
    }
}
