//! Clients: whose keys expire, and the files that they have.

use super::Scraped;
use crate::{
    config::EXPIRES_SOON,
    telemetry::metrics::exposition::{Exposition, MetricKind},
};

use MetricKind::{Counter, Gauge};

pub(super) fn write(out: &mut Exposition, scraped: &Scraped) {
    let callers = &scraped.snapshot.callers;
    let expiries = callers.expiries(EXPIRES_SOON, 0);
    out.family(
        "sluicegate_clients",
        Gauge,
        "Clients, by state: active, expiring (their keys expire within 14 days), or expired.",
    );
    out.value(&[("state", "active")], callers.count().saturating_sub(expiries.soon + expiries.expired));
    out.value(&[("state", "expiring")], expiries.soon);
    out.value(&[("state", "expired")], expiries.expired);
    let files = scraped.gateway.client_files.load();
    out.family(
        "sluicegate_client_files",
        Gauge,
        "Files of clients, by state: used, or broken (what is wrong is in the log and in /status).",
    );
    if let Some(files) = &*files {
        out.value(&[("state", "used")], files.files.saturating_sub(files.broken));
        out.value(&[("state", "broken")], files.broken);
    }
    out.family("sluicegate_client_file_reads", Counter, "Files of clients that were read.");
    if let Some(files) = &*files {
        out.value(&[], files.reads);
    }
}
