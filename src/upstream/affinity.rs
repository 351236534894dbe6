//! Affinity: requests with the same value go to the same target.
//!
//! Rendezvous hashing (Thaler and Ravishankar, "Using name-based mappings to increase hit rates", 1998) with weights: each target
//! has a score for each value, and the lowest score wins. Adding or removing a target moves only that target's share of the
//! values, and every instance of the gateway computes the same order.

/// A hashed value that selects targets. It is the same in every process and release.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Affinity(u64);

impl Affinity {
    /// FNV-1a (draft-eastlake-fnv).
    const BASIS: u64 = 0xcbf2_9ce4_8422_2325;
    const PRIME: u64 = 0x0000_0100_0000_01b3;

    /// Hashes a whole value.
    pub fn of(bytes: &[u8]) -> Self {
        Self(Self::BASIS).and(bytes)
    }

    /// Hashes more bytes behind those hashed so far.
    #[must_use]
    pub fn and(self, bytes: &[u8]) -> Self {
        Self(bytes.iter().fold(self.0, |hash, byte| (hash ^ u64::from(*byte)).wrapping_mul(Self::PRIME)))
    }

    /// The score of a target of that `weight` for this value; `target` is the hash of the target's name.
    pub fn distance(self, target: Self, weight: u32) -> f64 {
        // The upper 53 bits, as a number in (0, 1].
        let uniform = ((mixed(self.0 ^ mixed(target.0)) >> 11) + 1) as f64 / (1_u64 << 53) as f64;
        -uniform.ln() / f64::from(weight.max(1))
    }
}

/// The finalizer of `SplitMix64` (Steele et al., 2014): FNV alone does not reach the upper bits with short names.
fn mixed(value: u64) -> u64 {
    let value = (value ^ (value >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let value = (value ^ (value >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    value ^ (value >> 31)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn nearest(value: usize, targets: &[(&str, u32)]) -> usize {
        let value = Affinity::of(&value.to_le_bytes());
        let distance = |(name, weight): &(&str, u32)| value.distance(Affinity::of(name.as_bytes()), *weight);
        let order =
            (0..targets.len()).min_by(|a, b| distance(&targets[*a]).total_cmp(&distance(&targets[*b])));
        order.unwrap()
    }

    #[test]
    fn shares_follow_weights() {
        let targets = [("http://a", 1), ("http://b", 1), ("http://c", 2)];
        let mut shares = [0; 3];
        (0..8000).for_each(|value| shares[nearest(value, &targets)] += 1);
        for (share, expected) in shares.into_iter().zip([2000, 2000, 4000]) {
            assert!((expected * 9 / 10..expected * 11 / 10).contains(&share), "{shares:?}");
        }
    }

    #[test]
    fn a_target_that_goes_moves_its_own_share_alone() {
        let all = [("http://a", 1), ("http://b", 1), ("http://c", 1)];
        for value in 0..1000 {
            let with = nearest(value, &all);
            assert!(with == 2 || nearest(value, &all[..2]) == with, "{value}");
        }
    }
}
