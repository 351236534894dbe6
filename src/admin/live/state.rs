//! The state that viewers see: one JSON object without lists that grow, so that a small change is a small patch.
//!
//! Times are milliseconds since the feed began, as `now` in each message is; a viewer needs no clock that agrees with the gateway's. Names
//! of clients, models and targets are texts that a peer or a file chose: a page that shows them must not take them for markup.

use std::{
    collections::BTreeMap,
    sync::Arc,
    time::{Duration, Instant},
};

use serde_json::{Map, Value, json};

use super::{notices::Notices, patch::object, usage};
use crate::{
    admin::AdminState,
    body::{OpenAttempt, OpenExchange},
    listen::WorkerView,
    snapshot::{Snapshot, Target, Upstream},
    telemetry::metrics::request_counts::Counts,
};

/// Open requests that are listed, over all workers: the oldest ones.
pub(super) const LISTED: usize = 1000;

/// How long workers may take to report.
const TIMEOUT: Duration = Duration::from_millis(400);

/// Limit in characters of a model's name.
const MODEL_SHOWN: usize = 120;

/// What the gateway did at one moment.
pub(super) struct Observation {
    /// When.
    pub(super) at: Instant,
    /// What each worker reports; `None` for one that does not respond.
    reports: Vec<Option<Report>>,
    loads: Vec<(usize, usize)>,
    /// What has been counted so far.
    counts: Counts,
}

/// What one worker reports.
struct Report {
    exchanges: usize,
    connections: usize,
    open: Vec<OpenExchange>,
}

/// What is remembered of an open request, to tell its rate.
#[derive(Debug, Clone, Copy)]
struct Before {
    events: u64,
    /// Events a second, smoothed.
    rate: f64,
}

/// Makes the state of observations.
#[derive(Debug)]
pub(super) struct StateMaker {
    /// The moment that times are counted from.
    epoch: Instant,
    last: Option<Instant>,
    before: BTreeMap<String, Before>,
}

impl Report {
    fn of(view: &WorkerView) -> Self {
        let (exchanges, connections) = view.load();
        Self { exchanges, connections, open: view.oldest_exchanges(LISTED) }
    }
}

impl Observation {
    /// Asks the workers, and reads what is counted.
    pub(super) async fn make(state: &AdminState) -> Self {
        let reports = state.workers.ask(TIMEOUT, Report::of).await;
        let mut counts = Counts::default();
        state.gateway.all_metrics().iter().for_each(|worker| worker.add_to(&mut counts));
        Self { at: Instant::now(), reports, loads: state.workers.loads(), counts }
    }
}

impl StateMaker {
    /// Begins to count time.
    pub(super) fn new() -> Self {
        Self { epoch: Instant::now(), last: None, before: BTreeMap::new() }
    }

    /// `at` as milliseconds since the beginning. What began before is negative.
    pub(super) fn millis(&self, at: Instant) -> i64 {
        let span = |span: Duration| i64::try_from(span.as_millis()).unwrap_or(i64::MAX);
        match at.checked_duration_since(self.epoch) {
            Some(later) => span(later),
            None => span(self.epoch.saturating_duration_since(at)).saturating_neg(),
        }
    }

    /// The state at the time of `seen`.
    pub(super) fn make(&mut self, state: &AdminState, seen: &Observation) -> Value {
        let mut open: Vec<&OpenExchange> =
            seen.reports.iter().flatten().flat_map(|report| &report.open).collect();
        open.sort_by_key(|exchange| exchange.about.start);
        let in_flight: usize = workers(seen).map(|(_, exchanges, _)| exchanges).sum();
        let connections: usize = workers(seen).map(|(_, _, connections)| connections).sum();
        let listed = &open[..open.len().min(LISTED)];
        let span = self.last.replace(seen.at).map(|last| seen.at.saturating_duration_since(last));
        let rates = self.rates(listed, span.unwrap_or_default());
        let snapshot = state.gateway.live.load_full();
        let deaf: Vec<usize> = workers(seen)
            .enumerate()
            .filter(|(_, (answers, ..))| !answers)
            .map(|(number, _)| number)
            .collect();
        let streams = listed.iter().zip(&rates).map(|(open, rate)| self.stream(open, *rate));
        let streams: Map<String, Value> = streams.collect();
        let currency = snapshot.pricing.as_ref().map(|book| &*book.currency);
        let totals = json!({
            "in_flight": in_flight,
            "connections": connections,
            "not_listed": in_flight.saturating_sub(listed.len()),
            "rate": rounded(rates.iter().sum()),
            "finished": seen.counts.exchanges.values().sum::<u64>(),
            "failed": seen.counts.failed(),
            "broken": broken(&seen.counts),
        });
        object([
            ("totals", totals),
            ("notices", Notices::of(state, &deaf, &open, seen.at)),
            ("gateway", gateway(state, &snapshot)),
            ("workers", workers_of(seen)),
            ("streams", Value::Object(streams)),
            ("upstreams", self.upstreams(&snapshot, seen)),
            ("clients", usage::clients(&open, &seen.counts, currency)),
            ("models", usage::models(&seen.counts, currency)),
            ("currency", json!(currency)),
            ("queues", usage::queues(&snapshot)),
            ("store", usage::store(&snapshot)),
        ])
    }

