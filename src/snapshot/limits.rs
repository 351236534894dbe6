//! The limits of a configuration, and which of them apply to a request.

mod compiled;
mod limited;
#[cfg(test)]
mod tests;
mod view;

use std::{
    io,
    sync::{Arc, OnceLock},
};

pub use view::{LimitView, SubjectView, UnitView};

use super::Snapshot;
use crate::{
    access::{Caller, Callers, KnownCaller, Sharded},
    config::{self, Each},
    limit::{
        Applied, Counter, Estimates, Moment, Refused, certain_refusal,
        shared::{Sharing, SharingSettings, probes},
    },
    store::Store,
    wait_queue::QueueView,
};

use compiled::CompiledLimit;
use limited::{ByName, Found, LimitList, Limited};

/// The limits of a configuration, with the counts of all that they count. The counts belong to the limits and not to the index, so that two
/// configurations which serve requests at the same time count together.
#[derive(Debug, Default)]
pub struct LimitIndex {
    /// What requests probably use. Outlives reloads.
    pub estimates: Arc<Estimates>,
    /// What files of clients do not change.
    rules: Arc<Rules>,
    clients: Sharded<Arc<str>, Limited>,
    /// Where the counts are shared, once that has been started.
    sharing: OnceLock<Arc<Sharing>>,
}

/// The limits, and what refers to them beside clients.
#[derive(Debug, Default)]
struct Rules {
    limits: Vec<CompiledLimit>,
    /// Whether any limit depends on the model that answers.
    any_by_model: bool,
    /// Whether any such limit is on tokens or cost.
    any_on_use_by_model: bool,
    /// Whether any table of a model refers to limits.
    any_in_model_tables: bool,
    /// Cells of each client.
    client_cells: usize,
    /// Of every request.
    of_all: LimitList,
    groups: ByName,
    routes: ByName,
    /// All tables of models.
    models: ByName,
    /// Where the counts are shared with other gateways, by the configuration.
    redis: Option<config::Redis>,
}

/// Which limits are meant.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LimitScope {
    /// Those that apply to a request with any model.
    Request,
    /// Those that depend on the model that answers it.
    Model,
    /// All of them.
    Any,
}

impl LimitScope {
    fn has(self, other: Self) -> bool {
        self == other || self == Self::Any
    }
}

/// What limits need to know of a request.
#[derive(Debug, Clone, Copy)]
pub struct LimitedRequest<'a> {
    /// The known client; `None` on open routes.
    pub caller: Option<&'a Caller>,
    /// Name of the route.
    pub route: &'a str,
    /// Name of the `[model]` table that the model led to.
    pub model_table: Option<&'a str>,
    /// The model that answers, or is asked for.
    pub model: Option<&'a str>,
}

/// The requests that wait for one limit.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct LimitQueued<'a> {
    /// Name of the limit.
    pub limit: &'a Arc<str>,
    /// Those of all subjects together.
    pub view: QueueView,
}

impl LimitIndex {
    /// Compiles the limits of `config`. Counts of `previous` go on where the limit still counts the same subjects for the same time.
    pub(super) fn compile(config: &config::Config, callers: &Callers, previous: Option<&Snapshot>) -> Self {
        let previous = previous.map(|previous| &*previous.limits);
        let sharing = OnceLock::new();
        let going_on = previous.filter(|previous| keeps_counts(config.redis.as_ref(), previous));
        if let Some(before) = going_on.and_then(Self::sharing) {
            let _ = sharing.set(before.clone());
        }
        let rules = Rules::compile(config, going_on.map(|previous| &*previous.rules));
        let mut clients = Sharded::default();
        let mut last: Option<(&KnownCaller, LimitList)> = None;
        for known in callers.all().filter(|_| !rules.limits.is_empty()) {
            let written = || config.clients.get(&known.caller.name).map_or(&[][..], |client| &client.limits);
            let names = known.own.as_ref().map_or_else(written, |own| &own.limits);
            // Many clients have the same terms.
            let same = last.as_ref().filter(|(other, _)| known.own.is_some() && other.own == known.own);
            let list = same.map_or_else(|| rules.list(names), |(_, list)| list.clone());
            if let Some(limited) = Limited::new(list.clone(), rules.client_cells) {
                clients.insert(known.caller.name.clone(), limited);
            }
            last = Some((known, list));
        }
        Self {
            estimates: previous.map(|previous| previous.estimates.clone()).unwrap_or_default(),
            rules: Arc::new(rules),
            clients,
            sharing,
        }
    }

