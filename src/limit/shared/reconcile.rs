//! What the store gets beside corrections: which requests are in flight, and what it may have lost.

use std::{
    collections::BTreeMap,
    sync::{Arc, PoisonError, atomic::Ordering},
    time::{Duration, Instant},
};

use tokio::time::{sleep, timeout};

use super::{
    heartbeat::{FLUSH, LAST},
    lease::LeaseRange,
    ledger::{Entry, PlannedChange, call},
    replica::TIMED,
    sharing::{Sharing, nodes_call, now},
    wire::{ChangeKind, ChangesReply},
};
use crate::{
    limit::{Counter, Unit},
    store::ScriptCall,
};

/// Changes in one call: as much as one admission may have to wait for.
const AT_ONCE: usize = 64;

/// Calls that are sent before their replies are waited for.
const ROUND: usize = 16;

/// References to a counter that no configuration and no request has: the list's, and the one by which its limit finds it. Nobody restores what such a
/// client has used, unless it comes back.
const FORGOTTEN: usize = 2;

/// How long admissions wait for what the store gets after a reconnect. They are counted by it from then on, and the rest is sent beside them.
const HEAD_START: Duration = Duration::from_millis(300);

/// The requests in flight that a counter has told the store of.
struct ToldLease<'a> {
    counter: &'a Arc<Counter>,
    range: LeaseRange,
    number: u32,
}

impl Sharing {
    /// Tells the store what it does not know: what was used while it was away, which requests are in flight, and what it `has_lost`. Admissions
    /// are counted by the store as soon as it knows, or after [`HEAD_START`].
    pub(super) async fn make_good(&self, session: u32, has_lost: bool) {
        let due = Instant::now() + HEAD_START;
        let listed = self.note_used_alone();
        // First what the store may have lost, then what comes on top of it, then what all of that must amount to.
        if has_lost {
            let servers = self.servers.load(Ordering::Relaxed);
            let calls = self.calls(session, listed.iter().flat_map(|counter| restores(counter, servers)));
            self.send_by_rounds(calls, session, due).await;
        }
        let first =
            timeout(due.saturating_duration_since(Instant::now()), self.send_corrections(session)).await;
        if first.is_err() {
            self.is_online_again(session);
            self.send_corrections(session).await;
        }
        // Of admissions without a reply one call has only some, and later admissions make the store forget them.
        while self.ledger.cancelled() > 0 && Instant::now() < due {
            if !self.send_corrections(session).await {
                break;
            }
        }
        self.tell_leases(&listed, session, due).await;
        self.is_online_again(session);
        self.note_used_alone();
    }

    /// From now on admissions are counted by the store.
    fn is_online_again(&self, session: u32) {
        if self.store.state().borrow().session == Some(session) {
            self.online.store(session, Ordering::Release);
        }
    }

    /// Notes what was used while this process counted alone. Returns the counters that have to be looked after.
    pub(super) fn note_used_alone(&self) -> Vec<Arc<Counter>> {
        let listed = self.listed.lock().unwrap_or_else(PoisonError::into_inner).clone();
        for counter in &listed {
            self.note(used_alone(counter));
        }
        listed
    }

    /// Renews the leases of requests in flight, and forgets counters that need nothing more.
    pub(super) async fn renew(&self, session: u32) {
        let listed = {
            let mut listed = self.listed.lock().unwrap_or_else(PoisonError::into_inner);
            listed.retain(|counter| is_needed(counter, self));
            listed.clone()
        };
        self.tell_leases(&listed, session, Instant::now()).await;
    }

    /// Says how many requests are in flight, of the counters where there may be any: what the store counts beyond or below is wrong.
    async fn tell_leases(&self, listed: &[Arc<Counter>], session: u32, due: Instant) {
        let told: Vec<ToldLease<'_>> = listed.iter().filter_map(ToldLease::of).collect();
        let calls = self.calls(session, told.iter().filter_map(ToldLease::change));
        if self.send_by_rounds(calls, session, due).await {
            told.iter().for_each(ToldLease::is_known);
        }
    }

    /// Sends calls, some after the other, and counts admissions by the store when they are `due`. Returns whether the store has all of them.
    async fn send_by_rounds(&self, calls: Vec<ScriptCall>, session: u32, due: Instant) -> bool {
        let mut calls = calls.into_iter();
        let mut has_all = true;
        loop {
            let round: Vec<ScriptCall> = calls.by_ref().take(ROUND).collect();
            if round.is_empty() {
                return has_all;
            }
            if Instant::now() >= due {
                self.is_online_again(session);
            }
            let replies = self.send(round).await;
            let read: Vec<ChangesReply> =
                replies.iter().flatten().filter_map(|reply| ChangesReply::read(reply)).collect();
            read.iter().for_each(|reply| self.heard_unreadable(reply.unreadable));
            has_all &= read.len() == replies.len();
            if read.is_empty() {
                return false;
            }
        }
    }

