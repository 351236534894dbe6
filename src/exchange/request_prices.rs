//! What the tokens of one exchange cost.

use std::sync::Arc;

use super::Record;
use crate::{
    limit::{ModelNames, PriceBook, PriceList, PricedTokens, TokenCount},
    money::{Cost, Money},
};

/// The prices of one exchange: before its end those of the model that is asked for, at its end those of the model that answered.
#[derive(Debug)]
pub struct RequestPrices {
    book: Arc<PriceBook>,
    /// Name of the `[model]` table.
    table: Option<Arc<str>>,
    /// The model in the client's request.
    asked: Option<Box<str>>,
    /// The prices of the model that is asked; `None` if it has none.
    list: Option<Arc<PriceList>>,
    /// Of a connection with several turns, what the turns before have used, and what that cost.
    turns: PricedTokens,
    cost_of_turns: Money,
}

impl RequestPrices {
    /// The prices of a request for the model `asked`, which led to `table`.
    pub fn new(book: &Arc<PriceBook>, asked: Option<&str>, table: Option<Arc<str>>) -> Self {
        let mut prices = Self {
            book: book.clone(),
            table,
            asked: asked.map(Into::into),
            list: None,
            turns: PricedTokens::default(),
            cost_of_turns: Money::default(),
        };
        prices.ask_for(None);
        prices
    }

    /// Notes that an upstream is asked for the model `sent`, if that is another one than the client asks for.
    pub(super) fn ask_for(&mut self, sent: Option<&str>) {
        self.list = self.list_of(sent).cloned();
    }

    /// What so many tokens cost of the model `sent`, or of the one that the client asks for. Nothing, if it has no price.
    pub(super) fn cost_of(&self, sent: Option<&str>, tokens: TokenCount) -> Money {
        let list = if sent.is_none() { self.list.as_ref() } else { self.list_of(sent) };
        list.map_or_else(Money::default, |list| list.cost(&tokens.into()))
    }

    /// What a connection costs whose turns have used so much so far. `model` is the one that answers. Each turn is in a tier of its own.
    pub(super) fn cost_of_turns(&mut self, model: Option<&str>, used: &PricedTokens) -> Money {
        let names = ModelNames { answered: model, sent: self.asked.as_deref(), ..self.names() };
        if let Some(list) = self.book.of(&names) {
            self.cost_of_turns = self.cost_of_turns.saturating_add(list.cost(&used.since(&self.turns)));
            self.turns = *used;
        }
        self.cost_of_turns
    }

    /// What the exchange has cost, with prices of the model that answered. `None`: it has no price.
    pub(super) fn cost(self, record: &Record, used: &PricedTokens, is_estimated: bool) -> Option<Cost> {
        // The messages of a WebSocket connection name the model later.
        let named = self.asked.as_deref().or(record.model.as_deref());
        let sent = record.attempts.last().and_then(|attempt| attempt.model.as_deref());
        let answered = record.reading.model.as_deref();
        let names = ModelNames { answered, sent: sent.or(named), asked: named, ..self.names() };
        let list = self.book.of(&names)?;
        let amount = if record.tunnel.is_some() {
            self.cost_of_turns.saturating_add(list.cost(&used.since(&self.turns)))
        } else {
            list.cost(used)
        };
        Some(Cost { amount, currency: self.book.currency.clone(), is_estimated })
    }

    fn list_of(&self, sent: Option<&str>) -> Option<&Arc<PriceList>> {
        self.book.of(&ModelNames { sent: sent.or(self.asked.as_deref()), ..self.names() })
    }

    fn names(&self) -> ModelNames<'_> {
        ModelNames { table: self.table.as_deref(), asked: self.asked.as_deref(), ..ModelNames::default() }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        limit::{Prices, Tier},
        money::TokenPrice,
    };

    /// A million tokens of input cost 1, and 2 in an input of more than 100 tokens.
    fn book() -> Arc<PriceBook> {
        let of = |text| Prices { input: TokenPrice::per_million(text).unwrap(), ..Prices::default() };
        let list = PriceList::new(of("1"), vec![Tier { above: 100, prices: of("2") }]);
        Arc::new(PriceBook::new("USD".into(), [(Arc::from("gpt"), list)].into_iter()))
    }

    fn input(input: u64) -> PricedTokens {
        PricedTokens { input, ..PricedTokens::default() }
    }

    #[test]
    fn each_turn_is_in_a_tier_of_its_own() {
        let mut prices = RequestPrices::new(&book(), Some("gpt"), None);
        assert_eq!(prices.cost_of_turns(None, &input(80)).nanos(), 80_000);
        assert_eq!(prices.cost_of_turns(None, &input(160)).nanos(), 160_000);
        assert_eq!(prices.cost_of_turns(None, &input(261)).nanos(), 160_000 + 202_000);
    }

    #[test]
    fn turns_before_the_model_is_known_are_charged_when_it_is() {
        let mut prices = RequestPrices::new(&book(), None, None);
        assert_eq!(prices.cost_of_turns(None, &input(40)).nanos(), 0);
        assert_eq!(prices.cost_of_turns(Some("gpt"), &input(60)).nanos(), 60_000);
        assert_eq!(prices.cost_of_turns(Some("gpt"), &input(70)).nanos(), 70_000);
    }

    #[test]
    fn what_is_expected_has_the_price_of_the_model_that_is_asked() {
        let tokens = TokenCount { input: 10, ..TokenCount::default() };
        let mut prices = RequestPrices::new(&book(), Some("other"), None);
        assert_eq!(prices.cost_of(None, tokens).nanos(), 0);
        assert_eq!(prices.cost_of(Some("gpt"), tokens).nanos(), 10_000);
        prices.ask_for(Some("gpt"));
        assert_eq!(prices.cost_of(None, tokens).nanos(), 10_000);
    }
}
