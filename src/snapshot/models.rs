//! Finds the `[model.NAME]` table of a request's model.

use std::{
    cmp::Reverse,
    collections::{HashMap, HashSet},
    sync::Arc,
};

use super::routes::{Route, RouteCompiler};
use crate::config::{self, Choice, ModelList, ModelTables, ModelUpstreams};

/// The most names that an error message suggests.
const MOST_SHOWN: usize = 3;

/// The most names that are compared for that, and the longest beginning of the requested name, in characters: the time that a client can cost
/// with an unknown name is bounded.
const MOST_COMPARED: usize = 1_000;
const LONGEST_COMPARED: usize = 64;

/// The `[model.NAME]` tables that one route uses: those that lead to an upstream of the route. Bounded by the file.
#[derive(Debug)]
pub struct ModelIndex {
    /// By whole name: those of tables, and their aliases.
    exact: HashMap<Arc<str>, ModelRoute>,
    /// The tables whose names end with `*`, by what is before it; the longest first.
    prefixes: Vec<(Box<str>, ModelRoute)>,
    /// Whether a model without a table is rejected.
    is_closed: bool,
}

/// What a name leads to.
#[derive(Debug)]
pub struct ModelRoute {
    /// The name of the table.
    pub table: Arc<str>,
    /// The route, with the table's upstreams in place of its own.
    pub route: Arc<Route>,
}

impl ModelIndex {
    /// The tables that `route` uses; `None` if there are none.
    pub(super) fn compile(route: &config::Route, compiler: &RouteCompiler<'_>) -> Option<Self> {
        if route.model_tables == ModelTables::Off {
            return None;
        }
        let is_closed = route.model_tables == ModelTables::Only;
        let mut index = Self { exact: HashMap::new(), prefixes: Vec::new(), is_closed };
        for (name, table) in compiler.written.models {
            index.add(name, table, route, compiler);
        }
        index.prefixes.sort_by_key(|(beginning, _)| Reverse(beginning.len()));
        let is_listed = route.model_list == ModelList::Configured;
        let is_needed = is_listed || is_closed || !index.exact.is_empty() || !index.prefixes.is_empty();
        is_needed.then_some(index)
    }

    /// What a request for `model` leads to: the table of this name, else the one with this alias, else the one with the longest beginning of
    /// the name.
    pub fn find(&self, model: &str) -> Option<&ModelRoute> {
        let by_beginning = || {
            let fitting = self.prefixes.iter().find(|(beginning, _)| model.starts_with(&**beginning));
            fitting.map(|(_, found)| found)
        };
        self.exact.get(model).or_else(by_beginning)
    }

    /// The name that a client's `models` are compared with when it asks for `model`: that of the table. A table for a beginning stands for many
    /// models, so there it is the one that was asked for.
    pub fn counted_name<'a>(&'a self, model: &'a str) -> &'a str {
        self.exact.get(model).map_or(model, |found| &*found.table)
    }

    /// Of the names that `is_allowed` accepts, those most like `model`, the most similar first. A table for a beginning is written with its `*`.
    pub fn nearest(&self, model: &str, is_allowed: impl Fn(&str) -> bool) -> Vec<String> {
        let compared: String = model.chars().take(LONGEST_COMPARED).collect();
        let whole = self.exact.iter().map(|(name, found)| (&**name, &found.table));
        let tables = self.prefixes.iter().map(|(_, found)| (&*found.table, &found.table));
        let allowed = whole.chain(tables).filter(|(_, table)| is_allowed(table)).take(MOST_COMPARED);
        let mut near: Vec<(usize, &str)> =
            allowed.map(|(name, _)| (strsim::levenshtein(&compared, name), name)).collect();
        near.sort_unstable();
        near.into_iter().take(MOST_SHOWN).map(|(_, name)| name.to_owned()).collect()
    }

    /// Whether a model without a table is rejected.
    pub fn is_closed(&self) -> bool {
        self.is_closed
    }

    /// All names that requests may have, without the beginnings, in no order.
    pub fn names(&self) -> impl Iterator<Item = &Arc<str>> {
        self.exact.keys()
    }

    /// The routes that names lead to.
    pub(super) fn routes(&self) -> impl Iterator<Item = &Route> {
        let prefixes = self.prefixes.iter().map(|(_, found)| &*found.route);
        self.exact.values().map(|found| &*found.route).chain(prefixes)
    }

    fn add(
        &mut self,
        name: &Arc<str>,
        table: &config::Model,
        route: &config::Route,
        compiler: &RouteCompiler<'_>,
    ) {
        let listed: HashSet<&str> = route.upstreams.iter().map(|choice| &*choice.upstream).collect();
        let may_be_used = |choice: &&Choice| {
            route.model_upstreams == ModelUpstreams::All || listed.contains(&*choice.upstream)
        };
        let choices: Vec<Choice> = table.upstreams.iter().filter(may_be_used).cloned().collect();
        let lead_to = |choices: &[Choice]| {
            let route = Arc::new(compiler.with_upstreams(choices)?);
            Some(ModelRoute { table: name.clone(), route })
        };
        let Some(found) = lead_to(&choices) else { return };
        match name.strip_suffix('*') {
            Some(beginning) => self.prefixes.push((beginning.into(), found)),
            None => _ = self.exact.insert(name.clone(), found),
        }
        if table.aliases.is_empty() {
            return;
        }
        // Upstreams do not know the alias.
        let named =
            |choice: &Choice| Choice { model: choice.model.clone().or(Some(name.clone())), ..choice.clone() };
        let choices: Vec<Choice> = choices.iter().map(named).collect();
        let Some(by_alias) = lead_to(&choices) else { return };
        for alias in &table.aliases {
            let ModelRoute { table, route } = &by_alias;
            self.exact.insert(alias.clone(), ModelRoute { table: table.clone(), route: route.clone() });
        }
    }
}
