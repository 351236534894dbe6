//! Whether a request may be sent again, and where: one table, by how an attempt failed.
//!
//! What reads, computes, or ends in the same state may be sent again after any failure ([`Repeat`]). What creates something (files, batches,
//! fine-tuning, background responses) is sent again only when the upstream cannot have acted on it.

use std::time::Duration;

use super::upstream_error::UpstreamError;
use crate::{
    fault::Fault,
    openai::Repeat,
    upstream::{Cooldown, CooldownReason},
};

/// The cooldown of a key whose rate limit is reached, when the upstream does not say for how long.
const RATE_LIMITED: Duration = Duration::from_secs(1);
/// The cooldown of a key that is refused, or whose credit is spent: time for the operator to repair that.
const REFUSED: Duration = Duration::from_secs(60);
const SPENT: Duration = Duration::from_secs(300);
/// The longest cooldown. An upstream may ask for a day and recover in a minute.
const LONGEST_COOLDOWN: Duration = Duration::from_secs(600);

/// Error codes that concern a whole account, or the key itself (OpenAI's codes, Anthropic's `authentication_error`).
const ACCOUNT: [&str; 6] = [
    "invalid_api_key",
    "account_deactivated",
    "billing_not_active",
    "access_terminated",
    "unsupported_country_region_territory",
    "authentication_error",
];

/// How an attempt failed.
#[derive(Debug)]
pub(super) enum AttemptError {
    /// There was no response, or an unusable one.
    Fault(Fault),
    /// The upstream's own error.
    Upstream(Box<UpstreamError>),
}

/// What may be done after an attempt failed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum RetryDecision {
    /// No retry: the client gets the error.
    Never,
    /// The same request, at another target, or after a while at the same one: this target cannot be reached for any request.
    OtherTarget,
    /// The same request, at another target or for another model, or after a while at the same one.
    Elsewhere {
        /// The candidate sent nothing until a timeout: this exchange does not try it for that model again.
        silent: bool,
    },
    /// The same request with another key.
    OtherKey,
    /// Another upstream of the route, that is, another model.
    OtherUpstream,
}

/// The facts about the request that the decision needs.
#[derive(Debug, Clone, Copy)]
pub(super) struct RetryContext<'a> {
    /// What a second request does.
    pub(super) repeat: Repeat,
    /// Whether it is about things that one account has: once an upstream has answered, no other one is tried.
    pub(super) stays_at_upstream: bool,
    /// Whether the route sends a request that is too long for one model to the next upstream.
    pub(super) next_on_context_length: bool,
    /// The model that the attempt asked for.
    pub(super) model: Option<&'a str>,
}

impl AttemptError {
    /// Decides what to try next.
    pub(super) fn decide(&self, request: RetryContext<'_>) -> RetryDecision {
        match self {
            Self::Fault(fault) => after_fault(fault, request),
            Self::Upstream(error) => after_upstream_error(error, request),
        }
    }

    /// The cooldown of the attempt's key, and for how long, whether or not the request is sent again.
    pub(super) fn cooldown(&self, request: RetryContext<'_>) -> Option<(Cooldown, Duration)> {
        let Self::Upstream(error) = self else { return None };
        let requested = error.retry_after.map(|span| span.min(LONGEST_COOLDOWN));
        let code = error.code.as_deref().unwrap_or_default();
        match error.status.as_u16() {
            429 if code == "insufficient_quota" => {
                Some((Cooldown::All(CooldownReason::Spent), requested.unwrap_or(SPENT)))
            }
            // A rate limit applies to one model. If the request names none, no other request is affected.
            429 => {
                request.model.map(|model| (Cooldown::Model(model.into()), requested.unwrap_or(RATE_LIMITED)))
            }
            // Keys have scopes, and some providers moderate by 403: only errors about the whole account affect other requests.
            401 | 403 if error.about_our_key && ACCOUNT.contains(&code) => {
                Some((Cooldown::All(CooldownReason::Refused), REFUSED))
            }
            _ => None,
        }
    }

