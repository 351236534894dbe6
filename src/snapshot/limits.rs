//! The limits of a configuration, and which of them apply to a request.

mod view;

use std::{
    collections::{BTreeMap, BTreeSet},
    io,
    sync::{Arc, OnceLock},
};

pub use view::{LimitView, SubjectView, UnitView};

use super::Snapshot;
use crate::{
    access::{self, Caller, Callers, OwnTerms, Sharded},
    config::{self, Burst, Each, Exhausted, Per},
    limit::{
        Allowance, Applied, Calendar, CalendarUnit, Counter, Counters, Estimates, Limit, Moment, Rate,
        Refused, Weights, certain_refusal,
        shared::{Sharing, SharingSettings, Subject as SharedSubject},
    },
    money::Money,
    store::Store,
    wait_queue::{QueueBounds, QueueView, Room},
};

/// The limits of a configuration, with the counts of all that they count.
#[derive(Debug, Default)]
pub struct LimitIndex {
    limits: Vec<CompiledLimit>,
    /// Whether any limit depends on the model that answers.
    any_by_model: bool,
    /// What requests probably use. Outlives reloads.
    pub estimates: Arc<Estimates>,
    /// The subjects that limits count.
    subjects: Subjects,
    /// Of every request.
    of_all: LimitList,
    of_groups: BTreeMap<Arc<str>, LimitList>,
    of_clients: Sharded<Arc<str>, LimitList>,
    of_routes: BTreeMap<Arc<str>, LimitList>,
    of_models: BTreeMap<Arc<str>, LimitList>,
    /// Where the counts are shared with other gateways, by the configuration.
    redis: Option<config::Redis>,
    /// The same, once it has been started.
    sharing: OnceLock<Arc<Sharing>>,
}

/// Limits by their positions in the index.
type LimitList = Box<[usize]>;

/// Which limits are meant.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LimitScope {
    /// Those that apply to a request whoever answers it.
    Request,
    /// Those that depend on the model that answers it.
    Model,
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

/// One limit, compiled.
#[derive(Debug, Clone)]
struct CompiledLimit {
    limit: Arc<Limit>,
    each: Each,
    filters: Arc<Filters>,
    counters: Arc<Counters>,
}

/// What a limit is about; `None`: all.
#[derive(Debug, Default)]
struct Filters {
    models: Option<Vec<String>>,
    routes: Option<Vec<Arc<str>>>,
    clients: Option<Vec<Arc<str>>>,
    groups: Option<Vec<Arc<str>>>,
}

/// The names of everything that limits can count, each list in the order of the alphabet. The first subject of each kind is the one without a
/// name: the callers of open routes, the models without a table.
#[derive(Debug, Clone, Default)]
struct Subjects {
    clients: Vec<Arc<str>>,
    groups: Vec<Arc<str>>,
    routes: Vec<Arc<str>>,
    models: Vec<Arc<str>>,
}

impl LimitIndex {
    /// Compiles the limits of `config`. Counts of `previous` go on where the limit still counts the same units in the same manner.
    pub(super) fn compile(config: &config::Config, callers: &Callers, previous: Option<&Snapshot>) -> Self {
        let mut subjects = Subjects::of(config);
        let of_files = || callers.all().filter(|known| known.own.is_some());
        subjects.add_clients(of_files().map(|known| &known.caller.name));
        let limits: Vec<CompiledLimit> = config
            .limits
            .iter()
            .map(|(name, written)| CompiledLimit::new(name, written, &subjects))
            .collect();
        let position = |name: &Arc<str>| limits.iter().position(|known| known.limit.name == *name);
        let list = |names: &[Arc<str>]| -> LimitList { names.iter().filter_map(position).collect() };
        let mut of_clients = Sharded::default();
        let in_file = config.clients.iter().map(|(name, client)| (name, &*client.limits));
        let own = callers.all().filter_map(|known| Some((&known.caller.name, &*known.own.as_ref()?.limits)));
        for (name, names) in in_file.chain(own).filter(|(_, names)| !names.is_empty()) {
            of_clients.insert(name.clone(), list(names));
        }
        let index = Self {
            of_all: list(&config.default_limits),
            of_groups: lists(config.groups.iter().map(|(name, group)| (name, list(&group.limits)))),
            of_clients,
            of_routes: lists(config.routes.iter().map(|(name, route)| (name, list(&route.limits)))),
            of_models: lists(config.models.iter().map(|(name, model)| (name, list(&model.limits)))),
            estimates: previous.map(|previous| previous.limits.estimates.clone()).unwrap_or_default(),
            subjects,
            any_by_model: limits.iter().any(|limit| limit.scope() == LimitScope::Model),
            limits,
            redis: config.redis.clone(),
            sharing: OnceLock::new(),
        };
        if let Some(previous) = previous
            && index.shares_with(&previous.limits)
        {
            index.go_on_with(&previous.limits, callers);
        }
        index
    }