    /// The rate of each open request, in events a second. What has ended is forgotten.
    fn rates(&mut self, open: &[&OpenExchange], span: Duration) -> Vec<f64> {
        let mut now = BTreeMap::new();
        let mut rates = Vec::with_capacity(open.len());
        for exchange in open {
            let id = exchange.about.request_id.as_str();
            let before = self.before.get(id).copied();
            let rate = match before {
                Some(before) if !span.is_zero() => {
                    let momentary = exchange.events.saturating_sub(before.events) as f64 / span.as_secs_f64();
                    if before.rate > 0.0 { before.rate * 0.6 + momentary * 0.4 } else { momentary }
                }
                _ => 0.0,
            };
            let rate = if rate < 0.05 { 0.0 } else { rate };
            now.insert(id.to_owned(), Before { events: exchange.events, rate });
            rates.push(rate);
        }
        self.before = now;
        rates
    }

    fn stream(&self, open: &OpenExchange, rate: f64) -> (String, Value) {
        let about = &open.about;
        let since = |at: Instant| millis(at.saturating_duration_since(about.start));
        let last = open.attempts.last();
        let model = open.model.as_deref().map(|model| model.chars().take(MODEL_SHOWN).collect::<String>());
        let attempts: Vec<Value> = open.attempts.iter().map(|attempt| tried(attempt, about.start)).collect();
        let row = object([
            ("start", json!(self.millis(about.start))),
            ("client", json!(about.caller.as_deref())),
            ("route", json!(about.route.as_deref())),
            ("model", json!(model)),
            ("upstream", json!(last.map(|attempt| &*attempt.upstream))),
            ("target", json!(last.map(|attempt| &*attempt.target))),
            ("phase", json!(open.phase.as_str())),
            ("first_token", json!(open.first_token.map(since))),
            ("last", json!(open.last_frame.map(|at| self.millis(at)))),
            ("events", json!(open.events)),
            ("rate", json!(rounded(rate))),
            ("bytes", json!(open.bytes)),
            ("turns", json!(open.turns)),
            ("attempts", json!(open.attempt_count)),
            ("tried", json!(attempts)),
        ]);
        (about.request_id.as_str().to_owned(), row)
    }

    fn upstreams(&self, snapshot: &Snapshot, seen: &Observation) -> Value {
        let upstreams = snapshot.upstreams.values();
        let shown = upstreams.map(|one| (one.name.to_string(), self.upstream(one, seen)));
        Value::Object(shown.collect())
    }

    fn upstream(&self, upstream: &Arc<Upstream>, seen: &Observation) -> Value {
        let targets = upstream.targets().enumerate();
        let targets: Map<String, Value> =
            targets.map(|(index, target)| (index.to_string(), self.target(target, seen.at))).collect();
        let is_own = |labels: &[Option<Arc<str>>; 2]| labels[0].as_deref() == Some(&*upstream.name);
        let results = seen.counts.attempts.iter().filter(|((labels, _), _)| is_own(labels));
        let (mut good, mut bad) = (0, 0);
        for ((_, result), count) in results {
            *(if matches!(*result, "2xx" | "3xx") { &mut good } else { &mut bad }) += count;
        }
        json!({
            "targets": targets,
            "keys": upstream.keys.len(),
            "keys_in_cooldown": upstream.keys.numbers_in_cooldown(seen.at),
            "answered": good,
            "failed": bad,
        })
    }

    fn target(&self, target: &Target, now: Instant) -> Value {
        let state = &target.state;
        let left = state.opens_in(now);
        object([
            ("url", json!(*target.url)),
            ("weight", json!(target.weight)),
            ("pending", json!(state.pending())),
            ("waiting", json!(state.waiting())),
            ("circuit", json!(state.circuit(now).as_str())),
            ("until", json!(left.map(|left| self.millis(now + left) / 1000 * 1000))),
            ("opened", json!(state.opened())),
        ])
    }
}

fn workers(seen: &Observation) -> impl Iterator<Item = (bool, usize, usize)> {
    seen.reports.iter().zip(&seen.loads).map(|(report, load)| match report {
        Some(report) => (true, report.exchanges, report.connections),
        None => (false, load.0, load.1),
    })
}

fn workers_of(seen: &Observation) -> Value {
    let shown = workers(seen).enumerate().map(|(number, (answers, exchanges, connections))| {
        let worker = json!({ "answers": answers, "exchanges": exchanges, "connections": connections });
        (number.to_string(), worker)
    });
    Value::Object(shown.collect())
}

fn gateway(state: &AdminState, snapshot: &Snapshot) -> Value {
    json!({
        "version": env!("CARGO_PKG_VERSION"),
        "ready": state.ready.get(),
        "generation": snapshot.generation,
        "actions": snapshot.admin_actions,
        "reloads": state.gateway.reloads.succeeded.value(),
        "refused": state.gateway.reloads.failed.value(),
    })
}

/// Requests whose responses had begun, and whose clients did not leave.
fn broken(counts: &Counts) -> u64 {
    let is_broken = |(ending, _): &(&crate::telemetry::metrics::request_counts::Ending, &u64)| {
        ending.phase == "stream" && ending.who != "downstream"
    };
    counts.exchanges.iter().filter(is_broken).map(|(_, count)| count).sum()
}

fn tried(attempt: &OpenAttempt, start: Instant) -> Value {
    object([
        ("upstream", json!(*attempt.upstream)),
        ("target", json!(*attempt.target)),
        ("key", json!(attempt.key)),
        ("start", json!(millis(attempt.start.saturating_duration_since(start)))),
        ("connect", json!(attempt.connect.map(millis))),
        ("head", json!(attempt.head.map(millis))),
        ("end", json!(attempt.end.map(millis))),
        ("status", json!(attempt.status)),
        ("result", json!(attempt.result)),
    ])
}

fn millis(span: Duration) -> u64 {
    u64::try_from(span.as_millis()).unwrap_or(u64::MAX)
}

fn rounded(rate: f64) -> f64 {
    (rate * 10.0).round() / 10.0
}
