//! What one admission asks of the shared store, and what follows from the replies.

use std::{sync::Arc, time::Duration};

use jiff::Timestamp;

use super::{
    copy::{Copying, copy},
    lease::{SubjectState, Subjects},
    ledger::{Cancelled, CancelledOf, Entry},
    replica::{Replica, TIMED},
    script::{ADMIT, ADMIT_BY_RATES},
    wire::{AdmissionReply, Ask, Asker, ScriptVerdict, What, admission, micros, seconds},
};
use crate::{
    limit::{Allowance, Applied, Demand, Limit, Period, Refused, Unit, admission::Granted, counter::Taken},
    store::ScriptCall,
};

/// An admission: at most one call for the client and its group, and one for everything else.
#[derive(Debug)]
pub(super) struct Plan {
    /// The limits, each subject of each limit once.
    limits: Vec<Applied>,
    parts: Vec<PlannedCall>,
}

/// What is asked in one call.
#[derive(Debug)]
struct PlannedCall {
    slot: Arc<str>,
    keys: Vec<Arc<str>>,
    /// One for each key.
    subjects: Vec<Arc<SubjectState>>,
    /// The numbers of the admission, once the calls have been made.
    numbers: Vec<u32>,
    asks: Vec<Ask>,
    /// One for each ask.
    asked: Vec<PlannedCount>,
}

#[derive(Debug, Clone, Copy)]
struct PlannedCount {
    /// The position of the limit.
    limit: usize,
    unit: Unit,
    units: u64,
    period: Option<Period>,
}

/// What the store decided.
#[derive(Debug)]
pub(super) enum Decision {
    Admitted {
        granted: Vec<Granted>,
        /// A limit that only counts and would have refused.
        would_refuse: Option<(Arc<Limit>, Unit)>,
    },
    Refused(Refused),
    /// The replies cannot be used.
    Unusable,
}

/// When an admission happens.
#[derive(Debug, Clone, Copy)]
pub(super) struct PlanContext<'a> {
    /// The server's time, as far as it is known.
    pub(super) wall: Timestamp,
    /// Counts changes of the server.
    pub(super) servers: u32,
    /// What this process knows of subjects.
    pub(super) subjects: &'a Subjects,
}

impl Plan {
    /// Plans the admission of a request. `None`: a count is not shared.
    pub(super) fn new(limits: &[Applied], demand: Demand, context: PlanContext<'_>) -> Option<Self> {
        let mut plan = Self { limits: Vec::with_capacity(limits.len()), parts: Vec::new() };
        for applied in limits {
            if plan.limits.iter().any(|other| Arc::ptr_eq(&other.counter, &applied.counter)) {
                continue;
            }
            plan.add(applied, demand, context)?;
        }
        Some(plan)
    }

    pub(super) fn limits(&self) -> &[Applied] {
        &self.limits
    }

    pub(super) fn parts(&self) -> usize {
        self.parts.len()
    }

    /// The call for the place `slot`.
    pub(super) fn part(&self, slot: &str) -> Option<usize> {
        self.parts.iter().position(|part| *part.slot == *slot)
    }

    /// Gives the admission its numbers. What it asks for has to be reserved before.
    pub(super) fn number(&mut self) {
        for part in &mut self.parts {
            part.numbers = part.subjects.iter().map(|subject| subject.number()).collect();
        }
    }

    /// The calls, one for each part.
    pub(super) fn calls(&self, asker: Asker) -> Vec<ScriptCall> {
        self.parts.iter().map(|part| part.call(asker)).collect()
    }

    /// Reads the reply to a part. `None`: it is not one.
    pub(super) fn read(&self, part: usize, bytes: &[u8]) -> Option<AdmissionReply> {
        AdmissionReply::read(bytes, &self.parts.get(part)?.asks)
    }

    /// What follows from the replies, one for each part.
    pub(super) fn decide(&self, replies: &[AdmissionReply]) -> Decision {
        let fits = |(part, reply): (&PlannedCall, &AdmissionReply)| {
            reply.verdict != ScriptVerdict::Outdated && reply.states.len() == part.asks.len()
        };
        if replies.len() != self.parts.len() || !self.parts.iter().zip(replies).all(fits) {
            return Decision::Unusable;
        }
        let refused = self.parts.iter().zip(replies).filter_map(|(part, reply)| part.refused(reply));
        if let Some((asked, wait)) = refused.min_by_key(|(asked, _)| asked.limit) {
            let Some(applied) = self.limits.get(asked.limit) else { return Decision::Unusable };
            let Applied { limit, counter } = applied.clone();
            return Decision::Refused(Refused { limit, counter, unit: asked.unit, wait });
        }
        self.admitted(replies)
    }