    /// Starts to share the counts, if the configuration says so and they are not shared already.
    ///
    /// # Errors
    /// The system gives no thread.
    pub fn start_sharing(&self) -> io::Result<()> {
        if let Some(redis) = self.redis.as_ref().filter(|_| self.sharing.get().is_none()) {
            let settings =
                SharingSettings { prefix: redis.prefix.clone(), fallback_share: redis.fallback_share };
            let _ = self.sharing.set(Sharing::start(settings, |probe| Store::start(redis, probe))?);
        }
        Ok(())
    }

    /// Where the counts are shared.
    pub fn sharing(&self) -> Option<&Arc<Sharing>> {
        self.sharing.get()
    }

    /// Whether the counts of `previous` are kept where these are. If they are shared, so is the connection.
    fn shares_with(&self, previous: &Self) -> bool {
        match (&self.redis, &previous.redis) {
            (None, None) => true,
            (Some(redis), Some(other)) if redis.is_same(other) => {
                if let Some(sharing) = previous.sharing.get() {
                    let _ = self.sharing.set(sharing.clone());
                }
                true
            }
            _ => false,
        }
    }

    /// Whether there are no limits.
    pub fn is_empty(&self) -> bool {
        self.limits.is_empty()
    }

    /// Whether any limit depends on the model that answers.
    pub fn any_by_model(&self) -> bool {
        self.any_by_model
    }

    /// The limits of this `scope` that apply to a request, in the order global, group, client, route, model.
    pub fn applying(&self, request: &LimitedRequest<'_>, scope: LimitScope) -> Vec<Applied> {
        let request = &self.subjects.with_own_table(request);
        let group = request.caller.and_then(|caller| caller.group.as_ref());
        let lists = [
            &*self.of_all,
            of(&self.of_groups, group.map(|name| &**name)),
            request.caller.and_then(|caller| self.of_clients.get(&*caller.name)).map_or(&[], |list| list),
            of(&self.of_routes, Some(request.route)),
            of(&self.of_models, request.model_table),
        ];
        let mut applying: Vec<Applied> = Vec::new();
        for position in lists.into_iter().flatten() {
            let Some(compiled) = self.limits.get(*position) else { continue };
            let is_known = applying.iter().any(|known| Arc::ptr_eq(&known.limit, &compiled.limit));
            if is_known || compiled.scope() != scope || !compiled.filters.fit(request) {
                continue;
            }
            if let Some(counter) =
                compiled.counters.of(self.subjects.of_request(compiled, request), &compiled.limit)
            {
                if let Some(redis) = &self.redis {
                    counter.share(&compiled.limit, || compiled.shared_subject(&redis.prefix, request));
                }
                applying.push(Applied { limit: compiled.limit.clone(), counter: counter.clone() });
            }
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

    /// The same limits for other clients: those of these names may have come, gone, or have other limits. `None`: nothing of that concerns limits.
    pub(super) fn with_clients(&self, names: &[Arc<str>], [before, after]: [&Callers; 2]) -> Option<Self> {
        let terms = |callers: &Callers, name: &str| callers.known(name).map(|known| known.own.clone());
        let limits_of =
            |terms: Option<Option<Arc<OwnTerms>>>| terms.map(|own| own.map(|own| own.limits.clone()));
        let is_same = |name: &&Arc<str>| limits_of(terms(before, name)) == limits_of(terms(after, name));
        if self.limits.is_empty() || names.iter().all(|name| is_same(&name)) {
            return None;
        }
        let mut index =
            Self { limits: self.limits.clone(), of_clients: self.of_clients.clone(), ..self.share() };
        let (there, gone): (Vec<_>, Vec<_>) = names.iter().partition(|name| after.by_name(name).is_some());
        index.subjects.add_clients(there.iter().copied());
        index.subjects.remove_clients(&gone.into_iter().collect());
        for name in names {
            index.of_clients.remove(&**name);
            let own = terms(after, name).flatten();
            if let Some(own) = own.filter(|own| !own.limits.is_empty()) {
                index.of_clients.insert(name.clone(), index.list(&own.limits));
            }
        }
        for compiled in
            index.limits.iter_mut().filter(|limit| matches!(limit.each, Each::Client | Each::Group))
        {
            compiled.counters = Arc::new(Counters::new(index.subjects.count(compiled.each)));
        }
        index.go_on_with(self, after);
        Some(index)
    }

    /// The same index without limits and without lists of clients.
    fn share(&self) -> Self {
        Self {
            limits: Vec::new(),
            any_by_model: self.any_by_model,
            estimates: self.estimates.clone(),
            subjects: self.subjects.clone(),
            of_all: self.of_all.clone(),
            of_groups: self.of_groups.clone(),
            of_clients: Sharded::default(),
            of_routes: self.of_routes.clone(),
            of_models: self.of_models.clone(),
            redis: self.redis.clone(),
            sharing: self.sharing.clone(),
        }
    }

    fn list(&self, names: &[Arc<str>]) -> LimitList {
        let position = |name: &Arc<str>| self.limits.iter().position(|known| known.limit.name == *name);
        names.iter().filter_map(position).collect()
    }

    /// All limits, each with what its subjects have used.
    pub fn views(&self) -> impl Iterator<Item = LimitView<'_>> {
        self.limits.iter().map(|compiled| LimitView::new(self, compiled))
    }

    /// The queues of all limits that have one, in the order of the limits' names.
    pub fn queued(&self) -> impl Iterator<Item = LimitQueued<'_>> {
        self.limits
            .iter()
            .filter(|compiled| compiled.limit.queue.is_some())
            .map(|compiled| LimitQueued { limit: &compiled.limit.name, view: compiled.counters.queue_view() })
    }

