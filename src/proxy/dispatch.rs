//! Attempts, until one gives an answer to pass on, or nothing is left to try.

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use http::{HeaderMap, HeaderName, HeaderValue, StatusCode, request};

use super::{
    again::{AttemptError, RetryContext, RetryDecision},
    answered::CallerResponse,
    call::Call,
    complete::Bounds,
    hold::HoldError,
    outbound::PreparedRequest,
    places::{Candidate, Candidates, FailureScope, NextAvailable, Why},
    refusal::UpstreamError,
};
use crate::{
    config::Retry,
    exchange::class,
    fault::{Fault, SHOULD_RETRY},
    snapshot::Route,
    upstream::{self, Cooldown},
};

/// The SDK's own count of its retries (openai-python `_base_client.py`, openai-node `client.ts`).
const STAINLESS: HeaderName = HeaderName::from_static("x-stainless-retry-count");

/// How much of an answer is waited for before it is passed on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Hold {
    /// Its head.
    Nothing,
    /// Its first content.
    Start,
    /// All of it.
    Whole {
        /// In bytes.
        limit: u64,
    },
}

/// How often, and after which waits, a request may be sent again.
#[derive(Debug)]
struct RetrySchedule {
    retry: Retry,
    left: u32,
    rounds: u32,
    /// The shortest wait that those who failed in this round have asked for; none, if one of them has asked for none.
    told: Option<Duration>,
}

impl Call {
    /// Sends the request somewhere, and if need be somewhere else, until there is an answer for the caller.
    ///
    /// # Errors
    /// There is none, and nothing is left to try.
    pub(super) async fn dispatch(
        &mut self,
        mut order: Box<PreparedRequest>,
    ) -> Result<CallerResponse, Fault> {
        let route = order.route().clone();
        let model = self.exchange.record.model.clone();
        let affinities = order.take_affinities();
        let mut places = Candidates::new(route.clone(), model.as_deref(), affinities, self.lowered);
        let mut patience = RetrySchedule::new(route.retry, order.retried());
        self.exchange.record.attempt_headers = route.attempt_headers;
        let mut last = None;
        let mut visited: Vec<Arc<str>> = Vec::new();
        loop {
            let now = Instant::now();
            let Some(mut place) = places.next(now) else {
                let earliest = places.earliest(now);
                let Some(pause) = patience.pause(earliest, last.is_some()) else {
                    return self.give_up(last, earliest);
                };
                tokio::time::sleep(pause).await;
                places.new_round();
                continue;
            };
            let upstream = place.upstream.clone();
            // What it was not asked yet is no retry to it.
            let again = visited.contains(&upstream.name);
            let live = if again { upstream.budget.again() } else { Some(upstream.budget.first()) };
            let Some(_live) = live else {
                places.leave(&place, FailureScope::Target, true);
                continue;
            };
            if !again {
                visited.push(upstream.name.clone());
            }
            let hold = match order.is_inference() {
                true if route.is_whole() => Hold::Whole { limit: route.body_limit },
                true if patience.any_left() && route.holds(places.are_several()) => Hold::Start,
                _ => Hold::Nothing,
            };
            let failed = match self.attempt(&mut order, place, &route, hold).await {
                Ok(answered) => return Ok(answered),
                Err((failed, tried)) => {
                    place = tried;
                    failed
                }
            };
            let asked = RetryContext {
                inference: order.is_inference(),
                next_on_context_length: route.next_on_context_length,
                model: place.model.as_deref().or(model.as_deref()),
            };
            if !self.rests_key(&place, &failed, asked, route.retry.retries > 0) {
                patience.heed(failed.retry_after());
            }
            let next = failed.again(asked);
            let gone_on =
                order.can_be_sent() && patience.take() && go_on(&mut places, &place, asked.model, &next);
            if !gone_on {
                return self.give_up(Some(failed), None);
            }
            last = Some(failed.detached());
        }
    }

    /// Leaves the key of `place` alone for as long as `failed` says, if it does: it is known then when it is to be had again.
    fn rests_key(
        &self,
        place: &Candidate,
        failed: &AttemptError,
        asked: RetryContext<'_>,
        retries: bool,
    ) -> bool {
        let upstream = &place.upstream;
        // Where there is no other key, what the upstream has to say of this one is for the caller to hear each time, but for a rate
        // limit that is waited for here.
        let waits = |what: &Cooldown| matches!(what, Cooldown::Model(_)) && retries;
        let rest = failed.rest(asked).filter(|(what, _)| upstream.keys.len() > 1 || waits(what));
        let Some((what, span)) = rest else { return false };
        let why = what.why();
        self.worker.stripe.key_rests(&upstream.name, why.as_str());
        if why != upstream::CooldownReason::Limited {
            // It goes on without it, so nobody else may notice; and it will not mend itself.
            let number = place.key.as_ref().and_then(|key| upstream.keys.number(key));
            tracing::warn!(upstream = %upstream.name, key = number, why = why.as_str(), rests = ?span, "a provider key is of no use");
        }
        place.rest_key(what, span, Instant::now());
        true
    }

