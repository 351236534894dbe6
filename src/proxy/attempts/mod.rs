//! Attempts at candidates, until one gives a response for the client or nothing is left to try.

mod attempt;
mod candidates;
mod error_body;
mod error_class;
mod head;
mod key_waits;
mod late;
mod redirect;
mod request;
mod response;
mod retry;
mod schedule;
mod send;
mod switch;
mod upstream_error;
mod wait;

use std::{
    net::IpAddr,
    pin::pin,
    sync::Arc,
    time::{Duration, Instant},
};

use http::{HeaderName, HeaderValue, StatusCode, header};

use super::{
    admission::admit_to_upstream, context::RequestContext, delivery::ClientResponse, intake::PreparedRequest,
};
use crate::{
    exchange::{Exchange, Record},
    fault::{Fault, Phase, retry_seconds},
    openai::Endpoint,
    snapshot::Route,
    upstream::{CallerHash, CooldownReason, KeyPermit},
};
use attempt::{AttemptHead, FailedAttempt, Hold};
use candidates::{Candidate, Candidates, FailureScope, NextAvailable, Unavailable, Waited};
use late::LateAttempt;
use retry::{AttemptError, RetryContext, RetryDecision};
use schedule::RetrySchedule;

const RETRY_AFTER_MS: HeaderName = HeaderName::from_static("retry-after-ms");

/// The result of an attempt that was given up because a late one was answered first.
const OVERTAKEN: &str = "overtaken";

/// The attempts of one request.
struct Dispatch {
    route: Arc<Route>,
    model: Option<Box<str>>,
    candidates: Candidates,
    schedule: RetrySchedule,
    /// At most one name for each step of the route.
    asked_upstreams: Vec<Arc<str>>,
    /// The error of the last attempt.
    last: Option<AttemptError>,
    /// An attempt that goes on beside the running one, because its head is late.
    late: Option<Box<LateAttempt>>,
}

/// What follows a failed attempt.
enum Next {
    /// The client gets the error.
    GiveUp(AttemptError),
    /// The next candidate.
    Other,
    /// The same candidate after this wait.
    Same(Duration),
}

/// Sends the request to one candidate after the other until there is a response for the client.
///
/// # Errors
/// No candidate gave one, and nothing is left to try.
pub(super) async fn dispatch(
    context: &RequestContext,
    exchange: &mut Exchange,
    mut request: Box<PreparedRequest>,
) -> Result<ClientResponse, Fault> {
    let mut dispatch = Dispatch::new(exchange, &mut request);
    let mut same = None;
    loop {
        let begun = if let Some(late) = dispatch.late_answer(exchange, &request) {
            late
        } else {
            let next = same.take().or_else(|| dispatch.candidates.next(Instant::now()));
            let candidate = match next {
                Some(candidate) => candidate,
                None => match Box::pin(dispatch.next_round(exchange)).await {
                    Ok(Some(candidate)) => candidate,
                    Ok(None) => continue,
                    Err(_) if dispatch.late.is_some() => {
                        dispatch.wait_for_late(exchange).await;
                        continue;
                    }
                    Err(available) => return give_up(exchange, dispatch.last, available),
                },
            };
            let Some(begun) = dispatch.send(context, exchange, &mut request, candidate).await else {
                continue;
            };
            begun
        };
        let hold = how_much_to_hold(&dispatch.route, &request, &dispatch.candidates);
        let finished = {
            let mut finishing = pin!(attempt::finish(context, exchange, &request, begun, hold));
            match &mut dispatch.late {
                None => finishing.await,
                late => Box::pin(late::alongside(late, finishing.as_mut())).await,
            }
        };
        let failed = match finished {
            Ok(response) => return Ok(response),
            Err(failed) => failed,
        };
        match dispatch.after(context, &request, failed) {
            Next::GiveUp(_) if dispatch.late.is_some() => dispatch.wait_for_late(exchange).await,
            Next::GiveUp(error) => return give_up(exchange, Some(error), None),
            Next::Other => {}
            Next::Same(pause) => same = Box::pin(dispatch.wait_for_same(exchange, pause)).await,
        }
    }
}

