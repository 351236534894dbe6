//! How a fault is written: as a JSON response in OpenAI's form or in Anthropic's. The event that a stream gets instead is its dialect's to write.

use std::borrow::Cow;

use bytes::Bytes;
use http::{HeaderMap, HeaderName, HeaderValue, Response, StatusCode, header};
use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::{
    ErrorForm, ErrorRules, Fault, Language, LanguageChoice, LimitReached, Row, Who,
    json::Object,
    kinds::retry_seconds,
    rules::{Original, Quoted},
};
use crate::openai::{Dialect, ErrorNotice};

/// Overrides what SDKs conclude from the status (openai-python `_base_client.py`, `_should_retry`).
pub const SHOULD_RETRY: HeaderName = HeaderName::from_static("x-should-retry");

/// The name of the limit that refused a request.
const LIMIT: HeaderName = HeaderName::from_static("x-sluicegate-limit");

/// A wait in milliseconds, which the SDKs prefer to `retry-after` (openai-python `_base_client.py`, `_parse_retry_after_header`).
const RETRY_AFTER_MS: HeaderName = HeaderName::from_static("retry-after-ms");

/// Where Anthropic's SDKs find the id of a request (anthropic-sdk-python `_exceptions.py`, anthropic-sdk-typescript `core/error.ts`).
pub const ANTHROPIC_REQUEST_ID: HeaderName = HeaderName::from_static("request-id");

/// Room for the headers of an error response, those included that every response gets.
const HEADERS: usize = 16;

/// Room for what a body has beside its message, in bytes.
const ENVELOPE: usize = 192;

/// Whom an error response is for.
#[derive(Debug, Clone, Copy)]
pub struct Recipient<'a> {
    /// The form in which the client expects its errors.
    pub form: ErrorForm,
    /// The id of its request.
    pub request_id: &'a str,
    /// The languages that it may get, and what it asks for.
    pub languages: &'a LanguageChoice,
    /// Which errors it gets in other words.
    pub rules: &'a ErrorRules,
    /// The upstream that was asked last, or that has sent the error.
    pub upstream: Option<&'a str>,
}

/// What the client of an error response gets to read.
struct Worded {
    language: Language,
    message: String,
    /// The row of the table, with the status and the code of a rule.
    status: StatusCode,
    code: Cow<'static, str>,
}

