//! The cooldowns and the outage of one upstream key.
//!
//! A *cooldown* keeps requests away from a key: for one model while a rate limit lasts, for all models while the key is refused or its
//! credit is spent. The latter is an *outage*: it begins with a failure, and only a response ends it. A key with an outage may also stay in
//! use, because a route has nothing else.

use std::{
    collections::HashMap,
    sync::{
        Mutex, MutexGuard, PoisonError,
        atomic::{AtomicUsize, Ordering},
    },
    time::{Duration, Instant},
};

use super::quota::Quota;

/// Models for which one key may be in cooldown at the same time. With more, the key is in cooldown for all models.
pub(super) const MAX_MODELS: usize = 64;

/// The cooldown of a key whose rate limit is reached, when the upstream does not say for how long.
const RATE_LIMITED: Duration = Duration::from_secs(1);
/// The longest cooldown for a rate limit. An upstream may ask for a day and recover in a minute.
const LONGEST_LIMIT: Duration = Duration::from_secs(600);
/// The first cooldown of an outage for which the upstream names no end. It doubles with each failure of a probe.
const FIRST_OUTAGE: Duration = Duration::from_secs(60);
/// The longest cooldown of an outage for which the upstream names no end.
const LONGEST_UNNAMED_OUTAGE: Duration = Duration::from_secs(15 * 60);
/// The longest cooldown of an outage, whatever end the upstream names: an operator may add credit long before a month is over.
const LONGEST_OUTAGE: Duration = Duration::from_secs(24 * 3600);

/// How long the first request after a rate limit goes ahead of the others, unless its response comes sooner: an upstream rejects at once,
/// and takes its time only for a request that it accepted.
const LEAD: Duration = Duration::from_secs(1);
/// When to look again at a key that a probe is testing.
const PROBE_CHECK: Duration = Duration::from_secs(1);

/// An outage that begins sooner than this after another one was reported is not reported again.
const REPORT_AGAIN: Duration = Duration::from_secs(60);

/// What a cooldown applies to.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum Cooldown {
    /// One model: its rate limit has been reached.
    Model(Box<str>),
    /// Everything.
    All(CooldownReason),
}

/// Why a key is in cooldown.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum CooldownReason {
    /// A rate limit has been reached.
    Limited,
    /// Its quota is spent.
    Spent,
    /// The upstream rejects the key.
    Refused,
}

/// A failed attempt, as far as it concerns the attempt's key.
#[derive(Debug, Clone)]
pub struct KeyFailure {
    /// What the key is not to be used for.
    pub what: Cooldown,
    /// The wait that the upstream named.
    pub named: Option<Duration>,
    /// Whether other requests are kept away from the key. They are not where nothing could serve them instead.
    pub takes_out: bool,
}

/// The result of noting a failure.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Noted {
    /// How long the key is in cooldown from now on; `None`: no cooldown has begun.
    pub cooldown: Option<Duration>,
    /// Whether an outage has begun that must be reported to the operator.
    pub report: bool,
}

/// Whether a key may be used.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Availability {
    Free,
    /// One request may probe whether its outage is over.
    Probe,
    CoolingDown {
        until: Instant,
        why: CooldownReason,
    },
}

/// What a permit for a key has claimed.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Claim {
    /// It is the probe of an outage.
    pub(super) probe: bool,
    /// It is the first request after a rate limit, and others wait for its result.
    pub(super) lead: bool,
}

/// What a success has ended.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Ended {
    /// A rate limit.
    pub(super) limit: bool,
    /// An outage.
    pub(super) outage: bool,
    /// The outage was reported to the operator.
    pub(super) report: bool,
}

/// The state of one key. There is one per key in the process, and it survives reloads.
#[derive(Debug, Default)]
pub(super) struct KeyState {
    /// The number of cooldowns and outages: most keys have none, and need no lock.
    noted: AtomicUsize,
    /// What the provider says of the key's quota.
    pub(super) quota: Quota,
    inner: Mutex<Inner>,
}

#[derive(Debug, Default)]
struct Inner {
    /// At most [`MAX_MODELS`] models, and one for all of them.
    limits: HashMap<Cooldown, Limit>,
    outage: Option<Outage>,
    /// When an outage was last reported to the operator.
    reported: Option<Instant>,
}

/// A rate limit.
#[derive(Debug)]
struct Limit {
    until: Instant,
    /// A request that waited for the end of the limit is testing whether it is over.
    lead: bool,
}

