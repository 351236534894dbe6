//! The tightest of several limits, which is what a client gets to know.

use super::{Applied, Left, Moment, Unit};

/// What is left of the tightest limit of each unit: of the one with the smallest part of its quantity left.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
pub struct Tightest {
    /// Of requests, if any limit restricts them over time.
    pub requests: Option<Left>,
    /// Of tokens.
    pub tokens: Option<Left>,
}

impl Tightest {
    /// Compares what is left of `limits`. Those that do not enforce do not count.
    pub fn of<'a>(limits: impl Iterator<Item = &'a Applied>, now: Moment) -> Self {
        let mut tightest = Self::default();
        for Applied { limit, counter } in limits.filter(|applied| applied.limit.enforce) {
            tightest.requests = tighter(tightest.requests, counter.left(limit, Unit::Requests, now));
            tightest.tokens = tighter(tightest.tokens, counter.left(limit, Unit::Tokens, now));
        }
        tightest
    }

    /// Whether no limit restricts any of the units.
    pub fn is_empty(&self) -> bool {
        self.requests.is_none() && self.tokens.is_none()
    }
}

/// The one of which the smaller part is left, the first of two that are equal.
fn tighter(one: Option<Left>, other: Option<Left>) -> Option<Left> {
    let (Some(first), Some(second)) = (one, other) else { return one.or(other) };
    // a ÷ b < c ÷ d, without a division.
    let is_tighter = u128::from(second.remaining) * u128::from(first.quantity)
        < u128::from(first.remaining) * u128::from(second.quantity);
    Some(if is_tighter { second } else { first })
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn the_tightest_limit_is_the_one_with_the_smallest_part_left() {
        let left = |quantity, remaining| {
            Some(Left {
                quantity,
                at_once: quantity,
                used: quantity.saturating_sub(remaining),
                remaining,
                full_in: Duration::ZERO,
            })
        };
        let all = [left(100, 50), None, left(10, 4), left(1_000, 400), left(1_000, 900)];
        assert_eq!(all.into_iter().fold(None, tighter), left(10, 4));
        assert_eq!(tighter(None, None), None);
    }
}
