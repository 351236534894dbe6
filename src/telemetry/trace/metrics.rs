//! The metrics of a scrape as messages of the OpenTelemetry protocol: the same families, labels and values.
//!
//! The text of a scrape is read, so that what is exported cannot differ from what is scraped. It is the program's own, in the OpenMetrics format, and
//! a line that is not understood is left out.

use std::time::SystemTime;

use super::{
    proto::{Attributes, bytes, fixed64, varint},
    span::nanos,
};

/// Field numbers of `ScopeMetrics`, `Metric`, `Gauge`, `Sum`, `Histogram` and their data points.
mod field {
    pub(super) const METRICS: u32 = 2;
    pub(super) const NAME: u32 = 1;
    pub(super) const DESCRIPTION: u32 = 2;
    pub(super) const UNIT: u32 = 3;
    pub(super) const GAUGE: u32 = 5;
    pub(super) const SUM: u32 = 7;
    pub(super) const HISTOGRAM: u32 = 9;
    pub(super) const DATA_POINTS: u32 = 1;
    pub(super) const TEMPORALITY: u32 = 2;
    pub(super) const IS_MONOTONIC: u32 = 3;
    pub(super) const START: u32 = 2;
    pub(super) const TIME: u32 = 3;
    pub(super) const AS_DOUBLE: u32 = 4;
    pub(super) const NUMBER_ATTRIBUTES: u32 = 7;
    pub(super) const COUNT: u32 = 4;
    pub(super) const TOTAL: u32 = 5;
    pub(super) const BUCKETS: u32 = 6;
    pub(super) const BOUNDS: u32 = 7;
    pub(super) const HISTOGRAM_ATTRIBUTES: u32 = 9;
}

/// `AGGREGATION_TEMPORALITY_CUMULATIVE`
const CUMULATIVE: u64 = 2;

/// When counting began, and when the metrics were read.
#[derive(Debug, Clone, Copy)]
pub struct Period {
    /// When the process started.
    pub start: SystemTime,
    /// When the metrics were read.
    pub end: SystemTime,
}

/// Encodes the families of a scrape, and says how many values they have.
pub fn encode_metrics(text: &str, period: Period) -> (Vec<u8>, u64) {
    let (mut out, mut points) = (Vec::new(), 0);
    let mut family = Family::default();
    for line in text.lines() {
        match line.strip_prefix("# ") {
            Some(comment) => {
                let mut words = comment.splitn(3, ' ');
                let (kind, name, rest) = (words.next(), words.next(), words.next());
                let (Some(kind), Some(name)) = (kind, name) else { continue };
                if name != family.name {
                    points += family.write(period, &mut out);
                    family = Family { name, ..Family::default() };
                }
                match kind {
                    "HELP" => family.help = rest.unwrap_or_default(),
                    "TYPE" => family.kind = rest.unwrap_or_default(),
                    "UNIT" => family.unit = rest.unwrap_or_default(),
                    _ => {}
                }
            }
            None => family.samples.extend(Sample::read(line)),
        }
    }
    points += family.write(period, &mut out);
    (out, points)
}

/// A family of the text.
#[derive(Default)]
struct Family<'t> {
    name: &'t str,
    help: &'t str,
    kind: &'t str,
    unit: &'t str,
    samples: Vec<Sample<'t>>,
}

/// One line of a family.
struct Sample<'t> {
    name: &'t str,
    /// Without `le`.
    labels: Vec<(&'t str, String)>,
    /// `le`
    bound: Option<f64>,
    value: f64,
}

