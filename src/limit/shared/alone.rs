//! Counting alone, while the shared store is away.

use std::sync::Arc;

use super::{
    plan::timed,
    replica::{Alone, TIMED},
    sharing::{Sharing, allowance},
};
use crate::limit::{
    Admitted, Allowance, Applied, Counter, Demand, Limit, Moment, Refused, Unit,
    counter::{Meter, Taken},
};

impl Sharing {
    /// Admits a request by this process alone, up to its share of each limit. The counts go on where the shared ones were.
    pub(super) fn take_alone(
        self: &Arc<Self>,
        limits: &[Applied],
        demand: Demand,
        moment: Moment,
    ) -> Result<Admitted, Refused> {
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

    /// Notes what was taken alone, of counts that have to be complete: the store is told when it is back.
    pub(in crate::limit) fn took_alone(&self, applied: &Applied, taken: [Taken; 3]) {
        let nothing = [Taken::default(); 3].map(|_| Taken::default());
        let used = taken.map(|taken| taken.units());
        let entries = self.corrections(applied, nothing, used, super::now());
        self.note(entries.into_iter().filter(|entry| entry.end.is_some()).collect());
    }

    /// Corrects this process' own counts, and notes what the store has to be told of periods.
    pub(super) fn correct_alone(&self, applied: &Applied, taken: [Taken; 3], used: [u64; 3], now: Moment) {
        for ((unit, taken), used) in TIMED.into_iter().zip(taken).zip(used) {
            let allowance = allowance(applied, unit);
            if let Some(meter) = applied.counter.timed(unit).filter(|_| allowance.is_some()) {
                meter.correct(allowance, taken, used, now);
            }
        }
        let entries = self.corrections(applied, taken, used, now);
        self.note(entries.into_iter().filter(|entry| entry.end.is_some()).collect());
    }

    /// The part of a limit that this process admits alone.
    fn part(&self, applied: &Applied, share: f64, moment: Moment) -> Applied {
        let Applied { limit, counter } = applied;
        let alone = since(counter, limit, moment);
        self.look_after(counter);
        let part = |unit: Unit| part_of(allowance(applied, unit)?, unit, share, alone);
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

/// Where this process began to count alone; it begins now if it has not.
fn since(counter: &Counter, limit: &Limit, moment: Moment) -> Option<Alone> {
    let replica = counter.shared.get()?;
    let mut known = replica.known();
    let begin = || Alone {
        arrivals: TIMED.map(|unit| match counter.timed(unit) {
            Some(Meter::Clock(clock)) => clock.arrival(),
            _ => i64::MIN,
        }),
        sums: TIMED.map(|unit| {
            let allowance = match unit {
                Unit::Requests => limit.requests.as_ref(),
                Unit::Tokens => limit.tokens.as_ref(),
                _ => limit.cost.as_ref(),
            };
            match (counter.timed(unit), allowance) {
                (Some(Meter::Period(count)), Some(Allowance::Period { calendar, .. })) => {
                    count.used(calendar, moment.wall).0
                }
                _ => 0,
            }
        }),
    };
    Some(*known.alone_since.get_or_insert_with(begin))
}

fn part_of(allowance: &Allowance, unit: Unit, share: f64, alone: Option<Alone>) -> Option<Allowance> {
    Some(match allowance {
        Allowance::Rate(rate) => Allowance::Rate(rate.part(share)),
        Allowance::Period { calendar, quantity } => {
            let before = alone.zip(timed(unit)).and_then(|(alone, unit)| alone.sums.get(unit).copied());
            let before = before.unwrap_or(0);
            #[expect(clippy::cast_sign_loss, reason = "a part of a number")]
            let part = (quantity.saturating_sub(before) as f64 * share) as u64;
            Allowance::Period { calendar: calendar.clone(), quantity: before.saturating_add(part) }
        }
    })
}
