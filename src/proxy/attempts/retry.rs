//! Whether a request may be sent again, and where: one table, by how an attempt failed. Whose fault an upstream's error is, is in `error_class.rs`.
//!
//! What reads, computes, or ends in the same state may be sent again after any failure ([`Repeat`]). What creates something (files, batches,
//! fine-tuning, background responses) is sent again only when the upstream cannot have acted on it.

use std::time::Duration;

use http::StatusCode;

use super::{error_class::ErrorClass, upstream_error::UpstreamError};
use crate::{fault::Fault, openai::Repeat, proxy::key_use::KeyCooldown};

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
        /// This exchange does not try the candidate for that model again: it sent nothing until a timeout, or fails in the same way each time.
        excluded: bool,
    },
    /// The same request with another key, or, where there is no other, at another target or after a while.
    OtherKey {
        /// This exchange does not try the key again for that model: it would be refused again.
        excluded: bool,
    },
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

    /// The cooldown that the error calls for, whether or not the request is sent again.
    pub(super) fn cooldown(&self, request: RetryContext<'_>) -> Option<KeyCooldown> {
        match self {
            Self::Fault(_) => None,
            Self::Upstream(error) => error.cooldown(request.model),
        }
    }

    /// Whether the upstream may have refused the request because it asks for the usage of its stream.
    pub(super) fn may_refuse_usage(&self) -> bool {
        matches!(self, Self::Upstream(error) if error.may_refuse_usage)
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
                    | Fault::Unreadable(_)
                    | Fault::Truncated(_)
                    | Fault::Idle(_)
            ),
            Self::Upstream(error) => error.class == ErrorClass::Server,
        }
    }

    /// Whether no connection could be opened, so that the failure has nothing to do with the request.
    pub(super) fn is_connection(&self) -> bool {
        matches!(self, Self::Fault(Fault::Connect(_) | Fault::ConnectTimeout(_)))
    }

    /// Whether the attempt failed by a timeout for slowness ([`Fault::is_slowness`]).
    pub(super) fn is_slowness(&self) -> bool {
        matches!(self, Self::Fault(fault) if fault.is_slowness())
    }

    /// Whether the upstream does not know an id of the request. It may also not know the model, or the path.
    pub(super) fn is_unknown_id(&self) -> bool {
        let Self::Upstream(error) = self else { return false };
        let is_other = matches!(self.code(), Some("model_not_found" | "unknown_url" | "DeploymentNotFound"));
        error.status == StatusCode::NOT_FOUND && !error.in_stream && !is_other
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
            RetryDecision::Elsewhere { excluded: false }
        }
        // Whatever is wrong with the head would be wrong with the next one too.
        Fault::UnusableHead(_) | Fault::Unreadable(_) => RetryDecision::Elsewhere { excluded: true },
        Fault::FirstByteTimeout(_) | Fault::FirstTokenTimeout(_) | Fault::Idle(_) => {
            RetryDecision::Elsewhere { excluded: true }
        }
        _ => RetryDecision::Never,
    }
}

fn after_upstream_error(error: &UpstreamError, request: RetryContext<'_>) -> RetryDecision {
    match error.class {
        // The upstream refused the key before it processed the request.
        ErrorClass::KeyRefused | ErrorClass::NoCredit | ErrorClass::KeyUnfit | ErrorClass::Forbidden => {
            RetryDecision::OtherKey { excluded: true }
        }
        _ if !request.repeat.is_harmless() => RetryDecision::Never,
        ErrorClass::RateLimited | ErrorClass::TooLargeForLimit | ErrorClass::Timeout | ErrorClass::Server
            if error.hopeless =>
        {
            // What belongs to one account is not at another upstream.
            if request.stays_at_upstream { RetryDecision::Never } else { RetryDecision::OtherUpstream }
        }
        // Where there is no key, the limit is the target's.
        ErrorClass::RateLimited if !error.has_key => RetryDecision::Elsewhere { excluded: false },
        ErrorClass::RateLimited => RetryDecision::OtherKey { excluded: false },
        ErrorClass::TooLargeForLimit => RetryDecision::OtherKey { excluded: true },
        ErrorClass::Timeout | ErrorClass::Server => RetryDecision::Elsewhere { excluded: false },
        ErrorClass::ContextTooLong if request.next_on_context_length => RetryDecision::OtherUpstream,
        ErrorClass::ContextTooLong | ErrorClass::Request => RetryDecision::Never,
    }
}

#[cfg(test)]
mod tests {

    use super::*;
    use crate::upstream::{Cooldown, CooldownReason};

    fn classed(class: ErrorClass, retry_after: Option<u64>) -> UpstreamError {
        UpstreamError {
            status: StatusCode::BAD_REQUEST,
            class,
            code: None,
            retry_after: retry_after.map(Duration::from_secs),
            hopeless: false,
            may_refuse_usage: false,
            has_key: true,
            in_stream: false,
            response: Err(Fault::Overloaded),
        }
    }

