//! The request metrics of one worker.
//!
//! An exchange is counted when it ends, under a lock that only its own worker and a scrape acquire. Connections on different
//! workers share no counter, and a frame updates only the record of its exchange.
//!
//! A scrape copies the counts in small parts, and a worker never waits for that: what it has to count during a part is noted, and
//! counted by whoever has the lock next.

use std::{
    hash::Hash,
    mem,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError, TryLockError,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use super::{
    count::PoolCounts,
    exemplar::{Exemplar, Exemplars},
    histogram::Total,
    models::{ModelKey, ModelMeasures, ModelNames},
    sample::{OwnedSample, RequestResult, Sample, Tokens},
    scale::Scale,
    sdk::Sdk,
    series::Series,
};
use crate::{
    money::{Cost, Money},
    telemetry::history::History,
};

/// Limit of series per kind and worker. Labels are configured names, so only many reloads with renamed entries can reach it. Values
/// beyond the limit are counted under `_other`.
pub const MAX_SERIES: usize = 4096;

/// Series that a scrape copies at a time: some 200 KiB at most.
const PART: usize = 64;

/// Events that may wait for the lock; at the limit, a worker waits for it. They gather only while a part is copied.
const MAX_NOTED: usize = 1024;

/// A configured name; `None` is shown as `_other`.
pub type Name = Option<Arc<str>>;

/// The metrics counted by one worker.
#[derive(Debug, Default)]
pub struct WorkerMetrics {
    counts: Mutex<Counts>,
    /// What the worker had to count while a scrape held the counts; at most [`MAX_NOTED`].
    noted: Mutex<Vec<Event>>,
    /// Whether anything is noted.
    has_noted: AtomicBool,
    /// Counts of its upstream connections.
    pub pool: PoolCounts,
    /// The models with series of their own, which are those of the process.
    models: Arc<ModelNames>,
    /// Its last finished exchanges, for the operator.
    pub history: History,
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
    /// Waits in the queues of limits, by limit.
    pub queue_waits: Series<Name, Total>,
    /// Values that were counted under `_other` because a map was full. An exchange has several values, and each of its
    /// attempts one.
    pub overflowed: u64,
    /// The last model that has series of its own: the next request is often for the same.
    last_model: Name,
}

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

/// The measurements of exchanges.
#[derive(Debug, Default, Clone)]
pub struct Measures {
    /// Time from the request to the end.
    pub total: Total,
    /// Exemplars of `total`.
    pub exemplars: Exemplars,
    /// Time from the request to the upstream's response head.
    pub first_byte: Total,
    /// Time from the request to the first content of a stream.
    pub first_token: Total,
    /// Time that the gateway itself added.
    pub overhead: Total,
    /// Time between two frames of a response.
    pub gaps: Total,
    /// Bytes of request bodies.
    pub bytes_in: u64,
    /// Bytes of response bodies.
    pub bytes_out: u64,
    /// Attempts beside the first ones.
    pub retries: u64,
    /// WebSocket connections that have ended.
    pub tunnels: u64,
    /// Turns on them: responses of the model.
    pub turns: u64,
}

/// Money, by how the tokens are known that it was for.
#[derive(Debug, Default, Clone, Copy)]
pub struct Costs {
    /// As the upstream reported them.
    pub reported: Money,
    /// As the gateway estimated them.
    pub estimated: Money,
}

/// What a client used.
#[derive(Debug, Default, Clone, Copy)]
pub struct CallerMeasures {
    /// Requests, in the order of [`RequestResult::ALL`].
    pub results: [u64; RequestResult::ALL.len()],
    /// Tokens, as reported by the upstream.
    pub tokens: Tokens,
}

/// Something that is counted.
#[derive(Debug)]
enum Event {
    Finished(Box<OwnedSample>),
    Attempted { upstream: Arc<str>, target: Option<Arc<str>>, result: &'static str },
    Connected { upstream: Arc<str>, took: Duration },
    Waited { route: Name, why: &'static str, wait: Duration },
    KeyCooldown { upstream: Arc<str>, reason: &'static str },
    Preflight { route: Name },
    LimitDecision { limit: Arc<str>, decision: &'static str },
    QueueWait { limit: Arc<str>, wait: Duration },
}

impl WorkerMetrics {
    /// Creates the metrics of a worker in a process whose models have these names.
    pub fn new(models: Arc<ModelNames>) -> Self {
        Self { models, ..Self::default() }
    }

    /// Counts a finished exchange.
    pub fn finished(&self, exchange: &Sample<'_>) {
        match self.free() {
            Some(mut counts) => counts.finished(exchange, &self.models),
            None => self.note(Event::Finished(Box::new(OwnedSample::of(exchange)))),
        }
    }

    /// Counts an attempt at an upstream.
    pub fn attempted(&self, upstream: &Arc<str>, target: Option<&Arc<str>>, result: &'static str) {
        let (upstream, target) = (upstream.clone(), target.cloned());
        match self.free() {
            Some(mut counts) => counts.attempted(upstream, target, result),
            None => self.note(Event::Attempted { upstream, target, result }),
        }
    }

    /// Counts the time that it took to open a connection to an upstream.
    pub fn connected(&self, upstream: &Arc<str>, took: Duration) {
        let upstream = upstream.clone();
        match self.free() {
            Some(mut counts) => counts.connected(upstream, took),
            None => self.note(Event::Connected { upstream, took }),
        }
    }

    /// Counts a wait of a request before its next attempt.
    pub fn waited(&self, route: Option<&Arc<str>>, why: &'static str, wait: Duration) {
        let route = route.cloned();
        match self.free() {
            Some(mut counts) => counts.waited(route, why, wait),
            None => self.note(Event::Waited { route, why, wait }),
        }
    }

    /// Counts a cooldown of an upstream key.
    pub fn key_cooldown(&self, upstream: &Arc<str>, reason: &'static str) {
        let upstream = upstream.clone();
        match self.free() {
            Some(mut counts) => counts.key_cooldown(upstream, reason),
            None => self.note(Event::KeyCooldown { upstream, reason }),
        }
    }

    /// Counts a preflight request that was granted.
    pub fn preflight(&self, route: Option<&Arc<str>>) {
        let route = route.cloned();
        match self.free() {
            Some(mut counts) => counts.preflight(route),
            None => self.note(Event::Preflight { route }),
        }
    }

    /// Counts a decision of a limit: `admitted`, `refused` or `would_refuse`.
    pub fn limit_decided(&self, limit: &Arc<str>, decision: &'static str) {
        let limit = limit.clone();
        match self.free() {
            Some(mut counts) => counts.limit_decided(limit, decision),
            None => self.note(Event::LimitDecision { limit, decision }),
        }
    }

    /// Counts a wait in the queue of a limit, whether or not the request was admitted after it.
    pub fn queue_waited(&self, limit: &Arc<str>, wait: Duration) {
        let limit = limit.clone();
        match self.free() {
            Some(mut counts) => counts.queue_waited(limit, wait),
            None => self.note(Event::QueueWait { limit, wait }),
        }
    }

    /// Adds the worker's counts to `total`. Blocks, but not the worker.
    pub fn add_to(&self, total: &mut Counts) {
        let sum = |sum: &mut u64, more: &u64| *sum += more;
        self.copy(|counts| &counts.exchanges, &mut total.exchanges, sum);
        self.copy(|counts| &counts.faults, &mut total.faults, sum);
        self.copy(|counts| &counts.attempts, &mut total.attempts, sum);
        self.copy(|counts| &counts.key_cooldowns, &mut total.key_cooldowns, sum);
        self.copy(|counts| &counts.preflights, &mut total.preflights, sum);
        self.copy(|counts| &counts.limit_decisions, &mut total.limit_decisions, sum);
        self.copy(|counts| &counts.sdks, &mut total.sdks, sum);
        self.copy(|counts| &counts.rescued, &mut total.rescued, sum);
        self.copy(|counts| &counts.broken, &mut total.broken, sum);
        self.copy(|counts| &counts.connects, &mut total.connects, Total::merge);
        self.copy(|counts| &counts.waits, &mut total.waits, Total::merge);
        self.copy(|counts| &counts.queue_waits, &mut total.queue_waits, Total::merge);
        self.copy(|counts| &counts.callers, &mut total.callers, CallerMeasures::merge);
        self.copy(|counts| &counts.models, &mut total.models, ModelMeasures::merge);
        self.copy(|counts| &counts.costs, &mut total.costs, Costs::merge);
        self.copy(|counts| &counts.routes, &mut total.routes, Measures::merge);
        total.overflowed += self.lock().overflowed;
    }

    /// Adds the series of one kind to those of `total`, in parts.
    fn copy<K: Eq + Hash + Clone, V: Default + Clone>(
        &self,
        of: impl Fn(&Counts) -> &Series<K, V>,
        total: &mut Series<K, V>,
        add: impl Fn(&mut V, &V),
    ) {
        let mut part = Vec::with_capacity(PART);
        let mut copied = 0;
        loop {
            part.extend_from_slice(of(&self.lock()).part(copied, PART));
            if part.is_empty() {
                return;
            }
            copied += part.len();
            part.drain(..).for_each(|(labels, more)| total.change(labels, |sum| add(sum, &more)));
        }
    }

    /// Locks the counts unless a scrape holds them.
    fn free(&self) -> Option<MutexGuard<'_, Counts>> {
        let counts = match self.counts.try_lock() {
            Ok(counts) => counts,
            Err(TryLockError::Poisoned(poisoned)) => poisoned.into_inner(),
            Err(TryLockError::WouldBlock) => return None,
        };
        Some(self.up_to_date(counts))
    }

    /// Locks the counts. No code panics while it holds the lock.
    fn lock(&self) -> MutexGuard<'_, Counts> {
        self.up_to_date(self.counts.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// Counts what is noted.
    fn up_to_date<'c>(&self, mut counts: MutexGuard<'c, Counts>) -> MutexGuard<'c, Counts> {
        if self.has_noted.load(Ordering::Acquire) {
            let mut noted = self.noted.lock().unwrap_or_else(PoisonError::into_inner);
            self.has_noted.store(false, Ordering::Release);
            let events = mem::take(&mut *noted);
            drop(noted);
            events.into_iter().for_each(|event| counts.count(event, &self.models));
        }
        counts
    }

    fn note(&self, event: Event) {
        let mut noted = self.noted.lock().unwrap_or_else(PoisonError::into_inner);
        if noted.len() < MAX_NOTED {
            noted.push(event);
            self.has_noted.store(true, Ordering::Release);
            return;
        }
        drop(noted);
        self.lock().count(event, &self.models);
    }
}

impl Counts {
    /// Number of requests that failed: not those that were refused, whose client has left, or which a limit stopped.
    pub fn failed(&self) -> u64 {
        let index = RequestResult::Failed.index();
        self.callers.values().filter_map(|used| used.results.get(index)).sum()
    }

    fn count(&mut self, event: Event, models: &ModelNames) {
        match event {
            Event::Finished(exchange) => self.finished(&exchange.borrow(), models),
            Event::Attempted { upstream, target, result } => self.attempted(upstream, target, result),
            Event::Connected { upstream, took } => self.connected(upstream, took),
            Event::Waited { route, why, wait } => self.waited(route, why, wait),
            Event::KeyCooldown { upstream, reason } => self.key_cooldown(upstream, reason),
            Event::Preflight { route } => self.preflight(route),
            Event::LimitDecision { limit, decision } => self.limit_decided(limit, decision),
            Event::QueueWait { limit, wait } => self.queue_waited(limit, wait),
        }
    }

    fn finished(&mut self, exchange: &Sample<'_>, models: &ModelNames) {
        self.count_ending(exchange);
        self.count_route(exchange);
        self.count_caller(exchange);
        if let Some(operation) = exchange.operation {
            self.count_model(exchange, operation, models);
        }
        if let Some(cost) = exchange.cost {
            self.count_cost(exchange, cost);
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

    fn count_cost(&mut self, exchange: &Sample<'_>, cost: &Cost) {
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
        let is_known = self.models.contains_key(&key) || models.admit(&key);
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

    fn connected(&mut self, upstream: Arc<str>, took: Duration) {
        change(&mut self.connects, Some(upstream), &mut self.overflowed, |total| {
            total.observe(Scale::LONG, took);
        });
    }

    fn waited(&mut self, route: Name, why: &'static str, wait: Duration) {
        change(&mut self.waits, (route, why), &mut self.overflowed, |total| total.observe(Scale::LONG, wait));
    }

    fn attempted(&mut self, upstream: Arc<str>, target: Name, result: &'static str) {
        let labels = ([Some(upstream), target], result);
        change(&mut self.attempts, labels, &mut self.overflowed, |count| *count += 1);
    }

    fn preflight(&mut self, route: Name) {
        change(&mut self.preflights, route, &mut self.overflowed, |count| *count += 1);
    }

    fn limit_decided(&mut self, limit: Arc<str>, decision: &'static str) {
        let labels = (Some(limit), decision);
        change(&mut self.limit_decisions, labels, &mut self.overflowed, |count| *count += 1);
    }

    fn queue_waited(&mut self, limit: Arc<str>, wait: Duration) {
        change(&mut self.queue_waits, Some(limit), &mut self.overflowed, |waits| {
            waits.observe(Scale::LONG, wait);
        });
    }

    fn key_cooldown(&mut self, upstream: Arc<str>, reason: &'static str) {
        let labels = (Some(upstream), reason);
        change(&mut self.key_cooldowns, labels, &mut self.overflowed, |count| *count += 1);
    }
}

impl Costs {
    fn add(&mut self, cost: &Cost) {
        let sum = if cost.is_estimated { &mut self.estimated } else { &mut self.reported };
        *sum = sum.saturating_add(cost.amount);
    }

    fn merge(&mut self, other: &Self) {
        self.reported = self.reported.saturating_add(other.reported);
        self.estimated = self.estimated.saturating_add(other.estimated);
    }
}

impl Measures {
    fn count(&mut self, exchange: &Sample<'_>) {
        self.total.observe(Scale::LONG, exchange.total);
        if let Some(exemplar) = exemplar(exchange, exchange.total) {
            self.exemplars.keep(Scale::LONG, exemplar);
        }
        if let Some(span) = exchange.first_byte {
            self.first_byte.observe(Scale::LONG, span);
        }
        if let Some(span) = exchange.first_token {
            self.first_token.observe(Scale::LONG, span);
        }
        if let Some(span) = exchange.overhead {
            self.overhead.observe(Scale::SHORT, span);
        }
        self.gaps.add(exchange.gaps);
        self.bytes_in += exchange.bytes_in;
        self.bytes_out += exchange.bytes_out;
        self.retries += u64::from(exchange.attempts.saturating_sub(1));
        if let Some(turns) = exchange.turns {
            self.tunnels += 1;
            self.turns += turns;
        }
    }

    fn merge(&mut self, other: &Self) {
        self.total.merge(&other.total);
        self.exemplars.merge(&other.exemplars);
        self.first_byte.merge(&other.first_byte);
        self.first_token.merge(&other.first_token);
        self.overhead.merge(&other.overhead);
        self.gaps.merge(&other.gaps);
        self.bytes_in += other.bytes_in;
        self.bytes_out += other.bytes_out;
        self.retries += other.retries;
        self.tunnels += other.tunnels;
        self.turns += other.turns;
    }
}

impl CallerMeasures {
    fn count(&mut self, exchange: &Sample<'_>) {
        if let Some(count) = self.results.get_mut(exchange.result.index()) {
            *count += 1;
        }
        if let Some(tokens) = &exchange.tokens {
            self.tokens.merge(tokens);
        }
    }

    fn merge(&mut self, other: &Self) {
        self.results.iter_mut().zip(other.results).for_each(|(own, other)| *own += other);
        self.tokens.merge(&other.tokens);
    }
}

impl ModelMeasures {
    fn count(&mut self, exchange: &Sample<'_>) {
        if let Some(count) = self.results.get_mut(exchange.result.index()) {
            *count += 1;
        }
        if let Some(tokens) = &exchange.tokens {
            self.tokens.merge(tokens);
        }
        if let Some(cost) = exchange.cost {
            self.add_cost(cost);
        }
        if let Some(count) = exchange.finish_reason.and_then(|why| self.finish_reasons.get_mut(why.index())) {
            *count += 1;
        }
        // A WebSocket connection has many responses, and no duration of one.
        if exchange.turns.is_some() {
            return;
        }
        let duration = match exchange.error() {
            None => &mut self.duration,
            Some(error) => self.of_error(error),
        };
        duration.observe(Scale::MODEL_DURATION, exchange.total);
        if let Some(span) = exchange.first_token {
            self.first_token.observe(Scale::FIRST_TOKEN, span);
            if let Some(exemplar) = exemplar(exchange, span) {
                self.exemplars.keep(Scale::FIRST_TOKEN, exemplar);
            }
        }
        if let Some(span) = exchange.per_token() {
            self.per_token.observe(Scale::OUTPUT_TOKEN, span);
        }
    }
}

/// The exemplar of a request for one of its values.
fn exemplar(exchange: &Sample<'_>, span: Duration) -> Option<Exemplar> {
    let trace = exchange.trace?.as_bytes().try_into().ok()?;
    Some(Exemplar { trace, span, at: exchange.time + exchange.total })
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

#[cfg(test)]
mod tests {
    use std::time::SystemTime;

    use super::*;
    use crate::{
        fault::{Outcome, Phase, Who},
        openai::FinishReason,
        telemetry::metrics::histogram::Gaps,
    };

    /// The names of a sample.
    struct Names {
        route: Arc<str>,
        caller: Arc<str>,
        upstream: Arc<str>,
        gaps: Gaps,
    }

    impl Names {
        fn new(route: &str, gaps: Gaps) -> Self {
            Self { route: route.into(), caller: "team".into(), upstream: "up".into(), gaps }
        }

        fn sample(&self) -> Sample<'_> {
            Sample {
                route: Some(&self.route),
                upstream: Some(&self.upstream),
                caller: Some(&self.caller),
                model: Some("gpt"),
                operation: Some("chat"),
                status: "2xx",
                outcome: Outcome::COMPLETE,
                result: RequestResult::Ok,
                knows_model: true,
                attempts: 1,
                first_upstream: None,
                total: Duration::from_secs(1),
                first_byte: None,
                first_token: Some(Duration::from_millis(400)),
                overhead: Some(Duration::from_micros(30)),
                gaps: &self.gaps,
                bytes_in: 1,
                bytes_out: 2,
                turns: None,
                tokens: Some(Tokens { input: 3, output: 4, reasoning: 1, ..Tokens::default() }),
                cost: None,
                finish_reason: Some(FinishReason::Stop),
                sdk: Sdk::default(),
                trace: Some("4bf92f3577b34da6a3ce929d0e0e4736"),
                time: SystemTime::UNIX_EPOCH,
            }
        }
    }

    fn finish(worker: &WorkerMetrics, route: &str) {
        worker.finished(&Names::new(route, Gaps::default()).sample());
    }

    fn broken() -> Outcome {
        Outcome { who: Who::Upstream, phase: Phase::Stream, fault: Some("upstream_idle") }
    }

    #[test]
    fn the_shares_of_workers_add_up() {
        let (one, two, mut total) = (WorkerMetrics::default(), WorkerMetrics::default(), Counts::default());
        let mut gaps = Gaps::default();
        gaps.observe(Duration::from_millis(3));
        let (a, b) = (Names::new("a", gaps), Names::new("b", gaps));
        one.finished(&a.sample());
        two.finished(&a.sample());
        two.finished(&Sample { outcome: broken(), result: RequestResult::Failed, ..b.sample() });
        two.attempted(&"up".into(), Some(&"http://up".into()), "2xx");
        one.add_to(&mut total);
        two.add_to(&mut total);
        assert_eq!(total.exchanges.values().sum::<u64>(), 3);
        let a = total.routes.get(&Some("a".into())).unwrap();
        assert_eq!((a.total.count(), a.gaps.count(), a.first_token.count(), a.bytes_out), (2, 2, 2, 4));
        let of_team = total.callers.get(&[Some("team".into()), Some("a".into()), Some("up".into())]).unwrap();
        assert_eq!((of_team.tokens.output, of_team.tokens.reasoning, of_team.results[0]), (8, 2, 2));
        let key = ModelKey { operation: "chat", upstream: Some("up".into()), model: Some("gpt".into()) };
        let gpt = total.models.get(&key).unwrap();
        assert_eq!((gpt.duration.count(), gpt.first_token.count(), gpt.finish_reasons[0]), (2, 3, 3));
        assert_eq!((gpt.per_token.count(), gpt.per_token.sum()), (3, 0.6));
        assert_eq!(
            gpt.errors.first().map(|(code, total)| (*code, total.count())),
            Some(("upstream_idle", 1))
        );
        let labels = ([Some("b".into()), Some("up".into())], "upstream");
        assert_eq!(total.broken, Series::from_iter([(labels, 1)]));
        assert_eq!(total.faults, Series::from_iter([((Some("b".into()), "upstream_idle"), 1)]));
        assert_eq!(
            total.attempts,
            Series::from_iter([(([Some("up".into()), Some("http://up".into())], "2xx"), 1)])
        );
    }

    #[test]
    fn past_the_bound_names_become_other_and_nothing_is_lost() {
        let (worker, mut total) = (WorkerMetrics::default(), Counts::default());
        for route in 0..MAX_SERIES + 10 {
            finish(&worker, &route.to_string());
        }
        worker.add_to(&mut total);
        assert_eq!(total.exchanges.len(), MAX_SERIES + 1);
        assert_eq!(total.exchanges.values().sum::<u64>(), (MAX_SERIES + 10) as u64);
        assert_eq!(total.exchanges.get(&Ending::default()), Some(&10));
        assert!(total.overflowed >= 10);
    }

    #[test]
    fn a_worker_does_not_wait_for_a_scrape_and_nothing_is_lost() {
        let (worker, mut total) = (WorkerMetrics::default(), Counts::default());
        let scrape = worker.lock();
        // This would wait for itself.
        finish(&worker, "a");
        worker.attempted(&"up".into(), None, "2xx");
        worker.key_cooldown(&"up".into(), "rate_limited");
        drop(scrape);
        worker.add_to(&mut total);
        assert_eq!(total.exchanges.values().sum::<u64>(), 1);
        assert_eq!((total.attempts.len(), total.key_cooldowns.len()), (1, 1));
    }

    #[test]
    fn a_scrape_beside_a_worker_that_counts_sees_every_series_once() {
        let worker = WorkerMetrics::default();
        let routes = MAX_SERIES / 4;
        std::thread::scope(|scope| {
            let counting = scope.spawn(|| {
                (0..routes).for_each(|route| finish(&worker, &route.to_string()));
            });
            while !counting.is_finished() {
                let mut total = Counts::default();
                worker.add_to(&mut total);
                assert!(total.exchanges.values().all(|count| *count == 1));
            }
        });
        let mut total = Counts::default();
        worker.add_to(&mut total);
        assert_eq!(
            (total.exchanges.len(), total.routes.len(), total.callers.len()),
            (routes, routes, routes)
        );
        assert_eq!(total.routes.values().map(|measures| measures.total.count()).sum::<u64>(), routes as u64);
    }
}
