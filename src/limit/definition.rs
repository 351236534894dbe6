//! One limit as the configuration defines it, compiled.

use std::sync::Arc;

use super::{Calendar, Rate};
use crate::wait_queue::QueueBounds;

/// A named limit: what it counts, and how much of it is admitted. The counts are in a [`super::Counter`] for each subject.
#[derive(Debug, Clone, PartialEq)]
pub struct Limit {
    /// The configured name, which is in refusals, log and metrics.
    pub name: Arc<str>,
    /// How many requests.
    pub requests: Option<Allowance>,
    /// How many tokens, weighted by [`Limit::weights`].
    pub tokens: Option<Allowance>,
    /// How much money, in nano-units.
    pub cost: Option<Allowance>,
    /// How many requests at once, to the end of their responses.
    pub concurrent: Option<u32>,
    /// What a token of each class counts.
    pub weights: Weights,
    /// False: the limit only counts, and refuses nothing.
    pub enforce: bool,
    /// Whether another candidate is tried when the limit is reached for one.
    pub goes_on: bool,
    /// How requests wait instead of being refused; `None`: they do not.
    pub queue: Option<QueueBounds>,
}

impl Limit {
    /// The allowance of the first unit that it restricts over time; those of the others are for the same time.
    pub fn any_allowance(&self) -> Option<&Allowance> {
        self.requests.as_ref().or(self.tokens.as_ref()).or(self.cost.as_ref())
    }

    /// Whether it restricts what is known only when a request is over: tokens or cost.
    pub fn is_on_use(&self) -> bool {
        self.tokens.is_some() || self.cost.is_some()
    }

    /// The first unit that it restricts.
    pub(super) fn first_unit(&self) -> Unit {
        if self.concurrent.is_some() {
            Unit::Concurrent
        } else if self.requests.is_some() {
            Unit::Requests
        } else if self.tokens.is_some() {
            Unit::Tokens
        } else {
            Unit::Cost
        }
    }
}

/// How much of a unit is admitted, and in what time.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Allowance {
    /// So much per span of time.
    Rate(Rate),
    /// So much per period of a calendar.
    Period {
        /// The days or months.
        calendar: Calendar,
        /// Units in each of them.
        quantity: u64,
    },
}

impl Allowance {
    /// Whether two numbers are meant for the same time.
    pub fn is_for_the_time_of(&self, other: &Self) -> bool {
        match (self, other) {
            (Self::Rate(one), Self::Rate(other)) => one.period() == other.period(),
            (Self::Period { calendar: one, .. }, Self::Period { calendar: other, .. }) => one == other,
            _ => false,
        }
    }

    /// The units per span or period.
    pub fn quantity(&self) -> u64 {
        match self {
            Self::Rate(rate) => rate.quantity(),
            Self::Period { quantity, .. } => *quantity,
        }
    }
}

/// What a limit can be about.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Unit {
    /// Requests.
    Requests,
    /// Weighted tokens.
    Tokens,
    /// Money.
    Cost,
    /// Requests at once.
    Concurrent,
}

impl Unit {
    /// The unit as it is written in the configuration, in the log and as a label of metrics.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Requests => "requests",
            Self::Tokens => "tokens",
            Self::Cost => "cost",
            Self::Concurrent => "concurrent",
        }
    }
}

/// What a token of each class counts in a limit on tokens, in thousandths of a token.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Weights {
    /// Input, except what was read from a provider's cache.
    pub input: u32,
    /// Input that was read from a provider's cache.
    pub cached_input: u32,
    /// Output, reasoning included.
    pub output: u32,
}

impl Default for Weights {
    /// Every token counts as one.
    fn default() -> Self {
        Self { input: 1_000, cached_input: 1_000, output: 1_000 }
    }
}

/// Tokens of one request, in the classes that [`Weights`] distinguish.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
pub struct TokenCount {
    /// Input, except what was read from a provider's cache.
    pub input: u64,
    /// Input that was read from a provider's cache.
    pub cached_input: u64,
    /// Output, reasoning included.
    pub output: u64,
}

impl TokenCount {
    /// The whole input.
    pub fn all_input(&self) -> u64 {
        self.input.saturating_add(self.cached_input)
    }
}

impl Weights {
    /// What `tokens` count together, rounded up to a token.
    pub fn weigh(&self, tokens: TokenCount) -> u64 {
        let thousandths = u128::from(self.input) * u128::from(tokens.input)
            + u128::from(self.cached_input) * u128::from(tokens.cached_input)
            + u128::from(self.output) * u128::from(tokens.output);
        u64::try_from(thousandths.div_ceil(1_000)).unwrap_or(u64::MAX)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tokens_count_by_their_weights() {
        let tokens = TokenCount { input: 100, cached_input: 1_000, output: 10 };
        assert_eq!(Weights::default().weigh(tokens), 1_110);
        let weights = Weights { cached_input: 100, output: 4_000, ..Weights::default() };
        assert_eq!(weights.weigh(tokens), 240);
        assert_eq!(Weights { cached_input: 0, ..Weights::default() }.weigh(tokens), 110);
        // A part of a token counts as one.
        assert_eq!(weights.weigh(TokenCount { cached_input: 1, ..TokenCount::default() }), 1);
        let most = TokenCount { input: u64::MAX, cached_input: u64::MAX, output: u64::MAX };
        assert_eq!(weights.weigh(most), u64::MAX);
    }
}