    fn refused(class: ErrorClass) -> AttemptError {
        AttemptError::Upstream(Box::new(classed(class, None)))
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
            for class in
                [ErrorClass::KeyRefused, ErrorClass::NoCredit, ErrorClass::KeyUnfit, ErrorClass::Forbidden]
            {
                assert_eq!(
                    refused(class).decide(asked),
                    RetryDecision::OtherKey { excluded: true },
                    "{class:?}"
                );
            }
        }
        for failed in [
            AttemptError::Fault(Fault::NoAnswer("reset".into())),
            AttemptError::Fault(Fault::Unreadable("a header".into())),
            refused(ErrorClass::Server),
            refused(ErrorClass::RateLimited),
        ] {
            for harmless in [CHAT, POLL, DELETE] {
                assert_ne!(failed.decide(harmless), RetryDecision::Never);
            }
            assert_eq!(failed.decide(BATCH), RetryDecision::Never, "{failed:?}");
        }
    }

    #[test]
    fn errors_of_the_callers_own_are_not_sent_again() {
        assert_eq!(refused(ErrorClass::Request).decide(CHAT), RetryDecision::Never);
        let long = refused(ErrorClass::ContextTooLong);
        assert_eq!(long.decide(CHAT), RetryDecision::Never);
        assert_eq!(
            long.decide(RetryContext { next_on_context_length: true, ..CHAT }),
            RetryDecision::OtherUpstream
        );
    }

    #[test]
    fn an_upstream_that_forbids_a_retry_is_not_asked_again() {
        for class in [ErrorClass::RateLimited, ErrorClass::Server, ErrorClass::Timeout] {
            let error = UpstreamError { hopeless: true, ..classed(class, None) };
            assert_eq!(
                AttemptError::Upstream(Box::new(error)).decide(CHAT),
                RetryDecision::OtherUpstream,
                "{class:?}"
            );
        }
    }

    #[test]
    fn a_rate_limit_without_a_key_is_waited_for_and_nothing_cools_down() {
        let error = UpstreamError { has_key: false, ..classed(ErrorClass::RateLimited, Some(1)) };
        let limited = AttemptError::Upstream(Box::new(error));
        assert_eq!(limited.decide(CHAT), RetryDecision::Elsewhere { excluded: false });
        assert_eq!(limited.cooldown(CHAT), None);
        assert_eq!(limited.retry_after(), Some(Duration::from_secs(1)));
    }

    #[test]
    fn what_cannot_be_read_is_not_requested_again_there() {
        let unreadable = AttemptError::Fault(Fault::Unreadable("a header".into()));
        assert_eq!(unreadable.decide(CHAT), RetryDecision::Elsewhere { excluded: true });
        assert!(unreadable.is_targets_fault());
    }

    #[test]
    fn a_rate_limit_is_the_keys_for_one_model_and_lasts_as_long_as_it_says() {
        for seconds in [Some(7), None, Some(86_400)] {
            let named = seconds.map(Duration::from_secs);
            let limited = AttemptError::Upstream(Box::new(classed(ErrorClass::RateLimited, seconds)));
            let cooldown = KeyCooldown { what: Cooldown::Model("m".into()), named };
            assert_eq!(limited.cooldown(CHAT), Some(cooldown));
        }
        assert_eq!(refused(ErrorClass::RateLimited).cooldown(RetryContext { model: None, ..CHAT }), None);
    }

    #[test]
    fn only_what_is_said_about_a_whole_key_disables_it_for_everybody() {
        for (class, reason) in
            [(ErrorClass::KeyRefused, CooldownReason::Refused), (ErrorClass::NoCredit, CooldownReason::Spent)]
        {
            let disabled = KeyCooldown { what: Cooldown::All(reason), named: None };
            assert_eq!(refused(class).cooldown(BATCH), Some(disabled));
        }
        for class in [
            ErrorClass::KeyUnfit,
            ErrorClass::Forbidden,
            ErrorClass::TooLargeForLimit,
            ErrorClass::Server,
            ErrorClass::Request,
        ] {
            assert_eq!(refused(class).cooldown(CHAT), None, "{class:?}");
        }
        assert!(refused(ErrorClass::Server).is_targets_fault());
        assert!(!refused(ErrorClass::Timeout).is_targets_fault());
    }

    #[test]
    fn a_silent_upstream_is_not_asked_again() {
        let silent = AttemptError::Fault(Fault::FirstByteTimeout(Duration::ZERO));
        assert_eq!(silent.decide(CHAT), RetryDecision::Elsewhere { excluded: true });
        assert_eq!(silent.decide(BATCH), RetryDecision::Never);
    }
}
