//! Selection of an upstream's targets in turns, by weight.

use std::sync::atomic::{AtomicUsize, Ordering};

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
}
