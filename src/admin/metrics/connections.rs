//! Client connections, and what is in flight on them.

use super::{Scraped, renamed};
use crate::{
    listen::Counters,
    telemetry::metrics::exposition::{Exposition, MetricKind},
};

use MetricKind::{Counter, Gauge};

pub(super) fn write(out: &mut Exposition, scraped: &Scraped) {
    load(out, scraped);
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
    out.family("sluicegate_websocket_connections_open", Gauge, "Open WebSocket connections.");
    out.value(&[], scraped.gateway.open_tunnels());
    out.family(
        "sluicegate_buffered_bytes",
        Gauge,
        "Bytes of requests and responses held in memory, as `max_buffered` counts them.",
    );
    out.value(&[], scraped.gateway.buffered());
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
