//! The candidates of a request: which of a route's upstreams, which target, with which key.

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use crate::{
    config::{Balance, Timeouts},
    proxy::arrival::CallerTimeouts,
    snapshot::{Route, Step, Target, Upstream},
    upstream::{self, Affinity, Circuit, Cooldown, Key, Pick, TargetPermit, TargetState},
};

/// Where a request may be sent: a target of an upstream, a key and a model. The request counts as pending at the target until this is dropped.
#[derive(Debug)]
pub(super) struct Candidate {
    /// Index into the route's steps.
    step: usize,
    pub(super) upstream: Arc<Upstream>,
    /// Index into the upstream's targets.
    target: usize,
    /// The model to ask for instead of the request's own.
    pub(super) model: Option<Arc<str>>,
    pub(super) timeouts: Timeouts,
    /// `None` if the upstream needs no key.
    pub(super) key: Option<Key>,
    pub(super) permit: TargetPermit,
    /// Whether nothing else can be tried if this one is slow: its answer is then better than none.
    pub(super) is_last: bool,
    /// When the head of its response came.
    pub(super) answered: Option<Instant>,
}

/// Earliest time at which an unavailable candidate becomes available, and why it is not.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct NextAvailable {
    pub(super) span: Duration,
    pub(super) why: Unavailable,
}

/// Why a candidate is unavailable.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Unavailable {
    /// It is at its concurrency limit.
    Full,
    /// A rate limit is reached, or the account has no credit left.
    Limited,
    /// Its circuit breaker is open, or half-open with its probe under way.
    Circuit,
    /// The upstream refuses all of its keys.
    Refused,
}

/// The candidates of one request, and those that it has tried.
#[derive(Debug)]
pub(super) struct Candidates {
    route: Arc<Route>,
    model: Option<Box<str>>,
    /// One for each step; empty if no step balances by a hash.
    affinities: Vec<Affinity>,
    timeouts: CallerTimeouts,
    /// Steps before this one are not used any more.
    first: usize,
    /// The candidates of this round, and the excluded ones. Bounded by the number of attempts plus the targets without retry budget.
    tried: Vec<Tried>,
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
    /// All candidates of `route`, for a request that names `model`.
    pub(super) fn new(
        route: Arc<Route>,
        model: Option<&str>,
        affinities: Vec<Affinity>,
        timeouts: CallerTimeouts,
    ) -> Self {
        let model = model.map(Into::into);
        Self { route, model, affinities, timeouts, first: 0, tried: Vec::new() }
    }

    /// The next candidate, in the route's order; `None` when all that are available at `now` were tried in this round.
    pub(super) fn next(&self, now: Instant) -> Option<Candidate> {
        let steps = self.route.steps.iter().enumerate().skip(self.first);
        steps.into_iter().find_map(|(number, step)| self.at_step(number, step, now))
    }

    /// Whether there is more than one.
    pub(super) fn are_several(&self) -> bool {
        let steps = self.route.steps.iter().skip(self.first);
        steps.map(|step| step.upstream.count() * step.upstream.keys.len().max(1)).sum::<usize>() > 1
    }

    /// Whether another target or model than that of `candidate` can still be tried, now or in another round. A target whose circuit breaker is
    /// open at `now` does not count.
    pub(super) fn any_beside(&self, candidate: &Candidate, now: Instant) -> bool {
        let steps = self.route.steps.iter().enumerate().skip(self.first);
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
        self.tried.push(Tried { state, step: candidate.step, key: candidate.key.clone(), scope, excluded });
    }

    /// Goes on after the step of `candidate`; false when that was the last.
    pub(super) fn skip_step(&mut self, candidate: &Candidate) -> bool {
        self.first = candidate.step + 1;
        self.first < self.route.steps.len()
    }

    /// Allows all to be tried again but those that are excluded.
    pub(super) fn new_round(&mut self) {
        self.tried.retain(|tried| tried.excluded);
    }

