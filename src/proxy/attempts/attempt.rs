//! One attempt: the request goes to one candidate, and its response is judged and held as far as it has to be.

use std::time::Instant;

use http::{HeaderName, HeaderValue, StatusCode};

use super::{
    candidate::Candidate, head::HeadLimit, learn::learn, response::judge, retry::AttemptError, send::ask,
    switch::switched, upstream_error::UpstreamError,
};
use crate::{
    exchange::{Attempt, Exchange, Record},
    fault::Fault,
    proxy::{
        context::RequestContext,
        delivery::{ClientResponse, HoldBounds, HoldError, HoldTimeouts},
        intake::{PreparedRequest, RequestContent},
    },
    upstream::{Answer, Failure, RequestHash},
};

const ATTEMPTS: HeaderName = HeaderName::from_static("x-sluicegate-attempts");
const UPSTREAM: HeaderName = HeaderName::from_static("x-sluicegate-upstream");

/// How much of a response is waited for before the client gets it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Hold {
    /// Its head.
    Nothing,
    /// Its first content.
    Start,
    /// All of it.
    Whole {
        /// The largest body, in bytes.
        limit: u64,
    },
}

/// An attempt without a response for the client.
#[derive(Debug)]
pub(super) struct FailedAttempt {
    pub(super) candidate: Box<Candidate>,
    pub(super) error: AttemptError,
}

/// A candidate to which the request was sent, and the head of its response.
#[derive(Debug)]
pub(super) struct AttemptHead {
    pub(super) candidate: Box<Candidate>,
    pub(super) head: Result<Answer, Fault>,
}

/// Begins an attempt at `candidate`: sends the request and waits for the head of the response.
///
/// # Errors
/// No response came, or it is late and something else can be tried.
pub(super) async fn begin(
    context: &RequestContext,
    exchange: &mut Exchange,
    request: &mut PreparedRequest,
    candidate: &mut Candidate,
) -> Result<Answer, Fault> {
    let start = exchange.begin_attempt(record_of(candidate));
    let limit = candidate.timeouts.first_token.filter(|_| candidate.may_be_late);
    candidate.head_limit = limit.map(|limit| HeadLimit { start, limit });
    if request.adds_usage {
        candidate.ask_for_usage(start);
    }
    announce(exchange, request, candidate);
    ask(context, exchange, request, candidate).await
}

/// Finishes the attempt: judges the response, and holds it as far as `hold` says.
///
/// # Errors
/// The attempt failed; the candidate is returned with the error.
pub(super) async fn finish(
    context: &RequestContext,
    exchange: &mut Exchange,
    request: &PreparedRequest,
    attempt: AttemptHead,
    hold: Hold,
) -> Result<ClientResponse, FailedAttempt> {
    let AttemptHead { mut candidate, head } = attempt;
    let result = match judge_head(context, exchange, request, &mut candidate, head).await {
        Ok(response) if is_held(exchange, &response, hold) => {
            Box::pin(held(context, exchange, response, &candidate, hold)).await
        }
        judged => {
            exchange.judged_at_once();
            judged
        }
    };
    let result = match (result, &request.accounts) {
        (Ok(mut response), Some(choice)) => {
            Box::pin(learn(context, exchange, choice, &candidate, &mut response))
                .await
                .map(|()| response)
                .map_err(AttemptError::Fault)
        }
        (result, _) => result,
    };
    match result {
        Ok(mut response) => {
            candidate.permit.responded();
            candidate.served();
            exchange.attempt_answered(response.status());
            let start = content_due_from(exchange, &candidate);
            response.comes_from(candidate.permit, candidate.timeouts.first_token, start);
            if let Some(key) = candidate.key {
                response.uses(key);
            }
            Ok(response)
        }
        Err(error) => {
            report_to_breaker(exchange, request, &mut candidate, &error);
            let holds_key =
                |code: &[u8]| request.arrived.key.found_in(code) || candidate.secrets().found_in(code);
            exchange.attempt_failed(error.name(), error.code().filter(|code| !holds_key(code.as_bytes())));
            Err(FailedAttempt { candidate, error })
        }
    }
}

/// The record of an attempt at `candidate` that begins now.
fn record_of(candidate: &Candidate) -> Attempt {
    let upstream = &candidate.upstream;
    let target = candidate.target().url.clone();
    Attempt::new(upstream.name.clone(), target, candidate.key_number(), candidate.model.clone())
}

/// Adds the number of attempts and the upstream's name to the response's headers, if the route wants that.
pub(super) fn announce(exchange: &mut Exchange, request: &PreparedRequest, candidate: &Candidate) {
    if !request.arrived.routed.route.attempt_headers {
        return;
    }
    let headers = &mut exchange.response_headers;
    headers.insert(ATTEMPTS, HeaderValue::from(exchange.record.attempts.count()));
    if let Ok(name) = HeaderValue::from_str(&candidate.upstream.name) {
        headers.insert(UPSTREAM, name);
    }
}

