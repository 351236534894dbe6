//! Upstreams: attempts, connections, targets and keys.

use std::time::Instant;

use super::{Scraped, constant, name, renamed};
use crate::{
    snapshot::{Snapshot, Target, Upstream},
    telemetry::metrics::{
        count::Count,
        exposition::{Exposition, MetricKind},
        request_counts::{Counts, QueueName},
        scale::Scale,
        worker::WorkerMetrics,
    },
    upstream::{Circuit, QuotaLeft, TargetState},
};

use MetricKind::{Counter, Gauge, Histogram};

pub(super) fn write(out: &mut Exposition, scraped: &Scraped) {
    attempts(out, &scraped.counts);
    connections(out, scraped);
    connects(out, &scraped.counts);
    targets(out, &scraped.snapshot, scraped.now);
    bounds(out, &scraped.snapshot);
    waits(out, scraped);
    keys(out, scraped);
    quotas(out, &scraped.snapshot);
}

fn attempts(out: &mut Exposition, counts: &Counts) {
    out.family(
        "sluicegate_upstream_attempts",
        Counter,
        "Upstream attempts, by status class of the response or error code.",
    );
    for (([upstream, target], result), count) in &counts.attempts {
        let labels = [("upstream", name(upstream)), ("target", name(target)), ("result", constant(result))];
        out.value(&labels, count);
    }
}

fn connections(out: &mut Exposition, scraped: &Scraped) {
    let total = |count: fn(&WorkerMetrics) -> &Count| {
        scraped.workers.iter().map(|worker| count(worker).value()).sum::<u64>()
    };
    let names = ("sluicegate_upstream_connection_events", "sluicegate_upstream_connections");
    let help = "Upstream connections, by event: opened, reused, or dead (a kept one was found closed).";
    renamed(out, names, Counter, help, |out| {
        out.value(&[("event", "opened")], total(|worker| &worker.pool.opened));
        out.value(&[("event", "reused")], total(|worker| &worker.pool.reused));
        out.value(&[("event", "dead")], total(|worker| &worker.pool.dead));
    });
}

fn connects(out: &mut Exposition, counts: &Counts) {
    out.family(
        "sluicegate_upstream_connect_seconds",
        Histogram,
        "Time to open a connection to an upstream: name, TCP, TLS, and the wait for max_connections.",
    );
    for (upstream, total) in &counts.connects {
        out.histogram(&[("upstream", name(upstream))], Scale::LONG, total);
    }
}

fn targets(out: &mut Exposition, snapshot: &Snapshot, now: Instant) {
    type Reading = fn(&TargetState, Instant) -> u64;
    let families: [(&'static str, MetricKind, &'static str, Reading); 3] = [
        ("sluicegate_target_pending", Gauge, "Requests in flight at a target.", |state, _| {
            state.pending() as u64
        }),
        (
            "sluicegate_target_circuit_open",
            Gauge,
            "1 while the circuit breaker of a target is open or half-open.",
            |state, now| u64::from(state.circuit(now) != Circuit::Closed),
        ),
        (
            "sluicegate_target_circuit_opened",
            Counter,
            "How often the circuit breaker of a target has opened.",
            |state, _| state.opened(),
        ),
    ];
    for (family, kind, help, part) in families {
        out.family(family, kind, help);
        for upstream in snapshot.upstreams.values() {
            for target in upstream.targets() {
                let labels = [("upstream", &*upstream.name), ("target", &*target.url)];
                out.value(&labels, part(&target.state, now));
            }
        }
    }
}

/// The queues of targets.
fn waits(out: &mut Exposition, scraped: &Scraped) {
    out.family(
        "sluicegate_target_waiting_bytes",
        Gauge,
        "Bytes of the requests that wait because of max_pending of a target.",
    );
    for upstream in scraped.snapshot.upstreams.values() {
        for target in upstream.targets() {
            let labels = [("upstream", &*upstream.name), ("target", &*target.url)];
            out.value(&labels, target.state.queue_view().bytes);
        }
    }
    out.family(
        "sluicegate_target_wait_seconds",
        Histogram,
        "Time that requests waited because of max_pending of a target, by upstream, whatever became of them.",
    );
    for (queue, total) in &scraped.counts.queue_waits {
        if let QueueName::Upstream(upstream) = queue {
            out.histogram(&[("upstream", name(upstream))], Scale::LONG, total);
        }
    }
    out.family(
        "sluicegate_target_waits",
        Counter,
        "Requests that came to the queue of a target, by result: served, timeout, full, moved (another candidate served it), or left.",
    );
    for ((queue, result), count) in &scraped.counts.queue_results {
        if let QueueName::Upstream(upstream) = queue {
            out.value(&[("upstream", name(upstream)), ("result", constant(result))], count);
        }
    }
}

