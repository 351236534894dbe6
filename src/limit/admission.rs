//! The admission of one request by all limits that apply to it, in one step, and what becomes of it.

use std::{sync::Arc, time::Duration};

use super::{
    Counter, Limit, Moment, Slot, TokenCount, Unit,
    counter::{Meter, Taken},
    shared::{CountedBy, Sharing, Used},
};
use crate::money::Money;

/// A limit that applies to a request, with the counter of the subject that it counts.
#[derive(Debug, Clone)]
pub struct Applied {
    /// The limit.
    pub limit: Arc<Limit>,
    /// The counts of the subject.
    pub counter: Arc<Counter>,
}

/// What a request is expected to use. An expectation is reserved at admission, and corrected when the use is known.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
pub struct Demand {
    /// Tokens.
    pub tokens: TokenCount,
    /// Money.
    pub cost: Money,
}

/// Why a request is not admitted.
#[derive(Debug, Clone)]
pub struct Refused {
    /// The limit that refused, the first in the order of the request's limits.
    pub limit: Arc<Limit>,
    /// The counts of the subject that has used it up.
    pub counter: Arc<Counter>,
    /// What there is too little of.
    pub unit: Unit,
    /// The time until it may be admitted, if nobody else uses any. `None` for requests at once, and where others wait already: nobody knows.
    pub wait: Option<Duration>,
}

/// An admitted request: what it has taken of each limit. When it is dropped without [`Admitted::settle`], all of it is given back.
#[derive(Debug)]
pub struct Admitted {
    /// In the order of the limits, the one that the request has waited for first.
    shares: Vec<Share>,
    /// Limits that do not enforce and would have refused, the first of them with its unit.
    would_refuse: Option<(Arc<Limit>, Unit)>,
    /// Where the counts are kept, if that is not in this process.
    sharing: Option<Arc<Sharing>>,
    /// Who has counted what was taken, if the counts are shared.
    by: CountedBy,
    /// Nothing is taken any more. Requests that wait for it are woken when this is dropped.
    is_ended: bool,
}

/// What the shared store has granted of one limit.
#[derive(Debug)]
pub(super) struct Granted {
    pub(super) applied: Applied,
    /// Requests, tokens and cost.
    pub(super) taken: [Taken; 3],
}

/// What a request has taken of one limit.
#[derive(Debug)]
struct Share {
    applied: Applied,
    requests: Taken,
    tokens: Taken,
    cost: Taken,
    /// Counted as in flight until it is dropped.
    slot: Option<Slot>,
}

impl Admitted {
    /// Admits a request under all of `limits`, or under none: what earlier ones granted is given back when a later one refuses. A limit that
    /// is listed twice counts once, if it counts the same subject.
    ///
    /// # Errors
    /// The first limit that refuses.
    pub fn take(limits: &[Applied], demand: Demand, now: Moment) -> Result<Self, Refused> {
        Self::take_turn(limits, demand, now, &[])
    }

    /// As [`take`](Self::take), for a request that has had its turn in the queues of the subjects with these counts. Where others wait in the queue of
    /// another subject, that limit refuses the request.
    ///
    /// The last of them is the one that it waits for now, and comes first. As long as that limit refuses, no other is touched: otherwise each try would take
    /// from the others for a moment, in which they would refuse somebody else.
    ///
    /// # Errors
    /// The first limit that refuses.
    pub fn take_turn(
        limits: &[Applied],
        demand: Demand,
        now: Moment,
        turns: &[Arc<Counter>],
    ) -> Result<Self, Refused> {
        let mut admitted = Self {
            shares: Vec::with_capacity(limits.len()),
            would_refuse: None,
            sharing: None,
            by: CountedBy::Store,
            is_ended: false,
        };
        let waited_for = turns.last();
        let is_waited_for =
            |applied: &Applied| waited_for.is_some_and(|counter| Arc::ptr_eq(counter, &applied.counter));
        if let Some(applied) = limits.iter().find(|applied| is_waited_for(applied)) {
            admitted.add(applied, demand, now, true)?;
        }
        for (index, applied) in limits.iter().enumerate() {
            let earlier = &limits[..index];
            let is_double = || earlier.iter().any(|other| Arc::ptr_eq(&other.counter, &applied.counter));
            if is_waited_for(applied) || is_double() {
                continue;
            }
            let has_turn = turns.iter().any(|counter| Arc::ptr_eq(counter, &applied.counter));
            admitted.add(applied, demand, now, has_turn)?;
        }
        Ok(admitted)
    }

