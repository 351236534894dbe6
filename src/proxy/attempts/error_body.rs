//! The error object of an upstream's response, in any of the forms that providers write.

use bytes::Bytes;
use http::StatusCode;
use serde_json::{Map, Value};

use crate::fault::{ErrorForm, ForeignError};

/// Error objects within error objects that are looked into, for example `{"error":{"error":{…}}}`.
const MOST_NESTED: usize = 4;

/// The statuses of errors whose words say what a number would say, for errors in streams. Words that are not listed mean 500.
///
/// Sources: OpenAI's openapi.yaml (`ResponseErrorCode`); Anthropic's documentation of errors; Google's `google.rpc.Code`; the `type` of vLLM's
/// errors; openai/codex and anomalyco/opencode#25884 for `server_is_overloaded`.
const STATUSES: [(&str, u16); 35] = [
    ("invalid_request_error", 400),
    ("context_length_exceeded", 400),
    ("exceed_context_size_error", 400),
    ("content_filter", 400),
    ("invalid_prompt", 400),
    ("empty_image_file", 400),
    ("failed_to_download_image", 400),
    ("unsupported_image_media_type", 400),
    ("BadRequestError", 400),
    ("INVALID_ARGUMENT", 400),
    ("FAILED_PRECONDITION", 400),
    ("OUT_OF_RANGE", 400),
    ("authentication_error", 401),
    ("invalid_api_key", 401),
    ("UNAUTHENTICATED", 401),
    ("billing_error", 402),
    ("permission_error", 403),
    ("PERMISSION_DENIED", 403),
    ("not_found_error", 404),
    ("model_not_found", 404),
    ("NotFoundError", 404),
    ("NOT_FOUND", 404),
    ("request_too_large", 413),
    ("rate_limit_exceeded", 429),
    ("rate_limit_error", 429),
    ("rate_limit_reached_error", 429),
    ("insufficient_quota", 429),
    ("exceeded_current_quota_error", 429),
    ("slow_down", 429),
    ("RESOURCE_EXHAUSTED", 429),
    ("service_unavailable_error", 503),
    ("server_is_overloaded", 503),
    ("UNAVAILABLE", 503),
    ("DEADLINE_EXCEEDED", 504),
    ("overloaded_error", 529),
];

/// An error of an upstream. Some providers write numbers where OpenAI has words, and words where OpenAI has numbers.
#[derive(Debug, Default)]
pub(super) struct ErrorBody {
    message: Value,
    param: Value,
    code: Value,
    kind: Value,
    /// Google's name of the status, or a number.
    status: Value,
    /// Google's `google.rpc` messages, among them `ErrorInfo` and `RetryInfo`.
    details: Value,
    /// OpenRouter's facts about the provider behind it.
    metadata: Value,
    /// The form of an error response that the document had: an object with an `error` that is an object, and for Anthropic's a `type` that
    /// is `error`.
    form: Option<ErrorForm>,
}

impl ErrorBody {
    /// The error in `body`: an object in its envelope (OpenAI, Anthropic), the first of an array of these (Gemini's compatible endpoint), one
    /// within another object (`response.failed` of the Responses API), one without an envelope (Mistral, vLLM), or a text (xAI, Ollama, FastAPI).
    pub(super) fn read(body: &[u8]) -> Option<Self> {
        let document: Value = serde_json::from_slice(body).ok()?;
        let form = form_of(&document);
        Some(Self { form, ..Self::find(document, MOST_NESTED)? })
    }

    /// Whether what was read is an error response as `form` describes it. Anthropic's is OpenAI's with more members.
    pub(super) fn has_form(&self, form: ErrorForm) -> bool {
        self.form == Some(form) || (form == ErrorForm::OpenAi && self.form.is_some())
    }

    /// `error.code` if it is a text.
    pub(super) fn code(&self) -> &str {
        self.code.as_str().unwrap_or_default()
    }

    /// The text for people.
    pub(super) fn message(&self) -> &str {
        self.message.as_str().unwrap_or_default()
    }

    /// The member of the request that is at fault.
    pub(super) fn param(&self) -> &str {
        self.param.as_str().unwrap_or_default()
    }

    /// Every word that names the kind of error: `code`, `type`, and Google's `reason` and `status`.
    pub(super) fn words(&self) -> impl Iterator<Item = &str> {
        let reasons = self.details().filter_map(|detail| detail.get("reason"));
        let named = [&self.code, &self.kind].into_iter().chain(reasons).chain([&self.status]);
        named.filter_map(Value::as_str)
    }

    /// Whether a provider says that it has moderated the request (OpenRouter's `metadata`: <https://openrouter.ai/docs/api/reference/errors>).
    pub(super) fn is_moderation(&self) -> bool {
        self.metadata.get("flagged_input").is_some()
    }

    /// Google's `RetryInfo.retryDelay`, for example `34s` (googleapis/python-genai#1875).
    pub(super) fn retry_delay(&self) -> Option<&str> {
        self.details().find_map(|detail| detail.get("retryDelay")?.as_str())
    }

    /// The status that a response with this error has: its number, as a number or as digits, or else the one that its words mean.
    pub(super) fn status(&self) -> StatusCode {
        let number = number(&self.code).or_else(|| number(&self.status));
        if let Some(status) = number.and_then(|number| StatusCode::from_u16(number).ok()) {
            return status;
        }
        let named = self.words().find_map(status_of);
        named
            .and_then(|number| StatusCode::from_u16(number).ok())
            .unwrap_or(StatusCode::INTERNAL_SERVER_ERROR)
    }

