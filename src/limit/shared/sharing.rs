//! Admission by the shared store.

use std::{
    io,
    sync::{
        Arc, Condvar, Mutex, PoisonError,
        atomic::{AtomicI64, AtomicU32, AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};

use jiff::Timestamp;
use tokio::{
    sync::{Notify, watch},
    time::timeout,
};

use super::{
    alone::CountedBy,
    copy::Copying,
    gateways::SeenGateways,
    heartbeat::{self, LAST},
    lease::{Lease, Subjects},
    ledger::{Entry, Ledger, corrections},
    plan::{Decision, Plan, PlanContext},
    reserved::{Arrival, Reserved},
    script::NODES,
    sending::Sending,
    wire::{self, Asker},
};
use crate::{
    limit::{Admitted, Allowance, Applied, Counter, Demand, Moment, Now, Refused, Unit, counter::Taken},
    store::{ScriptCall, Statistics, Store, StoreWait},
};

/// How much longer than [`LAST`] the end of the process waits: for the note that the time is over.
const REPORT: Duration = Duration::from_millis(100);

/// Shared limits. Belongs to the process, and is replaced when `[redis]` changes.
#[derive(Debug)]
pub struct Sharing {
    pub(super) store: Store,
    pub(super) settings: SharingSettings,
    /// This gateway, until its end.
    pub(super) node: u64,
    pub(super) ledger: Ledger,
    /// There is enough in the ledger for a call.
    pub(super) is_full: Notify,
    /// The number of the connection over which admissions go; 0: there is none.
    pub(super) online: AtomicU32,
    pub(super) gateways: SeenGateways,
    /// What counters of one subject have together.
    pub(super) subjects: Subjects,
    /// Counts changes of the server.
    pub(super) servers: AtomicU32,
    /// The server's time less this process', in nanoseconds.
    ahead: AtomicI64,
    /// Counters that have to be looked after: at most as many as configurations and requests in flight have. Others leave with the next renewal.
    pub(super) listed: Mutex<Vec<Arc<Counter>>>,
    /// Admissions by local limits, because the store was away.
    fallbacks: AtomicU64,
    /// Refusals without a call.
    remembered: AtomicU64,
    /// Values that could not be read.
    unreadable: AtomicU64,
    /// Set at the end of the process, or when `[redis]` has changed.
    pub(super) stop: watch::Sender<bool>,
    has_left: Mutex<bool>,
    left: Condvar,
}

/// When a call was sent.
#[derive(Debug, Clone, Copy)]
pub(super) struct Sent {
    pub(super) at: Now,
    /// Counts changes of the server.
    servers: u32,
}

/// What sharing needs to know of the configuration.
#[derive(Debug, Clone)]
pub struct SharingSettings {
    /// How the names of all keys in the store begin.
    pub prefix: Arc<str>,
    /// The part of each limit that is admitted while the store is away; `None`: by the number of gateways.
    pub fallback_share: Option<f64>,
}

/// How sharing goes, for operators.
#[derive(Debug, Clone, PartialEq)]
pub struct SharingState {
    /// Whether limits are shared now.
    pub is_available: bool,
    /// Why they are not.
    pub trouble: Option<String>,
    /// Gateways seen in the last minute before that.
    pub nodes: u32,
    /// The part of each limit that this gateway admits while the store is away.
    pub fallback_share: f64,
    /// Admissions by local limits, because the store was away.
    pub fallbacks: u64,
    /// Refusals without a call, because the store had refused before.
    pub remembered: u64,
    /// Corrections that the store does not have yet.
    pub pending: usize,
    /// Values that could not be read: their counts started from zero.
    pub unreadable: u64,
}

impl Sharing {
    /// Starts to share limits as `settings` say. `start` starts the store, of which the argument is the probe. Until the store is there, limits
    /// are local.
    ///
    /// # Errors
    /// The system gives no thread.
    pub fn start(
        settings: SharingSettings,
        start: impl FnOnce(ScriptCall) -> io::Result<Store>,
    ) -> io::Result<Arc<Self>> {
        let node = fastrand::u64(1..1 << 48);
        let store = start(nodes_call(&settings.prefix, node, true))?;
        let sharing = Arc::new(Self {
            store,
            settings,
            node,
            ledger: Ledger::default(),
            is_full: Notify::new(),
            online: AtomicU32::new(0),
            gateways: SeenGateways::new(),
            subjects: Subjects::default(),
            unreadable: AtomicU64::new(0),
            servers: AtomicU32::new(0),
            ahead: AtomicI64::new(0),
            listed: Mutex::default(),
            fallbacks: AtomicU64::new(0),
            remembered: AtomicU64::new(0),
            stop: watch::Sender::new(false),
            has_left: Mutex::new(false),
            left: Condvar::new(),
        });
        sharing.store.spawn(heartbeat::run(Arc::downgrade(&sharing)));
        Ok(sharing)
    }

    /// Admits a request under all of `limits`, or under none; it has had its turn in the queues of the subjects with the counts in `turns`. Waits for the store no longer than what `wait` leaves of `redis.timeout`; if the store does not answer in
    /// time, this process admits by itself, up to its share of each limit.
    ///
    /// # Errors
    /// The first limit that refuses.
    pub async fn take_turn(
        self: &Arc<Self>,
        limits: &[Applied],
        demand: Demand,
        turns: &[Arc<Counter>],
        wait: &mut StoreWait,
    ) -> Result<Admitted, Refused> {
        let others = limits.iter().find(|applied| {
            let has_turn = || turns.iter().any(|counter| Arc::ptr_eq(counter, &applied.counter));
            applied.limit.queue.is_some() && applied.counter.queued() > 0 && !has_turn()
        });
        if let Some(Applied { limit, counter }) = others {
            let unit = limit.first_unit();
            return Err(Refused { limit: limit.clone(), counter: counter.clone(), unit, wait: None });
        }
        self.take(limits, demand, wait, !turns.is_empty()).await
    }

    async fn take(
        self: &Arc<Self>,
        limits: &[Applied],
        demand: Demand,
        wait: &mut StoreWait,
        has_waited: bool,
    ) -> Result<Admitted, Refused> {
        let moment = now();
        let session = self.online.load(Ordering::Acquire);
        let Some(left) = wait.left(self.store.timeout()).filter(|_| session != 0) else {
            return self.take_alone(limits, demand, moment);
        };
        let (wall, subjects) = (self.wall(moment), &self.subjects);
        let context = PlanContext { wall, servers: self.servers.load(Ordering::Relaxed), subjects };
        let Some(mut plan) = Plan::new(limits, demand, context) else {
            return self.take_alone(limits, demand, moment);
        };
        // Held while the calls are on their way, so that requests which come meanwhile are not all sent.
        let arrival = Arrival { now: moment.monotonic, wall, subjects, has_waited, counts_asked: true };
        let mut reserved =
            Reserved::take(plan.limits(), demand, arrival).inspect_err(|_| self.count_remembered())?;
        plan.number();
        let start = Instant::now();
        let Some(mut sending) = Sending::start(self, Arc::new(plan), session) else {
            drop(reserved);
            return self.take_alone(limits, demand, moment);
        };
        let is_complete = timeout(left, sending.replies()).await.is_ok();
        self.store.statistics().admission(start.elapsed());
        if is_complete {
            wait.answered(start.elapsed());
        } else {
            wait.is_late();
            sending.is_late();
        }
        // Before the replies are copied: they count what is reserved here.
        reserved.end(|slot| sending.is_answered(slot));
        match sending.decide() {
            Decision::Admitted { granted, would_refuse } => {
                Ok(Admitted::by_store(self, granted, would_refuse))
            }
            Decision::Refused(refused) => {
                self.remember(&refused);
                Err(refused)
            }
            Decision::Unusable => self.take_alone(limits, demand, moment),
        }
    }

    /// Remembers for a moment that other gateways have used up a limit on requests at once. Of other limits it is known until when they have.
    fn remember(&self, refused: &Refused) {
        if refused.unit == Unit::Concurrent
            && let Some(replica) = refused.counter.shared.get()
        {
            replica.lease(&self.subjects).was_full(Now::of(Instant::now()));
        }
    }

    /// How sharing goes.
    pub fn state(&self) -> SharingState {
        let trouble = self.store.state().borrow().trouble.as_ref().map(ToString::to_string);
        SharingState {
            is_available: self.online.load(Ordering::Relaxed) != 0,
            trouble,
            nodes: self.gateways.last(),
            fallback_share: self.fallback_share(),
            fallbacks: self.fallbacks.load(Ordering::Relaxed),
            remembered: self.remembered.load(Ordering::Relaxed),
            pending: self.ledger.pending(),
            unreadable: self.unreadable.load(Ordering::Relaxed),
        }
    }

    /// What has been counted about the store.
    pub fn statistics(&self) -> &Statistics {
        self.store.statistics()
    }

    /// Tells the store what it does not know yet, and that this gateway leaves. Requests that are still in flight count for as long as their
    /// leases. Does not wait.
    pub fn stop(&self) {
        self.stop.send_replace(true);
    }

    /// Stops, and waits until the store knows everything, for a second at most. Blocks.
    pub fn finish(&self) {
        self.stop();
        let has_left = self.has_left.lock().unwrap_or_else(PoisonError::into_inner);
        let _ = self.left.wait_timeout_while(has_left, LAST + REPORT, |has_left| !*has_left);
    }

    /// Notes that the store knows everything.
    pub(super) fn left(&self) {
        *self.has_left.lock().unwrap_or_else(PoisonError::into_inner) = true;
        self.left.notify_all();
    }

    /// The part of each limit that this process admits by itself.
    pub(super) fn fallback_share(&self) -> f64 {
        self.settings.fallback_share.unwrap_or_else(|| 1.0 / f64::from(self.gateways.most().max(1)))
    }

    pub(super) fn asker(&self, session: u32) -> Asker {
        Asker { node: self.node, session }
    }

    /// What is sent now. WaitingRequest for before the connection is, which may be one to another server by then.
    pub(super) fn sent(&self) -> Sent {
        Sent { at: Now::of(Instant::now()), servers: self.servers.load(Ordering::Relaxed) }
    }

    /// Notes what the server's clock said in a reply.
    pub(super) fn heard(&self, sent: Sent, now: f64) -> Copying {
        let unix = i64::try_from(wire::unix_nanos(now)).unwrap_or(i64::MAX);
        self.ahead.store(unix.saturating_sub(sent.at.nanos()), Ordering::Relaxed);
        let read = Now::of(Instant::now());
        Copying { sent: sent.at, read, now, servers: sent.servers, is_restored: false }
    }

    /// The server's time at `moment`.
    pub(super) fn wall(&self, moment: Moment) -> Timestamp {
        let ahead = self.ahead.load(Ordering::Relaxed);
        if ahead == 0 {
            return moment.wall;
        }
        let unix = i128::from(moment.monotonic.nanos()) + i128::from(ahead);
        Timestamp::from_nanosecond(unix).unwrap_or(moment.wall)
    }

    pub(super) fn note(&self, entries: Vec<Entry>) {
        if self.ledger.add(entries) {
            self.is_full.notify_one();
        }
    }

    pub(super) fn count_fallback(&self) {
        self.fallbacks.fetch_add(1, Ordering::Relaxed);
    }

    /// Notes that values could not be read. The first one is logged.
    pub(super) fn heard_unreadable(&self, count: u8) {
        if count > 0 && self.unreadable.fetch_add(u64::from(count), Ordering::Relaxed) == 0 {
            tracing::warn!(
                "Redis value unreadable: the counts of its client, group, route or model start from zero"
            );
        }
    }

    /// Gives back what an admission has taken that nobody uses.
    pub(super) fn give_back(&self, entries: Vec<Entry>) {
        let at_once = entries.iter().filter(|entry| entry.unit == Unit::Concurrent);
        at_once.filter_map(Entry::lease).for_each(|lease| lease.give_back());
        self.note(entries);
    }

    /// The count of requests in flight, where the limit is about that.
    fn lease<'a>(&self, applied: &'a Applied) -> Option<&'a Arc<Lease>> {
        applied.limit.concurrent?;
        Some(applied.counter.shared.get()?.lease(&self.subjects))
    }

    pub(super) fn count_remembered(&self) {
        self.remembered.fetch_add(1, Ordering::Relaxed);
    }

    /// Counts a request that the store has admitted as in flight.
    pub(in crate::limit) fn hold(&self, applied: &Applied) {
        if let Some(lease) = self.lease(applied) {
            lease.hold();
        }
        self.look_after(&applied.counter);
    }

    /// Counts a request as in flight that this process has admitted alone, and returns the correction that tells the store.
    pub(super) fn hold_alone(&self, applied: &Applied) -> Option<Entry> {
        self.lease(applied)?.hold_alone();
        self.look_after(&applied.counter);
        Some(Entry { counter: applied.counter.clone(), unit: Unit::Concurrent, amount: -1.0, end: None })
    }

    /// Puts a counter into the list of those that have to be looked after.
    pub(super) fn look_after(&self, counter: &Arc<Counter>) {
        let Some(replica) = counter.shared.get() else { return };
        let mut known = replica.known();
        if !std::mem::replace(&mut known.is_listed, true) {
            // Whoever goes through the list locks what is known of its counters.
            drop(known);
            self.listed.lock().unwrap_or_else(PoisonError::into_inner).push(counter.clone());
        }
    }

    /// Charges what a request has used more than it took.
    pub(in crate::limit) fn charge(&self, used: &Used<'_>, now: Moment) {
        if self.is_online() {
            self.note(self.corrections(used, now));
        } else {
            self.correct_alone(used, now);
        }
    }

    /// Whether the store is there.
    pub(super) fn is_online(&self) -> bool {
        self.online.load(Ordering::Relaxed) != 0
    }

    /// Makes what a request took into what it used. The request is in flight no more.
    pub(in crate::limit) fn settle(&self, used: &Used<'_>, now: Moment) {
        let applied = used.applied;
        let is_online = self.is_online();
        let mut entries = if is_online { self.corrections(used, now) } else { Vec::new() };
        if !is_online {
            self.correct_alone(used, now);
        }
        // Also while the store is away: it counts the request until it is told.
        if let Some(lease) = self.lease(applied) {
            let now = Now::of(Instant::now());
            let is_wanted = applied.limit.concurrent.is_some_and(|most| lease.end(most, now));
            if is_wanted {
                self.is_full.notify_one();
            }
            let counter = applied.counter.clone();
            entries.push(Entry { counter, unit: Unit::Concurrent, amount: 1.0, end: None });
        }
        self.note(entries);
    }

    /// Has the request whose turn it is try again, because something was given back: as soon as the store knows, if it is there.
    pub(in crate::limit) fn wake(&self, counter: &Counter) {
        if !self.is_online() {
            counter.wake();
        } else if counter.queued() > 0 {
            self.is_full.notify_one();
        }
    }

    /// What the store has to add to its counts.
    pub(super) fn corrections(&self, used: &Used<'_>, now: Moment) -> Vec<Entry> {
        corrections(used, self.wall(now))
    }
}

