//! What the tokens of a request cost. No rounding happens before the cost of the whole request is known.

use super::TokenCount;
use crate::{
    money::{Money, TokenPrice},
    openai::TokenClasses,
};

/// What the tokens of each class cost.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
pub struct Prices {
    /// Input that was neither read from a provider's cache nor written to it.
    pub input: TokenPrice,
    /// Input that was read from the cache.
    pub cached_input: TokenPrice,
    /// Input that was written to the cache, for less than an hour.
    pub cache_write: TokenPrice,
    /// Input that was written to the cache for an hour.
    pub cache_write_1h: TokenPrice,
    /// Output that is neither reasoning nor audio.
    pub output: TokenPrice,
    /// Reasoning.
    pub reasoning: TokenPrice,
    /// Audio in the input.
    pub audio_input: TokenPrice,
    /// Audio in the output.
    pub audio_output: TokenPrice,
}

/// Tokens in classes of which none is part of another: their sum is all that was used.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
pub struct PricedTokens {
    /// As [`Prices::input`].
    pub input: u64,
    /// As [`Prices::cached_input`].
    pub cached_input: u64,
    /// As [`Prices::cache_write`].
    pub cache_write: u64,
    /// As [`Prices::cache_write_1h`].
    pub cache_write_1h: u64,
    /// As [`Prices::output`].
    pub output: u64,
    /// As [`Prices::reasoning`].
    pub reasoning: u64,
    /// As [`Prices::audio_input`].
    pub audio_input: u64,
    /// As [`Prices::audio_output`].
    pub audio_output: u64,
}

impl PricedTokens {
    /// All tokens of the input, by which a tier is chosen.
    pub fn all_input(&self) -> u64 {
        [self.cached_input, self.cache_write, self.cache_write_1h, self.audio_input]
            .into_iter()
            .fold(self.input, u64::saturating_add)
    }

    /// The same tokens in the classes that limits on tokens distinguish.
    pub fn counted(&self) -> TokenCount {
        TokenCount {
            input: self.all_input().saturating_sub(self.cached_input),
            cached_input: self.cached_input,
            output: self.output.saturating_add(self.reasoning).saturating_add(self.audio_output),
        }
    }
}

impl From<TokenClasses> for PricedTokens {
    /// What the upstream has not reported counts as nothing.
    fn from(classes: TokenClasses) -> Self {
        let of = |count: Option<u64>| count.unwrap_or(0);
        Self {
            input: of(classes.input),
            cached_input: of(classes.cached_input),
            cache_write: of(classes.cache_write),
            cache_write_1h: of(classes.cache_write_1h),
            output: of(classes.output),
            reasoning: of(classes.reasoning),
            audio_input: of(classes.audio_input),
            audio_output: of(classes.audio_output),
        }
    }
}

impl From<TokenCount> for PricedTokens {
    /// Tokens of which nobody knows more than [`TokenCount`] says.
    fn from(tokens: TokenCount) -> Self {
        Self {
            input: tokens.input,
            cached_input: tokens.cached_input,
            output: tokens.output,
            ..Self::default()
        }
    }
}

/// The prices of a model: those of ordinary requests, and of requests with a long input.
#[derive(Debug, Default, Clone, PartialEq, Eq)]
pub struct PriceList {
    base: Prices,
    /// From the lowest threshold to the highest.
    tiers: Vec<Tier>,
}

/// Prices of requests whose input has more than so many tokens.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Tier {
    /// The input of a request in this tier has more tokens than this.
    pub above: u64,
    /// What all tokens of such a request cost.
    pub prices: Prices,
}

impl PriceList {
    /// Creates a price list. The order of the tiers does not matter.
    pub fn new(base: Prices, mut tiers: Vec<Tier>) -> Self {
        tiers.sort_by_key(|tier| tier.above);
        Self { base, tiers }
    }