    /// One attempt at `place`, which comes back if nothing came of it.
    async fn attempt(
        &mut self,
        order: &mut PreparedRequest,
        mut place: Candidate,
        route: &Arc<Route>,
        hold: Hold,
    ) -> Result<CallerResponse, (AttemptError, Candidate)> {
        let record = &mut self.exchange.record;
        record.attempts += 1;
        // Else the line would tell of this attempt what was so in the last one.
        (record.upstream_request_id, record.reused, record.connect, record.first_byte) =
            (None, None, None, None);
        record.upstream = Some(place.upstream.name.clone());
        record.target = Some(place.target().url.clone());
        let began = Instant::now();
        let answer = match Box::pin(self.ask(order, &place)).await {
            Ok(answer) => answer,
            Err(fault) => return Err((self.failed_at(&mut place, AttemptError::Fault(fault)), place)),
        };
        place.pass.has_answered();
        let status = answer.status();
        let mut answered = match self.judge(answer, route, &place).await {
            Ok(answered) => answered,
            Err(failed) => return Err((self.failed_at(&mut place, failed), place)),
        };
        if hold != Hold::Nothing
            && let Err(failed) = Box::pin(self.hold(&mut answered, hold, began, &place)).await
        {
            let failed = match failed {
                HoldError::Fault(fault) => AttemptError::Fault(fault),
                HoldError::Error(data) if hold != Hold::Start => {
                    AttemptError::Refused(Box::new(UpstreamError::instead_of_whole(&data, &place.upstream)))
                }
                HoldError::Error(data) => {
                    AttemptError::Refused(Box::new(UpstreamError::in_stream(answered, &data)))
                }
            };
            return Err((self.failed_at(&mut place, failed), place));
        }
        place.pass.succeeded();
        self.exchange.attempted(class(status));
        answered.comes_from(place, began);
        Ok(answered)
    }

    async fn hold(
        &self,
        answered: &mut CallerResponse,
        hold: Hold,
        began: Instant,
        place: &Candidate,
    ) -> Result<(), HoldError> {
        let endpoint = self.exchange.record.endpoint;
        let Hold::Whole { limit } = hold else {
            return answered.hold(began, &place.timeouts, endpoint).await;
        };
        let bounds = Bounds {
            limit,
            buffered: self.snapshot.server.max_buffered,
            gateway: &self.worker.gateway,
            watch: &self.exchange.watch,
        };
        answered.hold_whole((began, &place.timeouts), endpoint, bounds).await
    }

    fn failed_at(&mut self, place: &mut Candidate, failed: AttemptError) -> AttemptError {
        if failed.is_slowness() {
            place.pass.was_slow(Instant::now());
        } else if failed.is_targets_fault() {
            place.pass.failed(Instant::now());
        } else if matches!(failed, AttemptError::Refused(_)) {
            place.pass.succeeded();
        }
        self.exchange.attempted(failed.name());
        self.exchange.record.tried(&place.target().url, failed.name());
        failed
    }

    /// What the caller is told when there is no more to try: what came of the last attempt, and that the SDK need not try again what was
    /// tried again here.
    fn give_up(
        &self,
        last: Option<AttemptError>,
        earliest: Option<NextAvailable>,
    ) -> Result<CallerResponse, Fault> {
        let given = match last {
            Some(AttemptError::Fault(fault)) => Err(fault),
            Some(AttemptError::Refused(refusal)) => refusal.given,
            None => Err(match earliest {
                Some(NextAvailable { span, why: Why::Limited }) => Fault::RateLimited(span),
                Some(NextAvailable { why: Why::Refused, .. }) => {
                    Fault::UpstreamAuth("it has refused every key, and they rest".into())
                }
                Some(NextAvailable { span, why: Why::Full }) => Fault::Full(span),
                Some(NextAvailable { span, why: Why::Circuit }) => Fault::Unavailable(span),
                None => Fault::Unavailable(Duration::ZERO),
            }),
        };
        given.map(
            |answered| {
                if self.exchange.record.attempts > 1 { answered.not_to_be_retried() } else { answered }
            },
        )
    }
}

/// Marks what came of `place`, where `model` was asked for; false when nothing further is to be tried.
fn go_on(places: &mut Candidates, place: &Candidate, model: Option<&str>, again: &RetryDecision) -> bool {
    match *again {
        RetryDecision::Never => return false,
        RetryDecision::OtherTarget => places.leave(place, FailureScope::Target, false),
        RetryDecision::Elsewhere { silent } => places.leave(place, FailureScope::Model, silent),
        RetryDecision::OtherKey if place.upstream.keys.len() > 1 => {
            places.leave(place, FailureScope::Key, false);
        }
        // The only one, if it does not rest, would be refused in the next round too.
        RetryDecision::OtherKey => places.leave(place, FailureScope::Model, !place.key_rests(model)),
        RetryDecision::OtherUpstream => return places.skip_step(place),
    }
    true
}

