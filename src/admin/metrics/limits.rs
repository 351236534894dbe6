//! Limits: what they decide, and how much of them is used.

use super::{Scraped, constant, name};
use crate::telemetry::metrics::{
    exposition::{Exposition, MetricKind},
    scale::Scale,
};

use MetricKind::{Counter, Histogram};

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
    out.family(
        "sluicegate_queue_wait_seconds",
        Histogram,
        "Time that requests waited in the queue of a limit.",
    );
    for (limit, waits) in &counts.queue_waits {
        out.histogram(&[("limit", name(limit))], Scale::LONG, waits);
    }
}
