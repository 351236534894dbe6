//! Limits: what they decide, and how much of them is used.

use std::collections::BTreeMap;

use super::{Scraped, constant, name};
use crate::{
    exchange::now,
    telemetry::metrics::{
        exposition::{Exposition, MetricKind},
        request_counts::QueueName,
        scale::Scale,
    },
};

use MetricKind::{Counter, Gauge, Histogram};

pub(super) fn write(out: &mut Exposition, scraped: &Scraped) {
    let counts = &scraped.counts;
    out.family(
        "sluicegate_limit_decisions",
        Counter,
        "Decisions of limits: admitted, refused, or would_refuse where a limit only counts.",
    );
    for ((limit, decision), count) in &counts.limit_decisions {
        out.value(&[("limit", name(limit)), ("decision", constant(decision))], count);
    }
    saturation(out, scraped);
    queues(out, scraped);
}

/// The queues of limits; each limit's subjects together.
fn queues(out: &mut Exposition, scraped: &Scraped) {
    out.family("sluicegate_queue_depth", Gauge, "Requests that wait in the queue of a limit.");
    for queued in scraped.snapshot.limits.queued() {
        out.value(&[("limit", queued.limit)], queued.view.depth());
    }
    out.family("sluicegate_queue_bytes", Gauge, "Bytes of the requests that wait in the queue of a limit.");
    for queued in scraped.snapshot.limits.queued() {
        out.value(&[("limit", queued.limit)], queued.view.bytes);
    }
    out.family(
        "sluicegate_queue_oldest_wait_seconds",
        Gauge,
        "How long the oldest request in the queue of a limit has waited.",
    );
    for queued in scraped.snapshot.limits.queued() {
        out.value(&[("limit", queued.limit)], queued.view.oldest.unwrap_or_default().as_secs_f64());
    }
    out.family(
        "sluicegate_queue_wait_seconds",
        Histogram,
        "Time that requests waited in the queue of a limit, whatever became of them.",
    );
    for (queue, waits) in &scraped.counts.queue_waits {
        if let QueueName::Limit(limit) = queue {
            out.histogram(&[("limit", name(limit))], Scale::LONG, waits);
        }
    }
    out.family(
        "sluicegate_queue_requests",
        Counter,
        "Requests that came to the queue of a limit, by result: served, timeout, full, too_late (it would have had to wait for too long), moved (another limit refused it), draining, or left.",
    );
    for ((queue, result), count) in &scraped.counts.queue_results {
        if let QueueName::Limit(limit) = queue {
            out.value(&[("limit", name(limit)), ("result", constant(result))], count);
        }
    }
}

/// One series for each unit that a limit restricts; the number of its subjects does not matter.
fn saturation(out: &mut Exposition, scraped: &Scraped) {
    out.family(
        "sluicegate_limit_saturation_ratio",
        Gauge,
        "How much of a limit its fullest subject has used: 0 is nothing, at 1 requests are refused.",
    );
    let now = now();
    for view in scraped.snapshot.limits.views() {
        let mut fullest: BTreeMap<&str, f64> = view.units().map(|unit| (unit.name(), 0.0)).collect();
        for unit in view.subjects().flat_map(|subject| subject.units(now)) {
            let most = fullest.entry(unit.unit.name()).or_default();
            *most = most.max(unit.left.saturation());
        }
        for (unit, ratio) in fullest {
            out.value(&[("limit", &view.limit().name), ("unit", unit)], ratio);
        }
    }
}
