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
    key_queue::{KeyQueue, Queued},
    key_state::{Availability, Claim, CooldownReason, KeyFailure, KeyState, Noted},
    quota::Quota,
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

/// What an attempt has claimed, and the queue that is woken by its result.
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

    /// The keys whose index, in the order of the configuration, `is_one` accepts.
    pub fn chosen(&self, is_one: impl Fn(usize) -> bool) -> Vec<Key> {
        self.keys.iter().enumerate().filter(|(index, _)| is_one(*index)).map(|(_, key)| key.clone()).collect()
    }

    /// Waits in the queue for a key for `model` that is not among `excluded`, until `latest`.
    pub async fn wait(&self, model: Option<&str>, excluded: &[Key], latest: Instant) -> Turn {
        let Some(waiting) = self.queue(model, excluded, latest) else { return Turn::TooLate };
        loop {
            match waiting.look(Instant::now()) {
                Ok(turn) => return turn,
                Err(alarm) => waiting.queued.changed(alarm).await,
            }
        }
    }

    fn queue<'a>(
        &'a self,
        model: Option<&'a str>,
        excluded: &'a [Key],
        latest: Instant,
    ) -> Option<Waiting<'a>> {
        let queued = self.queue.join(model, !excluded.is_empty())?;
        Some(Waiting { ring: self, model, excluded, latest, queued })
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

    /// Notes that the attempt with `permit` got a response. Returns whether that ends an outage that was reported to the operator.
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

    /// The keys, in the order of the configuration.
    pub fn iter(&self) -> impl Iterator<Item = &Key> {
        self.keys.iter()
    }

    /// The number of each key, from 1, that is in cooldown at `now`.
    pub fn numbers_in_cooldown(&self, now: Instant) -> Vec<usize> {
        let cooling = self.keys.iter().enumerate().filter(|(_, key)| key.state.is_cooling_down(now));
        cooling.map(|(index, _)| index + 1).collect()
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

/// A request in the queue.
struct Waiting<'a> {
    ring: &'a KeyRing,
    model: Option<&'a str>,
    excluded: &'a [Key],
    latest: Instant,
    queued: Queued<'a>,
}

impl Waiting<'_> {
    /// The end of the wait or, as an error, when to look again if nothing changes.
    fn look(&self, now: Instant) -> Result<Turn, Instant> {
        if self.queued.is_released() {
            return Ok(Turn::Released);
        }
        let usable = || self.ring.keys.iter().filter(|key| !self.excluded.iter().any(|other| other.is(key)));
        let Some(earliest) = usable().map(|key| key.available_at(self.model, now)).min() else {
            return Ok(Turn::TooLate);
        };
        if earliest > self.latest || now >= self.latest {
            return Ok(Turn::TooLate);
        }
        if !self.queued.is_first() {
            return Err(self.latest);
        }
        let mut claims = usable().filter_map(|key| Some((key, key.state.claim_first(self.model, now)?)));
        match claims.next() {
            Some((key, claim)) => Ok(Turn::Key(self.ring.permit(key, self.model, claim, now))),
            None => Err(earliest),
        }
    }
}

impl Key {
    /// The header's value.
    pub fn value(&self) -> &HeaderValue {
        &self.value
    }

    /// Whether the key works: the upstream does not refuse it, and its credit is not spent. A rate limit does not count.
    pub fn is_up(&self) -> bool {
        !self.state.is_out()
    }

