//! The candidates of a request: which of a route's upstreams, which target, with which key.

use std::{
    future::poll_fn,
    sync::Arc,
    task::Poll,
    time::{Duration, Instant},
};

use super::{
    available::{NextAvailable, Unavailable},
    candidate::{AskedUsage, Candidate},
    key_waits::KeyWaits,
    target_waits::TargetWaits,
};
use crate::{
    config::Balance,
    proxy::{
        arrival::CallerTimeouts,
        key_use::{KeyUse, RouteKeys},
    },
    snapshot::{Route, Step, Target, Upstream},
    upstream::{
        Affinity, CallerHash, Circuit, CooldownReason, Key, KeyPermit, Pick, TargetPermit, TargetState, Turn,
    },
};

/// The candidates of one request, and those that it has tried.
#[derive(Debug)]
pub(super) struct Candidates {
    route: Arc<Route>,
    caller: CallerHash,
    model: Option<Box<str>>,
    /// One for each step; empty if no step balances by a hash.
    affinities: Vec<Affinity>,
    timeouts: CallerTimeouts,
    /// Steps before this one are not used any more.
    first: usize,
    /// Nor are steps from this one on.
    end: usize,
    /// The candidates of this round, and the excluded ones. Bounded by the number of attempts plus the targets without retry budget.
    tried: Vec<Tried>,
    waits: TargetWaits,
}

/// A target that has admitted the request.
struct Admitted {
    /// Index into the upstream's targets.
    target: usize,
    permit: TargetPermit,
}

/// What has ended a wait for a candidate.
#[derive(Debug)]
pub(super) enum Waited {
    /// The request has this key for the step with that number.
    Key(usize, KeyPermit),
    /// [`Candidates::next`] may find a candidate now.
    LookAgain,
    /// The round is over.
    RoundOver,
    /// No key becomes free in time.
    TooLate,
}

/// A candidate that was tried.
#[derive(Debug)]
struct Tried {
    state: Arc<TargetState>,
    /// Index into the route's steps: it says which model was asked for.
    step: usize,
    key: Option<Key>,
    scope: FailureScope,
    /// Not to be tried in another round either: silent until a timeout, or without another key than the one that was refused.
    excluded: bool,
}

/// How much of a candidate a failure concerns. The rest of it may be tried at once: one model of a target may be overloaded while another is not.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum FailureScope {
    /// Its key, for the model that was asked for.
    Key,
    /// That model there, whatever the key.
    Model,
    /// The target, for every model and key.
    Target,
}

impl Candidates {
    /// All candidates of `route`, for a request of `caller` that names `model`.
    pub(super) fn new(
        route: Arc<Route>,
        caller: CallerHash,
        model: Option<&str>,
        affinities: Vec<Affinity>,
        timeouts: CallerTimeouts,
    ) -> Self {
        let model = model.map(Into::into);
        let end = route.steps.len();
        Self {
            route,
            caller,
            model,
            affinities,
            timeouts,
            first: 0,
            end,
            tried: Vec::new(),
            waits: TargetWaits::default(),
        }
    }

    /// The next candidate, in the route's order; `None` when all that are available at `now` were tried in this round.
    pub(super) fn next(&mut self, now: Instant) -> Option<Box<Candidate>> {
        let mut steps = self.route.steps.iter().enumerate().take(self.end).skip(self.first);
        let candidate = steps.find_map(|(number, step)| self.at_step(number, step, now));
        self.waits.give_back();
        if candidate.is_some() {
            self.waits.leave();
        }
        candidate
    }

    /// Joins the queue of each target that lacks nothing at `now` but a request that ends (`max_pending`), and leaves the queues of all others.
    /// The request keeps its places until it has a candidate.
    pub(super) fn enqueue(&mut self, now: Instant) {
        let route = self.route.clone();
        let steps = route.steps.iter().enumerate().take(self.end).skip(self.first);
        let all = steps
            .flat_map(|(number, step)| step.upstream.targets().map(move |target| (number, step, target)));
        let next = all.filter(|(number, step, target)| self.could_be_next(*number, step, target, now));
        let next: Vec<_> = next.map(|(_, step, target)| (step, target)).collect();
        self.waits.stay_at(&next);
        next.iter().for_each(|(step, target)| self.waits.join(step, target));
    }

