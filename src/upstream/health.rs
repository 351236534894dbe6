//! The state of one target: its requests in flight and its circuit breaker.
//!
//! There is one state per target in the process, whichever worker uses it. Its identity is the upstream's name and the target's
//! URL, so a reload neither closes an open breaker nor forgets requests in flight. It consists of atomics, and of the queue of requests
//! that wait for `max_pending`: no worker waits for another while that queue is empty. What failures say about the target is judged in
//! `evidence.rs`.

use std::{
    cell::Cell,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};

use super::evidence::{ACTIVE, CallerHash, Evidence, Failure, RequestHash};
use crate::{
    pause,
    wait_queue::{QueuePermit, QueueView, Room, Ticket, WaitQueue, Waiter},
};

/// When a circuit breaker opens, and for how long.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct BreakerPolicy {
    /// Consecutive failures that open it. Failures in half of the last 32 requests open it too. Failures of responses must come from more
    /// than one caller, or from the only active one with different requests.
    pub failures: u32,
    /// How long it stays open. Then one probe request decides.
    pub open: Duration,
}

/// The state of a circuit breaker.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Circuit {
    /// Healthy: all requests pass.
    Closed,
    /// Failing: no request passes.
    Open,
    /// The open time is over: one probe passes and decides.
    HalfOpen,
}

impl Circuit {
    /// The name in `/status`.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Closed => "closed",
            Self::Open => "open",
            Self::HalfOpen => "half-open",
        }
    }
}

/// The state of one target, shared by all workers.
#[derive(Debug)]
pub struct TargetState {
    epoch: Instant,
    /// Counts the requests in flight, and queues those who wait for one to end.
    pending: Arc<WaitQueue>,
    /// The sum of the hashes of the callers of the requests in flight: a multiple of one hash if they are all one caller's.
    pending_callers: AtomicU64,
    /// The caller of the newest request.
    newest_caller: AtomicU64,
    /// When the newest request came from another caller than the one before it; as `open_until`, 0: never.
    caller_changed: AtomicU64,
    /// Consecutive failures.
    failures: AtomicU32,
    evidence: Evidence,
    /// The target's base URL.
    name: Arc<str>,
    /// In microseconds since `epoch`, plus one; 0: closed.
    open_until: AtomicU64,
    probing: AtomicBool,
    /// The caller whose probe has failed while others were active, so that another caller's probe decides; 0: none.
    failed_prober: AtomicU64,
    /// Until when that caller does not probe again; as `open_until`.
    prober_waits_until: AtomicU64,
    opened: AtomicU64,
}

/// A permit for one request to a target. The request counts as pending until the permit is dropped.
#[derive(Debug)]
pub struct TargetPermit {
    state: Arc<TargetState>,
    /// Counts the request as pending, and goes to the first waiter when the request is over.
    _pending: QueuePermit,
    caller: CallerHash,
    policy: Option<BreakerPolicy>,
    /// Whether this request is the probe of a half-open circuit breaker.
    probe: bool,
    /// The result has been reported.
    judged: bool,
    /// If the request is given up after this moment, the target counts as failed.
    due: Cell<Option<Instant>>,
    /// Slowness does not count as a failure, because the caller's own timeouts apply.
    excused: bool,
}

impl TargetState {
    /// The state of a target with this base URL, without history.
    pub fn new(name: Arc<str>) -> Self {
        Self {
            name,
            epoch: Instant::now(),
            pending: Arc::default(),
            pending_callers: AtomicU64::new(0),
            newest_caller: AtomicU64::new(0),
            caller_changed: AtomicU64::new(0),
            failures: AtomicU32::new(0),
            evidence: Evidence::default(),
            open_until: AtomicU64::new(0),
            probing: AtomicBool::new(false),
            failed_prober: AtomicU64::new(0),
            prober_waits_until: AtomicU64::new(0),
            opened: AtomicU64::new(0),
        }
    }

    /// The number of requests in flight.
    pub fn pending(&self) -> usize {
        self.pending.taken()
    }

    /// The number of requests that wait for one in flight to end (`max_pending`).
    pub fn waiting(&self) -> usize {
        self.pending.waiting()
    }

