//! The keys of an upstream: which is used next, and which are in cooldown.

use std::{
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::Instant,
};

use http::HeaderValue;

use super::{
    key_queue::KeyQueue,
    key_state::{Availability, Claim, CooldownReason, KeyFailure, KeyState, Noted},
};

/// The upstream keys of one pool, as the header values that carry them.
#[derive(Debug, Default)]
pub struct KeyRing {
    keys: Vec<Key>,
    next: AtomicUsize,
    queue: Arc<KeyQueue>,
}

/// One upstream key.
#[derive(Debug, Clone)]
pub struct Key {
    value: HeaderValue,
    state: Arc<KeyState>,
}

/// The use of a key for one attempt. A probe without a result makes room for another one when this is dropped.
#[derive(Debug)]
pub struct KeyPermit {
    key: Key,
    taken: Instant,
    /// Nearly all attempts have claimed nothing.
    claim: Option<Box<Claimed>>,
}

/// What an attempt has claimed, and who is to know of its result.
#[derive(Debug)]
struct Claimed {
    claim: Claim,
    model: Option<Box<str>>,
    queue: Arc<KeyQueue>,
}

/// The result of a selection.
#[derive(Debug)]
pub enum Pick {
    /// The upstream needs no key.
    Unneeded,
    /// This one.
    Key(KeyPermit),
    /// All keys are in cooldown.
    CoolingDown {
        /// The earliest end of a cooldown.
        until: Instant,
        /// The reason of that cooldown.
        why: CooldownReason,
    },
    /// All keys have been used.
    AllUsed,
}

/// The end of a wait in the queue.
#[derive(Debug)]
pub enum Turn {
    /// The first free key.
    Key(KeyPermit),
    /// The keys need not be waited for any more.
    Released,
    /// No key becomes free in time.
    TooLate,
}

impl KeyRing {
    /// A ring of these values. Each is marked sensitive, so that it is neither printed nor put into HTTP/2's header table. A key
    /// that `previous` has too keeps its cooldowns.
    pub fn new(values: Vec<HeaderValue>, previous: Option<&Self>) -> Self {
        let known = |value: &HeaderValue| {
            previous.into_iter().flat_map(|ring| &ring.keys).find(|key| key.value == value).cloned()
        };
        let key = |mut value: HeaderValue| {
            value.set_sensitive(true);
            known(&value).unwrap_or_else(|| Key { value, state: Arc::default() })
        };
        let queue = previous.map(|ring| ring.queue.clone()).unwrap_or_default();
        Self { keys: values.into_iter().map(key).collect(), next: AtomicUsize::new(0), queue }
    }

    /// The number of the key, in the order of the configuration, from 1.
    pub fn number(&self, key: &Key) -> Option<usize> {
        self.keys.iter().position(|own| own.is(key)).map(|at| at + 1)
    }

    /// Selects the next key that is not in cooldown for `model` at `now` and not among `used`, and advances the turn.
    pub fn pick(&self, model: Option<&str>, used: &[Key], now: Instant) -> Pick {
        let mut turn = 0;
        if self.keys.len() > 1 {
            match self.peek(model, used, now) {
                // Two requests that looked at the same moment get different keys.
                Pick::Key(_) => turn = self.next.fetch_add(1, Ordering::Relaxed),
                found => return found,
            }
        }
        let reserved = self.queue.is_waited_for(model);
        self.from(turn, used, now, |key| {
            let claim = key.state.claim(model, now, reserved)?;
            Ok(self.permit(key, model, claim, now))
        })
    }

    /// What [`pick`](Self::pick) would select, without advancing the turn and without a claim.
    pub fn peek(&self, model: Option<&str>, used: &[Key], now: Instant) -> Pick {
        let reserved = self.queue.is_waited_for(model);
        self.from(self.next.load(Ordering::Relaxed), used, now, |key| {
            match key.state.look(model, now, reserved) {
                Availability::CoolingDown { until, why } => Err((until, why)),
                Availability::Free | Availability::Probe => {
                    Ok(self.permit(key, model, Claim::default(), now))
                }
            }
        })
    }

    /// The first key that is not among `used`, whether or not it is in cooldown.
    pub fn pick_any(&self, used: &[Key], now: Instant) -> Pick {
        self.from(0, used, now, |key| Ok(self.permit(key, None, Claim::default(), now)))
    }

    /// All keys but `one`.
    pub fn others(&self, one: Option<&Key>) -> Vec<Key> {
        self.keys.iter().filter(|key| !one.is_some_and(|one| one.is(key))).cloned().collect()
    }

