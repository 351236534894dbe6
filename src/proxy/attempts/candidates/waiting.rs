//! Waiting for a candidate: in the queues of targets, for keys, and until a cooldown or an open circuit is over.

use std::{
    future::poll_fn,
    rc::Rc,
    task::Poll,
    time::{Duration, Instant},
};

use super::{Candidates, foreign_keys};
use crate::{
    exchange::{QueueResult, Queueing},
    proxy::attempts::{
        available::{NextAvailable, Unavailable},
        key_waits::KeyWaits,
        tried::StepTarget,
    },
    upstream::{Circuit, CooldownReason, KeyPermit, Pick, Turn},
};

/// What has ended a wait for a candidate.
#[derive(Debug)]
pub(in crate::proxy::attempts) enum Waited {
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
    /// From now on the request joins queues with its ticket.
    pub(in crate::proxy::attempts) fn queue_as(&mut self, queueing: Rc<Queueing>) {
        self.waits.queue_as(queueing);
    }

    /// Joins the queue of each target that lacks nothing at `now` but a request that ends (`max_pending`), and leaves the queues of all others.
    /// The request keeps its places until it has a candidate.
    pub(in crate::proxy::attempts) fn enqueue(&mut self, now: Instant) {
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
    pub(in crate::proxy::attempts) fn enqueue_with_key(
        &mut self,
        number: usize,
        of: &KeyPermit,
        now: Instant,
    ) {
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
    pub(in crate::proxy::attempts) fn is_queued(&self) -> bool {
        self.waits.is_any()
    }

    /// Waits in the queues of targets, and in the queues for the keys of `steps` until `latest`; `until` ends the round. The first that grants
    /// something ends the wait.
    pub(in crate::proxy::attempts) async fn wait(
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

    /// Earliest time at which an unavailable candidate becomes available; `None` when no candidate is worth waiting for.
    pub(in crate::proxy::attempts) fn next_available(&self, now: Instant) -> Option<NextAvailable> {
        self.unavailable(now).min()
    }

    /// As [`next_available`](Self::next_available), without the candidates that lack a key.
    pub(in crate::proxy::attempts) fn next_with_key(&self, now: Instant) -> Option<NextAvailable> {
        self.unavailable(now).filter(|available| !available.is_a_key()).min()
    }

    /// The steps that lack only a key at `now`, if it becomes free until `latest`: each queue for keys once.
    pub(in crate::proxy::attempts) fn steps_without_key(
        &self,
        now: Instant,
        latest: Instant,
    ) -> Vec<NextAvailable> {
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

    /// Whether the steps with these numbers use the keys of one upstream for the same model.
    fn is_same_queue(&self, one: usize, other: usize) -> bool {
        let (Some(one), Some(other)) = (self.route.steps.get(one), self.route.steps.get(other)) else {
            return false;
        };
        one.upstream.name == other.upstream.name && self.model(one) == self.model(other)
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