    /// What waits for the target.
    pub fn queue_view(&self) -> QueueView {
        self.pending.view()
    }

    /// How often the circuit breaker has opened.
    pub fn opened(&self) -> u64 {
        self.opened.load(Ordering::Relaxed)
    }

    /// The state of the circuit breaker at `now`.
    pub fn circuit(&self, now: Instant) -> Circuit {
        match self.open_until.load(Ordering::Acquire) {
            0 => Circuit::Closed,
            until if self.since_epoch(now) < until => Circuit::Open,
            _ => Circuit::HalfOpen,
        }
    }

    /// How much longer the circuit breaker stays open from `now` on.
    pub fn opens_in(&self, now: Instant) -> Option<Duration> {
        let left = self.open_until.load(Ordering::Acquire).checked_sub(self.since_epoch(now))?;
        Some(Duration::from_micros(left))
    }

    /// Keeps requests away from the target for `span` from `now` on, because the operator says so.
    pub fn hold_open(&self, span: Duration, now: Instant) {
        let until = self.since_epoch(now).saturating_add(micros(span));
        self.failed_prober.store(0, Ordering::Release);
        if self.open_until.swap(until, Ordering::AcqRel) == 0 {
            self.opened.fetch_add(1, Ordering::Relaxed);
        }
        tracing::warn!(url = %self.name, open = ?span, "circuit breaker opened by the operator");
    }

    /// Lets requests go to the target again, because the operator says so.
    pub fn release(&self) {
        self.failures.store(0, Ordering::Release);
        self.failed_prober.store(0, Ordering::Release);
        self.evidence.clear();
        self.open_until.store(0, Ordering::Release);
        tracing::warn!(url = %self.name, "circuit breaker closed by the operator");
    }

    /// A permit for a request of `caller`, unless the circuit breaker is open, or half-open with its probe in flight, or `max_pending`
    /// requests are in flight, or others wait for one of them to end. Without a `policy` there is no circuit breaker.
    pub fn admit(
        self: &Arc<Self>,
        caller: CallerHash,
        policy: Option<BreakerPolicy>,
        max_pending: Option<usize>,
        now: Instant,
    ) -> Option<TargetPermit> {
        let circuit = self.circuit_under(policy, now);
        if circuit == Circuit::Open {
            return None;
        }
        let pending = self.pending.try_take(max_pending)?;
        self.admit_to(circuit, self.permit(caller, policy, pending), now)
    }

    /// As [`admit`](Self::admit), for a request that has waited for `pending`.
    pub fn admit_waiter(
        self: &Arc<Self>,
        caller: CallerHash,
        policy: Option<BreakerPolicy>,
        pending: QueuePermit,
        now: Instant,
    ) -> Option<TargetPermit> {
        let circuit = self.circuit_under(policy, now);
        self.admit_to(circuit, self.permit(caller, policy, pending), now)
    }

    /// Waits, in turn with other clients, until fewer than `max_pending` requests are in flight. `None` if too many wait already.
    pub fn enqueue(&self, max_pending: usize, ticket: Ticket) -> Option<Waiter> {
        self.pending.enqueue(max_pending, Room::LARGEST, ticket)
    }

    /// Charges what a request that has waited here has really used, for the turns of its client.
    pub fn correct(&self, ticket: &Ticket, used: u64) {
        self.pending.correct(ticket, used);
    }

    fn circuit_under(&self, policy: Option<BreakerPolicy>, now: Instant) -> Circuit {
        policy.map_or(Circuit::Closed, |_| self.circuit(now))
    }

    /// A permit for a request that counts as `pending`.
    fn permit(
        self: &Arc<Self>,
        caller: CallerHash,
        policy: Option<BreakerPolicy>,
        pending: QueuePermit,
    ) -> TargetPermit {
        self.pending_callers.fetch_add(caller.get(), Ordering::Relaxed);
        TargetPermit {
            state: self.clone(),
            _pending: pending,
            caller,
            policy,
            probe: false,
            judged: false,
            due: Cell::default(),
            excused: false,
        }
    }