impl RetrySchedule {
    /// An SDK that is retrying already has used up some of it.
    fn new(retry: Retry, already: u32) -> Self {
        Self { retry, left: retry.retries.saturating_sub(already), rounds: 0, told: None }
    }

    /// One that failed wants to be left alone for so long.
    fn heed(&mut self, told: Option<Duration>) {
        let told = told.unwrap_or_default();
        self.told = Some(self.told.map_or(told, |known| known.min(told)));
    }

    fn any_left(&self) -> bool {
        self.left > 0
    }

    /// Whether there is one more.
    fn take(&mut self) -> bool {
        let any = self.left > 0;
        self.left = self.left.saturating_sub(1);
        any
    }

    /// How long to wait, now that every place was tried or cannot be asked: the backoff, or until the `earliest` of them is to be had.
    fn pause(&mut self, earliest: Option<NextAvailable>, tried: bool) -> Option<Duration> {
        let NextAvailable { span, why } = earliest?;
        let span = span.max(self.told.take().unwrap_or_default());
        // An open circuit is there so that nobody waits for what fails.
        let in_vain = why == Why::Circuit && !tried;
        if in_vain || span > self.retry.max_backoff || self.rounds >= self.retry.retries {
            return None;
        }
        let doubled = self.retry.backoff.saturating_mul(1 << self.rounds.min(16));
        self.rounds += 1;
        let backoff = doubled.min(self.retry.max_backoff).mul_f64(0.75 + fastrand::f64() / 2.0);
        Some(backoff.min(self.retry.max_backoff).max(span))
    }
}

/// How often the SDK that sent this has sent it before.
pub(super) fn retried(head: &request::Parts) -> u32 {
    let count = head.headers.get(STAINLESS).and_then(|count| count.to_str().ok());
    count.and_then(|count| count.parse().ok()).unwrap_or(0)
}

/// Tells SDKs that everything has been tried.
pub(super) fn not_to_be_retried(status: StatusCode, headers: &mut HeaderMap) {
    let retried = matches!(status.as_u16(), 408 | 409 | 429 | 500..);
    if retried {
        headers.insert(SHOULD_RETRY, HeaderValue::from_static("false"));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const RETRY: Retry =
        Retry { retries: 3, backoff: Duration::from_secs(1), max_backoff: Duration::from_secs(8) };

    fn at(seconds: u64) -> Option<NextAvailable> {
        Some(NextAvailable { span: Duration::from_secs(seconds), why: Why::Limited })
    }

    #[test]
    fn waits_double_up_to_their_bound() {
        let mut patience = RetrySchedule::new(Retry { retries: 5, ..RETRY }, 0);
        for expected in [1.0_f64, 2.0, 4.0, 8.0, 8.0] {
            let wait = patience.pause(at(0), true).unwrap().as_secs_f64();
            assert!((expected * 0.75..=(expected * 1.25).min(8.0)).contains(&wait), "{expected}: {wait}");
        }
        assert_eq!(patience.pause(at(0), true), None, "as many as there are retries");
    }

    #[test]
    fn what_was_told_is_waited_for_within_the_bound() {
        let mut patience = RetrySchedule::new(RETRY, 0);
        assert!(patience.pause(at(5), true).unwrap() >= Duration::from_secs(5));
        assert_eq!(patience.pause(at(9), true), None);
        assert_eq!(patience.pause(None, true), None);
        let open = Some(NextAvailable { span: Duration::ZERO, why: Why::Circuit });
        assert_eq!(patience.pause(open, false), None);
        assert!(patience.pause(open, true).is_some());
    }

    #[test]
    fn who_asked_for_a_wait_has_it_unless_another_asked_for_none() {
        let mut patience = RetrySchedule::new(RETRY, 0);
        patience.heed(Some(Duration::from_secs(6)));
        assert!(patience.pause(at(0), true).unwrap() >= Duration::from_secs(6));
        patience.heed(Some(Duration::from_secs(3600)));
        patience.heed(None);
        assert!(patience.pause(at(0), true).unwrap() < Duration::from_secs(3));
        patience.heed(Some(Duration::from_secs(3600)));
        assert_eq!(patience.pause(at(0), true), None);
    }

    #[test]
    fn an_sdk_that_retries_leaves_less_to_the_gateway() {
        let takes = |already| {
            let mut patience = RetrySchedule::new(RETRY, already);
            (0..10).filter(|_| patience.take()).count()
        };
        assert_eq!((takes(0), takes(2), takes(9)), (3, 1, 0));
    }
}