    /// What a request costs: all its tokens at the prices of the tier that its whole input is in, rounded once, half up, to a nano-unit.
    pub fn cost(&self, tokens: &PricedTokens) -> Money {
        let input = tokens.all_input();
        let tier = self.tiers.iter().rev().find(|tier| input > tier.above);
        let prices = tier.map_or(&self.base, |tier| &tier.prices);
        let picos = prices.input.of(tokens.input)
            + prices.cached_input.of(tokens.cached_input)
            + prices.cache_write.of(tokens.cache_write)
            + prices.cache_write_1h.of(tokens.cache_write_1h)
            + prices.output.of(tokens.output)
            + prices.reasoning.of(tokens.reasoning)
            + prices.audio_input.of(tokens.audio_input)
            + prices.audio_output.of(tokens.audio_output);
        Money::of_picos(picos)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn price(text: &str) -> TokenPrice {
        TokenPrice::per_million(text).expect(text)
    }

    #[test]
    fn each_class_has_its_own_price_and_is_counted_once() {
        let base = Prices {
            input: price("2.50"),
            cached_input: price("1.25"),
            cache_write: price("3"),
            cache_write_1h: price("6"),
            output: price("10"),
            reasoning: price("10"),
            audio_input: price("40"),
            audio_output: price("80"),
        };
        let list = PriceList::new(base, Vec::new());
        let tokens = PricedTokens {
            input: 1_000,
            cached_input: 2_000,
            cache_write: 100,
            cache_write_1h: 50,
            output: 300,
            reasoning: 200,
            audio_input: 10,
            audio_output: 20,
        };
        // 0.0025 + 0.0025 + 0.0003 + 0.0003 + 0.003 + 0.002 + 0.0004 + 0.0016
        assert_eq!(list.cost(&tokens).to_string(), "0.0126");
        assert_eq!(tokens.counted(), TokenCount { input: 1_160, cached_input: 2_000, output: 520 });
        assert_eq!(list.cost(&PricedTokens::default()), Money::default());
    }

    #[test]
    fn a_long_input_is_in_a_tier_as_a_whole() {
        let of = |input| Prices { input: price(input), ..Prices::default() };
        let tiers = vec![Tier { above: 200_000, prices: of("5") }, Tier { above: 100, prices: of("2") }];
        let list = PriceList::new(of("1"), tiers);
        let cost = |input, cached_input| {
            list.cost(&PricedTokens { input, cached_input, ..PricedTokens::default() }).to_string()
        };
        assert_eq!(cost(100, 0), "0.0001");
        assert_eq!(cost(101, 0), "0.000202");
        assert_eq!(cost(200_001, 0), "1.000005");
        // Tokens from the cache count for the threshold, although they cost nothing here.
        assert_eq!(cost(1, 200_000), "0.000005");
    }

    #[test]
    fn a_cost_is_rounded_half_up_once() {
        let list = PriceList::new(Prices { input: price("0.0005"), ..Prices::default() }, Vec::new());
        let cost = |input| list.cost(&PricedTokens { input, ..PricedTokens::default() }).nanos();
        assert_eq!((cost(0), cost(1), cost(2), cost(3)), (0, 1, 1, 2));
    }

    proptest! {
        /// The sum over requests differs from the exact cost of all their tokens by less than half a nano-unit each.
        #[test]
        fn money_adds_up(requests in prop::collection::vec((0..5_000_000_u64, 0..5_000_000_u64), 1..40)) {
            let base = Prices { input: price("0.123457"), output: price("7.654321"), ..Prices::default() };
            let list = PriceList::new(base, Vec::new());
            let mut exact = 0_u128;
            let mut sum = Money::default();
            for (input, output) in &requests {
                exact += base.input.of(*input) + base.output.of(*output);
                sum = sum.saturating_add(list.cost(&PricedTokens { input: *input, output: *output, ..PricedTokens::default() }));
            }
            let difference = (u128::from(sum.nanos()) * 1_000).abs_diff(exact);
            prop_assert!(difference <= 500 * requests.len() as u128);
        }
    }
}
