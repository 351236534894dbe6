//! The request metrics of one worker.
//!
//! An exchange is counted when it ends, under a lock that only its own worker and a scrape acquire. Connections on different
//! workers share no counter, and a frame updates only the record of its exchange.

use std::{
    collections::HashMap,
    hash::{BuildHasherDefault, Hash},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use fnv::FnvHasher;

use super::{
    count::PoolCounts,
    histogram::{Histogram, Total},
};

/// Limit of series per kind and worker. Labels are configured names, so only many reloads with renamed entries can reach it. Values
/// beyond the limit are counted under `_other`.
const MAX_SERIES: usize = 4096;

/// A map of series with a fast hash: labels are configured names and constants, so the hash need not resist attacks.
pub type Series<K, V> = HashMap<K, V, BuildHasherDefault<FnvHasher>>;

/// A configured name; `None` is shown as `_other`.
pub type Name = Option<Arc<str>>;

/// The metrics counted by one worker.
#[derive(Debug, Default)]
pub struct WorkerMetrics {
    counts: Mutex<Counts>,
    /// Counts of its upstream connections.
    pub pool: PoolCounts,
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
}

/// Tokens, as reported by the upstream.
#[derive(Debug, Default, Clone, Copy)]
pub struct Tokens {
    /// Input tokens.
    pub input: u64,
    /// Output tokens.
    pub output: u64,
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
    pub gaps: Histogram,
    /// See [`Measures::bytes_in`].
    pub bytes_in: u64,
    /// See [`Measures::bytes_out`].
    pub bytes_out: u64,
    /// Tokens, if the upstream reported them.
    pub tokens: Option<Tokens>,
}

impl WorkerMetrics {
    /// Counts a finished exchange.
    pub fn finished(&self, exchange: Sample) {
        let Sample { ending, caller, fault, .. } = exchange;
        let mut counts = self.lock();
        let Counts { exchanges, faults, routes, tokens, overflowed, .. } = &mut *counts;
        let (route, upstream) = (ending.route.clone(), ending.upstream.clone());
        let measures = entry(routes, route.clone(), overflowed);
        measures.total.observe(exchange.total);
        exchange.first_byte.into_iter().for_each(|span| measures.first_byte.observe(span));
        exchange.first_token.into_iter().for_each(|span| measures.first_token.observe(span));
        measures.gaps.add(&exchange.gaps);
        measures.bytes_in += exchange.bytes_in;
        measures.bytes_out += exchange.bytes_out;
        if let Some(reported) = exchange.tokens {
            let tokens = entry(tokens, [caller, route.clone(), upstream], overflowed);
            tokens.input += reported.input;
            tokens.output += reported.output;
        }
        if let Some(fault) = fault {
            *entry(faults, (route, fault), overflowed) += 1;
        }
        *entry(exchanges, ending, overflowed) += 1;
    }

    /// Counts an attempt at an upstream.
    pub fn attempted(&self, upstream: &Arc<str>, target: Option<&Arc<str>>, result: &'static str) {
        let mut counts = self.lock();
        let Counts { attempts, overflowed, .. } = &mut *counts;
        *entry(attempts, ([Some(upstream.clone()), target.cloned()], result), overflowed) += 1;
    }

    /// Counts a cooldown of an upstream key.
    pub fn key_cooldown(&self, upstream: &Arc<str>, reason: &'static str) {
        let mut counts = self.lock();
        let Counts { key_cooldowns, overflowed, .. } = &mut *counts;
        *entry(key_cooldowns, (Some(upstream.clone()), reason), overflowed) += 1;
    }

    /// Adds the worker's counts to `total`.
    pub fn add_to(&self, total: &mut Counts) {
        let counts = self.lock().clone();
        sum(&mut total.exchanges, counts.exchanges);
        sum(&mut total.faults, counts.faults);
        sum(&mut total.attempts, counts.attempts);
        sum(&mut total.key_cooldowns, counts.key_cooldowns);
        for (labels, more) in counts.tokens {
            let tokens = total.tokens.entry(labels).or_default();
            tokens.input += more.input;
            tokens.output += more.output;
        }
        for (route, more) in counts.routes {
            total.routes.entry(route).or_default().merge(&more);
        }
        total.overflowed += counts.overflowed;
    }

    /// Locks the counts. No code panics while it holds the lock.
    fn lock(&self) -> MutexGuard<'_, Counts> {
        self.counts.lock().unwrap_or_else(PoisonError::into_inner)
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
    }
}

/// Returns the value under `key`, or under the default key (which has no names) if the map is full.
fn entry<'m, K: Eq + Hash + Default, V: Default>(
    map: &'m mut Series<K, V>,
    key: K,
    overflowed: &mut u64,
) -> &'m mut V {
    if map.len() >= MAX_SERIES && !map.contains_key(&key) {
        *overflowed += 1;
        return map.entry(K::default()).or_default();
    }
    map.entry(key).or_default()
}

fn sum<K: Eq + Hash>(total: &mut Series<K, u64>, more: Series<K, u64>) {
    for (key, count) in more {
        *total.entry(key).or_default() += count;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn finished(route: &str, gaps: Histogram) -> Sample {
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
            tokens: Some(Tokens { input: 3, output: 4 }),
        }
    }

    #[test]
    fn the_shares_of_workers_add_up() {
        let (one, two, mut total) = (WorkerMetrics::default(), WorkerMetrics::default(), Counts::default());
        let mut gaps = Histogram::default();
        gaps.observe(Duration::from_millis(3));
        one.finished(finished("a", gaps));
        two.finished(finished("a", gaps));
        two.finished(Sample { fault: Some("upstream_idle"), ..finished("b", gaps) });
        two.attempted(&"up".into(), Some(&"http://up".into()), "2xx");
        one.add_to(&mut total);
        two.add_to(&mut total);
        assert_eq!(total.exchanges.values().sum::<u64>(), 3);
        let a = &total.routes[&Some("a".into())];
        assert_eq!((a.total.count(), a.gaps.count(), a.first_token.count(), a.bytes_out), (2, 2, 2, 4));
        assert_eq!(total.tokens[&[Some("team".into()), Some("a".into()), None]].output, 8);
        assert_eq!(total.faults, Series::from_iter([((Some("b".into()), "upstream_idle"), 1)]));
        assert_eq!(
            total.attempts,
            Series::from_iter([(([Some("up".into()), Some("http://up".into())], "2xx"), 1)])
        );
    }

    #[test]
    fn past_the_bound_names_become_other_and_nothing_is_lost() {
        let (worker, mut total) = (WorkerMetrics::default(), Counts::default());
        let gaps = Histogram::default();
        for route in 0..MAX_SERIES + 10 {
            worker.finished(finished(&route.to_string(), gaps));
        }
        worker.add_to(&mut total);
        assert_eq!(total.exchanges.len(), MAX_SERIES + 1);
        assert_eq!(total.exchanges.values().sum::<u64>(), (MAX_SERIES + 10) as u64);
        assert_eq!(total.exchanges[&Ending::default()], 10);
        assert!(total.overflowed >= 10);
    }
}