impl Dispatch {
    fn new(exchange: &Exchange, request: &mut PreparedRequest) -> Self {
        let route = request.arrived.routed.route.clone();
        let model = request.model.as_deref();
        let affinities = std::mem::take(&mut request.affinities);
        let caller = caller_of(&exchange.record);
        Self {
            candidates: Candidates::new(route.clone(), caller, model, affinities, request.arrived.timeouts),
            schedule: RetrySchedule::new(
                route.retry,
                request.retries_so_far,
                exchange.handle.abort.deadline(),
            ),
            model: model.map(Into::into),
            route,
            asked_upstreams: Vec::new(),
            last: None,
            late: None,
        }
    }

    /// Sends the request to `candidate` and waits for the head of the response. `None`: it was not admitted, or the late attempt was answered first.
    async fn send(
        &mut self,
        context: &RequestContext,
        exchange: &mut Exchange,
        request: &mut PreparedRequest,
        mut candidate: Box<Candidate>,
    ) -> Option<AttemptHead> {
        if !self.admit(&mut candidate) {
            return None;
        }
        candidate.may_be_late = request.stream
            && request.can_be_sent_twice()
            && self.schedule.any_left()
            && self.candidates.any_beside(&candidate, Instant::now());
        let asking = Box::pin(attempt::begin(context, exchange, request, &mut candidate));
        let head = match &mut self.late {
            None => asking.await,
            late => match late::beside(late, asking).await {
                Some(head) => head,
                None => {
                    exchange.attempt_failed(OVERTAKEN, None);
                    return None;
                }
            },
        };
        Some(AttemptHead { candidate, head })
    }

    /// The late attempt, if it has arrived.
    fn late_answer(&mut self, exchange: &mut Exchange, request: &PreparedRequest) -> Option<AttemptHead> {
        let late = self.late.take_if(|late| late.is_decided())?;
        let late = late.into_head(exchange)?;
        attempt::announce(exchange, request, &late.candidate);
        Some(late)
    }

    /// Waits for the late attempt, because nothing else is left to try.
    async fn wait_for_late(&mut self, exchange: &Exchange) {
        exchange.handle.status.enter(Phase::FirstByte);
        if let Some(late) = &mut self.late {
            late.decided().await;
        }
    }

    /// Admits an attempt at `candidate`; false: its upstream has as many retries as its budget allows.
    fn admit(&mut self, candidate: &mut Candidate) -> bool {
        let upstream = &candidate.upstream;
        // An upstream that was not asked yet gets no retry, but its first request.
        let asked_before = self.asked_upstreams.contains(&upstream.name);
        let Some(permit) = admit_to_upstream(upstream, asked_before) else {
            self.candidates.mark_failed(candidate, FailureScope::Target, true);
            return false;
        };
        if !asked_before {
            self.asked_upstreams.push(upstream.name.clone());
        }
        candidate.budget = Some(permit);
        true
    }

    /// Waits until a candidate may be available again, or the late attempt is answered. If the request had to wait for a key, that is a candidate
    /// with this key.
    ///
    /// # Errors
    /// No attempt can begin in the time that is left. The next time at which a candidate becomes available.
    async fn next_round(
        &mut self,
        exchange: &Exchange,
    ) -> Result<Option<Box<Candidate>>, Option<NextAvailable>> {
        match self.wait_for_key(exchange).await {
            Waited::Key(step, key) => {
                if let Some(candidate) = self.with_key(exchange, step, key).await {
                    return Ok(Some(candidate));
                }
            }
            Waited::LookAgain | Waited::RoundOver => return Ok(None),
            Waited::TooLate => {}
        }
        let now = Instant::now();
        let available = self.candidates.next_available(now);
        self.candidates.enqueue(now);
        let until = self.end_of_round(available, now).ok_or(available)?;
        self.wait(exchange, &[], until, Some(until)).await;
        Ok(None)
    }

    /// Waits for a key in the queues of all upstreams that have one in time, and for what becomes available meanwhile.
    async fn wait_for_key(&mut self, exchange: &Exchange) -> Waited {
        let now = Instant::now();
        let Some(latest) = self.schedule.latest_turn(Duration::ZERO, now) else { return Waited::TooLate };
        let steps = self.candidates.steps_without_key(now, latest);
        if steps.is_empty() {
            return Waited::TooLate;
        }
        self.candidates.enqueue(now);
        let other = self.candidates.next_with_key(now);
        let until = self.end_of_round(other, now);
        self.wait(exchange, &steps, latest, until).await
    }

