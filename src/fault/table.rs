//! The table of faults: the response to each, the name of its text, and the arguments of the text.

use StatusCode as S;
use Who::{Downstream as Down, Gateway as Us, Upstream as Up};
use http::StatusCode;

use super::{
    Fault, Outcome, Phase, Reason, Who,
    kinds::retry_seconds,
    messages::{Argument, argument},
};
use crate::openai::Problem;
#[cfg(test)]
use {
    super::{LimitReached, Mistake},
    crate::openai::{EditError, FactsError, Invalid},
    std::time::Duration,
};

/// The response to a fault.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Row {
    /// The response's status.
    pub status: StatusCode,
    /// `error.type`, in OpenAI's words where they have one.
    pub kind: &'static str,
    /// `error.code`; also the fault's name in the log.
    pub code: &'static str,
    /// `x-should-retry`, which overrides what the SDKs conclude from the status (openai-python `_base_client.py`,
    /// `_should_retry`); `None` leaves it to them.
    pub retry: Option<bool>,
    /// Who caused it.
    pub who: Who,
}

const INVALID: &str = "invalid_request_error";
const SERVER: &str = "server_error";
const PERMISSION: &str = "permission_error";
const RATE_LIMIT: &str = "rate_limit_error";
const QUOTA: &str = "insufficient_quota";

/// The codes that a row can have.
macro_rules! codes {
    ($code:expr) => {
        vec![$code]
    };
    ($code:expr, $codes:expr) => {
        $codes.to_vec()
    };
}

/// Makes the table's methods of its rows. A row is
///
/// ```text
/// pattern => [status, type, code, retry, who], "text", placeholder = value, …; e.g. a fault;
/// ```
///
/// with the columns of [`Row`], the name of the text in `messages`, what the text's placeholders stand for, and an example of each code, which the tests and
/// the page of error codes are made from. A fault with several texts has several rows; the last one has no condition.
macro_rules! table {
    ($($fault:pat_param $(if $condition:expr)? =>
        [$status:expr, $kind:expr, $code:expr $(; one of $codes:expr)?, $retry:expr, $who:expr], $text:expr $(, $name:ident = $value:expr)*;
        e.g. $($example:expr),+;
    )*) => {
        impl Fault {
            /// This fault's row of the table.
            #[expect(unused_variables, reason = "the pattern of a row is for all of its columns")]
            pub fn row(&self) -> Row {
                match self {
                    $($fault $(if $condition)? => {
                        Row { status: $status, kind: $kind, code: $code, retry: $retry, who: $who }
                    })*
                }
            }

            /// The name of the fault's text.
            #[expect(unused_variables, reason = "the pattern of a row is for all of its columns")]
            pub(super) fn text(&self) -> &'static str {
                match self {
                    $($fault $(if $condition)? => $text,)*
                }
            }

            /// What the placeholders of the fault's text stand for.
            pub(super) fn arguments(&self) -> Vec<Argument> {
                match self {
                    $($fault $(if $condition)? => vec![$(argument(stringify!($name), &$value)),*],)*
                }
            }

            /// The codes of all faults, each once, in alphabetical order.
            pub fn codes() -> Vec<&'static str> {
                let mut codes = [$(codes!($code $(, $codes)?)),*].concat();
                codes.sort_unstable();
                codes.dedup();
                codes
            }

            /// One of each fault, and of each text of it.
            #[cfg(test)]
            pub(super) fn examples() -> Vec<Self> {
                vec![$($($example),+),*]
            }
        }
    };
}

