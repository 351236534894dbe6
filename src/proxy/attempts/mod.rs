//! Attempts at candidates, until one gives a response for the client or nothing is left to try.

mod attempt;
mod available;
mod balance;
mod candidate;
mod candidates;
mod error_body;
mod error_class;
mod give_up;
mod granted;
mod head;
mod key_waits;
mod late;
mod learn;
mod redirect;
mod request;
mod response;
mod retry;
mod rewrite;
mod rounds;
mod schedule;
mod send;
mod switch;
mod target_waits;
mod tried;
mod upstream_error;
mod usage_refused;
mod wait;

use std::{
    pin::pin,
    sync::Arc,
    time::{Duration, Instant},
};

use super::{
    account_choice::Search, admission::admit_to_upstream, context::RequestContext, delivery::ClientResponse,
    intake::PreparedRequest, queueing::queueing,
};
use crate::{
    access::identity_of,
    exchange::{Exchange, Record},
    fault::Fault,
    openai::Endpoint,
    snapshot::Route,
    upstream::{CallerHash, CooldownReason},
};
use attempt::{AttemptHead, FailedAttempt, Hold};
use available::NextAvailable;
use candidate::{AskedUsage, Candidate};
use candidates::Candidates;
use give_up::give_up;
use granted::{ModelGrants, ModelWait, NotGranted};
use late::LateAttempt;
use retry::{AttemptError, RetryContext, RetryDecision};
use rounds::Rounds;
use schedule::RetrySchedule;
use tried::FailureScope;

/// The result of an attempt that was given up because a late one was answered first.
const OVERTAKEN: &str = "overtaken";

/// The attempts of one request.
struct Dispatch {
    route: Arc<Route>,
    model: Option<Box<str>>,
    rounds: Rounds,
    /// At most one name for each step of the route.
    asked_upstreams: Vec<Arc<str>>,
    /// The error of the last attempt.
    last: Option<AttemptError>,
    /// What limits by model have granted.
    grants: ModelGrants,
}

/// What has become of the beginning of an attempt.
enum Begun {
    /// There is the head of a response, or the fault instead of it.
    Head(AttemptHead),
    /// Nothing was tried, and other candidates may be.
    LookAgain,
    /// Nothing is left to try.
    Over(Result<ClientResponse, Fault>),
}

/// What follows a failed attempt.
enum Next {
    /// The client gets the error.
    GiveUp(AttemptError),
    /// The next candidate.
    Other,
    /// The same candidate after this wait.
    Same(Duration),
    /// The same candidate at once, without a request for the usage of the stream.
    WithoutUsage(Box<Candidate>),
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
        let begun = match dispatch.rounds.late_answer(exchange, &request) {
            Some(late) => late,
            None => match dispatch.begin(context, exchange, &mut request, same.take()).await {
                Begun::Head(head) => head,
                Begun::LookAgain => continue,
                Begun::Over(result) => return result,
            },
        };
        let model = begun.candidate.model.clone();
        let hold = how_much_to_hold(&dispatch.route, &request, &dispatch.rounds.candidates);
        let finished = {
            let mut finishing = pin!(attempt::finish(context, exchange, &request, begun, hold));
            match &mut dispatch.rounds.late {
                None => finishing.await,
                late => Box::pin(late::alongside(late, finishing.as_mut())).await,
            }
        };
        let failed = match finished {
            Ok(response) => {
                dispatch.grants.keep_for(model.as_ref(), exchange);
                let Some(rewrite) = request.rewrite else { return Ok(response) };
                return Box::pin(rewrite::apply(&rewrite, context, exchange, response)).await;
            }
            Err(failed) => failed,
        };
        match dispatch.after(context, &request, failed) {
            Next::GiveUp(error) => {
                if !dispatch.rounds.wait_for_late(exchange).await {
                    return give_up(exchange, Some(error), None).map_err(|fault| of_account(fault, &request));
                }
            }
            Next::Other => {}
            Next::WithoutUsage(candidate) => same = Some(candidate),
            Next::Same(pause) => same = Box::pin(dispatch.rounds.wait_for_same(exchange, pause)).await,
        }
    }
}

impl Dispatch {
    fn new(exchange: &Exchange, request: &mut PreparedRequest) -> Self {
        let route = request.arrived.routed.route.clone();
        let model = request.model.as_deref();
        let affinities = std::mem::take(&mut request.affinities);
        let caller = caller_of(&exchange.record);
        let accounts = request.accounts.as_ref().map(|choice| choice.order());
        let candidates = Candidates::new(route.clone(), caller, model, affinities, request.arrived.timeouts);
        let candidates = match request.arrived.ephemeral.clone() {
            None => candidates.within(accounts),
            Some(access) => candidates.using(access),
        };
        let deadline = exchange.handle.abort.deadline();
        let schedule = RetrySchedule::new(route.retry, request.retries_so_far, deadline);
        Self {
            rounds: Rounds::new(candidates, schedule),
            model: model.map(Into::into),
            route,
            asked_upstreams: Vec::new(),
            last: None,
            grants: ModelGrants::default(),
        }
    }

