//! What one subject (a client, a group, a route, a model, or the gateway) has used of one limit.

use std::{
    sync::{Arc, OnceLock},
    time::{Duration, Instant, SystemTime},
};

use jiff::Timestamp;

use super::{
    Allowance, Clock, InFlight, Limit, Now, Period, PeriodCount, Unit,
    shared::{Replica, Subject},
};
use crate::wait_queue::{QueueView, TurnQueue};

/// The time of an admission or of a correction, by the clocks that limits use.
#[derive(Debug, Clone, Copy)]
pub struct Moment {
    /// For spans of time.
    pub monotonic: Now,
    /// For periods of the calendar.
    pub wall: Timestamp,
}

impl Moment {
    /// This moment.
    pub fn now() -> Self {
        Self::at(Instant::now(), SystemTime::now())
    }

    /// The moment that both clocks have shown so. A wall clock that nobody can have set counts as the year 1970.
    pub fn at(instant: Instant, time: SystemTime) -> Self {
        Self { monotonic: Now::of(instant), wall: Timestamp::try_from(time).unwrap_or_default() }
    }
}

/// The counts of one subject under one limit. Belongs to the process: a reload that keeps the limit keeps its counts.
#[derive(Debug)]
pub struct Counter {
    pub(super) requests: Meter,
    pub(super) tokens: Meter,
    pub(super) cost: Meter,
    pub(super) in_flight: InFlight,
    /// Made when a request first has to wait, because most subjects never do.
    queue: OnceLock<Arc<TurnQueue>>,
    /// The same counts in the shared store, where there is one.
    pub(super) shared: OnceLock<Box<Replica>>,
}

impl Counter {
    /// Creates the counts of a subject that has used nothing of `limit`.
    pub fn new(limit: &Limit) -> Self {
        Self::of_allowances([&limit.requests, &limit.tokens, &limit.cost].map(Option::as_ref))
    }

    /// As [`new`](Self::new), and ready to count the units that `limit` does not restrict yet: a reload may add one, and the counts go on.
    pub fn for_all_units(limit: &Limit) -> Self {
        Self::of_allowances([limit.any_allowance(); 3])
    }

    /// The same counts, with requests in flight that others have counted.
    #[must_use]
    pub fn with_in_flight(self, in_flight: InFlight) -> Self {
        Self { in_flight, ..self }
    }

    fn of_allowances([requests, tokens, cost]: [Option<&Allowance>; 3]) -> Self {
        Self {
            requests: Meter::for_allowance(requests),
            tokens: Meter::for_allowance(tokens),
            cost: Meter::for_allowance(cost),
            in_flight: InFlight::default(),
            queue: OnceLock::new(),
            shared: OnceLock::new(),
        }
    }

    /// Makes these counts a copy of those that a shared store keeps of `subject`. Only the first call counts.
    pub fn share(&self, limit: &Limit, subject: impl FnOnce() -> Subject) {
        self.shared.get_or_init(|| Box::new(Replica::new(limit, subject())));
    }

    /// Whether these are copies of counts of another subject.
    pub fn is_of_another(&self, subject: &Subject) -> bool {
        self.shared.get().is_some_and(|replica| replica.subject() != subject)
    }

    /// The count of a unit of time.
    pub(super) fn timed(&self, unit: Unit) -> Option<&Meter> {
        match unit {
            Unit::Requests => Some(&self.requests),
            Unit::Tokens => Some(&self.tokens),
            Unit::Cost => Some(&self.cost),
            Unit::Concurrent => None,
        }
    }

    /// Requests in flight.
    pub fn in_flight(&self) -> u32 {
        self.in_flight.count()
    }

    /// The requests that wait for the subject.
    pub fn queue(&self) -> &Arc<TurnQueue> {
        self.queue.get_or_init(Arc::default)
    }

    /// The number of requests that wait for the subject.
    pub fn queued(&self) -> usize {
        self.queue.get().map_or(0, |queue| queue.depth())
    }

    /// What waits for the subject.
    pub fn queue_view(&self) -> QueueView {
        self.queue.get().map(|queue| queue.view()).unwrap_or_default()
    }

    /// Has the request whose turn it is try again, because something was given back.
    pub(super) fn wake(&self) {
        if let Some(queue) = self.queue.get() {
            queue.wake();
        }
    }

    /// Whether nothing counts as used, or a shared store has what does, so that a new counter would say the same.
    pub(super) fn is_unused(&self, now: Moment) -> bool {
        let is_unused = |meter: &Meter| match meter {
            Meter::Unused => true,
            Meter::Clock(clock) => clock.arrival() <= now.monotonic.nanos(),
            Meter::Period(count) => count.is_unused(now.wall),
        };
        if self.in_flight() > 0 || self.queued() > 0 {
            return false;
        }
        self.shared.get().is_some_and(|replica| replica.is_settled())
            || [&self.requests, &self.tokens, &self.cost].into_iter().all(is_unused)
    }

    /// What is left of a unit, if `limit` restricts how much of it is used over time.
    pub fn left(&self, limit: &Limit, unit: Unit, now: Moment) -> Option<Left> {
        match unit {
            Unit::Requests => self.requests.remaining(limit.requests.as_ref(), now),
            Unit::Tokens => self.tokens.remaining(limit.tokens.as_ref(), now),
            Unit::Cost => self.cost.remaining(limit.cost.as_ref(), now),
            Unit::Concurrent => None,
        }
    }

    /// What is left of each unit that `limit` restricts.
    pub fn remaining(&self, limit: &Limit, now: Moment) -> Remaining {
        Remaining {
            requests: self.requests.remaining(limit.requests.as_ref(), now),
            tokens: self.tokens.remaining(limit.tokens.as_ref(), now),
            cost: self.cost.remaining(limit.cost.as_ref(), now),
        }
    }
}

