//! The buckets of histograms of time spans.

use std::time::Duration;

/// The largest number of bounds of a scale.
pub const MOST_BOUNDS: usize = 22;

/// The upper bounds of the buckets of a histogram, in microseconds, in ascending order; at most [`MOST_BOUNDS`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Scale(&'static [u64]);

impl Scale {
    /// From the delay of a frame to the ten minutes of a long response.
    pub const LONG: Self = Self(&[
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
    ]);

    /// The time that a program adds: from 20 µs to 50 ms.
    pub const SHORT: Self =
        Self(&[20, 50, 100, 150, 200, 300, 500, 1_000, 2_000, 5_000, 10_000, 20_000, 50_000]);

    /// The time that an admission waits for the shared store: a round trip in a data centre, up to the longest `redis.timeout`.
    pub const STORE: Self = Self(&[
        100, 200, 300, 500, 1_000, 2_000, 5_000, 10_000, 20_000, 40_000, 60_000, 100_000, 250_000, 1_000_000,
    ]);

    /// `gen_ai.server.request.duration`: the bounds of OpenTelemetry's conventions (opentelemetry.io/docs/specs/semconv/gen-ai/gen-ai-metrics),
    /// doubled on to eleven minutes, because a response of a reasoning model takes longer than their 82 seconds.
    pub const MODEL_DURATION: Self = Self(&[
        10_000,
        20_000,
        40_000,
        80_000,
        160_000,
        320_000,
        640_000,
        1_280_000,
        2_560_000,
        5_120_000,
        10_240_000,
        20_480_000,
        40_960_000,
        81_920_000,
        163_840_000,
        327_680_000,
        655_360_000,
    ]);

    /// `gen_ai.server.time_to_first_token`: the bounds of the conventions, and 15 s to 300 s for reasoning models.
    pub const FIRST_TOKEN: Self = Self(&[
        1_000,
        5_000,
        10_000,
        20_000,
        40_000,
        60_000,
        80_000,
        100_000,
        250_000,
        500_000,
        750_000,
        1_000_000,
        2_500_000,
        5_000_000,
        7_500_000,
        10_000_000,
        15_000_000,
        30_000_000,
        60_000_000,
        120_000_000,
        300_000_000,
    ]);

    /// `gen_ai.server.time_per_output_token`: the bounds of the conventions, and 1 ms to 5 ms for fast models.
    pub const OUTPUT_TOKEN: Self = Self(&[
        1_000, 2_500, 5_000, 10_000, 25_000, 50_000, 75_000, 100_000, 150_000, 200_000, 300_000, 400_000,
        500_000, 750_000, 1_000_000, 2_500_000,
    ]);

    /// The bounds in seconds.
    pub fn seconds(self) -> impl Iterator<Item = f64> {
        self.0.iter().map(|micros| Duration::from_micros(*micros).as_secs_f64())
    }

    /// Number of bounds.
    pub fn len(self) -> usize {
        self.0.len()
    }

    /// Whether there is no bound. Never so.
    pub fn is_empty(self) -> bool {
        self.0.is_empty()
    }

    /// The bucket of a span; that of spans longer than all bounds is [`Scale::len`]. A linear search suffices: most spans are short, and there
    /// are few bounds.
    pub(super) fn bucket(self, span: Duration) -> usize {
        let micros = u64::try_from(span.as_nanos().div_ceil(1000)).unwrap_or(u64::MAX);
        self.0.iter().position(|bound| micros <= *bound).unwrap_or(self.0.len())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bounds_ascend_and_are_not_too_many() {
        for Scale(bounds) in [
            Scale::LONG,
            Scale::SHORT,
            Scale::MODEL_DURATION,
            Scale::FIRST_TOKEN,
            Scale::OUTPUT_TOKEN,
            Scale::STORE,
        ] {
            assert!(bounds.is_sorted_by(|one, next| one < next) && bounds.len() <= MOST_BOUNDS);
        }
    }

    #[test]
    fn a_bound_belongs_to_its_bucket() {
        let bucket = |span| Scale::LONG.bucket(span);
        assert_eq!((bucket(Duration::ZERO), bucket(Duration::from_millis(1))), (0, 0));
        assert_eq!(bucket(Duration::from_nanos(1_000_001)), 1);
        assert_eq!(bucket(Duration::from_secs(601)), Scale::LONG.len());
        assert_eq!(Scale::SHORT.seconds().next(), Some(0.00002));
    }
}