    /// Admits with the `circuit` that was read before.
    fn admit_to(&self, circuit: Circuit, mut permit: TargetPermit, now: Instant) -> Option<TargetPermit> {
        if circuit == Circuit::Open {
            return None;
        }
        self.note_caller(permit.caller, now);
        if circuit == Circuit::HalfOpen {
            if self.must_leave_the_probe(permit.caller, now) {
                return None;
            }
            let first = self.probing.compare_exchange(false, true, Ordering::AcqRel, Ordering::Acquire);
            first.ok()?;
            permit.probe = true;
            // Another probe may have decided since the circuit was read.
            match self.circuit(now) {
                Circuit::HalfOpen => {}
                Circuit::Open => return None,
                Circuit::Closed => {
                    permit.probe = false;
                    self.probing.store(false, Ordering::Release);
                }
            }
        }
        Some(permit)
    }

    /// Notes who sends requests. The word is written only when the caller is another than before.
    fn note_caller(&self, caller: CallerHash, now: Instant) {
        let newest = self.newest_caller.load(Ordering::Relaxed);
        if newest == caller.get() {
            return;
        }
        self.newest_caller.store(caller.get(), Ordering::Relaxed);
        if newest != 0 {
            self.caller_changed.store(self.since_epoch(now), Ordering::Relaxed);
        }
    }

    /// `caller`, if it is the only one with requests in flight and the only one that has sent any recently.
    fn only_active(&self, caller: CallerHash, now: Instant) -> Option<CallerHash> {
        // Two words that change meanwhile do not fit each other, and then others count as active.
        let pending = self.pending.taken() as u64;
        let all_own = self.pending_callers.load(Ordering::Relaxed) == pending.wrapping_mul(caller.get());
        let is_newest = self.newest_caller.load(Ordering::Relaxed) == caller.get();
        let changed = self.caller_changed.load(Ordering::Relaxed);
        let long_since = changed == 0 || changed.saturating_add(micros(ACTIVE)) <= self.since_epoch(now);
        (all_own && is_newest && long_since).then_some(caller)
    }

    /// Whether another caller's probe is to decide, because this caller's has failed.
    fn must_leave_the_probe(&self, caller: CallerHash, now: Instant) -> bool {
        self.failed_prober.load(Ordering::Acquire) == caller.get()
            && self.since_epoch(now) < self.prober_waits_until.load(Ordering::Acquire)
    }

    /// Whether the failed probe of `caller` decides. The probe may be a request that can never succeed, so while others are active it takes
    /// two callers' probes.
    fn probe_decides(&self, caller: CallerHash, failure: Failure, now: Instant) -> bool {
        let before = self.failed_prober.load(Ordering::Acquire);
        failure == Failure::Connection
            || self.only_active(caller, now).is_some()
            || (before != 0 && before != caller.get())
    }

    /// Leaves the circuit breaker half-open for the probe of another caller.
    fn leave_to_others(&self, caller: CallerHash, span: Duration, now: Instant) {
        let until = self.since_epoch(now).saturating_add(micros(span));
        self.prober_waits_until.store(until, Ordering::Release);
        self.failed_prober.store(caller.get(), Ordering::Release);
    }

    fn since_epoch(&self, now: Instant) -> u64 {
        micros(now.saturating_duration_since(self.epoch)).saturating_add(1)
    }

    fn close(&self) {
        self.failures.store(0, Ordering::Release);
        self.failed_prober.store(0, Ordering::Release);
        self.evidence.clear();
        if self.open_until.swap(0, Ordering::AcqRel) != 0 {
            tracing::info!(url = %self.name, "circuit breaker closed: the target responds again");
        }
    }

    fn open(&self, span: Duration, now: Instant) {
        let until = self.since_epoch(now).saturating_add(micros(span));
        self.failed_prober.store(0, Ordering::Release);
        if self.open_until.swap(until, Ordering::AcqRel) == 0 {
            self.opened.fetch_add(1, Ordering::Relaxed);
            tracing::warn!(url = %self.name, open = ?span, "circuit breaker opened: no requests to the target until one probe succeeds");
        }
    }
}

