//! Whether a request may be sent again, and where: one table, by what came of an attempt.
//!
//! Inference makes an answer and nothing else, so asking once more costs tokens at most. Everything else (files, batches,
//! fine-tuning, background responses) is sent again only when the upstream cannot have acted on it.

use std::time::Duration;

use super::refusal::UpstreamError;
use crate::{
    fault::Fault,
    upstream::{Cooldown, CooldownReason},
};

/// A key of which a rate limit is told without a span rests for so long.
const RATE_LIMITED: Duration = Duration::from_secs(1);
/// A key that is refused, or whose money is spent, until somebody may have mended that.
const REFUSED: Duration = Duration::from_secs(60);
const SPENT: Duration = Duration::from_secs(300);
/// What an upstream says at most counts: it may say a day, and mend it in a minute.
const LONGEST_REST: Duration = Duration::from_secs(600);

/// What is said of a whole account, or of the key itself (OpenAI's error codes, Anthropic's `authentication_error`).
const ACCOUNT: [&str; 6] = [
    "invalid_api_key",
    "account_deactivated",
    "billing_not_active",
    "access_terminated",
    "unsupported_country_region_territory",
    "authentication_error",
];

/// An attempt that gave nothing to pass on, or nothing but an error.
#[derive(Debug)]
pub(super) enum AttemptError {
    /// No answer, or none that can be used.
    Fault(Fault),
    /// The upstream's own error.
    Refused(Box<UpstreamError>),
}

/// What may be done about it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum RetryDecision {
    /// Nothing: the caller is told.
    Never,
    /// The same request, at another target, or after a while at the same one: whatever is asked of it, this one cannot be reached.
    OtherTarget,
    /// The same request, at another target or for another model, or after a while at the same one.
    Elsewhere {
        /// It fell silent until a timeout: it is not asked for that model again for this exchange.
        silent: bool,
    },
    /// The same request with another key.
    OtherKey,
    /// Another upstream of the route, that is, another model.
    OtherUpstream,
}

/// What is known of the request.
#[derive(Debug, Clone, Copy)]
pub(super) struct RetryContext<'a> {
    /// See the table.
    pub(super) inference: bool,
    /// The route passes on what is too long for one model.
    pub(super) next_on_context_length: bool,
    /// The model that the attempt asked for.
    pub(super) model: Option<&'a str>,
}

impl AttemptError {
    /// The table.
    pub(super) fn again(&self, asked: RetryContext<'_>) -> RetryDecision {
        match self {
            Self::Fault(fault) => after_fault(fault, asked),
            Self::Refused(refusal) => after_refusal(refusal, asked),
        }
    }

    /// For what, and for how long, the key is to be left alone, whether or not the request is sent again.
    pub(super) fn rest(&self, asked: RetryContext<'_>) -> Option<(Cooldown, Duration)> {
        let Self::Refused(refusal) = self else { return None };
        let told = refusal.retry_after.map(|span| span.min(LONGEST_REST));
        let code = refusal.code.as_deref().unwrap_or_default();
        match refusal.status.as_u16() {
            429 if code == "insufficient_quota" => {
                Some((Cooldown::All(CooldownReason::Spent), told.unwrap_or(SPENT)))
            }
            // A limit is one model's; of what names none, nobody else need hear.
            429 => asked.model.map(|model| (Cooldown::Model(model.into()), told.unwrap_or(RATE_LIMITED))),
            // Keys have scopes, and some providers moderate by 403: only what is said of the account as a whole concerns everybody.
            401 | 403 if refusal.about_our_key && ACCOUNT.contains(&code) => {
                Some((Cooldown::All(CooldownReason::Refused), REFUSED))
            }
            _ => None,
        }
    }

    /// Without a hold on the upstream's connection.
    pub(super) fn detached(mut self) -> Self {
        if let Self::Refused(refusal) = &mut self {
            refusal.detach();
        }
        self
    }

    /// When the upstream wants to be asked again.
    pub(super) fn retry_after(&self) -> Option<Duration> {
        match self {
            Self::Refused(refusal) => refusal.retry_after,
            Self::Fault(_) => None,
        }
    }

    /// Whether the target is to blame; what the caller caused, or a key, is not its doing.
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
            Self::Refused(refusal) => refusal.status.is_server_error(),
        }
    }

    /// Whether it is a matter of time.
    pub(super) fn is_slowness(&self) -> bool {
        matches!(self, Self::Fault(fault) if fault.is_slowness())
    }

    /// For the log and the metrics.
    pub(super) fn name(&self) -> &'static str {
        match self {
            Self::Fault(fault) => fault.row().code,
            Self::Refused(refusal) if refusal.in_stream => "error_event",
            Self::Refused(refusal) => crate::exchange::class(refusal.status),
        }
    }
}

