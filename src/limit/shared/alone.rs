//! Counting alone, while the shared store is away.

use std::sync::Arc;

use super::{
    ledger::Entry,
    plan::timed,
    replica::TIMED,
    sharing::{Sharing, Used, allowance},
    wire::{micros, seconds},
};
use crate::limit::{
    Admitted, Allowance, Applied, Counter, Demand, Limit, Moment, Now, Period, Refused, Unit,
    counter::{Meter, Taken},
};

/// What this process has counted by itself of one counter since the store went away.
#[derive(Debug, Clone, Copy)]
pub(super) struct Alone {
    /// The part of each limit that this process admits meanwhile.
    share: f64,
    /// Clocks of that part of each rate, which count nothing else: theoretical arrival times, in nanoseconds as those of [`Now`].
    arrivals: [i64; 3],
    /// What each period had counted when this process began to count alone in it. The period is part of it: what was left of one day says
    /// nothing of the next.
    sums: [Option<SumBefore>; 3],
}

#[derive(Debug, Clone, Copy)]
struct SumBefore {
    period: Period,
    sum: u64,
}

impl Alone {
    fn new(share: f64) -> Self {
        Self { share, arrivals: [i64::MIN; 3], sums: [None; 3] }
    }

    /// Uses time of one clock, or gives it back.
    fn count(&mut self, position: usize, time: i64, now: Now) {
        let Some(arrival) = self.arrivals.get_mut(position) else { return };
        if time > 0 {
            *arrival = (*arrival).max(now.nanos());
        }
        *arrival = arrival.saturating_add(time);
    }

    /// What the shared clock of a unit has to be charged for what was used alone, in microseconds: what the share of the rate has not paid for yet.
    pub(super) fn debt(&self, position: usize, now: Now) -> f64 {
        let arrival = self.arrivals.get(position).copied().unwrap_or(i64::MIN);
        micros(arrival.saturating_sub(now.nanos()).max(0)) * self.share
    }

    /// The sum of `period` when this process began to count alone in it, which is now if it has not; `used` is the sum now.
    fn before(&mut self, position: usize, period: Period, used: u64) -> u64 {
        let Some(known) = self.sums.get_mut(position) else { return used };
        match known {
            Some(before) if before.period == period => before.sum,
            _ => known.insert(SumBefore { period, sum: used }).sum,
        }
    }
}

/// Where what a request took was counted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::limit) enum CountedBy {
    /// The shared store.
    Store,
    /// This process, by its share of each limit.
    Share,
}

impl Sharing {
    /// Admits a request by this process alone, up to its share of each limit. The counts go on where the shared ones were.
    pub(super) fn take_alone(
        self: &Arc<Self>,
        limits: &[Applied],
        demand: Demand,
        moment: Moment,
    ) -> Result<Admitted, Refused> {
        // Periods begin and end by the server's clock, also where this gateway counts alone.
        let moment = Moment { wall: self.wall(moment), ..moment };
        let parts = self.parts(limits, moment);
        self.count_fallback();
        let admitted = Admitted::take(&parts, demand, moment).map_err(|refused| whole(refused, limits))?;
        Ok(admitted.in_place_of_store(self, limits))
    }

    /// The parts of limits that this process admits alone.
    pub(super) fn parts(&self, limits: &[Applied], moment: Moment) -> Vec<Applied> {
        let share = self.fallback_share();
        limits.iter().map(|applied| self.part(applied, share, moment)).collect()
    }

    /// Notes what was taken alone. The store gets it, at once if it is available.
    pub(in crate::limit) fn took_alone(&self, applied: &Applied, taken: [Taken; 3]) {
        let now = super::now().monotonic;
        let mut entries: Vec<Entry> = self.hold_alone(applied).into_iter().collect();
        for ((position, unit), taken) in TIMED.into_iter().enumerate().zip(taken) {
            let entry = match (allowance(applied, unit), taken.period()) {
                (Some(Allowance::Rate(rate)), _) if self.is_online() => {
                    clock_entry(applied, unit, rate.time_of(taken.units()))
                }
                (Some(Allowance::Rate(rate)), _) => {
                    let share = self.fallback_share();
                    count_alone(&applied.counter, share, |alone| {
                        alone.count(position, rate.part(share).time_of(taken.units()), now);
                    });
                    continue;
                }
                (Some(Allowance::Period { .. }), Some(period)) => {
                    period_entry(applied, unit, taken.units() as f64, period)
                }
                _ => continue,
            };
            entries.push(entry);
        }
        self.note(entries);
    }