    /// Joins the queues of the targets for which the request has the key `of` the step with that `number`.
    pub(super) fn enqueue_with_key(&mut self, number: usize, of: &KeyPermit, now: Instant) {
        let route = self.route.clone();
        let Some(step) = route.steps.get(number) else { return };
        for target in step.upstream.targets() {
            let is_closed = step.breaker.is_none() || target.state.circuit(now) == Circuit::Closed;
            if is_closed && self.may_use(number, target, of.key()) {
                self.waits.join(step, target);
            }
        }
    }

    /// Whether the request has a place in a queue.
    pub(super) fn is_queued(&self) -> bool {
        self.waits.is_any()
    }

    /// Waits in the queues of targets, and in the queues for the keys of `steps` until `latest`; `until` ends the round. The first that grants
    /// something ends the wait.
    pub(super) async fn wait(
        &mut self,
        steps: &[NextAvailable],
        latest: Instant,
        until: Option<Instant>,
    ) -> Waited {
        let route = self.route.clone();
        let mut keys = KeyWaits::until(latest);
        for available in steps {
            let Some(step) = route.steps.get(available.step) else { continue };
            let model = step.model.as_deref().or(self.model.as_deref()).map(Into::into);
            keys.add(available.step, step.upstream.clone(), model, self.excluded_keys(available.step));
        }
        let first = poll_fn(|cx| {
            if self.waits.poll(cx) {
                return Poll::Ready(Waited::LookAgain);
            }
            match keys.poll(cx) {
                Poll::Ready(Some((step, Turn::Key(key)))) => Poll::Ready(Waited::Key(step, key)),
                Poll::Ready(Some((_, Turn::Released | Turn::TooLate))) => Poll::Ready(Waited::LookAgain),
                Poll::Ready(None) if until.is_none() => Poll::Ready(Waited::TooLate),
                Poll::Ready(None) | Poll::Pending => Poll::Pending,
            }
        });
        let waited = match until {
            None => first.await,
            Some(until) => tokio::time::timeout_at(until.into(), first).await.unwrap_or(Waited::RoundOver),
        };
        match &waited {
            Waited::RoundOver => self.new_round(),
            Waited::Key(..) | Waited::LookAgain => self.forget_failures_at(steps),
            Waited::TooLate => {}
        }
        waited
    }

    /// Allows these steps to be tried again, as [`new_round`](Self::new_round) does for all: their keys have been waited for since they failed.
    fn forget_failures_at(&mut self, steps: &[NextAvailable]) {
        let mut tried = std::mem::take(&mut self.tried);
        let is_one = |number: usize| steps.iter().any(|step| self.is_same_queue(step.step, number));
        tried.retain(|tried| tried.excluded || !is_one(tried.step));
        self.tried = tried;
    }

    /// Whether there is more than one.
    pub(super) fn are_several(&self) -> bool {
        let steps = self.route.steps.iter().take(self.end).skip(self.first);
        steps.map(|step| step.upstream.count() * step.upstream.keys.len().max(1)).sum::<usize>() > 1
    }

    /// Whether another target or model than that of `candidate` can still be tried, now or in another round. A target whose circuit breaker is
    /// open at `now` does not count.
    pub(super) fn any_beside(&self, candidate: &Candidate, now: Instant) -> bool {
        let steps = self.route.steps.iter().enumerate().take(self.end).skip(self.first);
        let mut all = steps
            .flat_map(|(number, step)| step.upstream.targets().map(move |target| (number, step, target)));
        all.any(|(number, step, target)| {
            let is_same =
                Arc::ptr_eq(&target.state, &candidate.target().state) && step.model == candidate.model;
            let is_closed = step.breaker.is_none() || target.state.circuit(now) != Circuit::Open;
            is_closed && !is_same && !self.failures_at(number, target).any(|tried| tried.excluded)
        })
    }

    /// Notes that `candidate` failed, as far as `scope` says. An `excluded` one is not tried in another round either.
    pub(super) fn mark_failed(&mut self, candidate: &Candidate, scope: FailureScope, excluded: bool) {
        let state = candidate.target().state.clone();
        let key = candidate.key.as_ref().map(|used| used.key().clone());
        self.tried.push(Tried { state, step: candidate.step, key, scope, excluded });
    }

    /// Goes on after the step of `candidate`; false when that was the last.
    pub(super) fn skip_step(&mut self, candidate: &Candidate) -> bool {
        self.first = candidate.step + 1;
        self.first < self.end
    }

