//! Corrections that the shared store does not have yet.

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex, PoisonError},
};

use jiff::Timestamp;

use super::{
    replica::{Replica, TIMED},
    script::APPLY,
    sharing::{Used, allowance},
    wire::{Asker, Change, ChangeKind, changes, micros, seconds},
};
use crate::{
    limit::{Allowance, Counter, Period, Unit},
    store::ScriptCall,
};

/// Changes in one call.
const BATCH: usize = 256;

/// One correction: what was taken or used of a unit more than the store knows.
#[derive(Debug, Clone)]
pub(super) struct Entry {
    pub(super) counter: Arc<Counter>,
    pub(super) unit: Unit,
    /// Microseconds of a clock, units of a period, or requests that have ended.
    pub(super) amount: f64,
    /// The end of the period that units belong to, and the period.
    pub(super) end: Option<(f64, Period)>,
}

/// Corrections by the places where a cluster keeps what they correct. Entries of one count are added up, so there are at most as many as counts.
#[derive(Debug, Default)]
pub(super) struct Ledger {
    slots: Mutex<BTreeMap<Arc<str>, Open>>,
}

#[derive(Debug, Default)]
struct Open {
    entries: BTreeMap<EntryKey, Entry>,
    /// What was sent and not confirmed. It is sent again as it is, so that the store can tell that it has seen it.
    sent: Option<Arc<Batch>>,
    /// The number of the last batch.
    number: u64,
}

/// What entries of one count have in common: the counter, the unit, the end of the period.
type EntryKey = (usize, usize, u64);

/// Changes that are made together, exactly once.
#[derive(Debug)]
pub(super) struct Batch {
    pub(super) slot: Arc<str>,
    number: u64,
    pub(super) entries: Vec<Entry>,
}

impl Ledger {
    /// Adds corrections. Returns whether there are enough for a call.
    pub(super) fn add(&self, entries: Vec<Entry>) -> bool {
        let mut slots = self.slots.lock().unwrap_or_else(PoisonError::into_inner);
        let mut is_full = false;
        for entry in entries {
            let Some(replica) = entry.counter.shared.get() else { continue };
            if entry.amount == 0.0 {
                continue;
            }
            let open = slots.entry(replica.subject.slot.clone()).or_default();
            let end = entry.end.map_or(0, |(end, _)| end.to_bits());
            let key = (Arc::as_ptr(&entry.counter).addr(), entry.unit as usize, end);
            match open.entries.get_mut(&key) {
                Some(known) => known.amount += entry.amount,
                None => {
                    open.entries.insert(key, entry);
                }
            }
            is_full |= open.entries.len() >= BATCH;
        }
        is_full
    }

    /// The batches that are to be sent: of each place the one that has not been confirmed, else the next.
    pub(super) fn batches(&self) -> Vec<Arc<Batch>> {
        let mut slots = self.slots.lock().unwrap_or_else(PoisonError::into_inner);
        slots.retain(|_, open| open.sent.is_some() || !open.entries.is_empty() || open.number > 0);
        slots.iter_mut().filter_map(|(slot, open)| open.next(slot)).collect()
    }

    /// Notes that the store has a batch.
    pub(super) fn confirmed(&self, batch: &Batch) {
        let mut slots = self.slots.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(open) = slots.get_mut(&batch.slot)
            && open.sent.as_ref().is_some_and(|sent| sent.number == batch.number)
        {
            open.sent = None;
        }
    }

    /// Corrections that the store does not have yet.
    pub(super) fn pending(&self) -> usize {
        let slots = self.slots.lock().unwrap_or_else(PoisonError::into_inner);
        let of = |open: &Open| open.entries.len() + open.sent.as_ref().map_or(0, |sent| sent.entries.len());
        slots.values().map(of).sum()
    }
}

impl Open {
    fn next(&mut self, slot: &Arc<str>) -> Option<Arc<Batch>> {
        if self.sent.is_none() && !self.entries.is_empty() {
            let keys: Vec<EntryKey> = self.entries.keys().take(BATCH).copied().collect();
            let entries = keys.iter().filter_map(|key| self.entries.remove(key)).collect();
            self.number += 1;
            self.sent = Some(Arc::new(Batch { slot: slot.clone(), number: self.number, entries }));
        }
        self.sent.clone()
    }
}

/// What has to be added to the shared counts, for a request that has taken so much and used so much, at the server's time `wall`.
pub(super) fn corrections(used: &Used<'_>, wall: Timestamp) -> Vec<Entry> {
    let Used { applied, taken, used, .. } = *used;
    let mut entries = Vec::new();
    for ((unit, taken), used) in TIMED.into_iter().zip(taken).zip(used) {
        let Some(allowance) = allowance(applied, unit) else { continue };
        let (less, more) = (taken.units().saturating_sub(used), used.saturating_sub(taken.units()));
        let (amount, period) = match allowance {
            Allowance::Rate(rate) => (micros(rate.time_of(more)) - micros(rate.time_of(less)), None),
            // What comes later is charged to the period in which it comes.
            Allowance::Period { calendar, .. } if more > 0 => (more as f64, Some(calendar.period(wall))),
            Allowance::Period { .. } => (-(less as f64), taken.period()),
        };
        let end = period.map(|period: Period| (seconds(period.end().as_second()), period));
        if end.is_some() || matches!(allowance, Allowance::Rate(_)) {
            entries.push(Entry { counter: applied.counter.clone(), unit, amount, end });
        }
    }
    entries
}

impl Batch {
    /// The call that makes the changes.
    pub(super) fn call(&self, asker: Asker, prefix: &str) -> ScriptCall {
        let changes = self.entries.iter().filter_map(|entry| {
            let replica = entry.counter.shared.get()?;
            let amount = entry.amount;
            let what = match (entry.unit, entry.end) {
                (Unit::Concurrent, _) => ChangeKind::Ended { count: amount },
                (_, Some((end, _))) => ChangeKind::Period { units: amount, end },
                (_, None) => ChangeKind::Clock { time: amount },
            };
            Some((&**replica, entry.unit, what))
        });
        let marker = format!("{prefix}:{}:b:{:x}", self.slot, asker.node);
        call(asker, self.number, &marker, changes)
    }
}

/// A call that makes changes. `marker` is the key that says which batch was the last.
pub(super) fn call<'a>(
    asker: Asker,
    batch: u64,
    marker: &str,
    all: impl Iterator<Item = (&'a Replica, Unit, ChangeKind)>,
) -> ScriptCall {
    let mut keys: Vec<Arc<str>> = vec![marker.into()];
    let mut made = Vec::new();
    for (replica, unit, what) in all {
        let key = &replica.subject.key;
        let position = keys.iter().skip(1).position(|known| known == key).unwrap_or_else(|| {
            keys.push(key.clone());
            keys.len() - 2
        });
        let Ok(key) = u16::try_from(position + 1) else { continue };
        made.push(Change { key, tag: replica.tag(unit), what });
    }
    ScriptCall { script: &APPLY, keys, arguments: vec![changes(asker, batch, &made)] }
}