    /// Calls that make changes, by the places where the store keeps the counts.
    fn calls<'a>(&self, session: u32, changes: impl Iterator<Item = PlannedChange<'a>>) -> Vec<ScriptCall> {
        let mut by_slot: BTreeMap<&'a Arc<str>, Vec<PlannedChange<'a>>> = BTreeMap::new();
        for change in changes {
            by_slot.entry(change.slot()).or_default().push(change);
        }
        let mut calls = Vec::new();
        for (slot, all) in by_slot {
            let marker = format!("{}:{slot}:b:{:x}", self.settings.prefix, self.node);
            for some in all.chunks(AT_ONCE) {
                calls.push(call(self.asker(session), 0, &marker, some.iter().copied()));
            }
        }
        calls
    }

    /// Sends everything that the store does not know yet, and that this gateway leaves; for [`LAST`] at most.
    pub(super) async fn leave(&self) {
        self.note_used_alone();
        if timeout(LAST, self.send_all()).await.is_err() {
            tracing::warn!(
                pending = self.ledger.pending(),
                "Redis does not have all corrections of this gateway"
            );
        }
    }

    async fn send_all(&self) {
        while self.ledger.pending() > 0 {
            // A connection that is made meanwhile will do: nobody watches any more whether there is one.
            let session = self.store.state().borrow().session;
            let is_sent = match session {
                Some(session) => self.send_corrections(session).await,
                None => false,
            };
            if !is_sent {
                sleep(FLUSH).await;
            }
        }
        if self.store.state().borrow().session.is_some() {
            self.send(vec![nodes_call(&self.settings.prefix, self.node, false)]).await;
        }
    }
}

impl<'a> ToldLease<'a> {
    /// `None`: there have been no requests that count.
    fn of(counter: &'a Arc<Counter>) -> Option<Self> {
        let replica = counter.shared.get()?;
        let lease = replica.used_lease().filter(|lease| lease.is_needed())?;
        // The number comes first: what is admitted by then is in the range.
        let number = replica.last_number();
        Some(Self { counter, range: lease.range(), number })
    }

    fn change(&self) -> Option<PlannedChange<'a>> {
        let LeaseRange { fewest, most, .. } = self.range;
        let what = ChangeKind::InFlight { fewest, most, number: self.number };
        PlannedChange::new(self.counter, Unit::Concurrent, what)
    }

    /// The store has been told. If there was nothing, and has been nothing since, it need not be told again.
    fn is_known(&self) {
        let Some(replica) = self.counter.shared.get() else { return };
        if let Some(lease) = replica.used_lease()
            && self.range.is_idle
            && replica.last_number() == self.number
        {
            lease.settled();
        }
    }
}

/// What was used of clocks while this process counted alone, and is not paid for yet.
fn used_alone(counter: &Arc<Counter>) -> Vec<Entry> {
    let Some(replica) = counter.shared.get() else { return Vec::new() };
    let mut known = replica.known();
    let Some(alone) = known.alone.take() else { return Vec::new() };
    // The copies ran by this process' share.
    known.fresh_until = 0;
    let now = now().monotonic;
    let used = TIMED.into_iter().enumerate().filter_map(|(position, unit)| {
        let amount = alone.debt(position, now);
        (amount > 0.0).then(|| Entry { counter: counter.clone(), unit, amount, end: None })
    });
    used.collect()
}

/// What restores sums of periods, if the store has lost them.
fn restores(counter: &Counter, servers: u32) -> Vec<PlannedChange<'_>> {
    let Some(replica) = counter.shared.get() else { return Vec::new() };
    let known = replica.known();
    let mut restores = Vec::new();
    for (position, unit) in TIMED.into_iter().enumerate() {
        if let Some(seen) = known.seen.get(position).copied().flatten() {
            let (sum, born) = known.seen(position, seen.end, servers);
            let what = ChangeKind::Restore { seen: sum, end: seen.end, born };
            restores.extend(PlannedChange::new(counter, unit, what));
        }
    }
    restores
}

/// Whether a counter still has to be looked after. If not, it is marked as one that is not.
fn is_needed(counter: &Arc<Counter>, sharing: &Sharing) -> bool {
    let Some(replica) = counter.shared.get() else { return false };
    let mut known = replica.known();
    // Under the lock: a request that begins now is looked after again when it is released.
    let has_lease = replica.used_lease().is_some_and(|lease| lease.is_needed());
    let now = super::wire::seconds(sharing.wall(now()).as_second());
    let has_period = known.seen.iter().flatten().any(|seen| seen.end > now);
    let has_user = Arc::strong_count(counter) > FORGOTTEN;
    known.is_listed = has_lease || known.alone.is_some() || (has_period && has_user);
    known.is_listed
}
