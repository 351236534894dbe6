//! What a scraper accepts: `accept` (RFC 9110 §12.5.1) and `accept-encoding` (§12.5.3).

use super::exposition::Format;

impl Format {
    /// Chooses the format for a scraper's `accept` header: the one with the larger weight, and OpenMetrics if both weigh the same and it is
    /// named. Prometheus names both.
    pub fn accepted(accept: &str) -> Self {
        let open = weight(accept, "application/openmetrics-text").unwrap_or(0.0);
        let plain = weight(accept, "text/plain").or_else(|| weight(accept, "*/*")).unwrap_or(0.0);
        if open > 0.0 && open >= plain { Self::OpenMetrics } else { Self::Prometheus }
    }
}

/// Whether the scraper takes gzip, by its `accept-encoding` header.
pub fn takes_gzip(accept_encoding: &str) -> bool {
    weight(accept_encoding, "gzip").or_else(|| weight(accept_encoding, "*")).unwrap_or(0.0) > 0.0
}

/// The largest weight of the entries of a list with this name; `None`: it is not named. A weight that cannot be read is 1.
fn weight(list: &str, name: &str) -> Option<f64> {
    let weights = list.split(',').filter_map(|entry| {
        let mut parts = entry.split(';').map(str::trim);
        let named = parts.next()?.eq_ignore_ascii_case(name);
        let weight = parts.find_map(|part| part.strip_prefix("q=").or_else(|| part.strip_prefix("Q=")));
        named.then(|| weight.and_then(|weight| weight.trim().parse().ok()).unwrap_or(1.0))
    });
    weights.reduce(f64::max)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_format_is_negotiated() {
        for (accept, format) in [
            (
                "application/openmetrics-text;version=1.0.0;q=0.5,text/plain;version=0.0.4;q=0.3,*/*;q=0.1",
                Format::OpenMetrics,
            ),
            ("application/openmetrics-text;version=1.0.0,text/plain", Format::OpenMetrics),
            ("Application/OpenMetrics-Text; version=1.0.0; Q=0.9", Format::OpenMetrics),
            ("application/openmetrics-text;q=0.2, text/plain;q=0.9", Format::Prometheus),
            ("application/openmetrics-text;q=0", Format::Prometheus),
            ("x-application/openmetrics-text", Format::Prometheus),
            ("*/*", Format::Prometheus),
            ("", Format::Prometheus),
        ] {
            assert_eq!(Format::accepted(accept), format, "{accept}");
        }
    }

    #[test]
    fn gzip_is_sent_to_those_who_take_it() {
        for (accepted, gzip) in [
            ("gzip", true),
            ("deflate, GZIP;q=0.5", true),
            ("*", true),
            ("gzip;q=0", false),
            ("gzip;q=0, *", false),
            ("identity", false),
            ("", false),
        ] {
            assert_eq!(takes_gzip(accepted), gzip, "{accepted}");
        }
    }
}
