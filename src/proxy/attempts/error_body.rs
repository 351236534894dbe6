//! The error object of an upstream's response.

use bytes::Bytes;
use http::StatusCode;
use serde::Deserialize;
use serde_json::Value;

use crate::fault;

/// An error response's body. Some providers write numbers where OpenAI has words.
#[derive(Debug, Deserialize)]
pub(super) struct ErrorBody {
    error: ErrorObject,
}

#[derive(Debug, Deserialize)]
struct ErrorObject {
    #[serde(default)]
    message: Value,
    #[serde(default)]
    param: Value,
    #[serde(default)]
    code: Value,
    #[serde(default, rename = "type")]
    kind: Value,
}

impl ErrorBody {
    /// An error object, in its envelope or, as an event of the Responses API, within another object or without one.
    pub(super) fn read(body: &[u8]) -> Option<Self> {
        #[derive(Deserialize)]
        struct FailedResponse {
            response: ErrorBody,
        }
        let enveloped = || serde_json::from_slice::<Self>(body).ok();
        let failed = || serde_json::from_slice::<FailedResponse>(body).ok().map(|failed| failed.response);
        let flat = || serde_json::from_slice::<ErrorObject>(body).ok().map(|error| Self { error });
        enveloped().or_else(failed).or_else(flat)
    }

    /// Whether a 403 is about the model that the client chose, not about the key (OpenAI: `model_not_found`; `param` names the member of the
    /// request that is at fault).
    pub(super) fn is_about_a_model(&self) -> bool {
        self.error.param == "model" || self.error.code.as_str().is_some_and(|code| code.starts_with("model_"))
    }

    /// The status that a response with this error has.
    pub(super) fn status(&self) -> StatusCode {
        let ErrorObject { code, kind, .. } = &self.error;
        let number = code.as_u64().and_then(|code| u16::try_from(code).ok());
        let status = number.and_then(|code| StatusCode::from_u16(code).ok());
        if let Some(status) = status.filter(|status| status.is_client_error() || status.is_server_error()) {
            return status;
        }
        match (code.as_str().unwrap_or_default(), kind.as_str().unwrap_or_default()) {
            ("rate_limit_exceeded" | "insufficient_quota", _)
            | (_, "insufficient_quota" | "rate_limit_error") => StatusCode::TOO_MANY_REQUESTS,
            ("context_length_exceeded" | "content_filter", _) | (_, "invalid_request_error") => {
                StatusCode::BAD_REQUEST
            }
            _ => StatusCode::INTERNAL_SERVER_ERROR,
        }
    }

    /// The body of a response with this error.
    pub(super) fn body(&self) -> Bytes {
        let ErrorObject { message, param, code, kind } = &self.error;
        fault::error_body(message, kind, param, code)
    }

    /// Its `code`, else its `type`: OpenAI writes `insufficient_quota` in both, others in one.
    pub(super) fn into_code(self) -> Option<String> {
        let ErrorObject { code, kind, .. } = self.error;
        [code, kind].into_iter().find_map(|word| word.as_str().map(str::to_owned))
    }
}