    /// As [`Rounds::next_round`], with the request's place in queues.
    async fn next_round(
        &mut self,
        context: &RequestContext,
        exchange: &mut Exchange,
    ) -> Result<Option<Box<Candidate>>, Option<NextAvailable>> {
        let queueing = queueing(context, exchange, self.model.as_deref());
        self.rounds.candidates.queue_as(queueing);
        Box::pin(self.rounds.next_round(exchange)).await
    }

    /// Begins an attempt at the candidate whose turn it is: the `same` as before, if there is one.
    async fn begin(
        &mut self,
        context: &RequestContext,
        exchange: &mut Exchange,
        request: &mut PreparedRequest,
        same: Option<Box<Candidate>>,
    ) -> Begun {
        let candidate = match same.or_else(|| self.rounds.candidates.next(Instant::now())) {
            Some(candidate) => candidate,
            None => match self.next_round(context, exchange).await {
                Ok(Some(candidate)) => candidate,
                Ok(None) => return Begun::LookAgain,
                Err(_) if self.rounds.wait_for_late(exchange).await => return Begun::LookAgain,
                Err(available) => return Begun::Over(self.nothing_left(exchange, request, available)),
            },
        };
        if context.snapshot.limits.any_by_model() {
            match Box::pin(self.grants.admit(context, exchange, request, &candidate)).await {
                Ok(()) => {}
                Err(NotGranted::Refuse(fault)) => return Begun::Over(Err(fault)),
                Err(NotGranted::Skip) => {
                    self.rounds.candidates.mark_failed(&candidate, FailureScope::Model, true);
                    return Begun::LookAgain;
                }
                Err(NotGranted::Wait) => {
                    let is_beside_late = self.rounds.late.is_some();
                    let wait = ModelWait { model: candidate.model.clone(), is_beside_late };
                    // Neither a target nor a key is held while the request waits.
                    drop(candidate);
                    return match Box::pin(self.grants.wait(context, exchange, request, wait)).await {
                        Ok(()) => Begun::LookAgain,
                        Err(fault) => Begun::Over(Err(fault)),
                    };
                }
            }
        }
        match self.send(context, exchange, request, candidate).await {
            Some(head) => Begun::Head(head),
            None => Begun::LookAgain,
        }
    }

