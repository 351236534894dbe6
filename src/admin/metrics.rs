//! `/metrics`: all metrics, in the format that the scraper accepts.

use std::{collections::BTreeMap, sync::Arc, time::Instant};

use bytes::Bytes;
use http::{HeaderMap, HeaderValue, Response, header};
use http_body_util::Full;

use super::AdminState;
use crate::{
    listen::Counters,
    proxy::Gateway,
    snapshot::{Expiry, Snapshot},
    telemetry::metrics::{
        count::Count,
        exposition::{Exposition, Format, MetricKind},
        histogram::Total,
        process,
        series::Series,
        worker::{Counts, Measures, Name, WorkerMetrics},
    },
    upstream::{Circuit, TargetState},
};

use MetricKind::{Counter, Gauge, Histogram};

/// Label for values without a configured name. No configured name can equal it (`config::is_name`), or there would be two series
/// with the same labels.
const OTHER: &str = "_other";

impl AdminState {
    /// All metric families.
    pub(super) fn metrics(&self, headers: &HeaderMap) -> Response<Full<Bytes>> {
        let accept = headers.get(header::ACCEPT).and_then(|accept| accept.to_str().ok()).unwrap_or_default();
        let format = Format::accepted(accept);
        let mut out = Exposition::new(format);
        let workers = self.gateway.all_metrics();
        let mut counts = Counts::default();
        workers.iter().for_each(|worker| worker.add_to(&mut counts));
        exchanges(&mut out, &counts);
        routes(&mut out, &counts.routes);
        self.load(&mut out);
        pools(&mut out, &workers);
        connections(&mut out, &self.counters);
        targets(&mut out, &self.gateway.live.load());
        configuration(&mut out, &self.gateway);
        certificates(&mut out, &self.gateway.live.load());
        spans(&mut out, &self.gateway.live.load());
        let dropped = self.gateway.access_log.queue.dropped();
        out.family(
            "sluicegate_log_lines_dropped",
            Counter,
            "Log lines dropped because the output was too slow or failed.",
        );
        out.value(&[], dropped);
        out.family(
            "sluicegate_metric_labels_dropped",
            Counter,
            "Samples counted under the label _other because the limit on series was reached; a request has several.",
        );
        out.value(&[], counts.overflowed);
        let version = [("version", env!("CARGO_PKG_VERSION"))];
        out.family("sluicegate_build_info", Gauge, "Always 1. The label is the version.").value(&version, 1);
        process::write(&mut out, self.gateway.started);
        let mut response = Response::new(Full::from(out.finish()));
        let content_type = HeaderValue::from_static(format.content_type());
        response.headers_mut().insert(header::CONTENT_TYPE, content_type);
        response
    }

    fn load(&self, out: &mut Exposition) {
        let loads = self.workers.loads();
        out.family(
            "sluicegate_exchanges_in_flight",
            Gauge,
            "Requests in flight, from the request's first header to the response's last byte.",
        );
        for (worker, (exchanges, _)) in loads.iter().enumerate() {
            out.value(&[("worker", &worker.to_string())], exchanges);
        }
        out.family("sluicegate_connections_open", Gauge, "Open client connections.");
        for (worker, (_, connections)) in loads.iter().enumerate() {
            out.value(&[("worker", &worker.to_string())], connections);
        }
        out.family("sluicegate_websocket_connections_open", Gauge, "Open WebSocket connections.");
        out.value(&[], self.gateway.open_tunnels());
        out.family(
            "sluicegate_buffered_bytes",
            Gauge,
            "Bytes of requests and responses held in memory, as `max_buffered` counts them.",
        );
        out.value(&[], self.gateway.buffered());
    }
}

