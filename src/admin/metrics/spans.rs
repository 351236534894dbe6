//! What became of the spans of finished requests.

use super::{Exposition, MetricKind::Counter, Scraped};

/// Writes the families about exported traces.
pub(super) fn write(out: &mut Exposition, scraped: &Scraped) {
    let counts = scraped.snapshot.spans.counts();
    out.family("sluicegate_spans_exported", Counter, "Spans that the collector of traces has taken.");
    out.value(&[], counts.exported.value());
    out.family(
        "sluicegate_spans_dropped",
        Counter,
        "Spans that were not exported, by reason: queue_full, rejected (by the collector), failed (the collector was unavailable or refused \
         the request), rate_limited (more failed, slow or refused requests ended in one second than are exported beyond the share).",
    );
    for (reason, count) in counts.drops() {
        out.value(&[("reason", reason)], count);
    }
}
