//! Which exchanges are exported.

use std::time::Duration;

use super::TraceView;

/// Bits of the trace id that decide (OpenTelemetry specification, "TraceState: Probability Sampling": the last 56 bits are random).
const RANDOM_BITS: u32 = 56;

/// Decides at the end of an exchange, when everything is known of it.
#[derive(Debug)]
pub(super) struct Sampling {
    /// Of the exchanges that nothing is special about, those are kept whose random bits are not below it.
    threshold: u64,
    slow: Option<Duration>,
}

impl Sampling {
    pub(super) fn new(share: f64, slow: Option<Duration>) -> Self {
        let all = (1_u64 << RANDOM_BITS) as f64;
        #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "from 0 to 2^56")]
        let threshold = ((1.0 - share.clamp(0.0, 1.0)) * all) as u64;
        Self { threshold, slow }
    }

    /// Whether the exchange is exported. Its client's word that the trace is not recorded holds in any case. Otherwise what went wrong or was slow
    /// is always exported, and a share of the rest. The trace id decides, so that services with the same rule export the same traces.
    pub(super) fn keeps(&self, view: &TraceView<'_>) -> bool {
        if !view.trace.is_sampled() {
            return false;
        }
        let is_slow = self.slow.is_some_and(|slow| view.total > slow);
        is_slow || view.is_notable || self.is_drawn(view.trace.trace_number())
    }

    fn is_drawn(&self, trace: u128) -> bool {
        let random = trace as u64 & ((1 << RANDOM_BITS) - 1);
        random >= self.threshold
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_share_is_that_of_the_random_bits() {
        let all = 1_u128 << RANDOM_BITS;
        let drawn = |share: f64, random: u128| {
            // The bits before the random ones say nothing.
            let trace = 0xabcd << 100 | 0xff << RANDOM_BITS | random;
            Sampling::new(share, None).is_drawn(trace)
        };
        assert!(drawn(1.0, 0) && drawn(1.0, all - 1));
        assert!(!drawn(0.0, 0) && !drawn(0.0, all - 1));
        assert!(!drawn(0.25, all / 4 * 3 - 1) && drawn(0.25, all / 4 * 3));
        let kept = (0..1000).filter(|_| drawn(0.1, fastrand::u128(..all))).count();
        assert!((50..200).contains(&kept), "{kept}");
    }
}
