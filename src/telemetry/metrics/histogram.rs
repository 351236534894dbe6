//! Histograms of time spans. A histogram does not know its [`Scale`], because that belongs to the family: all values of a family have one.

use std::{
    sync::atomic::{AtomicU64, Ordering},
    time::Duration,
};

use super::scale::{MOST_BOUNDS, Scale};

/// The scale of [`Gaps`].
pub const GAP_SCALE: Scale = Scale::LONG;

/// Number of buckets of [`Gaps`]: one for each bound, and one for longer spans.
const GAP_BUCKETS: usize = 19;

/// Counts the times between frames of one response, by bucket of [`GAP_SCALE`]. It is small, because each open exchange has one.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
pub struct Gaps {
    counts: [u32; GAP_BUCKETS],
    sum: Duration,
}

/// Counts spans by bucket.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
pub struct Total {
    counts: [u64; MOST_BOUNDS + 1],
    sum: Duration,
}

/// Counts spans by bucket, on any thread.
#[derive(Debug)]
pub struct SharedTotal {
    scale: Scale,
    counts: [AtomicU64; MOST_BOUNDS + 1],
    /// In microseconds.
    sum: AtomicU64,
}

impl Gaps {
    /// No gaps.
    pub const NONE: Self = Self { counts: [0; GAP_BUCKETS], sum: Duration::ZERO };

    /// Counts one span.
    pub fn observe(&mut self, span: Duration) {
        if let Some(count) = self.counts.get_mut(GAP_SCALE.bucket(span)) {
            *count = count.saturating_add(1);
            self.sum += span;
        }
    }
}

impl Total {
    /// Counts one span.
    pub fn observe(&mut self, scale: Scale, span: Duration) {
        if let Some(count) = self.counts.get_mut(scale.bucket(span)) {
            *count += 1;
            self.sum += span;
        }
    }

    /// Adds the times between the frames of a response. The scale must be [`GAP_SCALE`].
    pub fn add(&mut self, gaps: &Gaps) {
        if gaps.sum.is_zero() && gaps.counts[0] == 0 {
            return;
        }
        self.counts.iter_mut().zip(&gaps.counts).for_each(|(total, count)| *total += u64::from(*count));
        self.sum += gaps.sum;
    }

    /// Adds all spans of another total of the same scale.
    pub fn merge(&mut self, other: &Self) {
        self.counts.iter_mut().zip(&other.counts).for_each(|(total, count)| *total += count);
        self.sum += other.sum;
    }

    /// For each bound of `scale`, the number of spans that were not longer.
    pub fn cumulative(&self, scale: Scale) -> impl Iterator<Item = (f64, u64)> {
        let mut below = 0;
        scale.seconds().zip(self.counts).map(move |(bound, count)| {
            below += count;
            (bound, below)
        })
    }

    /// Number of spans.
    pub fn count(&self) -> u64 {
        self.counts.iter().sum()
    }

    /// Sum of the spans, in seconds.
    pub fn sum(&self) -> f64 {
        self.sum.as_secs_f64()
    }
}

impl SharedTotal {
    /// Creates a histogram that has counted nothing.
    pub const fn new(scale: Scale) -> Self {
        Self { scale, counts: [const { AtomicU64::new(0) }; MOST_BOUNDS + 1], sum: AtomicU64::new(0) }
    }

    /// Counts one span.
    pub fn observe(&self, span: Duration) {
        if let Some(count) = self.counts.get(self.scale.bucket(span)) {
            count.fetch_add(1, Ordering::Relaxed);
            let micros = u64::try_from(span.as_micros()).unwrap_or(u64::MAX);
            self.sum.fetch_add(micros, Ordering::Relaxed);
        }
    }

    /// The scale of its buckets.
    pub fn scale(&self) -> Scale {
        self.scale
    }

    /// What is counted so far. Spans that are counted meanwhile may be missing in part.
    pub fn total(&self) -> Total {
        let counts = std::array::from_fn(|bucket| {
            self.counts.get(bucket).map_or(0, |count| count.load(Ordering::Relaxed))
        });
        Total { counts, sum: Duration::from_micros(self.sum.load(Ordering::Relaxed)) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn gaps_have_a_bucket_for_each_bound_and_one_more() {
        assert_eq!(GAP_BUCKETS, GAP_SCALE.len() + 1);
    }

    #[test]
    fn nothing_is_lost() {
        let mut gaps = Gaps::default();
        gaps.observe(Duration::from_millis(1));
        gaps.observe(Duration::from_nanos(1_000_001));
        gaps.observe(Duration::from_secs(601));
        let mut total = Total::default();
        total.add(&gaps);
        total.observe(GAP_SCALE, Duration::ZERO);
        let cumulative: Vec<_> = total.cumulative(GAP_SCALE).collect();
        assert_eq!((cumulative[0], cumulative[1], cumulative[17]), ((0.001, 2), (0.0025, 3), (600.0, 3)));
        assert_eq!((total.count(), total.sum()), (4, 601.002_000_001));
    }

    #[test]
    fn threads_may_share_one() {
        let shared = SharedTotal::new(Scale::SHORT);
        std::thread::scope(|scope| {
            for _ in 0..4 {
                scope.spawn(|| (0..1000).for_each(|_| shared.observe(Duration::from_micros(20))));
            }
        });
        let total = shared.total();
        assert_eq!((total.count(), total.sum()), (4000, 0.08));
        assert_eq!(total.cumulative(shared.scale()).next(), Some((0.00002, 4000)));
    }
}
