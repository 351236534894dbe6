//! The gateway itself: configuration, certificates, what the log and the metrics have lost, the version.

use std::{collections::BTreeMap, hash::Hasher as _};

use fnv::FnvHasher;
use serde_json::Value;

use super::Scraped;
use crate::{
    proxy::Gateway,
    snapshot::{Expiry, Snapshot},
    telemetry::metrics::exposition::{Exposition, MetricKind},
};

use MetricKind::{Counter, Gauge};

pub(super) fn write(out: &mut Exposition, scraped: &Scraped) {
    configuration(out, &scraped.gateway);
    certificates(out, &scraped.snapshot);
    out.family(
        "sluicegate_log_lines_dropped",
        Counter,
        "Log lines dropped because the output was too slow or failed.",
    );
    out.value(&[], scraped.gateway.access_log.queue.dropped());
    out.family(
        "sluicegate_metric_labels_dropped",
        Counter,
        "Samples counted under the label _other because the limit on series was reached; a request has several.",
    );
    out.value(&[], scraped.counts.overflowed);
    let version = [("version", env!("CARGO_PKG_VERSION"))];
    out.family("sluicegate_build_info", Gauge, "Always 1. The label is the version.").value(&version, 1);
}

fn configuration(out: &mut Exposition, gateway: &Gateway) {
    let reloads = &gateway.reloads;
    out.family("sluicegate_config_reloads", Counter, "Configuration reloads, by result.");
    out.value(&[("result", "ok")], reloads.succeeded.value());
    out.value(&[("result", "refused")], reloads.failed.value());
    out.family(
        "sluicegate_config_last_reload_successful",
        Gauge,
        "1 if the configuration was taken when it was read last; 0 if it was refused, and the previous one is still in effect.",
    );
    let last = gateway.last_reload.load();
    let is_taken = last.as_ref().is_none_or(|reload| reload.problems.is_empty());
    out.value(&[], u64::from(is_taken));
    out.family("sluicegate_config_generation", Gauge, "Generation of the configuration in effect.");
    let live = gateway.live.load();
    out.value(&[], live.generation);
    out.family(
        "sluicegate_config_hash",
        Gauge,
        "Hash of the configuration in effect, without secrets and client files: instances with the same number have the same configuration.",
    );
    out.value(&[], hash(&live.redacted));
    out.family(
        "sluicegate_config_last_success_timestamp_seconds",
        Gauge,
        "Unix time of the last successful reload.",
    );
    out.value(&[], reloads.last_success());
}

/// A hash of a configuration as `/config` shows it, in 52 bits, which a sample holds exactly.
fn hash(shown: &Value) -> u64 {
    let mut hasher = FnvHasher::default();
    hasher.write(shown.to_string().as_bytes());
    hasher.finish() >> 12
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        config::{ClientAddress, Server},
        snapshot::Listener,
        telemetry::metrics::exposition::Format,
    };

    #[test]
    fn configurations_differ_in_their_hash_and_a_sample_holds_it_exactly() {
        let (one, same) = (serde_json::json!({ "a": 1, "b": 2 }), serde_json::json!({ "b": 2, "a": 1 }));
        assert_eq!(hash(&one), hash(&same));
        assert_ne!(hash(&one), hash(&serde_json::json!({ "a": 1 })));
        assert!(hash(&one) < 1 << 52);
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
