//! Which exchanges are exported.

use std::time::{Duration, Instant};

use super::{DropReason, SpanQueue};
use crate::telemetry::ids::TraceContext;

/// Bits of the trace id that decide (OpenTelemetry specification, "TraceState: Probability Sampling": the last 56 bits are random).
const RANDOM_BITS: u32 = 56;

/// What the export of a finished exchange depends on.
#[derive(Debug, Clone, Copy)]
pub struct Chance<'a> {
    /// Its place in a trace.
    pub trace: &'a TraceContext,
    /// When it ended.
    pub end: Instant,
    /// Duration.
    pub total: Duration,
    /// What went wrong.
    pub mishap: Option<Mishap>,
    /// How many spans it has.
    pub spans: u64,
}

/// What an operator looks for in a trace.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Mishap {
    /// Something went wrong at an upstream or in the gateway, or the response was cut.
    Failed,
    /// The gateway refused the request by itself with a status of 500 and more. Anybody can cause that at any rate, and all these traces look alike.
    Refused,
}

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

    /// Whether the exchange is exported. Its client's word that the trace is not recorded holds in any case. A share of all others is exported: the
    /// trace id decides, so that services with the same rule export the same traces. Beyond the share, what went wrong or was slow is exported
    /// up to a number per second; what exceeds that is counted as dropped.
    pub(super) fn keeps(&self, chance: &Chance<'_>, queue: &SpanQueue) -> bool {
        if !chance.trace.is_sampled() {
            return false;
        }
        if self.is_drawn(chance.trace.trace_number()) {
            return true;
        }
        let is_slow = self.slow.is_some_and(|slow| chance.total > slow);
        let Some(mishap) = chance.mishap.or(is_slow.then_some(Mishap::Failed)) else { return false };
        let is_within = queue.rates().admits(mishap, chance.end);
        if !is_within {
            queue.counts().dropped(DropReason::RateLimited, chance.spans);
        }
        is_within
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

    /// How many of 1,000 exchanges that end at once are kept, and how many spans are counted as left out.
    fn kept(sampling: &Sampling, total: Duration, mishap: Option<Mishap>) -> (usize, u64) {
        let (queue, end) = (SpanQueue::default(), Instant::now());
        let keeps = |_: &i32| {
            let trace = TraceContext::random();
            sampling.keeps(&Chance { trace: &trace, end, total, mishap, spans: 2 }, &queue)
        };
        let kept = (0..1000).filter(keeps).count();
        let [.., (reason, left_out)] = queue.counts().drops();
        assert_eq!(reason, "rate_limited");
        (kept, left_out)
    }

    #[test]
    fn what_is_always_exported_is_bounded_and_the_rest_of_it_is_counted() {
        let second = Duration::from_secs(1);
        let none = Sampling::new(0.0, Some(second));
        assert_eq!(kept(&none, second, None), (0, 0));
        assert_eq!(kept(&none, second, Some(Mishap::Failed)), (100, 1800));
        assert_eq!(kept(&none, second, Some(Mishap::Refused)), (10, 1980));
        assert_eq!(kept(&none, 2 * second, None), (100, 1800), "what is slow is bounded as well");
        let half = Sampling::new(0.5, None);
        let (kept, left_out) = kept(&half, second, Some(Mishap::Refused));
        assert!((400..600).contains(&kept), "the share goes on: {kept}");
        assert_eq!(left_out, 2 * (1000 - kept as u64));
    }
}