    /// Goes on at the step of `candidate` alone.
    pub(super) fn stay_at(&mut self, candidate: &Candidate) {
        self.first = candidate.step;
        self.end = candidate.step + 1;
    }

    /// Allows all to be tried again but those that are excluded.
    pub(super) fn new_round(&mut self) {
        self.tried.retain(|tried| tried.excluded);
    }

    /// Earliest time at which an unavailable candidate becomes available; `None` when no candidate is worth waiting for.
    pub(super) fn next_available(&self, now: Instant) -> Option<NextAvailable> {
        self.unavailable(now).min()
    }

    /// As [`next_available`](Self::next_available), without the candidates that lack a key.
    pub(super) fn next_with_key(&self, now: Instant) -> Option<NextAvailable> {
        self.unavailable(now).filter(|available| !available.is_a_key()).min()
    }

    /// The steps that lack only a key at `now`, if it becomes free until `latest`: each queue for keys once.
    pub(super) fn steps_without_key(&self, now: Instant, latest: Instant) -> Vec<NextAvailable> {
        let in_time = |available: &NextAvailable| available.is_a_key() && now + available.span <= latest;
        let mut steps: Vec<NextAvailable> = Vec::new();
        for available in self.unavailable(now).filter(in_time) {
            if !steps.iter().any(|known| self.is_same_queue(known.step, available.step)) {
                steps.push(available);
            }
        }
        steps.sort();
        steps
    }

    fn unavailable(&self, now: Instant) -> impl Iterator<Item = NextAvailable> {
        let steps = self.route.steps.iter().enumerate().take(self.end).skip(self.first);
        let all = steps
            .flat_map(|(number, step)| step.upstream.targets().map(move |target| (number, step, target)));
        let open =
            all.filter(|(number, _, target)| !self.failures_at(*number, target).any(|tried| tried.excluded));
        open.filter_map(move |(number, step, target)| self.wait_for(number, step, target, now))
    }

    /// Whether the steps with these numbers use the keys of one upstream for the same model.
    fn is_same_queue(&self, one: usize, other: usize) -> bool {
        let (Some(one), Some(other)) = (self.route.steps.get(one), self.route.steps.get(other)) else {
            return false;
        };
        one.upstream.name == other.upstream.name && self.model(one) == self.model(other)
    }

    /// The keys that the request does not use at the step with that `number` any more.
    fn excluded_keys(&self, number: usize) -> Vec<Key> {
        let excluded = self
            .tried
            .iter()
            .filter(|tried| tried.excluded && tried.scope == FailureScope::Key && tried.step == number);
        excluded.filter_map(|tried| tried.key.clone()).collect()
    }

    /// The candidate at the step with that `number` that uses the `key` for which the request has waited.
    ///
    /// # Errors
    /// No target can be used now. The key.
    pub(super) fn with_key(
        &self,
        number: usize,
        key: KeyPermit,
        now: Instant,
    ) -> Result<Box<Candidate>, KeyPermit> {
        let Some(step) = self.route.steps.get(number) else { return Err(key) };
        let admitted = self.by_balance(number, step, now, |index| {
            let target = step.upstream.target(index);
            if !self.may_use(number, target, key.key()) {
                return None;
            }
            Some(Admitted { target: index, permit: self.admit(step, target, now)? })
        });
        match admitted {
            Some(admitted) => Ok(self.candidate(number, step, Some(key), admitted)),
            None => Err(key),
        }
    }

    /// Whether neither `target` nor the `key` at it was tried in this round with what is asked of it at the step with that `number`.
    fn may_use(&self, number: usize, target: &Target, key: &Key) -> bool {
        !self.was_tried(number, target) && !self.used_keys(number, target).iter().any(|used| used.is(key))
    }

    /// The candidate that failed last, once more; `None` if it cannot be used now.
    pub(super) fn again(&mut self, now: Instant) -> Option<Box<Candidate>> {
        let last = self.tried.pop()?;
        let candidate = self.take_again(&last, now);
        if candidate.is_none() {
            self.tried.push(last);
        }
        candidate
    }

    fn take_again(&self, last: &Tried, now: Instant) -> Option<Box<Candidate>> {
        let step = self.route.steps.get(last.step)?;
        let index = step.upstream.targets().position(|target| Arc::ptr_eq(&target.state, &last.state))?;
        let target = step.upstream.target(index);
        let permit = self.admit(step, target, now)?;
        // All keys but the one that it had.
        let others = step.upstream.keys.others(last.key.as_ref());
        let key = self.key(last.step, &others, now)?;
        Some(self.candidate(last.step, step, key, Admitted { target: index, permit }))
    }