    /// Waits in the queue for a key for `model` that is not among `excluded`, until `latest`.
    pub async fn wait(&self, model: Option<&str>, excluded: &[Key], latest: Instant) -> Turn {
        let Some(queued) = self.queue.join(model, !excluded.is_empty()) else { return Turn::TooLate };
        loop {
            if queued.is_released() {
                return Turn::Released;
            }
            let now = tokio::time::Instant::now().into_std();
            let usable = || self.keys.iter().filter(|key| !excluded.iter().any(|other| other.is(key)));
            let Some(earliest) = usable().map(|key| key.available_at(model, now)).min() else {
                return Turn::TooLate;
            };
            if earliest > latest || now >= latest {
                return Turn::TooLate;
            }
            let is_first = queued.is_first();
            if is_first && earliest <= now {
                let first = usable().find_map(|key| Some((key, key.state.claim_first(model, now)?)));
                if let Some((key, claim)) = first {
                    return Turn::Key(self.permit(key, model, claim, now));
                }
                // Another worker has claimed it in this moment.
                continue;
            }
            queued.changed(if is_first { earliest } else { latest }).await;
        }
    }

    /// Notes at `now` that the attempt with `permit` failed because of its key.
    pub fn failed(&self, permit: &mut KeyPermit, failure: KeyFailure, now: Instant) -> Noted {
        let claimed = permit.claim.take();
        let claim = claimed.map_or_else(Claim::default, |claimed| claimed.claim);
        let what = failure.what.clone();
        let noted = permit.key.state.fail(failure, claim, permit.taken, now);
        self.queue.wake(|model| what.concerns(model), false);
        noted
    }

    /// Notes that the attempt with `permit` got a response. Returns whether that ends an outage of which the operator has heard.
    pub fn succeeded(&self, permit: &mut KeyPermit) -> bool {
        let claimed = permit.claim.take();
        let (claim, model) = match &claimed {
            Some(claimed) => (claimed.claim, claimed.model.as_deref()),
            None => (Claim::default(), None),
        };
        let ended = permit.key.state.succeed(model, claim, permit.taken);
        if ended.outage || ended.limit {
            self.queue.wake(|other| ended.outage || other == model, true);
        }
        ended.report
    }

    /// The values of all keys, in the order of the configuration.
    pub fn values(&self) -> Vec<HeaderValue> {
        self.keys.iter().map(|key| key.value.clone()).collect()
    }

    /// The number of keys.
    pub fn len(&self) -> usize {
        self.keys.len()
    }

    /// Whether there is no key, because the upstream needs none.
    pub fn is_empty(&self) -> bool {
        self.keys.is_empty()
    }

    /// The number of keys, and how many of them are in any cooldown at `now`.
    pub fn cooling_down(&self, now: Instant) -> (usize, usize) {
        (self.keys.len(), self.keys.iter().filter(|key| key.state.is_cooling_down(now)).count())
    }

    fn from(
        &self,
        turn: usize,
        used: &[Key],
        now: Instant,
        permit: impl Fn(&Key) -> Result<KeyPermit, (Instant, CooldownReason)>,
    ) -> Pick {
        if self.keys.is_empty() {
            return Pick::Unneeded;
        }
        let (before, from) = self.keys.split_at(turn % self.keys.len());
        let mut earliest: Option<(Instant, CooldownReason)> = None;
        for key in from.iter().chain(before).filter(|key| !used.iter().any(|other| other.is(key))) {
            match permit(key) {
                Ok(permit) => return Pick::Key(permit),
                Err(rest) => earliest = Some(earliest.map_or(rest, |known| known.min(rest))),
            }
        }
        match earliest {
            Some((until, why)) => Pick::CoolingDown { until: until.max(now), why },
            None => Pick::AllUsed,
        }
    }

    fn permit(&self, key: &Key, model: Option<&str>, claim: Claim, now: Instant) -> KeyPermit {
        let claimed = || Box::new(Claimed { claim, model: model.map(Into::into), queue: self.queue.clone() });
        let claim = (claim != Claim::default()).then(claimed);
        KeyPermit { key: key.clone(), taken: now, claim }
    }
}

impl Key {
    /// The header's value.
    pub fn value(&self) -> &HeaderValue {
        &self.value
    }

    /// When the key may be used for `model` by the first request in the queue.
    fn available_at(&self, model: Option<&str>, now: Instant) -> Instant {
        match self.state.look(model, now, false) {
            Availability::CoolingDown { until, .. } => until,
            Availability::Free | Availability::Probe => now,
        }
    }

    /// Whether both are the same key of the same upstream.
    pub fn is(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.state, &other.state)
    }
}

impl KeyPermit {
    /// The key.
    pub fn key(&self) -> &Key {
        &self.key
    }

    /// The header's value.
    pub fn value(&self) -> &HeaderValue {
        &self.key.value
    }
}

