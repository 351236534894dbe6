//! Selection in turns: the keys of an upstream, and its targets by weight.

use std::{
    collections::HashMap,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicUsize, Ordering},
    },
    time::Instant,
};

use http::HeaderValue;

/// Models for which one key may be in cooldown at the same time. With more, the key is in cooldown for all models.
const MAX_MODELS: usize = 64;

/// The upstream keys of one pool, as the header values that carry them.
#[derive(Debug, Default)]
pub struct KeyRing {
    keys: Vec<Key>,
    next: AtomicUsize,
}

/// One upstream key.
#[derive(Debug, Clone)]
pub struct Key {
    value: HeaderValue,
    state: Arc<KeyState>,
}

/// The cooldowns of a key. There is one state per key in the process, and it survives reloads.
#[derive(Debug, Default)]
struct KeyState {
    /// The number of cooldowns: most keys have none, and need no lock.
    noted: AtomicUsize,
    cooldowns: Mutex<HashMap<Cooldown, Instant>>,
}

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

impl Cooldown {
    /// The reason of the cooldown.
    pub fn why(&self) -> CooldownReason {
        match self {
            Self::Model(_) => CooldownReason::Limited,
            Self::All(why) => *why,
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

/// The result of a selection.
#[derive(Debug)]
pub enum Pick {
    /// The upstream needs no key.
    Unneeded,
    /// This one.
    Key(Key),
    /// All keys are in cooldown.
    CoolingDown {
        /// The earliest end of a cooldown.
        until: Instant,
        /// The reason of that cooldown.
        why: CooldownReason,
    },
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
        Self { keys: values.into_iter().map(key).collect(), next: AtomicUsize::new(0) }
    }

    /// The number of the key, in the order of the configuration, from 1.
    pub fn number(&self, key: &Key) -> Option<usize> {
        self.keys.iter().position(|own| Arc::ptr_eq(&own.state, &key.state)).map(|at| at + 1)
    }

    /// Selects the next key that is not in cooldown for `model` at `now` and not among `used`, and advances the turn.
    pub fn pick(&self, model: Option<&str>, used: &[Key], now: Instant) -> Pick {
        match self.peek(model, used, now) {
            // Two requests that looked at the same moment get different keys.
            Pick::Key(_) if self.keys.len() > 1 => {
                self.from(self.next.fetch_add(1, Ordering::Relaxed), model, used, now)
            }
            found => found,
        }
    }

    /// What [`pick`](Self::pick) would select, without advancing the turn.
    pub fn peek(&self, model: Option<&str>, used: &[Key], now: Instant) -> Pick {
        self.from(self.next.load(Ordering::Relaxed), model, used, now)
    }

    fn from(&self, turn: usize, model: Option<&str>, used: &[Key], now: Instant) -> Pick {
        if self.keys.is_empty() {
            return Pick::Unneeded;
        }
        let (before, from) = self.keys.split_at(turn % self.keys.len());
        let mut earliest: Option<(Instant, CooldownReason)> = None;
        for key in from.iter().chain(before).filter(|key| !used.iter().any(|other| other.is(key))) {
            match key.state.until(model, now) {
                None => return Pick::Key(key.clone()),
                Some(rest) => earliest = Some(earliest.map_or(rest, |known| known.min(rest))),
            }
        }
        let (until, why) = earliest.unwrap_or((now, CooldownReason::Limited));
        Pick::CoolingDown { until, why }
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
        let cooldowns = |key: &&Key| key.state.lock().values().any(|until| *until > now);
        (self.keys.len(), self.keys.iter().filter(cooldowns).count())
    }
}

impl Key {
    /// The header's value.
    pub fn value(&self) -> &HeaderValue {
        &self.value
    }

    /// Whether the key is in cooldown for `model` at `now`.
    pub fn is_cooling_down(&self, model: Option<&str>, now: Instant) -> bool {
        self.state.until(model, now).is_some()
    }

    /// Puts the key into cooldown until then.
    pub fn cool_down(&self, what: Cooldown, until: Instant) {
        let mut cooldowns = self.state.lock();
        let now = Instant::now();
        cooldowns.retain(|_, until| *until > now);
        let what = if cooldowns.len() < MAX_MODELS || cooldowns.contains_key(&what) {
            what
        } else {
            Cooldown::All(CooldownReason::Limited)
        };
        let latest = cooldowns.entry(what).or_insert(until);
        *latest = until.max(*latest);
        self.state.noted.store(cooldowns.len(), Ordering::Release);
    }

    fn is(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.state, &other.state)
    }
}

impl KeyState {
    /// The end of the cooldown for `model` at `now`, if there is one, and its reason.
    fn until(&self, model: Option<&str>, now: Instant) -> Option<(Instant, CooldownReason)> {
        if self.noted.load(Ordering::Acquire) == 0 {
            return None;
        }
        let mut cooldowns = self.lock();
        cooldowns.retain(|_, until| *until > now);
        self.noted.store(cooldowns.len(), Ordering::Release);
        let concerns = |what: &Cooldown| match what {
            Cooldown::All(_) => true,
            Cooldown::Model(cooling_down) => model == Some(cooling_down),
        };
        cooldowns.iter().filter(|(what, _)| concerns(what)).map(|(what, until)| (*until, what.why())).max()
    }

