//! An upstream's own error, and the client's response to it.

use std::time::Duration;

use bytes::Bytes;
use http::{HeaderMap, HeaderValue, Response, StatusCode, header};

use super::{error_body::ErrorBody, error_class::ErrorClass, usage_refused::may_refuse_usage, wait};
use crate::{
    exchange::Record,
    fault::{ANTHROPIC_REQUEST_ID, ErrorForm, Fault, Reason, SHOULD_RETRY},
    proxy::{
        buffered,
        delivery::{ClientResponse, EventVerdict, HeldError},
        key_use::KeyCooldown,
    },
    snapshot::Upstream,
    upstream::{Cooldown, CooldownReason},
};

/// An error response of an upstream.
#[derive(Debug)]
pub(super) struct UpstreamError {
    /// The upstream's status; for an error event in a stream, the status that it would have without one.
    pub(super) status: StatusCode,
    /// Whether it is an event of a stream.
    pub(super) in_stream: bool,
    /// Whose fault it is.
    pub(super) class: ErrorClass,
    /// `error.code`, or another word of the provider's for it.
    pub(super) code: Option<String>,
    /// How long to wait before the next request, according to the upstream.
    pub(super) retry_after: Option<Duration>,
    /// Whether the upstream forbids a retry (`x-should-retry: false`, which the SDKs obey).
    pub(super) hopeless: bool,
    /// Whether it may be about the request for the usage of the stream ([`may_refuse_usage`]).
    pub(super) may_refuse_usage: bool,
    /// Whether the upstream was sent a key.
    pub(super) has_key: bool,
    /// The client's response if no other candidate succeeds.
    pub(super) response: Result<ClientResponse, Fault>,
}

impl UpstreamError {
    /// An error response with this status and these headers. `body` is what could be read of it; `response` is the client's, unless the error is
    /// about the gateway's own key.
    pub(super) fn of_response(
        status: StatusCode,
        headers: &HeaderMap,
        body: Option<&ErrorBody>,
        has_key: bool,
    ) -> Self {
        let class = ErrorClass::of(status, body, has_key);
        let limits = || (class == ErrorClass::RateLimited).then(|| wait::of_limits(headers)).flatten();
        Self {
            status,
            in_stream: false,
            class,
            code: body.and_then(ErrorBody::name),
            retry_after: wait::named(headers, body).or_else(limits),
            hopeless: headers.get(SHOULD_RETRY).is_some_and(|value| value == "false"),
            may_refuse_usage: false,
            has_key,
            response: Err(Fault::Withheld(status.as_u16())),
        }
    }

    /// The cooldown that the error calls for, where the attempt asked for `model`, whether or not the request is sent again.
    pub(super) fn cooldown(&self, model: Option<&str>) -> Option<KeyCooldown> {
        if !self.has_key {
            return None;
        }
        let what = match self.class {
            ErrorClass::KeyRefused => Cooldown::All(CooldownReason::Refused),
            ErrorClass::NoCredit => Cooldown::All(CooldownReason::Spent),
            // A rate limit applies to one model. If the request names none, no other request is affected.
            ErrorClass::RateLimited => Cooldown::Model(model?.into()),
            // Says nothing about other requests with this key.
            ErrorClass::KeyUnfit
            | ErrorClass::Forbidden
            | ErrorClass::TooLargeForLimit
            | ErrorClass::Timeout
            | ErrorClass::Server
            | ErrorClass::ContextTooLong
            | ErrorClass::Request => return None,
        };
        Some(KeyCooldown { what, named: self.retry_after })
    }

