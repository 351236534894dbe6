//! A map of which a changed copy is cheap.

use std::{
    borrow::Borrow,
    collections::HashMap,
    hash::{BuildHasher as _, Hash, RandomState},
    sync::Arc,
};

/// Entries of a shard, on average at most. A change copies one shard.
const PER_SHARD: usize = 128;

/// A hash map in shards. Copies share their shards, and a change copies the shard that it changes: changing one of 100,000 entries costs a
/// copy of about a hundred entries and of a thousand pointers. A small map is one shard, and costs what a hash map does.
#[derive(Debug, Clone)]
pub struct Sharded<K, V> {
    hasher: RandomState,
    /// A power of two, at least one.
    shards: Vec<Arc<HashMap<K, V>>>,
    len: usize,
}

impl<K, V> Default for Sharded<K, V> {
    fn default() -> Self {
        Self { hasher: RandomState::new(), shards: vec![Arc::default()], len: 0 }
    }
}

impl<K: Hash + Eq + Clone, V: Clone> Sharded<K, V> {
    /// Number of entries.
    pub fn count(&self) -> usize {
        self.len
    }

    /// The value of a key.
    pub fn get<Q: Hash + Eq + ?Sized>(&self, key: &Q) -> Option<&V>
    where
        K: Borrow<Q>,
    {
        self.shards.get(self.shard(key))?.get(key)
    }

    /// All entries, in no order.
    pub fn iter(&self) -> impl Iterator<Item = (&K, &V)> {
        self.shards.iter().flat_map(|shard| shard.iter())
    }

    /// Sets the value of a key, and returns the value that it had.
    pub fn insert(&mut self, key: K, value: V) -> Option<V> {
        if self.len >= self.shards.len() * PER_SHARD {
            self.grow();
        }
        let at = self.shard(&key);
        let replaced = Arc::make_mut(self.shards.get_mut(at)?).insert(key, value);
        self.len += usize::from(replaced.is_none());
        replaced
    }

    /// Removes a key, and returns the value that it had.
    pub fn remove<Q: Hash + Eq + ?Sized>(&mut self, key: &Q) -> Option<V>
    where
        K: Borrow<Q>,
    {
        let at = self.shard(key);
        let shard = self.shards.get_mut(at)?;
        if !shard.contains_key(key) {
            return None;
        }
        let removed = Arc::make_mut(shard).remove(key);
        self.len -= usize::from(removed.is_some());
        removed
    }

    /// Four times as many shards.
    fn grow(&mut self) {
        let shards = vec![Arc::default(); self.shards.len() * 4];
        let before = std::mem::replace(&mut self.shards, shards);
        for shard in before {
            for (key, value) in Arc::unwrap_or_clone(shard) {
                let at = self.shard(&key);
                if let Some(shard) = self.shards.get_mut(at) {
                    Arc::make_mut(shard).insert(key, value);
                }
            }
        }
    }

    /// The number of the shard of a key. Each shard hashes for itself, so that the keys of one shard do not have the same bits in it.
    fn shard<Q: Hash + ?Sized>(&self, key: &Q) -> usize {
        if self.shards.len() == 1 {
            return 0;
        }
        // Fewer shards than 32 bits count.
        self.hasher.hash_one(key) as usize & (self.shards.len() - 1)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_changed_copy_leaves_the_original_and_shares_nearly_all_of_it() {
        let mut map = Sharded::default();
        for number in 0..10_000_u32 {
            assert_eq!(map.insert(number, number), None);
        }
        let original = map.clone();
        assert_eq!(map.insert(7, 8), Some(7));
        assert_eq!(map.remove(&9), Some(9));
        assert_eq!(map.remove(&9), None);
        assert_eq!((original.get(&7), original.get(&9), original.count()), (Some(&7), Some(&9), 10_000));
        assert_eq!((map.get(&7), map.get(&9), map.count()), (Some(&8), None, 9999));
        assert_eq!((map.iter().count(), original.iter().count()), (9999, 10_000));
        let shared =
            map.shards.iter().zip(&original.shards).filter(|(one, other)| Arc::ptr_eq(one, other)).count();
        assert!(map.shards.len() >= 64 && shared + 2 >= map.shards.len(), "{shared} of {}", map.shards.len());
    }
}
