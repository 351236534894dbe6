//! Attempts at candidates, until one gives a response for the client or nothing is left to try.

mod attempt;
mod candidates;
mod error_body;
mod redirect;
mod request;
mod response;
mod retry;
mod schedule;
mod send;
mod upstream_error;

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use super::{
    admission::admit_to_upstream, context::RequestContext, delivery::ClientResponse, intake::PreparedRequest,
};
use crate::{
    exchange::Exchange,
    fault::{Fault, Phase},
    snapshot::Route,
    upstream::{Cooldown, CooldownReason},
};
use attempt::{FailedAttempt, Hold, attempt};
use candidates::{Candidate, Candidates, FailureScope, NextAvailable, Unavailable};
use retry::{AttemptError, RetryContext, RetryDecision};
use schedule::RetrySchedule;

/// Sends the request to one candidate after the other until there is a response for the client.
///
/// # Errors
/// No candidate gave one, and nothing is left to try.
pub(super) async fn dispatch(
    context: &RequestContext,
    exchange: &mut Exchange,
    mut request: Box<PreparedRequest>,
) -> Result<ClientResponse, Fault> {
    let route = request.arrived.routed.route.clone();
    let model = request.model.clone();
    let affinities = std::mem::take(&mut request.affinities);
    let timeouts = request.arrived.timeouts;
    let mut candidates = Candidates::new(route.clone(), model.as_deref(), affinities, timeouts);
    let mut schedule = RetrySchedule::new(route.retry, request.retries_so_far);
    // At most one name for each step of the route.
    let mut asked_upstreams: Vec<Arc<str>> = Vec::new();
    let mut last = None;
    loop {
        let now = Instant::now();
        let Some(mut candidate) = candidates.next(now) else {
            let available = candidates.next_available(now);
            let Some(pause) = schedule.pause(available, last.is_some()) else {
                return give_up(exchange, last, available);
            };
            back_off(exchange, pause).await;
            candidates.new_round();
            continue;
        };
        let upstream = &candidate.upstream;
        // An upstream that was not asked yet gets no retry, but its first request.
        let asked_before = asked_upstreams.contains(&upstream.name);
        let Some(_budget_permit) = admit_to_upstream(upstream, asked_before) else {
            candidates.mark_failed(&candidate, FailureScope::Target, true);
            continue;
        };
        if !asked_before {
            asked_upstreams.push(upstream.name.clone());
        }
        candidate.is_last = !(schedule.any_left() && candidates.any_beside(&candidate, now));
        let hold = how_much_to_hold(&route, &request, &schedule, &candidates);
        let failed = match attempt(context, exchange, &mut request, candidate, hold).await {
            Ok(response) => return Ok(response),
            Err(failed) => failed,
        };
        let FailedAttempt { candidate, error } = failed;
        let retry = RetryContext {
            inference: request.is_inference(),
            next_on_context_length: route.next_on_context_length,
            model: candidate.model.as_deref().or(model.as_deref()),
        };
        if !cool_key_down(context, &route, &candidate, &error, retry) {
            schedule.note_retry_after(error.retry_after());
        }
        let decision = error.decide(retry);
        let goes_on = request.can_be_sent()
            && schedule.take()
            && apply(&mut candidates, &candidate, retry.model, &decision);
        if !goes_on {
            return give_up(exchange, Some(error), None);
        }
        last = Some(error.detached());
    }
}

/// Waits between two rounds. An exchange that ends meanwhile ends in this phase; a failure that is reported later keeps its own.
async fn back_off(exchange: &Exchange, pause: Duration) {
    let status = &exchange.handle.status;
    let failed_in = status.phase();
    status.enter(Phase::Backoff);
    tokio::time::sleep(pause).await;
    status.enter(failed_in);
}

/// How much of a response is waited for before the client gets it.
fn how_much_to_hold(
    route: &Route,
    request: &PreparedRequest,
    schedule: &RetrySchedule,
    candidates: &Candidates,
) -> Hold {
    if !request.is_inference() {
        return Hold::Nothing;
    }
    if route.is_whole() {
        return Hold::Whole { limit: route.body_limit };
    }
    if schedule.any_left() && route.holds(candidates.are_several()) {
        return Hold::Start;
    }
    Hold::Nothing
}

/// Puts the candidate's key into cooldown if `error` calls for one. True if it did: the end of the cooldown then says when to try again.
fn cool_key_down(
    context: &RequestContext,
    route: &Route,
    candidate: &Candidate,
    error: &AttemptError,
    retry: RetryContext<'_>,
) -> bool {
    let Some((what, span)) = error.cooldown(retry) else { return false };
    let upstream = &candidate.upstream;
    // If there is no other key, each client gets the upstream's own error about this one, except for a rate limit that the gateway waits for.
    let waits_for_limit = matches!(what, Cooldown::Model(_)) && route.retry.retries > 0;
    if upstream.keys.len() <= 1 && !waits_for_limit {
        return false;
    }
    let reason = what.why();
    context.worker.metrics.key_cooldown(&upstream.name, reason.as_str());
    if reason != CooldownReason::Limited {
        // Requests succeed with other keys, so this line may be the only sign; and only the operator can repair the key.
        let number = candidate.key.as_ref().and_then(|key| upstream.keys.number(key));
        tracing::warn!(
            upstream = %upstream.name, key = number, why = reason.as_str(), cooldown = ?span,
            "upstream key disabled for {span:?}"
        );
    }
    candidate.cool_key_down(what, span, Instant::now());
    true
}

/// Applies the decision after `candidate` failed for `model`. False if nothing else is to be tried.
fn apply(
    candidates: &mut Candidates,
    candidate: &Candidate,
    model: Option<&str>,
    decision: &RetryDecision,
) -> bool {
    match *decision {
        RetryDecision::Never => return false,
        RetryDecision::OtherTarget => candidates.mark_failed(candidate, FailureScope::Target, false),
        RetryDecision::Elsewhere { silent } => candidates.mark_failed(candidate, FailureScope::Model, silent),
        RetryDecision::OtherKey if candidate.upstream.keys.len() > 1 => {
            candidates.mark_failed(candidate, FailureScope::Key, false);
        }
        // The only key would be refused in the next round too, unless it is in cooldown.
        RetryDecision::OtherKey => {
            candidates.mark_failed(candidate, FailureScope::Model, !candidate.key_cools_down(model));
        }
        RetryDecision::OtherUpstream => return candidates.skip_step(candidate),
    }
    true
}

/// The client's response if nothing is left to try: that of the last attempt, marked so that SDKs do not retry what the gateway has retried.
fn give_up(
    exchange: &Exchange,
    last: Option<AttemptError>,
    available: Option<NextAvailable>,
) -> Result<ClientResponse, Fault> {
    let response = match last {
        Some(AttemptError::Fault(fault)) => return Err(fault),
        Some(AttemptError::Upstream(error)) => error.response?,
        None => return Err(no_candidate(available)),
    };
    let was_retried = exchange.record.attempts.count() > 1;
    Ok(if was_retried { response.not_to_be_retried() } else { response })
}

/// The fault of a request for which no candidate was available.
fn no_candidate(available: Option<NextAvailable>) -> Fault {
    let Some(NextAvailable { span, why }) = available else { return Fault::Unavailable(Duration::ZERO) };
    match why {
        Unavailable::Limited => Fault::RateLimited(span),
        Unavailable::Refused => {
            Fault::UpstreamAuth("it has refused every key, and all are in cooldown".into())
        }
        Unavailable::Full => Fault::Full(span),
        Unavailable::Circuit => Fault::Unavailable(span),
    }
}