    /// What the provider says of the key's quota.
    pub fn quota(&self) -> &Quota {
        &self.state.quota
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
    use std::{
        task::{Context, Waker},
        time::Duration,
    };

    use super::{super::key_state::Cooldown, *};

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
    fn only_a_request_that_gets_a_key_takes_a_turn() {
        let (ring, now) = (ring(None), Instant::now());
        let mut keys: Vec<_> = (0..2).filter_map(|_| picked(&ring, None, &[], now)).collect();
        for key in &mut keys {
            ring.failed(key, limited("m", MINUTE), now);
        }
        // A request that only looks, or finds no key, takes no turn.
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
            assert_eq!(noted.report, round == 0, "it is reported once");
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
        assert!(ring.succeeded(&mut probe), "its end is reported");
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

    const SECOND: Duration = Duration::from_secs(1);

    /// How long an upstream takes to respond.
    const RESPONSE: Duration = Duration::from_millis(10);

    /// A request that makes up to four attempts and waits for up to seven seconds.
    enum Request<'a> {
        /// It looks for a key other than these.
        Picks(Vec<Key>),
        Waits(Waiting<'a>),
        /// The attempt is over at that time.
        Sent(KeyPermit, Instant),
        Ended {
            succeeded: bool,
            after: Duration,
        },
    }

    /// Requests that all begin at once, and an upstream that gives the attempts in their order these responses: how long the limit lasts, or
    /// `None` for a success.
    struct Simulation<'a, F> {
        ring: &'a KeyRing,
        respond: F,
        start: Instant,
        now: Instant,
        responses: usize,
    }

    /// The end of a request.
    #[derive(Debug)]
    struct End {
        /// When its attempts began.
        attempts: Vec<Duration>,
        succeeded: bool,
        after: Duration,
    }

    impl<'a, F: Fn(usize) -> Option<Duration>> Simulation<'a, F> {
        fn new(ring: &'a KeyRing, start: Instant, respond: F) -> Self {
            Self { ring, respond, start, now: start, responses: 0 }
        }

        fn run(mut self, count: usize) -> Vec<End> {
            let mut requests: Vec<_> = (0..count).map(|_| (Request::Picks(Vec::new()), Vec::new())).collect();
            loop {
                let mut alarms = Vec::new();
                for (request, attempts) in &mut requests {
                    let alarm = self.go_on(request, attempts);
                    alarms.extend(alarm);
                }
                let Some(next) = alarms.into_iter().min() else { break };
                // Each change wakes the requests in the queue, so all of them look again.
                self.now = next.max(self.now);
            }
            let end = |(request, attempts)| match request {
                Request::Ended { succeeded, after } => End { attempts, succeeded, after },
                _ => panic!("it has not ended"),
            };
            requests.into_iter().map(end).collect()
        }

        /// Does what can be done now; when to go on.
        fn go_on(&mut self, request: &mut Request<'a>, attempts: &mut Vec<Duration>) -> Option<Instant> {
            let (now, latest) = (self.now, self.start + 7 * SECOND);
            let next = match request {
                Request::Ended { .. } => return None,
                Request::Sent(_, until) if *until > now => return Some(*until),
                Request::Sent(permit, _) => {
                    self.responses += 1;
                    let limit = (self.respond)(self.responses - 1);
                    match limit {
                        None => _ = self.ring.succeeded(permit),
                        Some(span) => _ = self.ring.failed(permit, limited("m", span), now),
                    }
                    if limit.is_none() || attempts.len() == 4 {
                        self.ended(limit.is_none())
                    } else {
                        Request::Picks(vec![permit.key().clone()])
                    }
                }
                Request::Picks(used) => match self.ring.pick(Some("m"), used, now) {
                    Pick::Key(permit) => Request::Sent(permit, now + RESPONSE),
                    _ => Request::Waits(self.ring.queue(Some("m"), &[], latest).unwrap()),
                },
                Request::Waits(waiting) => match waiting.look(now) {
                    Err(alarm) => return Some(alarm),
                    Ok(Turn::Key(permit)) => Request::Sent(permit, now + RESPONSE),
                    Ok(Turn::Released) => Request::Picks(Vec::new()),
                    Ok(Turn::TooLate) => self.ended(false),
                },
            };
            if matches!(next, Request::Sent(..)) {
                attempts.push(now - self.start);
            }
            *request = next;
            Some(now)
        }

        fn ended(&self, succeeded: bool) -> Request<'a> {
            Request::Ended { succeeded, after: self.now - self.start }
        }
    }

