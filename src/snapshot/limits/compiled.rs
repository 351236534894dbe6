//! One limit of a configuration, compiled: whose use it counts, and which requests it is about.

use std::sync::Arc;

use super::{
    LimitScope, LimitedRequest,
    limited::{Cell, Cells, Found, cells},
};
use crate::{
    access,
    config::{self, Burst, Each, Exhausted, Per},
    limit::{
        Allowance, Calendar, CalendarUnit, CountedSubject, Counters, InFlights, Limit, Rate, Weights,
        shared::Subject as SharedSubject,
    },
    money::Money,
    wait_queue::{QueueBounds, Room},
};

/// One limit, compiled.
#[derive(Debug)]
pub(super) struct CompiledLimit {
    pub(super) limit: Arc<Limit>,
    pub(super) each: Each,
    pub(super) filters: Filters,
    /// The same for all configurations that have the limit.
    pub(super) counters: Arc<Counters>,
    /// The same also if it counts other units, or for another time.
    pub(super) in_flight: Arc<InFlights>,
    /// The counter of the subject without a name, and behind it those of the patterns of models, where each of them has one.
    own: Cells,
}

/// What a limit is about; `None`: all.
#[derive(Debug, Default)]
pub(super) struct Filters {
    pub(super) models: Option<Vec<Arc<str>>>,
    pub(super) routes: Option<Vec<Arc<str>>>,
    pub(super) clients: Option<Vec<Arc<str>>>,
    pub(super) groups: Option<Vec<Arc<str>>>,
}

impl CompiledLimit {
    /// Compiles a limit, of which nobody has used anything.
    pub(super) fn new(name: &Arc<str>, written: &config::Limit) -> Self {
        let by_pattern = written.models.as_ref().filter(|_| written.each == Each::Model);
        Self {
            limit: Arc::new(compiled(name, written)),
            each: written.each,
            filters: Filters {
                models: written
                    .models
                    .as_ref()
                    .map(|all| all.iter().map(|name| name.as_str().into()).collect()),
                routes: written.routes.clone(),
                clients: written.clients.clone(),
                groups: written.groups.clone(),
            },
            counters: Arc::default(),
            in_flight: Arc::default(),
            own: cells(1 + by_pattern.map_or(0, Vec::len)),
        }
    }

    /// Goes on counting where one of the limits `before` did, if it was the same: of the same name, by the same subjects, for the same time. A
    /// store identifies counts by their units as well. Requests in flight go on whatever the time is.
    pub(super) fn go_on_with(&mut self, before: &[Self], is_shared: bool) {
        let is_same = |other: &&Self| other.limit.name == self.limit.name && other.each == self.each;
        let Some(same) = before.iter().find(is_same) else { return };
        self.in_flight = same.in_flight.clone();
        if is_for_same_time(&same.limit, &self.limit, is_shared) {
            self.counters = same.counters.clone();
        }
    }

    /// Whether it counts clients, or groups, of which a client without a group is one.
    pub(super) fn counts_clients(&self) -> bool {
        matches!(self.each, Each::Client | Each::Group)
    }

    /// Which limits it is one of.
    pub(super) fn scope(&self) -> LimitScope {
        let is_by_model = self.each == Each::Model || self.filters.models.is_some();
        if is_by_model { LimitScope::Model } else { LimitScope::Request }
    }

    /// Where the counter of the subject is that a request is the use of. `position`: that of the limit in the index. `None`: the index has nothing
    /// under the name of the subject, such as a group that was removed while files of clients still name it.
    pub(super) fn cell<'f>(
        &'f self,
        position: usize,
        request: &LimitedRequest<'_>,
        found: &Found<'f>,
    ) -> Option<&'f Cell> {
        let group = request.caller.map(|caller| caller.group.is_some());
        let named = match (self.each, group) {
            (Each::Gateway, _) | (Each::Client | Each::Group, None) => return self.own.first(),
            (Each::Client, Some(_)) | (Each::Group, Some(false)) => found.client,
            (Each::Group, Some(true)) => found.group,
            (Each::Route, _) => found.route,
            (Each::Model, _) if found.model.is_none() => {
                let pattern = self.filters.pattern(request);
                return self.own.get(pattern.map_or(0, |pattern| 1 + pattern));
            }
            (Each::Model, _) => found.model,
        };
        named?.cells.get(position)
    }

    /// The subject that a request is the use of.
    pub(super) fn subject(&self, request: &LimitedRequest<'_>) -> CountedSubject {
        let named = |name: Option<&str>| {
            name.map_or(CountedSubject::Unnamed, |name| CountedSubject::Named(name.into()))
        };
        let Some(caller) = request.caller else {
            return match self.each {
                Each::Client | Each::Group | Each::Gateway => CountedSubject::Unnamed,
                Each::Route => named(Some(request.route)),
                Each::Model => named(self.model(request)),
            };
        };
        match (self.each, &caller.group) {
            (Each::Gateway, _) => CountedSubject::Unnamed,
            (Each::Client, _) => CountedSubject::Named(caller.name.clone()),
            (Each::Group, Some(group)) => CountedSubject::Named(group.clone()),
            (Each::Group, None) => CountedSubject::Alone(caller.name.clone()),
            (Each::Route, _) => named(Some(request.route)),
            (Each::Model, _) => named(self.model(request)),
        }
    }

    /// The name of a model under which a request counts: of its table, else the pattern that it fits.
    fn model<'m>(&'m self, request: &LimitedRequest<'m>) -> Option<&'m str> {
        let pattern =
            || self.filters.models.as_ref()?.get(self.filters.pattern(request)?).map(|name| &**name);
        request.model_table.or_else(pattern)
    }

    /// The subject of a request in the shared store.
    pub(super) fn shared_subject(&self, prefix: &str, request: &LimitedRequest<'_>) -> SharedSubject {
        let client = request.caller.map(|caller| &*caller.name);
        let group = request.caller.and_then(|caller| caller.group.as_deref());
        match self.each {
            Each::Client => SharedSubject::client(prefix, client, group),
            Each::Group => SharedSubject::group(prefix, client, group),
            Each::Route => SharedSubject::route(prefix, request.route),
            Each::Model => SharedSubject::model(prefix, self.model(request)),
            Each::Gateway => SharedSubject::gateway(prefix),
        }
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

/// Whether the numbers of two limits are meant for the same time: with another, counts start again.
fn is_for_same_time(one: &Limit, other: &Limit, is_shared: bool) -> bool {
    let same = |one: Option<&Allowance>, other: Option<&Allowance>| match (one, other) {
        (Some(one), Some(other)) => one.is_for_the_time_of(other),
        (None, None) => true,
        _ => false,
    };
    if !is_shared {
        return same(one.any_allowance(), other.any_allowance());
    }
    same(one.requests.as_ref(), other.requests.as_ref())
        && same(one.tokens.as_ref(), other.tokens.as_ref())
        && same(one.cost.as_ref(), other.cost.as_ref())
}

impl Filters {
    /// Whether a request is one of those that the limit is about.
    pub(super) fn fit(&self, request: &LimitedRequest<'_>) -> bool {
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
