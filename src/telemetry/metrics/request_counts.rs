//! Counts of requests and of what happened on their way, by label.

use std::{hash::Hash, sync::Arc, time::Duration};

use super::{
    histogram::Total,
    measures::{CallerMeasures, Costs, Measures, ModelMeasures},
    models::{ModelKey, ModelNames},
    sample::{OwnedSample, RequestResult, Sample},
    scale::Scale,
    sdk::Sdk,
    series::Series,
};
use crate::money::Cost;

/// Limit of series per kind and worker. Labels are configured names, so only many reloads with renamed entries can reach it. Values
/// beyond the limit are counted under `_other`.
pub const MAX_SERIES: usize = 4096;

/// A configured name; `None` is shown as `_other`.
pub type Name = Option<Arc<str>>;

/// A queue, by what its requests wait for.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum QueueName {
    /// `[limit.NAME]`
    Limit(Name),
    /// The targets of `[upstream.NAME]`.
    Upstream(Name),
}

impl Default for QueueName {
    fn default() -> Self {
        Self::Limit(None)
    }
}

/// Counts of one worker, or the sum of several.
#[derive(Debug, Default, Clone)]
pub struct Counts {
    /// Finished exchanges, by their labels.
    pub exchanges: Series<Ending, u64>,
    /// Exchanges that ended with a fault, by route and code.
    pub faults: Series<(Name, &'static str), u64>,
    /// Measurements by route.
    pub routes: Series<Name, Measures>,
    /// What clients used, by client, route and upstream.
    pub callers: Series<[Name; 3], CallerMeasures>,
    /// Measurements by operation, upstream and model.
    pub models: Series<ModelKey, ModelMeasures>,
    /// Requests by the client's SDK.
    pub sdks: Series<Option<Sdk>, u64>,
    /// Costs by client, route, upstream and currency.
    pub costs: Series<[Name; 4], Costs>,
    /// Costs by model, upstream and currency.
    pub model_costs: Series<[Name; 3], Costs>,
    /// Attempts by upstream, target and result.
    pub attempts: Series<([Name; 2], &'static str), u64>,
    /// Time to open connections, by upstream.
    pub connects: Series<Name, Total>,
    /// Waits between attempts, by route and reason.
    pub waits: Series<(Name, &'static str), Total>,
    /// Requests that another attempt has served after one had failed, by route, upstream of the first attempt and upstream of the last.
    pub rescued: Series<[Name; 3], u64>,
    /// Responses that began and were not completed, by route and upstream, and by who ended them.
    pub broken: Series<([Name; 2], &'static str), u64>,
    /// Cooldowns of upstream keys, by upstream and reason.
    pub key_cooldowns: Series<(Name, &'static str), u64>,
    /// Preflight requests of browsers that were granted, by route.
    pub preflights: Series<Name, u64>,
    /// Decisions of limits, by limit and decision.
    pub limit_decisions: Series<(Name, &'static str), u64>,
    /// Waits in queues.
    pub queue_waits: Series<QueueName, Total>,
    /// Requests that came to queues, by what became of them there.
    pub queue_results: Series<(QueueName, &'static str), u64>,
    /// Values that were counted under `_other` because a map was full. An exchange has several values, and each of its
    /// attempts one.
    pub overflowed: u64,
    /// The last model that has series of its own: the next request is often for the same.
    last_model: Name,
}

/// Limit of the combinations that one worker has counted in its life, those included that have lost their places after reloads.
const MOST_COMBINATIONS: usize = 4 * super::models::MAX_COMBINATIONS;

/// The labels of a finished exchange.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Default)]
pub struct Ending {
    /// `[route.NAME]`
    pub route: Name,
    /// `[upstream.NAME]`
    pub upstream: Name,
    /// `2xx`, …, or `none` when the client got no response.
    pub status: &'static str,
    /// The party that ended the exchange.
    pub who: &'static str,
    /// The phase in which the exchange ended.
    pub phase: &'static str,
}

/// Something that is counted.
#[derive(Debug)]
pub(super) enum Event {
    Finished(Box<OwnedSample>),
    Attempted { upstream: Arc<str>, target: Option<Arc<str>>, result: &'static str },
    Connected { upstream: Arc<str>, took: Duration },
    Waited { route: Name, why: &'static str, wait: Duration },
    KeyCooldown { upstream: Arc<str>, reason: &'static str },
    Preflight { route: Name },
    LimitDecision { limit: Arc<str>, decision: &'static str },
    Queued { queue: QueueName, result: &'static str, wait: Option<Duration> },
}

impl Counts {
    /// Number of requests that failed: not those that were refused, whose client has left, or which a limit stopped.
    pub fn failed(&self) -> u64 {
        let index = RequestResult::Failed.index();
        self.callers.values().filter_map(|used| used.results.get(index)).sum()
    }

    /// Counts one event.
    pub(super) fn count(&mut self, event: Event, models: &ModelNames) {
        match event {
            Event::Finished(exchange) => self.finished(&exchange.borrow(), models),
            Event::Attempted { upstream, target, result } => self.attempted(upstream, target, result),
            Event::Connected { upstream, took } => self.connected(upstream, took),
            Event::Waited { route, why, wait } => self.waited(route, why, wait),
            Event::KeyCooldown { upstream, reason } => self.key_cooldown(upstream, reason),
            Event::Preflight { route } => self.preflight(route),
            Event::LimitDecision { limit, decision } => self.limit_decided(limit, decision),
            Event::Queued { queue, result, wait } => self.queued(queue, result, wait),
        }
    }

    pub(super) fn finished(&mut self, exchange: &Sample<'_>, models: &ModelNames) {
        self.count_ending(exchange);
        self.count_route(exchange);
        self.count_caller(exchange);
        if let Some(operation) = exchange.operation {
            self.count_model(exchange, operation, models);
        }
        if let Some(cost) = exchange.cost {
            self.count_cost(exchange, cost, models);
        }
        change(&mut self.sdks, Some(exchange.sdk), &mut self.overflowed, |count| *count += 1);
        if exchange.attempts > 1 || exchange.outcome.fault.is_some() {
            self.count_trouble(exchange);
        }
    }

    fn count_ending(&mut self, exchange: &Sample<'_>) {
        let (who, phase) = (exchange.outcome.who.as_str(), exchange.outcome.phase.as_str());
        let is_last = |last: &Ending| {
            is(&last.route, exchange.route)
                && is(&last.upstream, exchange.upstream)
                && (last.status, last.who, last.phase) == (exchange.status, who, phase)
        };
        if self.exchanges.change_last(is_last, |count| *count += 1) {
            return;
        }
        let (route, upstream) = (exchange.route.cloned(), exchange.upstream.cloned());
        let ending = Ending { route, upstream, status: exchange.status, who, phase };
        change(&mut self.exchanges, ending, &mut self.overflowed, |count| *count += 1);
    }

    fn count_route(&mut self, exchange: &Sample<'_>) {
        if !self.routes.change_last(|last| is(last, exchange.route), |measures| measures.count(exchange)) {
            let route = exchange.route.cloned();
            change(&mut self.routes, route, &mut self.overflowed, |measures| measures.count(exchange));
        }
    }

    fn count_caller(&mut self, exchange: &Sample<'_>) {
        let names = [exchange.caller, exchange.route, exchange.upstream];
        let is_last = |last: &[Name; 3]| last.iter().zip(names).all(|(last, name)| is(last, name));
        if !self.callers.change_last(is_last, |measures| measures.count(exchange)) {
            let labels = names.map(Option::<&Arc<str>>::cloned);
            change(&mut self.callers, labels, &mut self.overflowed, |measures| measures.count(exchange));
        }
    }

    fn count_cost(&mut self, exchange: &Sample<'_>, cost: &Cost, models: &ModelNames) {
        let of_model =
            [self.model_of(exchange, models), exchange.upstream.cloned(), Some(cost.currency.clone())];
        change(&mut self.model_costs, of_model, &mut self.overflowed, |costs| costs.add(cost));
        let labels = [exchange.caller, exchange.route, exchange.upstream, Some(&cost.currency)];
        let labels = labels.map(Option::<&Arc<str>>::cloned);
        change(&mut self.costs, labels, &mut self.overflowed, |costs| costs.add(cost));
    }

    fn count_model(&mut self, exchange: &Sample<'_>, operation: &'static str, models: &ModelNames) {
        let model = self.model_of(exchange, models);
        let is_last = |last: &ModelKey| {
            last.operation == operation && is(&last.upstream, exchange.upstream) && last.model == model
        };
        if self.models.change_last(is_last, |measures| measures.count(exchange)) {
            return;
        }
        let key = ModelKey { operation, upstream: exchange.upstream.cloned(), model };
        let is_known =
            self.models.contains_key(&key) || (self.models.len() < MOST_COMBINATIONS && models.admit(&key));
        self.overflowed += u64::from(!is_known);
        let key = if is_known { key } else { ModelKey::default() };
        self.models.change(key, |measures| measures.count(exchange));
    }

    /// The label for the model of a request.
    fn model_of(&mut self, exchange: &Sample<'_>, models: &ModelNames) -> Name {
        let named = exchange.model?;
        if self.last_model.as_deref() != Some(named) {
            self.last_model = Some(models.label(named, exchange.knows_model)?);
        }
        self.last_model.clone()
    }

    /// Counts what most requests do not have: errors, breaks, rescues.
    fn count_trouble(&mut self, exchange: &Sample<'_>) {
        let (route, upstream) = (exchange.route.cloned(), exchange.upstream.cloned());
        let overflowed = &mut self.overflowed;
        if exchange.is_rescued() {
            let first = exchange.first_upstream.or(exchange.upstream).cloned();
            let labels = [route.clone(), first, upstream.clone()];
            change(&mut self.rescued, labels, overflowed, |count| *count += 1);
        }
        if exchange.is_broken() {
            let labels = ([route.clone(), upstream], exchange.outcome.who.as_str());
            change(&mut self.broken, labels, overflowed, |count| *count += 1);
        }
        if let Some(fault) = exchange.outcome.fault {
            change(&mut self.faults, (route, fault), overflowed, |count| *count += 1);
        }
    }

    pub(super) fn connected(&mut self, upstream: Arc<str>, took: Duration) {
        change(&mut self.connects, Some(upstream), &mut self.overflowed, |total| {
            total.observe(Scale::LONG, took);
        });
    }

    pub(super) fn waited(&mut self, route: Name, why: &'static str, wait: Duration) {
        change(&mut self.waits, (route, why), &mut self.overflowed, |total| total.observe(Scale::LONG, wait));
    }

    pub(super) fn attempted(&mut self, upstream: Arc<str>, target: Name, result: &'static str) {
        let labels = ([Some(upstream), target], result);
        change(&mut self.attempts, labels, &mut self.overflowed, |count| *count += 1);
    }

    pub(super) fn preflight(&mut self, route: Name) {
        change(&mut self.preflights, route, &mut self.overflowed, |count| *count += 1);
    }

    pub(super) fn limit_decided(&mut self, limit: Arc<str>, decision: &'static str) {
        let labels = (Some(limit), decision);
        change(&mut self.limit_decisions, labels, &mut self.overflowed, |count| *count += 1);
    }

    pub(super) fn queued(&mut self, queue: QueueName, result: &'static str, wait: Option<Duration>) {
        let overflowed = &mut self.overflowed;
        if let Some(wait) = wait {
            change(&mut self.queue_waits, queue.clone(), overflowed, |waits| {
                waits.observe(Scale::LONG, wait);
            });
        }
        change(&mut self.queue_results, (queue, result), overflowed, |count| *count += 1);
    }

    pub(super) fn key_cooldown(&mut self, upstream: Arc<str>, reason: &'static str) {
        let labels = (Some(upstream), reason);
        change(&mut self.key_cooldowns, labels, &mut self.overflowed, |count| *count += 1);
    }
}

/// Whether a label is that name.
fn is(label: &Name, name: Option<&Arc<str>>) -> bool {
    match (label, name) {
        (Some(label), Some(name)) => Arc::ptr_eq(label, name) || label == name,
        (label, name) => label.is_none() && name.is_none(),
    }
}

/// Changes the value under `key`, or under the default key (which has no names) if there are too many series.
fn change<K: Eq + Hash + Clone + Default, V: Default>(
    series: &mut Series<K, V>,
    key: K,
    overflowed: &mut u64,
    change: impl FnOnce(&mut V),
) {
    if series.len() >= MAX_SERIES && !series.contains_key(&key) {
        *overflowed += 1;
        return series.change(K::default(), change);
    }
    series.change(key, change);
}