    /// The candidate with this key of that step, perhaps after a wait in the queues of its targets. `None`: no target can be used in time.
    async fn with_key(&mut self, exchange: &Exchange, step: usize, key: KeyPermit) -> Option<Box<Candidate>> {
        let now = Instant::now();
        let key = match self.candidates.with_key(step, key, now) {
            Ok(candidate) => return Some(candidate),
            Err(key) => key,
        };
        self.candidates.enqueue_with_key(step, &key, now);
        if !self.candidates.is_queued() {
            return None;
        }
        let latest = self.schedule.latest_turn(Duration::ZERO, now)?;
        self.wait(exchange, &[], latest, Some(latest)).await;
        self.candidates.with_key(step, key, Instant::now()).ok()
    }

    /// As [`Candidates::wait`], noted as backoff.
    async fn wait(
        &mut self,
        exchange: &Exchange,
        steps: &[NextAvailable],
        latest: Instant,
        until: Option<Instant>,
    ) -> Waited {
        let wait = async |own: &mut Self| own.candidates.wait(steps, latest, until).await;
        // A late attempt that was answered is looked at next.
        self.during_backoff(exchange, wait).await.unwrap_or(Waited::LookAgain)
    }

    /// When the next round begins, if no queue grants a permit before. A request that only waits in queues does not back off: it waits there as
    /// long as it may. `None`: there is no next round.
    fn end_of_round(&mut self, available: Option<NextAvailable>, now: Instant) -> Option<Instant> {
        if self.last.is_none() && self.candidates.is_queued() {
            return self.schedule.latest_turn(Duration::ZERO, now);
        }
        self.schedule.pause(available, self.last.is_some(), now).map(|pause| now + pause)
    }

    /// Waits for `pause`. The candidate that failed last, unless it is not available any more, or the late attempt was answered.
    async fn wait_for_same(&mut self, exchange: &Exchange, pause: Duration) -> Option<Box<Candidate>> {
        self.during_backoff(exchange, async |_: &mut Self| tokio::time::sleep(pause).await).await?;
        let again = self.candidates.again(Instant::now());
        if again.is_none() {
            self.schedule.next_candidate();
        }
        again
    }

    /// Waits for `wait`; `None`: the late attempt was answered first. An exchange that ends meanwhile ends in this phase; a failure that is reported
    /// later keeps its own.
    async fn during_backoff<T>(
        &mut self,
        exchange: &Exchange,
        wait: impl AsyncFnOnce(&mut Self) -> T,
    ) -> Option<T> {
        let status = &exchange.handle.status;
        let failed_in = status.phase();
        status.enter(Phase::Backoff);
        let start = Instant::now();
        let mut late = self.late.take();
        let result = late::beside(&mut late, wait(self)).await;
        self.late = late;
        self.schedule.note_wait(start.elapsed());
        status.enter(failed_in);
        result
    }

    /// Notes what the failure says, and decides what is next.
    fn after(&mut self, context: &RequestContext, request: &PreparedRequest, failed: FailedAttempt) -> Next {
        let FailedAttempt { mut candidate, error } = failed;
        let retry = RetryContext {
            repeat: request.repeat,
            // Models are the same everywhere; every other thing that is read or deleted belongs to one account.
            stays_at_upstream: request.repeat.is_about_kept_things()
                && request.operation.endpoint != Endpoint::Models,
            next_on_context_length: self.route.next_on_context_length,
            model: candidate.model.as_deref().or(self.model.as_deref()),
        };
        let decision = error.decide(retry);
        let has_reached_it = !matches!(decision, RetryDecision::Never | RetryDecision::OtherTarget);
        let stays = retry.stays_at_upstream && has_reached_it;
        let key = error.cooldown(retry);
        let is_limit = key.as_ref().is_some_and(|key| key.what.why() == CooldownReason::Limited);
        let cooldown = key
            .zip(candidate.key.as_mut())
            .and_then(|(failed, used)| used.failed(failed, self.model.as_deref(), &context.worker.metrics));
        if cooldown.is_none() {
            self.schedule.note_retry_after(error.retry_after());
        }
        if stays {
            self.candidates.stay_at(&candidate);
        }
        let goes_on = request.can_be_sent() && self.schedule.take() && self.apply(&candidate, &decision);
        if !goes_on {
            if decision == RetryDecision::Never {
                // The error is the client's own, whoever answers.
                self.late = None;
            }
            return Next::GiveUp(error);
        }
        LateAttempt::keep(&mut self.late, candidate, context, self.model.as_deref());
        let pause = is_worth_the_same(&decision, is_limit)
            .then(|| self.schedule.pause_at_same(cooldown.or(error.retry_after()), Instant::now()))
            .flatten();
        self.last = Some(error);
        match pause {
            Some(pause) => Next::Same(pause),
            None => {
                self.schedule.next_candidate();
                Next::Other
            }
        }
    }