    /// Whether the route has one key only, for all that a cooldown for this reason of a key at the step with that `number` concerns.
    fn is_only_key(&self, number: usize, why: CooldownReason) -> bool {
        RouteKeys { route: &self.route, step: number, model: self.model.as_deref() }.is_only_key(why)
    }

    fn wait_for(&self, number: usize, step: &Step, target: &Target, now: Instant) -> Option<NextAvailable> {
        let available = |span, why| Some(NextAvailable { span, why, step: number });
        let open = step.breaker.is_some() && target.state.circuit(now) != Circuit::Closed;
        if open {
            return available(target.state.opens_in(now).unwrap_or_default(), Unavailable::Circuit);
        }
        let excluded =
            self.tried.iter().filter(|tried| tried.excluded && self.concerns(tried, number, target));
        let excluded: Vec<Key> = excluded.filter_map(|tried| tried.key.clone()).collect();
        let (until, why) = match step.upstream.keys.peek(self.model(step), &excluded, now) {
            Pick::CoolingDown { until, why } if !self.is_only_key(number, why) => (until, why),
            Pick::AllUsed => return None,
            Pick::CoolingDown { .. } | Pick::Key(_) | Pick::Unneeded => {
                return available(Duration::ZERO, Unavailable::Full);
            }
        };
        let why = match why {
            CooldownReason::Limited => Unavailable::Limited,
            CooldownReason::Spent | CooldownReason::Refused => Unavailable::Refused,
        };
        available(until.saturating_duration_since(now), why)
    }

    /// The model that a request at `step` names.
    fn model<'a>(&'a self, step: &'a Step) -> Option<&'a str> {
        step.model.as_deref().or(self.model.as_deref())
    }

    fn at_step(&self, number: usize, step: &Step, now: Instant) -> Option<Box<Candidate>> {
        self.by_balance(number, step, now, |target| self.take(number, step, target, now))
    }

    /// The first result of `try_one` for the targets of a step, by their numbers, in the order of the upstream's balance.
    fn by_balance<T>(
        &self,
        number: usize,
        step: &Step,
        now: Instant,
        try_one: impl Fn(usize) -> Option<T>,
    ) -> Option<T> {
        let upstream = &step.upstream;
        let count = upstream.count();
        if let (Balance::Hash(_), Some(value)) = (&upstream.balance, self.affinities.get(number)) {
            return nearest(upstream, *value).into_iter().find_map(try_one);
        }
        let turn = upstream.turn();
        let idlest = match upstream.balance {
            Balance::LeastPending if count > 1 => self.idlest(number, step, turn, now),
            Balance::LeastPending | Balance::RoundRobin | Balance::Hash(_) => None,
        };
        idlest.and_then(&try_one).or_else(|| (0..count).find_map(|further| try_one((turn + further) % count)))
    }

    /// Of the targets that were not tried, the one with the least pending for its weight; among equals the one whose turn it is.
    fn idlest(&self, number: usize, step: &Step, turn: usize, now: Instant) -> Option<usize> {
        let upstream = &step.upstream;
        let count = upstream.count();
        let in_turn = (0..count).map(|further| (turn + further) % count);
        let closed = |target: &Target| step.breaker.is_none() || target.state.circuit(now) != Circuit::Open;
        let is_eligible = |index: &usize| {
            let target = upstream.target(*index);
            !self.was_tried(number, target) && closed(target)
        };
        in_turn.filter(is_eligible).min_by_key(|index| {
            let target = upstream.target(*index);
            // One more, so that of two idle ones the heavier is preferred.
            ((target.state.pending() as u64 + 1) << 16) / u64::from(target.weight.max(1))
        })
    }

    fn take(&self, number: usize, step: &Step, index: usize, now: Instant) -> Option<Box<Candidate>> {
        let target = step.upstream.target(index);
        if self.was_tried(number, target) {
            return None;
        }
        let used = self.used_keys(number, target);
        // Before a key is picked, because a key would lose its turn if the request is not admitted.
        let permit = self.admit(step, target, now)?;
        let key = self.key(number, &used, now)?;
        Some(self.candidate(number, step, key, Admitted { target: index, permit }))
    }