    /// A ring of two keys that are both limited for a second.
    fn limited_ring(now: Instant) -> KeyRing {
        let ring = ring(None);
        let mut keys: Vec<_> = (0..2).filter_map(|_| picked(&ring, None, &[], now)).collect();
        for key in &mut keys {
            ring.failed(key, limited("m", SECOND), now);
        }
        ring
    }

    #[test]
    fn four_requests_that_are_all_limited_for_a_second_share_the_keys_in_order() {
        let ring = ring(None);
        let ends = Simulation::new(&ring, Instant::now(), |_| Some(SECOND)).run(4);
        assert!(
            ends.iter().all(|end| end.attempts.len() == 4),
            "each is sent as often as it may be: {ends:?}"
        );
        // After the first attempts, two keys allow two attempts a second, in the order of arrival.
        let sent: Vec<Vec<u128>> =
            ends.iter().map(|end| end.attempts.iter().map(Duration::as_millis).collect()).collect();
        let (first, second) = (vec![0, 1010, 3030, 5050], vec![0, 2020, 4040, 6060]);
        assert_eq!(sent, [first.clone(), first, second.clone(), second]);
        let at_once = |end: &End| end.attempts.last().is_some_and(|last| end.after == *last + RESPONSE);
        assert!(ends.iter().all(at_once), "each ends with its last response: {ends:?}");
    }

    /// More requests than the keys can serve in the time that each may wait.
    #[test]
    fn requests_that_are_all_limited_end_as_soon_as_no_attempt_can_begin() {
        let ring = ring(None);
        let ends = Simulation::new(&ring, Instant::now(), |_| Some(3 * SECOND)).run(4);
        for end in &ends {
            let last = end.attempts.last().copied().expect("each is sent at least once");
            // The next free key comes 3 s later, after the 7 s that a request may wait.
            let end_of_wait = end.after.max(last + RESPONSE);
            assert!(!end.succeeded && end_of_wait < 7 * SECOND, "{ends:?}");
        }
        let sent = |from: u64, to: u64| {
            let all = ends.iter().flat_map(|end| &end.attempts);
            all.filter(|at| (from..to).contains(&at.as_secs())).count()
        };
        assert_eq!((sent(0, 1), sent(3, 4), sent(6, 7)), (4, 2, 2), "{ends:?}");
        let last = ends.iter().map(|end| end.after.as_millis()).max();
        assert_eq!(last, Some(6030), "with the responses that make it too late: {ends:?}");
    }

    #[test]
    fn requests_in_the_queue_know_at_once_that_a_new_limit_is_too_long() {
        let now = Instant::now();
        let ring = limited_ring(now);
        let ends = Simulation::new(&ring, now, |_| Some(60 * MINUTE)).run(6);
        let attempts: usize = ends.iter().map(|end| end.attempts.len()).sum();
        let at_once = ends.iter().all(|end| end.after <= SECOND + RESPONSE);
        assert!(at_once && attempts == 2, "one attempt with each key is enough: {ends:?}");
    }

    #[test]
    fn requests_in_the_queue_go_on_when_the_first_one_succeeds() {
        let now = Instant::now();
        let ring = limited_ring(now);
        let ends = Simulation::new(&ring, now, |_| None).run(6);
        let at_once = ends.iter().all(|end| end.after <= SECOND + 2 * RESPONSE);
        assert!(at_once && ends.iter().all(|end| end.succeeded), "{ends:?}");
    }