impl Fault {
    /// The response to a request that failed before the first byte of its response.
    pub fn render(&self, recipient: Recipient<'_>) -> Response<Bytes> {
        let Recipient { form, request_id, languages, .. } = recipient;
        let row = self.row();
        let worded = self.worded(recipient);
        let mut body = String::with_capacity(worded.message.len() + ENVELOPE);
        match form {
            ErrorForm::OpenAi => self.write_envelope(&mut body, &worded.message, &worded.code),
            ErrorForm::Anthropic => self.write_for_anthropic(&mut body, &worded, request_id),
        }
        let mut response = Response::new(Bytes::from(body));
        *response.status_mut() = worded.status;
        *response.headers_mut() = HeaderMap::with_capacity(HEADERS);
        let headers = response.headers_mut();
        headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("application/json"));
        name_language(headers, worded.language, languages);
        if let Some(retry) = row.retry {
            headers.insert(SHOULD_RETRY, HeaderValue::from_static(if retry { "true" } else { "false" }));
        }
        insist_on_retry(row.status, worded.status, headers);
        if form == ErrorForm::Anthropic
            && let Ok(id) = HeaderValue::from_str(request_id)
        {
            headers.insert(ANTHROPIC_REQUEST_ID, id);
        }
        if matches!(self, Self::WebSocketUnavailable) {
            // RFC 9110 §15.5.22 and §7.8: the protocol to use instead.
            headers.insert(header::UPGRADE, HeaderValue::from_static("HTTP/1.1"));
            headers.insert(header::CONNECTION, HeaderValue::from_static("upgrade"));
        }
        if matches!(self, Self::Overloaded | Self::TooManyInFlight) {
            headers.insert(header::RETRY_AFTER, HeaderValue::from_static("1"));
        }
        if let Self::Unavailable(wait)
        | Self::IdOwnerUnavailable(wait)
        | Self::Full(wait)
        | Self::RateLimited(wait) = self
        {
            headers.insert(header::RETRY_AFTER, HeaderValue::from(retry_seconds(*wait)));
        }
        if let Self::RateLimit(reached)
        | Self::ConcurrencyLimit(reached)
        | Self::CostLimit(reached)
        | Self::QueueTimeout { reached, .. } = self
        {
            name_limit(headers, reached);
        }
        if let Self::MethodNotAllowed { allowed, .. } = self
            && let Ok(allowed) = HeaderValue::from_str(allowed)
        {
            headers.insert(header::ALLOW, allowed);
        }
        response
    }

    /// The event that tells the client of a stream what happened, in the stream's own dialect; `next_sequence` is the
    /// `sequence_number` that the Responses dialect expects next.
    pub fn event(&self, dialect: Dialect, next_sequence: u64, language: Language) -> Bytes {
        let (message, code) = (self.message(language), self.row().code);
        let mut body = String::with_capacity(message.len() + ENVELOPE);
        self.write_envelope(&mut body, &message, code);
        let error = ErrorNotice { body: &body, message: &message, kind: None, code, param: self.param() };
        dialect.error_event(&error, next_sequence)
    }

    /// The message that tells the client of a WebSocket connection what happened, in the form of both APIs: Realtime has an `event_id`, Responses
    /// a `status` (openai-openapi, `RealtimeServerEventError`, `ResponseWsError`).
    pub fn message_event(&self, request_id: &str, language: Language) -> String {
        let Row { status, code, .. } = self.row();
        let message = self.message(language);
        let mut event = String::with_capacity(message.len() + ENVELOPE);
        Object::begin(&mut event)
            .text("type", "error")
            .text("event_id", &format!("event_{request_id}"))
            .number("status", status.as_u16())
            .member("error", |out| self.write_object(out, &message, code))
            .end();
        event
    }

    /// Status, code and message for `recipient`.
    fn worded(&self, recipient: Recipient<'_>) -> Worded {
        let Row { status, code, who, .. } = self.row();
        let language = recipient.languages.language();
        let message = self.message(language);
        // An upstream that was asked before has nothing to do with an error of the client.
        let is_upstreams = who == Who::Upstream || matches!(self, Self::KeyUnusable(_));
        let upstream = recipient.upstream.filter(|_| is_upstreams);
        let Some(rule) = recipient.rules.find(Original { words: &[code], status, upstream }) else {
            return Worded { language, message, status, code: code.into() };
        };
        let quoted = Quoted { message: &message, code, status, request_id: recipient.request_id };
        let (language, message) = rule.message(recipient.languages, quoted).unwrap_or((language, message));
        let code = rule.code.clone().map_or(Cow::Borrowed(code), Cow::Owned);
        Worded { language, message, status: rule.status.unwrap_or(status), code }
    }

    /// OpenAI's body of an error response.
    fn write_envelope(&self, out: &mut String, message: &str, code: &str) {
        Object::begin(out).member("error", |out| self.write_object(out, message, code)).end();
    }

    /// OpenAI's error object: all four keys, always (openai-openapi `Error` schema).
    fn write_object(&self, out: &mut String, message: &str, code: &str) {
        Object::begin(out)
            .text("message", message)
            .text("type", self.row().kind)
            .optional("param", self.param())
            .text("code", code)
            .end();
    }

    /// Anthropic's body of an error response (Anthropic API reference, Errors), and what the gateway has to say beyond it: its own code, and the
    /// parameter that is concerned. Anthropic's SDKs keep the whole body and ignore members that they do not know.
    fn write_for_anthropic(&self, out: &mut String, worded: &Worded, request_id: &str) {
        let write_error = |out: &mut String| {
            Object::begin(out)
                .text("type", anthropic_type(worded.status))
                .text("message", &worded.message)
                .optional("param", self.param())
                .text("code", &worded.code)
                .end();
        };
        Object::begin(out)
            .text("type", "error")
            .member("error", write_error)
            .text("request_id", request_id)
            .end();
    }
}

/// The limit's name, and exactly the time after which the request may be sent again.
fn name_limit(headers: &mut HeaderMap, reached: &LimitReached) {
    if let Ok(name) = HeaderValue::from_str(&reached.limit) {
        headers.insert(LIMIT, name);
    }
    headers.insert(header::RETRY_AFTER, HeaderValue::from(reached.retry_seconds()));
    let millis = u64::try_from(reached.retry_after().as_nanos().div_ceil(1_000_000)).unwrap_or(u64::MAX);
    headers.insert(RETRY_AFTER_MS, HeaderValue::from(millis));
}

/// Whether SDKs retry a response with this status if its headers say nothing about that (openai-python `_base_client.py`, `_should_retry`;
/// openai-node `client.ts`, `shouldRetry`).
pub fn would_be_retried(status: StatusCode) -> bool {
    matches!(status.as_u16(), 408 | 409 | 429 | 500..)
}

/// Has SDKs retry a response whose status was replaced as they would with the original status.
pub(super) fn insist_on_retry(before: StatusCode, after: StatusCode, headers: &mut HeaderMap) {
    let retry = would_be_retried(before);
    if retry != would_be_retried(after) && !headers.contains_key(SHOULD_RETRY) {
        headers.insert(SHOULD_RETRY, HeaderValue::from_static(if retry { "true" } else { "false" }));
    }
}

/// Says in which language a message is, and that it would be in another one for another `accept-language` (RFC 9110 §8.5, §12.5.5).
pub(super) fn name_language(headers: &mut HeaderMap, language: Language, choice: &LanguageChoice) {
    headers.insert(header::CONTENT_LANGUAGE, HeaderValue::from_static(language.tag()));
    if choice.languages.is_choice() {
        headers.append(header::VARY, HeaderValue::from_static("accept-language"));
    }
}