impl TargetPermit {
    /// Sets the deadline of the exchange, which has taken `elapsed` so far. A target that has more than half of the time and
    /// sends nothing until the deadline has failed.
    pub fn is_due(&self, deadline: Instant, elapsed: Duration) {
        let left = deadline.saturating_duration_since(Instant::now());
        self.due.set((left > elapsed && !self.excused).then_some(deadline));
    }

    /// The target has begun to respond, so the deadline no longer applies.
    pub fn has_answered(&self) {
        self.due.set(None);
    }

    /// From now on slowness does not count as a failure: the timeouts are not the operator's.
    pub fn excuse(&mut self) {
        self.excused = true;
    }

    /// Reports at `now` that the target was too slow for this request. False if that does not count.
    pub fn was_slow(&mut self, failure: Failure, now: Instant) -> bool {
        if self.excused {
            return false;
        }
        self.failed(failure, now);
        true
    }

    /// Reports that the target has responded. If it was reported as slow before, that stands.
    pub fn responded(&mut self) {
        if !self.judged {
            self.succeeded();
        }
    }

    /// Reports a success: the target handled the request, even if it returned an error that the caller caused.
    pub fn succeeded(&mut self) {
        self.judged = true;
        let state = &self.state;
        state.failures.store(0, Ordering::Release);
        state.evidence.succeeded(self.caller);
        // A request that began before the breaker opened says nothing about the target's state now.
        if std::mem::take(&mut self.probe) {
            state.close();
            state.probing.store(false, Ordering::Release);
        }
    }

    /// Reports a failure at `now`.
    pub fn failed(&mut self, failure: Failure, now: Instant) {
        self.judged = true;
        let state = &self.state;
        let failures = state.failures.fetch_add(1, Ordering::AcqRel).saturating_add(1);
        state.evidence.failed(self.caller, failure);
        let Some(policy) = self.policy else { return };
        if std::mem::take(&mut self.probe) {
            if state.probe_decides(self.caller, failure, now) {
                state.open(policy.open, now);
            } else {
                state.leave_to_others(self.caller, policy.open, now);
            }
            state.probing.store(false, Ordering::Release);
            return;
        }
        let only_active = state.only_active(self.caller, now);
        let condemned = state.evidence.condemns_run(failures as usize, policy.failures as usize, only_active)
            || state.evidence.condemns_rate(only_active);
        if condemned && state.circuit(now) == Circuit::Closed {
            state.open(policy.open, now);
        }
    }

    /// Reports another failure of a request that has failed here before: it is no further evidence, unless it is the probe.
    pub fn failed_again(&mut self, failure: Failure, now: Instant) {
        self.judged = true;
        if self.probe {
            self.failed(failure, now);
        }
    }
}

fn micros(span: Duration) -> u64 {
    u64::try_from(span.as_micros()).unwrap_or(u64::MAX)
}