    /// Nothing panics while it holds the lock.
    fn lock(&self) -> MutexGuard<'_, HashMap<Cooldown, Instant>> {
        self.cooldowns.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Weighted round robin over a fixed, non-empty set: in each run of `sum(weights)` turns each item gets as many turns as its
/// weight, spread out.
#[derive(Debug)]
pub struct Rotation<T> {
    first: T,
    rest: Vec<T>,
    /// Indices, 0 for `first`; at most 1000 an item.
    turns: Vec<usize>,
    next: AtomicUsize,
}

impl<T> Rotation<T> {
    /// Built once, by smooth weighted round robin (as in nginx's `ngx_http_upstream_round_robin.c`), so that the heaviest item
    /// does not have all its turns first. Weights are divided by their common divisor. `None` when there is no item.
    pub fn new(weighted: impl IntoIterator<Item = (T, u32)>) -> Option<Self> {
        let (items, weights): (Vec<T>, Vec<u32>) = weighted.into_iter().unzip();
        let mut items = items.into_iter();
        let first = items.next()?;
        let divisor = weights.iter().copied().fold(0, gcd).max(1);
        let weights: Vec<i64> = weights.iter().map(|weight| i64::from(weight / divisor)).collect();
        Some(Self { first, rest: items.collect(), turns: turns(&weights), next: AtomicUsize::new(0) })
    }

    /// Takes the next turn.
    pub fn turn(&self) -> usize {
        if self.rest.is_empty() {
            return 0;
        }
        let turn = self.next.fetch_add(1, Ordering::Relaxed);
        self.turns.get(turn % self.turns.len().max(1)).copied().unwrap_or_default()
    }

    /// The item of a turn.
    pub fn get(&self, turn: usize) -> &T {
        turn.checked_sub(1).and_then(|index| self.rest.get(index)).unwrap_or(&self.first)
    }

    /// All items.
    pub fn iter(&self) -> impl Iterator<Item = &T> {
        std::iter::once(&self.first).chain(&self.rest)
    }

