//! Where a request may be sent: which of a route's upstreams, which target, with which key.

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use super::lowered::CallerTimeouts;
use crate::{
    config::{Balance, Timeouts},
    snapshot::{Route, Step, Target, Upstream},
    upstream::{self, Affinity, Circuit, Cooldown, Key, Pick, TargetPermit, TargetState},
};

/// A place to send a request to, taken: it is pending there until this is dropped.
#[derive(Debug)]
pub(super) struct Candidate {
    /// Of the route's steps.
    step: usize,
    pub(super) upstream: Arc<Upstream>,
    /// Of the upstream's targets.
    target: usize,
    /// The model to ask for instead of the request's own.
    pub(super) model: Option<Arc<str>>,
    pub(super) timeouts: Timeouts,
    /// None where the upstream takes none.
    pub(super) key: Option<Key>,
    pub(super) pass: TargetPermit,
}

/// When the first of the places may be asked that may not be now.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct NextAvailable {
    pub(super) span: Duration,
    pub(super) why: Why,
}

/// Why a place may not be asked.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Why {
    /// It has as many requests as it may have.
    Full,
    /// A rate limit is reached, or the account's money spent.
    Limited,
    /// Its circuit is open, or half-open with its probe under way.
    Circuit,
    /// All of its keys are refused.
    Refused,
}

/// The places of one request, and those that it has been to.
#[derive(Debug)]
pub(super) struct Candidates {
    route: Arc<Route>,
    model: Option<Box<str>>,
    /// By step, where one of them balances by a hash.
    affinities: Vec<Affinity>,
    lowered: CallerTimeouts,
    /// Steps before this one are out of the question.
    first: usize,
    /// In this round, and those that are out; no more than there are attempts, and targets whose upstream may not be asked again.
    been: Vec<Tried>,
}

/// A place that was tried.
#[derive(Debug)]
struct Tried {
    state: Arc<TargetState>,
    /// Of the route's steps: it says which model was asked for.
    step: usize,
    key: Option<Key>,
    failed: FailureScope,
    /// It is not to be asked again: silent until a timeout, or with no other key than the one it refused.
    out: bool,
}

/// What failed of a place. The rest of it may be asked at once: one model of a target is overloaded, and another is not.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum FailureScope {
    /// Its key, for the model that was asked for.
    Key,
    /// That model there, whatever the key.
    Model,
    /// The target, whatever is asked of it.
    Target,
}

impl Candidates {
    /// All of `route`, for a request that names `model`.
    pub(super) fn new(
        route: Arc<Route>,
        model: Option<&str>,
        affinities: Vec<Affinity>,
        lowered: CallerTimeouts,
    ) -> Self {
        let model = model.map(Into::into);
        Self { route, model, affinities, lowered, first: 0, been: Vec::new() }
    }

    /// The next place, in the route's order; `None` when all that may be asked at `now` have been in this round.
    pub(super) fn next(&self, now: Instant) -> Option<Candidate> {
        let steps = self.route.steps.iter().enumerate().skip(self.first);
        steps.into_iter().find_map(|(number, step)| self.at(number, step, now))
    }

    /// Whether a request may go to more than one place.
    pub(super) fn are_several(&self) -> bool {
        let steps = self.route.steps.iter().skip(self.first);
        steps.map(|step| step.upstream.count() * step.upstream.keys.len().max(1)).sum::<usize>() > 1
    }

    /// Nothing came of `place`, as far as the part of it that `failed` goes. What is `out` is not asked in another round either.
    pub(super) fn leave(&mut self, place: &Candidate, failed: FailureScope, out: bool) {
        let state = place.target().state.clone();
        self.been.push(Tried { state, step: place.step, key: place.key.clone(), failed, out });
    }

    /// Goes on after the step of `place`; false when that was the last.
    pub(super) fn skip_step(&mut self, place: &Candidate) -> bool {
        self.first = place.step + 1;
        self.first < self.route.steps.len()
    }

    /// All may be tried again but those that are out.
    pub(super) fn new_round(&mut self) {
        self.been.retain(|been| been.out);
    }

    /// When the first of them may be asked that may not be now; `None` when there is none to wait for.
    pub(super) fn earliest(&self, now: Instant) -> Option<NextAvailable> {
        let steps = self.route.steps.iter().enumerate().skip(self.first);
        let places = steps
            .flat_map(|(number, step)| step.upstream.targets().map(move |target| (number, step, target)));
        let open = places.filter(|(number, _, target)| !self.failed_at(*number, target).any(|been| been.out));
        open.map(|(_, step, target)| self.wait_for(step, target, now)).min()
    }

