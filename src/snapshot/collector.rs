//! The compiled `[otlp]` table: what to export, and how the collector is reached.

use std::{collections::BTreeMap, fmt::Write as _, sync::Arc, time::Duration};

use aws_lc_rs::digest::{SHA256, digest};
use http::{HeaderMap, HeaderValue, Uri, header, uri::Authority};
use rustls::RootCertStore;

use super::{
    CompileError, Snapshot,
    trust::{SystemRoots, client_tls},
    upstreams::Upstream,
};
use crate::{
    config::{self, Export, Otlp, Preset},
    openai::provider_of_host,
    telemetry::trace::{Envelope, Known, SpanQueue, Target, Tracer, preset_headers},
    upstream::{Dialer, DialerOptions, PoolLimits},
};

/// How long a connection to a collector may take to open.
const CONNECT: Duration = Duration::from_secs(5);

/// An unused connection is closed after this time, which is longer than the time between two exports.
const IDLE: Duration = Duration::from_secs(90);

/// Where spans and metrics go. Taken over from one configuration to the next while the table means the same.
#[derive(Debug)]
pub struct Collector {
    /// Where traces go, if they are exported.
    pub traces: Option<Endpoint>,
    /// Where metrics go, if they are exported.
    pub metrics: Option<Endpoint>,
    /// How long one request may take.
    pub timeout: Duration,
    /// Whether requests are compressed.
    pub gzip: bool,
    /// What is around spans and metrics.
    pub envelope: Envelope,
    /// Distinguishes it from others.
    identity: String,
}

/// One URL of a collector.
#[derive(Debug)]
pub struct Endpoint {
    /// The URL, for the log.
    pub url: Uri,
    /// Path and query.
    pub path: Uri,
    /// The headers of each request, except those that depend on its body.
    pub headers: HeaderMap,
    /// Opens connections to it.
    pub dialer: Arc<Dialer>,
}

/// The part of a snapshot that exports.
#[derive(Debug, Default)]
pub(super) struct Exporting {
    pub(super) collector: Option<Arc<Collector>>,
    pub(super) tracer: Option<Arc<Tracer>>,
    pub(super) spans: Arc<SpanQueue>,
}

impl Exporting {
    /// Compiles the table, if there is one.
    pub(super) fn compile(
        otlp: Option<&Otlp>,
        routes: &BTreeMap<Arc<str>, config::Route>,
        upstreams: &BTreeMap<Arc<str>, Arc<Upstream>>,
        previous: Option<&Snapshot>,
    ) -> Result<Self, CompileError> {
        let spans = previous.map(|previous| previous.spans.clone()).unwrap_or_default();
        let Some(otlp) = otlp else { return Ok(Self { spans, ..Self::default() }) };
        let tracer = otlp
            .traces
            .is_some()
            .then(|| Arc::new(Tracer::new(otlp, known(routes, upstreams), spans.clone())));
        let known = previous.and_then(|previous| previous.collector.as_ref());
        let collector = Collector::compile(otlp, known)?;
        Ok(Self { collector: Some(collector), tracer, spans })
    }
}

impl Collector {
    fn compile(otlp: &Otlp, previous: Option<&Arc<Self>>) -> Result<Arc<Self>, CompileError> {
        let identity = identity(otlp);
        if let Some(previous) = previous.filter(|previous| previous.identity == identity) {
            return Ok(previous.clone());
        }
        let exports = [&otlp.traces, &otlp.metrics].into_iter().flatten();
        let needs_tls = exports.clone().any(|export| export.url.scheme_str() == Some("https"));
        let roots = match &otlp.sending.ca {
            Some(roots) => roots.clone(),
            None if !needs_tls => Arc::new(RootCertStore::empty()),
            None => SystemRoots::default().get().ok_or(CompileError::NoRootsForCollector)?,
        };
        let tls = client_tls(roots, None).map_err(CompileError::Collector)?;
        let endpoint =
            |export: &Option<Export>| export.as_ref().map(|export| endpoint(export, otlp.preset, &tls));
        Ok(Arc::new(Self {
            traces: endpoint(&otlp.traces),
            metrics: endpoint(&otlp.metrics),
            timeout: otlp.sending.timeout,
            gzip: otlp.sending.gzip,
            envelope: Envelope::new(otlp),
            identity,
        }))
    }
}

/// What distinguishes this table from another; values that may be secret as a digest.
fn identity(otlp: &Otlp) -> String {
    let mut text = format!("{:?} {:?} {:?} {:?}", otlp.preset, otlp.semconv, otlp.sending, otlp.resource);
    for export in [&otlp.traces, &otlp.metrics] {
        let Some(export) = export else {
            text.push_str(" none");
            continue;
        };
        // Writing to a `String` cannot fail.
        let _ = write!(text, " {}", export.url);
        for set in &export.headers {
            let _ = write!(text, " {} {:?}", set.name, digest(&SHA256, set.value.as_bytes()));
        }
    }
    text
}

fn endpoint(export: &Export, preset: Option<Preset>, tls: &rustls::ClientConfig) -> Endpoint {
    let url = &export.url;
    let scheme = url.scheme_str().unwrap_or("http");
    let authority = url.authority().cloned().unwrap_or_else(|| Authority::from_static("localhost"));
    let origin = Uri::builder().scheme(scheme).authority(authority.clone()).path_and_query("/").build();
    let path = url.path_and_query().map_or("/", |path| path.as_str());
    let mut headers = HeaderMap::new();
    if let Ok(host) = HeaderValue::from_str(authority.as_str()) {
        headers.insert(header::HOST, host);
    }
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("application/x-protobuf"));
    headers.insert(
        header::USER_AGENT,
        HeaderValue::from_static(concat!("sluicegate/", env!("CARGO_PKG_VERSION"))),
    );
    headers.extend(preset_headers(preset));
    for set in &export.headers {
        headers.insert(&set.name, set.value.clone());
    }
    Endpoint {
        path: path.parse().unwrap_or_else(|_| Uri::from_static("/")),
        headers,
        dialer: Arc::new(Dialer::new(&DialerOptions {
            origin: origin.unwrap_or_else(|_| url.clone()),
            tls: tls.clone(),
            server_name: None,
            http2: false,
            egress: None,
            connect: CONNECT,
            limits: PoolLimits { idle: IDLE, max_idle: 1, max_open: None },
            identity: format!("collector {url}"),
            connection_limit: Arc::default(),
        })),
        url: url.clone(),
    }
}

fn known(routes: &BTreeMap<Arc<str>, config::Route>, upstreams: &BTreeMap<Arc<str>, Arc<Upstream>>) -> Known {
    let routes = routes.iter().map(|(name, route)| (name.clone(), route.path.as_str().into()));
    let targets = upstreams.values().flat_map(|upstream| upstream.targets());
    let targets = targets.map(|target| {
        let is_tls = target.url.starts_with("https:");
        let host = target.authority.host();
        let named = Target {
            address: host.trim_matches(['[', ']']).into(),
            port: target.authority.port_u16().unwrap_or(if is_tls { 443 } else { 80 }),
            provider: provider_of_host(host),
        };
        (target.url.clone(), named)
    });
    Known { routes: routes.collect(), targets: targets.collect() }
}
