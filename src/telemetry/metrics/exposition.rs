//! Formats metrics as text: Prometheus's format (version 0.0.4) and OpenMetrics 1.0.
//!
//! The formats differ little: OpenMetrics names a counter's family without `_total`, states units, and ends with `# EOF`.
//! Sources: prometheus.io/docs/instrumenting/exposition_formats, the OpenMetrics specification.

use std::fmt::{self, Display, Write};

use super::{
    exemplar::{Exemplar, Exemplars},
    histogram::Total,
    scale::Scale,
};

/// The units that names of families end with. OpenMetrics states them (its section "Unit").
const UNITS: [&str; 3] = ["_seconds", "_bytes", "_ratio"];

/// A text format of metrics.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Format {
    /// `text/plain; version=0.0.4`
    Prometheus,
    /// `application/openmetrics-text; version=1.0.0`
    OpenMetrics,
}

/// The kind of a family's values.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum MetricKind {
    /// A value that only grows. Its name ends with `_total`, which OpenMetrics omits in the declaration.
    Counter,
    /// A value that goes up and down.
    Gauge,
    /// Counts by bucket.
    Histogram,
}

/// Labels with their values.
pub type Labels<'a> = &'a [(&'static str, &'a str)];

/// The text of a scrape, family by family.
#[derive(Debug)]
pub struct Exposition {
    text: String,
    format: Format,
    name: &'static str,
    kind: MetricKind,
}

/// A count with an exemplar.
struct Sampled<'a> {
    count: u64,
    exemplar: Option<&'a Exemplar>,
}

impl Format {
    /// The value for the `content-type` header.
    pub fn content_type(self) -> &'static str {
        match self {
            Self::Prometheus => "text/plain; version=0.0.4; charset=utf-8",
            Self::OpenMetrics => "application/openmetrics-text; version=1.0.0; charset=utf-8",
        }
    }
}

impl Exposition {
    /// Creates an empty text.
    pub fn new(format: Format) -> Self {
        Self { text: String::new(), format, name: "", kind: MetricKind::Gauge }
    }

    /// Begins a family; all its samples must follow. `help` is a sentence without characters that need escaping.
    pub fn family(&mut self, name: &'static str, kind: MetricKind, help: &'static str) -> &mut Self {
        self.declare(name, kind, format_args!("{help}"))
    }

    /// Begins a family under the name that it had before; it is exported for one version more.
    pub fn old_family(&mut self, name: &'static str, kind: MetricKind, new: &'static str) -> &mut Self {
        self.declare(name, kind, format_args!("Old name of {new}; it will be removed in the next version."))
    }

    fn declare(&mut self, name: &'static str, kind: MetricKind, help: fmt::Arguments<'_>) -> &mut Self {
        (self.name, self.kind) = (name, kind);
        let declared = match (self.format, kind) {
            (Format::Prometheus, MetricKind::Counter) => "_total",
            _ => "",
        };
        let word = match kind {
            MetricKind::Counter => "counter",
            MetricKind::Gauge => "gauge",
            MetricKind::Histogram => "histogram",
        };
        self.line(format_args!("# HELP {name}{declared} {help}"));
        self.line(format_args!("# TYPE {name}{declared} {word}"));
        let unit = UNITS.iter().find(|unit| name.ends_with(*unit)).and_then(|unit| unit.strip_prefix('_'));
        if let (Format::OpenMetrics, Some(unit)) = (self.format, unit) {
            self.line(format_args!("# UNIT {name} {unit}"));
        }
        self
    }

    /// Writes one value of the family.
    pub fn value(&mut self, labels: Labels<'_>, value: impl Display) -> &mut Self {
        let suffix = if self.kind == MetricKind::Counter { "_total" } else { "" };
        self.sample(suffix, labels, None, value);
        self
    }

    /// Writes one histogram of the family.
    pub fn histogram(&mut self, labels: Labels<'_>, scale: Scale, total: &Total) -> &mut Self {
        self.histogram_with(labels, scale, total, None)
    }

    /// Writes one histogram of the family, with these exemplars, which only OpenMetrics has.
    pub fn histogram_with(
        &mut self,
        labels: Labels<'_>,
        scale: Scale,
        total: &Total,
        exemplars: Option<&Exemplars>,
    ) -> &mut Self {
        let exemplars = exemplars.filter(|_| self.format == Format::OpenMetrics);
        let of_bucket = |bucket: usize| exemplars.and_then(|exemplars| exemplars.of_bucket(bucket));
        for (bucket, (bound, count)) in total.cumulative(scale).enumerate() {
            let sampled = Sampled { count, exemplar: of_bucket(bucket) };
            self.sample("_bucket", labels, Some(&format!("{bound:?}")), sampled);
        }
        let sampled = Sampled { count: total.count(), exemplar: of_bucket(scale.len()) };
        self.sample("_bucket", labels, Some("+Inf"), sampled);
        self.sample("_sum", labels, None, total.sum());
        self.sample("_count", labels, None, total.count());
        self
    }

