//! `[otlp]`: where traces and metrics go by the OpenTelemetry protocol.
//!
//! With the table, the variables `OTEL_EXPORTER_OTLP_*` count where a key is not written; without it they do nothing. Source of their names, forms
//! and defaults: OpenTelemetry specification, "OpenTelemetry Protocol Exporter"; of the variables for the resource: "Environment Variable
//! Specification" there.

use std::{sync::Arc, time::Duration};

use http::{HeaderName, HeaderValue, Uri};
use percent_encoding::percent_decode_str;
use rustls::RootCertStore;

use super::{SetHeader, Source};
use crate::config::{
    certificate::trusted_in_file,
    declare::{Context, Kind as _, ParseAs, Secrecy, Shape, choice, described, parse_as, span, table},
    headers::{exporter_pairs, is_credential},
    problem::{Complaint, complaint},
    reader::{Node, Table},
    source::Env,
    url,
};

/// Where a collector listens that nobody has configured.
const USUAL_ENDPOINT: &str = "http://localhost:4318";

/// How long one request to the collector may take.
const USUAL_TIMEOUT: Duration = Duration::from_secs(10);

/// The longest time that `OTEL_EXPORTER_OTLP_TIMEOUT` may say.
const LONGEST_TIMEOUT: Duration = Duration::from_secs(300);

/// The most attributes that `OTEL_RESOURCE_ATTRIBUTES` may name.
const MOST_ATTRIBUTES: usize = 64;