    fn admitted(&self, replies: &[AdmissionReply]) -> Decision {
        let mut taken = vec![[Taken::default(); 3]; self.limits.len()];
        let mut skipped: Vec<Option<Unit>> = vec![None; self.limits.len()];
        for (part, reply) in self.parts.iter().zip(replies) {
            for (asked, state) in part.asked.iter().zip(&reply.states) {
                if state.is_why
                    && let Some(skipped) = skipped.get_mut(asked.limit)
                {
                    skipped.get_or_insert(asked.unit);
                }
                #[expect(clippy::cast_sign_loss, reason = "the script takes no less than nothing")]
                let units = if asked.period.is_some() { state.taken as u64 } else { asked.units };
                if let (Some(index), Some(all)) = (timed(asked.unit), taken.get_mut(asked.limit))
                    && let Some(place) = all.get_mut(index)
                {
                    *place = Taken::of(units, asked.period);
                }
            }
        }
        let skipping = self.limits.iter().zip(&skipped);
        let would_refuse =
            skipping.filter_map(|(applied, unit)| Some((applied.limit.clone(), (*unit)?))).next();
        let limits = self.limits.iter().zip(taken).zip(skipped);
        let granted = limits
            .filter(|(_, skipped)| skipped.is_none())
            .map(|((applied, taken), _)| Granted { applied: applied.clone(), taken })
            .collect();
        Decision::Admitted { granted, would_refuse }
    }

    /// Makes the process' own counts copies of what a reply says.
    pub(super) fn copy(&self, part: usize, reply: &AdmissionReply, copying: Copying) {
        let Some(part) = self.parts.get(part) else { return };
        for (asked, state) in part.asked.iter().zip(&reply.states) {
            let Some(applied) = self.limits.get(asked.limit) else { continue };
            let end = asked.period.map(|period| seconds(period.end().as_second()));
            copy(&applied.counter, asked.unit, (state.value, state.born), (asked.period, end), copying);
        }
    }

    /// What gives back what a part of the admission has taken.
    pub(super) fn undo(&self, part: usize, reply: &AdmissionReply) -> Vec<Entry> {
        let (Some(part), ScriptVerdict::Admitted) = (self.parts.get(part), reply.verdict) else {
            return Vec::new();
        };
        let skipped: Vec<usize> = (part.asked.iter().zip(&reply.states))
            .filter(|(_, state)| state.would_refuse)
            .map(|(asked, _)| asked.limit)
            .collect();
        let counted = part.asked.iter().zip(&part.asks).zip(&reply.states);
        let counted = counted.filter(|((asked, _), _)| !skipped.contains(&asked.limit));
        counted.filter_map(|((asked, ask), state)| self.undone(asked, ask, state.taken)).collect()
    }

    /// What makes a part of the admission have no effect, of which nobody knows whether it was executed.
    pub(super) fn cancel(&self, part: usize) -> Option<Cancelled> {
        let planned = self.parts.get(part)?;
        let asked = || planned.asked.iter().zip(&planned.asks);
        let of_key = |(position, number): (usize, &u32)| {
            let of = || asked().filter(move |(_, ask)| usize::from(ask.key) == position + 1);
            let counter = self.limits.get(of().next()?.0.limit)?.counter.clone();
            // Limits that only count may have taken nothing: what they have taken is left to them.
            let enforced = of().filter(|(_, ask)| !ask.counts_only);
            let entries = enforced.filter_map(|(asked, ask)| self.undone(asked, ask, asked.units as f64));
            Some(CancelledOf { counter, number: *number, entries: entries.collect() })
        };
        Some(Cancelled(planned.numbers.iter().enumerate().filter_map(of_key).collect()))
    }

    fn undone(&self, asked: &PlannedCount, ask: &Ask, taken: f64) -> Option<Entry> {
        let counter = self.limits.get(asked.limit)?.counter.clone();
        let unit = asked.unit;
        Some(match ask.what {
            What::Clock { time, .. } => Entry { counter, unit, amount: -time, end: None },
            What::Period { end, .. } => {
                Entry { counter, unit, amount: -taken, end: Some((end, asked.period?)) }
            }
            What::InFlight { .. } => Entry { counter, unit, amount: 1.0, end: None },
        })
    }