/// What a request has taken of one limit, and what it has used of that.
#[derive(Debug, Clone, Copy)]
pub(in crate::limit) struct Used<'a> {
    pub(in crate::limit) applied: &'a Applied,
    /// Requests, tokens and cost.
    pub(in crate::limit) taken: [Taken; 3],
    pub(in crate::limit) used: [u64; 3],
    /// Where it was taken.
    pub(in crate::limit) by: CountedBy,
}

/// The limit's allowance of a unit.
pub(super) fn allowance(applied: &Applied, unit: Unit) -> Option<&Allowance> {
    match unit {
        Unit::Requests => applied.limit.requests.as_ref(),
        Unit::Tokens => applied.limit.tokens.as_ref(),
        Unit::Cost => applied.limit.cost.as_ref(),
        Unit::Concurrent => None,
    }
}

/// A call that shows whether the store takes scripts that write. It leaves nothing behind.
pub fn ping(prefix: &str) -> ScriptCall {
    nodes_call(prefix, 0, false)
}

/// The call that says that a gateway is there, or that it leaves.
pub(super) fn nodes_call(prefix: &str, node: u64, is_there: bool) -> ScriptCall {
    let arguments = vec![format!("{node:x}").into_bytes(), if is_there { b"1" } else { b"0" }.to_vec()];
    ScriptCall { script: &NODES, keys: vec![format!("{prefix}:nodes").into()], arguments }
}

/// This moment, by the clocks that limits use.
pub(in crate::limit) fn now() -> Moment {
    Moment { monotonic: Now::of(Instant::now()), wall: Timestamp::now() }
}