fn after_fault(fault: &Fault, asked: RetryContext<'_>) -> RetryDecision {
    match fault {
        // Nothing was sent.
        Fault::Connect(_) | Fault::ConnectTimeout(_) | Fault::Full(_) => RetryDecision::OtherTarget,
        _ if !asked.inference => RetryDecision::Never,
        Fault::NoAnswer(_) | Fault::BadAnswer(_) | Fault::Truncated(_) => {
            RetryDecision::Elsewhere { silent: false }
        }
        Fault::FirstByteTimeout(_) | Fault::FirstTokenTimeout(_) | Fault::Idle(_) => {
            RetryDecision::Elsewhere { silent: true }
        }
        _ => RetryDecision::Never,
    }
}

fn after_refusal(refusal: &UpstreamError, asked: RetryContext<'_>) -> RetryDecision {
    let code = refusal.code.as_deref().unwrap_or_default();
    match refusal.status.as_u16() {
        // Refused at the door, whatever was asked.
        401 | 403 if refusal.about_our_key => RetryDecision::OtherKey,
        429 if code == "insufficient_quota" => RetryDecision::OtherKey,
        _ if !asked.inference => RetryDecision::Never,
        408 | 429 | 500.. if refusal.hopeless => RetryDecision::OtherUpstream,
        429 => RetryDecision::OtherKey,
        // 529: Anthropic is overloaded.
        408 | 500 | 502 | 503 | 504 | 529 => RetryDecision::Elsewhere { silent: false },
        400 | 413 if asked.next_on_context_length && code == "context_length_exceeded" => {
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
        AttemptError::Refused(Box::new(UpstreamError {
            status: StatusCode::from_u16(status).unwrap(),
            code: Some(code.into()),
            retry_after: retry_after.map(Duration::from_secs),
            hopeless: false,
            about_our_key: matches!(status, 401 | 403),
            in_stream: false,
            given: Err(Fault::Overloaded),
        }))
    }

    const CHAT: RetryContext<'_> =
        RetryContext { inference: true, next_on_context_length: false, model: Some("m") };
    const BATCH: RetryContext<'_> = RetryContext { inference: false, ..CHAT };

    #[test]
    fn what_the_upstream_cannot_have_seen_may_always_be_sent_again() {
        for asked in [CHAT, BATCH] {
            assert_eq!(
                AttemptError::Fault(Fault::Connect("refused".into())).again(asked),
                RetryDecision::OtherTarget
            );
            assert_eq!(refused(401, "", None).again(asked), RetryDecision::OtherKey);
        }
        for failed in [
            AttemptError::Fault(Fault::NoAnswer("reset".into())),
            refused(503, "", None),
            refused(429, "", None),
        ] {
            assert_ne!(failed.again(CHAT), RetryDecision::Never);
            assert_eq!(failed.again(BATCH), RetryDecision::Never, "{failed:?}");
        }
    }

    #[test]
    fn errors_of_the_callers_own_are_not_sent_again() {
        for status in [400, 404, 409, 413, 422] {
            assert_eq!(refused(status, "content_filter", None).again(CHAT), RetryDecision::Never, "{status}");
        }
        let long = refused(400, "context_length_exceeded", None);
        assert_eq!(long.again(CHAT), RetryDecision::Never);
        assert_eq!(
            long.again(RetryContext { next_on_context_length: true, ..CHAT }),
            RetryDecision::OtherUpstream
        );
    }

    #[test]
    fn who_says_that_it_is_hopeless_is_not_asked_again() {
        for status in [429, 500, 503] {
            let AttemptError::Refused(mut refusal) = refused(status, "", None) else { unreachable!() };
            refusal.hopeless = true;
            assert_eq!(AttemptError::Refused(refusal).again(CHAT), RetryDecision::OtherUpstream, "{status}");
        }
    }

    #[test]
    fn a_rate_limit_is_the_keys_for_one_model_and_lasts_as_long_as_it_says() {
        let limited = |after| refused(429, "rate_limit_exceeded", after).rest(CHAT).unwrap();
        let model = || Cooldown::Model("m".into());
        assert_eq!(limited(Some(7)), (model(), Duration::from_secs(7)));
        assert_eq!(limited(None), (model(), RATE_LIMITED));
        assert_eq!(limited(Some(86_400)), (model(), LONGEST_REST));
        assert_eq!(
            refused(429, "insufficient_quota", None).rest(BATCH),
            Some((Cooldown::All(CooldownReason::Spent), SPENT))
        );
        assert!(!refused(429, "", None).is_targets_fault() && refused(500, "", None).is_targets_fault());
    }

    #[test]
    fn a_key_rests_for_everybody_only_when_the_account_is_refused() {
        assert_eq!(
            refused(401, "invalid_api_key", None).rest(CHAT),
            Some((Cooldown::All(CooldownReason::Refused), REFUSED))
        );
        for (status, code) in
            [(401, "missing_scope"), (403, "moderation"), (403, ""), (500, "invalid_api_key")]
        {
            assert_eq!(refused(status, code, None).rest(CHAT), None, "{status} {code}");
        }
    }

    #[test]
    fn who_was_silent_is_not_asked_again() {
        let silent = AttemptError::Fault(Fault::FirstByteTimeout(Duration::ZERO));
        assert_eq!(silent.again(CHAT), RetryDecision::Elsewhere { silent: true });
        assert_eq!(silent.again(BATCH), RetryDecision::Never);
    }
}