    /// The body of a response with this error to the request with this id.
    pub(super) fn body(&self, form: ErrorForm, request_id: &str) -> Bytes {
        let Self { message, kind, param, code, .. } = self;
        ForeignError { status: self.status(), message, kind, param, code }.body(form, request_id)
    }

    /// Its name for the log: `code`, or `type` where there is no code in words, or Google's name for it.
    pub(super) fn name(&self) -> Option<String> {
        self.words().next().map(str::to_owned)
    }

    fn find(document: Value, depth: usize) -> Option<Self> {
        let depth = depth.checked_sub(1)?;
        let mut object = match document {
            Value::Object(object) => object,
            Value::Array(items) => return Self::find(items.into_iter().next()?, depth),
            _ => return None,
        };
        match object.remove("error") {
            Some(error @ Value::Object(_)) => return Self::find(error, depth),
            Some(text @ Value::String(_)) => return Some(Self { message: text, ..Self::flat(object) }),
            _ => {}
        }
        if let Some(response @ Value::Object(_)) = object.remove("response") {
            return Self::find(response, depth);
        }
        Some(Self::flat(object))
    }

    fn flat(mut object: Map<String, Value>) -> Self {
        let mut take = |name: &str| object.remove(name).unwrap_or_default();
        let (message, detail) = (take("message"), take("detail"));
        Self {
            message: if message.is_null() { detail } else { message },
            param: take("param"),
            code: take("code"),
            kind: take("type"),
            status: take("status"),
            details: take("details"),
            metadata: take("metadata"),
            form: None,
        }
    }

    fn details(&self) -> impl Iterator<Item = &Value> {
        self.details.as_array().into_iter().flatten()
    }
}

fn form_of(document: &Value) -> Option<ErrorForm> {
    if !document.get("error").is_some_and(Value::is_object) {
        return None;
    }
    let is_anthropics = document.get("type").is_some_and(|kind| kind == "error");
    Some(if is_anthropics { ErrorForm::Anthropic } else { ErrorForm::OpenAi })
}

/// The status of an error that has `value` for its code, as a number or as digits (Azure: `"429"`).
fn number(value: &Value) -> Option<u16> {
    let digits = || value.as_str()?.parse().ok();
    let number = value.as_u64().and_then(|number| u16::try_from(number).ok()).or_else(digits);
    number.filter(|number| (400..600).contains(number))
}

fn status_of(word: &str) -> Option<u16> {
    if let Some((_, status)) = STATUSES.iter().find(|(name, _)| *name == word) {
        return Some(*status);
    }
    // The Responses API has many codes for images, and moderates by codes such as `image_content_policy_violation`.
    let about_request = word.starts_with("invalid_") || word.starts_with("image_") || word.contains("policy");
    about_request.then_some(400)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(body: &str) -> ErrorBody {
        ErrorBody::read(body.as_bytes()).unwrap()
    }

    #[test]
    fn every_providers_form_is_read() {
        for (body, code, message) in [
            (r#"{"error":{"message":"m","type":"t","param":null,"code":"c"}}"#, "c", "m"),
            (r#"{"type":"error","error":{"type":"t","message":"m"},"request_id":"r"}"#, "t", "m"),
            (
                r#"[{"error":{"code":400,"message":"m","status":"INVALID_ARGUMENT"}}]"#,
                "INVALID_ARGUMENT",
                "m",
            ),
            (r#"{"type":"response.failed","response":{"error":{"code":"c","message":"m"}}}"#, "c", "m"),
            (
                r#"{"object":"error","message":"m","type":"BadRequestError","param":null,"code":400}"#,
                "BadRequestError",
                "m",
            ),
            (r#"{"error":{"error":{"message":"m","code":402,"type":"t"},"code":402}}"#, "t", "m"),
            (r#"{"code":"c","error":"m"}"#, "c", "m"),
            (r#"{"error":"m"}"#, "", "m"),
            (r#"{"detail":"m"}"#, "", "m"),
        ] {
            let error = read(body);
            assert_eq!((&*error.name().unwrap_or_default(), error.message()), (code, message), "{body}");
        }
        assert!(ErrorBody::read(b"<html>").is_none() && ErrorBody::read(b"[]").is_none());
        let deep = [&*"{\"error\":".repeat(99), "1", &*"}".repeat(99)].concat();
        assert!(ErrorBody::read(deep.as_bytes()).is_none());
    }

    #[test]
    fn a_status_is_a_number_or_digits_or_a_word() {
        for (error, status) in [
            (r#"{"code":429}"#, 429),
            (r#"{"code":"429"}"#, 429),
            (r#"{"code":"rate_limit_exceeded"}"#, 429),
            (r#"{"status":"RESOURCE_EXHAUSTED"}"#, 429),
            (r#"{"status":503,"code":"1234"}"#, 503),
            (r#"{"type":"overloaded_error"}"#, 529),
            (r#"{"code":"image_content_policy_violation"}"#, 400),
            (r#"{"code":200}"#, 500),
            (r#"{"code":"vector_store_timeout"}"#, 500),
            (r#"{"type":"server_error","code":null}"#, 500),
        ] {
            assert_eq!(read(error).status().as_u16(), status, "{error}");
        }
    }
}