/// Anthropic's error type for a status (Anthropic API reference, Errors). Its 529, overloaded, is the 503 of others.
pub(super) fn anthropic_type(status: StatusCode) -> &'static str {
    match status.as_u16() {
        401 => "authentication_error",
        402 => "billing_error",
        403 => "permission_error",
        404 => "not_found_error",
        413 => "request_too_large",
        429 => "rate_limit_error",
        503 | 529 => "overloaded_error",
        504 => "timeout_error",
        500 | 502 | 505.. => "api_error",
        _ => "invalid_request_error",
    }
}

/// An upstream's error that had no response of its own. Members may be of any type; some providers write numbers where OpenAI has words.
#[derive(Debug)]
pub struct ForeignError<'a> {
    /// The status that it means.
    pub status: StatusCode,
    /// `message`
    pub message: &'a Value,
    /// `type`
    pub kind: &'a Value,
    /// `param`
    pub param: &'a Value,
    /// `code`
    pub code: &'a Value,
}

impl ForeignError<'_> {
    /// The body of the response with this error to the request with this id.
    pub fn body(&self, form: ErrorForm, request_id: &str) -> Bytes {
        let Self { status, message, kind, param, code } = *self;
        let body = match form {
            ErrorForm::OpenAi => serde_json::json!({
                "error": { "message": message, "type": kind, "param": param, "code": code },
            }),
            ErrorForm::Anthropic => serde_json::json!({
                "type": "error",
                "error": { "type": anthropic_type(status), "message": message, "param": param, "code": code },
                "request_id": request_id,
            }),
        };
        Bytes::from(json(&body))
    }
}

/// The event for an upstream's error response with this `body`; `None` if it does not have the form of OpenAI's errors.
pub fn event_of(body: &[u8], dialect: Dialect) -> Option<Bytes> {
    #[derive(Serialize, Deserialize)]
    struct ErrorEnvelope {
        error: Value,
    }
    let told: ErrorEnvelope = serde_json::from_slice(body).ok()?;
    let text = |member: &str| told.error.get(member).and_then(Value::as_str);
    let message = text("message")?;
    let kind = text("type");
    let code = text("code").or(kind).unwrap_or("error");
    // The upstream's own bytes, if they fit into one line of an event.
    let written = std::str::from_utf8(body).ok().filter(|body| !body.contains(['\r', '\n']));
    let body = written.map_or_else(|| json(&told), str::to_owned);
    let error = ErrorNotice { body: &body, message, kind, code, param: text("param") };
    Some(dialect.error_event(&error, 0))
}

/// Serialising these plain structs cannot fail; should it ever, the caller still gets JSON.
pub(super) fn json(value: &impl Serialize) -> String {
    serde_json::to_string(value).unwrap_or_else(|_| r#"{"error":{"message":null}}"#.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fault::Languages;

    const DIALECTS: [Dialect; 5] =
        [Dialect::CHAT, Dialect::COMPLETIONS, Dialect::RESPONSES, Dialect::MESSAGES, Dialect::OTHER];

    fn rendered(fault: &Fault, form: ErrorForm, languages: &LanguageChoice) -> Response<Bytes> {
        let rules = ErrorRules::default();
        fault.render(Recipient { form, request_id: "req_1", languages, rules: &rules, upstream: None })
    }

    #[test]
    fn every_error_is_json_in_every_language_and_form_and_only_its_message_differs() {
        for fault in Fault::examples() {
            for form in [ErrorForm::OpenAi, ErrorForm::Anthropic] {
                let of = |language| LanguageChoice::read(Languages::of(language), false, &HeaderMap::new());
                let english = rendered(&fault, form, &of(Language::EN));
                let mut expected: Value = serde_json::from_slice(english.body()).unwrap();
                for language in Language::all() {
                    let response = rendered(&fault, form, &of(language));
                    assert!(
                        response.headers().values().all(|value| value.as_bytes().is_ascii()),
                        "{response:?}"
                    );
                    assert_eq!(response.headers()[header::CONTENT_LANGUAGE], language.tag());
                    assert_eq!(response.status(), english.status());
                    let body: Value = serde_json::from_slice(response.body()).unwrap();
                    assert_eq!(body["error"]["message"], fault.message(language));
                    expected["error"]["message"] = body["error"]["message"].clone();
                    assert_eq!(body, expected);
                }
            }
        }
    }

    #[test]
    fn every_event_is_one_event_in_every_language_and_dialect() {
        for fault in Fault::examples() {
            for language in Language::all() {
                let message = serde_json::to_string(&fault.message(language)).unwrap();
                for dialect in DIALECTS {
                    let event = fault.event(dialect, 7, language);
                    let event = std::str::from_utf8(&event).unwrap();
                    assert!(event.contains(&message) && event.contains(fault.row().code), "{event}");
                    assert_eq!(event.matches("data:").count(), 1, "{event}");
                }
                let text = fault.message_event("req_1", language);
                let message: Value = serde_json::from_str(&text).unwrap();
                assert_eq!(message["error"]["message"], fault.message(language));
            }
        }
    }
}