    fn add(&mut self, applied: &Applied, demand: Demand, context: PlanContext<'_>) -> Option<()> {
        let Applied { limit, counter } = applied;
        let replica: &Replica = counter.shared.get()?;
        let index = self.limits.len();
        self.limits.push(applied.clone());
        if let Some(most) = limit.concurrent {
            let held = replica.lease(context.subjects).range().fewest;
            let what = What::InFlight { most: f64::from(most), held };
            let asked = PlannedCount { limit: index, unit: Unit::Concurrent, units: 1, period: None };
            self.ask(applied, context.subjects, asked, what)?;
        }
        let known = replica.known();
        for (position, unit) in TIMED.into_iter().enumerate() {
            let (allowance, units) = demanded(applied, unit, demand);
            let Some(allowance) = allowance else { continue };
            let (asked, what) = match allowance {
                Allowance::Rate(rate) => {
                    let units = units.min(rate.burst());
                    let what = What::Clock {
                        time: micros(rate.time_of(units)),
                        tolerance: micros(rate.tolerance()),
                    };
                    (PlannedCount { limit: index, unit, units, period: None }, what)
                }
                Allowance::Period { calendar, quantity } => {
                    let period = calendar.period(context.wall);
                    let end = seconds(period.end().as_second());
                    let (seen, born) = known.seen(position, end, context.servers);
                    let what =
                        What::Period { units: units as f64, quantity: *quantity as f64, end, seen, born };
                    (PlannedCount { limit: index, unit, units, period: Some(period) }, what)
                }
            };
            self.ask(applied, context.subjects, asked, what)?;
        }
        Some(())
    }

    fn ask(&mut self, applied: &Applied, subjects: &Subjects, asked: PlannedCount, what: What) -> Option<()> {
        let replica: &Replica = applied.counter.shared.get()?;
        let slot = &replica.subject.slot;
        let position = self.parts.iter().position(|part| part.slot == *slot).unwrap_or_else(|| {
            self.parts.push(PlannedCall {
                slot: slot.clone(),
                keys: Vec::new(),
                subjects: Vec::new(),
                numbers: Vec::new(),
                asks: Vec::new(),
                asked: Vec::new(),
            });
            self.parts.len() - 1
        });
        let part = self.parts.get_mut(position)?;
        let key = part.keys.iter().position(|key| *key == replica.subject.key).unwrap_or_else(|| {
            part.keys.push(replica.subject.key.clone());
            part.subjects.push(replica.state(subjects).clone());
            part.keys.len() - 1
        });
        part.asks.push(Ask {
            key: u8::try_from(key + 1).ok()?,
            limit: u16::try_from(asked.limit).ok()?,
            counts_only: !applied.limit.enforce,
            tag: replica.tag(asked.unit),
            what,
        });
        part.asked.push(asked);
        Some(())
    }
}

impl PlannedCall {
    fn call(&self, asker: Asker) -> ScriptCall {
        let is_by_rates = self.asks.iter().all(|ask| matches!(ask.what, What::Clock { .. }));
        ScriptCall {
            script: if is_by_rates { &ADMIT_BY_RATES } else { &ADMIT },
            keys: self.keys.clone(),
            arguments: admission(asker, &self.numbers, &self.asks),
        }
    }

    fn refused(&self, reply: &AdmissionReply) -> Option<(PlannedCount, Option<Duration>)> {
        let ScriptVerdict::Refused(position, wait) = reply.verdict else { return None };
        Some((*self.asked.get(position)?, wait))
    }
}

/// The position of a unit in [`TIMED`].
pub(super) fn timed(unit: Unit) -> Option<usize> {
    TIMED.iter().position(|timed| *timed == unit)
}

/// How much of a unit a limit allows, and how much of it a request needs.
pub(super) fn demanded(applied: &Applied, unit: Unit, demand: Demand) -> (Option<&Allowance>, u64) {
    let limit = &applied.limit;
    match unit {
        Unit::Requests => (limit.requests.as_ref(), 1),
        Unit::Tokens => (limit.tokens.as_ref(), limit.weights.weigh(demand.tokens)),
        Unit::Cost => (limit.cost.as_ref(), demand.cost.nanos()),
        Unit::Concurrent => (None, 0),
    }
}
