//! How one target is doing: how much is asked of it, and its circuit breaker.
//!
//! One for each target in the process, whichever worker asks; identity is the upstream's name and the target's URL, so that a reload
//! neither closes an open breaker nor forgets what is under way. Atomics alone: no worker waits for another.

use std::{
    cell::Cell,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU32, AtomicU64, AtomicUsize, Ordering},
    },
    time::{Duration, Instant},
};

/// Results that a failure rate is taken over; fewer tell nothing.
const WINDOW: u32 = 32;

/// When a circuit opens, and for how long.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct BreakerPolicy {
    /// Failures in a row; half of the last 32 do as well.
    pub failures: u32,
    /// Nothing is asked of the target for so long; then one probe is.
    pub open: Duration,
}

/// The state of a circuit, in its standard words.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Circuit {
    /// Healthy: everything passes.
    Closed,
    /// Failing: nothing passes.
    Open,
    /// Its time is over: one probe passes, and decides.
    HalfOpen,
}

impl Circuit {
    /// For people and metrics.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Closed => "closed",
            Self::Open => "open",
            Self::HalfOpen => "half-open",
        }
    }
}

/// One target, as all workers see it.
#[derive(Debug)]
pub struct TargetState {
    epoch: Instant,
    pending: AtomicUsize,
    /// In a row.
    failures: AtomicU32,
    /// The last results, newest in the lowest bit; 1 is a failure.
    history: AtomicU32,
    /// How many of those bits mean something.
    known: AtomicU32,
    /// The target's base URL.
    name: Arc<str>,
    /// In microseconds since `epoch`, plus one; 0: closed.
    open_until: AtomicU64,
    probing: AtomicBool,
    opened: AtomicU64,
}

/// One request's place at a target: pending until it is dropped.
#[derive(Debug)]
pub struct TargetPermit {
    state: Arc<TargetState>,
    policy: Option<BreakerPolicy>,
    /// Whether a half-open circuit waits for what becomes of this one.
    probe: bool,
    /// It has told what the target did.
    judged: bool,
    /// Given up after that, it is the target that did nothing.
    due: Cell<Option<Instant>>,
    /// The caller's own limits say nothing about how fast the target has to be.
    excused: bool,
}

impl TargetState {
    /// Of the target with this base URL, of which nothing is known.
    pub fn new(name: Arc<str>) -> Self {
        Self {
            name,
            epoch: Instant::now(),
            pending: AtomicUsize::new(0),
            failures: AtomicU32::new(0),
            history: AtomicU32::new(0),
            known: AtomicU32::new(0),
            open_until: AtomicU64::new(0),
            probing: AtomicBool::new(false),
            opened: AtomicU64::new(0),
        }
    }

    /// Requests that are under way there.
    pub fn pending(&self) -> usize {
        self.pending.load(Ordering::Relaxed)
    }

    /// How often its circuit has opened.
    pub fn opened(&self) -> u64 {
        self.opened.load(Ordering::Relaxed)
    }

    /// Its circuit at `now`.
    pub fn circuit(&self, now: Instant) -> Circuit {
        match self.open_until.load(Ordering::Acquire) {
            0 => Circuit::Closed,
            until if self.since_epoch(now) < until => Circuit::Open,
            _ => Circuit::HalfOpen,
        }
    }

    /// How long its circuit stays open from `now` on.
    pub fn opens_in(&self, now: Instant) -> Option<Duration> {
        let left = self.open_until.load(Ordering::Acquire).checked_sub(self.since_epoch(now))?;
        Some(Duration::from_micros(left))
    }

    /// A place there, unless the circuit is open, or half-open with its probe under way, or `most` are pending. Without a `fuse` no
    /// circuit is heeded.
    pub fn admit(
        self: &Arc<Self>,
        policy: Option<BreakerPolicy>,
        max_pending: Option<usize>,
        now: Instant,
    ) -> Option<TargetPermit> {
        let circuit = policy.map_or(Circuit::Closed, |_| self.circuit(now));
        self.admit_to(circuit, policy, max_pending, now)
    }

    /// The same with the `circuit` that was seen.
    fn admit_to(
        self: &Arc<Self>,
        circuit: Circuit,
        policy: Option<BreakerPolicy>,
        max_pending: Option<usize>,
        now: Instant,
    ) -> Option<TargetPermit> {
        if circuit == Circuit::Open {
            return None;
        }
        let before = self.pending.fetch_add(1, Ordering::Relaxed);
        // From here on dropping it gives the place back.
        let mut permit = TargetPermit {
            state: self.clone(),
            policy,
            probe: false,
            judged: false,
            due: Cell::default(),
            excused: false,
        };
        if max_pending.is_some_and(|max_pending| before >= max_pending) {
            return None;
        }
        if circuit == Circuit::HalfOpen {
            let first = self.probing.compare_exchange(false, true, Ordering::AcqRel, Ordering::Acquire);
            first.ok()?;
            permit.probe = true;
            // Another probe may have decided since its circuit was looked at.
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

    /// Notes a result; whether half of the last ones were failures.
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
    /// The exchange, which has gone on for `elapsed`, must be over at `deadline`. A target that has more than half of its time and says
    /// nothing has failed.
    pub fn is_due(&self, deadline: Instant, elapsed: Duration) {
        let left = deadline.saturating_duration_since(Instant::now());
        self.due.set((left > elapsed && !self.excused).then_some(deadline));
    }

    /// It has begun to answer, so it is not silent.
    pub fn has_answered(&self) {
        self.due.set(None);
    }

    /// Being slow is no failure here: the limits are not the operator's.
    pub fn excuse(&mut self) {
        self.excused = true;
    }

    /// The target was too slow, at `now`.
    pub fn was_slow(&mut self, now: Instant) {
        if !self.excused {
            self.failed(now);
        }
    }

    /// The target did what was asked of it, though it may be an error of the caller's own.
    pub fn succeeded(&mut self) {
        self.judged = true;
        let state = &self.state;
        state.failures.store(0, Ordering::Release);
        state.note(false);
        // One that began before the circuit opened says nothing about how things are now.
        if std::mem::take(&mut self.probe) {
            state.close();
            state.probing.store(false, Ordering::Release);
        }
    }

    /// The target failed, at `now`.
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

/// A probe of which nothing came (its caller left) leaves the circuit half-open for the next one.
impl Drop for TargetPermit {
    fn drop(&mut self) {
        if let Some(due) = self.due.get().filter(|_| !self.judged) {
            let now = Instant::now();
            if now >= due {
                self.failed(now);
            }
        }
        self.state.pending.fetch_sub(1, Ordering::Relaxed);
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
        let mut probe = admit(&state, last).expect("a probe that told nothing makes room for another");
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
            let passed = state.admit_to(seen, Some(POLICY), None, later);
            assert_eq!(passed.is_some(), healthy);
            if let Some(mut ordinary) = passed {
                ordinary.failed(later);
                assert_eq!(state.circuit(later), Circuit::Closed, "one failure, and not a probe's");
            }
            assert_eq!(state.pending(), 0);
            // Nobody is taken for a probe under way.
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
