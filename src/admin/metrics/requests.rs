//! Finished requests: how they ended, and the tokens that they used.

use std::collections::BTreeMap;

use super::{Scraped, constant, name, renamed};
use crate::{
    fault::Who,
    telemetry::metrics::{
        exposition::{Exposition, MetricKind},
        request_counts::Counts,
        sample::RequestResult,
    },
};

use MetricKind::Counter;

/// Error codes that an alert is about (`SluicegateNoUpstreamLeft`). Each route of the configuration has their series from the start, because
/// `increase` does not see the first event of a new one.
const ALERTED_CODES: [&str; 2] = ["upstream_unavailable", "upstream_unreachable"];

pub(super) fn write(out: &mut Exposition, scraped: &Scraped) {
    let counts = &scraped.counts;
    endings(out, counts);
    errors(out, scraped);
    out.family("sluicegate_preflights", Counter, "Preflight requests of browsers that were granted.");
    for (route, count) in &counts.preflights {
        out.value(&[("route", name(route))], count);
    }
    tokens(out, counts);
    costs(out, counts);
    callers(out, counts);
    rescued(out, counts);
    broken(out, scraped);
    out.family(
        "sluicegate_client_sdk_requests",
        Counter,
        "Requests by SDK or tool of the client, and its major version.",
    );
    for (sdk, count) in &counts.sdks {
        let sdk = sdk.unwrap_or_default();
        out.value(&[("sdk", sdk.family), ("version", &sdk.major())], count);
    }
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

fn errors(out: &mut Exposition, scraped: &Scraped) {
    let mut sums = BTreeMap::new();
    for route in scraped.snapshot.routes.names() {
        sums.extend(ALERTED_CODES.map(|code| ((&**route, code), 0)));
    }
    for ((route, code), count) in &scraped.counts.faults {
        sums.insert((name(route), constant(code)), *count);
    }
    let names = ("sluicegate_request_errors", "sluicegate_faults");
    renamed(out, names, Counter, "Requests that failed, by error code.", |out| {
        for ((route, code), count) in &sums {
            out.value(&[("route", route), ("code", code)], count);
        }
    });
}

fn tokens(out: &mut Exposition, counts: &Counts) {
    out.family(
        "sluicegate_tokens",
        Counter,
        "Tokens, as reported by the upstream, by type. cached_input and cache_write are part of input, and reasoning is part of output.",
    );
    for ([caller, route, upstream], used) in counts.callers.iter().filter(|(_, used)| !used.tokens.is_empty())
    {
        for (kind, count) in used.tokens.by_type() {
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

fn costs(out: &mut Exposition, counts: &Counts) {
    out.family(
        "sluicegate_cost",
        Counter,
        "Cost of requests, in the currency of the label, by whether the upstream reported the tokens or the gateway estimated them.",
    );
    for ([caller, route, upstream, currency], costs) in &counts.costs {
        for (usage, amount) in costs.by_usage() {
            let labels = [
                ("caller", name(caller)),
                ("route", name(route)),
                ("upstream", name(upstream)),
                ("currency", name(currency)),
                ("usage", usage),
            ];
            out.value(&labels, amount);
        }
    }
}

fn callers(out: &mut Exposition, counts: &Counts) {
    out.family(
        "sluicegate_caller_requests",
        Counter,
        "Requests by client and result: ok, limited (429), rejected (another 4xx), failed or left (the client left).",
    );
    let mut sums = BTreeMap::<&str, [u64; RequestResult::ALL.len()]>::new();
    for ([caller, ..], used) in &counts.callers {
        let sum = sums.entry(name(caller)).or_default();
        sum.iter_mut().zip(used.results).for_each(|(sum, more)| *sum += more);
    }
    for (caller, counts) in sums {
        for (result, count) in RequestResult::ALL.into_iter().zip(counts) {
            out.value(&[("caller", caller), ("result", result.as_str())], count);
        }
    }
}

fn rescued(out: &mut Exposition, counts: &Counts) {
    out.family(
        "sluicegate_rescued_requests",
        Counter,
        "Requests of which an attempt failed, and that were answered even so; from the upstream of the first attempt to that of the last.",
    );
    for ([route, from, to], count) in &counts.rescued {
        out.value(&[("route", name(route)), ("from", name(from)), ("to", name(to))], count);
    }
}

/// Each route and upstream of the configuration has its series from the start, because `increase` does not see the first event of a new one.
fn broken(out: &mut Exposition, scraped: &Scraped) {
    out.family(
        "sluicegate_broken_streams",
        Counter,
        "Responses that had begun and were not completed, unless the client left; by who ended them.",
    );
    let mut sums = BTreeMap::new();
    for (route, upstream) in scraped.snapshot.routes.pairs() {
        for who in [Who::Upstream, Who::Gateway] {
            sums.insert((route, upstream, who.as_str()), 0);
        }
    }
    for (([route, upstream], who), count) in &scraped.counts.broken {
        sums.insert((name(route), name(upstream), constant(who)), *count);
    }
    for ((route, upstream, who), count) in sums {
        out.value(&[("route", route), ("upstream", upstream), ("who", who)], count);
    }
}