    /// Earliest time at which an unavailable candidate becomes available; `None` when no candidate is worth waiting for.
    pub(super) fn next_available(&self, now: Instant) -> Option<NextAvailable> {
        let steps = self.route.steps.iter().enumerate().skip(self.first);
        let all = steps
            .flat_map(|(number, step)| step.upstream.targets().map(move |target| (number, step, target)));
        let open =
            all.filter(|(number, _, target)| !self.failures_at(*number, target).any(|tried| tried.excluded));
        open.map(|(_, step, target)| self.wait_for(step, target, now)).min()
    }

    fn wait_for(&self, step: &Step, target: &Target, now: Instant) -> NextAvailable {
        let open = step.breaker.is_some() && target.state.circuit(now) != Circuit::Closed;
        if open {
            return NextAvailable {
                span: target.state.opens_in(now).unwrap_or_default(),
                why: Unavailable::Circuit,
            };
        }
        match step.upstream.keys.peek(self.model(step), &[], now) {
            Pick::CoolingDown { until, why } => {
                let why = if why == upstream::CooldownReason::Refused {
                    Unavailable::Refused
                } else {
                    Unavailable::Limited
                };
                NextAvailable { span: until.saturating_duration_since(now), why }
            }
            Pick::Key(_) | Pick::Unneeded => NextAvailable { span: Duration::ZERO, why: Unavailable::Full },
        }
    }

    /// The model that a request at `step` names.
    fn model<'a>(&'a self, step: &'a Step) -> Option<&'a str> {
        step.model.as_deref().or(self.model.as_deref())
    }

    fn at_step(&self, number: usize, step: &Step, now: Instant) -> Option<Candidate> {
        let upstream = &step.upstream;
        let count = upstream.count();
        let try_one = |target: usize| self.take(number, step, target, now);
        if let (Balance::Hash(_), Some(value)) = (&upstream.balance, self.affinities.get(number)) {
            return nearest(upstream, *value).into_iter().find_map(try_one);
        }
        let turn = upstream.turn();
        let idlest = match upstream.balance {
            Balance::LeastPending if count > 1 => self.idlest(number, step, turn, now),
            Balance::LeastPending | Balance::RoundRobin | Balance::Hash(_) => None,
        };
        idlest.and_then(try_one).or_else(|| (0..count).find_map(|further| try_one((turn + further) % count)))
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

    fn take(&self, number: usize, step: &Step, index: usize, now: Instant) -> Option<Candidate> {
        let target = step.upstream.target(index);
        if self.was_tried(number, target) {
            return None;
        }
        let here = self.tried.iter().filter(|tried| self.concerns(tried, number, target));
        let used: Vec<Key> = here.filter_map(|tried| tried.key.clone()).collect();
        // Before a key is picked, because a key would lose its turn if the request is not admitted.
        let mut permit = target.state.admit(step.breaker, step.upstream.max_pending, now)?;
        let key = match step.upstream.keys.pick(self.model(step), &used, now) {
            Pick::Unneeded => None,
            Pick::Key(key) => Some(key),
            Pick::CoolingDown { .. } => return None,
        };
        if self.timeouts.is_any() {
            permit.excuse();
        }
        let (upstream, model) = (step.upstream.clone(), step.model.clone());
        Some(Candidate {
            step: number,
            upstream,
            target: index,
            model,
            timeouts: self.timeouts.over(step.timeouts),
            key,
            permit,
            is_last: false,
            answered: None,
        })
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

impl Candidate {
    /// The time that `first_token` counts from for the first content of its response. For the last candidate that is the response's head, which
    /// was waited for beyond `first_token`.
    pub(super) fn content_due_from(&self, start: Instant) -> Instant {
        self.answered.filter(|_| self.is_last).unwrap_or(start)
    }

    pub(super) fn target(&self) -> &Target {
        self.upstream.target(self.target)
    }

    /// Whether its key is in cooldown for `model` now.
    pub(super) fn key_cools_down(&self, model: Option<&str>) -> bool {
        self.key.as_ref().is_some_and(|key| key.is_cooling_down(model, Instant::now()))
    }

    /// Puts its key into cooldown for `span`.
    pub(super) fn cool_key_down(&self, what: Cooldown, span: Duration, now: Instant) {
        if let Some(key) = &self.key {
            key.cool_down(what, now + span);
        }
    }
}
