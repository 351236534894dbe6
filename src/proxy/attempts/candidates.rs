//! The candidates of a request: which of a route's upstreams, which target, with which key.

use std::{
    future::poll_fn,
    rc::Rc,
    sync::Arc,
    task::Poll,
    time::{Duration, Instant},
};

use super::{
    available::{NextAvailable, Unavailable},
    balance,
    candidate::{AskedUsage, Candidate},
    key_waits::KeyWaits,
    target_waits::TargetWaits,
    tried::{FailureScope, Failures, StepTarget, Tried},
};
use crate::{
    exchange::{QueueResult, Queueing},
    proxy::{
        arrival::{CallerTimeouts, EphemeralAccess},
        key_use::{KeyUse, RouteKeys},
    },
    snapshot::{Route, Step},
    upstream::{
        Account, Affinity, CallerHash, Circuit, CooldownReason, Key, KeyPermit, Pick, TargetPermit, Turn,
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

    /// The next candidate, in the order of the accounts, if not all may be used, and then in that of the route; `None` when all that are available
    /// at `now` were tried in this round.
    pub(super) fn next(&mut self, now: Instant) -> Option<Box<Candidate>> {
        let candidate = match &self.accounts {
            None => self.first_within(None, now),
            Some(accounts) => accounts
                .iter()
                .find_map(|account| self.first_within(Some(std::slice::from_ref(account)), now)),
        };
        self.waits.give_back();
        if candidate.is_some() {
            self.waits.leave();
        }
        candidate
    }

    fn first_within(&self, accounts: Option<&[Account]>, now: Instant) -> Option<Box<Candidate>> {
        let mut steps = self.route.steps.iter().enumerate().take(self.end).skip(self.first);
        steps.find_map(|(number, step)| {
            self.by_balance(number, step, now, |target| self.take(number, target, accounts, now))
        })
    }

    /// From now on the request joins queues with its ticket.
    pub(super) fn queue_as(&mut self, queueing: Rc<Queueing>) {
        self.waits.queue_as(queueing);
    }

    /// Joins the queue of each target that lacks nothing at `now` but a request that ends (`max_pending`), and leaves the queues of all others.
    /// The request keeps its places until it has a candidate.
    pub(super) fn enqueue(&mut self, now: Instant) {
        let route = self.route.clone();
        let next: Vec<_> = self
            .step_targets(&route)
            .filter(|place| self.could_be_next(place, now))
            .map(|place| (place.step, place.target))
            .collect();
        self.waits.stay_at(&next);
        next.iter().for_each(|(step, target)| self.waits.join(step, target));
    }

    /// Joins the queues of the targets for which the request has the key `of` the step with that `number`.
    pub(super) fn enqueue_with_key(&mut self, number: usize, of: &KeyPermit, now: Instant) {
        let route = self.route.clone();
        let Some(step) = route.steps.get(number) else { return };
        for index in 0..step.upstream.count() {
            let place = self.step_target(number, step, index);
            if is_closed(&place, now) && self.may_use(&place, of.key()) {
                self.waits.join(step, place.target);
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
            let mut excluded = self.tried.excluded_keys_of_step(available.step);
            excluded.extend(self.foreign_keys_of_step(step));
            keys.add(available.step, step.upstream.clone(), model, excluded);
        }
        self.waits.end(QueueResult::Left);
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
            Waited::RoundOver => {
                self.waits.end(QueueResult::Timeout);
                self.new_round();
            }
            Waited::Key(..) | Waited::LookAgain => self.forget_failures_at(steps),
            Waited::TooLate => {}
        }
        waited
    }

    /// Allows these steps to be tried again, as [`new_round`](Self::new_round) does for all: their keys have been waited for since they failed.
    fn forget_failures_at(&mut self, steps: &[NextAvailable]) {
        let mut tried = std::mem::take(&mut self.tried);
        tried.forget_at(|number| steps.iter().any(|step| self.is_same_queue(step.step, number)));
        self.tried = tried;
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
        let open = self.step_targets(&self.route).filter(|place| !self.tried.is_excluded(place));
        open.filter_map(move |place| self.wait_for(&place, now))
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

    /// Whether the steps with these numbers use the keys of one upstream for the same model.
    fn is_same_queue(&self, one: usize, other: usize) -> bool {
        let (Some(one), Some(other)) = (self.route.steps.get(one), self.route.steps.get(other)) else {
            return false;
        };
        one.upstream.name == other.upstream.name && self.model(one) == self.model(other)
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
            let place = self.step_target(number, step, index);
            if !self.may_use(&place, key.key()) {
                return None;
            }
            Some(Admitted { target: index, permit: self.admit(&place, now)? })
        });
        match admitted {
            Some(admitted) => Ok(self.candidate(number, step, Some(key), admitted)),
            None => Err(key),
        }
    }

    /// Whether `place` may be used with `key`, and neither was tried in this round.
    fn may_use(&self, place: &StepTarget<'_, '_>, key: &Key) -> bool {
        let Some(mut others) = foreign_keys(place, self.allowed()) else { return false };
        others.extend(self.tried.used_keys(place));
        !self.tried.any_at(place) && !others.iter().any(|used| used.is(key))
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
        let permit = self.admit(&self.step_target(last.step, step, index), now)?;
        // All keys but the one that it had.
        let others = step.upstream.keys.others(last.key.as_ref());
        let key = self.key(last.step, &others, now)?;
        Some(self.candidate(last.step, step, key, Admitted { target: index, permit }))
    }

    /// Whether the route has one key only, for all that a cooldown for this reason of a key at the step with that `number` concerns.
    fn is_only_key(&self, number: usize, why: CooldownReason) -> bool {
        RouteKeys { route: &self.route, step: number, model: self.model.as_deref() }.is_only_key(why)
    }

    fn wait_for(&self, place: &StepTarget<'_, '_>, now: Instant) -> Option<NextAvailable> {
        let available = |span, why| Some(NextAvailable { span, why, step: place.number });
        if !is_closed(place, now) {
            let opens_in = place.target.state.opens_in(now);
            return available(opens_in.unwrap_or_default(), Unavailable::Circuit);
        }
        let mut excluded = foreign_keys(place, self.allowed())?;
        excluded.extend(self.tried.excluded_keys(place));
        let (until, why) = match self.peek(place, &excluded, now) {
            Pick::CoolingDown { until, why } if !self.is_only_key(place.number, why) => (until, why),
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

    /// The first result of `try_one` for the targets of a step, by their numbers, in the order of the upstream's balance.
    fn by_balance<T>(
        &self,
        number: usize,
        step: &Step,
        now: Instant,
        try_one: impl Fn(usize) -> Option<T>,
    ) -> Option<T> {
        let is_eligible = |target: &_| {
            let place = StepTarget { number, step, target, model: self.model(step) };
            let may_respond = step.breaker.is_none() || target.state.circuit(now) != Circuit::Open;
            may_respond && !self.tried.any_at(&place)
        };
        balance::first_of(&step.upstream, self.affinities.get(number).copied(), is_eligible, try_one)
    }

    /// The candidate at the target with that `index` of the step with that `number`, if one of `accounts` is known there.
    fn take(
        &self,
        number: usize,
        index: usize,
        accounts: Option<&[Account]>,
        now: Instant,
    ) -> Option<Box<Candidate>> {
        let step = self.route.steps.get(number)?;
        let place = self.step_target(number, step, index);
        if self.tried.any_at(&place) {
            return None;
        }
        let mut used = self.tried.used_keys(&place);
        used.extend(foreign_keys(&place, accounts)?);
        // Before a key is picked, because a key would lose its turn if the request is not admitted.
        let permit = self.admit(&place, now)?;
        let key = self.key(number, &used, now)?;
        Some(self.candidate(number, step, key, Admitted { target: index, permit }))
    }

    /// The next key of the step with that `number`. A key that is all that the route has is used in a cooldown too, which came from another
    /// route. `None`: all are in cooldown or among `used`.
    fn key(&self, number: usize, used: &[Key], now: Instant) -> Option<Option<KeyPermit>> {
        let step = self.route.steps.get(number)?;
        if self.ephemeral.is_some() {
            return Some(None);
        }
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
            ephemeral: self.ephemeral.clone(),
            permit,
            may_be_late: false,
            head_limit: None,
            pending_head: None,
            answered: None,
            budget: None,
            usage: AskedUsage::default(),
        })
    }

    /// Admits the request to the target of `place`, with the permit from its queue if it was granted one.
    fn admit(&self, place: &StepTarget<'_, '_>, now: Instant) -> Option<TargetPermit> {
        let StepTarget { step, target, .. } = place;
        match self.waits.take(target) {
            Some(granted) => target.state.admit_waiter(self.caller, step.breaker, granted, now),
            None => target.state.admit(self.caller, step.breaker, step.upstream.max_pending, now),
        }
    }

    /// Whether `place` was not tried in this round, and its circuit breaker and its keys would let a request through.
    fn could_be_next(&self, place: &StepTarget<'_, '_>, now: Instant) -> bool {
        if !is_closed(place, now) || self.tried.any_at(place) {
            return false;
        }
        let Some(mut used) = foreign_keys(place, self.allowed()) else { return false };
        used.extend(self.tried.used_keys(place));
        matches!(self.peek(place, &used, now), Pick::Key(_) | Pick::Unneeded)
    }
}

/// Whether the circuit breaker of `place` lets every request through.
fn is_closed(place: &StepTarget<'_, '_>, now: Instant) -> bool {
    place.step.breaker.is_none() || place.target.state.circuit(now) == Circuit::Closed
}

/// The keys that are not used at `place`, because they are of none of `accounts`; `None`: nothing there is.
fn foreign_keys(place: &StepTarget<'_, '_>, accounts: Option<&[Account]>) -> Option<Vec<Key>> {
    match accounts {
        None => Some(Vec::new()),
        Some(accounts) => place.step.upstream.foreign_keys(place.target, accounts),
    }
}