#[derive(Debug)]
struct Outage {
    reason: CooldownReason,
    /// The last failure. Attempts that began before it say nothing new.
    since: Instant,
    /// The end of the cooldown; `None`: the key stays in use.
    until: Option<Instant>,
    /// Cooldowns so far.
    cooldowns: u32,
    probing: bool,
    reported: bool,
}

impl Cooldown {
    /// The reason of the cooldown.
    pub fn why(&self) -> CooldownReason {
        match self {
            Self::Model(_) => CooldownReason::Limited,
            Self::All(why) => *why,
        }
    }

    /// Whether the cooldown applies to a request for `model`.
    pub(super) fn concerns(&self, model: Option<&str>) -> bool {
        match self {
            Self::All(_) => true,
            Self::Model(own) => model == Some(own),
        }
    }
}

impl CooldownReason {
    /// The label in metrics.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Limited => "rate_limited",
            Self::Spent => "quota_spent",
            Self::Refused => "refused",
        }
    }
}

impl KeyState {
    /// Whether the key may be used for `model` at `now`. If the key's next turn is `reserved` for requests in the queue, a limit that is over
    /// still counts.
    pub(super) fn look(&self, model: Option<&str>, now: Instant, reserved: bool) -> Availability {
        if self.noted.load(Ordering::Acquire) == 0 {
            return Availability::Free;
        }
        self.lock().look(model, now, reserved)
    }

    /// Claims the key for a request that does not wait in the queue.
    pub(super) fn claim(
        &self,
        model: Option<&str>,
        now: Instant,
        reserved: bool,
    ) -> Result<Claim, (Instant, CooldownReason)> {
        if self.noted.load(Ordering::Acquire) == 0 {
            return Ok(Claim::default());
        }
        let mut inner = self.lock();
        let availability = inner.look(model, now, reserved);
        if let Availability::CoolingDown { until, why } = availability {
            return Err((until, why));
        }
        inner.limits.retain(|what, limit| limit.until > now || !what.concerns(model));
        let probe = availability == Availability::Probe;
        inner.begin_probe(probe);
        self.count(&inner);
        Ok(Claim { probe, lead: false })
    }

    /// Claims the key for the first request in the queue. Until the result of its attempt, or for [`LEAD`], the others wait.
    pub(super) fn claim_first(&self, model: Option<&str>, now: Instant) -> Option<Claim> {
        let mut inner = self.lock();
        let availability = inner.look(model, now, false);
        if matches!(availability, Availability::CoolingDown { .. }) {
            return None;
        }
        let probe = availability == Availability::Probe;
        inner.begin_probe(probe);
        let what = model.map(|model| Cooldown::Model(model.into()));
        let what = what.filter(|what| inner.has_room_for(what, now));
        let lead = what.is_some();
        inner.limits.extend(what.map(|what| (what, Limit { until: now + LEAD, lead: true })));
        self.count(&inner);
        Some(Claim { probe, lead })
    }

    /// Notes at `now` that an attempt failed which had the key from `taken` on.
    pub(super) fn fail(&self, failure: KeyFailure, claim: Claim, taken: Instant, now: Instant) -> Noted {
        let mut inner = self.lock();
        let is_new = claim.probe || inner.is_new(taken);
        let noted = match failure.what.why() {
            CooldownReason::Limited => Noted { cooldown: inner.limit(failure, claim, now), report: false },
            reason => inner.fail(reason, &failure, is_new, now),
        };
        self.count(&inner);
        noted
    }

    /// Notes that an attempt for `model` succeeded which had the key from `taken` on.
    pub(super) fn succeed(&self, model: Option<&str>, claim: Claim, taken: Instant) -> Ended {
        if self.noted.load(Ordering::Acquire) == 0 {
            return Ended::default();
        }
        let mut inner = self.lock();
        let before = inner.limits.len();
        inner.limits.retain(|what, limit| !(claim.lead && limit.lead && what.concerns(model)));
        let is_new = claim.probe || inner.is_new(taken);
        let outage = inner.outage.take_if(|_| is_new);
        self.count(&inner);
        Ended {
            limit: inner.limits.len() < before,
            outage: outage.is_some(),
            report: outage.is_some_and(|outage| outage.reported),
        }
    }

    /// Gives a claim back that has no result.
    pub(super) fn give_back(&self, model: Option<&str>, claim: Claim) {
        let mut inner = self.lock();
        inner.limits.retain(|what, limit| !(claim.lead && limit.lead && what.concerns(model)));
        if let Some(outage) = inner.outage.as_mut().filter(|_| claim.probe) {
            outage.probing = false;
        }
        self.count(&inner);
    }

