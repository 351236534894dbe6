//! Measurements of requests by route.

use super::{Scraped, constant, name, renamed};
use crate::telemetry::metrics::{
    exposition::{Exposition, MetricKind},
    histogram::{GAP_SCALE, Total},
    measures::Measures,
    request_counts::Name,
    scale::Scale,
    series::Series,
};

use MetricKind::{Counter, Histogram};

/// Measurements by route.
type Routes = Series<Name, Measures>;

pub(super) fn write(out: &mut Exposition, scraped: &Scraped) {
    let routes = &scraped.counts.routes;
    times(out, routes);
    retries(out, scraped);
    bytes(out, routes);
    websockets(out, routes);
}

fn times(out: &mut Exposition, routes: &Routes) {
    let names = ("sluicegate_request_duration_seconds", "sluicegate_exchange_duration_seconds");
    renamed(out, names, Histogram, "Time from the request to the end of the response.", |out| {
        for (route, measures) in routes {
            let (total, exemplars) = (&measures.total, Some(&measures.exemplars));
            out.histogram_with(&[("route", name(route))], Scale::LONG, total, exemplars);
        }
    });
    out.family(
        "sluicegate_first_byte_seconds",
        Histogram,
        "Time from the request to the upstream's response headers.",
    );
    histograms(out, routes, Scale::LONG, |measures| &measures.first_byte);
    out.family(
        "sluicegate_first_token_seconds",
        Histogram,
        "Time from the request to the first content of a streamed response.",
    );
    histograms(out, routes, Scale::LONG, |measures| &measures.first_token);
    out.family(
        "sluicegate_frame_gap_seconds",
        Histogram,
        "Time between two consecutive frames of a response body.",
    );
    histograms(out, routes, GAP_SCALE, |measures| &measures.gaps);
    out.family(
        "sluicegate_overhead_seconds",
        Histogram,
        "Time that the gateway itself added to a request, without waits for the client, for permits or for the upstream.",
    );
    histograms(out, routes, Scale::SHORT, |measures| &measures.overhead);
}

fn histograms(out: &mut Exposition, routes: &Routes, scale: Scale, part: fn(&Measures) -> &Total) {
    for (route, measures) in routes {
        out.histogram(&[("route", name(route))], scale, part(measures));
    }
}

fn retries(out: &mut Exposition, scraped: &Scraped) {
    out.family("sluicegate_retries", Counter, "Attempts beside the first one of a request.");
    for (route, measures) in &scraped.counts.routes {
        out.value(&[("route", name(route))], measures.retries);
    }
    out.family(
        "sluicegate_wait_seconds",
        Histogram,
        "Waits of requests between attempts: backoff after a failure, or busy because all targets and keys were in use.",
    );
    for ((route, why), total) in &scraped.counts.waits {
        out.histogram(&[("route", name(route)), ("why", constant(why))], Scale::LONG, total);
    }
}

fn bytes(out: &mut Exposition, routes: &Routes) {
    out.family("sluicegate_request_bytes", Counter, "Bytes of request bodies received.");
    for (route, measures) in routes {
        out.value(&[("route", name(route))], measures.bytes_in);
    }
    out.family("sluicegate_response_bytes", Counter, "Bytes of response bodies sent.");
    for (route, measures) in routes {
        out.value(&[("route", name(route))], measures.bytes_out);
    }
}

fn websockets(out: &mut Exposition, routes: &Routes) {
    let tunnelled = || routes.iter().filter(|(_, measures)| measures.tunnels > 0);
    out.family("sluicegate_websocket_connections", Counter, "WebSocket connections that have ended.");
    for (route, measures) in tunnelled() {
        out.value(&[("route", name(route))], measures.tunnels);
    }
    out.family(
        "sluicegate_websocket_turns",
        Counter,
        "Turns (responses of the model) on WebSocket connections that have ended.",
    );
    for (route, measures) in tunnelled() {
        out.value(&[("route", name(route))], measures.turns);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::telemetry::metrics::exposition::Format;

    #[test]
    fn what_has_no_name_has_a_series_of_its_own() {
        let mut counted = Routes::default();
        for route in [None, Some("other".into())] {
            counted.change(route, |_| ());
        }
        let mut out = Exposition::new(Format::Prometheus);
        bytes(&mut out, &counted);
        let text = out.finish();
        let lines: Vec<&str> =
            text.lines().filter(|line| line.starts_with("sluicegate_request_bytes")).collect();
        assert_eq!(lines.len(), 2, "{text}");
        assert_ne!(lines[0], lines[1]);
    }
}
