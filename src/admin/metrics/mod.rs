//! `/metrics`: all families, in the format that the scraper accepts.
//!
//! A family is written by a function of one of the files beside this one; [`WRITERS`] lists them. A new topic is a new file with a `write`,
//! and a row there. Nothing here runs on a worker, and the text is made on a thread for blocking work: however many series there are, neither
//! streams nor probes wait for a scrape.

mod clients;
mod connections;
mod gateway;
mod limits;
mod models;
mod requests;
mod routes;
mod spans;
mod store;
mod upstreams;

use std::{
    io::Write,
    sync::Arc,
    time::{Duration, Instant},
};

use bytes::Bytes;
use flate2::{Compression, write::GzEncoder};
use http::{HeaderMap, HeaderName, HeaderValue, Response, header};
use http_body_util::Full;

use super::AdminState;
use crate::{
    listen::{Counters, Listening, Survey, Workers},
    openai::provider_of_host,
    proxy::Gateway,
    snapshot::Snapshot,
    telemetry::metrics::{
        accept::takes_gzip,
        exposition::{Exposition, Format, MetricKind},
        process,
        request_counts::{Counts, Name},
        worker::WorkerMetrics,
    },
};

/// Label for values without a configured name. No configured name can equal it (`config::is_name`), or there would be two series
/// with the same labels.
const OTHER: &str = "_other";

/// How long a scrape waits for what workers see of their open requests. Those of a worker that takes longer are left out.
const SURVEY_TIMEOUT: Duration = Duration::from_millis(500);

/// What writes the families, in the order of the text.
const WRITERS: &[fn(&mut Exposition, &Scraped)] = &[
    requests::write,
    routes::write,
    models::write,
    upstreams::write,
    limits::write,
    store::write,
    connections::write,
    clients::write,
    gateway::write,
    spans::write,
    |out, scraped| process::write(out, scraped.gateway.started),
];

/// What a scrape reads.
struct Scraped {
    gateway: Arc<Gateway>,
    /// The configuration in effect.
    snapshot: Arc<Snapshot>,
    now: Instant,
    workers: Vec<Arc<WorkerMetrics>>,
    /// The sum of all `workers`.
    counts: Counts,
    /// Open exchanges and open connections of each worker.
    loads: Vec<(usize, usize)>,
    connections: Arc<Counters>,
    /// What is open.
    survey: Survey,
}

/// What of it the main thread reads.
struct Gauges {
    loads: Vec<(usize, usize)>,
    connections: Arc<Counters>,
    survey: Survey,
}

/// What a scrape is read from, for those who want its text without a request.
#[derive(Debug, Clone)]
pub struct ScrapeSource {
    gateway: Arc<Gateway>,
    workers: Workers,
    counters: Arc<Counters>,
}

impl ScrapeSource {
    /// The metrics of a running gateway.
    pub fn new(gateway: &Arc<Gateway>, listening: &Listening) -> Self {
        Self {
            gateway: gateway.clone(),
            workers: listening.workers().clone(),
            counters: listening.counters().clone(),
        }
    }

    /// All families, in the OpenMetrics format; `None`: they cannot be collected.
    pub async fn text(&self) -> Option<String> {
        let gauges = Gauges::read(&self.workers, &self.counters).await;
        let gateway = self.gateway.clone();
        let made = tokio::task::spawn_blocking(move || {
            exposition(Format::OpenMetrics, &Scraped::read(gateway, gauges))
        });
        made.await.ok()
    }
}

impl AdminState {
    /// All metric families.
    pub(super) async fn metrics(&self, headers: &HeaderMap) -> Response<Full<Bytes>> {
        let text_of = |name: HeaderName| headers.get(name).and_then(|value| value.to_str().ok());
        let format = Format::accepted(text_of(header::ACCEPT).unwrap_or_default());
        let gzip = takes_gzip(text_of(header::ACCEPT_ENCODING).unwrap_or_default());
        let gauges = Gauges::read(&self.workers, &self.counters).await;
        let gateway = self.gateway.clone();
        let made = tokio::task::spawn_blocking(move || {
            let scraped = Scraped::read(gateway, gauges);
            let text = exposition(format, &scraped);
            if gzip { zipped(&text) } else { text.into_bytes() }
        });
        let Ok(body) = made.await else {
            return super::plain(http::StatusCode::INTERNAL_SERVER_ERROR, "metrics could not be collected\n");
        };
        let mut response = Response::new(Full::from(body));
        let headers = response.headers_mut();
        headers.insert(header::CONTENT_TYPE, HeaderValue::from_static(format.content_type()));
        headers.insert(header::VARY, HeaderValue::from_static("accept, accept-encoding"));
        if gzip {
            headers.insert(header::CONTENT_ENCODING, HeaderValue::from_static("gzip"));
        }
        response
    }
}

impl Gauges {
    async fn read(workers: &Workers, counters: &Arc<Counters>) -> Self {
        Self {
            loads: workers.loads(),
            connections: counters.clone(),
            survey: merged(&workers.survey(SURVEY_TIMEOUT).await),
        }
    }
}

impl Scraped {
    fn read(gateway: Arc<Gateway>, gauges: Gauges) -> Self {
        let workers = gateway.all_metrics();
        let mut counts = Counts::default();
        workers.iter().for_each(|worker| worker.add_to(&mut counts));
        let snapshot = gateway.live.load_full();
        let Gauges { loads, connections, survey } = gauges;
        Self { gateway, snapshot, now: Instant::now(), workers, counts, loads, connections, survey }
    }
}

fn merged(surveys: &[Option<Survey>]) -> Survey {
    let mut all = Survey::default();
    surveys.iter().flatten().for_each(|survey| all.merge(survey));
    all
}

fn exposition(format: Format, scraped: &Scraped) -> String {
    let mut out = Exposition::new(format);
    WRITERS.iter().for_each(|write| write(&mut out, scraped));
    out.finish()
}

fn zipped(text: &str) -> Vec<u8> {
    let mut encoder = GzEncoder::new(Vec::new(), Compression::fast());
    // Writing to a vector cannot fail.
    let _ = encoder.write_all(text.as_bytes());
    encoder.finish().unwrap_or_default()
}

/// Writes a family, and the same values under the name that it had before.
fn renamed(
    out: &mut Exposition,
    (name, old): (&'static str, &'static str),
    kind: MetricKind,
    help: &'static str,
    values: impl Fn(&mut Exposition),
) {
    values(out.family(name, kind, help));
    values(out.old_family(old, kind, name));
}

/// What OpenTelemetry's conventions call the provider behind an upstream; its configured name if they have no name for it.
fn provider<'a>(snapshot: &'a Snapshot, upstream: &'a str) -> &'a str {
    let target = snapshot.upstreams.get(upstream).and_then(|upstream| upstream.targets().next());
    target.and_then(|target| provider_of_host(target.authority.host())).unwrap_or(upstream)
}

/// The label for a configured name.
fn name(name: &Name) -> &str {
    name.as_deref().unwrap_or(OTHER)
}

/// The label for a constant, which is empty where the bound on series is reached.
fn constant(value: &'static str) -> &'static str {
    if value.is_empty() { OTHER } else { value }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::is_name;

    #[test]
    fn no_configured_name_is_the_label_of_what_has_none() {
        assert!(!is_name(OTHER));
    }
}
