//! Upstreams: attempts, connections, targets and keys.

use std::time::Instant;

use super::{Scraped, constant, name, renamed};
use crate::{
    snapshot::Snapshot,
    telemetry::metrics::{
        count::Count,
        exposition::{Exposition, MetricKind},
        worker::{Counts, WorkerMetrics},
    },
    upstream::{Circuit, TargetState},
};

use MetricKind::{Counter, Gauge};

pub(super) fn write(out: &mut Exposition, scraped: &Scraped) {
    attempts(out, &scraped.counts);
    connections(out, scraped);
    targets(out, &scraped.snapshot, scraped.now);
    keys(out, scraped);
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

fn keys(out: &mut Exposition, scraped: &Scraped) {
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
