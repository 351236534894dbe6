//! Histograms of time spans.

use std::time::Duration;

/// Upper bounds of the buckets, in seconds: from the delay of a frame to the ten minutes of a long response.
pub const BOUNDS: [f64; 18] = [
    0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0, 120.0, 300.0,
    600.0,
];

/// The bounds in microseconds, for comparison without floating-point arithmetic.
const MICROS: [u64; BOUNDS.len()] = [
    1_000,
    2_500,
    5_000,
    10_000,
    25_000,
    50_000,
    100_000,
    250_000,
    500_000,
    1_000_000,
    2_500_000,
    5_000_000,
    10_000_000,
    30_000_000,
    60_000_000,
    120_000_000,
    300_000_000,
    600_000_000,
];

/// Counts spans by bucket. The last bucket counts spans longer than all bounds.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
pub struct Histogram {
    counts: [u32; BOUNDS.len() + 1],
    sum: Duration,
}

/// A sum of histograms.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
pub struct Total {
    counts: [u64; BOUNDS.len() + 1],
    sum: Duration,
}

impl Histogram {
    /// Counts one span.
    pub fn observe(&mut self, span: Duration) {
        if let Some(count) = self.counts.get_mut(bucket(span)) {
            *count = count.saturating_add(1);
            self.sum += span;
        }
    }
}

impl Total {
    /// Counts one span.
    pub fn observe(&mut self, span: Duration) {
        if let Some(count) = self.counts.get_mut(bucket(span)) {
            *count += 1;
            self.sum += span;
        }
    }

    /// Adds all spans of another histogram.
    pub fn add(&mut self, other: &Histogram) {
        self.counts.iter_mut().zip(&other.counts).for_each(|(total, count)| *total += u64::from(*count));
        self.sum += other.sum;
    }

    /// Adds all spans of another total.
    pub fn merge(&mut self, other: &Self) {
        self.counts.iter_mut().zip(&other.counts).for_each(|(total, count)| *total += count);
        self.sum += other.sum;
    }

    /// For each bound, the number of spans that were not longer.
    pub fn cumulative(&self) -> impl Iterator<Item = (f64, u64)> {
        let mut below = 0;
        BOUNDS.into_iter().zip(self.counts).map(move |(bound, count)| {
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

/// Returns the bucket of a span. A linear search suffices: most spans are short, and there are few bounds.
fn bucket(span: Duration) -> usize {
    let micros = u64::try_from(span.as_nanos().div_ceil(1000)).unwrap_or(u64::MAX);
    MICROS.iter().position(|bound| micros <= *bound).unwrap_or(MICROS.len())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_scales_are_one() {
        for (seconds, micros) in BOUNDS.iter().zip(MICROS) {
            assert_eq!(Duration::from_secs_f64(*seconds), Duration::from_micros(micros));
        }
        assert!(BOUNDS.is_sorted() && BOUNDS.last() == Some(&600.0));
    }

    #[test]
    fn a_bound_belongs_to_its_bucket_and_nothing_is_lost() {
        let mut one = Histogram::default();
        one.observe(Duration::from_millis(1));
        one.observe(Duration::from_nanos(1_000_001));
        one.observe(Duration::from_secs(601));
        let mut total = Total::default();
        total.add(&one);
        total.observe(Duration::ZERO);
        let cumulative: Vec<_> = total.cumulative().collect();
        assert_eq!((cumulative[0], cumulative[1], cumulative[17]), ((0.001, 2), (0.0025, 3), (600.0, 3)));
        assert_eq!((total.count(), total.sum()), (4, 601.002_000_001));
    }
}