    /// A request that the shared store has admitted.
    pub(super) fn by_store(
        sharing: &Arc<Sharing>,
        granted: Vec<Granted>,
        would_refuse: Option<(Arc<Limit>, Unit)>,
    ) -> Self {
        let shares = granted.into_iter().map(|Granted { applied, taken: [requests, tokens, cost] }| {
            let slot = applied.limit.concurrent.map(|_| applied.counter.in_flight.enter_unchecked());
            sharing.hold(&applied);
            Share { applied, requests, tokens, cost, slot }
        });
        Self {
            shares: shares.collect(),
            would_refuse,
            sharing: Some(sharing.clone()),
            by: CountedBy::Store,
            is_ended: false,
        }
    }

    /// A request that this process has admitted while the store was away, under parts of `limits`, whose counts the store will be told.
    pub(super) fn in_place_of_store(mut self, sharing: &Arc<Sharing>, limits: &[Applied]) -> Self {
        for share in &mut self.shares {
            let whole = limits.iter().find(|applied| Arc::ptr_eq(&applied.counter, &share.applied.counter));
            if let Some(whole) = whole {
                share.applied = whole.clone();
            }
            sharing.took_alone(&share.applied, share.taken());
        }
        self.sharing = Some(sharing.clone());
        self.by = CountedBy::Share;
        self
    }

    /// Splits what was taken in two parts, each to be settled or given back by itself: of the limits that are chosen, and of all others.
    pub fn split(mut self, is_chosen: impl Fn(&Applied) -> bool) -> (Self, Self) {
        let shares = std::mem::take(&mut self.shares);
        let (chosen, others) = shares.into_iter().partition(|share| is_chosen(&share.applied));
        let others = Self {
            shares: others,
            would_refuse: None,
            sharing: self.sharing.clone(),
            by: self.by,
            is_ended: false,
        };
        self.shares = chosen;
        (self, others)
    }

    /// The first limit that only counts and would have refused this request.
    pub fn would_refuse(&self) -> Option<&(Arc<Limit>, Unit)> {
        self.would_refuse.as_ref()
    }

    /// The limits that count this request.
    pub fn limits(&self) -> impl Iterator<Item = &Applied> {
        self.shares.iter().map(|share| &share.applied)
    }

    /// Charges what a response that is still coming has used so far, where that is more than what was taken. Never gives anything back: what
    /// was expected may still come.
    pub fn charge_so_far(&mut self, used: Demand, now: Moment) {
        let sharing = self.sharing.as_ref();
        for share in &mut self.shares {
            match sharing {
                None => share.charge_so_far(used, now),
                Some(sharing) => share.charge_store(sharing, used, self.by, now),
            }
        }
    }

    /// The first limit on tokens or cost of which nothing is left, so that a connection that goes on may ask for nothing more.
    pub fn exhausted(&self, now: Moment) -> Option<Refused> {
        self.shares.iter().find_map(|share| share.exhausted(now))
    }

    /// Makes what was taken into what was used, and ends the request for limits on requests at once.
    pub fn settle(mut self, used: Demand, now: Moment) {
        self.end(used, now);
    }

    /// As [`settle`](Self::settle); requests that wait for what is free now are woken when this is dropped. A request that was granted several times
    /// ends all of them before: a request that is woken earlier would still be refused by the others.
    pub fn end(&mut self, used: Demand, now: Moment) {
        if std::mem::replace(&mut self.is_ended, true) {
            return;
        }
        for share in &mut self.shares {
            match &self.sharing {
                None => share.settle(used, now),
                Some(sharing) => sharing.settle(&share.shared_use(share.used(used), self.by), now),
            }
            share.slot = None;
        }
    }

    /// Gives all of it back; requests that wait for it are woken when this is dropped.
    pub fn give_back(&mut self) {
        if std::mem::replace(&mut self.is_ended, true) {
            return;
        }
        for share in &mut self.shares {
            match &self.sharing {
                None => share.give_back(),
                Some(sharing) => sharing.settle(&share.shared_use([0; 3], self.by), super::shared::now()),
            }
            share.slot = None;
        }
    }

    /// Takes what the request wants of one more limit. On an error, dropping this gives back what others have granted.
    fn add(&mut self, applied: &Applied, demand: Demand, now: Moment, has_turn: bool) -> Result<(), Refused> {
        let taken = if applied.limit.queue.is_some() && applied.counter.queued() > 0 && !has_turn {
            Err((applied.limit.first_unit(), None))
        } else {
            Share::take(applied, demand, now)
        };
        match taken {
            Ok(share) => self.shares.push(share),
            Err((unit, _)) if !applied.limit.enforce => {
                self.would_refuse.get_or_insert_with(|| (applied.limit.clone(), unit));
            }
            Err((unit, wait)) => {
                let Applied { limit, counter } = applied.clone();
                return Err(Refused { limit, counter, unit, wait });
            }
        }
        Ok(())
    }
}