impl Family<'_> {
    /// Writes the family and returns the number of its data points.
    fn write(&self, period: Period, out: &mut Vec<u8>) -> u64 {
        let mut data = Vec::new();
        let (tag, points) = match self.kind {
            "gauge" => (field::GAUGE, self.numbers(period, &mut data)),
            "counter" => {
                let points = self.numbers(period, &mut data);
                varint(&mut data, field::TEMPORALITY, CUMULATIVE);
                varint(&mut data, field::IS_MONOTONIC, 1);
                (field::SUM, points)
            }
            "histogram" => {
                let points = self.histograms(period, &mut data);
                varint(&mut data, field::TEMPORALITY, CUMULATIVE);
                (field::HISTOGRAM, points)
            }
            _ => return 0,
        };
        if points == 0 {
            return 0;
        }
        let mut metric = Vec::new();
        bytes(&mut metric, field::NAME, self.name.as_bytes());
        bytes(&mut metric, field::DESCRIPTION, self.help.as_bytes());
        bytes(&mut metric, field::UNIT, unit(self.unit).as_bytes());
        bytes(&mut metric, tag, &data);
        bytes(out, field::METRICS, &metric);
        points
    }

    fn numbers(&self, period: Period, data: &mut Vec<u8>) -> u64 {
        for sample in &self.samples {
            let mut point = Vec::new();
            times(&mut point, period);
            fixed64(&mut point, field::AS_DOUBLE, sample.value.to_bits());
            attributes(&mut point, field::NUMBER_ATTRIBUTES, &sample.labels);
            bytes(data, field::DATA_POINTS, &point);
        }
        self.samples.len() as u64
    }

    /// The lines of one histogram follow each other, and its count is the last.
    fn histograms(&self, period: Period, data: &mut Vec<u8>) -> u64 {
        let (mut bounds, mut buckets, mut points) = (Vec::new(), Vec::new(), 0);
        let (mut before, mut sum) = (0.0, 0.0);
        for sample in &self.samples {
            if let Some(bound) = sample.bound {
                // The text counts what is at most the bound; the protocol what is between two.
                let within = (sample.value - before).max(0.0);
                buckets.extend_from_slice(&whole(within).to_le_bytes());
                before = sample.value;
                if bound.is_finite() {
                    bounds.extend_from_slice(&bound.to_le_bytes());
                }
            } else if sample.name.ends_with("_sum") {
                sum = sample.value;
            } else {
                let mut point = Vec::new();
                times(&mut point, period);
                fixed64(&mut point, field::COUNT, whole(sample.value));
                fixed64(&mut point, field::TOTAL, f64::to_bits(sum));
                bytes(&mut point, field::BUCKETS, &buckets);
                bytes(&mut point, field::BOUNDS, &bounds);
                attributes(&mut point, field::HISTOGRAM_ATTRIBUTES, &sample.labels);
                bytes(data, field::DATA_POINTS, &point);
                bounds.clear();
                buckets.clear();
                (before, sum) = (0.0, 0.0);
                points += 1;
            }
        }
        points
    }
}

impl<'t> Sample<'t> {
    /// Reads `name{label="value",…} value`, perhaps with an exemplar behind it.
    fn read(line: &'t str) -> Option<Self> {
        let end = line.find(['{', ' '])?;
        let (name, mut rest) = line.split_at(end);
        let mut labels = Vec::new();
        if let Some(within) = rest.strip_prefix('{') {
            rest = within;
            while !rest.starts_with('}') {
                let (label, after) = rest.trim_start_matches(',').split_once("=\"")?;
                let (value, after) = unescaped(after)?;
                labels.push((label, value));
                rest = after;
            }
            rest = rest.get(1..)?;
        }
        let value = rest.split_ascii_whitespace().next()?.parse().ok()?;
        let at = labels.iter().position(|(label, _)| *label == "le");
        let bound = match at.map(|at| labels.remove(at).1) {
            None => None,
            Some(text) if text == "+Inf" => Some(f64::INFINITY),
            Some(text) => Some(text.parse().ok()?),
        };
        Some(Self { name, labels, bound, value })
    }
}

/// The value of a label, and what follows its closing quote.
fn unescaped(text: &str) -> Option<(String, &str)> {
    let mut value = String::new();
    let mut characters = text.char_indices();
    while let Some((at, character)) = characters.next() {
        match character {
            '"' => return Some((value, text.get(at + 1..)?)),
            '\\' => match characters.next()?.1 {
                'n' => value.push('\n'),
                other => value.push(other),
            },
            other => value.push(other),
        }
    }
    None
}

fn times(point: &mut Vec<u8>, period: Period) {
    fixed64(point, field::START, nanos(period.start));
    fixed64(point, field::TIME, nanos(period.end));
}

fn attributes(point: &mut Vec<u8>, tag: u32, labels: &[(&str, String)]) {
    let mut attributes = Attributes { out: point, tag };
    for (name, value) in labels {
        attributes.text(name, value);
    }
}

/// The unit in UCUM, as the conventions want it.
fn unit(text: &str) -> &str {
    match text {
        "seconds" => "s",
        "bytes" => "By",
        "ratio" => "1",
        // A gauge of unit 1 would become a ratio where the metrics are translated to Prometheus.
        _ => "",
    }
}

/// A count, which the text writes without a fraction.
fn whole(count: f64) -> u64 {
    #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "a count is not negative")]
    let whole = count as u64;
    whole
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_is_read_with_its_labels() {
        let sample = Sample::read(r#"a_bucket{route="x\"y,}",le="0.5"} 3 # {trace_id="b"} 0.4"#).unwrap();
        assert_eq!(
            (sample.name, sample.labels, sample.bound),
            ("a_bucket", vec![("route", "x\"y,}".to_owned())], Some(0.5))
        );
        assert!((sample.value - 3.0).abs() < f64::EPSILON);
        let plain = Sample::read("a_total 1.5").unwrap();
        assert!(plain.labels.is_empty() && plain.bound.is_none());
        for line in ["", "a", "a{b", "a{b=\"c} 1", "a{b=\"c\"} x"] {
            assert!(Sample::read(line).is_none(), "{line}");
        }
    }
}
