//! Error responses in OpenAI's words.

use http::StatusCode;
use serde_json::{Value, json};

/// An error response: `{"error":{"message","type","param","code"}}`, always with all four keys.
#[derive(Clone, Debug)]
pub(super) struct ApiError {
    pub(super) status: StatusCode,
    message: String,
    kind: &'static str,
    code: Option<&'static str>,
}

impl ApiError {
    /// The provider's usual error for a status code.
    pub(super) fn of(status: StatusCode) -> Self {
        let (kind, code, message) = match status.as_u16() {
            400 => ("invalid_request_error", None, "The request was not understood."),
            401 => ("invalid_request_error", Some("invalid_api_key"), "Incorrect API key provided."),
            403 => {
                ("invalid_request_error", Some("unsupported_country_region_territory"), "Not supported here.")
            }
            404 => ("invalid_request_error", Some("model_not_found"), "The model does not exist."),
            413 => ("invalid_request_error", None, "The request is too large."),
            429 => ("requests", Some("rate_limit_exceeded"), "Rate limit reached for this model."),
            503 => {
                ("server_error", Some("server_is_overloaded"), "The server is overloaded or not ready yet.")
            }
            _ => ("server_error", None, "The server had an error while processing your request."),
        };
        Self { status, message: message.to_owned(), kind, code }
    }

    /// A provider's error by its name in `x-simulate: error=NAME`.
    pub(super) fn named(name: &str) -> Option<Self> {
        let (status, kind, code, message) = match name {
            // community.openai.com, "Request too large for gpt-4o".
            "too-large" => (
                StatusCode::TOO_MANY_REQUESTS,
                "tokens",
                Some("rate_limit_exceeded"),
                "Request too large for gpt-4o in organization org-simulator on tokens per min (TPM): Limit 30000, Requested 43580. \
                 The input or output tokens must be reduced in order to run successfully.",
            ),
            // OpenAI's help centre, "Error 429: you exceeded your current quota".
            "no-credit" => (
                StatusCode::TOO_MANY_REQUESTS,
                "insufficient_quota",
                Some("insufficient_quota"),
                "You exceeded your current quota, please check your plan and billing details.",
            ),
            "moderation" => (
                StatusCode::FORBIDDEN,
                "invalid_request_error",
                Some("content_policy_violation"),
                "Your request was rejected by the moderation system.",
            ),
            _ => return None,
        };
        Some(Self { status, message: message.to_owned(), kind, code })
    }

    /// An invalid API key. The message repeats part of the key, as the provider does.
    pub(super) fn invalid_key(given: &str) -> Self {
        let letters: Vec<char> = given.chars().collect();
        let shown: String = match letters.len() {
            0 => "''".to_owned(),
            1..=12 => letters.iter().take(2).chain(&['*'; 6]).collect(),
            more => letters.iter().take(8).chain(&['*'; 8]).chain(letters.iter().skip(more - 4)).collect(),
        };
        Self {
            message: format!("Incorrect API key provided: {shown}."),
            ..Self::of(StatusCode::UNAUTHORIZED)
        }
    }

    /// A model that does not exist.
    pub(super) fn model_not_found(model: &str) -> Self {
        let message = format!("The model '{model}' does not exist or you do not have access to it.");
        Self { message, ..Self::of(StatusCode::NOT_FOUND) }
    }

    /// A path without an endpoint.
    pub(super) fn unknown_url(method: &str, path: &str) -> Self {
        let message = format!("Unknown request URL: {method} {path}.");
        Self { message, code: Some("unknown_url"), ..Self::of(StatusCode::NOT_FOUND) }
    }

    /// A path that speaks WebSocket only.
    pub(super) fn upgrade_required() -> Self {
        let message = "This URL is for WebSocket connections.".to_owned();
        let status = StatusCode::UPGRADE_REQUIRED;
        Self { status, message, ..Self::of(StatusCode::BAD_REQUEST) }
    }

    /// A request that cannot be parsed.
    pub(super) fn bad_request(message: String) -> Self {
        Self { message, ..Self::of(StatusCode::BAD_REQUEST) }
    }

    /// The JSON body.
    pub(super) fn body(&self) -> Value {
        json!({"error": {"message": self.message, "type": self.kind, "param": null, "code": self.code}})
    }
}