    /// The next key of the step with that `number`. A key that is all that the route has is used in a cooldown too, which came from another
    /// route. `None`: all are in cooldown or among `used`.
    fn key(&self, number: usize, used: &[Key], now: Instant) -> Option<Option<KeyPermit>> {
        let step = self.route.steps.get(number)?;
        let keys = &step.upstream.keys;
        let pick = match keys.pick(self.model(step), used, now) {
            Pick::CoolingDown { why, .. } if self.is_only_key(number, why) => keys.pick_any(used, now),
            pick => pick,
        };
        match pick {
            Pick::Unneeded => Some(None),
            Pick::Key(key) => Some(Some(key)),
            Pick::CoolingDown { .. } | Pick::AllUsed => None,
        }
    }

    fn candidate(
        &self,
        number: usize,
        step: &Step,
        key: Option<KeyPermit>,
        admitted: Admitted,
    ) -> Box<Candidate> {
        let Admitted { target, mut permit } = admitted;
        if self.timeouts.is_any() {
            permit.excuse();
        }
        let (upstream, model) = (step.upstream.clone(), step.model.clone());
        let timeouts = self.timeouts.over(step.timeouts);
        let key = key.map(|permit| KeyUse::new(self.route.clone(), number, permit));
        // Boxed, because it is handed on many times.
        Box::new(Candidate {
            step: number,
            upstream,
            target,
            model,
            timeouts,
            key,
            permit,
            may_be_late: false,
            head_limit: None,
            pending_head: None,
            answered: None,
            budget: None,
            usage: AskedUsage::default(),
        })
    }

    /// The keys that were used at `target` for what is asked of it at the step of that `number`.
    fn used_keys(&self, number: usize, target: &Target) -> Vec<Key> {
        let here = self.tried.iter().filter(|tried| self.concerns(tried, number, target));
        here.filter_map(|tried| tried.key.clone()).collect()
    }

    /// Admits the request to `target`, with the permit from its queue if it was granted one.
    fn admit(&self, step: &Step, target: &Target, now: Instant) -> Option<TargetPermit> {
        match self.waits.take(target) {
            Some(granted) => target.state.admit_waiter(self.caller, step.breaker, granted, now),
            None => target.state.admit(self.caller, step.breaker, step.upstream.max_pending, now),
        }
    }

    /// Whether `target` was not tried in this round, and its circuit breaker and its keys would let a request through.
    fn could_be_next(&self, number: usize, step: &Step, target: &Target, now: Instant) -> bool {
        let closed = step.breaker.is_none() || target.state.circuit(now) == Circuit::Closed;
        if !closed || self.was_tried(number, target) {
            return false;
        }
        let used = self.used_keys(number, target);
        matches!(step.upstream.keys.peek(self.model(step), &used, now), Pick::Key(_) | Pick::Unneeded)
    }

    /// Whether `target` was tried with what is asked of it at the step of that `number`, whatever the key.
    fn was_tried(&self, number: usize, target: &Target) -> bool {
        self.failures_at(number, target).next().is_some()
    }

    /// The failures that say something about `target` with what is asked of it at the step of that `number`, whatever the key.
    fn failures_at(&self, number: usize, target: &Target) -> impl Iterator<Item = &Tried> {
        let failed = self.tried.iter().filter(|tried| tried.scope != FailureScope::Key);
        failed.filter(move |tried| self.concerns(tried, number, target))
    }

    /// Whether `tried` says something about what would be asked of `target` at the step of that `number`. The same upstream may stand in a route
    /// twice, with different models.
    fn concerns(&self, tried: &Tried, number: usize, target: &Target) -> bool {
        let model = |number: usize| self.route.steps.get(number).and_then(|step| self.model(step));
        Arc::ptr_eq(&tried.state, &target.state)
            && (tried.scope == FailureScope::Target
                || tried.step == number
                || model(tried.step) == model(number))
    }
}

/// The targets of `upstream`, nearest first.
fn nearest(upstream: &Upstream, value: Affinity) -> Vec<usize> {
    let distance = |index: &usize| {
        let target = upstream.target(*index);
        value.distance(target.affinity, target.weight)
    };
    let mut order: Vec<usize> = (0..upstream.count()).collect();
    order.sort_by(|a, b| distance(a).total_cmp(&distance(b)));
    order
}
