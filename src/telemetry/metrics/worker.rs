//! The request metrics of one worker, and how a scrape reads them without stopping it.
//!
//! An exchange is counted when it ends, under a lock that only its own worker and a scrape acquire. Connections on different
//! workers share no counter, and a frame updates only the record of its exchange.
//!
//! A scrape copies the counts in small parts, and a worker never waits for that: what it has to count during a part is noted, and
//! counted by the next holder of the lock.

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
    histogram::Total,
    measures::{CallerMeasures, Costs, Measures, ModelMeasures},
    models::ModelNames,
    request_counts::{Counts, Event, QueueName},
    sample::{OwnedSample, Sample},
    series::Series,
};
use crate::telemetry::history::History;

/// Series that a scrape copies at a time: some 200 KiB at most.
const PART: usize = 64;

/// Events that may wait for the lock; at the limit, a worker waits for it. They gather only while a part is copied.
const MAX_NOTED: usize = 1024;

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

    /// Counts a request that came to a queue: what became of it there, and how long it waited; `None`: not at all.
    pub fn queued(&self, queue: QueueName, result: &'static str, wait: Option<Duration>) {
        match self.free() {
            Some(mut counts) => counts.queued(queue, result, wait),
            None => self.note(Event::Queued { queue, result, wait }),
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
        self.copy(|counts| &counts.queue_results, &mut total.queue_results, sum);
        self.copy(|counts| &counts.sdks, &mut total.sdks, sum);
        self.copy(|counts| &counts.rescued, &mut total.rescued, sum);
        self.copy(|counts| &counts.broken, &mut total.broken, sum);
        self.copy(|counts| &counts.connects, &mut total.connects, Total::merge);
        self.copy(|counts| &counts.waits, &mut total.waits, Total::merge);
        self.copy(|counts| &counts.queue_waits, &mut total.queue_waits, Total::merge);
        self.copy(|counts| &counts.callers, &mut total.callers, CallerMeasures::merge);
        self.copy(|counts| &counts.models, &mut total.models, ModelMeasures::merge);
        self.copy(|counts| &counts.costs, &mut total.costs, Costs::merge);
        self.copy(|counts| &counts.model_costs, &mut total.model_costs, Costs::merge);
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

#[cfg(test)]
mod tests {
    use std::time::SystemTime;

    use super::*;
    use crate::{
        fault::{Outcome, Phase, Who},
        openai::FinishReason,
        telemetry::metrics::{
            histogram::Gaps,
            models::ModelKey,
            request_counts::{Ending, MAX_SERIES},
            sample::{RequestResult, Tokens},
            sdk::Sdk,
        },
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
