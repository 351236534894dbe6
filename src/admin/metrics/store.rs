//! The store in which several gateways count together.

use super::Scraped;
use crate::{
    store::Statistics,
    telemetry::metrics::exposition::{Exposition, MetricKind},
};

use MetricKind::{Counter, Gauge, Histogram};

pub(super) fn write(out: &mut Exposition, scraped: &Scraped) {
    let sharing = scraped.snapshot.limits.sharing();
    let state = sharing.map(|sharing| sharing.state());
    let statistics = sharing.map(|sharing| sharing.statistics());
    out.family(
        "sluicegate_store_duration_seconds",
        Histogram,
        "Time that the admission of a request waited for Redis, at most `redis.timeout`.",
    );
    if let Some(statistics) = statistics {
        out.histogram(&[], Statistics::SCALE, &statistics.durations());
    }
    out.family(
        "sluicegate_store_circuit_open",
        Gauge,
        "1 while Redis is not used: this gateway counts by itself, up to its share of each limit.",
    );
    if let Some(state) = &state {
        out.value(&[], u8::from(!state.is_available));
    }
    out.family(
        "sluicegate_store_fallbacks",
        Counter,
        "Admissions that were decided by local limits, because Redis was not available or not in time.",
    );
    if let Some(state) = &state {
        out.value(&[], state.fallbacks);
    }
    out.family(
        "sluicegate_store_remembered_refusals",
        Counter,
        "Refusals without a call, because Redis had refused the same client before and its time had not come.",
    );
    if let Some(state) = &state {
        out.value(&[], state.remembered);
    }
    out.family("sluicegate_store_connections", Counter, "Connections to Redis that were made.");
    if let Some(statistics) = statistics {
        out.value(&[], statistics.connections());
    }
    out.family(
        "sluicegate_store_pending_corrections",
        Gauge,
        "Corrections of counts that Redis does not have yet.",
    );
    if let Some(state) = &state {
        out.value(&[], state.pending);
    }
    out.family("sluicegate_store_gateways", Gauge, "Gateways that Redis has seen in the last minute.");
    if let Some(state) = &state {
        out.value(&[], state.nodes);
    }
}
