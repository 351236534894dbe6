//! The table of the response to each fault.

use http::StatusCode;

use super::{Fault, Outcome, Phase, Who};

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

const NOT_ALLOWED: StatusCode = StatusCode::METHOD_NOT_ALLOWED;
const UNSUPPORTED: StatusCode = StatusCode::NOT_IMPLEMENTED;
const UPGRADE: StatusCode = StatusCode::UPGRADE_REQUIRED;
const LARGE_HEAD: StatusCode = StatusCode::REQUEST_HEADER_FIELDS_TOO_LARGE;
const GATEWAY: StatusCode = StatusCode::BAD_GATEWAY;
const UNAVAILABLE: StatusCode = StatusCode::SERVICE_UNAVAILABLE;
const TOO_MANY: StatusCode = StatusCode::TOO_MANY_REQUESTS;

impl Fault {
    /// This fault's row of the table.
    pub fn row(&self) -> Row {
        use StatusCode as S;
        use Who::{Downstream as Down, Gateway as Us, Upstream as Up};
        let (status, kind, code, retry, who) = match self {
            Self::NoRoute { .. } => (S::NOT_FOUND, INVALID, "route_not_found", None, Down),
            Self::MethodNotAllowed { .. } => (NOT_ALLOWED, INVALID, "method_not_allowed", None, Down),
            Self::MethodUnsupported(_) => (UNSUPPORTED, INVALID, "method_not_supported", Some(false), Down),
            Self::UpgradeUnsupported => (UNSUPPORTED, INVALID, "upgrade_not_supported", Some(false), Down),
            Self::WebSocketUnavailable => (UPGRADE, INVALID, "upgrade_not_supported", Some(false), Down),
            Self::BadPath(_) => (S::BAD_REQUEST, INVALID, "invalid_path", None, Down),
            Self::BadRequest(_) => (S::BAD_REQUEST, INVALID, "invalid_request", None, Down),
            Self::TooManyHeaders(_) => (LARGE_HEAD, INVALID, "too_many_headers", None, Down),
            Self::TlsRequired => (S::BAD_REQUEST, INVALID, "tls_required", Some(false), Down),
            Self::KeyMissing => (S::UNAUTHORIZED, INVALID, "missing_api_key", None, Down),
            Self::KeyUnknown | Self::KeyOfProvider(_) | Self::KeyMalformed(_) => {
                (S::UNAUTHORIZED, INVALID, "invalid_api_key", None, Down)
            }
            Self::KeysConflict(_) => (S::BAD_REQUEST, INVALID, "conflicting_credentials", None, Down),
            Self::OriginRefused | Self::OriginUnlisted => {
                (S::FORBIDDEN, PERMISSION, "origin_not_allowed", None, Down)
            }
            Self::RouteForbidden => (S::FORBIDDEN, PERMISSION, "route_not_allowed", None, Down),
            Self::ModelForbidden(_) => (S::FORBIDDEN, PERMISSION, "model_not_allowed", None, Down),
            Self::ModelNotFound { .. } => (S::NOT_FOUND, INVALID, "model_not_found", None, Down),
            Self::IdOwner(problem) => return problem.row(),
            Self::ModelUnknown => (S::FORBIDDEN, PERMISSION, "model_required", None, Down),
            Self::BodyTooLarge { .. } => (S::PAYLOAD_TOO_LARGE, INVALID, "request_too_large", None, Down),
            Self::BodyInvalid(_) | Self::BodyNotEditable(_) => {
                (S::BAD_REQUEST, INVALID, "invalid_body", None, Down)
            }
            Self::BodyStalled(_) => (S::REQUEST_TIMEOUT, INVALID, "body_timeout", None, Down),
            Self::BodyBroken(_) => (S::BAD_REQUEST, INVALID, "body_incomplete", None, Down),
            Self::Overloaded | Self::NoDescriptors(_) => {
                (UNAVAILABLE, SERVER, "gateway_overloaded", Some(true), Us)
            }
            Self::Draining => (UNAVAILABLE, SERVER, "gateway_draining", Some(true), Us),
            Self::TotalTimeout(_) => (S::GATEWAY_TIMEOUT, SERVER, "total_timeout", Some(false), Us),
            Self::Connect(_) => (GATEWAY, SERVER, "upstream_unreachable", None, Up),
            Self::ConnectTimeout(_) => (S::GATEWAY_TIMEOUT, SERVER, "upstream_connect_timeout", None, Up),
            Self::FirstByteTimeout(_) => (S::GATEWAY_TIMEOUT, SERVER, "upstream_timeout", Some(false), Up),
            Self::FirstTokenTimeout(_) => {
                (S::GATEWAY_TIMEOUT, SERVER, "upstream_first_token_timeout", Some(false), Up)
            }
            Self::Unavailable(_) => (UNAVAILABLE, SERVER, "upstream_unavailable", Some(true), Up),
            Self::Full(_) => (UNAVAILABLE, SERVER, "upstream_unavailable", Some(true), Us),
            Self::RateLimited(_) => (TOO_MANY, RATE_LIMIT, "upstream_rate_limited", Some(true), Up),
            Self::NoAnswer(_) => (GATEWAY, SERVER, "upstream_closed", None, Up),
            Self::BadAnswer(_) => (GATEWAY, SERVER, "upstream_invalid", None, Up),
            Self::UnusableHead(_) => (GATEWAY, SERVER, "upstream_invalid", Some(false), Up),
            Self::Unreadable(_) => (GATEWAY, SERVER, "upstream_unreadable_response", Some(false), Up),
            Self::KeyUnusable(_) => (UNAVAILABLE, SERVER, "upstream_unavailable", Some(false), Us),
            Self::Withheld(status) => (withheld(*status), SERVER, "upstream_error_withheld", None, Up),
            Self::AnswerTooLarge { .. } => (GATEWAY, SERVER, "upstream_answer_too_large", Some(false), Up),
            Self::Truncated(_) => (GATEWAY, SERVER, "upstream_truncated", None, Up),
            Self::Idle(_) => (S::GATEWAY_TIMEOUT, SERVER, "upstream_idle", None, Up),
            Self::TunnelIdle(_) => (S::GATEWAY_TIMEOUT, SERVER, "websocket_idle", None, Us),
            Self::CallerStalled => (S::REQUEST_TIMEOUT, INVALID, "write_stall", None, Down),
            Self::CutByDrain => (UNAVAILABLE, SERVER, "gateway_draining", None, Us),
            Self::Internal(_) => (S::INTERNAL_SERVER_ERROR, SERVER, "internal_error", None, Us),
        };
        Row { status, kind, code, retry, who }
    }

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
