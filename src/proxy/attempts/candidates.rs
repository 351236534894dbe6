//! The candidates of a request: which of a route's upstreams, which target, with which key.

mod picking;
mod waiting;

use std::{rc::Rc, sync::Arc, time::Instant};

pub(super) use self::waiting::Waited;
use super::{
    candidate::Candidate,
    target_waits::TargetWaits,
    tried::{FailureScope, Failures, StepTarget},
};
use crate::{
    proxy::{
        arrival::{CallerTimeouts, EphemeralAccess},
        key_use::RouteKeys,
    },
    snapshot::{Route, Step},
    upstream::{Account, Affinity, CallerHash, Circuit, CooldownReason, Key, Pick},
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
    /// What the client's ephemeral key opens, if it has one. It is sent in place of a key.
    ephemeral: Option<Rc<EphemeralAccess>>,
    /// Steps before this one are not used any more.
    first: usize,
    /// Nor are steps from this one on.
    end: usize,
    /// The only accounts to use, if not all may be.
    accounts: Option<Vec<Account>>,
    tried: Failures,
    waits: TargetWaits,
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
            ephemeral: None,
            first: 0,
            end,
            accounts: None,
            tried: Failures::default(),
            waits: TargetWaits::default(),
        }
    }

    /// The same for a request that may be sent only to `accounts`, the best first.
    pub(super) fn within(mut self, accounts: Option<&[Account]>) -> Self {
        self.accounts = accounts.map(<[Account]>::to_vec);
        self
    }

    /// Uses the account of `candidate` no more. False if it was the last one.
    pub(super) fn skip_account(&mut self, candidate: &Candidate) -> bool {
        let (Some(accounts), Some(own)) = (&mut self.accounts, candidate.account()) else { return false };
        accounts.retain(|account| account != own);
        !accounts.is_empty()
    }

    /// Uses no account but that of `candidate`.
    pub(super) fn stay_at_account(&mut self, candidate: &Candidate) {
        self.accounts = candidate.account().map(|account| vec![account.clone()]);
    }

    /// The same for a request with an ephemeral key: the upstream of `access` alone, with its secret. If the route does not lead there, there are no
    /// candidates.
    pub(super) fn using(mut self, access: Rc<EphemeralAccess>) -> Self {
        let step = self.route.steps.iter().position(|step| step.upstream.name == access.upstream);
        self.first = step.unwrap_or(self.end);
        self.end = step.map_or(self.end, |step| step + 1);
        self.ephemeral = Some(access);
        self
    }

    /// Whether there is more than one.
    pub(super) fn are_several(&self) -> bool {
        let steps = self.route.steps.iter().take(self.end).skip(self.first);
        let count = |step: &Step| {
            let keys = step.upstream.keys.len() - self.foreign_keys_of_step(step).len();
            step.upstream.count() * keys.max(1)
        };
        steps.map(count).sum::<usize>() > 1
    }

    /// Whether another target or model than that of `candidate` can still be tried, now or in another round. A target whose circuit breaker is
    /// open at `now` does not count.
    pub(super) fn any_beside(&self, candidate: &Candidate, now: Instant) -> bool {
        self.step_targets(&self.route).any(|place| {
            let is_same = Arc::ptr_eq(&place.target.state, &candidate.target().state)
                && place.step.model == candidate.model;
            let may_respond =
                place.step.breaker.is_none() || place.target.state.circuit(now) != Circuit::Open;
            may_respond && !is_same && !self.tried.is_excluded(&place)
        })
    }

    /// Notes that `candidate` failed, as far as `scope` says. An `excluded` one is not tried in another round either.
    pub(super) fn mark_failed(&mut self, candidate: &Candidate, scope: FailureScope, excluded: bool) {
        let model = candidate.model.as_deref().or(self.model.as_deref());
        self.tried.add(candidate, model, scope, excluded);
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
        self.tried.new_round();
    }

    /// The targets of all steps that may still be used.
    fn step_targets<'r: 'm, 'm>(&'m self, route: &'r Route) -> impl Iterator<Item = StepTarget<'r, 'm>> {
        let steps = route.steps.iter().enumerate().take(self.end).skip(self.first);
        let all = steps.flat_map(move |(number, step)| {
            (0..step.upstream.count()).map(move |index| self.step_target(number, step, index))
        });
        all.filter(|place| foreign_keys(place, self.allowed()).is_some())
    }

    fn step_target<'r: 'm, 'm>(&'m self, number: usize, step: &'r Step, index: usize) -> StepTarget<'r, 'm> {
        StepTarget { number, step, target: step.upstream.target(index), model: self.model(step) }
    }

    /// The only accounts to use, if not all may be.
    fn allowed(&self) -> Option<&[Account]> {
        self.accounts.as_deref()
    }

    /// The keys that are not used at any target of `step`.
    fn foreign_keys_of_step(&self, step: &Step) -> Vec<Key> {
        let Some(accounts) = self.allowed() else { return Vec::new() };
        let of_targets =
            step.upstream.targets().find_map(|target| step.upstream.foreign_keys(target, accounts));
        of_targets.unwrap_or_default()
    }

    /// Whether `place` may be used with `key`, and neither was tried in this round.
    fn may_use(&self, place: &StepTarget<'_, '_>, key: &Key) -> bool {
        let Some(mut others) = foreign_keys(place, self.allowed()) else { return false };
        others.extend(self.tried.used_keys(place));
        !self.tried.any_at(place) && !others.iter().any(|used| used.is(key))
    }

    /// Whether the route has one key only, for all that a cooldown for this reason of a key at the step with that `number` concerns.
    fn is_only_key(&self, number: usize, why: CooldownReason) -> bool {
        RouteKeys { route: &self.route, step: number, model: self.model.as_deref() }.is_only_key(why)
    }

    /// Which key would be sent to `place` that is not among `used`.
    fn peek(&self, place: &StepTarget<'_, '_>, used: &[Key], now: Instant) -> Pick {
        if self.ephemeral.is_some() {
            return Pick::Unneeded;
        }
        place.step.upstream.keys.peek(place.model, used, now)
    }

    /// The model that a request at `step` names.
    fn model<'r: 'm, 'm>(&'m self, step: &'r Step) -> Option<&'m str> {
        step.model.as_deref().or(self.model.as_deref())
    }
}

/// The keys that are not used at `place`, because they are of none of `accounts`; `None`: nothing there is.
fn foreign_keys(place: &StepTarget<'_, '_>, accounts: Option<&[Account]>) -> Option<Vec<Key>> {
    match accounts {
        None => Some(Vec::new()),
        Some(accounts) => place.step.upstream.foreign_keys(place.target, accounts),
    }
}