    /// The client's response when no candidate is left: what the last attempt has brought, else the limit that is free soonest.
    fn nothing_left(
        &mut self,
        exchange: &Exchange,
        request: &PreparedRequest,
        available: Option<NextAvailable>,
    ) -> Result<ClientResponse, Fault> {
        let last = self.last.take();
        if last.is_none()
            && let Some(reached) = self.grants.reached()
        {
            return Err(reached);
        }
        give_up(exchange, last, available).map_err(|fault| of_account(fault, request))
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
            && self.rounds.schedule.any_left()
            && self.rounds.candidates.any_beside(&candidate, Instant::now());
        let asking = Box::pin(attempt::begin(context, exchange, request, &mut candidate));
        let head = match &mut self.rounds.late {
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

    /// Admits an attempt at `candidate`; false: its upstream has as many retries as its budget allows.
    fn admit(&mut self, candidate: &mut Candidate) -> bool {
        if candidate.budget.is_some() {
            // Its upstream has refused what the gateway has added to the request.
            return true;
        }
        let upstream = &candidate.upstream;
        // An upstream that was not asked yet gets no retry, but its first request.
        let asked_before = self.asked_upstreams.contains(&upstream.name);
        let Some(permit) = admit_to_upstream(upstream, asked_before) else {
            self.rounds.candidates.mark_failed(candidate, FailureScope::Target, true);
            return false;
        };
        if !asked_before {
            self.asked_upstreams.push(upstream.name.clone());
        }
        candidate.budget = Some(permit);
        true
    }

    /// Notes what the failure says, and decides what is next.
    fn after(&mut self, context: &RequestContext, request: &PreparedRequest, failed: FailedAttempt) -> Next {
        let FailedAttempt { mut candidate, error } = failed;
        if let Some(choice) = &request.accounts
            && error.is_unknown_id()
        {
            return self.after_unknown_id(choice.search(), &candidate, error);
        }
        // The upstream has refused what the gateway has added. That costs the client no retry.
        if candidate.usage == AskedUsage::Yes && error.may_refuse_usage() && request.can_be_sent() {
            candidate.usage = AskedUsage::Refused;
            return Next::WithoutUsage(candidate);
        }
        let retry = RetryContext {
            repeat: request.repeat,
            // Models are the same everywhere; every other thing that is read or deleted belongs to one account.
            stays_at_upstream: request.repeat.is_about_kept_things()
                && request.operation.endpoint != Endpoint::Models
                && request.accounts.is_none(),
            next_on_context_length: self.route.next_on_context_length,
            model: candidate.model.as_deref().or(self.model.as_deref()),
        };
        let decision = error.decide(retry);
        let has_reached_it = !matches!(decision, RetryDecision::Never | RetryDecision::OtherTarget);
        let stays = retry.stays_at_upstream && has_reached_it;
        let key = error.cooldown(retry);
        let key_is_out = key.is_some();
        let is_limit = key.as_ref().is_some_and(|key| key.what.why() == CooldownReason::Limited);
        let cooldown = key
            .zip(candidate.key.as_mut())
            .and_then(|(failed, used)| used.failed(failed, self.model.as_deref(), &context.worker.metrics));
        if cooldown.is_none() {
            self.rounds.schedule.note_retry_after(error.retry_after());
        }
        if stays {
            self.rounds.candidates.stay_at(&candidate);
        }
        if creates(request) && !context.worker.gateway.accounts.can_write() {
            let is_out = key_is_out || error.is_connection();
            if !is_out {
                self.rounds.candidates.stay_at_account(&candidate);
            }
        }
        let goes_on =
            request.can_be_sent() && self.rounds.schedule.take() && self.apply(&candidate, &decision);
        if !goes_on {
            if decision == RetryDecision::Never {
                // The error is the client's own: every upstream would answer it.
                self.rounds.late = None;
            }
            return Next::GiveUp(error);
        }
        LateAttempt::keep(&mut self.rounds.late, candidate, context, self.model.as_deref());
        let pause = is_worth_the_same(&decision, is_limit)
            .then(|| self.rounds.schedule.pause_at_same(cooldown.or(error.retry_after()), Instant::now()))
            .flatten();
        self.last = Some(error);
        self.rounds.has_failed = true;
        match pause {
            Some(pause) => Next::Same(pause),
            None => {
                self.rounds.schedule.next_candidate();
                Next::Other
            }
        }
    }

    /// What follows when the account of `candidate` does not know an id.
    fn after_unknown_id(&mut self, search: Search, candidate: &Candidate, error: AttemptError) -> Next {
        match search {
            Search::Look => {
                if self.rounds.candidates.skip_account(candidate) {
                    // Looking in another account is no retry. While one is left that could not be asked, nothing is known to be missing.
                    self.last = None;
                    return Next::Other;
                }
                Next::GiveUp(error)
            }
            Search::Stay => Next::GiveUp(AttemptError::Fault(Fault::IdUnknown)),
            Search::Known | Search::Create => Next::GiveUp(error),
        }
    }

    /// Applies the decision after `candidate` failed. False if nothing else is to be tried.
    fn apply(&mut self, candidate: &Candidate, decision: &RetryDecision) -> bool {
        let candidates = &mut self.rounds.candidates;
        match *decision {
            RetryDecision::Never => return false,
            RetryDecision::OtherTarget => candidates.mark_failed(candidate, FailureScope::Target, false),
            RetryDecision::Elsewhere { excluded } => {
                candidates.mark_failed(candidate, FailureScope::Model, excluded);
            }
            RetryDecision::OtherKey { excluded } => {
                let is_only = candidate.key.is_none() || candidate.upstream.keys.len() <= 1;
                let scope = if is_only { FailureScope::Model } else { FailureScope::Key };
                candidates.mark_failed(candidate, scope, excluded);
            }
            RetryDecision::OtherUpstream => return candidates.skip_step(candidate),
        }
        true
    }
}

/// Whether the request makes something that is kept, and may make it in any account.
fn creates(request: &PreparedRequest) -> bool {
    request.accounts.as_ref().is_some_and(|choice| choice.search() == Search::Create)
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

/// The fault of a request for which no candidate was available: if it belongs to one account, others may be.
fn of_account(fault: Fault, request: &PreparedRequest) -> Fault {
    let is_bound = request.accounts.as_ref().is_some_and(|choice| choice.search() != Search::Create);
    match fault {
        Fault::Unavailable(span) if is_bound => Fault::IdOwnerUnavailable(span),
        Fault::KeyUnusable(_) if is_bound => Fault::IdOwnerUnavailable(Duration::ZERO),
        fault => fault,
    }
}

/// Who sends the request, for the circuit breaker: the client, or the network of a caller that is not known.
fn caller_of(record: &Record) -> CallerHash {
    match &record.caller {
        Some(caller) => CallerHash::of(caller.name.as_bytes()),
        None => CallerHash::of(&identity_of(record.client)),
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
