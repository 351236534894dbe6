//! The state of one target: its requests in flight and its circuit breaker.
//!
//! There is one state per target in the process, whichever worker uses it. Its identity is the upstream's name and the target's
//! URL, so a reload neither closes an open breaker nor forgets requests in flight. It consists of atomics, and of the queue of those
//! who wait for `max_pending`: no worker waits for another while nobody queues.

use std::{
    cell::Cell,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};

use crate::pause;

use super::wait_queue::{FlowKey, QueuePermit, WaitQueue, Waiter};

/// Results that the failure rate is computed over; with fewer results there is no rate.
const WINDOW: u32 = 32;

/// When a circuit breaker opens, and for how long.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct BreakerPolicy {
    /// Consecutive failures that open it. Failures in half of the last 32 requests open it too.
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
    /// Consecutive failures.
    failures: AtomicU32,
    /// The last results, the newest in the lowest bit; 1 is a failure.
    history: AtomicU32,
    /// The number of valid bits in `history`.
    known: AtomicU32,
    /// The target's base URL.
    name: Arc<str>,
    /// In microseconds since `epoch`, plus one; 0: closed.
    open_until: AtomicU64,
    probing: AtomicBool,
    opened: AtomicU64,
}

/// A permit for one request to a target. The request counts as pending until the permit is dropped.
#[derive(Debug)]
pub struct TargetPermit {
    state: Arc<TargetState>,
    /// Counts the request as pending, and goes to the first waiter when the request is over.
    _pending: QueuePermit,
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
            failures: AtomicU32::new(0),
            history: AtomicU32::new(0),
            known: AtomicU32::new(0),
            open_until: AtomicU64::new(0),
            probing: AtomicBool::new(false),
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

    /// A permit, unless the circuit breaker is open, or half-open with its probe in flight, or `max_pending` requests are in
    /// flight, or others wait for one of them to end. Without a `policy` there is no circuit breaker.
    pub fn admit(
        self: &Arc<Self>,
        policy: Option<BreakerPolicy>,
        max_pending: Option<usize>,
        now: Instant,
    ) -> Option<TargetPermit> {
        let circuit = self.circuit_under(policy, now);
        if circuit == Circuit::Open {
            return None;
        }
        let pending = self.pending.try_take(max_pending)?;
        self.admit_to(circuit, policy, pending, now)
    }

    /// As [`admit`](Self::admit), for a request that has waited for `pending`.
    pub fn admit_waiter(
        self: &Arc<Self>,
        policy: Option<BreakerPolicy>,
        pending: QueuePermit,
        now: Instant,
    ) -> Option<TargetPermit> {
        self.admit_to(self.circuit_under(policy, now), policy, pending, now)
    }

    /// Waits, in turn with other flows, until fewer than `max_pending` requests are in flight. `None` if too many wait already.
    pub fn enqueue(&self, max_pending: usize, flow: FlowKey) -> Option<Waiter> {
        self.pending.enqueue(max_pending, flow)
    }

    fn circuit_under(&self, policy: Option<BreakerPolicy>, now: Instant) -> Circuit {
        policy.map_or(Circuit::Closed, |_| self.circuit(now))
    }

