//! The prices of models, and which of them a request has.

use std::{cmp::Reverse, collections::HashMap, sync::Arc};

use super::PriceList;

/// The prices of models, by name.
#[derive(Debug)]
pub struct PriceBook {
    /// What all prices are in.
    pub currency: Arc<str>,
    /// Whether a request for a model without a price is refused where a limit on cost applies.
    pub refuses_unknown: bool,
    /// By whole name.
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

impl PriceBook {
    /// Creates a book of these prices, by the name of a model, or by the beginning of names and `*`.
    pub fn new(currency: Arc<str>, prices: impl Iterator<Item = (Arc<str>, PriceList)>) -> Self {
        let mut book = Self { currency, refuses_unknown: false, exact: HashMap::new(), prefixes: Vec::new() };
        for (name, list) in prices {
            match name.strip_suffix('*') {
                Some(beginning) => book.prefixes.push((beginning.into(), Arc::new(list))),
                None => _ = book.exact.insert(name, Arc::new(list)),
            }
        }
        book.prefixes.sort_by_key(|(beginning, _)| Reverse(beginning.len()));
        book
    }

    /// Gives an alias the price of `name`, unless it has one of its own under its whole name.
    pub fn add_alias(&mut self, alias: &Arc<str>, name: &str) {
        let Some(list) = self.fit(name).map(|fit| fit.list.clone()) else { return };
        self.exact.entry(alias.clone()).or_insert(list);
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
