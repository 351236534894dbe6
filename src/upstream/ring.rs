//! Taking turns: the keys of an upstream, and its targets by weight.

use std::sync::atomic::{AtomicUsize, Ordering};

use http::HeaderValue;

/// The upstream keys of one pool, as the header values that carry them.
#[derive(Debug, Default)]
pub struct KeyRing {
    values: Vec<HeaderValue>,
    next: AtomicUsize,
}

impl KeyRing {
    /// Each value is marked sensitive, so that it is neither printed nor put into HTTP/2's header table.
    pub fn new(mut values: Vec<HeaderValue>) -> Self {
        for value in &mut values {
            value.set_sensitive(true);
        }
        Self { values, next: AtomicUsize::new(0) }
    }

    /// The key whose turn it is; `None` when the upstream takes none.
    pub fn take(&self) -> Option<HeaderValue> {
        match self.values.as_slice() {
            [] => None,
            [only] => Some(only.clone()),
            many => {
                let turn = self.next.fetch_add(1, Ordering::Relaxed);
                many.get(turn % many.len()).cloned()
            }
        }
    }
}

/// Turns by weight over a fixed set: of each run of `sum(weights)` turns, each index gets its weight's number, spread out.
#[derive(Debug)]
pub struct Rotation {
    turns: Vec<usize>,
    next: AtomicUsize,
}

impl Rotation {
    /// Built once, by smooth weighted round robin (nginx `ngx_http_upstream_round_robin.c`): the heaviest does not go first for all its
    /// turns. Weights are divided by their common divisor; at most `weights.len() * 1000` turns are kept.
    pub fn new(weights: &[u32]) -> Self {
        let divisor = weights.iter().copied().fold(0, gcd).max(1);
        let weights: Vec<i64> = weights.iter().map(|weight| i64::from(weight / divisor)).collect();
        let total: i64 = weights.iter().sum();
        let mut current = vec![0i64; weights.len()];
        let turns = (0..total).filter_map(|_| Self::turn(&mut current, &weights, total)).collect();
        Self { turns, next: AtomicUsize::new(0) }
    }

    /// The index whose turn it is.
    pub fn take(&self) -> usize {
        match self.turns.as_slice() {
            [] => 0,
            [only] => *only,
            many => {
                let turn = self.next.fetch_add(1, Ordering::Relaxed);
                many.get(turn % many.len()).copied().unwrap_or_default()
            }
        }
    }

    fn turn(current: &mut [i64], weights: &[i64], total: i64) -> Option<usize> {
        for (current, weight) in current.iter_mut().zip(weights) {
            *current += weight;
        }
        let (index, heaviest) = current.iter_mut().enumerate().rev().max_by_key(|(_, weight)| **weight)?;
        *heaviest -= total;
        Some(index)
    }
}

fn gcd(a: u32, b: u32) -> u32 {
    if b == 0 { a } else { gcd(b, a % b) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn turns_follow_weights_and_are_spread() {
        let rotation = Rotation::new(&[4, 2, 2]);
        let turns: Vec<usize> = (0..8).map(|_| rotation.take()).collect();
        assert_eq!(turns.iter().filter(|turn| **turn == 0).count(), 4);
        assert_eq!(turns.iter().filter(|turn| **turn == 1).count(), 2);
        assert!(turns.windows(3).all(|three| three.iter().any(|turn| *turn != 0)), "{turns:?}");
    }

    #[test]
    fn keys_take_turns() {
        let ring = KeyRing::new(vec![HeaderValue::from_static("a"), HeaderValue::from_static("b")]);
        let taken: Vec<_> = (0..3).filter_map(|_| ring.take()).collect();
        assert_eq!(taken, ["a", "b", "a"]);
        assert!(taken[0].is_sensitive());
        assert!(KeyRing::default().take().is_none());
    }
}