    /// Applies the decision after `candidate` failed. False if nothing else is to be tried.
    fn apply(&mut self, candidate: &Candidate, decision: &RetryDecision) -> bool {
        let candidates = &mut self.candidates;
        match *decision {
            RetryDecision::Never => return false,
            RetryDecision::OtherTarget => candidates.mark_failed(candidate, FailureScope::Target, false),
            RetryDecision::Elsewhere { excluded } => {
                candidates.mark_failed(candidate, FailureScope::Model, excluded);
            }
            RetryDecision::OtherKey { excluded } => {
                let is_only = candidate.upstream.keys.len() <= 1;
                let scope = if is_only { FailureScope::Model } else { FailureScope::Key };
                candidates.mark_failed(candidate, scope, excluded);
            }
            RetryDecision::OtherUpstream => return candidates.skip_step(candidate),
        }
        true
    }
}

/// Whether the same candidate may respond after a short wait.
fn is_worth_the_same(decision: &RetryDecision, is_limit: bool) -> bool {
    match decision {
        RetryDecision::OtherTarget | RetryDecision::Elsewhere { excluded: false } => true,
        RetryDecision::OtherKey { .. } => is_limit,
        RetryDecision::Elsewhere { excluded: true } | RetryDecision::OtherUpstream | RetryDecision::Never => {
            false
        }
    }
}

/// Who sends the request, for the circuit breaker: the client, or the address of a caller that is not known.
fn caller_of(record: &Record) -> CallerHash {
    match (&record.caller, record.client) {
        (Some(caller), _) => CallerHash::of(caller.name.as_bytes()),
        (None, IpAddr::V4(address)) => CallerHash::of(&address.octets()),
        (None, IpAddr::V6(address)) => CallerHash::of(&address.octets()),
    }
}

/// How much of a response is waited for before the client gets it.
fn how_much_to_hold(route: &Route, request: &PreparedRequest, candidates: &Candidates) -> Hold {
    if !request.is_inference() {
        return Hold::Nothing;
    }
    if route.is_whole() {
        return Hold::Whole { limit: route.body_limit };
    }
    if route.holds(candidates.are_several()) {
        return Hold::Start;
    }
    Hold::Nothing
}

/// The client's response if nothing is left to try: that of the last attempt, marked so that SDKs do not retry what the gateway has retried.
fn give_up(
    exchange: &Exchange,
    last: Option<AttemptError>,
    available: Option<NextAvailable>,
) -> Result<ClientResponse, Fault> {
    let response = match last {
        Some(AttemptError::Fault(fault)) => return Err(fault),
        Some(AttemptError::Upstream(error)) => with_wait(error.response?, available),
        None => return Err(no_candidate(available)),
    };
    let was_retried = exchange.record.attempts.count() > 1;
    Ok(if was_retried { response.not_to_be_retried() } else { response })
}

/// The response with a `retry-after` for the key that is `available` next: since the upstream sent it, other keys may have become free, or more
/// may have gone into cooldown.
fn with_wait(mut response: ClientResponse, available: Option<NextAvailable>) -> ClientResponse {
    let Some(next) = available.filter(NextAvailable::is_a_key) else { return response };
    if response.status() == StatusCode::TOO_MANY_REQUESTS {
        let headers = response.headers_mut();
        headers.remove(RETRY_AFTER_MS);
        headers.insert(header::RETRY_AFTER, HeaderValue::from(retry_seconds(next.span)));
    }
    response
}

/// The fault of a request for which no candidate was available.
fn no_candidate(available: Option<NextAvailable>) -> Fault {
    let Some(NextAvailable { span, why, .. }) = available else { return Fault::Unavailable(Duration::ZERO) };
    match why {
        Unavailable::Limited => Fault::RateLimited(span),
        Unavailable::Refused => {
            Fault::KeyUnusable("every key is refused or has no credit, and all are in cooldown".into())
        }
        Unavailable::Full => Fault::Full(span),
        Unavailable::Circuit => Fault::Unavailable(span),
    }
}
