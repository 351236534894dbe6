//! An upstream's own error: what it is, and what the caller would be told of it.

use std::time::{Duration, SystemTime};

use http::{HeaderMap, HeaderValue, Response, StatusCode, header};

use super::{answered::CallerResponse, told::ErrorBody};
use crate::{fault::Fault, snapshot::Upstream};

/// What is passed on at most of how long to wait: some SDKs sleep for as long as they are told (openai-node `client.ts`).
const LONGEST_WAIT: Duration = Duration::from_secs(60);

const RETRY_AFTER_MS: &str = "retry-after-ms";

/// An error answer of an upstream's.
#[derive(Debug)]
pub(super) struct UpstreamError {
    /// As the upstream has it; for an error as the first thing in a stream, what it would be without one.
    pub(super) status: StatusCode,
    /// It is the first thing in a stream.
    pub(super) in_stream: bool,
    /// `error.code`, or `error.type` if that says more.
    pub(super) code: Option<String>,
    /// What it says of when to ask again.
    pub(super) retry_after: Option<Duration>,
    /// It says itself that asking it again is of no use (`x-should-retry: false`, as the SDKs heed it).
    pub(super) hopeless: bool,
    /// It is our key that is refused.
    pub(super) about_our_key: bool,
    /// What the caller is told if nothing better is found.
    pub(super) given: Result<CallerResponse, Fault>,
}

impl UpstreamError {
    /// An error event, `data`, that is the first thing in a stream, which the caller gets as it is.
    pub(super) fn in_stream(answered: CallerResponse, data: &[u8]) -> Self {
        Self::told_in_stream(ErrorBody::read(data), |_, _| Ok(answered))
    }

    /// Others are asked.
    pub(super) fn detach(&mut self) {
        if let Ok(answered) = &mut self.given {
            answered.detach();
        }
    }

    /// An error event, `data`, in a stream that was to be whole, of which the caller gets the error alone.
    pub(super) fn instead_of_whole(data: &[u8], upstream: &Upstream) -> Self {
        let told = ErrorBody::read(data).filter(|_| !upstream.secrets.found_in(data));
        Self::told_in_stream(told, |told, status| {
            if is_about_key(status, told) {
                return Err(Fault::UpstreamAuth(format!("it answered {}", status.as_u16()).into()));
            }
            // Searched as it is written here, too: it may have been escaped.
            let body = told.map(ErrorBody::body).filter(|body| !upstream.secrets.found_in(body));
            let mut response = Response::new(body.ok_or(Fault::Withheld(status.as_u16()))?);
            *response.status_mut() = status;
            let kind = HeaderValue::from_static("application/json");
            response.headers_mut().insert(header::CONTENT_TYPE, kind);
            Ok(CallerResponse::local(response))
        })
    }

    fn told_in_stream(
        told: Option<ErrorBody>,
        given: impl FnOnce(Option<&ErrorBody>, StatusCode) -> Result<CallerResponse, Fault>,
    ) -> Self {
        let status = told.as_ref().map_or(StatusCode::INTERNAL_SERVER_ERROR, ErrorBody::status);
        let about_our_key = is_about_key(status, told.as_ref());
        Self {
            given: given(told.as_ref(), status),
            status,
            in_stream: true,
            code: told.and_then(ErrorBody::into_code),
            retry_after: None,
            hopeless: false,
            about_our_key,
        }
    }
}

/// Whether an error in a stream is about the gateway's key, by the status that it has or would have.
fn is_about_key(status: StatusCode, told: Option<&ErrorBody>) -> bool {
    let concerns_model = told.is_some_and(ErrorBody::is_about_a_model);
    status == StatusCode::UNAUTHORIZED || (status == StatusCode::FORBIDDEN && !concerns_model)
}

/// How long the upstream wants to be left alone: `retry-after-ms`, or `retry-after` in seconds or as a date (RFC 9110 §10.2.3).
pub(super) fn retry_after(headers: &HeaderMap) -> Option<Duration> {
    let number = |name: &str| headers.get(name)?.to_str().ok()?.trim().parse::<f64>().ok();
    let milliseconds = number(RETRY_AFTER_MS).map(|milliseconds| milliseconds / 1000.0);
    let Some(seconds) = milliseconds.or_else(|| number(header::RETRY_AFTER.as_str())) else {
        let date = httpdate::parse_http_date(headers.get(header::RETRY_AFTER)?.to_str().ok()?).ok()?;
        return Some(date.duration_since(SystemTime::now()).unwrap_or_default());
    };
    // More than a Duration holds is as good as for ever.
    (seconds >= 0.0).then(|| Duration::try_from_secs_f64(seconds).unwrap_or(Duration::MAX))
}

pub(super) fn cap_wait(headers: &mut HeaderMap) {
    if retry_after(headers).is_some_and(|wait| wait > LONGEST_WAIT) {
        headers.remove(RETRY_AFTER_MS);
        headers.insert(header::RETRY_AFTER, HeaderValue::from(LONGEST_WAIT.as_secs()));
    }
}