    #[test]
    fn a_first_request_without_a_result_delays_no_other() {
        let (ring, start) = (single(), Instant::now());
        let mut key = picked(&ring, None, &[], start).unwrap();
        ring.failed(&mut key, limited("m", SECOND), start);
        let waiting: Vec<_> = (0..3).filter_map(|_| ring.queue(Some("m"), &[], start + 7 * SECOND)).collect();
        let [first, second, third] = waiting.try_into().map_err(|_| "three").unwrap();
        assert_eq!(first.look(start).err(), Some(start + SECOND));
        let now = start + SECOND;
        assert!(second.look(now).is_err(), "it is not the first");
        let Ok(Turn::Key(_slow)) = first.look(now) else { panic!("it is free") };
        drop(first);
        // The upstream does not respond to the first one. It has not rejected it either.
        let later = now + SECOND;
        assert_eq!(second.look(now).err(), Some(later));
        let Ok(Turn::Key(leaves)) = second.look(later) else { panic!("it goes after a second") };
        drop(second);
        assert!(third.look(later).is_err());
        drop(leaves);
        assert!(matches!(third.look(later), Ok(Turn::Key(_))), "its client left");
    }

    #[test]
    fn no_request_overtakes_the_queue() {
        let now = Instant::now();
        let ring = limited_ring(now);
        let later = now + 2 * SECOND;
        let first = ring.queue(Some("m"), &[], now + 7 * SECOND).unwrap();
        assert!(matches!(ring.pick(Some("m"), &[], later), Pick::CoolingDown { .. }));
        assert!(matches!(ring.pick(Some("other"), &[], later), Pick::Key(_)));
        assert!(matches!(first.look(later), Ok(Turn::Key(_))));
        drop(first);
        assert!(matches!(ring.pick(Some("m"), &[], later), Pick::Key(_)), "the other key");
    }

    #[test]
    fn a_request_that_cannot_use_each_key_is_overtaken() {
        let now = Instant::now();
        let ring = limited_ring(now);
        let excluded = [ring.keys[0].clone()];
        let mut b = ring.permit(&ring.keys[1], None, Claim::default(), now);
        ring.failed(&mut b, limited("m", MINUTE), now);
        let latest = now + 2 * MINUTE;
        let excluding = ring.queue(Some("m"), &excluded, latest).unwrap();
        let other = ring.queue(Some("m"), &[], latest).unwrap();
        assert_eq!(excluding.look(now + SECOND).err(), Some(now + MINUTE));
        assert!(matches!(other.look(now + SECOND), Ok(Turn::Key(key)) if key.value() == "a"));
    }

    #[tokio::test]
    async fn requests_that_cannot_use_each_key_are_woken_when_the_one_before_them_leaves() {
        let now = Instant::now();
        let ring = limited_ring(now);
        let excluded = [ring.keys[0].clone()];
        let latest = now + MINUTE;
        let join = |excluded| ring.queue(Some("m"), excluded, latest).unwrap();
        let first = join(&[]);
        let waiting = [join(&excluded), join(&excluded), join(&[]), join(&excluded)];
        drop(first);
        let mut cx = Context::from_waker(Waker::noop());
        let woken = waiting.each_ref().map(|waiting| {
            let change = std::pin::pin!(waiting.queued.changed(now + MINUTE));
            change.poll(&mut cx).is_ready()
        });
        assert_eq!(woken, [true, true, true, false], "up to the next one that can use each key");
    }

    /// A limit of any model: with more models than are counted separately, the key is in cooldown for all of them.
    #[test]
    fn a_rate_limit_does_not_make_a_key_down_and_an_outage_does() {
        let (ring, now) = (single(), Instant::now());
        for model in 0..=super::super::key_state::MAX_MODELS {
            let mut key = picked(&ring, Some(&format!("m-{model}")), &[], now).unwrap();
            ring.failed(&mut key, limited(&format!("m-{model}"), MINUTE), now);
        }
        assert!(ring.cooling_down(now).1 == 1 && ring.iter().all(Key::is_up));
        let mut key = picked(&ring, None, &[], now + MINUTE).unwrap();
        ring.failed(&mut key, outage(CooldownReason::Refused, None), now + MINUTE);
        assert!(!ring.iter().any(Key::is_up));
    }
}
