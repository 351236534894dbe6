//! What requests whose calls are on their way ask of the shared counts.

use std::{sync::Arc, time::Duration};

use jiff::Timestamp;

use super::{
    lease::{Lease, Subjects},
    plan::demanded,
    replica::{Known, TIMED},
    waiting::WaitingRequest,
};
use crate::limit::{Allowance, Applied, Counter, Demand, Now, Refused, Unit, counter::Meter};

/// For how long old copies refuse requests while one of them is on its way, in nanoseconds.
const ASKED_AGAIN: i64 = 100_000_000;

/// What one request asks for, until its replies are there. Together with the copies of the shared counts it tells which requests need not be
/// sent: those that could be admitted only if others were not.
#[derive(Debug, Default)]
pub(super) struct Reserved {
    counters: Vec<OfCounter>,
    /// Where the limit is on requests at once.
    leases: Vec<Arc<Lease>>,
}

#[derive(Debug)]
struct OfCounter {
    counter: Arc<Counter>,
    asked: WaitingRequest,
}

/// When a request comes.
#[derive(Debug, Clone, Copy)]
pub(super) struct Arrival<'a> {
    pub(super) now: Now,
    /// By the server's clock.
    pub(super) wall: Timestamp,
    /// What this process knows of subjects.
    pub(super) subjects: &'a Subjects,
    /// Whether it has waited for its turn, and asks again.
    pub(super) has_waited: bool,
    /// Whether requests that are on their way count, though they may be refused.
    pub(super) counts_asked: bool,
}

impl Reserved {
    /// Reserves what a request asks for.
    ///
    /// # Errors
    /// The first limit that certainly refuses it.
    pub(super) fn take(limits: &[Applied], demand: Demand, arrival: Arrival<'_>) -> Result<Self, Refused> {
        let mut reserved = Self::default();
        for applied in limits {
            let Some(replica) = applied.counter.shared.get() else { continue };
            reserved.ask_at_once(applied, arrival)?;
            let mut known = replica.known();
            if let Some(refused) = refusal_by_time(applied, &known, demand, arrival) {
                return Err(refused);
            }
            known.is_asked_again(
                |known| {
                    let arrival = Arrival { counts_asked: false, ..arrival };
                    lacking(applied, known, demand, arrival).is_some()
                },
                arrival.now,
            );
            let own = TIMED.map(|unit| match demanded(applied, unit, demand) {
                (Some(allowance), units) => asked(allowance, units),
                (None, _) => 0,
            });
            let asked = known.waiting.ask(own);
            reserved.counters.push(OfCounter { counter: applied.counter.clone(), asked });
        }
        Ok(reserved)
    }

    fn ask_at_once(&mut self, applied: &Applied, arrival: Arrival<'_>) -> Result<(), Refused> {
        let (Some(most), Some(replica)) = (applied.limit.concurrent, applied.counter.shared.get()) else {
            return Ok(());
        };
        let lease = replica.lease(arrival.subjects);
        let is_full = applied.limit.enforce && !arrival.has_waited && lease.is_full(arrival.now);
        // This process' own requests are never more than those of all.
        if is_full || !lease.ask(applied.limit.enforce.then_some(most)) {
            return Err(refused(applied, Unit::Concurrent, None));
        }
        self.leases.push(lease.clone());
        Ok(())
    }

    /// Replies are there, of the places of which `is_answered` says so: they count what was reserved of rates and periods. What has no reply is
    /// given up. Requests at once stay reserved until this is dropped.
    pub(super) fn end(&mut self, is_answered: impl Fn(&str) -> bool) {
        for OfCounter { counter, asked } in self.counters.drain(..) {
            let Some(replica) = counter.shared.get() else { continue };
            let mut known = replica.known();
            if is_answered(&replica.subject.slot) {
                known.waiting.is_answered(&asked);
            } else {
                known.waiting.is_given_up(asked);
            }
        }
    }
}

/// Why the shared store would certainly refuse a request, as far as this process knows.
pub(super) fn refusal(applied: &Applied, demand: Demand, arrival: Arrival<'_>) -> Option<Refused> {
    let replica = applied.counter.shared.get()?;
    let most = applied.limit.concurrent.filter(|_| applied.limit.enforce);
    if most.is_some_and(|most| {
        let lease = replica.lease(arrival.subjects);
        lease.is_full(arrival.now) || lease.is_held(most)
    }) {
        return Some(refused(applied, Unit::Concurrent, None));
    }
    refusal_by_time(applied, &replica.known(), demand, arrival)
}

/// The same of units that are counted by time.
fn refusal_by_time(
    applied: &Applied,
    known: &Known,
    demand: Demand,
    arrival: Arrival<'_>,
) -> Option<Refused> {
    if known.fresh_until <= arrival.now.nanos() {
        return None;
    }
    lacking(applied, known, demand, arrival)
}

/// The same, however old the copies are.
fn lacking(applied: &Applied, known: &Known, demand: Demand, arrival: Arrival<'_>) -> Option<Refused> {
    if !applied.limit.enforce {
        return None;
    }
    TIMED.into_iter().enumerate().find_map(|(position, unit)| {
        let (Some(allowance), units) = demanded(applied, unit, demand) else { return None };
        let wait = lacks(applied, (position, unit), asked(allowance, units), known, arrival)?;
        Some(refused(applied, unit, Some(wait)))
    })
}

impl Known {
    /// Where old copies would refuse a request, it is sent, to see whether they still hold; others are refused by them until its reply is there. Else
    /// all requests of a flood would be sent that come before the reply.
    fn is_asked_again(&mut self, would_refuse: impl FnOnce(&Self) -> bool, now: Now) {
        let is_old = self.fresh_until > 0 && self.fresh_until <= now.nanos();
        if is_old && would_refuse(self) {
            self.fresh_until = now.nanos().saturating_add(ASKED_AGAIN);
        }
    }
}

impl Drop for Reserved {
    fn drop(&mut self) {
        self.end(|_| false);
        self.leases.iter().for_each(|lease| lease.answered());
    }
}

fn refused(applied: &Applied, unit: Unit, wait: Option<Duration>) -> Refused {
    let Applied { limit, counter } = applied.clone();
    Refused { limit, counter, unit, wait }
}

/// Nanoseconds of a clock, or units of a period.
fn asked(allowance: &Allowance, units: u64) -> i64 {
    match allowance {
        Allowance::Rate(rate) => rate.time_of(units.min(rate.burst())),
        Allowance::Period { .. } => i64::try_from(units).unwrap_or(i64::MAX),
    }
}

/// The time until so much may be there, if it is not there now.
fn lacks(
    applied: &Applied,
    (position, unit): (usize, Unit),
    amount: i64,
    known: &Known,
    arrival: Arrival<'_>,
) -> Option<Duration> {
    let waiting = if arrival.counts_asked { known.waiting.of(position) } else { 0 };
    let now = arrival.now.nanos();
    match (applied.counter.timed(unit)?, demanded(applied, unit, Demand::default()).0?) {
        (Meter::Clock(clock), Allowance::Rate(rate)) => {
            let next = clock.arrival().max(now).saturating_add(waiting).saturating_add(amount);
            let excess = next.saturating_sub(now).saturating_sub(rate.tolerance());
            (excess > 0).then(|| Duration::from_nanos(excess.unsigned_abs()))
        }
        (Meter::Period(count), Allowance::Period { calendar, quantity }) => {
            let (used, period) = count.used(calendar, arrival.wall);
            let used = used.saturating_add(waiting.unsigned_abs());
            (used >= *quantity).then(|| period.rest(arrival.wall))
        }
        _ => None,
    }
}