    /// Whether a client is another subject for the shared store than before, because it has moved to another group.
    fn has_moved(&self, each: Each, name: Subject<'_>, counter: &Counter, callers: &Callers) -> bool {
        let (Some(redis), Each::Client, Subject::Named(name)) = (&self.redis, each, name) else {
            return false;
        };
        let group = callers.by_name(name).and_then(|caller| caller.group.as_deref());
        counter.is_of_another(&SharedSubject::client(&redis.prefix, Some(name), group))
    }

    fn go_on_with(&self, previous: &Self, callers: &Callers) {
        for compiled in &self.limits {
            let same = |old: &&CompiledLimit| {
                old.limit.name == compiled.limit.name
                    && old.each == compiled.each
                    && same_periods(&old.limit, &compiled.limit)
            };
            let Some(old) = previous.limits.iter().find(same) else { continue };
            for (was, name) in previous.subjects.names(compiled.each).enumerate() {
                // Most of many clients have used nothing.
                let Some(counter) = old.counters.used_by(was) else { continue };
                let has_moved = self.has_moved(compiled.each, name, counter, callers);
                if let Some(subject) = self.subjects.number(compiled.each, name).filter(|_| !has_moved) {
                    compiled.counters.keep(subject, counter, &compiled.limit);
                }
            }
        }
    }
}

impl CompiledLimit {
    /// The subject of a request in the shared store.
    fn shared_subject(&self, prefix: &str, request: &LimitedRequest<'_>) -> SharedSubject {
        let client = request.caller.map(|caller| &*caller.name);
        let group = request.caller.and_then(|caller| caller.group.as_deref());
        match self.each {
            Each::Client => SharedSubject::client(prefix, client, group),
            Each::Group => SharedSubject::group(prefix, client, group),
            Each::Route => SharedSubject::route(prefix, request.route),
            Each::Model => {
                let pattern = || {
                    let position = self.filters.pattern(request)?;
                    self.filters.models.as_ref()?.get(position).map(String::as_str)
                };
                SharedSubject::model(prefix, request.model_table.or_else(pattern))
            }
            Each::Gateway => SharedSubject::gateway(prefix),
        }
    }

