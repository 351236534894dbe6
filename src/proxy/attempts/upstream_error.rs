//! An upstream's own error, and the client's response to it.

use std::time::{Duration, SystemTime};

use http::{HeaderMap, HeaderValue, Response, StatusCode, header};

use super::error_body::ErrorBody;
use crate::{fault::Fault, proxy::delivery::ClientResponse, snapshot::Upstream};

/// The longest wait that is passed on: some SDKs sleep for as long as a response says (openai-node `client.ts`).
const LONGEST_WAIT: Duration = Duration::from_secs(60);

const RETRY_AFTER_MS: &str = "retry-after-ms";

/// An error response of an upstream.
#[derive(Debug)]
pub(super) struct UpstreamError {
    /// The upstream's status; for an error event in a stream, the status that it would have without one.
    pub(super) status: StatusCode,
    /// Whether it is the first event of a stream.
    pub(super) in_stream: bool,
    /// `error.code`, or `error.type` if that says more.
    pub(super) code: Option<String>,
    /// How long to wait before the next request, according to the upstream.
    pub(super) retry_after: Option<Duration>,
    /// Whether the upstream forbids a retry (`x-should-retry: false`, which the SDKs obey).
    pub(super) hopeless: bool,
    /// Whether it is about the gateway's own key.
    pub(super) about_our_key: bool,
    /// The client's response if no other candidate succeeds.
    pub(super) response: Result<ClientResponse, Fault>,
}

impl UpstreamError {
    /// The error in `data`, the first event of a stream that the client gets unchanged.
    pub(super) fn in_stream(response: ClientResponse, data: &[u8]) -> Self {
        Self::from_event(ErrorBody::read(data), |_, _| Ok(response))
    }

    /// Releases the upstream's connection, because other candidates are tried.
    pub(super) fn detach(&mut self) {
        if let Ok(response) = &mut self.response {
            response.detach();
        }
    }

    /// The error in `data`, an event of a stream that was held until complete: the client gets only the error.
    pub(super) fn instead_of_whole(data: &[u8], upstream: &Upstream) -> Self {
        let error = ErrorBody::read(data).filter(|_| !upstream.secrets.found_in(data));
        Self::from_event(error, |error, status| {
            if is_about_key(status, error) {
                return Err(Fault::UpstreamAuth(format!("it answered {}", status.as_u16()).into()));
            }
            // The body is searched in its new form too: the original may have hidden a key by escapes.
            let body = error.map(ErrorBody::body).filter(|body| !upstream.secrets.found_in(body));
            let mut response = Response::new(body.ok_or(Fault::Withheld(status.as_u16()))?);
            *response.status_mut() = status;
            let kind = HeaderValue::from_static("application/json");
            response.headers_mut().insert(header::CONTENT_TYPE, kind);
            Ok(ClientResponse::local(response))
        })
    }

    fn from_event(
        error: Option<ErrorBody>,
        response: impl FnOnce(Option<&ErrorBody>, StatusCode) -> Result<ClientResponse, Fault>,
    ) -> Self {
        let status = error.as_ref().map_or(StatusCode::INTERNAL_SERVER_ERROR, ErrorBody::status);
        let about_our_key = is_about_key(status, error.as_ref());
        Self {
            response: response(error.as_ref(), status),
            status,
            in_stream: true,
            code: error.and_then(ErrorBody::into_code),
            retry_after: None,
            hopeless: false,
            about_our_key,
        }
    }
}

/// Whether an error in a stream is about the gateway's key, by the status that it has or would have.
fn is_about_key(status: StatusCode, error: Option<&ErrorBody>) -> bool {
    let concerns_model = error.is_some_and(ErrorBody::is_about_a_model);
    status == StatusCode::UNAUTHORIZED || (status == StatusCode::FORBIDDEN && !concerns_model)
}

/// How long to wait before the next request, according to the upstream: `retry-after-ms`, or `retry-after` in seconds or as a date (RFC
/// 9110 §10.2.3).
pub(super) fn retry_after(headers: &HeaderMap) -> Option<Duration> {
    let number = |name: &str| headers.get(name)?.to_str().ok()?.trim().parse::<f64>().ok();
    let milliseconds = number(RETRY_AFTER_MS).map(|milliseconds| milliseconds / 1000.0);
    let Some(seconds) = milliseconds.or_else(|| number(header::RETRY_AFTER.as_str())) else {
        let date = httpdate::parse_http_date(headers.get(header::RETRY_AFTER)?.to_str().ok()?).ok()?;
        return Some(date.duration_since(SystemTime::now()).unwrap_or_default());
    };
    // A number that is too large for a Duration becomes the longest Duration.
    (seconds >= 0.0).then(|| Duration::try_from_secs_f64(seconds).unwrap_or(Duration::MAX))
}

/// Shortens `retry-after` to [`LONGEST_WAIT`], because SDKs would sleep for all of it.
pub(super) fn cap_retry_after(headers: &mut HeaderMap) {
    if retry_after(headers).is_some_and(|wait| wait > LONGEST_WAIT) {
        headers.remove(RETRY_AFTER_MS);
        headers.insert(header::RETRY_AFTER, HeaderValue::from(LONGEST_WAIT.as_secs()));
    }
}