    /// The same error without the upstream's connection.
    pub(super) fn detached(mut self) -> Self {
        if let Self::Upstream(error) = &mut self {
            error.detach();
        }
        self
    }

    /// How long to wait before the next request, according to the upstream.
    pub(super) fn retry_after(&self) -> Option<Duration> {
        match self {
            Self::Upstream(error) => error.retry_after,
            Self::Fault(_) => None,
        }
    }

    /// Whether the target is at fault, and not the client or a key.
    pub(super) fn is_targets_fault(&self) -> bool {
        match self {
            Self::Fault(fault) => matches!(
                fault,
                Fault::Connect(_)
                    | Fault::ConnectTimeout(_)
                    | Fault::NoAnswer(_)
                    | Fault::FirstByteTimeout(_)
                    | Fault::FirstTokenTimeout(_)
                    | Fault::Truncated(_)
                    | Fault::Idle(_)
            ),
            Self::Upstream(error) => error.status.is_server_error(),
        }
    }

    /// Whether the attempt failed by a timeout for slowness ([`Fault::is_slowness`]).
    pub(super) fn is_slowness(&self) -> bool {
        matches!(self, Self::Fault(fault) if fault.is_slowness())
    }

    /// The provider's own error code, if it gave one.
    pub(super) fn code(&self) -> Option<&str> {
        match self {
            Self::Fault(_) => None,
            Self::Upstream(error) => error.code.as_deref(),
        }
    }

    /// The result of the attempt in the log and the metrics.
    pub(super) fn name(&self) -> &'static str {
        match self {
            Self::Fault(fault) => fault.row().code,
            Self::Upstream(error) if error.in_stream => "error_event",
            Self::Upstream(error) => crate::exchange::class(error.status),
        }
    }
}

fn after_fault(fault: &Fault, request: RetryContext<'_>) -> RetryDecision {
    match fault {
        // Nothing was sent.
        Fault::Connect(_) | Fault::ConnectTimeout(_) | Fault::Full(_) => RetryDecision::OtherTarget,
        _ if !request.repeat.is_harmless() => RetryDecision::Never,
        Fault::NoAnswer(_) | Fault::BadAnswer(_) | Fault::Truncated(_) => {
            RetryDecision::Elsewhere { silent: false }
        }
        Fault::FirstByteTimeout(_) | Fault::FirstTokenTimeout(_) | Fault::Idle(_) => {
            RetryDecision::Elsewhere { silent: true }
        }
        _ => RetryDecision::Never,
    }
}

fn after_upstream_error(error: &UpstreamError, request: RetryContext<'_>) -> RetryDecision {
    let code = error.code.as_deref().unwrap_or_default();
    match error.status.as_u16() {
        // The upstream refused the key before it processed the request.
        401 | 403 if error.about_our_key => RetryDecision::OtherKey,
        429 if code == "insufficient_quota" => RetryDecision::OtherKey,
        _ if !request.repeat.is_harmless() => RetryDecision::Never,
        408 | 429 | 500.. if error.hopeless && request.stays_at_upstream => RetryDecision::Never,
        408 | 429 | 500.. if error.hopeless => RetryDecision::OtherUpstream,
        429 => RetryDecision::OtherKey,
        // 529: Anthropic is overloaded.
        408 | 500 | 502 | 503 | 504 | 529 => RetryDecision::Elsewhere { silent: false },
        400 | 413 if request.next_on_context_length && code == "context_length_exceeded" => {
            RetryDecision::OtherUpstream
        }
        _ => RetryDecision::Never,
    }
}

#[cfg(test)]
mod tests {
    use http::StatusCode;

    use super::*;

    fn refused(status: u16, code: &str, retry_after: Option<u64>) -> AttemptError {
        AttemptError::Upstream(Box::new(UpstreamError {
            status: StatusCode::from_u16(status).unwrap(),
            code: Some(code.into()),
            retry_after: retry_after.map(Duration::from_secs),
            hopeless: false,
            about_our_key: matches!(status, 401 | 403),
            in_stream: false,
            response: Err(Fault::Overloaded),
        }))
    }

