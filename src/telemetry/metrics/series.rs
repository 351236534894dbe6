//! The series of one kind: values by labels.

use std::{
    collections::HashMap,
    hash::{BuildHasherDefault, Hash},
};

use fnv::FnvHasher;

/// Values by labels, in the order in which their labels were first counted. Series are never removed, so a reader can copy them in
/// parts. The hash is a fast one: labels are configured names and constants, so it need not resist attacks.
#[derive(Debug, Clone)]
pub struct Series<K, V> {
    /// Where the row of each key is.
    index: HashMap<K, usize, BuildHasherDefault<FnvHasher>>,
    rows: Vec<(K, V)>,
    /// The row that was changed last: the next change is often of the same one, and comparing its labels is cheaper than hashing them.
    last: usize,
}

impl<K: Eq + Hash + Clone, V> Series<K, V> {
    /// The number of series.
    pub fn len(&self) -> usize {
        self.rows.len()
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.rows.is_empty()
    }

    /// Whether a series has these labels.
    pub fn contains_key(&self, key: &K) -> bool {
        self.index.contains_key(key)
    }

    /// The value of a series.
    pub fn get(&self, key: &K) -> Option<&V> {
        self.index.get(key).and_then(|row| self.rows.get(*row)).map(|(_, value)| value)
    }

    /// All series.
    pub fn iter(&self) -> impl Iterator<Item = (&K, &V)> {
        self.rows.iter().map(|(key, value)| (key, value))
    }

    /// All values.
    pub fn values(&self) -> impl Iterator<Item = &V> {
        self.rows.iter().map(|(_, value)| value)
    }

    /// The rows from number `from` on, at most `most` of them.
    pub(super) fn part(&self, from: usize, most: usize) -> &[(K, V)] {
        let rows = self.rows.get(from..).unwrap_or_default();
        rows.get(..most).unwrap_or(rows)
    }
}

impl<K: Eq + Hash + Clone, V: Default> Series<K, V> {
    /// Changes the value of a series, which is there afterwards.
    pub fn change(&mut self, key: K, change: impl FnOnce(&mut V)) {
        if let Some((last, value)) = self.rows.get_mut(self.last)
            && *last == key
        {
            return change(value);
        }
        self.last = match self.index.get(&key) {
            Some(row) => *row,
            None => self.add(key),
        };
        if let Some((_, value)) = self.rows.get_mut(self.last) {
            change(value);
        }
    }

    /// Changes the value of the series that was changed last, if `is_it` accepts its labels. Spares making labels for a comparison.
    pub fn change_last(&mut self, is_it: impl FnOnce(&K) -> bool, change: impl FnOnce(&mut V)) -> bool {
        let Some((_, value)) = self.rows.get_mut(self.last).filter(|(last, _)| is_it(last)) else {
            return false;
        };
        change(value);
        true
    }

    /// Adds a series, and returns the number of its row.
    fn add(&mut self, key: K) -> usize {
        let row = self.rows.len();
        self.index.insert(key.clone(), row);
        self.rows.push((key, V::default()));
        row
    }
}

impl<K, V> Default for Series<K, V> {
    fn default() -> Self {
        Self { index: HashMap::default(), rows: Vec::new(), last: 0 }
    }
}

impl<K: Eq + Hash + Clone, V: PartialEq> PartialEq for Series<K, V> {
    fn eq(&self, other: &Self) -> bool {
        self.len() == other.len() && self.rows.iter().all(|(key, value)| other.get(key) == Some(value))
    }
}

impl<K: Eq + Hash + Clone, V: Default> FromIterator<(K, V)> for Series<K, V> {
    fn from_iter<I: IntoIterator<Item = (K, V)>>(rows: I) -> Self {
        let mut series = Self::default();
        rows.into_iter().for_each(|(key, value)| series.change(key, |there| *there = value));
        series
    }
}

impl<'s, K, V> IntoIterator for &'s Series<K, V> {
    type Item = &'s (K, V);
    type IntoIter = std::slice::Iter<'s, (K, V)>;

    fn into_iter(self) -> Self::IntoIter {
        self.rows.iter()
    }
}
