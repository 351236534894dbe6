//! Picking a candidate: a target that admits the request, and a key.

use std::{sync::Arc, time::Instant};

use super::{Candidates, foreign_keys};
use crate::{
    proxy::{
        attempts::{
            balance,
            candidate::{AskedUsage, Candidate},
            tried::{StepTarget, Tried},
        },
        key_use::KeyUse,
    },
    snapshot::Step,
    upstream::{Account, Circuit, Key, KeyPermit, Pick, TargetPermit},
};

/// A target that has admitted the request.
struct Admitted {
    /// Index into the upstream's targets.
    target: usize,
    permit: TargetPermit,
}

impl Candidates {
    /// The next candidate, in the order of the accounts, if not all may be used, and then in that of the route; `None` when all that are available
    /// at `now` were tried in this round.
    pub(in crate::proxy::attempts) fn next(&mut self, now: Instant) -> Option<Box<Candidate>> {
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

    /// The candidate at the step with that `number` that uses the `key` for which the request has waited.
    ///
    /// # Errors
    /// No target can be used now. The key.
    pub(in crate::proxy::attempts) fn with_key(
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

    /// The candidate that failed last, once more; `None` if it cannot be used now.
    pub(in crate::proxy::attempts) fn again(&mut self, now: Instant) -> Option<Box<Candidate>> {
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

    fn first_within(&self, accounts: Option<&[Account]>, now: Instant) -> Option<Box<Candidate>> {
        let mut steps = self.route.steps.iter().enumerate().take(self.end).skip(self.first);
        steps.find_map(|(number, step)| {
            self.by_balance(number, step, now, |target| self.take(number, target, accounts, now))
        })
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
}