    fn new(name: &Arc<str>, written: &config::Limit, subjects: &Subjects) -> Self {
        let patterns =
            if written.each == Each::Model { written.models.as_ref().map_or(0, Vec::len) } else { 0 };
        Self {
            limit: Arc::new(compiled(name, written)),
            each: written.each,
            filters: Arc::new(Filters {
                models: written.models.clone(),
                routes: written.routes.clone(),
                clients: written.clients.clone(),
                groups: written.groups.clone(),
            }),
            counters: Arc::new(Counters::new(subjects.count(written.each) + patterns)),
        }
    }

    fn scope(&self) -> LimitScope {
        let is_by_model = self.each == Each::Model || self.filters.models.is_some();
        if is_by_model { LimitScope::Model } else { LimitScope::Request }
    }
}

/// The limit in the terms of those who count.
fn compiled(name: &Arc<str>, written: &config::Limit) -> Limit {
    let (requests, tokens, cost) = match written.burst {
        Burst::Span(_) => (None, None, None),
        Burst::Sizes { requests, tokens, cost } => (requests, tokens, cost),
    };
    let allowance = |quantity: Option<u64>, size| {
        let quantity = quantity?;
        Some(match written.per.as_ref()? {
            Per::Span(span) => {
                Allowance::Rate(Rate::new(quantity, *span, written.burst.of(quantity, *span, size)))
            }
            Per::Day(zone) => {
                Allowance::Period { calendar: Calendar::new(CalendarUnit::Day, zone.clone()), quantity }
            }
            Per::Month(zone) => {
                Allowance::Period { calendar: Calendar::new(CalendarUnit::Month, zone.clone()), quantity }
            }
        })
    };
    Limit {
        name: name.clone(),
        requests: allowance(written.requests, requests),
        tokens: allowance(written.tokens, tokens),
        cost: allowance(written.cost.map(Money::nanos), cost.map(Money::nanos)),
        concurrent: written.concurrent,
        weights: Weights {
            input: written.weights.input,
            cached_input: written.weights.cached_input,
            output: written.weights.output,
        },
        enforce: written.enforce,
        goes_on: written.exhausted == Exhausted::Next,
        queue: written.queue.map(|queue| QueueBounds {
            room: Room { waiters: queue.size, bytes: queue.bytes },
            wait: queue.wait,
        }),
    }
}

/// Whether the numbers of two limits are meant for the same time: with another, counts start anew.
fn same_periods(one: &Limit, other: &Limit) -> bool {
    let same = |one: &Option<Allowance>, other: &Option<Allowance>| match (one, other) {
        (Some(Allowance::Rate(one)), Some(Allowance::Rate(other))) => one.period() == other.period(),
        (Some(Allowance::Period { calendar: one, .. }), Some(Allowance::Period { calendar: other, .. })) => {
            one == other
        }
        (None, None) => true,
        _ => false,
    };
    same(&one.requests, &other.requests) && same(&one.tokens, &other.tokens) && same(&one.cost, &other.cost)
}

impl Filters {
    fn fit(&self, request: &LimitedRequest<'_>) -> bool {
        let has = |names: &Option<Vec<Arc<str>>>, name: Option<&str>| {
            names
                .as_ref()
                .is_none_or(|names| name.is_some_and(|name| names.iter().any(|known| **known == *name)))
        };
        let group = request.caller.and_then(|caller| caller.group.as_deref());
        has(&self.routes, Some(request.route))
            && has(&self.clients, request.caller.map(|caller| &*caller.name))
            && has(&self.groups, group)
            && (self.models.is_none() || self.pattern(request).is_some())
    }

    /// The position of the pattern that the request's model fits: by the name of its table, else by its own.
    fn pattern(&self, request: &LimitedRequest<'_>) -> Option<usize> {
        let patterns = self.models.as_ref()?;
        let fits = |model: &str| patterns.iter().position(|pattern| access::fits(pattern, model));
        request.model_table.and_then(fits).or_else(|| request.model.and_then(fits))
    }
}

impl Subjects {
    fn of(config: &config::Config) -> Self {
        Self {
            clients: config.clients.keys().cloned().collect(),
            groups: config.groups.keys().cloned().collect(),
            routes: config.routes.keys().cloned().collect(),
            models: config.models.keys().cloned().collect(),
        }
    }