    fn wait_for(&self, step: &Step, target: &Target, now: Instant) -> NextAvailable {
        let open = step.fuse.is_some() && target.state.circuit(now) != Circuit::Closed;
        if open {
            return NextAvailable { span: target.state.opens_in(now).unwrap_or_default(), why: Why::Circuit };
        }
        match step.upstream.keys.peek(self.model(step), &[], now) {
            Pick::CoolingDown { until, why } => {
                let why = if why == upstream::CooldownReason::Refused { Why::Refused } else { Why::Limited };
                NextAvailable { span: until.saturating_duration_since(now), why }
            }
            Pick::Key(_) | Pick::Unneeded => NextAvailable { span: Duration::ZERO, why: Why::Full },
        }
    }

    /// The model that is asked for at `step`.
    fn model<'a>(&'a self, step: &'a Step) -> Option<&'a str> {
        step.model.as_deref().or(self.model.as_deref())
    }

    fn at(&self, number: usize, step: &Step, now: Instant) -> Option<Candidate> {
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
        let closed = |target: &Target| step.fuse.is_none() || target.state.circuit(now) != Circuit::Open;
        let may_be_asked = |index: &usize| {
            let target = upstream.target(*index);
            !self.been_at(number, target) && closed(target)
        };
        in_turn.filter(may_be_asked).min_by_key(|index| {
            let target = upstream.target(*index);
            // One more, so that of two idle ones the heavier is preferred.
            ((target.state.pending() as u64 + 1) << 16) / u64::from(target.weight.max(1))
        })
    }

    fn take(&self, number: usize, step: &Step, index: usize, now: Instant) -> Option<Candidate> {
        let target = step.upstream.target(index);
        if self.been_at(number, target) {
            return None;
        }
        let here = self.been.iter().filter(|been| self.concerns(been, number, target));
        let used: Vec<Key> = here.filter_map(|been| been.key.clone()).collect();
        // Before a key has its turn: it would have it for nothing where nobody is let in.
        let mut pass = target.state.admit(step.fuse, step.upstream.max_pending, now)?;
        let key = match step.upstream.keys.pick(self.model(step), &used, now) {
            Pick::Unneeded => None,
            Pick::Key(key) => Some(key),
            Pick::CoolingDown { .. } => return None,
        };
        if self.lowered.is_any() {
            pass.excuse();
        }
        let (upstream, model) = (step.upstream.clone(), step.model.clone());
        Some(Candidate {
            step: number,
            upstream,
            target: index,
            model,
            timeouts: self.lowered.over(step.timeouts),
            key,
            pass,
        })
    }

    /// Whether `target` was tried with what is asked of it at the step of that `number`, whatever the key.
    fn been_at(&self, number: usize, target: &Target) -> bool {
        self.failed_at(number, target).next().is_some()
    }

    /// The failures that say something about `target` with what is asked of it at the step of that `number`, whatever the key.
    fn failed_at(&self, number: usize, target: &Target) -> impl Iterator<Item = &Tried> {
        let failed = self.been.iter().filter(|been| been.failed != FailureScope::Key);
        failed.filter(move |been| self.concerns(been, number, target))
    }

    /// Whether what `been` was tried with is what would be asked of `target` at the step of that `number`. The same upstream may be there twice
    /// with different models.
    fn concerns(&self, been: &Tried, number: usize, target: &Target) -> bool {
        let model = |number: usize| self.route.steps.get(number).and_then(|step| self.model(step));
        Arc::ptr_eq(&been.state, &target.state)
            && (been.failed == FailureScope::Target
                || been.step == number
                || model(been.step) == model(number))
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
    pub(super) fn target(&self) -> &Target {
        self.upstream.target(self.target)
    }

    /// Whether its key is left alone now by who asks for `model`.
    pub(super) fn key_rests(&self, model: Option<&str>) -> bool {
        self.key.as_ref().is_some_and(|key| key.is_cooling_down(model, Instant::now()))
    }

    /// Its key is left alone for a while.
    pub(super) fn rest_key(&self, what: Cooldown, span: Duration, now: Instant) {
        if let Some(key) = &self.key {
            key.cool_down(what, now + span);
        }
    }
}