    /// An error event of a stream of which the client has received nothing: the client gets it as a response. The response stays counted while it
    /// is kept.
    pub(super) fn of_event(event: HeldError, upstream: &Upstream, record: &Record) -> Self {
        let HeldError { data, counted } = event;
        let body = ErrorBody::read(&data);
        let status = body.as_ref().map_or(StatusCode::BAD_GATEWAY, status_of_event);
        let error = Self::of_response(status, &HeaderMap::new(), body.as_ref(), upstream.auth.is_some());
        let response = match &body {
            None => Err(Fault::BadAnswer(Reason::AnswerEvent)),
            Some(body) => error.as_response(body, &data, upstream, record),
        };
        let response = response
            .map(|response| response.map(|bytes| buffered::own(bytes, counted)))
            .map(|response| ClientResponse::of_upstream_error(response, &upstream.name));
        Self { in_stream: true, may_refuse_usage: may_refuse_usage(status, &data), ..error }
            .answered(response)
    }

    /// The same error with the client's `response` to it, which does not show what is about the gateway's own key.
    pub(super) fn answered(mut self, response: Result<ClientResponse, Fault>) -> Self {
        self.response = key_unusable(self.class, self.status).map_or(response, Err);
        self
    }

    /// The response that this error of a stream would have been: `data` itself if it has the form of an error response.
    fn as_response(
        &self,
        body: &ErrorBody,
        data: &[u8],
        upstream: &Upstream,
        record: &Record,
    ) -> Result<Response<Bytes>, Fault> {
        let (form, id) = (record.error_form, record.request_id.as_str());
        // The error is searched in its new form too: the original may have hidden a key by escapes.
        let rewritten = body.body(form, id);
        if upstream.secrets.found_in(data) || upstream.secrets.found_in(&rewritten) {
            return Err(Fault::Withheld(self.status.as_u16()));
        }
        let bytes = if body.has_form(form) { data.to_vec().into() } else { rewritten };
        let mut response = Response::new(bytes);
        *response.status_mut() = self.status;
        let headers = response.headers_mut();
        headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("application/json"));
        if form == ErrorForm::Anthropic
            && let Ok(id) = HeaderValue::from_str(id)
        {
            headers.insert(ANTHROPIC_REQUEST_ID, id);
        }
        if let Some(wait) = self.retry_after {
            headers.insert(header::RETRY_AFTER, HeaderValue::from(wait.as_secs_f64().ceil() as u64));
            wait::cap(headers);
        }
        Ok(response)
    }
}

/// What an error event of a stream, with this data, says about the gateway's own key. The attempt asked for `model`.
pub(super) fn judge_event(data: &[u8], has_key: bool, model: Option<&str>) -> EventVerdict {
    let Some(body) = ErrorBody::read(data) else { return EventVerdict::default() };
    let status = status_of_event(&body);
    let error = UpstreamError::of_response(status, &HeaderMap::new(), Some(&body), has_key);
    EventVerdict { instead: key_unusable(error.class, status), cooldown: error.cooldown(model) }
}

/// The fault of an error of this class, if it is about the gateway's own key.
fn key_unusable(class: ErrorClass, status: StatusCode) -> Option<Fault> {
    let why = match class {
        ErrorClass::KeyRefused => "the upstream refused the gateway's key",
        ErrorClass::NoCredit => "the account of the gateway's key has no credit",
        ErrorClass::KeyUnfit => "the gateway's key cannot be used for this request",
        _ => return None,
    };
    Some(Fault::KeyUnusable(format!("{why} (status {})", status.as_u16()).into()))
}

/// The status that a response with this error has. What its words say about the key or its account counts before a number of the server's own,
/// because that may have been invented: resellers have codes for an empty account to which no status belongs.
fn status_of_event(body: &ErrorBody) -> StatusCode {
    let status = body.status();
    if status.is_client_error() {
        return status;
    }
    match ErrorClass::about_key(body) {
        Some(ErrorClass::NoCredit) => StatusCode::PAYMENT_REQUIRED,
        Some(ErrorClass::KeyRefused) => StatusCode::UNAUTHORIZED,
        Some(ErrorClass::KeyUnfit) => StatusCode::FORBIDDEN,
        _ => status,
    }
}