/// Makes the client's response from that of `candidate`.
async fn judge_head(
    context: &RequestContext,
    exchange: &mut Exchange,
    request: &PreparedRequest,
    candidate: &mut Candidate,
    head: Result<Answer, Fault>,
) -> Result<ClientResponse, AttemptError> {
    let answer = head.map_err(AttemptError::Fault)?;
    candidate.permit.has_answered();
    let now = Instant::now();
    candidate.answered = Some(now);
    if let Some(key) = &candidate.key {
        key.key().quota().note(answer.headers(), now);
    }
    if let Some(handshake) = &request.handshake
        && answer.status() == StatusCode::SWITCHING_PROTOCOLS
    {
        let route = &request.arrived.routed.route;
        return Box::pin(switched(exchange, answer, handshake, route, candidate)).await;
    }
    judge(context, exchange, answer, &request.arrived.routed.route, candidate).await
}

/// The time that `first_token` counts from for the content of the last attempt's response.
fn content_due_from(exchange: &Exchange, candidate: &Candidate) -> Instant {
    let start = exchange.record.attempts.last().map_or_else(Instant::now, |attempt| attempt.start);
    candidate.content_due_from(start)
}

/// Whether any of the response has to be held.
fn is_held(exchange: &Exchange, response: &ClientResponse, hold: Hold) -> bool {
    match hold {
        Hold::Nothing => false,
        Hold::Start => response.may_fail_at_start(exchange.record.stream == Some(true)),
        Hold::Whole { .. } => true,
    }
}

/// The response once as much of it is held as `hold` says.
async fn held(
    context: &RequestContext,
    exchange: &Exchange,
    mut response: ClientResponse,
    candidate: &Candidate,
    hold: Hold,
) -> Result<ClientResponse, AttemptError> {
    let clocks = HoldTimeouts { start: content_due_from(exchange, candidate), timeouts: candidate.timeouts };
    match hold_back(context, exchange, &mut response, hold, clocks).await {
        Ok(()) => Ok(response),
        Err(HoldError::Fault(fault)) => Err(AttemptError::Fault(fault)),
        Err(HoldError::Upstream(error)) => {
            let error = UpstreamError::of_event(error, &candidate.upstream, &exchange.record);
            Err(AttemptError::Upstream(Box::new(error)))
        }
    }
}

async fn hold_back(
    context: &RequestContext,
    exchange: &Exchange,
    response: &mut ClientResponse,
    hold: Hold,
    clocks: HoldTimeouts,
) -> Result<(), HoldError> {
    let endpoint = exchange.record.endpoint;
    let limit = match hold {
        Hold::Whole { limit } => limit,
        Hold::Start | Hold::Nothing => u64::MAX,
    };
    let bounds = HoldBounds {
        limit,
        buffered: context.snapshot.server.max_buffered,
        gateway: &context.worker.gateway,
        status: &exchange.handle.status,
    };
    if hold == Hold::Start {
        if exchange.record.stream == Some(true) {
            response.hold_document(clocks, endpoint, &bounds).await?;
        }
        return response.hold_start(clocks, endpoint, bounds).await;
    }
    response.hold_whole(clocks, endpoint, bounds).await
}

/// Reports the failure to the target's circuit breaker, as far as it concerns the target. All attempts of one request at a target are one
/// piece of evidence.
fn report_to_breaker(
    exchange: &mut Exchange,
    request: &PreparedRequest,
    candidate: &mut Candidate,
    error: &AttemptError,
) {
    if !error.is_targets_fault() {
        if matches!(error, AttemptError::Upstream(_)) {
            candidate.permit.succeeded();
        }
        return;
    }
    let now = Instant::now();
    let sent = || request_hash(&exchange.record, request);
    let failure = if error.is_connection() { Failure::Connection } else { Failure::Response(sent()) };
    let target = candidate.target().url.clone();
    let attempts = &mut exchange.record.attempts;
    if attempts.has_blamed(&candidate.upstream.name, &target) {
        candidate.permit.failed_again(failure, now);
    } else if !error.is_slowness() {
        candidate.permit.failed(failure, now);
    } else if !candidate.permit.was_slow(failure, now) {
        return;
    }
    attempts.update(|attempt| attempt.blames_target = true);
}

/// Tells a request that is sent again from another one.
fn request_hash(record: &Record, request: &PreparedRequest) -> RequestHash {
    match &request.content {
        RequestContent::Read(body) => RequestHash::of(&record.path, body),
        RequestContent::Spooled(_) | RequestContent::Streamed(_) | RequestContent::Gone => {
            RequestHash::unique(record.request_id.as_str().as_bytes())
        }
    }
}