    const CHAT: RetryContext<'_> = RetryContext {
        repeat: Repeat::Compute,
        stays_at_upstream: false,
        next_on_context_length: false,
        model: Some("m"),
    };
    const BATCH: RetryContext<'_> = RetryContext { repeat: Repeat::Create, ..CHAT };
    const POLL: RetryContext<'_> = RetryContext { repeat: Repeat::Read, stays_at_upstream: true, ..CHAT };
    const DELETE: RetryContext<'_> = RetryContext { repeat: Repeat::SameEnd, ..POLL };

    #[test]
    fn what_the_upstream_cannot_have_seen_may_always_be_sent_again() {
        for asked in [CHAT, BATCH] {
            assert_eq!(
                AttemptError::Fault(Fault::Connect("refused".into())).decide(asked),
                RetryDecision::OtherTarget
            );
            assert_eq!(refused(401, "", None).decide(asked), RetryDecision::OtherKey);
        }
        for failed in [
            AttemptError::Fault(Fault::NoAnswer("reset".into())),
            refused(503, "", None),
            refused(429, "", None),
        ] {
            for harmless in [CHAT, POLL, DELETE] {
                assert_ne!(failed.decide(harmless), RetryDecision::Never);
            }
            assert_eq!(failed.decide(BATCH), RetryDecision::Never, "{failed:?}");
        }
    }

    #[test]
    fn errors_of_the_callers_own_are_not_sent_again() {
        for status in [400, 404, 409, 413, 422] {
            assert_eq!(
                refused(status, "content_filter", None).decide(CHAT),
                RetryDecision::Never,
                "{status}"
            );
        }
        let long = refused(400, "context_length_exceeded", None);
        assert_eq!(long.decide(CHAT), RetryDecision::Never);
        assert_eq!(
            long.decide(RetryContext { next_on_context_length: true, ..CHAT }),
            RetryDecision::OtherUpstream
        );
    }

    #[test]
    fn an_upstream_that_forbids_a_retry_is_not_asked_again() {
        for status in [429, 500, 503] {
            let AttemptError::Upstream(mut error) = refused(status, "", None) else { unreachable!() };
            error.hopeless = true;
            assert_eq!(AttemptError::Upstream(error).decide(CHAT), RetryDecision::OtherUpstream, "{status}");
        }
    }

    #[test]
    fn a_rate_limit_is_the_keys_for_one_model_and_lasts_as_long_as_it_says() {
        let limited = |after| refused(429, "rate_limit_exceeded", after).cooldown(CHAT).unwrap();
        let model = || Cooldown::Model("m".into());
        assert_eq!(limited(Some(7)), (model(), Duration::from_secs(7)));
        assert_eq!(limited(None), (model(), RATE_LIMITED));
        assert_eq!(limited(Some(86_400)), (model(), LONGEST_COOLDOWN));
        assert_eq!(
            refused(429, "insufficient_quota", None).cooldown(BATCH),
            Some((Cooldown::All(CooldownReason::Spent), SPENT))
        );
        assert!(!refused(429, "", None).is_targets_fault() && refused(500, "", None).is_targets_fault());
    }

    #[test]
    fn a_key_is_disabled_for_everybody_only_when_the_account_is_refused() {
        assert_eq!(
            refused(401, "invalid_api_key", None).cooldown(CHAT),
            Some((Cooldown::All(CooldownReason::Refused), REFUSED))
        );
        for (status, code) in
            [(401, "missing_scope"), (403, "moderation"), (403, ""), (500, "invalid_api_key")]
        {
            assert_eq!(refused(status, code, None).cooldown(CHAT), None, "{status} {code}");
        }
    }

    #[test]
    fn a_silent_upstream_is_not_asked_again() {
        let silent = AttemptError::Fault(Fault::FirstByteTimeout(Duration::ZERO));
        assert_eq!(silent.decide(CHAT), RetryDecision::Elsewhere { silent: true });
        assert_eq!(silent.decide(BATCH), RetryDecision::Never);
    }
}