    /// Whether requests are kept away from the key at `now`, for any model.
    pub(super) fn is_cooling_down(&self, now: Instant) -> bool {
        let inner = self.lock();
        let is_out = inner.outage.as_ref().is_some_and(|outage| outage.until.is_some());
        is_out || inner.limits.values().any(|limit| limit.until > now)
    }

    /// Whether the key has an outage: the upstream refuses it, or its credit is spent. A rate limit is none.
    pub(super) fn is_out(&self) -> bool {
        self.lock().outage.is_some()
    }

    fn count(&self, inner: &Inner) {
        self.noted.store(inner.limits.len() + usize::from(inner.outage.is_some()), Ordering::Release);
    }

    /// Nothing panics while it holds the lock.
    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Inner {
    fn look(&self, model: Option<&str>, now: Instant, reserved: bool) -> Availability {
        let limits = self.limits.iter().filter(|(what, _)| what.concerns(model));
        let limits = limits.filter(|(_, limit)| reserved || limit.until > now);
        let limit = limits.map(|(_, limit)| (limit.until.max(now), CooldownReason::Limited)).max();
        let (outage, probe) = match &self.outage {
            Some(outage) => outage.look(now),
            None => (None, false),
        };
        match limit.max(outage) {
            Some((until, why)) => Availability::CoolingDown { until, why },
            None if probe => Availability::Probe,
            None => Availability::Free,
        }
    }

    fn begin_probe(&mut self, probe: bool) {
        if let Some(outage) = self.outage.as_mut().filter(|_| probe) {
            outage.probing = true;
        }
    }

    /// Whether an attempt that had the key from `taken` on says something about the outage, if there is one.
    fn is_new(&self, taken: Instant) -> bool {
        self.outage.as_ref().is_none_or(|outage| taken >= outage.since)
    }

    fn has_room_for(&mut self, what: &Cooldown, now: Instant) -> bool {
        if self.limits.len() >= MAX_MODELS {
            self.limits.retain(|_, limit| limit.until > now);
        }
        self.limits.len() < MAX_MODELS || self.limits.contains_key(what)
    }

    fn limit(&mut self, failure: KeyFailure, claim: Claim, now: Instant) -> Option<Duration> {
        let KeyFailure { what, named, takes_out } = failure;
        if claim.lead {
            self.limits.retain(|own, limit| !(limit.lead && *own == what));
        }
        let span = named.unwrap_or(RATE_LIMITED).min(LONGEST_LIMIT);
        if !takes_out || span.is_zero() {
            return None;
        }
        let what = if self.has_room_for(&what, now) { what } else { Cooldown::All(CooldownReason::Limited) };
        let limit = self.limits.entry(what).or_insert(Limit { until: now, lead: false });
        limit.until = limit.until.max(now + span);
        limit.lead = false;
        Some(span)
    }

    /// Begins an outage or, if the failure `is_new`, prolongs it.
    fn fail(&mut self, reason: CooldownReason, failure: &KeyFailure, is_new: bool, now: Instant) -> Noted {
        if !is_new {
            return Noted::default();
        }
        let begins = self.outage.is_none();
        let is_due = self.reported.is_none_or(|last| now.saturating_duration_since(last) >= REPORT_AGAIN);
        let report = begins && is_due;
        let outage = self.outage.get_or_insert(Outage {
            reason,
            since: now,
            until: None,
            cooldowns: 0,
            probing: false,
            reported: report,
        });
        (outage.reason, outage.since, outage.probing) = (reason, now, false);
        let cooldown = failure.takes_out.then(|| outage.cool_down(failure.named, now));
        if report {
            self.reported = Some(now);
        }
        Noted { cooldown, report }
    }
}

impl Outage {
    /// The end of the cooldown and its reason, and whether a probe may go instead.
    fn look(&self, now: Instant) -> (Option<(Instant, CooldownReason)>, bool) {
        let Some(until) = self.until else { return (None, false) };
        if until > now {
            return (Some((until, self.reason)), false);
        }
        if self.probing {
            return (Some((now + PROBE_CHECK, self.reason)), false);
        }
        (None, true)
    }

    fn cool_down(&mut self, named: Option<Duration>, now: Instant) -> Duration {
        let doubled = FIRST_OUTAGE.saturating_mul(1 << self.cooldowns.min(16)).min(LONGEST_UNNAMED_OUTAGE);
        self.cooldowns += 1;
        let span = named.map_or(doubled, |named| named.min(LONGEST_OUTAGE));
        self.until = Some(now + span);
        span
    }
}