table! {
    // The request.
    Self::NoRoute { method, path, mistake } if mistake.is_probe() =>
        [S::NOT_FOUND, INVALID, "route_not_found", None, Down], "no_route_probe", method = method, path = path;
        e.g. no_route(Mistake::Probe);
    Self::NoRoute { method, path, mistake } if mistake.base().is_some_and(str::is_empty) =>
        [S::NOT_FOUND, INVALID, "route_not_found", None, Down], "no_route_bare_base",
        method = method, path = path, correct = mistake.path();
        e.g. no_route(Mistake::BaseUrl { base: String::new(), path: "/v1/messages".into() });
    Self::NoRoute { method, path, mistake } if mistake.base().is_some() =>
        [S::NOT_FOUND, INVALID, "route_not_found", None, Down], "no_route_base",
        method = method, path = path, correct = mistake.path(), base = mistake.base().unwrap_or_default();
        e.g. no_route(Mistake::BaseUrl { base: "/v1".into(), path: "/v1/models".into() });
    Self::NoRoute { method, path, .. } =>
        [S::NOT_FOUND, INVALID, "route_not_found", None, Down], "no_route", method = method, path = path;
        e.g. no_route(Mistake::Unknown);
    Self::MethodNotAllowed { method, allowed } =>
        [S::METHOD_NOT_ALLOWED, INVALID, "method_not_allowed", None, Down], "method_not_allowed",
        method = method, allowed = allowed;
        e.g. Self::MethodNotAllowed { method: "PUT".into(), allowed: "GET, POST".into() };
    Self::MethodUnsupported(method) =>
        [S::NOT_IMPLEMENTED, INVALID, "method_not_supported", Some(false), Down], "method_unsupported", method = method;
        e.g. Self::MethodUnsupported("TRACE");
    Self::UpgradeUnsupported =>
        [S::NOT_IMPLEMENTED, INVALID, "upgrade_not_supported", Some(false), Down], "upgrade_unsupported";
        e.g. Self::UpgradeUnsupported;
    Self::WebSocketUnavailable =>
        [S::UPGRADE_REQUIRED, INVALID, "upgrade_not_supported", Some(false), Down], "websocket_unavailable";
        e.g. Self::WebSocketUnavailable;
    Self::BadPath(reason) =>
        [S::BAD_REQUEST, INVALID, "invalid_path", None, Down], "bad_path", reason = reason;
        e.g. Self::BadPath(Reason::PathBackslash);
    Self::BadRequest(reason) =>
        [S::BAD_REQUEST, INVALID, "invalid_request", None, Down], "bad_request", reason = reason;
        e.g. Self::BadRequest(Reason::HostMissing);
    Self::TooManyHeaders(limit) =>
        [S::REQUEST_HEADER_FIELDS_TOO_LARGE, INVALID, "too_many_headers", None, Down], "too_many_headers", limit = limit;
        e.g. Self::TooManyHeaders(100);
    Self::TlsRequired =>
        [S::BAD_REQUEST, INVALID, "tls_required", Some(false), Down], "tls_required";
        e.g. Self::TlsRequired;

    // The client, and what it may do.
    Self::KeyMissing =>
        [S::UNAUTHORIZED, INVALID, "missing_api_key", None, Down], "key_missing";
        e.g. Self::KeyMissing;
    Self::KeyUnknown =>
        [S::UNAUTHORIZED, INVALID, "invalid_api_key", None, Down], "key_unknown";
        e.g. Self::KeyUnknown;
    Self::KeyExpired =>
        [S::UNAUTHORIZED, INVALID, "key_expired", Some(false), Down], "key_expired";
        e.g. Self::KeyExpired;
    Self::KeyOfProvider(provider) =>
        [S::UNAUTHORIZED, INVALID, "invalid_api_key", None, Down], "key_of_provider", provider = provider;
        e.g. Self::KeyOfProvider("OpenAI");
    Self::KeyMalformed(reason) =>
        [S::UNAUTHORIZED, INVALID, "invalid_api_key", None, Down], "key_malformed", reason = reason;
        e.g. Self::KeyMalformed(Reason::AuthorizationForm);
    Self::EphemeralKeyInvalid(reason) =>
        [S::UNAUTHORIZED, INVALID, "invalid_ephemeral_key", Some(false), Down], "ephemeral_key_invalid", reason = reason;
        e.g. Self::EphemeralKeyInvalid(Reason::EphemeralForeign);
    Self::EphemeralKeyExpired =>
        [S::UNAUTHORIZED, INVALID, "ephemeral_key_expired", Some(false), Down], "ephemeral_key_expired";
        e.g. Self::EphemeralKeyExpired;
    Self::EphemeralKeyMisused =>
        [S::FORBIDDEN, PERMISSION, "ephemeral_key_not_allowed", Some(false), Down], "ephemeral_key_misused";
        e.g. Self::EphemeralKeyMisused;
    Self::KeysConflict(reason) =>
        [S::BAD_REQUEST, INVALID, "conflicting_credentials", None, Down], "keys_conflict", reason = reason;
        e.g. Self::KeysConflict(Reason::CredentialsDiffer);
    Self::OriginRefused =>
        [S::FORBIDDEN, PERMISSION, "origin_not_allowed", None, Down], "origin_refused";
        e.g. Self::OriginRefused;
    Self::OriginUnlisted(_) =>
        [S::FORBIDDEN, PERMISSION, "origin_not_allowed", None, Down], "origin_unlisted";
        e.g. Self::OriginUnlisted("the origin is null".into());
    Self::RouteForbidden =>
        [S::FORBIDDEN, PERMISSION, "route_not_allowed", None, Down], "route_forbidden";
        e.g. Self::RouteForbidden;
    Self::ModelForbidden(model) =>
        [S::FORBIDDEN, PERMISSION, "model_not_allowed", None, Down], "model_forbidden", model = model;
        e.g. Self::ModelForbidden("gpt".into());
    Self::ModelNotFound { model, names } if names.is_empty() =>
        [S::NOT_FOUND, INVALID, "model_not_found", None, Down], "model_not_found_alone", model = model;
        e.g. Self::ModelNotFound { model: "gpt-5".into(), names: Vec::new() };
    Self::ModelNotFound { model, names } =>
        [S::NOT_FOUND, INVALID, "model_not_found", None, Down], "model_not_found", model = model, names = names;
        e.g. Self::ModelNotFound { model: "gpt-5".into(), names: vec!["gpt-4".into(), "gpt-4o".into()] };
    Self::IdUnknown =>
        [S::NOT_FOUND, INVALID, "id_owner_unknown", Some(false), Down], "id_owner_unknown";
        e.g. Self::IdUnknown;
    Self::IdOwnerGone =>
        [S::NOT_FOUND, INVALID, "id_owner_gone", Some(false), Us], "id_owner_gone";
        e.g. Self::IdOwnerGone;
    Self::IdOwnersDiffer =>
        [S::BAD_REQUEST, INVALID, "id_owners_differ", Some(false), Down], "id_owners_differ";
        e.g. Self::IdOwnersDiffer;
    Self::IdOwnerUnavailable(wait) =>
        [S::SERVICE_UNAVAILABLE, SERVER, "id_owner_unavailable", Some(true), Up], "id_owner_unavailable",
        seconds = retry_seconds(*wait);
        e.g. Self::IdOwnerUnavailable(EXAMPLE_SPAN);
    Self::ModelUnknown =>
        [S::FORBIDDEN, PERMISSION, "model_required", None, Down], "model_unknown";
        e.g. Self::ModelUnknown;

    // Its body.
    Self::BodyTooLarge { limit } =>
        [S::PAYLOAD_TOO_LARGE, INVALID, "request_too_large", None, Down], "body_too_large", limit = limit;
        e.g. Self::BodyTooLarge { limit: 7 };
    Self::BodyInvalid(error) =>
        [S::BAD_REQUEST, INVALID, "invalid_body", None, Down], "body_invalid", reason = Reason::from(error);
        e.g. Self::BodyInvalid(FactsError::Empty);
    Self::RequestInvalid(invalid) =>
        [S::BAD_REQUEST, INVALID, invalid.problem.code(); one of Problem::CODES, None, Down], "request_invalid", problem = **invalid;
        e.g. checked("missing_required_parameter"), checked("invalid_type"), checked("invalid_value"), checked("empty_array"),
            checked("array_above_max_length"), checked("string_below_min_length"), checked("string_above_max_length"),
            checked("object_above_max_properties"), checked("integer_below_min_value"), checked("integer_above_max_value"),
            checked("decimal_below_min_value"), checked("decimal_above_max_value");
    Self::BodyNotEditable(error) =>
        [S::BAD_REQUEST, INVALID, "invalid_body", None, Down], "body_not_editable", reason = Reason::from(error);
        e.g. Self::BodyNotEditable(EditError::NotAnObject { member: "model" });
    Self::BodyStalled(span) =>
        [S::REQUEST_TIMEOUT, INVALID, "body_timeout", None, Down], "body_stalled", seconds = span.as_secs_f64();
        e.g. Self::BodyStalled(EXAMPLE_SPAN);
    Self::BodyBroken(_) =>
        [S::BAD_REQUEST, INVALID, "body_incomplete", None, Down], "body_broken";
        e.g. Self::BodyBroken("reset".into());

    // The gateway.
    Self::Overloaded =>
        [S::SERVICE_UNAVAILABLE, SERVER, "gateway_overloaded", Some(true), Us], "overloaded";
        e.g. Self::Overloaded;
    Self::TooManyInFlight =>
        [S::SERVICE_UNAVAILABLE, SERVER, "gateway_overloaded", Some(true), Us], "too_many_in_flight";
        e.g. Self::TooManyInFlight;
    Self::SpoolFull =>
        [S::SERVICE_UNAVAILABLE, SERVER, "gateway_overloaded", Some(true), Us], "spool_full";
        e.g. Self::SpoolFull;
    Self::SpoolFailed(_) =>
        [S::INSUFFICIENT_STORAGE, SERVER, "spool_failed", Some(false), Us], "spool_failed";
        e.g. Self::SpoolFailed("no space left on device".into());
    Self::NoDescriptors(_) =>
        [S::SERVICE_UNAVAILABLE, SERVER, "gateway_overloaded", Some(true), Us], "no_descriptors";
        e.g. Self::NoDescriptors("EMFILE".into());
    Self::Draining =>
        [S::SERVICE_UNAVAILABLE, SERVER, "gateway_draining", Some(true), Us], "draining";
        e.g. Self::Draining;
    Self::TotalTimeout(span) =>
        [S::GATEWAY_TIMEOUT, SERVER, "total_timeout", Some(false), Us], "total_timeout", seconds = span.as_secs_f64();
        e.g. Self::TotalTimeout(EXAMPLE_SPAN);

    // The upstream, before the response begins.
    Self::Connect(_) =>
        [S::BAD_GATEWAY, SERVER, "upstream_unreachable", None, Up], "connect";
        e.g. Self::Connect("refused".into());
    Self::ConnectTimeout(span) =>
        [S::GATEWAY_TIMEOUT, SERVER, "upstream_connect_timeout", None, Up], "connect_timeout",
        seconds = span.as_secs_f64();
        e.g. Self::ConnectTimeout(EXAMPLE_SPAN);
    Self::FirstByteTimeout(span) =>
        [S::GATEWAY_TIMEOUT, SERVER, "upstream_timeout", Some(false), Up], "first_byte_timeout",
        seconds = span.as_secs_f64();
        e.g. Self::FirstByteTimeout(EXAMPLE_SPAN);
    Self::FirstTokenTimeout(span) =>
        [S::GATEWAY_TIMEOUT, SERVER, "upstream_first_token_timeout", Some(false), Up], "first_token_timeout",
        seconds = span.as_secs_f64();
        e.g. Self::FirstTokenTimeout(EXAMPLE_SPAN);
    Self::Unavailable(wait) =>
        [S::SERVICE_UNAVAILABLE, SERVER, "upstream_unavailable", Some(true), Up], "unavailable",
        seconds = retry_seconds(*wait);
        e.g. Self::Unavailable(EXAMPLE_SPAN);
    Self::Full(wait) =>
        [S::SERVICE_UNAVAILABLE, SERVER, "upstream_unavailable", Some(true), Us], "full", seconds = retry_seconds(*wait);
        e.g. Self::Full(EXAMPLE_SPAN);
    Self::RateLimited(wait) =>
        [S::TOO_MANY_REQUESTS, RATE_LIMIT, "upstream_rate_limited", Some(true), Up], "rate_limited",
        seconds = retry_seconds(*wait);
        e.g. Self::RateLimited(EXAMPLE_SPAN);
    Self::RateLimit(reached) =>
        [S::TOO_MANY_REQUESTS, RATE_LIMIT, "rate_limit_exceeded", Some(reached.is_short()), Down], "rate_limit",
        limit = &*reached.limit, seconds = reached.retry_seconds();
        e.g. Self::RateLimit(limit_reached());
    Self::ConcurrencyLimit(reached) =>
        [S::TOO_MANY_REQUESTS, RATE_LIMIT, "concurrency_limit_exceeded", Some(true), Down], "concurrency_limit",
        limit = &*reached.limit;
        e.g. Self::ConcurrencyLimit(limit_reached());
    Self::CostLimit(reached) =>
        [S::TOO_MANY_REQUESTS, QUOTA, "insufficient_quota", Some(false), Down], "cost_limit",
        limit = &*reached.limit, seconds = reached.retry_seconds();
        e.g. Self::CostLimit(limit_reached());
    Self::QueueTimeout { reached, waited } =>
        [S::TOO_MANY_REQUESTS, RATE_LIMIT, "queue_timeout", Some(reached.is_short()), Down], "queue_timeout",
        limit = &*reached.limit, seconds = waited.as_secs_f64();
        e.g. Self::QueueTimeout { reached: limit_reached(), waited: EXAMPLE_SPAN };
    Self::NoAnswer(_) =>
        [S::BAD_GATEWAY, SERVER, "upstream_closed", None, Up], "no_answer";
        e.g. Self::NoAnswer("closed".into());
    Self::BadAnswer(reason) =>
        [S::BAD_GATEWAY, SERVER, "upstream_invalid", None, Up], "bad_answer", reason = reason;
        e.g. Self::BadAnswer(Reason::AnswerNotObject);
    Self::UnusableHead(reason) =>
        [S::BAD_GATEWAY, SERVER, "upstream_invalid", Some(false), Up], "unusable_head", reason = reason;
        e.g. Self::UnusableHead(Reason::AnswerRedirects);
    Self::Unreadable(_) =>
        [S::BAD_GATEWAY, SERVER, "upstream_unreadable_response", Some(false), Up], "unreadable";
        e.g. Self::Unreadable("a header without a name".into());
    Self::KeyUnusable(_) =>
        [S::SERVICE_UNAVAILABLE, SERVER, "upstream_unavailable", Some(false), Us], "key_unusable";
        e.g. Self::KeyUnusable("it answered 401".into());
    Self::Withheld(status) =>
        [withheld(*status), SERVER, "upstream_error_withheld", None, Up], "withheld", status = status;
        e.g. Self::Withheld(400);
    Self::AnswerTooLarge { limit } =>
        [S::BAD_GATEWAY, SERVER, "upstream_answer_too_large", Some(false), Up], "answer_too_large", limit = limit;
        e.g. Self::AnswerTooLarge { limit: 7 };

    // Within the response.
    Self::Truncated(_) =>
        [S::BAD_GATEWAY, SERVER, "upstream_truncated", None, Up], "truncated";
        e.g. Self::Truncated("closed".into());
    Self::Idle(span) =>
        [S::GATEWAY_TIMEOUT, SERVER, "upstream_idle", None, Up], "idle", seconds = span.as_secs_f64();
        e.g. Self::Idle(EXAMPLE_SPAN);
    Self::TunnelIdle(span) =>
        [S::GATEWAY_TIMEOUT, SERVER, "websocket_idle", None, Us], "tunnel_idle", seconds = span.as_secs_f64();
        e.g. Self::TunnelIdle(EXAMPLE_SPAN);
    Self::CallerStalled =>
        [S::REQUEST_TIMEOUT, INVALID, "write_stall", None, Down], "caller_stalled";
        e.g. Self::CallerStalled;
    Self::CutByDrain =>
        [S::SERVICE_UNAVAILABLE, SERVER, "gateway_draining", None, Us], "cut_by_drain";
        e.g. Self::CutByDrain;
    Self::KeyRevoked =>
        [S::UNAUTHORIZED, INVALID, "key_revoked", Some(false), Us], "key_revoked";
        e.g. Self::KeyRevoked;
    Self::CutByOperator =>
        [S::SERVICE_UNAVAILABLE, SERVER, "cancelled_by_operator", Some(false), Us], "cut_by_operator";
        e.g. Self::CutByOperator;
    Self::Internal(_) =>
        [S::INTERNAL_SERVER_ERROR, SERVER, "internal_error", None, Us], "internal";
        e.g. Self::Internal("a bug".into());
}

impl Fault {
    /// The outcome of an exchange that fails with this fault in `phase`.
    pub fn outcome(&self, phase: Phase) -> Outcome {
        let row = self.row();
        Outcome { who: row.who, phase, fault: Some(row.code) }
    }
}

/// A withheld body keeps its status, so that the SDK raises the same class.
fn withheld(status: u16) -> StatusCode {
    StatusCode::from_u16(status).unwrap_or(StatusCode::BAD_GATEWAY)
}

#[cfg(test)]
const EXAMPLE_SPAN: Duration = Duration::from_millis(1500);

#[cfg(test)]
fn limit_reached() -> LimitReached {
    LimitReached { limit: "fair-use".into(), wait: Some(EXAMPLE_SPAN) }
}

#[cfg(test)]
fn checked(code: &str) -> Fault {
    let mut examples = Invalid::examples().into_iter();
    Fault::RequestInvalid(
        examples.find(|invalid| invalid.problem.code() == code).expect("an example of each code"),
    )
}

#[cfg(test)]
fn no_route(mistake: Mistake) -> Fault {
    Fault::NoRoute { method: "GET".into(), path: "/{method}".into(), mistake: Box::new(mistake) }
}