table! {
    /// `[otlp]`: what is exported, and to where.
    #[derive(Debug, Clone)]
    pub struct Otlp(table, context) {
        endpoint = described(Shape::Text("URL, to which /v1/traces and /v1/metrics are appended")),
            "Base URL of the collector, which must speak OTLP over HTTP with protobuf. Without it, $OTEL_EXPORTER_OTLP_ENDPOINT counts, or \
             $OTEL_EXPORTER_OTLP_TRACES_ENDPOINT and $OTEL_EXPORTER_OTLP_METRICS_ENDPOINT, which are the whole URLs.",
            { default: "\"http://localhost:4318\"", shipped: r#""http://localhost:4318""#, since: "0.2.0" };
        headers = described(Shape::Headers(Source::keys())),
            "Headers to set on each request to the collector. A value may be a secret that is read from elsewhere: { env = \"NAME\" }, \
             { file = \"path\" } or { credential = \"name\" }. Responses are searched for it as for a key. Without this key, \
             $OTEL_EXPORTER_OTLP_HEADERS counts.",
            { default: "none", example: &[r#"{ authorization = { env = "OTLP_AUTHORIZATION" } }"#], secrecy: Secrecy::Headers, since: "0.2.0" };
        preset: Option<Preset> = choice(PRESETS).optional(),
            "Attributes and headers that a service wants in addition to the conventions.",
            { example: &[r#""langfuse""#], since: "0.2.0" };
        semconv: Semconv = choice(&[("1.41", Semconv::V1_41)]).or(Semconv::V1_41),
            "Version of OpenTelemetry's semantic conventions whose names are used.",
            { since: "0.2.0" };
        traces = described(Shape::Flag),
            "Whether traces are exported: one span for each request, and one below it for each attempt. They hold no content of requests and responses.",
            { default: "true", shipped: "false", since: "0.2.0" };
        metrics = described(Shape::Flag).or("false"),
            "Whether the metrics of /metrics are exported too, every minute.",
            { since: "0.2.0" };
        sample: f64 = share().written_as("1.0").or(1.0),
            "Share of the requests that are exported, of those that went well and were fast. Requests that failed, whose stream was cut, or that \
             took longer than `slow`, are always exported; requests whose `traceparent` says that they are not sampled, never.",
            { example: &["0.1"], since: "0.2.0" };
        slow: Option<Duration> = span(SLOWS).or_off().or(Some(Duration::from_secs(30))),
            "Requests that take longer are exported whatever `sample` says.",
            { since: "0.2.0" };
    }
    derived {
        /// Where traces go; `None`: they are not exported.
        traces: Option<Export> = export(table, context, DataKind::Traces);
        /// Where metrics go; `None`: they are not exported.
        metrics: Option<Export> = export(table, context, DataKind::Metrics);
        /// How requests are sent.
        sending: Sending = sending(table, context.env);
        /// What describes this process, as pairs of names and values: `$OTEL_SERVICE_NAME` and `$OTEL_RESOURCE_ATTRIBUTES`.
        resource: Vec<(String, String)> = resource(table, context.env);
    }
}

const SLOWS: std::ops::RangeInclusive<Duration> = Duration::from_millis(1)..=Duration::from_secs(86_400);

const PRESETS: &[(&str, Preset)] =
    &[("langfuse", Preset::Langfuse), ("phoenix", Preset::Phoenix), ("datadog", Preset::Datadog)];

/// A service with wishes of its own.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Preset {
    /// Langfuse.
    Langfuse,
    /// Phoenix of Arize.
    Phoenix,
    /// Datadog's LLM Observability.
    Datadog,
}

/// A version of OpenTelemetry's semantic conventions.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Semconv {
    /// 1.41
    V1_41,
}

/// Where one kind of data goes.
#[derive(Debug, Clone)]
pub struct Export {
    /// The whole URL.
    pub url: Uri,
    /// Headers of each request.
    pub headers: Vec<SetHeader>,
}

/// How requests to the collector are sent.
#[derive(Debug, Clone)]
pub struct Sending {
    /// How long one may take.
    pub timeout: Duration,
    /// Whether they are compressed.
    pub gzip: bool,
    /// Trusted instead of the system's roots.
    pub ca: Option<Arc<RootCertStore>>,
    /// Digest of the file that `ca` was read from, to see whether it has changed.
    pub ca_digest: Option<[u8; 32]>,
}

/// A kind of data.
#[derive(Debug, Clone, Copy)]
enum DataKind {
    Traces,
    Metrics,
}

impl DataKind {
    fn key(self) -> &'static str {
        match self {
            Self::Traces => "traces",
            Self::Metrics => "metrics",
        }
    }

    fn is_on_by_default(self) -> bool {
        matches!(self, Self::Traces)
    }

    /// What is appended to the base URL.
    fn path(self) -> &'static str {
        match self {
            Self::Traces => "/v1/traces",
            Self::Metrics => "/v1/metrics",
        }
    }

    /// The variable of this kind of data, before the one for all kinds.
    fn own(self, name: &str) -> String {
        format!("OTEL_EXPORTER_OTLP_{}_{name}", self.key().to_ascii_uppercase())
    }
}

/// `Some(None)`: this kind is not exported.
fn export(table: &Table<'_>, context: &Context<'_>, signal: DataKind) -> Option<Option<Export>> {
    let on = match table.get(signal.key()) {
        Some(node) => node.boolean()?,
        None => signal.is_on_by_default(),
    };
    if !on {
        return Some(None);
    }
    let url = endpoint(table, context.env, signal)?;
    let headers = headers(table, context.env, signal)?;
    Some(Some(Export { url, headers }))
}

fn endpoint(table: &Table<'_>, env: &Env<'_>, signal: DataKind) -> Option<Uri> {
    if let Some(node) = table.get("endpoint") {
        return node.parse(|text| base(text).and_then(|base| joined(&base, signal)));
    }
    let own = signal.own("ENDPOINT");
    if let Some(text) = env.text(&own) {
        return accepted(table, &own, url::target(&text));
    }
    let general = "OTEL_EXPORTER_OTLP_ENDPOINT";
    match env.text(general) {
        Some(text) => accepted(table, general, base(&text).and_then(|base| joined(&base, signal))),
        None => joined(&Uri::from_static(USUAL_ENDPOINT), signal).ok(),
    }
}

/// A base URL, which has nothing of what is appended to it.
fn base(text: &str) -> Result<Uri, Complaint> {
    let base = url::target(text)?;
    let path = base.path().trim_end_matches('/');
    if path.ends_with("/v1/traces") || path.ends_with("/v1/metrics") {
        return Err(complaint(
            "ends with a path that the gateway appends itself",
            "remove /v1/traces or /v1/metrics from its end",
        ));
    }
    Ok(base)
}

fn joined(base: &Uri, signal: DataKind) -> Result<Uri, Complaint> {
    let mut parts = base.clone().into_parts();
    let path = format!("{}{}", base.path().trim_end_matches('/'), signal.path());
    let malformed = || complaint("is not a URL", r#"for example "http://localhost:4318""#);
    parts.path_and_query = Some(path.parse().map_err(|_| malformed())?);
    Uri::from_parts(parts).map_err(|_| malformed())
}

fn headers(table: &Table<'_>, env: &Env<'_>, signal: DataKind) -> Option<Vec<SetHeader>> {
    if let Some(node) = table.get("headers") {
        return Some(exporter_pairs(&node, env));
    }
    let mut set: Vec<SetHeader> = Vec::new();
    for variable in [signal.own("HEADERS"), "OTEL_EXPORTER_OTLP_HEADERS".to_owned()] {
        let Some(text) = env.text(&variable) else { continue };
        for pair in accepted(table, &variable, listed_headers(&text))? {
            if set.iter().all(|known| known.name != pair.name) {
                set.push(pair);
            }
        }
    }
    Some(set)
}

/// `name=value,name=value`, values percent-encoded. Nobody knows which of them are secrets, so all are.
fn listed_headers(text: &str) -> Result<Vec<SetHeader>, Complaint> {
    let malformed = || {
        complaint(
            "is not a list of headers",
            "write name=value,name=value, or the headers in `headers` of this table",
        )
    };
    let pairs = listed(text).ok_or_else(malformed)?;
    let headers = pairs.into_iter().map(|(name, value)| {
        let name = HeaderName::from_bytes(name.as_bytes()).map_err(|_| malformed())?;
        let mut value = HeaderValue::from_str(&value).map_err(|_| malformed())?;
        value.set_sensitive(true);
        let secret = is_credential(name.as_str());
        Ok(SetHeader { name, value, secret })
    });
    headers.collect()
}

/// Pairs as in W3C Baggage, without properties.
fn listed(text: &str) -> Option<Vec<(String, String)>> {
    let pairs = text.split(',').map(str::trim).filter(|pair| !pair.is_empty());
    let pairs = pairs.map(|pair| {
        let (name, value) = pair.split_once('=')?;
        let value = percent_decode_str(value.trim()).decode_utf8().ok()?;
        Some((name.trim().to_owned(), value.into_owned()))
    });
    pairs.collect()
}

fn sending(table: &Table<'_>, env: &Env<'_>) -> Option<Sending> {
    let (ca, ca_digest) = match env.text("OTEL_EXPORTER_OTLP_CERTIFICATE") {
        None => (None, None),
        Some(path) => {
            let read = accepted(table, "OTEL_EXPORTER_OTLP_CERTIFICATE", trusted_in_file(&path, env))?;
            (Some(read.0), Some(read.1))
        }
    };
    if let Some(protocol) = env.text("OTEL_EXPORTER_OTLP_PROTOCOL").filter(|named| named != "http/protobuf") {
        let named = if protocol == "grpc" { "grpc" } else { "another protocol" };
        table.warn(complaint(
            format!("speaks http/protobuf only, and the environment variable OTEL_EXPORTER_OTLP_PROTOCOL says {named}"),
            "name a port of the collector that takes OTLP over HTTP, mostly 4318",
        ));
    }
    let timeout = match env.text("OTEL_EXPORTER_OTLP_TIMEOUT") {
        None => USUAL_TIMEOUT,
        Some(text) => accepted(table, "OTEL_EXPORTER_OTLP_TIMEOUT", milliseconds(&text))?,
    };
    let gzip = match env.text("OTEL_EXPORTER_OTLP_COMPRESSION") {
        None => true,
        Some(text) => accepted(table, "OTEL_EXPORTER_OTLP_COMPRESSION", compression(&text))?,
    };
    Some(Sending { timeout, gzip, ca, ca_digest })
}

fn milliseconds(text: &str) -> Result<Duration, Complaint> {
    let span = text.trim().parse().ok().map(Duration::from_millis);
    let within = |span: &Duration| !span.is_zero() && *span <= LONGEST_TIMEOUT;
    span.filter(within).ok_or_else(|| {
        complaint("is not a time in milliseconds, from 1 to 300000", "write for example 10000")
    })
}

fn compression(text: &str) -> Result<bool, Complaint> {
    match text.trim() {
        "gzip" => Ok(true),
        "none" => Ok(false),
        _ => Err(complaint("is not a compression that is supported", "write gzip or none")),
    }
}

fn resource(table: &Table<'_>, env: &Env<'_>) -> Option<Vec<(String, String)>> {
    let mut attributes = match env.text("OTEL_RESOURCE_ATTRIBUTES") {
        None => Vec::new(),
        Some(text) => accepted(table, "OTEL_RESOURCE_ATTRIBUTES", attributes(&text))?,
    };
    if let Some(name) = env.text("OTEL_SERVICE_NAME") {
        attributes.retain(|(known, _)| known != "service.name");
        attributes.push(("service.name".to_owned(), name));
    }
    Some(attributes)
}

fn attributes(text: &str) -> Result<Vec<(String, String)>, Complaint> {
    let listed = listed(text).filter(|pairs| pairs.len() <= MOST_ATTRIBUTES);
    listed.ok_or_else(|| complaint("is not a list of attributes", "write name=value,name=value"))
}

/// Reports a mistake in the value of a variable at the table for which it counts. The value is not quoted: it may be a secret.
fn accepted<T>(table: &Table<'_>, variable: &str, read: Result<T, Complaint>) -> Option<T> {
    match read {
        Ok(value) => Some(value),
        Err(found) => {
            let message = format!("uses the environment variable {variable}, whose value {}", found.message);
            table.fail(complaint(message, found.help));
            None
        }
    }
}

/// A share, from 0 to 1.
fn share() -> ParseAs<f64> {
    parse_as(|| Shape::Number(0.0, 1.0), |node, _| read_share(node))
}

fn read_share(node: &Node<'_>) -> Option<f64> {
    const HELP: &str = "for example 0.1 for a tenth";
    let number = match node.value {
        toml::de::DeValue::Float(float) => float.as_str().replace('_', "").parse::<f64>().ok(),
        toml::de::DeValue::Integer(integer) => integer.as_str().parse::<f64>().ok(),
        _ => None,
    };
    let Some(number) = number else { return node.mistyped("a number", HELP) };
    if !(0.0..=1.0).contains(&number) {
        node.fail(complaint("must be from 0 to 1", HELP));
        return None;
    }
    Some(number)
}