    /// The number of items; at least one.
    pub fn count(&self) -> usize {
        1 + self.rest.len()
    }
}

fn turns(weights: &[i64]) -> Vec<usize> {
    let total: i64 = weights.iter().sum();
    let mut current = vec![0; weights.len()];
    let turn = |_| {
        for (current, weight) in current.iter_mut().zip(weights) {
            *current += weight;
        }
        let (index, heaviest) = current.iter_mut().enumerate().rev().max_by_key(|(_, weight)| **weight)?;
        *heaviest -= total;
        Some(index)
    };
    (0..total).filter_map(turn).collect()
}

fn gcd(a: u32, b: u32) -> u32 {
    if b == 0 { a } else { gcd(b, a % b) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn turns_follow_weights_and_are_spread() {
        let rotation = Rotation::new([('a', 400), ('b', 200), ('c', 200)]).unwrap();
        let turns: Vec<char> = (0..8).map(|_| *rotation.get(rotation.turn())).collect();
        assert_eq!(turns.iter().filter(|turn| **turn == 'a').count(), 4);
        assert_eq!(turns.iter().filter(|turn| **turn == 'b').count(), 2);
        assert!(turns.windows(3).all(|three| three.iter().any(|turn| *turn != 'a')), "{turns:?}");
        assert_eq!(rotation.iter().collect::<String>(), "abc");
        assert!(Rotation::<char>::new([]).is_none());
    }

    fn ring(previous: Option<&KeyRing>) -> KeyRing {
        KeyRing::new(vec![HeaderValue::from_static("a"), HeaderValue::from_static("b")], previous)
    }

    fn picked(ring: &KeyRing, model: Option<&str>, used: &[Key], now: Instant) -> Option<Key> {
        match ring.pick(model, used, now) {
            Pick::Key(key) => Some(key),
            Pick::Unneeded | Pick::CoolingDown { .. } => None,
        }
    }

    #[test]
    fn keys_take_turns() {
        let (ring, now) = (ring(None), Instant::now());
        let taken: Vec<_> = (0..3).filter_map(|_| picked(&ring, None, &[], now)).collect();
        assert_eq!(taken.iter().map(Key::value).collect::<Vec<_>>(), ["a", "b", "a"]);
        assert!(taken[0].value().is_sensitive());
        assert!(matches!(KeyRing::default().pick(None, &[], now), Pick::Unneeded));
    }

    #[test]
    fn a_turn_is_had_by_who_gets_a_key() {
        let (ring, now) = (ring(None), Instant::now());
        let until = now + std::time::Duration::from_secs(60);
        let keys: Vec<_> = (0..2).filter_map(|_| picked(&ring, None, &[], now)).collect();
        keys.iter().for_each(|key| key.cool_down(Cooldown::Model("m".into()), until));
        // Neither who only looks nor who finds none takes a turn from the others.
        let mut taken = Vec::new();
        for _ in 0..3 {
            assert!(matches!(ring.peek(None, &[], now), Pick::Key(_)));
            assert!(picked(&ring, Some("m"), &[], now).is_none());
            taken.extend(picked(&ring, Some("other"), &[], now));
        }
        assert_eq!(taken.iter().map(Key::value).collect::<Vec<_>>(), ["a", "b", "a"]);
    }

    #[test]
    fn a_key_rests_for_what_it_was_told_to_and_for_as_long() {
        let (ring, now) = (ring(None), Instant::now());
        let until = now + std::time::Duration::from_secs(60);
        let a = picked(&ring, None, &[], now).unwrap();
        a.cool_down(Cooldown::Model("m".into()), until);
        assert!(a.is_cooling_down(Some("m"), now) && !a.is_cooling_down(Some("other"), now));
        for _ in 0..3 {
            assert_eq!(picked(&ring, Some("m"), &[], now).unwrap().value(), "b");
        }
        assert!((0..2).any(|_| picked(&ring, Some("other"), &[], now).unwrap().value() == "a"));
        let b = picked(&ring, Some("m"), &[], now).unwrap();
        assert!(
            matches!(ring.pick(Some("m"), std::slice::from_ref(&b), now), Pick::CoolingDown { until: then, why: CooldownReason::Limited } if then == until)
        );
        b.cool_down(Cooldown::All(CooldownReason::Refused), until);
        assert!(picked(&ring, Some("m"), &[], now).is_none());
        assert_eq!(picked(&ring, Some("other"), &[], now).unwrap().value(), "a");
        assert_eq!(ring.cooling_down(now), (2, 2));
        assert!(picked(&ring, Some("m"), &[], until).is_some());
    }

    #[test]
    fn rests_outlive_a_reload() {
        let (first, now) = (ring(None), Instant::now());
        picked(&first, None, &[], now)
            .unwrap()
            .cool_down(Cooldown::All(CooldownReason::Refused), now + std::time::Duration::from_secs(60));
        let second = ring(Some(&first));
        (0..3).for_each(|_| assert_eq!(picked(&second, None, &[], now).unwrap().value(), "b"));
    }

    #[test]
    fn rests_are_bounded() {
        let (ring, now) = (ring(None), Instant::now());
        let key = picked(&ring, None, &[], now).unwrap();
        let until = now + std::time::Duration::from_secs(60);
        (0..MAX_MODELS + 10).for_each(|n| key.cool_down(Cooldown::Model(n.to_string().into()), until));
        assert!(key.state.lock().len() <= MAX_MODELS + 1);
        assert!(key.state.until(Some("another"), now).is_some());
    }
}