    /// The request as one of the model that answers: a fallback that has a `[model]` table of its own is not counted as what it stands in for.
    fn with_own_table<'r>(&self, request: &LimitedRequest<'r>) -> LimitedRequest<'r> {
        let own =
            request.model.filter(|model| self.models.binary_search_by(|known| (**known).cmp(model)).is_ok());
        LimitedRequest { model_table: own.or(request.model_table), ..*request }
    }

    /// Adds clients; those that are here already stay.
    fn add_clients<'n>(&mut self, names: impl Iterator<Item = &'n Arc<str>>) {
        self.clients.extend(names.cloned());
        // A stable sort finds the long part that is in order.
        self.clients.sort();
        self.clients.dedup();
    }

    fn remove_clients(&mut self, names: &BTreeSet<&Arc<str>>) {
        if !names.is_empty() {
            self.clients.retain(|name| !names.contains(name));
        }
    }

    /// The number of a subject of a kind.
    fn number(&self, each: Each, subject: Subject<'_>) -> Option<usize> {
        let position =
            |names: &[Arc<str>], name: &str| names.binary_search_by(|known| (**known).cmp(name)).ok();
        match (each, subject) {
            (_, Subject::Unnamed) => Some(0),
            (Each::Client, Subject::Named(name)) => Some(position(&self.clients, name)? + 1),
            (Each::Group, Subject::Named(name)) => Some(position(&self.groups, name)? + 1),
            (Each::Route, Subject::Named(name)) => Some(position(&self.routes, name)? + 1),
            (Each::Model, Subject::Named(name)) => Some(position(&self.models, name)? + 1),
            (_, Subject::Alone(name)) => Some(self.groups.len() + position(&self.clients, name)? + 1),
            (Each::Gateway, Subject::Named(_)) => None,
        }
    }

    /// How many there are of a kind, those without a name included.
    fn count(&self, each: Each) -> usize {
        self.names(each).count()
    }

    /// The names of all subjects of a kind, in the order of their numbers. The empty name is of the one without a name. A client without a group is
    /// a group of its own, after the groups, with a name that no group has.
    fn names(&self, each: Each) -> impl Iterator<Item = Subject<'_>> {
        let (first, second): (&[Arc<str>], &[Arc<str>]) = match each {
            Each::Client => (&self.clients, &[]),
            Each::Group => (&self.groups, &self.clients),
            Each::Route => (&self.routes, &[]),
            Each::Model => (&self.models, &[]),
            Each::Gateway => (&[], &[]),
        };
        let named = first.iter().map(|name| Subject::Named(name));
        std::iter::once(Subject::Unnamed).chain(named).chain(second.iter().map(|name| Subject::Alone(name)))
    }

    /// The number of the subject whose use a request is.
    fn of_request(&self, compiled: &CompiledLimit, request: &LimitedRequest<'_>) -> usize {
        let named = |names: &[Arc<str>], name: Option<&str>| {
            let position = name.and_then(|name| names.binary_search_by(|known| (**known).cmp(name)).ok());
            position.map_or(0, |position| position + 1)
        };
        let client = request.caller.map(|caller| &*caller.name);
        match compiled.each {
            Each::Gateway => 0,
            Each::Client => named(&self.clients, client),
            Each::Route => named(&self.routes, Some(request.route)),
            Each::Group => match request.caller.and_then(|caller| caller.group.as_deref()) {
                Some(group) => named(&self.groups, Some(group)),
                None => match named(&self.clients, client) {
                    0 => 0,
                    alone => self.groups.len() + alone,
                },
            },
            Each::Model => {
                match (named(&self.models, request.model_table), compiled.filters.pattern(request)) {
                    (0, Some(pattern)) => self.models.len() + 1 + pattern,
                    (table, _) => table,
                }
            }
        }
    }
}

/// A subject by its name, which is how it is found again after a reload.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Subject<'a> {
    /// The callers of open routes, the models without a table, or the gateway.
    Unnamed,
    Named(&'a str),
    /// A client without a group, as a group.
    Alone(&'a str),
}

/// The limits of this name's table.
fn of<'l>(lists: &'l BTreeMap<Arc<str>, LimitList>, name: Option<&str>) -> &'l [usize] {
    name.and_then(|name| lists.get(name)).map_or(&[], |list| list)
}

fn lists<'a>(entries: impl Iterator<Item = (&'a Arc<str>, LimitList)>) -> BTreeMap<Arc<str>, LimitList> {
    entries.filter(|(_, list)| !list.is_empty()).map(|(name, list)| (name.clone(), list)).collect()
}