    /// With the `circuit` that was read before.
    fn admit_to(
        self: &Arc<Self>,
        circuit: Circuit,
        policy: Option<BreakerPolicy>,
        pending: QueuePermit,
        now: Instant,
    ) -> Option<TargetPermit> {
        if circuit == Circuit::Open {
            return None;
        }
        let mut permit = TargetPermit {
            state: self.clone(),
            _pending: pending,
            policy,
            probe: false,
            judged: false,
            due: Cell::default(),
            excused: false,
        };
        if circuit == Circuit::HalfOpen {
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

    fn since_epoch(&self, now: Instant) -> u64 {
        let span = now.saturating_duration_since(self.epoch);
        u64::try_from(span.as_micros()).unwrap_or(u64::MAX - 1) + 1
    }

    /// Records a result. Returns whether half of the last results were failures.
    fn note(&self, failed: bool) -> bool {
        let shift = |history| Some(history << 1 | u32::from(failed));
        let history =
            self.history.fetch_update(Ordering::AcqRel, Ordering::Acquire, shift).unwrap_or_default();
        let more = |known: u32| (known < WINDOW).then(|| known + 1);
        let full = self.known.fetch_update(Ordering::AcqRel, Ordering::Acquire, more).is_err();
        let failures = (history << 1 | u32::from(failed)).count_ones();
        full && failures * 2 >= WINDOW
    }

    fn close(&self) {
        self.failures.store(0, Ordering::Release);
        self.known.store(0, Ordering::Release);
        if self.open_until.swap(0, Ordering::AcqRel) != 0 {
            tracing::info!(url = %self.name, "circuit breaker closed: the target responds again");
        }
    }

    fn open(&self, span: Duration, now: Instant) {
        let until = self.since_epoch(now).saturating_add(u64::try_from(span.as_micros()).unwrap_or(u64::MAX));
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

    /// Reports at `now` that the target was too slow.
    pub fn was_slow(&mut self, now: Instant) {
        if !self.excused {
            self.failed(now);
        }
    }

    /// Reports a success: the target handled the request, even if it returned an error that the caller caused.
    pub fn succeeded(&mut self) {
        self.judged = true;
        let state = &self.state;
        state.failures.store(0, Ordering::Release);
        state.note(false);
        // A request that began before the breaker opened says nothing about the target's state now.
        if std::mem::take(&mut self.probe) {
            state.close();
            state.probing.store(false, Ordering::Release);
        }
    }

    /// Reports a failure at `now`.
    pub fn failed(&mut self, now: Instant) {
        self.judged = true;
        let state = &self.state;
        let failures = state.failures.fetch_add(1, Ordering::AcqRel).saturating_add(1);
        let often = state.note(true);
        let Some(policy) = self.policy else { return };
        if std::mem::take(&mut self.probe) {
            state.open(policy.open, now);
            state.probing.store(false, Ordering::Release);
        } else if state.circuit(now) == Circuit::Closed && (failures >= policy.failures || often) {
            state.open(policy.open, now);
        }
    }
}

/// A probe without a result (its client left) leaves the circuit breaker half-open for the next one.
impl Drop for TargetPermit {
    fn drop(&mut self) {
        if let Some(due) = self.due.get().filter(|_| !self.judged) {
            let now = Instant::now();
            // What was late because the process was paused says nothing about the target.
            if now >= due + pause::lost_since(due) {
                self.failed(now);
            }
        }
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
        state.admit(Some(POLICY), None, now)
    }

    fn fail(state: &Arc<TargetState>, times: usize, now: Instant) {
        (0..times).for_each(|_| admit(state, now).unwrap().failed(now));
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
        probe.failed(later);
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
                probe.failed(later);
            }
            drop(probe);
            let pending = state.pending.try_take(None).unwrap();
            let passed = state.admit_to(seen, Some(POLICY), pending, later);
            assert_eq!(passed.is_some(), healthy);
            if let Some(mut ordinary) = passed {
                ordinary.failed(later);
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
        for _ in 0..WINDOW {
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
    fn what_is_pending_is_given_back_and_bounded() {
        let state = Arc::new(TargetState::new("http://target".into()));
        let now = Instant::now();
        let first = state.admit(None, Some(2), now).unwrap();
        let second = state.admit(None, Some(2), now).unwrap();
        assert!(state.admit(None, Some(2), now).is_none());
        assert_eq!(state.pending(), 2);
        drop((first, second));
        assert_eq!(state.pending(), 0);
    }

    #[test]
    fn without_a_fuse_nothing_is_heeded() {
        let state = Arc::new(TargetState::new("http://target".into()));
        let now = Instant::now();
        fail(&state, 3, now);
        let mut permit = state.admit(None, None, now).unwrap();
        (0..10).for_each(|_| permit.failed(now));
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
}