    /// Starts to share the counts, if the configuration says so and they are not shared already.
    ///
    /// # Errors
    /// The system gives no thread.
    pub fn start_sharing(&self) -> io::Result<()> {
        if let Some(redis) = self.rules.redis.as_ref().filter(|_| self.sharing.get().is_none()) {
            let settings =
                SharingSettings { prefix: redis.prefix.clone(), fallback_share: redis.fallback_share };
            let _ = self
                .sharing
                .set(Sharing::start(settings, |probe| Store::start(redis, probe, probes(&redis.prefix)))?);
        }
        Ok(())
    }

    /// Where the counts are shared.
    pub fn sharing(&self) -> Option<&Arc<Sharing>> {
        self.sharing.get()
    }

    /// Whether there are no limits.
    pub fn is_empty(&self) -> bool {
        self.rules.limits.is_empty()
    }

    /// Whether any limit depends on the model that answers.
    pub fn any_by_model(&self) -> bool {
        self.rules.any_by_model
    }

    /// Whether any limit that depends on the model that answers is on tokens or cost.
    pub fn any_on_use_by_model(&self) -> bool {
        self.rules.any_on_use_by_model
    }

    /// Whether it depends on the model's table which limits apply to a request.
    pub fn any_in_model_tables(&self) -> bool {
        self.rules.any_in_model_tables
    }

    /// The limits of this `scope` that apply to a request, in the order global, group, client, route, model.
    pub fn applying(&self, request: &LimitedRequest<'_>, scope: LimitScope) -> Vec<Applied> {
        let rules = &*self.rules;
        let request = &rules.with_own_table(request);
        let found = self.found(request);
        let mut applying: Vec<Applied> = Vec::new();
        for position in std::iter::once(&rules.of_all).chain(found.lists()).flat_map(|list| list.iter()) {
            let Some(compiled) = rules.limits.get(*position) else { continue };
            let is_known = applying.iter().any(|known| Arc::ptr_eq(&known.limit, &compiled.limit));
            if is_known || !scope.has(compiled.scope()) || !compiled.filters.fit(request) {
                continue;
            }
            let counter = match compiled.cell(*position, request, &found) {
                Some(cell) => cell.get_or_init(|| rules.counter(compiled, request)).clone(),
                None => rules.counter(compiled, request),
            };
            applying.push(Applied { limit: compiled.limit.clone(), counter });
        }
        applying
    }

    /// The first of `limits` that refuses every request, whatever it uses, by what this process knows.
    pub fn certain_refusal(&self, limits: &[Applied], now: Moment) -> Option<Refused> {
        match self.sharing() {
            None => certain_refusal(limits, now),
            Some(sharing) => sharing.certain_refusal(limits, now),
        }
    }

    /// The same limits for other clients: those of these names may have come, gone, or have changed. `None`: there are no limits.
    pub(super) fn with_clients(&self, names: &[Arc<str>], after: &Callers) -> Option<Self> {
        if self.is_empty() {
            return None;
        }
        let rules = &self.rules;
        let mut clients = self.clients.clone();
        for name in names {
            let known = after.known(name);
            // The table of a client of the configuration has not changed, whatever a file of its name says.
            if known.is_some_and(|known| known.own.is_none()) {
                continue;
            }
            let own = known.and_then(|known| known.own.as_ref());
            // Its cells are new ones, because another group may make it another subject.
            match own.and_then(|own| Limited::new(rules.list(&own.limits), rules.client_cells)) {
                Some(limited) => _ = clients.insert(name.clone(), limited),
                None => _ = clients.remove(&**name),
            }
        }
        Some(Self {
            estimates: self.estimates.clone(),
            rules: rules.clone(),
            clients,
            sharing: self.sharing.clone(),
        })
    }

    /// All limits, each with what its subjects have used.
    pub fn views(&self) -> impl Iterator<Item = LimitView<'_>> {
        self.rules.limits.iter().map(|compiled| LimitView::new(self, compiled))
    }

    /// The queues of all limits that have one, in the order of the limits' names.
    pub fn queued(&self) -> impl Iterator<Item = LimitQueued<'_>> {
        self.rules
            .limits
            .iter()
            .filter(|compiled| compiled.limit.queue.is_some())
            .map(|compiled| LimitQueued { limit: &compiled.limit.name, view: compiled.counters.queue_view() })
    }

    fn found(&self, request: &LimitedRequest<'_>) -> Found<'_> {
        let Rules { groups, routes, models, .. } = &*self.rules;
        let caller = request.caller;
        Found {
            group: caller.and_then(|caller| groups.get(caller.group.as_ref()?)),
            client: caller.and_then(|caller| self.clients.get(&*caller.name)),
            route: routes.get(request.route),
            model: request.model_table.and_then(|name| models.get(name)),
        }
    }
}

