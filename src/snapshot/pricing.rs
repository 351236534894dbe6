//! The prices of a configuration.

use std::sync::Arc;

use crate::{
    config::{self, ModelPrices, PriceTier, UnknownPrice},
    limit::{PriceBook, PriceList, Prices, Tier},
    money::TokenPrice,
};

/// Compiles the prices of `config`; `None` if it has none. An alias of a `[model]` table has the table's price.
pub(super) fn compile(config: &config::Config) -> Option<Arc<PriceBook>> {
    let written = config.pricing.as_ref()?;
    let prices = written.models.iter().map(|(name, prices)| (name.clone(), price_list(prices)));
    let mut book = PriceBook::new(written.currency.clone(), prices);
    book.refuses_unknown = written.unknown == UnknownPrice::Refuse;
    for (table, model) in &config.models {
        model.aliases.iter().for_each(|alias| book.add_alias(alias, table));
    }
    Some(Arc::new(book))
}

/// The prices that were written, each class that was not as the one that it belongs to.
fn price_list(written: &ModelPrices) -> PriceList {
    let base = Written {
        input: written.input,
        cached_input: written.cached_input,
        cache_write: written.cache_write,
        cache_write_1h: written.cache_write_1h,
        output: written.output,
        reasoning: written.reasoning,
        audio_input: written.audio_input,
        audio_output: written.audio_output,
    };
    let tiers =
        written.tiers.iter().map(|tier| Tier { above: tier.above, prices: base.under(tier).prices() });
    PriceList::new(base.prices(), tiers.collect())
}

/// The prices that a table has.
struct Written {
    input: Option<TokenPrice>,
    cached_input: Option<TokenPrice>,
    cache_write: Option<TokenPrice>,
    cache_write_1h: Option<TokenPrice>,
    output: Option<TokenPrice>,
    reasoning: Option<TokenPrice>,
    audio_input: Option<TokenPrice>,
    audio_output: Option<TokenPrice>,
}

impl Written {
    /// Those of a tier, and where it has none, these.
    fn under(&self, tier: &PriceTier) -> Self {
        Self {
            input: tier.input.or(self.input),
            cached_input: tier.cached_input.or(self.cached_input),
            cache_write: tier.cache_write.or(self.cache_write),
            cache_write_1h: tier.cache_write_1h.or(self.cache_write_1h),
            output: tier.output.or(self.output),
            reasoning: tier.reasoning.or(self.reasoning),
            audio_input: tier.audio_input.or(self.audio_input),
            audio_output: tier.audio_output.or(self.audio_output),
        }
    }

    fn prices(&self) -> Prices {
        let input = self.input.unwrap_or_default();
        let output = self.output.unwrap_or_default();
        let cache_write = self.cache_write.unwrap_or(input);
        Prices {
            input,
            cached_input: self.cached_input.unwrap_or(input),
            cache_write,
            cache_write_1h: self.cache_write_1h.unwrap_or(cache_write),
            output,
            reasoning: self.reasoning.unwrap_or(output),
            audio_input: self.audio_input.unwrap_or(input),
            audio_output: self.audio_output.unwrap_or(output),
        }
    }
}

#[cfg(test)]
mod tests;
