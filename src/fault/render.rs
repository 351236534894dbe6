//! How a fault is written: as a JSON response in OpenAI's form. The event that a stream gets instead is its dialect's to write.

use bytes::Bytes;
use http::{HeaderName, HeaderValue, Response, header};
use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::{Fault, kinds::retry_seconds};
use crate::openai::{Dialect, ErrorNotice};

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

/// The body of an error response.
#[derive(Serialize)]
struct Enveloped<'a> {
    error: ErrorObject<'a>,
}

impl Fault {
    /// The response to a request that failed before the first byte of its response.
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

    /// The event that tells the client of a stream what happened, in the stream's own dialect; `next_sequence` is the
    /// `sequence_number` that the Responses dialect expects next.
    pub fn event(&self, dialect: Dialect, next_sequence: u64) -> Bytes {
        let message = self.to_string();
        let body = json(&self.enveloped(&message));
        let error =
            ErrorNotice { body: &body, message: &message, kind: None, code: self.row().code, param: None };
        dialect.error_event(&error, next_sequence)
    }

    fn enveloped<'a>(&self, message: &'a str) -> Enveloped<'a> {
        let row = self.row();
        Enveloped { error: ErrorObject { message, kind: row.kind, param: None, code: row.code } }
    }
}

/// The body of an error response with the members of an upstream's error, in OpenAI's form.
pub fn error_body(message: &Value, kind: &Value, param: &Value, code: &Value) -> Bytes {
    let error = serde_json::json!({ "message": message, "type": kind, "param": param, "code": code });
    Bytes::from(json(&serde_json::json!({ "error": error })))
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
fn json(value: &impl Serialize) -> String {
    serde_json::to_string(value).unwrap_or_else(|_| r#"{"error":{"message":null}}"#.to_owned())
}