    /// Ends and returns the text.
    pub fn finish(mut self) -> String {
        if self.format == Format::OpenMetrics {
            self.text.push_str("# EOF\n");
        }
        self.text
    }

    fn sample(&mut self, suffix: &str, labels: Labels<'_>, bound: Option<&str>, value: impl Display) {
        self.text.push_str(self.name);
        self.text.push_str(suffix);
        let bound = bound.map(|bound| ("le", bound));
        let mut before = '{';
        for (name, value) in labels.iter().copied().chain(bound) {
            self.text.push(before);
            self.text.push_str(name);
            self.text.push_str("=\"");
            escape(value, &mut self.text);
            self.text.push('"');
            before = ',';
        }
        if before == ',' {
            self.text.push('}');
        }
        self.line(format_args!(" {value}"));
    }

    fn line(&mut self, line: fmt::Arguments<'_>) {
        // Writing to a string cannot fail.
        let _ = self.text.write_fmt(line);
        self.text.push('\n');
    }
}

impl Display for Sampled<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.count.fmt(f)?;
        let Some(exemplar) = self.exemplar else { return Ok(()) };
        let (trace, span, at) = (exemplar.trace(), exemplar.span.as_secs_f64(), exemplar.timestamp());
        write!(f, " # {{trace_id=\"{trace}\"}} {span} {at:.3}")
    }
}

fn escape(value: &str, text: &mut String) {
    for character in value.chars() {
        match character {
            '\\' => text.push_str("\\\\"),
            '"' => text.push_str("\\\""),
            '\n' => text.push_str("\\n"),
            other => text.push(other),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    fn written(format: Format) -> String {
        let mut exposition = Exposition::new(format);
        exposition
            .family("a_things", MetricKind::Counter, "Things.")
            .value(&[("name", "a\"\\\nb"), ("x", "é")], 3);
        exposition.family("a_level", MetricKind::Gauge, "Level.").value(&[], 1.5);
        exposition.finish()
    }

    #[test]
    fn a_counters_family_is_named_as_each_format_has_it() {
        let samples = "a_things_total{name=\"a\\\"\\\\\\nb\",x=\"é\"} 3\n# HELP a_level Level.\n# TYPE a_level gauge\na_level 1.5\n";
        let prometheus = "# HELP a_things_total Things.\n# TYPE a_things_total counter\n";
        assert_eq!(written(Format::Prometheus), [prometheus, samples].concat());
        let open = "# HELP a_things Things.\n# TYPE a_things counter\n";
        assert_eq!(written(Format::OpenMetrics), [open, samples, "# EOF\n"].concat());
    }

    #[test]
    fn buckets_are_cumulative_and_end_with_all() {
        let mut total = Total::default();
        [1, 3, 700_000]
            .into_iter()
            .for_each(|millis| total.observe(Scale::LONG, Duration::from_millis(millis)));
        let mut exposition = Exposition::new(Format::Prometheus);
        exposition.family("a_seconds", MetricKind::Histogram, "Spans.").histogram(
            &[("route", "r")],
            Scale::LONG,
            &total,
        );
        let text = exposition.finish();
        assert!(text.contains("a_seconds_bucket{route=\"r\",le=\"0.001\"} 1\n"), "{text}");
        assert!(text.contains("a_seconds_bucket{route=\"r\",le=\"600.0\"} 2\n"), "{text}");
        assert!(
            text.ends_with(
                "_bucket{route=\"r\",le=\"+Inf\"} 3\na_seconds_sum{route=\"r\"} 700.004\na_seconds_count{route=\"r\"} 3\n"
            ),
            "{text}"
        );
    }

    #[test]
    fn open_metrics_states_units_and_an_old_name_names_the_new_one() {
        let mut exposition = Exposition::new(Format::OpenMetrics);
        exposition.family("cpu_seconds", MetricKind::Counter, "Time.");
        exposition.old_family("cpu", MetricKind::Counter, "cpu_seconds");
        let expected = "# HELP cpu_seconds Time.\n# TYPE cpu_seconds counter\n# UNIT cpu_seconds seconds\n\
                        # HELP cpu Old name of cpu_seconds; it will be removed in the next version.\n# TYPE cpu counter\n# EOF\n";
        assert_eq!(exposition.finish(), expected);
    }
}