impl Drop for Admitted {
    fn drop(&mut self) {
        self.give_back();
        for Share { applied: Applied { counter, .. }, .. } in &self.shares {
            match &self.sharing {
                None => counter.wake(),
                Some(sharing) => sharing.wake(counter),
            }
        }
    }
}

impl Share {
    /// Requests, tokens and cost.
    fn taken(&self) -> [Taken; 3] {
        [self.requests, self.tokens, self.cost]
    }

    /// Requests, tokens and cost of a request that has used so much.
    fn used(&self, used: Demand) -> [u64; 3] {
        [self.requests.units(), self.applied.limit.weights.weigh(used.tokens), used.cost.nanos()]
    }

    fn shared_use(&self, used: [u64; 3], by: CountedBy) -> Used<'_> {
        Used { applied: &self.applied, taken: self.taken(), used, by }
    }

    /// Charges the shared counts where the request has used more than it took.
    fn charge_store(&mut self, sharing: &Sharing, used: Demand, by: CountedBy, now: Moment) {
        let [_, tokens, cost] = self.used(used);
        let more = [self.requests.units(), tokens.max(self.tokens.units()), cost.max(self.cost.units())];
        if more == self.taken().map(|taken| taken.units()) {
            return;
        }
        sharing.charge(&self.shared_use(more, by), now);
        self.tokens = Taken::of(more[1], self.tokens.period());
        self.cost = Taken::of(more[2], self.cost.period());
    }

    fn take(applied: &Applied, demand: Demand, now: Moment) -> Result<Self, (Unit, Option<Duration>)> {
        let Applied { limit, counter } = applied;
        // Requests at once come first: nothing has to be given back for them.
        let slot = match limit.concurrent {
            None => None,
            Some(most) => Some(counter.in_flight.enter(most).ok_or((Unit::Concurrent, None))?),
        };
        let wait = |unit| move |wait| (unit, Some(wait));
        let requests =
            counter.requests.take(limit.requests.as_ref(), 1, now).map_err(wait(Unit::Requests))?;
        let mut share = Self {
            applied: applied.clone(),
            requests,
            tokens: Taken::default(),
            cost: Taken::default(),
            slot,
        };
        if let Err(refused) = share.reserve(demand, now) {
            share.give_back();
            return Err(refused);
        }
        Ok(share)
    }

    fn reserve(&mut self, demand: Demand, now: Moment) -> Result<(), (Unit, Option<Duration>)> {
        let Applied { limit, counter } = &self.applied;
        let tokens = limit.weights.weigh(demand.tokens);
        self.tokens = counter
            .tokens
            .take(limit.tokens.as_ref(), tokens, now)
            .map_err(|wait| (Unit::Tokens, Some(wait)))?;
        self.cost = counter
            .cost
            .take(limit.cost.as_ref(), demand.cost.nanos(), now)
            .map_err(|wait| (Unit::Cost, Some(wait)))?;
        Ok(())
    }

    fn charge_so_far(&mut self, used: Demand, now: Moment) {
        let Applied { limit, counter } = &self.applied;
        let charge = |meter: &Meter, allowance, taken: Taken, used: u64| {
            if used > taken.units() { meter.correct(allowance, taken, used, now) } else { taken }
        };
        let tokens = limit.weights.weigh(used.tokens);
        self.tokens = charge(&counter.tokens, limit.tokens.as_ref(), self.tokens, tokens);
        self.cost = charge(&counter.cost, limit.cost.as_ref(), self.cost, used.cost.nanos());
    }

    fn exhausted(&self, now: Moment) -> Option<Refused> {
        let Applied { limit, counter } = &self.applied;
        if !limit.enforce {
            return None;
        }
        let tokens = counter.tokens.wait(limit.tokens.as_ref(), now).map(|wait| (Unit::Tokens, wait));
        let cost = || counter.cost.wait(limit.cost.as_ref(), now).map(|wait| (Unit::Cost, wait));
        let (unit, wait) = tokens.or_else(cost)?;
        Some(Refused { limit: limit.clone(), counter: counter.clone(), unit, wait: Some(wait) })
    }

    fn settle(&self, used: Demand, now: Moment) {
        let Applied { limit, counter } = &self.applied;
        let tokens = limit.weights.weigh(used.tokens);
        counter.tokens.correct(limit.tokens.as_ref(), self.tokens, tokens, now);
        counter.cost.correct(limit.cost.as_ref(), self.cost, used.cost.nanos(), now);
    }

    fn give_back(&self) {
        let Applied { limit, counter } = &self.applied;
        counter.requests.give_back(limit.requests.as_ref(), self.requests);
        counter.tokens.give_back(limit.tokens.as_ref(), self.tokens);
        counter.cost.give_back(limit.cost.as_ref(), self.cost);
    }
}

#[cfg(test)]
mod tests;