    /// Corrects this process' own counts while the store is away, and notes what it has to be told.
    pub(super) fn correct_alone(&self, used: &Used<'_>, now: Moment) {
        // Periods begin and end by the server's clock, also where this gateway counts alone.
        let now = Moment { wall: self.wall(now), ..now };
        let mut entries = self.corrections(used, now);
        entries.retain(|entry| {
            let is_refund = entry.amount < 0.0 && used.by == CountedBy::Store;
            let is_told = entry.end.is_some() || is_refund;
            self.correct_unit(used, entry.unit, is_told, now);
            is_told
        });
        self.note(entries);
    }

    /// Corrects the count of one unit. What the store `is_told` changes this process' count by as much; everything else is counted by the share
    /// of the rate, by which requests are admitted meanwhile.
    fn correct_unit(&self, used: &Used<'_>, unit: Unit, is_told: bool, now: Moment) {
        let (Some(allowance), Some(meter)) =
            (allowance(used.applied, unit), used.applied.counter.timed(unit))
        else {
            return;
        };
        let Some(position) = timed(unit) else { return };
        let (Some(taken), Some(units)) =
            (used.taken.get(position).copied(), used.used.get(position).copied())
        else {
            return;
        };
        if units == taken.units() {
            return;
        }
        let (Allowance::Rate(rate), false) = (allowance, is_told) else {
            meter.correct(Some(allowance), taken, units, now);
            return;
        };
        let share = self.fallback_share();
        let part = rate.part(share);
        meter.correct(Some(&Allowance::Rate(part)), taken, units, now);
        let more = part.time_of(units.saturating_sub(taken.units()));
        let less = part.time_of(taken.units().saturating_sub(units));
        count_alone(&used.applied.counter, share, |alone| alone.count(position, more - less, now.monotonic));
    }

    /// The part of a limit that this process admits alone.
    fn part(&self, applied: &Applied, share: f64, moment: Moment) -> Applied {
        let Applied { limit, counter } = applied;
        self.look_after(counter);
        let part = |unit: Unit| part_of(applied, unit, share, moment);
        #[expect(clippy::cast_sign_loss, clippy::cast_possible_truncation, reason = "a part of a u32")]
        let concurrent = limit.concurrent.map(|most| ((f64::from(most) * share) as u32).max(1));
        let limit = Limit {
            requests: part(Unit::Requests),
            tokens: part(Unit::Tokens),
            cost: part(Unit::Cost),
            concurrent,
            // The request has had its turn.
            queue: None,
            ..Limit::clone(limit)
        };
        Applied { limit: Arc::new(limit), counter: counter.clone() }
    }
}

/// The refusal of the limit that it was a part of.
pub(super) fn whole(refused: Refused, limits: &[Applied]) -> Refused {
    let same = |applied: &&Applied| Arc::ptr_eq(&applied.counter, &refused.counter);
    let limit = limits.iter().find(same).map_or(refused.limit.clone(), |applied| applied.limit.clone());
    Refused { limit, ..refused }
}

/// Changes what is known of a counter's use by this process alone.
fn count_alone<T>(counter: &Counter, share: f64, change: impl FnOnce(&mut Alone) -> T) -> Option<T> {
    let mut known = counter.shared.get()?.known();
    Some(change(known.alone.get_or_insert_with(|| Box::new(Alone::new(share)))))
}

fn part_of(applied: &Applied, unit: Unit, share: f64, moment: Moment) -> Option<Allowance> {
    let counter = &applied.counter;
    match allowance(applied, unit)? {
        Allowance::Rate(rate) => Some(Allowance::Rate(rate.part(share))),
        Allowance::Period { calendar, quantity } => {
            let Some(Meter::Period(count)) = counter.timed(unit) else { return None };
            let (used, period) = count.used(calendar, moment.wall);
            let position = timed(unit)?;
            let before = count_alone(counter, share, |alone| alone.before(position, period, used));
            let before = before.unwrap_or(used);
            #[expect(clippy::cast_sign_loss, reason = "a part of a number")]
            let part = (quantity.saturating_sub(before) as f64 * share) as u64;
            Some(Allowance::Period { calendar: calendar.clone(), quantity: before.saturating_add(part) })
        }
    }
}

fn clock_entry(applied: &Applied, unit: Unit, time: i64) -> Entry {
    Entry { counter: applied.counter.clone(), unit, amount: micros(time), end: None }
}

fn period_entry(applied: &Applied, unit: Unit, units: f64, period: Period) -> Entry {
    let end = seconds(period.end().as_second());
    Entry { counter: applied.counter.clone(), unit, amount: units, end: Some((end, period)) }
}