fn exchanges(out: &mut Exposition, counts: &Counts) {
    out.family("sluicegate_exchanges", Counter, "Finished requests, by who ended them and in which phase.");
    for (ending, count) in &counts.exchanges {
        let labels = [
            ("route", name(&ending.route)),
            ("upstream", name(&ending.upstream)),
            ("status", if ending.status.is_empty() { OTHER } else { ending.status }),
            ("who", if ending.who.is_empty() { OTHER } else { ending.who }),
            ("phase", if ending.phase.is_empty() { OTHER } else { ending.phase }),
        ];
        out.value(&labels, count);
    }
    out.family("sluicegate_faults", Counter, "Requests that failed, by error code.");
    for ((route, code), count) in &counts.faults {
        out.value(&[("route", name(route)), ("code", if code.is_empty() { OTHER } else { code })], count);
    }
    out.family("sluicegate_preflights", Counter, "Preflight requests of browsers that were granted.");
    for (route, count) in &counts.preflights {
        out.value(&[("route", name(route))], count);
    }
    out.family(
        "sluicegate_upstream_attempts",
        Counter,
        "Upstream attempts, by status class of the response or error code.",
    );
    for (([upstream, target], result), count) in &counts.attempts {
        let result = if result.is_empty() { OTHER } else { result };
        let labels = [("upstream", name(upstream)), ("target", name(target)), ("result", result)];
        out.value(&labels, count);
    }
    out.family("sluicegate_upstream_key_rests", Counter, "Cooldowns of upstream keys, by reason.");
    for ((upstream, reason), count) in &counts.key_cooldowns {
        let reason = if reason.is_empty() { OTHER } else { reason };
        out.value(&[("upstream", name(upstream)), ("reason", reason)], count);
    }
    out.family(
        "sluicegate_tokens",
        Counter,
        "Tokens, as reported by the upstream, by type. cached_input and cache_write are part of input, and reasoning is part of output.",
    );
    for ([caller, route, upstream], tokens) in &counts.tokens {
        for (kind, count) in [
            ("input", tokens.input),
            ("output", tokens.output),
            ("cached_input", tokens.cached_input),
            ("cache_write", tokens.cache_write),
            ("reasoning", tokens.reasoning),
        ] {
            let labels = [
                ("caller", name(caller)),
                ("route", name(route)),
                ("upstream", name(upstream)),
                ("gen_ai_token_type", kind),
            ];
            out.value(&labels, count);
        }
    }
}

