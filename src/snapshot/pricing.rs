//! The prices of a configuration, and which of them a request has.

use std::{cmp::Reverse, collections::HashMap, sync::Arc};

use crate::{
    config::{self, ModelPrices, PriceTier, UnknownPrice},
    limit::{PriceList, Prices, Tier},
    money::TokenPrice,
};

/// The prices of models, by name. Bounded by the file.
#[derive(Debug)]
pub struct Pricing {
    /// What all prices are in.
    pub currency: Arc<str>,
    /// What happens to a request without a price under a limit on cost.
    pub unknown: UnknownPrice,
    /// By whole name: those of `[pricing.model]`, and the aliases of `[model]` tables.
    exact: HashMap<Arc<str>, Arc<PriceList>>,
    /// By the beginning of names; the longest first.
    prefixes: Vec<(Box<str>, Arc<PriceList>)>,
}

/// The names that the model of a request has.
#[derive(Debug, Default, Clone, Copy)]
pub struct ModelNames<'a> {
    /// In the response.
    pub answered: Option<&'a str>,
    /// In the request to the upstream.
    pub sent: Option<&'a str>,
    /// Of the `[model]` table.
    pub table: Option<&'a str>,
    /// In the client's request.
    pub asked: Option<&'a str>,
}

/// A price, and how exactly its name fits.
struct Fit<'p> {
    list: &'p Arc<PriceList>,
    /// Bytes of the beginning that fits; the most for a whole name.
    length: usize,
}

impl Pricing {
    /// Compiles the prices of `config`; `None` if it has none.
    pub(super) fn compile(config: &config::Config) -> Option<Arc<Self>> {
        let written = config.pricing.as_ref()?;
        let mut pricing = Self {
            currency: written.currency.clone(),
            unknown: written.unknown,
            exact: HashMap::new(),
            prefixes: Vec::new(),
        };
        for (name, prices) in &written.models {
            let list = Arc::new(price_list(prices));
            match name.strip_suffix('*') {
                Some(beginning) => pricing.prefixes.push((beginning.into(), list)),
                None => _ = pricing.exact.insert(name.clone(), list),
            }
        }
        pricing.prefixes.sort_by_key(|(beginning, _)| Reverse(beginning.len()));
        let tables = config.models.iter();
        let aliases = tables.flat_map(|(table, model)| model.aliases.iter().map(move |alias| (alias, table)));
        for (alias, table) in aliases {
            let Some(list) = pricing.fit(table).map(|fit| fit.list.clone()) else { continue };
            pricing.exact.entry(alias.clone()).or_insert(list);
        }
        Some(Arc::new(pricing))
    }

    /// The prices of a request: of the model that answered, by the name that fits most exactly, that in the response or that in the
    /// request to the upstream; if neither has a price, of the `[model]` table, or of the name that the client asked for.
    pub fn of(&self, names: &ModelNames<'_>) -> Option<&Arc<PriceList>> {
        let fit = |name: Option<&str>| name.and_then(|name| self.fit(name));
        let used = match (fit(names.answered), fit(names.sent)) {
            (Some(answered), Some(sent)) if sent.length > answered.length => Some(sent),
            (answered, sent) => answered.or(sent),
        };
        let found = used.or_else(|| fit(names.table)).or_else(|| fit(names.asked))?;
        Some(found.list)
    }

    fn fit(&self, name: &str) -> Option<Fit<'_>> {
        if let Some(list) = self.exact.get(name) {
            return Some(Fit { list, length: usize::MAX });
        }
        let (beginning, list) = self.prefixes.iter().find(|(beginning, _)| name.starts_with(&**beginning))?;
        Some(Fit { list, length: beginning.len() })
    }
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
