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

    /// What a connection costs whose turns have used so much so far. Each turn is in a tier of its own.
    pub(super) fn cost_of_turns(&mut self, used: &PricedTokens) -> Money {
        if let Some(list) = &self.list {
            let turn = used.since(&self.turns);
            self.cost_of_turns = self.cost_of_turns.saturating_add(list.cost(&turn));
        }
        self.turns = *used;
        self.cost_of_turns
    }

    /// What the exchange has cost, with prices of the model that answered. `None`: it has no price.
    pub(super) fn cost(mut self, record: &Record, used: &PricedTokens, is_estimated: bool) -> Option<Cost> {
        let list = self.list_at_the_end(record)?.clone();
        let amount = if record.tunnel.is_some() {
            self.list = Some(list);
            self.cost_of_turns(used)
        } else {
            list.cost(used)
        };
        Some(Cost { amount, currency: self.book.currency.clone(), is_estimated })
    }

    fn list_of(&self, sent: Option<&str>) -> Option<&Arc<PriceList>> {
        let asked = self.asked.as_deref();
        self.book.of(&ModelNames {
            answered: None,
            sent: sent.or(asked),
            table: self.table.as_deref(),
            asked,
        })
    }

    fn list_at_the_end(&self, record: &Record) -> Option<&Arc<PriceList>> {
        // The messages of a WebSocket connection name the model later.
        let asked = self.asked.as_deref().or(record.model.as_deref());
        let sent = record.attempts.last().and_then(|attempt| attempt.model.as_deref());
        self.book.of(&ModelNames {
            answered: record.reading.model.as_deref(),
            sent: sent.or(asked),
            table: self.table.as_deref(),
            asked,
        })
    }
}
