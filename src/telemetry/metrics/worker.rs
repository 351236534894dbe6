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
    histogram::{Gaps, Total},
    scale::Scale,
    series::Series,
};
use crate::telemetry::history::History;

/// Limit of series per kind and worker. Labels are configured names, so only many reloads with renamed entries can reach it. Values
/// beyond the limit are counted under `_other`.
const MAX_SERIES: usize = 4096;

/// Series that a scrape copies at a time: some 50 KiB at most.
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
    /// Tokens by client, route and upstream.
    pub tokens: Series<[Name; 3], Tokens>,
    /// Attempts by upstream, target and result.
    pub attempts: Series<([Name; 2], &'static str), u64>,
    /// Cooldowns of upstream keys, by upstream and reason.
    pub key_cooldowns: Series<(Name, &'static str), u64>,
    /// Preflight requests of browsers that were granted, by route.
    pub preflights: Series<Name, u64>,
    /// Decisions of limits, by limit and decision.
    pub limit_decisions: Series<(Name, &'static str), u64>,
    /// Waits in the queues of limits, by limit.
    pub queue_waits: Series<Name, Total>,
    /// Values that were counted under `_other` because a map was full. An exchange has up to four values, and each of its
    /// attempts one.
    pub overflowed: u64,
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
#[derive(Debug, Default, Clone, Copy)]
pub struct Measures {
    /// Time from the request to the end.
    pub total: Total,
    /// Time from the request to the upstream's response head.
    pub first_byte: Total,
    /// Time from the request to the first content of a stream.
    pub first_token: Total,
    /// Time between two frames of a response.
    pub gaps: Total,
    /// Bytes of request bodies.
    pub bytes_in: u64,
    /// Bytes of response bodies.
    pub bytes_out: u64,
    /// WebSocket connections that have ended.
    pub tunnels: u64,
    /// Turns on them: responses of the model.
    pub turns: u64,
}

/// Tokens, as reported by the upstream.
#[derive(Debug, Default, Clone, Copy)]
pub struct Tokens {
    /// Input tokens.
    pub input: u64,
    /// Output tokens.
    pub output: u64,
    /// Of `input`, those that came from the provider's cache.
    pub cached_input: u64,
    /// Of `input`, those that were written to it.
    pub cache_write: u64,
    /// Of `output`, those of reasoning.
    pub reasoning: u64,
}

/// A finished exchange.
#[derive(Debug)]
pub struct Sample {
    /// Its labels.
    pub ending: Ending,
    /// `[client.NAME]`
    pub caller: Name,
    /// The code of the fault, if any.
    pub fault: Option<&'static str>,
    /// See [`Measures::total`].
    pub total: Duration,
    /// See [`Measures::first_byte`].
    pub first_byte: Option<Duration>,
    /// See [`Measures::first_token`].
    pub first_token: Option<Duration>,
    /// See [`Measures::gaps`].
    pub gaps: Gaps,
    /// See [`Measures::bytes_in`].
    pub bytes_in: u64,
    /// See [`Measures::bytes_out`].
    pub bytes_out: u64,
    /// Turns of a WebSocket connection; `None` for any other exchange.
    pub turns: Option<u64>,
    /// Tokens, if the upstream reported them.
    pub tokens: Option<Tokens>,
}

/// Something that is counted.
#[derive(Debug)]
enum Event {
    Finished(Box<Sample>),
    Attempted { upstream: Arc<str>, target: Option<Arc<str>>, result: &'static str },
    KeyCooldown { upstream: Arc<str>, reason: &'static str },
    Preflight { route: Name },
    LimitDecision { limit: Arc<str>, decision: &'static str },
    QueueWait { limit: Arc<str>, wait: Duration },
}

impl WorkerMetrics {
    /// Counts a finished exchange.
    pub fn finished(&self, exchange: Sample) {
        match self.free() {
            Some(mut counts) => counts.finished(exchange),
            None => self.note(Event::Finished(Box::new(exchange))),
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
        self.copy(|counts| &counts.exchanges, &mut total.exchanges, |sum, more| *sum += more);
        self.copy(|counts| &counts.faults, &mut total.faults, |sum, more| *sum += more);
        self.copy(|counts| &counts.attempts, &mut total.attempts, |sum, more| *sum += more);
        self.copy(|counts| &counts.key_cooldowns, &mut total.key_cooldowns, |sum, more| *sum += more);
        self.copy(|counts| &counts.preflights, &mut total.preflights, |sum, more| *sum += more);
        self.copy(|counts| &counts.limit_decisions, &mut total.limit_decisions, |sum, more| *sum += more);
        self.copy(|counts| &counts.queue_waits, &mut total.queue_waits, Total::merge);
        self.copy(|counts| &counts.tokens, &mut total.tokens, Tokens::merge);
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
            events.into_iter().for_each(|event| counts.count(event));
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
        self.lock().count(event);
    }
}

impl Counts {
    fn count(&mut self, event: Event) {
        match event {
            Event::Finished(exchange) => self.finished(*exchange),
            Event::Attempted { upstream, target, result } => self.attempted(upstream, target, result),
            Event::KeyCooldown { upstream, reason } => self.key_cooldown(upstream, reason),
            Event::Preflight { route } => self.preflight(route),
            Event::LimitDecision { limit, decision } => self.limit_decided(limit, decision),
            Event::QueueWait { limit, wait } => self.queue_waited(limit, wait),
        }
    }

    fn finished(&mut self, exchange: Sample) {
        let Sample { ending, caller, fault, .. } = exchange;
        let Self { exchanges, faults, routes, tokens, overflowed, .. } = self;
        let (route, upstream) = (ending.route.clone(), ending.upstream.clone());
        change(routes, route.clone(), overflowed, |measures| {
            measures.total.observe(Scale::LONG, exchange.total);
            exchange.first_byte.into_iter().for_each(|span| measures.first_byte.observe(Scale::LONG, span));
            exchange.first_token.into_iter().for_each(|span| measures.first_token.observe(Scale::LONG, span));
            measures.gaps.add(&exchange.gaps);
            measures.bytes_in += exchange.bytes_in;
            measures.bytes_out += exchange.bytes_out;
            measures.tunnels += u64::from(exchange.turns.is_some());
            measures.turns += exchange.turns.unwrap_or(0);
        });
        if let Some(reported) = exchange.tokens {
            let labels = [caller, route.clone(), upstream];
            change(tokens, labels, overflowed, |tokens| tokens.merge(&reported));
        }
        if let Some(fault) = fault {
            change(faults, (route, fault), overflowed, |count| *count += 1);
        }
        change(exchanges, ending, overflowed, |count| *count += 1);
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

impl Tokens {
    /// The types of tokens, as the labels have them, and the number of each.
    pub fn by_type(&self) -> [(&'static str, u64); 5] {
        [
            ("input", self.input),
            ("output", self.output),
            ("cached_input", self.cached_input),
            ("cache_write", self.cache_write),
            ("reasoning", self.reasoning),
        ]
    }

    fn merge(&mut self, other: &Self) {
        self.input += other.input;
        self.output += other.output;
        self.cached_input += other.cached_input;
        self.cache_write += other.cache_write;
        self.reasoning += other.reasoning;
    }
}

impl Measures {
    fn merge(&mut self, other: &Self) {
        self.total.merge(&other.total);
        self.first_byte.merge(&other.first_byte);
        self.first_token.merge(&other.first_token);
        self.gaps.merge(&other.gaps);
        self.bytes_in += other.bytes_in;
        self.bytes_out += other.bytes_out;
        self.tunnels += other.tunnels;
        self.turns += other.turns;
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
    use super::*;

    fn finished(route: &str, gaps: Gaps) -> Sample {
        Sample {
            ending: Ending {
                route: Some(route.into()),
                status: "2xx",
                who: "upstream",
                phase: "done",
                upstream: None,
            },
            caller: Some("team".into()),
            fault: None,
            total: Duration::from_secs(1),
            first_byte: None,
            first_token: Some(Duration::from_millis(2)),
            gaps,
            bytes_in: 1,
            bytes_out: 2,
            turns: None,
            tokens: Some(Tokens { input: 3, output: 4, reasoning: 1, ..Tokens::default() }),
        }
    }

    #[test]
    fn the_shares_of_workers_add_up() {
        let (one, two, mut total) = (WorkerMetrics::default(), WorkerMetrics::default(), Counts::default());
        let mut gaps = Gaps::default();
        gaps.observe(Duration::from_millis(3));
        one.finished(finished("a", gaps));
        two.finished(finished("a", gaps));
        two.finished(Sample { fault: Some("upstream_idle"), ..finished("b", gaps) });
        two.attempted(&"up".into(), Some(&"http://up".into()), "2xx");
        one.add_to(&mut total);
        two.add_to(&mut total);
        assert_eq!(total.exchanges.values().sum::<u64>(), 3);
        let a = total.routes.get(&Some("a".into())).unwrap();
        assert_eq!((a.total.count(), a.gaps.count(), a.first_token.count(), a.bytes_out), (2, 2, 2, 4));
        let tokens = total.tokens.get(&[Some("team".into()), Some("a".into()), None]).unwrap();
        assert_eq!((tokens.output, tokens.reasoning), (8, 2));
        assert_eq!(total.faults, Series::from_iter([((Some("b".into()), "upstream_idle"), 1)]));
        assert_eq!(
            total.attempts,
            Series::from_iter([(([Some("up".into()), Some("http://up".into())], "2xx"), 1)])
        );
    }

    #[test]
    fn past_the_bound_names_become_other_and_nothing_is_lost() {
        let (worker, mut total) = (WorkerMetrics::default(), Counts::default());
        let gaps = Gaps::default();
        for route in 0..MAX_SERIES + 10 {
            worker.finished(finished(&route.to_string(), gaps));
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
        worker.finished(finished("a", Gaps::default()));
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
                (0..routes).for_each(|route| worker.finished(finished(&route.to_string(), Gaps::default())));
            });
            while !counting.is_finished() {
                let mut total = Counts::default();
                worker.add_to(&mut total);
                assert!(total.exchanges.values().all(|count| *count == 1));
            }
        });
        let mut total = Counts::default();
        worker.add_to(&mut total);
        assert_eq!((total.exchanges.len(), total.routes.len(), total.tokens.len()), (routes, routes, routes));
        assert_eq!(total.routes.values().map(|measures| measures.total.count()).sum::<u64>(), routes as u64);
    }
}
