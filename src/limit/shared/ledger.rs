//! Corrections that the shared store does not have yet.

use std::{
    collections::BTreeMap,
    ops::Bound,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use jiff::Timestamp;

use super::{
    lease::Lease,
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

/// Places to which batches are sent at once. Admissions wait behind no more.
const AT_ONCE: usize = 64;

/// The most admissions without a reply of which the store is still to be told. Further ones stay counted as if they had been executed.
const CANCELLED: usize = 1_024;

/// Changes in one call, with those of admissions without a reply: Lua's stack takes eight thousand numbers, and each has six.
const ITEMS: usize = 1_000;

/// How many of them are in one call.
const CANCELLED_AT_ONCE: usize = 32;

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

/// An admission without a reply: if it was executed, it has no effect any more.
#[derive(Debug, Clone)]
pub(super) struct Cancelled(pub(super) Vec<CancelledOf>);

/// What an admission without a reply may have taken of one subject.
#[derive(Debug, Clone)]
pub(super) struct CancelledOf {
    /// A counter of the subject.
    pub(super) counter: Arc<Counter>,
    /// The subject's number of the admission.
    pub(super) number: u32,
    /// What is given back if it was executed.
    pub(super) entries: Vec<Entry>,
}

/// Corrections by the places where a cluster keeps what they correct. Entries of one count are added up, so there are at most as many as counts,
/// and [`CANCELLED`] admissions without a reply. A place is forgotten when nothing of it is open.
#[derive(Debug, Default)]
pub(super) struct Ledger(Mutex<OpenCorrections>);

#[derive(Debug, Default)]
struct OpenCorrections {
    open: BTreeMap<Arc<str>, Open>,
    /// The number of the last batch of any place.
    number: u64,
    /// Admissions without a reply, of all places.
    cancelled: usize,
}

#[derive(Debug, Default)]
struct Open {
    entries: BTreeMap<EntryKey, Entry>,
    cancelled: Vec<Cancelled>,
    /// What was sent and not confirmed. It is sent again as it is, so that the store can tell that it has seen it.
    sent: Option<Arc<Batch>>,
}

/// What entries of one count have in common: the counter, the unit, the end of the period.
type EntryKey = (usize, usize, u64);

/// Changes that are made together, exactly once.
#[derive(Debug)]
pub(super) struct Batch {
    pub(super) slot: Arc<str>,
    number: u64,
    pub(super) entries: Vec<Entry>,
    cancelled: Vec<Cancelled>,
}

impl Ledger {
    /// Adds corrections. Returns whether there are enough for a call.
    pub(super) fn add(&self, entries: Vec<Entry>) -> bool {
        let mut places = self.places();
        let mut is_full = false;
        for entry in entries {
            let Some(replica) = entry.counter.shared.get() else { continue };
            if entry.amount == 0.0 {
                continue;
            }
            let open = places.open.entry(replica.subject.slot.clone()).or_default();
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

    /// Adds an admission without a reply.
    pub(super) fn cancel(&self, cancelled: Cancelled) {
        let mut places = self.places();
        let replica = cancelled.0.first().and_then(|first| first.counter.shared.get());
        let slot = replica.map(|replica| replica.subject.slot.clone());
        let Some(slot) = slot.filter(|_| places.cancelled < CANCELLED) else {
            // It stays counted, and what it holds of a lease is found out by the next renewal.
            cancelled.is_known();
            return;
        };
        places.cancelled += 1;
        places.open.entry(slot).or_default().cancelled.push(cancelled);
    }

    /// The batches that are to be sent, of at most [`AT_ONCE`] places after this one: of each the one that has not been confirmed, else the next.
    pub(super) fn batches(&self, after: Option<&Arc<str>>) -> Vec<Arc<Batch>> {
        let mut places = self.places();
        let OpenCorrections { open, number, cancelled } = &mut *places;
        // Once for each pass, because it looks at all places.
        if after.is_none() {
            open.retain(|_, open| open.is_used());
        }
        let start = after.map_or(Bound::Unbounded, Bound::Excluded);
        let places =
            open.range_mut::<Arc<str>, _>((start, Bound::Unbounded)).filter(|(_, open)| open.is_used());
        let places = places.take(AT_ONCE);
        places.map(|(slot, open)| open.next(slot, number, cancelled)).collect()
    }

    /// Notes that the store has a batch.
    pub(super) fn confirmed(&self, batch: &Batch) {
        let mut places = self.places();
        let Some(open) = places.open.get_mut(&batch.slot) else { return };
        if open.sent.take_if(|sent| sent.number == batch.number).is_none() {
            return;
        }
        for entry in batch.entries.iter().filter(|entry| entry.unit == Unit::Concurrent) {
            if let Some(lease) = entry.lease() {
                lease.confirmed(entry.amount);
            }
        }
        batch.cancelled.iter().for_each(Cancelled::is_known);
    }

    /// Admissions without a reply that have not been sent.
    pub(super) fn cancelled(&self) -> usize {
        self.places().cancelled
    }

    /// Corrections that the shared store does not have yet.
    pub(super) fn pending(&self) -> usize {
        let of_batch = |batch: &Arc<Batch>| batch.entries.len() + batch.cancelled.len();
        let of =
            |open: &Open| open.entries.len() + open.cancelled.len() + open.sent.as_ref().map_or(0, of_batch);
        self.places().open.values().map(of).sum()
    }

    /// Places of which anything is open.
    #[cfg(test)]
    pub(super) fn places_in_use(&self) -> usize {
        self.batches(None);
        self.places().open.len()
    }

    fn places(&self) -> MutexGuard<'_, OpenCorrections> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Open {
    fn is_used(&self) -> bool {
        self.sent.is_some() || !self.entries.is_empty() || !self.cancelled.is_empty()
    }

    /// Admissions without a reply for one call, the last ones first: the store forgets the others before them.
    fn next_cancelled(&mut self, room: usize) -> Vec<Cancelled> {
        let mut some = Vec::new();
        let mut items = 0;
        while some.len() < CANCELLED_AT_ONCE
            && let Some(next) = self.cancelled.last()
        {
            items += next.items();
            if items > room && !some.is_empty() {
                break;
            }
            some.extend(self.cancelled.pop());
        }
        some
    }

    fn next(&mut self, slot: &Arc<str>, number: &mut u64, open: &mut usize) -> Arc<Batch> {
        if let Some(sent) = &self.sent {
            return sent.clone();
        }
        let keys: Vec<EntryKey> = self.entries.keys().take(BATCH).copied().collect();
        let entries: Vec<Entry> = keys.iter().filter_map(|key| self.entries.remove(key)).collect();
        for entry in entries.iter().filter(|entry| entry.unit == Unit::Concurrent) {
            if let Some(lease) = entry.lease() {
                lease.sent(entry.amount);
            }
        }
        let cancelled = self.next_cancelled(ITEMS.saturating_sub(entries.len()));
        *open = open.saturating_sub(cancelled.len());
        *number += 1;
        let batch = Arc::new(Batch { slot: slot.clone(), number: *number, entries, cancelled });
        self.sent = Some(batch.clone());
        batch
    }
}

impl Entry {
    /// The requests in flight that it is about.
    pub(super) fn lease(&self) -> Option<&Arc<Lease>> {
        self.counter.shared.get()?.used_lease()
    }

    /// The change that the store makes.
    fn change(&self) -> Option<PlannedChange<'_>> {
        let what = match (self.unit, self.end) {
            (Unit::Concurrent, _) => ChangeKind::Ended { count: self.amount },
            (_, Some((end, _))) => ChangeKind::Period { units: self.amount, end },
            (_, None) => ChangeKind::Clock { time: self.amount },
        };
        PlannedChange::new(&self.counter, self.unit, what)
    }
}

impl Cancelled {
    /// Nobody knows whether it was executed, until [`is_known`](Self::is_known).
    pub(super) fn is_unknown(&self) {
        self.leases().for_each(|lease| lease.is_unknown());
    }

    /// The store has been told, or has said what became of it.
    pub(super) fn is_known(&self) {
        self.leases().for_each(|lease| lease.is_known());
    }

    fn leases(&self) -> impl Iterator<Item = &Arc<Lease>> {
        let entries = self.0.iter().flat_map(|of| &of.entries);
        entries.filter(|entry| entry.unit == Unit::Concurrent).filter_map(Entry::lease)
    }

    /// Changes that a call needs for it.
    fn items(&self) -> usize {
        self.0.iter().map(|of| 1 + of.entries.len()).sum()
    }

    fn changes(&self) -> impl Iterator<Item = PlannedChange<'_>> {
        self.0.iter().flat_map(|of| {
            let cancel = ChangeKind::Cancelled { number: of.number };
            let undone = of.entries.iter().filter_map(Entry::change);
            let undone = undone.map(|change| PlannedChange { is_conditional: true, ..change });
            PlannedChange::new(&of.counter, Unit::Requests, cancel).into_iter().chain(undone)
        })
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
        let made = self.entries.iter().filter_map(Entry::change);
        let cancelled = self.cancelled.iter().flat_map(Cancelled::changes);
        let marker = format!("{prefix}:{}:b:{:x}", self.slot, asker.node);
        call(asker, self.number, &marker, made.chain(cancelled))
    }
}

/// One change of a count, before it is known at which position its key is.
#[derive(Debug, Clone, Copy)]
pub(super) struct PlannedChange<'a> {
    replica: &'a Replica,
    unit: Unit,
    what: ChangeKind,
    is_conditional: bool,
}

impl<'a> PlannedChange<'a> {
    /// `None`: the count is not shared.
    pub(super) fn new(counter: &'a Counter, unit: Unit, what: ChangeKind) -> Option<Self> {
        Some(Self { replica: counter.shared.get()?, unit, what, is_conditional: false })
    }

    /// Where a cluster keeps the count.
    pub(super) fn slot(&self) -> &'a Arc<str> {
        &self.replica.subject.slot
    }
}

/// A call that makes changes. `marker` is the key that says which batch was the last.
pub(super) fn call<'a>(
    asker: Asker,
    batch: u64,
    marker: &str,
    all: impl Iterator<Item = PlannedChange<'a>>,
) -> ScriptCall {
    let mut keys: Vec<Arc<str>> = vec![marker.into()];
    let mut made = Vec::new();
    for PlannedChange { replica, unit, what, is_conditional } in all {
        let key = &replica.subject.key;
        let position = keys.iter().skip(1).position(|known| known == key).unwrap_or_else(|| {
            keys.push(key.clone());
            keys.len() - 2
        });
        let Ok(key) = u16::try_from(position + 1) else { continue };
        made.push(Change { key, tag: replica.tag(unit), what, is_conditional });
    }
    ScriptCall { script: &APPLY, keys, arguments: vec![changes(asker, batch, &made)] }
}
