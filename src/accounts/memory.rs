//! Remembers the accounts of ids in memory.

use std::{
    collections::HashMap,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicUsize, Ordering},
    },
};

use super::{AccountMap, Entry, IdDigest, LIFETIME, MOST_IDS, MapSize, Owners, Written, hour};

/// What is used again after so many hours counts as learnt again.
const RENEWED_AFTER: u32 = 24;

/// Remembers the accounts of ids until the process ends.
#[derive(Debug)]
pub struct MemoryMap {
    /// So that nothing is locked while nothing is remembered.
    count: AtomicUsize,
    bound: usize,
    generations: Mutex<Generations>,
}

/// Two halves: when the young one is full it becomes the old one, and what was in the old one is forgotten.
#[derive(Debug, Default)]
struct Generations {
    young: HashMap<IdDigest, Slot>,
    old: HashMap<IdDigest, Slot>,
}

/// What is remembered of an id.
#[derive(Debug, Clone)]
pub(super) struct Slot {
    pub(super) account: Arc<str>,
    /// When it was learnt, in hours since 1970.
    pub(super) hour: u32,
}

impl Default for MemoryMap {
    fn default() -> Self {
        Self::with_bound(MOST_IDS)
    }
}

impl MemoryMap {
    /// An empty map of at most `bound` ids.
    pub fn with_bound(bound: usize) -> Self {
        Self { count: AtomicUsize::new(0), bound, generations: Mutex::default() }
    }

    /// The accounts that know `ids`, and the entries that were used again after long.
    pub(super) fn look_up(&self, ids: &[IdDigest]) -> (Vec<Option<Arc<str>>>, Vec<Entry>) {
        if self.is_empty() {
            return (vec![None; ids.len()], Vec::new());
        }
        let now = hour();
        let mut renewed = Vec::new();
        let mut generations = self.lock();
        let owners = ids.iter().map(|id| {
            let slot = generations.live(*id, now)?;
            if slot.hour + RENEWED_AFTER <= now {
                renewed.push(Entry { id: *id, account: slot.account.clone() });
            }
            Some(slot.account)
        });
        let owners = owners.collect();
        for Entry { id, account } in &renewed {
            generations.insert(*id, Slot { account: account.clone(), hour: now }, self.bound);
        }
        self.count.store(generations.count(), Ordering::Release);
        (owners, renewed)
    }

    /// Remembers `entries`, learnt at this hour. Returns whether each was not known like this.
    pub(super) fn insert(&self, entries: &[Entry], hour: u32) -> Vec<bool> {
        let mut generations = self.lock();
        let new = entries.iter().map(|Entry { id, account }| {
            if generations.live(*id, hour).is_some_and(|known| known.account == *account) {
                return false;
            }
            generations.insert(*id, Slot { account: account.clone(), hour }, self.bound);
            true
        });
        let new = new.collect();
        self.count.store(generations.count(), Ordering::Release);
        new
    }

    /// Calls `each` with everything that is remembered, the oldest first.
    pub(super) fn for_each(&self, mut each: impl FnMut(IdDigest, &Slot)) {
        let generations = self.lock();
        let Generations { young, old } = &*generations;
        old.iter().filter(|(id, _)| !young.contains_key(id)).for_each(|(id, slot)| each(*id, slot));
        young.iter().for_each(|(id, slot)| each(*id, slot));
    }

    fn lock(&self) -> MutexGuard<'_, Generations> {
        self.generations.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl AccountMap for MemoryMap {
    fn is_empty(&self) -> bool {
        self.count.load(Ordering::Acquire) == 0
    }

    fn find<'a>(&'a self, ids: &'a [IdDigest]) -> Owners<'a> {
        Box::pin(std::future::ready(self.look_up(ids).0))
    }

    fn learn(&self, entries: Vec<Entry>) -> Written {
        self.insert(&entries, hour());
        Box::pin(std::future::ready(true))
    }

    fn can_write(&self) -> bool {
        true
    }

    fn size(&self) -> MapSize {
        MapSize { entries: self.count.load(Ordering::Acquire), bound: self.bound, is_kept: false }
    }
}

impl Generations {
    /// What is remembered of `id`, unless it is too old.
    fn live(&mut self, id: IdDigest, now: u32) -> Option<Slot> {
        let slot = self.young.get(&id).or_else(|| self.old.get(&id))?;
        if slot.hour.saturating_add(LIFETIME) > now {
            return Some(slot.clone());
        }
        self.young.remove(&id);
        self.old.remove(&id);
        None
    }

    fn insert(&mut self, id: IdDigest, slot: Slot, bound: usize) {
        if self.young.len() >= bound / 2 && !self.young.contains_key(&id) {
            self.old = std::mem::take(&mut self.young);
        }
        self.old.remove(&id);
        self.young.insert(id, slot);
    }

    fn count(&self) -> usize {
        self.young.len() + self.old.len()
    }
}

#[cfg(test)]
mod tests {
    use super::{super::ClientDigests, *};

    fn id(number: usize) -> IdDigest {
        ClientDigests::of(Some("a")).digest(number.to_string().as_bytes())
    }

    fn entry(number: usize, account: &str) -> Entry {
        Entry { id: id(number), account: account.into() }
    }

    fn owner(map: &MemoryMap, number: usize) -> Option<String> {
        map.look_up(&[id(number)]).0.remove(0).map(|name| name.to_string())
    }

    #[test]
    fn what_was_learnt_is_found_until_it_is_too_old() {
        let map = MemoryMap::default();
        assert!(map.is_empty() && owner(&map, 1).is_none());
        assert_eq!(map.insert(&[entry(1, "x")], hour()), [true]);
        assert_eq!(map.insert(&[entry(1, "x")], hour()), [false]);
        assert_eq!(owner(&map, 1).as_deref(), Some("x"));
        assert_eq!(map.insert(&[entry(1, "y")], hour()), [true]);
        assert_eq!(owner(&map, 1).as_deref(), Some("y"));
        map.insert(&[entry(2, "x")], hour() - LIFETIME);
        assert!(owner(&map, 2).is_none());
        assert_eq!(map.size().entries, 1);
    }

    #[test]
    fn what_is_used_after_long_is_renewed() {
        let map = MemoryMap::default();
        map.insert(&[entry(1, "x")], hour() - LIFETIME + 2);
        assert_eq!(map.look_up(&[id(1)]).1, [entry(1, "x")]);
        assert_eq!(map.look_up(&[id(1)]).1, []);
    }

    #[test]
    fn there_are_never_more_than_the_bound_and_the_newest_half_stays() {
        let map = MemoryMap::with_bound(100);
        for number in 0..1000 {
            map.insert(&[entry(number, "x")], hour());
            assert!(map.size().entries <= 100);
        }
        assert!((950..1000).all(|number| owner(&map, number).is_some()));
        let mut count = 0;
        map.for_each(|_, _| count += 1);
        assert_eq!(count, map.size().entries);
    }

    #[test]
    fn a_client_does_not_know_the_ids_of_another() {
        let digest = |client| ClientDigests::of(client).digest(b"file-12");
        assert_ne!(digest(Some("a")), digest(Some("b")));
        assert_ne!(digest(Some("a")), digest(None));
        assert_eq!(digest(Some("a")), digest(Some("a")));
        assert_ne!(ClientDigests::of(Some("a")).digest(b"b"), ClientDigests::of(Some("ab")).digest(b""));
    }
}