fn routes(out: &mut Exposition, routes: &Series<Name, Measures>) {
    type Reading = fn(&Measures) -> &Total;
    let spans: [(&'static str, &'static str, Reading); 4] = [
        ("sluicegate_exchange_duration_seconds", "Time from the request to the end of the response.", |m| {
            &m.total
        }),
        ("sluicegate_first_byte_seconds", "Time from the request to the upstream's response headers.", |m| {
            &m.first_byte
        }),
        (
            "gen_ai_server_time_to_first_token_seconds",
            "Time from the request to the first content of a streamed response.",
            |m| &m.first_token,
        ),
        ("sluicegate_frame_gap_seconds", "Time between two consecutive frames of a response body.", |m| {
            &m.gaps
        }),
    ];
    for (family, help, part) in spans {
        out.family(family, Histogram, help);
        for (route, measures) in routes {
            out.histogram(&[("route", name(route))], part(measures));
        }
    }
    out.family("sluicegate_request_bytes", Counter, "Bytes of request bodies received.");
    for (route, measures) in routes {
        out.value(&[("route", name(route))], measures.bytes_in);
    }
    out.family("sluicegate_response_bytes", Counter, "Bytes of response bodies sent.");
    for (route, measures) in routes {
        out.value(&[("route", name(route))], measures.bytes_out);
    }
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

fn pools(out: &mut Exposition, workers: &[Arc<WorkerMetrics>]) {
    let total =
        |count: fn(&WorkerMetrics) -> &Count| workers.iter().map(|worker| count(worker).value()).sum::<u64>();
    out.family(
        "sluicegate_upstream_connections",
        Counter,
        "Upstream connections, by event: opened, reused, or dead (a kept one was found closed).",
    );
    out.value(&[("event", "opened")], total(|worker| &worker.pool.opened));
    out.value(&[("event", "reused")], total(|worker| &worker.pool.reused));
    out.value(&[("event", "dead")], total(|worker| &worker.pool.dead));
}

fn targets(out: &mut Exposition, snapshot: &Snapshot) {
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
    let now = Instant::now();
    for (family, kind, help, part) in families {
        out.family(family, kind, help);
        for upstream in snapshot.upstreams.values() {
            for target in upstream.targets() {
                let labels = [("upstream", &*upstream.name), ("target", &*target.url)];
                out.value(&labels, part(&target.state, now));
            }
        }
    }
    out.family("sluicegate_upstream_keys_resting", Gauge, "Upstream keys in cooldown.");
    for upstream in snapshot.upstreams.values() {
        out.value(&[("upstream", &*upstream.name)], upstream.keys.cooling_down(now).1);
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

fn configuration(out: &mut Exposition, gateway: &Gateway) {
    let reloads = &gateway.reloads;
    out.family("sluicegate_config_reloads", Counter, "Configuration reloads, by result.");
    out.value(&[("result", "ok")], reloads.succeeded.value());
    out.value(&[("result", "refused")], reloads.failed.value());
    out.family("sluicegate_config_generation", Gauge, "Generation of the configuration in effect.");
    out.value(&[], gateway.live.load().generation);
    out.family(
        "sluicegate_config_last_success_timestamp_seconds",
        Gauge,
        "Unix time of the last successful reload.",
    );
    out.value(&[], reloads.last_success());
}

fn spans(out: &mut Exposition, snapshot: &Snapshot) {
    let counts = snapshot.spans.counts();
    out.family("sluicegate_spans_exported", Counter, "Spans that the collector of traces has taken.");
    out.value(&[], counts.exported.value());
    out.family(
        "sluicegate_spans_dropped",
        Counter,
        "Spans that were not exported, by reason: queue_full, rejected (by the collector), failed (the collector was unavailable or refused the request).",
    );
    for (reason, count) in counts.drops() {
        out.value(&[("reason", reason)], count);
    }
}

fn certificates(out: &mut Exposition, snapshot: &Snapshot) {
    out.family(
        "sluicegate_certificate_expiry_timestamp_seconds",
        Gauge,
        "Unix time at which a certificate expires.",
    );
    for listener in &snapshot.listeners {
        let address = listener.address.to_string();
        // One name may have several certificates, of RSA and of ECDSA: the earliest expiry is reported.
        let mut first = BTreeMap::new();
        for Expiry { name, not_after } in &listener.certificates {
            let first = first.entry(name).or_insert(*not_after);
            *first = (*first).min(*not_after);
        }
        for (name, not_after) in first {
            out.value(&[("listener", &address), ("certificate", name)], not_after);
        }
    }
}

fn name(name: &Name) -> &str {
    name.as_deref().unwrap_or(OTHER)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        config::{ClientAddress, Server, is_name},
        snapshot::Listener,
    };

    #[test]
    fn what_has_no_name_has_a_series_of_its_own() {
        assert!(!is_name(OTHER));
        let mut counted: Series<Name, Measures> = Series::default();
        for route in [None, Some("other".into())] {
            counted.change(route, |_| ());
        }
        let mut out = Exposition::new(Format::Prometheus);
        routes(&mut out, &counted);
        let text = out.finish();
        let lines: Vec<&str> =
            text.lines().filter(|line| line.starts_with("sluicegate_request_bytes")).collect();
        assert_eq!(lines.len(), 2, "{text}");
        assert_ne!(lines[0], lines[1]);
    }

    #[test]
    fn of_several_certificates_of_one_name_the_first_to_end_is_shown() {
        let expiry = |name: &str, not_after| Expiry { name: name.to_owned(), not_after };
        let listener = Listener {
            address: "127.0.0.1:8443".parse().unwrap(),
            tls: None,
            certificates: vec![expiry("a.example", 9), expiry("b.example", 8), expiry("a.example", 7)],
            h2c: false,
            client_address: ClientAddress::Peer,
        };
        let snapshot = Snapshot::of_listeners(1, Server::default(), vec![listener]);
        let mut out = Exposition::new(Format::Prometheus);
        certificates(&mut out, &snapshot);
        let text = out.finish();
        let series_lines: Vec<&str> = text.lines().filter(|line| !line.starts_with('#')).collect();
        let series = |name: &str, ends| {
            let labels = format!("listener=\"127.0.0.1:8443\",certificate=\"{name}\"");
            format!("sluicegate_certificate_expiry_timestamp_seconds{{{labels}}} {ends}")
        };
        assert_eq!(series_lines, [series("a.example", 7), series("b.example", 8)]);
    }
}
