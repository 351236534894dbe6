//! What a gateway does beside requests: it sends corrections, renews leases, and makes good what was lost.

use std::{
    future::poll_fn,
    sync::{Arc, PoisonError, Weak, atomic::Ordering},
    task::Poll,
    time::{Duration, Instant},
};

use tokio::time::{MissedTickBehavior, interval, sleep, timeout};

use super::{
    copy::copy,
    ledger::{Batch, Entry, call},
    replica::{Replica, TIMED},
    sharing::{Sharing, nodes_call, now},
    wire::{ChangeKind, ChangesReply, NodesReply},
};
use crate::{
    limit::{Counter, Now, Unit},
    store::{Running, ScriptCall, State},
};

/// How long corrections may wait for others.
const FLUSH: Duration = Duration::from_millis(100);

/// Flushes between two signs of life: it is also how soon a loss of all data is noticed.
const BEAT: u32 = 10;

/// Flushes between two renewals of leases, which last for fifteen seconds.
const RENEW: u32 = 50;

/// How long what is sent may take.
const SENT: Duration = Duration::from_secs(1);

/// How long the end of the process waits for what the store does not know yet.
pub(super) const LAST: Duration = Duration::from_secs(1);

/// Subjects in one call.
const AT_ONCE: usize = 128;

/// Runs on the store's thread for as long as `sharing` is there.
pub(super) async fn run(sharing: Weak<Sharing>) {
    let Some(mut state) = sharing.upgrade().map(|sharing| sharing.store.state()) else { return };
    // The store may have been connected before it was watched.
    state.mark_changed();
    let Some(mut stop) = sharing.upgrade().map(|sharing| sharing.stop.subscribe()) else { return };
    let mut ticks = interval(FLUSH);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut server = None;
    let mut count: u32 = 0;
    loop {
        let Some(strong) = sharing.upgrade() else { return };
        let wakes = {
            let is_full = strong.is_full.notified();
            tokio::select! {
                biased;
                _ = stop.wait_for(|stop| *stop) => Wake::Stop,
                _ = state.changed() => Wake::State,
                () = is_full => Wake::Flush,
                _ = ticks.tick() => Wake::Tick,
            }
        };
        // Nobody else has it any more: `[redis]` has changed, and the last request that it admitted is over.
        let is_last = Arc::strong_count(&strong) == 1;
        match wakes {
            _ if is_last => {
                strong.leave().await;
                return;
            }
            Wake::Stop => {
                strong.leave().await;
                strong.left();
                return;
            }
            Wake::State => {
                let now = state.borrow_and_update().clone();
                strong.changed(&now, &mut server).await;
            }
            Wake::Flush => strong.flush().await,
            Wake::Tick => {
                count = count.wrapping_add(1);
                strong.tick(count).await;
            }
        }
    }
}

enum Wake {
    Stop,
    State,
    Flush,
    Tick,
}

impl Sharing {
    /// The store has come or gone.
    async fn changed(&self, state: &State, server: &mut Option<Arc<str>>) {
        let Some(session) = state.session else {
            self.online.store(0, Ordering::Release);
            return;
        };
        if state.server.is_none() || state.server != *server {
            self.servers.fetch_add(1, Ordering::Relaxed);
            server.clone_from(&state.server);
        }
        if let Some(nodes) = NodesReply::read(&state.probe) {
            self.met(nodes, Now::of(Instant::now()));
        }
        // Requests are admitted by the store again when it knows what happened meanwhile.
        self.make_good(session).await;
        self.online.store(session, Ordering::Release);
        self.note_used_alone();
    }

    async fn tick(&self, count: u32) {
        let session = self.online.load(Ordering::Acquire);
        if session == 0 {
            return;
        }
        self.flush().await;
        if count.is_multiple_of(BEAT) && self.is_forgotten().await {
            self.make_good(session).await;
        } else if count.is_multiple_of(RENEW) {
            self.note_used_alone();
            self.renew(session).await;
        }
    }

    /// Says that this gateway is there. Returns whether the store had forgotten it, and so everything else.
    async fn is_forgotten(&self) -> bool {
        let sent = Now::of(Instant::now());
        let replies = self.send(vec![nodes_call(&self.settings.prefix, self.node, true)]).await;
        let nodes = replies.into_iter().flatten().next().and_then(|reply| NodesReply::read(&reply));
        nodes.is_some_and(|nodes| {
            self.met(nodes, sent);
            !nodes.known
        })
    }

    fn met(&self, nodes: NodesReply, sent: Now) {
        self.gateways.seen(nodes.count, sent);
        self.heard(sent, nodes.now);
    }

    /// Sends the corrections that there are.
    async fn flush(&self) {
        let session = self.online.load(Ordering::Acquire);
        if session > 0 {
            self.send_corrections(session).await;
        }
    }

    /// Sends of each place one batch. Returns whether the store has any of them now.
    async fn send_corrections(&self, session: u32) -> bool {
        let batches = self.ledger.batches();
        if batches.is_empty() {
            return true;
        }
        let mut is_any_confirmed = false;
        let sent = Now::of(Instant::now());
        let asker = self.asker(session);
        let calls = batches.iter().map(|batch| batch.call(asker, &self.settings.prefix)).collect();
        for (batch, reply) in batches.iter().zip(self.send(calls).await) {
            let Some(reply) = reply.and_then(|reply| ChangesReply::read(&reply)) else { continue };
            self.ledger.confirmed(batch);
            is_any_confirmed = true;
            self.copy_batch(batch, &reply, sent);
        }
        is_any_confirmed
    }