impl Rules {
    /// Compiles the limits, and goes on with the counts of `previous`.
    fn compile(config: &config::Config, previous: Option<&Self>) -> Self {
        let mut limits: Vec<CompiledLimit> =
            config.limits.iter().map(|(name, written)| CompiledLimit::new(name, written)).collect();
        for limit in &mut limits {
            limit.go_on_with(previous.map_or(&[], |previous| &previous.limits), config.redis.is_some());
        }
        let cells = |is_counted: fn(&CompiledLimit) -> bool| {
            if limits.iter().any(is_counted) { limits.len() } else { 0 }
        };
        let client_cells = cells(CompiledLimit::counts_clients);
        let route_cells = cells(|limit| limit.each == Each::Route);
        let all_cells = limits.len();
        let any_by_model = limits.iter().any(|limit| limit.scope() == LimitScope::Model);
        let is_on_use = |limit: &CompiledLimit| limit.scope() == LimitScope::Model && limit.limit.is_on_use();
        let any_on_use_by_model = limits.iter().any(is_on_use);
        let mut rules = Self { limits, any_by_model, any_on_use_by_model, client_cells, ..Self::default() };
        rules.of_all = rules.list(&config.default_limits);
        rules.groups =
            rules.by_name(config.groups.iter().map(|(name, group)| (name, &*group.limits)), client_cells);
        rules.routes =
            rules.by_name(config.routes.iter().map(|(name, route)| (name, &*route.limits)), route_cells);
        rules.models =
            rules.by_name(config.models.iter().map(|(name, model)| (name, &*model.limits)), all_cells);
        rules.any_in_model_tables = rules.models.values().any(|table| !table.list.is_empty());
        rules.redis.clone_from(&config.redis);
        rules
    }

    fn by_name<'n>(
        &self,
        tables: impl Iterator<Item = (&'n Arc<str>, &'n [Arc<str>])>,
        cells: usize,
    ) -> ByName {
        tables
            .filter_map(|(name, limits)| Some((name.clone(), Limited::new(self.list(limits), cells)?)))
            .collect()
    }

    /// The positions of limits.
    fn list(&self, names: &[Arc<str>]) -> LimitList {
        let position = |name: &Arc<str>| self.limits.iter().position(|known| known.limit.name == *name);
        names.iter().filter_map(position).collect()
    }

    /// The request as one of the model that answers: a fallback that has a `[model]` table of its own is not counted as what it stands in for.
    fn with_own_table<'r>(&self, request: &LimitedRequest<'r>) -> LimitedRequest<'r> {
        let own = request.model.filter(|model| self.models.contains_key(*model));
        LimitedRequest { model_table: own.or(request.model_table), ..*request }
    }

    /// The counter of the subject that a request is the use of.
    fn counter(&self, compiled: &CompiledLimit, request: &LimitedRequest<'_>) -> Arc<Counter> {
        let shared = self.redis.as_ref().map(|redis| compiled.shared_subject(&redis.prefix, request));
        // In a store, a client that has moved to another group is another subject.
        let fits = |counter: &Counter| shared.as_ref().is_none_or(|subject| !counter.is_of_another(subject));
        let subject = compiled.subject(request);
        let in_flight = compiled.in_flight.of(&subject);
        let new = || match &shared {
            Some(_) => Counter::new(&compiled.limit).with_in_flight(in_flight),
            None => Counter::for_all_units(&compiled.limit).with_in_flight(in_flight),
        };
        let counter = compiled.counters.of(subject, Moment::now(), fits, new);
        if let Some(subject) = shared {
            counter.share(&compiled.limit, || subject);
        }
        counter
    }
}

/// Whether the counts of `previous` are kept where those of a configuration with this `[redis]` are.
fn keeps_counts(redis: Option<&config::Redis>, previous: &LimitIndex) -> bool {
    match (redis, &previous.rules.redis) {
        (None, None) => true,
        (Some(redis), Some(other)) => redis.is_same(other),
        _ => false,
    }
}