/// The configured maximum of each level of a target.
fn bounds(out: &mut Exposition, snapshot: &Snapshot) {
    out.family("sluicegate_target_waiting", Gauge, "Requests that wait because of max_pending of a target.");
    each_target(out, snapshot, |_, target| Some(target.state.waiting()));
    out.family("sluicegate_target_pending_max", Gauge, "max_pending of a target, where there is one.");
    each_target(out, snapshot, |upstream, _| upstream.max_pending);
    out.family(
        "sluicegate_target_connections",
        Gauge,
        "Open connections to a target, where max_connections bounds them.",
    );
    each_target(out, snapshot, |_, target| {
        target.dialer.limits().max_open.map(|_| target.dialer.connection_limit().taken())
    });
    out.family(
        "sluicegate_target_connections_max",
        Gauge,
        "max_connections of a target, where there is one.",
    );
    each_target(out, snapshot, |_, target| target.dialer.limits().max_open);
}

fn each_target(
    out: &mut Exposition,
    snapshot: &Snapshot,
    value: impl Fn(&Upstream, &Target) -> Option<usize>,
) {
    for upstream in snapshot.upstreams.values() {
        for target in upstream.targets() {
            if let Some(value) = value(upstream, target) {
                out.value(&[("upstream", &*upstream.name), ("target", &*target.url)], value);
            }
        }
    }
}

/// What providers say of the quotas of keys.
fn quotas(out: &mut Exposition, snapshot: &Snapshot) {
    type Reading = fn(&QuotaLeft) -> Option<u64>;
    let families: [(&'static str, &'static str, Reading); 2] = [
        (
            "sluicegate_upstream_quota_remaining",
            "What is left of a key's quota, according to the last response of its provider that said so.",
            |left| left.remaining,
        ),
        (
            "sluicegate_upstream_quota_limit",
            "A key's quota, according to the last response of its provider that said so.",
            |left| left.limit,
        ),
    ];
    for (family, help, part) in families {
        out.family(family, Gauge, help);
        for upstream in snapshot.upstreams.values() {
            for (number, key) in upstream.keys.iter().enumerate() {
                for left in key.quota().left() {
                    let Some(value) = part(&left) else { continue };
                    let number = (number + 1).to_string();
                    let labels = [("upstream", &*upstream.name), ("key", &*number), ("unit", left.unit)];
                    out.value(&labels, value);
                }
            }
        }
    }
}

fn keys(out: &mut Exposition, scraped: &Scraped) {
    out.family(
        "sluicegate_upstream_key_up",
        Gauge,
        "0 while the provider refuses a key or its credit is spent; a rate limit does not count. The label is its number in the configuration.",
    );
    for upstream in scraped.snapshot.upstreams.values() {
        for (number, key) in upstream.keys.iter().enumerate() {
            let number = (number + 1).to_string();
            let labels = [("upstream", &*upstream.name), ("key", &*number)];
            out.value(&labels, u8::from(key.is_up()));
        }
    }
    out.family("sluicegate_upstream_keys", Gauge, "Keys of an upstream.");
    for upstream in scraped.snapshot.upstreams.values() {
        out.value(&[("upstream", &*upstream.name)], upstream.keys.len());
    }
    let names = ("sluicegate_upstream_keys_in_cooldown", "sluicegate_upstream_keys_resting");
    renamed(out, names, Gauge, "Upstream keys in cooldown.", |out| {
        for upstream in scraped.snapshot.upstreams.values() {
            out.value(&[("upstream", &*upstream.name)], upstream.keys.cooling_down(scraped.now).1);
        }
    });
    let names = ("sluicegate_upstream_key_cooldowns", "sluicegate_upstream_key_rests");
    renamed(out, names, Counter, "Cooldowns of upstream keys, by reason.", |out| {
        for ((upstream, reason), count) in &scraped.counts.key_cooldowns {
            out.value(&[("upstream", name(upstream)), ("reason", constant(reason))], count);
        }
    });
}