    fn copy_batch(&self, batch: &Batch, reply: &ChangesReply, sent: Now) {
        let copying = self.heard(sent, reply.now);
        for (entry, state) in batch.entries.iter().zip(&reply.states) {
            let period = (entry.end.map(|(_, period)| period), entry.end.map(|(end, _)| end));
            copy(&entry.counter, entry.unit, *state, period, copying);
        }
    }

    /// Tells the store what it does not know: what was used while it was away, which requests are in flight, and what it may have lost.
    async fn make_good(&self, session: u32) {
        let listed = self.note_used_alone();
        let asker = self.asker(session);
        let servers = self.servers.load(Ordering::Relaxed);
        let changes = |counter: &Arc<Counter>| {
            let Some(replica) = counter.shared.get() else { return Vec::new() };
            let count = f64::from(replica.held());
            let mut changes = restores(replica, servers);
            changes.push((Unit::Concurrent, ChangeKind::InFlight { count }));
            changes
        };
        // First what the store may have lost, then what comes on top of it.
        self.send(self.calls(&listed, asker, changes)).await;
        self.send_corrections(session).await;
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
    async fn renew(&self, session: u32) {
        let listed = {
            let mut listed = self.listed.lock().unwrap_or_else(PoisonError::into_inner);
            listed.retain(|counter| counter.shared.get().is_some_and(|replica| is_needed(replica, self)));
            listed.clone()
        };
        let changes = |counter: &Arc<Counter>| {
            let held = counter.shared.get().map_or(0, |replica| replica.held());
            let at_least = ChangeKind::AtLeast { count: f64::from(held) };
            if held > 0 { vec![(Unit::Concurrent, at_least)] } else { Vec::new() }
        };
        self.send(self.calls(&listed, self.asker(session), changes)).await;
    }

    /// Calls that make changes to these counters, by the places where the store keeps them.
    fn calls(
        &self,
        counters: &[Arc<Counter>],
        asker: super::wire::Asker,
        changes: impl Fn(&Arc<Counter>) -> Vec<(Unit, ChangeKind)>,
    ) -> Vec<ScriptCall> {
        let mut by_slot: std::collections::BTreeMap<Arc<str>, Vec<(&Replica, Unit, ChangeKind)>> =
            std::collections::BTreeMap::new();
        for counter in counters {
            let Some(replica) = counter.shared.get() else { continue };
            for (unit, change) in changes(counter) {
                by_slot.entry(replica.subject.slot.clone()).or_default().push((replica, unit, change));
            }
        }
        let mut calls = Vec::new();
        for (slot, all) in by_slot {
            let marker = format!("{}:{slot}:b:{:x}", self.settings.prefix, self.node);
            for some in all.chunks(AT_ONCE) {
                calls.push(call(asker, 0, &marker, some.iter().copied()));
            }
        }
        calls
    }

    /// Sends everything that the store does not know yet, and that this gateway leaves; for [`LAST`] at most.
    async fn leave(&self) {
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
            let session = self.online.load(Ordering::Acquire);
            if session == 0 || !self.send_corrections(session).await {
                // There is no connection, or no reply: both may come.
                sleep(FLUSH).await;
            }
        }
        if self.online.load(Ordering::Acquire) > 0 {
            self.send(vec![nodes_call(&self.settings.prefix, self.node, false)]).await;
        }
    }

    /// Sends calls at once and waits for their replies.
    async fn send(&self, calls: Vec<ScriptCall>) -> Vec<Option<Vec<u8>>> {
        let mut running: Vec<Option<Running>> =
            calls.into_iter().map(|call| self.store.begin(call).ok()).collect();
        let mut replies: Vec<Option<Vec<u8>>> = running.iter().map(|_| None).collect();
        let all = poll_fn(|context| {
            let mut is_over = true;
            for (running, reply) in running.iter_mut().zip(&mut replies) {
                let Some(call) = running else { continue };
                match std::pin::Pin::new(call).poll(context) {
                    Poll::Pending => is_over = false,
                    Poll::Ready(result) => {
                        *reply = result.ok();
                        *running = None;
                    }
                }
            }
            if is_over { Poll::Ready(()) } else { Poll::Pending }
        });
        if timeout(SENT, all).await.is_err()
            && let Some(late) = running.iter().flatten().next()
        {
            late.is_late();
        }
        replies
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
fn restores(replica: &Replica, servers: u32) -> Vec<(Unit, ChangeKind)> {
    let known = replica.known();
    let mut restores = Vec::new();
    for (position, unit) in TIMED.into_iter().enumerate() {
        if let Some(seen) = known.seen.get(position).copied().flatten() {
            let (sum, born) = known.seen(position, seen.end, servers);
            restores.push((unit, ChangeKind::Restore { seen: sum, end: seen.end, born }));
        }
    }
    restores
}

/// Whether a counter still has to be looked after. If not, it is marked as one that is not.
fn is_needed(replica: &Replica, sharing: &Sharing) -> bool {
    let mut known = replica.known();
    let now = super::wire::seconds(sharing.wall(now()).as_second());
    let has_period = known.seen.iter().flatten().any(|seen| seen.end > now);
    known.is_listed = replica.held() > 0 || known.alone.is_some() || has_period;
    known.is_listed
}