/// A probe without a result (its client left) leaves the circuit breaker half-open for the next one.
impl Drop for TargetPermit {
    fn drop(&mut self) {
        if let Some(due) = self.due.get().filter(|_| !self.judged) {
            let now = Instant::now();
            // What was late because the process was paused says nothing about the target.
            if now >= due + pause::lost_since(due) {
                // Nothing is known of the request any more; that it differs from the others is likely.
                let moment = self.state.since_epoch(now).to_le_bytes();
                self.failed(Failure::Response(RequestHash::unique(&moment)), now);
            }
        }
        self.state.pending_callers.fetch_sub(self.caller.get(), Ordering::Relaxed);
        if self.probe {
            self.state.probing.store(false, Ordering::Release);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const POLICY: BreakerPolicy = BreakerPolicy { failures: 3, open: Duration::from_secs(10) };

    fn admit(state: &Arc<TargetState>, now: Instant) -> Option<TargetPermit> {
        state.admit(caller(b"a"), Some(POLICY), None, now)
    }

    fn caller(name: &[u8]) -> CallerHash {
        CallerHash::of(name)
    }

    fn fail(state: &Arc<TargetState>, times: usize, now: Instant) {
        (0..times).for_each(|_| admit(state, now).unwrap().failed(Failure::Connection, now));
    }

    /// A response to a request of `name` that is like no other has failed.
    fn respond_badly(state: &Arc<TargetState>, name: &[u8], number: usize, now: Instant) {
        let mut permit = state.admit(caller(name), Some(POLICY), None, now).unwrap();
        permit.failed(Failure::Response(RequestHash::unique(&number.to_le_bytes())), now);
    }

    #[test]
    fn failures_in_a_row_open_it_and_one_probe_decides() {
        let state = Arc::new(TargetState::new("http://target".into()));
        let now = Instant::now();
        fail(&state, 2, now);
        admit(&state, now).unwrap().succeeded();
        fail(&state, 2, now);
        assert_eq!(state.circuit(now), Circuit::Closed, "they were not in a row");
        fail(&state, 1, now);
        assert_eq!((state.circuit(now), state.opened()), (Circuit::Open, 1));
        assert!(admit(&state, now).is_none());
        assert_eq!(state.opens_in(now), Some(POLICY.open));

        let later = now + POLICY.open;
        assert_eq!(state.circuit(later), Circuit::HalfOpen);
        let mut probe = admit(&state, later).unwrap();
        assert!(admit(&state, later).is_none(), "one at a time");
        probe.failed(Failure::Connection, later);
        assert_eq!(state.circuit(later), Circuit::Open);
        let last = later + POLICY.open;
        drop(admit(&state, last).unwrap());
        let mut probe = admit(&state, last).expect("a probe without a result makes room for another");
        probe.succeeded();
        assert_eq!((state.circuit(last), state.opened()), (Circuit::Closed, 1));
        assert!(admit(&state, last).is_some());
    }

    /// Another worker's probe has decided between the look at the circuit and the claim to be the probe.
    #[test]
    fn what_a_probe_has_decided_holds_for_who_saw_the_circuit_before() {
        for healthy in [false, true] {
            let state = Arc::new(TargetState::new("http://target".into()));
            let now = Instant::now();
            fail(&state, 3, now);
            let later = now + POLICY.open;
            let seen = state.circuit(later);
            let mut probe = admit(&state, later).unwrap();
            if healthy {
                probe.succeeded();
            } else {
                probe.failed(Failure::Connection, later);
            }
            drop(probe);
            let pending = state.pending.try_take(None).unwrap();
            let passed = state.admit_to(seen, state.permit(caller(b"a"), Some(POLICY), pending), later);
            assert_eq!(passed.is_some(), healthy);
            if let Some(mut ordinary) = passed {
                ordinary.failed(Failure::Connection, later);
                assert_eq!(state.circuit(later), Circuit::Closed, "one failure, and not a probe's");
            }
            assert_eq!(state.pending(), 0);
            // No other request counts as the probe in flight.
            let last = later + POLICY.open;
            assert!(admit(&state, last).is_some());
        }
    }

    #[test]
    fn half_of_many_open_it_too() {
        let state = Arc::new(TargetState::new("http://target".into()));
        let now = Instant::now();
        for _ in 0..32 {
            assert_eq!(state.circuit(now), Circuit::Closed);
            admit(&state, now).unwrap().succeeded();
            fail(&state, 1, now);
            if state.circuit(now) == Circuit::Open {
                return;
            }
        }
        panic!("it never opened");
    }

    #[test]
    fn a_target_that_responds_late_was_slow() {
        let state = Arc::new(TargetState::new("http://target".into()));
        let now = Instant::now();
        fail(&state, 2, now);
        let mut late = admit(&state, now).unwrap();
        late.was_slow(Failure::Connection, now);
        late.responded();
        assert_eq!(state.circuit(now), Circuit::Open, "the third failure stands");
        let mut timely = admit(&state, now + POLICY.open).unwrap();
        timely.responded();
        assert_eq!(state.circuit(now + POLICY.open), Circuit::Closed);
    }

    #[test]
    fn what_is_pending_is_given_back_and_bounded() {
        let state = Arc::new(TargetState::new("http://target".into()));
        let now = Instant::now();
        let first = state.admit(caller(b"a"), None, Some(2), now).unwrap();
        let second = state.admit(caller(b"a"), None, Some(2), now).unwrap();
        assert!(state.admit(caller(b"a"), None, Some(2), now).is_none());
        assert_eq!(state.pending(), 2);
        drop((first, second));
        assert_eq!(state.pending(), 0);
    }

    #[test]
    fn without_a_fuse_nothing_is_heeded() {
        let state = Arc::new(TargetState::new("http://target".into()));
        let now = Instant::now();
        fail(&state, 3, now);
        let mut permit = state.admit(caller(b"a"), None, None, now).unwrap();
        (0..10).for_each(|_| permit.failed(Failure::Connection, now));
        assert_eq!(state.opened(), 1);
    }

    #[test]
    fn an_answer_from_before_does_not_close_it() {
        let state = Arc::new(TargetState::new("http://target".into()));
        let now = Instant::now();
        let mut old = admit(&state, now).unwrap();
        fail(&state, 3, now);
        old.succeeded();
        assert_eq!(state.circuit(now), Circuit::Open);
    }

    #[test]
    fn one_callers_failed_responses_open_nothing_while_others_are_active() {
        let state = Arc::new(TargetState::new("http://target".into()));
        let now = Instant::now();
        // A stream that goes on.
        let stream = state.admit(caller(b"other"), Some(POLICY), None, now).unwrap();
        let later = now + ACTIVE * 2;
        (0..100).for_each(|number| respond_badly(&state, b"a", number, later));
        assert_eq!(state.circuit(later), Circuit::Closed);
        drop(stream);
        respond_badly(&state, b"a", 100, later);
        assert_eq!(state.circuit(later), Circuit::Closed, "the other has sent a request before a");
        respond_badly(&state, b"a", 101, later + ACTIVE);
        assert_eq!(state.circuit(later + ACTIVE), Circuit::Open, "now no other caller is active");
    }

    #[test]
    fn a_request_that_is_sent_seldom_counts_as_active() {
        let state = Arc::new(TargetState::new("http://target".into()));
        let start = Instant::now();
        for seconds in 0..600 {
            let now = start + Duration::from_secs(seconds);
            respond_badly(&state, b"a", seconds as usize, now);
            if seconds % 50 == 0 {
                let permit = state.admit(caller(b"other"), Some(POLICY), None, now);
                permit.expect("it is not refused").succeeded();
            }
        }
        assert_eq!(state.opened(), 0);
    }

    #[test]
    fn a_failed_probe_of_one_caller_leaves_the_decision_to_another() {
        for healthy in [true, false] {
            let state = Arc::new(TargetState::new("http://target".into()));
            let now = Instant::now();
            let later = now + POLICY.open;
            (0..2).for_each(|number| respond_badly(&state, b"a", number, now));
            respond_badly(&state, b"other", 2, now);
            assert_eq!(state.circuit(now), Circuit::Open);
            respond_badly(&state, b"a", 3, later);
            assert_eq!(state.circuit(later), Circuit::HalfOpen);
            assert!(admit(&state, later).is_none(), "`a` has had its turn");
            assert!(admit(&state, later + POLICY.open).is_some(), "unless no other caller comes");
            let mut probe = state.admit(caller(b"other"), Some(POLICY), None, later).unwrap();
            if healthy {
                probe.succeeded();
            } else {
                probe.failed(Failure::Response(RequestHash::unique(b"")), later);
            }
            assert_eq!(state.circuit(later), if healthy { Circuit::Closed } else { Circuit::Open });
        }
    }

    #[test]
    fn attempts_of_one_request_are_one_piece_of_evidence() {
        let state = Arc::new(TargetState::new("http://target".into()));
        let now = Instant::now();
        fail(&state, 1, now);
        (0..10).for_each(|_| admit(&state, now).unwrap().failed_again(Failure::Connection, now));
        fail(&state, 1, now);
        assert_eq!(state.circuit(now), Circuit::Closed);
        fail(&state, 1, now);
        let later = now + POLICY.open;
        admit(&state, later).unwrap().failed_again(Failure::Connection, later);
        assert_eq!(state.circuit(later), Circuit::Open, "a probe decides in any case");
    }
}
