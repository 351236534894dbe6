//! How a fault is written: an OpenAI-shaped JSON answer, or an event in the stream's own dialect.

use bytes::Bytes;
use http::{HeaderName, HeaderValue, Response, header};
use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::{Fault, kinds::retry_seconds};
use crate::{openai::Dialect, sse::writer};

/// Overrides what SDKs conclude from the status (openai-python `_base_client.py`, `_should_retry`).
pub const SHOULD_RETRY: HeaderName = HeaderName::from_static("x-should-retry");

/// OpenAI's error object: all four keys, always (openai-openapi `Error` schema).
#[derive(Serialize)]
struct ErrorObject<'a> {
    message: &'a str,
    #[serde(rename = "type")]
    kind: &'a str,
    param: Option<&'a str>,
    code: &'a str,
}

/// The body of an error answer and the data of a chat stream's error event.
#[derive(Serialize)]
struct Enveloped<'a> {
    error: ErrorObject<'a>,
}

/// The Responses API's in-stream error: flat (openai-openapi `ResponseErrorEvent`).
#[derive(Serialize)]
struct FlatError<'a> {
    #[serde(rename = "type")]
    kind: &'static str,
    code: &'a str,
    message: &'a str,
    param: Option<&'a str>,
    sequence_number: u64,
}

/// The Messages API's in-stream error (Anthropic, "Streaming messages", error events).
#[derive(Serialize)]
struct MessagesError<'a> {
    #[serde(rename = "type")]
    kind: &'static str,
    error: MessagesErrorObject<'a>,
}

#[derive(Serialize)]
struct MessagesErrorObject<'a> {
    #[serde(rename = "type")]
    kind: &'a str,
    message: &'a str,
}

impl Fault {
    /// The answer to a request that failed before its first byte.
    pub fn render(&self) -> Response<Bytes> {
        let row = self.row();
        let message = self.to_string();
        let mut response = Response::new(Bytes::from(json(&self.enveloped(&message))));
        *response.status_mut() = row.status;
        let headers = response.headers_mut();
        headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("application/json"));
        if let Some(retry) = row.retry {
            headers.insert(SHOULD_RETRY, HeaderValue::from_static(if retry { "true" } else { "false" }));
        }
        if let Self::Unavailable(wait) | Self::Full(wait) | Self::RateLimited(wait) = self {
            headers.insert(header::RETRY_AFTER, HeaderValue::from(retry_seconds(*wait)));
        }
        if let Self::MethodNotAllowed { allowed, .. } = self
            && let Ok(allowed) = HeaderValue::from_str(allowed)
        {
            headers.insert(header::ALLOW, allowed);
        }
        response
    }

    /// The event that tells a stream's reader what happened, in the dialect that it reads; `next_sequence` is the
    /// `sequence_number` that the Responses dialect expects next.
    pub fn event(&self, dialect: Dialect, next_sequence: u64) -> Bytes {
        let row = self.row();
        let message = self.to_string();
        match dialect {
            Dialect::Responses => {
                let error = FlatError {
                    kind: "error",
                    code: row.code,
                    message: &message,
                    param: None,
                    sequence_number: next_sequence,
                };
                writer::event("error", &json(&error))
            }
            Dialect::Messages => {
                let error = MessagesErrorObject { kind: "api_error", message: &message };
                writer::event("error", &json(&MessagesError { kind: "error", error }))
            }
            Dialect::Chat | Dialect::Completions | Dialect::Other => {
                writer::data(&json(&self.enveloped(&message)))
            }
        }
    }

    fn enveloped<'a>(&self, message: &'a str) -> Enveloped<'a> {
        let row = self.row();
        Enveloped { error: ErrorObject { message, kind: row.kind, param: None, code: row.code } }
    }
}

/// The body of an error answer with what an upstream has told of it, in OpenAI's form.
pub fn error_body(message: &Value, kind: &Value, param: &Value, code: &Value) -> Bytes {
    let error = serde_json::json!({ "message": message, "type": kind, "param": param, "code": code });
    Bytes::from(json(&serde_json::json!({ "error": error })))
}

/// What an upstream's error answer, `body`, is in an event stream; `None` when it is not in the form that OpenAI's errors have.
pub fn event_of(body: &[u8], dialect: Dialect) -> Option<Bytes> {
    #[derive(Serialize, Deserialize)]
    struct Told {
        error: Value,
    }
    let told: Told = serde_json::from_slice(body).ok()?;
    let text = |member: &str| told.error.get(member).and_then(Value::as_str);
    let message = text("message")?;
    Some(match dialect {
        Dialect::Responses => {
            let code = text("code").or_else(|| text("type")).unwrap_or("error");
            let param = text("param");
            let error = FlatError { kind: "error", code, message, param, sequence_number: 0 };
            writer::event("error", &json(&error))
        }
        Dialect::Messages => {
            let error = MessagesErrorObject { kind: text("type").unwrap_or("api_error"), message };
            writer::event("error", &json(&MessagesError { kind: "error", error }))
        }
        Dialect::Chat | Dialect::Completions | Dialect::Other => writer::data(&json(&told)),
    })
}

/// Serialising these plain structs cannot fail; should it ever, the caller still gets JSON.
fn json(value: &impl Serialize) -> String {
    serde_json::to_string(value).unwrap_or_else(|_| r#"{"error":{"message":null}}"#.to_owned())
}