impl Drop for KeyPermit {
    fn drop(&mut self) {
        let Some(claimed) = self.claim.take() else { return };
        let model = claimed.model.as_deref();
        self.key.state.give_back(model, claimed.claim);
        claimed.queue.wake(|other| claimed.claim.probe || other == model, false);
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::upstream::Cooldown;

    const MINUTE: Duration = Duration::from_secs(60);

    fn ring(previous: Option<&KeyRing>) -> KeyRing {
        KeyRing::new(vec![HeaderValue::from_static("a"), HeaderValue::from_static("b")], previous)
    }

    fn single() -> KeyRing {
        KeyRing::new(vec![HeaderValue::from_static("a")], None)
    }

    fn picked(ring: &KeyRing, model: Option<&str>, used: &[Key], now: Instant) -> Option<KeyPermit> {
        match ring.pick(model, used, now) {
            Pick::Key(key) => Some(key),
            Pick::Unneeded | Pick::CoolingDown { .. } | Pick::AllUsed => None,
        }
    }

    fn limited(model: &str, named: Duration) -> KeyFailure {
        KeyFailure { what: Cooldown::Model(model.into()), named: Some(named), takes_out: true }
    }

    fn outage(reason: CooldownReason, named: Option<Duration>) -> KeyFailure {
        KeyFailure { what: Cooldown::All(reason), named, takes_out: true }
    }

    #[test]
    fn keys_take_turns() {
        let (ring, now) = (ring(None), Instant::now());
        let taken: Vec<_> = (0..3).filter_map(|_| picked(&ring, None, &[], now)).collect();
        assert_eq!(taken.iter().map(KeyPermit::value).collect::<Vec<_>>(), ["a", "b", "a"]);
        assert!(taken[0].value().is_sensitive());
        assert!(matches!(KeyRing::default().pick(None, &[], now), Pick::Unneeded));
    }

    #[test]
    fn a_turn_is_had_by_who_gets_a_key() {
        let (ring, now) = (ring(None), Instant::now());
        let mut keys: Vec<_> = (0..2).filter_map(|_| picked(&ring, None, &[], now)).collect();
        for key in &mut keys {
            ring.failed(key, limited("m", MINUTE), now);
        }
        // Neither who only looks nor who finds none takes a turn from the others.
        let mut taken = Vec::new();
        for _ in 0..3 {
            assert!(matches!(ring.peek(None, &[], now), Pick::Key(_)));
            assert!(picked(&ring, Some("m"), &[], now).is_none());
            taken.extend(picked(&ring, Some("other"), &[], now));
        }
        assert_eq!(taken.iter().map(KeyPermit::value).collect::<Vec<_>>(), ["a", "b", "a"]);
    }

    #[test]
    fn a_cooldown_keeps_requests_for_what_it_applies_to_away() {
        let (ring, now) = (ring(None), Instant::now());
        let mut a = picked(&ring, None, &[], now).unwrap();
        ring.failed(&mut a, limited("m", MINUTE), now);
        for _ in 0..3 {
            assert_eq!(picked(&ring, Some("m"), &[], now).unwrap().value(), "b");
        }
        assert!((0..2).any(|_| picked(&ring, Some("other"), &[], now).unwrap().value() == "a"));
        let mut b = picked(&ring, Some("m"), &[], now).unwrap();
        let used = [b.key().clone()];
        assert!(
            matches!(ring.pick(Some("m"), &used, now), Pick::CoolingDown { until, why: CooldownReason::Limited } if until == now + MINUTE)
        );
        ring.failed(&mut b, outage(CooldownReason::Refused, None), now);
        assert!(picked(&ring, Some("m"), &[], now).is_none());
        assert_eq!(picked(&ring, Some("other"), &[], now).unwrap().value(), "a");
        assert_eq!(ring.cooling_down(now), (2, 2));
        assert!(picked(&ring, Some("m"), &[], now + MINUTE).is_some());
    }

    #[test]
    fn cooldowns_and_the_queue_outlive_a_reload() {
        let (first, now) = (ring(None), Instant::now());
        let mut a = picked(&first, None, &[], now).unwrap();
        first.failed(&mut a, outage(CooldownReason::Refused, None), now);
        let second = ring(Some(&first));
        assert!(Arc::ptr_eq(&first.queue, &second.queue));
        (0..3).for_each(|_| assert_eq!(picked(&second, None, &[], now).unwrap().value(), "b"));
    }

    #[test]
    fn limits_are_bounded() {
        let (ring, now) = (ring(None), Instant::now());
        for number in 0..crate::upstream::key_state::MAX_MODELS + 10 {
            let mut key = ring.permit(&ring.keys[0], None, Claim::default(), now);
            ring.failed(&mut key, limited(&number.to_string(), MINUTE), now);
        }
        assert!(matches!(
            ring.keys[0].state.look(Some("another"), now, false),
            Availability::CoolingDown { .. }
        ));
    }

    /// The cooldown of an outage, each time a probe of the only key fails.
    #[test]
    fn an_outage_doubles_until_a_probe_succeeds() {
        let ring = single();
        let mut now = Instant::now();
        let mut lengths = Vec::new();
        for round in 0..6 {
            let mut probe = picked(&ring, None, &[], now).unwrap();
            if round > 0 {
                assert!(picked(&ring, None, &[], now).is_none(), "one request probes");
            }
            let noted = ring.failed(&mut probe, outage(CooldownReason::Spent, None), now);
            assert_eq!(noted.report, round == 0, "the operator hears of it once");
            let span = noted.cooldown.unwrap();
            lengths.push(span.as_secs());
            let before = now + span - Duration::from_millis(1);
            assert!(picked(&ring, None, &[], before).is_none());
            now += span;
        }
        assert_eq!(lengths, [60, 120, 240, 480, 900, 900]);
        // A probe without a result makes room for another.
        drop(picked(&ring, None, &[], now).unwrap());
        let mut probe = picked(&ring, None, &[], now).unwrap();
        assert!(ring.succeeded(&mut probe), "the operator hears of the end");
        assert_eq!(ring.cooling_down(now), (1, 0));
        let mut again = picked(&ring, None, &[], now).unwrap();
        let noted = ring.failed(&mut again, outage(CooldownReason::Spent, None), now);
        assert_eq!(noted.cooldown, Some(MINUTE), "a success resets it");
    }

    #[test]
    fn an_outage_lasts_until_the_reset_that_is_named() {
        for (named, expected) in [(5, 5), (3600, 3600), (30 * 86_400, 86_400)] {
            let (ring, now) = (single(), Instant::now());
            let mut key = picked(&ring, None, &[], now).unwrap();
            let failure = outage(CooldownReason::Spent, Some(Duration::from_secs(named)));
            assert_eq!(ring.failed(&mut key, failure, now).cooldown, Some(Duration::from_secs(expected)));
        }
    }

    /// Fifty requests are in flight when the credit ends: that is one failure, not fifty; and a response to an older request is no recovery.
    #[test]
    fn requests_from_before_an_outage_say_nothing_new() {
        let (ring, now) = (single(), Instant::now());
        let mut before: Vec<_> = (0..50).filter_map(|_| picked(&ring, None, &[], now)).collect();
        let later = now + Duration::from_secs(1);
        let failed =
            before[..49].iter_mut().map(|key| ring.failed(key, outage(CooldownReason::Spent, None), later));
        let noted: Vec<_> = failed.filter(|noted| noted.report || noted.cooldown.is_some()).collect();
        assert_eq!((noted.len(), noted[0].cooldown), (1, Some(MINUTE)));
        assert!(!ring.succeeded(&mut before[49]));
        assert_eq!(ring.cooling_down(later), (1, 1));
    }

    #[test]
    fn a_key_that_stays_in_use_has_an_outage_but_no_cooldown() {
        let (ring, now) = (single(), Instant::now());
        let fail = |at| {
            let mut key = picked(&ring, None, &[], at).unwrap();
            let failure = KeyFailure { takes_out: false, ..outage(CooldownReason::Refused, None) };
            ring.failed(&mut key, failure, at)
        };
        assert_eq!(fail(now), Noted { cooldown: None, report: true });
        assert_eq!(fail(now), Noted { cooldown: None, report: false });
        assert_eq!(ring.cooling_down(now), (1, 0));
        let mut works = picked(&ring, None, &[], now).unwrap();
        assert!(ring.succeeded(&mut works));
        // A key that fails and works in turns is reported once a minute at most.
        assert!(!fail(now + MINUTE / 2).report);
        assert!(!ring.succeeded(&mut picked(&ring, None, &[], now + MINUTE / 2).unwrap()));
        assert!(fail(now + MINUTE).report);
    }

    #[test]
    fn a_rate_limit_takes_no_key_away_where_there_is_no_other() {
        let (ring, now) = (single(), Instant::now());
        let mut key = picked(&ring, Some("m"), &[], now).unwrap();
        let failure = KeyFailure { takes_out: false, ..limited("m", MINUTE) };
        assert_eq!(ring.failed(&mut key, failure, now), Noted::default());
        assert!(picked(&ring, Some("m"), &[], now).is_some());
        // Whatever another route has noted, it may be used.
        let mut key = picked(&ring, Some("m"), &[], now).unwrap();
        ring.failed(&mut key, limited("m", MINUTE), now);
        assert!(picked(&ring, Some("m"), &[], now).is_none());
        assert!(matches!(ring.pick_any(&[], now), Pick::Key(_)));
    }
}