/// What is left of a limit for one subject; `None` where the limit does not restrict the unit.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Remaining {
    /// Of the requests.
    pub requests: Option<Left>,
    /// Of the weighted tokens.
    pub tokens: Option<Left>,
    /// Of the money, in nano-units.
    pub cost: Option<Left>,
}

/// What is left of one unit.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Left {
    /// Units per span or period.
    pub quantity: u64,
    /// The most units that can be used at once: the burst, or all of a period.
    pub at_once: u64,
    /// Units that count as used, those included that are owed.
    pub used: u64,
    /// Units that would be admitted now.
    pub remaining: u64,
    /// The time until nothing counts as used any more, if nothing else is used.
    pub full_in: Duration,
}

impl Left {
    /// How much of what can be used at once is used, from 0 to 1.
    pub fn saturation(&self) -> f64 {
        self.at_once.saturating_sub(self.remaining) as f64 / self.at_once.max(1) as f64
    }
}

/// The count of one unit.
#[derive(Debug)]
pub(super) enum Meter {
    /// The limit does not restrict the unit.
    Unused,
    Clock(Clock),
    Period(PeriodCount),
}

/// What a request has taken of one unit.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Taken {
    units: u64,
    /// Where the unit is counted by the calendar.
    period: Option<Period>,
}

impl Taken {
    /// What another place has taken.
    pub(super) fn of(units: u64, period: Option<Period>) -> Self {
        Self { units, period }
    }

    /// The period that the units belong to, where they are counted by the calendar.
    pub(super) fn period(&self) -> Option<Period> {
        self.period
    }

    /// The units that were taken.
    pub(super) fn units(&self) -> u64 {
        self.units
    }
}

impl Meter {
    fn for_allowance(allowance: Option<&Allowance>) -> Self {
        match allowance {
            None => Self::Unused,
            Some(Allowance::Rate(_)) => Self::Clock(Clock::new()),
            Some(Allowance::Period { .. }) => Self::Period(PeriodCount::default()),
        }
    }

    /// Takes `units`, or less if the allowance holds less.
    ///
    /// # Errors
    /// They are not there: the time until they may be.
    pub(super) fn take(
        &self,
        allowance: Option<&Allowance>,
        units: u64,
        now: Moment,
    ) -> Result<Taken, Duration> {
        match (self, allowance) {
            (Self::Clock(clock), Some(Allowance::Rate(rate))) => {
                let units = clock.take(rate, units, now.monotonic)?;
                Ok(Taken { units, period: None })
            }
            (Self::Period(count), Some(Allowance::Period { calendar, quantity })) => {
                let (units, period) = count.take(calendar, *quantity, units, now.wall)?;
                Ok(Taken { units, period: Some(period) })
            }
            _ => Ok(Taken::default()),
        }
    }

    /// The time until any unit is left; `None`: one is.
    pub(super) fn wait(&self, allowance: Option<&Allowance>, now: Moment) -> Option<Duration> {
        self.wait_for(allowance, 1, now)
    }

    /// The time until [`Meter::take`] may take `units`; `None`: it would now.
    pub(super) fn wait_for(
        &self,
        allowance: Option<&Allowance>,
        units: u64,
        now: Moment,
    ) -> Option<Duration> {
        match (self, allowance) {
            (Self::Clock(clock), Some(Allowance::Rate(rate))) => clock.wait_for(rate, units, now.monotonic),
            (Self::Period(count), Some(Allowance::Period { calendar, quantity })) => {
                let (used, period) = count.used(calendar, now.wall);
                (used >= *quantity).then(|| period.rest(now.wall))
            }
            _ => None,
        }
    }

    /// Gives back what was taken.
    pub(super) fn give_back(&self, allowance: Option<&Allowance>, taken: Taken) {
        match (self, allowance, taken.period) {
            (Self::Clock(clock), Some(Allowance::Rate(rate)), _) => clock.refund(rate, taken.units),
            (Self::Period(count), _, Some(period)) => count.refund(taken.units, period),
            _ => {}
        }
    }

    /// Makes what was taken into what was used, and returns that as what is taken now.
    pub(super) fn correct(
        &self,
        allowance: Option<&Allowance>,
        taken: Taken,
        used: u64,
        now: Moment,
    ) -> Taken {
        let less = taken.units.saturating_sub(used);
        if less > 0 {
            self.give_back(allowance, Taken { units: less, ..taken });
            return Taken { units: used, ..taken };
        }
        let more = used - taken.units;
        match (self, allowance) {
            (Self::Clock(clock), Some(Allowance::Rate(rate))) => clock.charge(rate, more, now.monotonic),
            (Self::Period(count), Some(Allowance::Period { calendar, .. })) => {
                count.charge(calendar, more, now.wall);
            }
            _ => return Taken::default(),
        }
        Taken { units: used, ..taken }
    }

    fn remaining(&self, allowance: Option<&Allowance>, now: Moment) -> Option<Left> {
        match (self, allowance) {
            (Self::Clock(clock), Some(Allowance::Rate(rate))) => {
                let level = clock.level(rate, now.monotonic);
                Some(Left {
                    quantity: rate.quantity(),
                    at_once: rate.burst(),
                    used: level.used,
                    remaining: level.remaining,
                    full_in: level.full_in,
                })
            }
            (Self::Period(count), Some(Allowance::Period { calendar, quantity })) => {
                let (used, period) = count.used(calendar, now.wall);
                let remaining = quantity.saturating_sub(used);
                let full_in = period.rest(now.wall);
                Some(Left { quantity: *quantity, at_once: *quantity, used, remaining, full_in })
            }
            _ => None,
        }
    }
}
