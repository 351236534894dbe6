//! Finished requests: how they ended, and the tokens that they used.

use super::{Scraped, constant, name, renamed};
use crate::telemetry::metrics::{
    exposition::{Exposition, MetricKind},
    worker::Counts,
};

use MetricKind::Counter;

pub(super) fn write(out: &mut Exposition, scraped: &Scraped) {
    let counts = &scraped.counts;
    endings(out, counts);
    errors(out, counts);
    out.family("sluicegate_preflights", Counter, "Preflight requests of browsers that were granted.");
    for (route, count) in &counts.preflights {
        out.value(&[("route", name(route))], count);
    }
    tokens(out, counts);
}

fn endings(out: &mut Exposition, counts: &Counts) {
    let names = ("sluicegate_requests", "sluicegate_exchanges");
    renamed(out, names, Counter, "Finished requests, by who ended them and in which phase.", |out| {
        for (ending, count) in &counts.exchanges {
            let labels = [
                ("route", name(&ending.route)),
                ("upstream", name(&ending.upstream)),
                ("status", constant(ending.status)),
                ("who", constant(ending.who)),
                ("phase", constant(ending.phase)),
            ];
            out.value(&labels, count);
        }
    });
}

fn errors(out: &mut Exposition, counts: &Counts) {
    let names = ("sluicegate_request_errors", "sluicegate_faults");
    renamed(out, names, Counter, "Requests that failed, by error code.", |out| {
        for ((route, code), count) in &counts.faults {
            out.value(&[("route", name(route)), ("code", constant(code))], count);
        }
    });
}

fn tokens(out: &mut Exposition, counts: &Counts) {
    out.family(
        "sluicegate_tokens",
        Counter,
        "Tokens, as reported by the upstream, by type. cached_input and cache_write are part of input, and reasoning is part of output.",
    );
    for ([caller, route, upstream], tokens) in &counts.tokens {
        for (kind, count) in tokens.by_type() {
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
