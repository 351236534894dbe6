//! Client connections, and what is in flight on them.

use std::collections::BTreeMap;

use super::{Scraped, name, renamed};
use crate::{
    listen::{Counters, RouteSurvey, SILENCES},
    telemetry::metrics::{
        exposition::{Exposition, MetricKind},
        request_counts::Name,
    },
};

use MetricKind::{Counter, Gauge};

pub(super) fn write(out: &mut Exposition, scraped: &Scraped) {
    load(out, scraped);
    open_requests(out, scraped);
    connections(out, &scraped.connections);
}

fn load(out: &mut Exposition, scraped: &Scraped) {
    let names = ("sluicegate_requests_in_flight", "sluicegate_exchanges_in_flight");
    let help = "Requests in flight, from the request's first header to the response's last byte.";
    renamed(out, names, Gauge, help, |out| {
        for (worker, (exchanges, _)) in scraped.loads.iter().enumerate() {
            out.value(&[("worker", &worker.to_string())], exchanges);
        }
    });
    out.family("sluicegate_connections_open", Gauge, "Open client connections.");
    for (worker, (_, connections)) in scraped.loads.iter().enumerate() {
        out.value(&[("worker", &worker.to_string())], connections);
    }
    out.family("sluicegate_connections_max", Gauge, "server.max_connections of the process.");
    out.value(&[], scraped.snapshot.server.max_connections);
    out.family("sluicegate_websocket_connections_open", Gauge, "Open WebSocket connections.");
    out.value(&[], scraped.gateway.open_tunnels());
    out.family(
        "sluicegate_buffered_bytes",
        Gauge,
        "Bytes of requests and responses held in memory, as `max_buffered` counts them.",
    );
    out.value(&[], scraped.gateway.buffered());
    out.family("sluicegate_buffered_bytes_max", Gauge, "server.max_buffered of the process, in bytes.");
    out.value(&[], scraped.snapshot.server.max_buffered);
}

/// Each route of the configuration has its series, also when nothing is open.
fn open_requests(out: &mut Exposition, scraped: &Scraped) {
    let configured = scraped.snapshot.routes.names().map(|name| (Some(name.clone()), RouteSurvey::default()));
    let mut routes: BTreeMap<Name, RouteSurvey> = configured.collect();
    routes.extend(scraped.survey.0.iter().map(|(route, seen)| (route.clone(), *seen)));
    out.family("sluicegate_oldest_request_seconds", Gauge, "Age of the oldest request in flight.");
    for (route, seen) in &routes {
        out.value(&[("route", name(route))], seen.oldest.as_secs_f64());
    }
    out.family(
        "sluicegate_streams_silent",
        Gauge,
        "Streams whose upstream has sent nothing for longer than the label over.",
    );
    for (route, seen) in &routes {
        for (span, count) in SILENCES.iter().zip(seen.silent) {
            let over = format!("{}s", span.as_secs());
            out.value(&[("route", name(route)), ("over", &over)], count);
        }
    }
}

fn connections(out: &mut Exposition, counters: &Counters) {
    out.family("sluicegate_connections_accepted", Counter, "Accepted client connections.");
    out.value(&[], counters.accepted.value());
    out.family(
        "sluicegate_connection_failures",
        Counter,
        "Connection-level failures outside a request, by class.",
    );
    let classes = [
        ("accept_failed", &counters.accept_failed),
        ("unserved", &counters.unserved),
        ("proxy_refused", &counters.proxy_refused),
        ("handshake_failed", &counters.handshake_failed),
        ("plain_http", &counters.plain_http),
        ("tls_on_plain", &counters.tls_on_plain),
        ("handshake_timeout", &counters.handshake_timeout),
        ("bad_head", &counters.bad_head),
        ("header_timeout", &counters.header_timeout),
        ("write_stalled", &counters.write_stalled),
    ];
    for (class, count) in classes {
        out.value(&[("class", class)], count.value());
    }
    out.family(
        "sluicegate_connections_idle_closed",
        Counter,
        "Client connections closed because they were idle for server.keep_alive.",
    );
    out.value(&[], counters.idle_closed.value());
}
