//! Asks the targets of a configuration: can they be reached, and do they accept the keys?
//!
//! What is asked is the configured base URL, as a route would ask it, through the same connections. A key counts as accepted only if the
//! target treats a request without it in another way.

mod keys;
mod reach;

use std::{
    io,
    rc::Rc,
    sync::Arc,
    time::{Duration, Instant},
};

use serde::Serialize;
use tokio::runtime::{Builder, LocalOptions, LocalRuntime};

use crate::{
    snapshot::{AskedModel, Route, Snapshot, Target, Upstream},
    telemetry::metrics::worker::WorkerMetrics,
    upstream::Pools,
};

/// What was found out about one target.
#[derive(Debug, Serialize)]
pub(super) struct TargetReport {
    pub(super) upstream: String,
    pub(super) url: String,
    /// Resolving, connecting and TLS, in this order, as far as they went.
    pub(super) steps: Vec<Step>,
    /// What the target's certificate says.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) certificate: Option<Certificate>,
    /// One for each key; one without a number if the upstream needs none.
    pub(super) keys: Vec<KeyReport>,
}

/// One step towards a target.
#[derive(Debug, Serialize)]
pub(super) struct Step {
    pub(super) name: &'static str,
    pub(super) ms: u64,
    /// Why it failed.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) error: Option<String>,
}

/// A target's certificate.
#[derive(Debug, Serialize)]
pub(super) struct Certificate {
    pub(super) issuer: String,
    /// Until it expires.
    pub(super) days_left: i64,
    /// The protocol that ALPN selected.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) alpn: Option<String>,
}

/// Whether a target accepts a key.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum KeyAnswer {
    /// A request with the key succeeded, and one without it did not.
    Accepted,
    /// The target said that the key is invalid or may do nothing.
    Refused,
    /// The target answers, but nothing in its answer depends on the key.
    CannotTell,
    /// The target gave no answer, or failed.
    Failed,
    /// The target needs no key, and answered.
    NoneNeeded,
}

/// What was found out about one key of one target.
#[derive(Debug, Serialize)]
pub(super) struct KeyReport {
    /// Its number in the configuration, from 1.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) key: Option<usize>,
    pub(super) verdict: KeyAnswer,
    /// What was asked and what came, without any key.
    pub(super) detail: String,
    pub(super) ms: u64,
    /// The models that the target lists, at most 1,000; not shown.
    #[serde(skip)]
    pub(super) models: Vec<String>,
    /// A streamed answer of one model.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) stream: Option<StreamReport>,
}

/// A streamed chat completion.
#[derive(Debug, Default, Serialize)]
pub(super) struct StreamReport {
    pub(super) ok: bool,
    pub(super) status: u16,
    /// From sending the request to the first event with content.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) first_token_ms: Option<u64>,
    /// Whether the stream reported its usage.
    pub(super) usage: bool,
    /// Whether it ended with its terminal event.
    pub(super) complete: bool,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) error: Option<String>,
}

impl TargetReport {
    /// Whether nothing failed and no key was refused.
    pub(super) fn is_good(&self) -> bool {
        let reached = self.steps.iter().all(|step| step.error.is_none());
        let keys = self.keys.iter().all(|key| {
            !matches!(key.verdict, KeyAnswer::Refused | KeyAnswer::Failed)
                && key.stream.as_ref().is_none_or(|stream| stream.ok)
        });
        reached && keys
    }
}

/// A target that is to be asked.
pub(super) struct Subject<'a> {
    pub(super) upstream: &'a Upstream,
    pub(super) target: &'a Target,
    pub(super) api: Api,
    /// The path of its list of models, as the first route to it would ask; `None` if there is no route to it.
    pub(super) models_path: Option<String>,
    /// The path of an answer, in the same way.
    pub(super) answer_path: Option<String>,
    /// How long each step may take.
    pub(super) timeout: Duration,
}

/// Whose API a target has.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Api {
    /// OpenAI's.
    OpenAi,
    /// Anthropic's.
    Anthropic,
}

/// Operations that a route may lead to alone; others are found beside them.
pub(super) const OPERATIONS: [&str; 5] =
    ["/messages", "/chat/completions", "/responses", "/embeddings", "/completions"];

/// All targets of `snapshot`, in the order of the configuration.
pub(super) fn subjects(snapshot: &Snapshot, timeout: Duration) -> Vec<Subject<'_>> {
    let upstreams = snapshot.upstreams.values();
    let targets = upstreams.flat_map(|upstream| upstream.targets().map(move |target| (&**upstream, target)));
    targets.map(|(upstream, target)| subject(snapshot, upstream, target, timeout)).collect()
}

fn subject<'a>(
    snapshot: &Snapshot,
    upstream: &'a Upstream,
    target: &'a Target,
    timeout: Duration,
) -> Subject<'a> {
    let to_it = |route: &&Arc<Route>| route.leads_to(&upstream.name);
    let route = snapshot.routes.iter().find(to_it);
    let api = api_of(upstream);
    let base = route.and_then(|route| {
        let path = route.upstream_path(&route.path, target)?.into_owned();
        let alone = OPERATIONS.iter().find_map(|operation| path.strip_suffix(operation));
        Some(alone.unwrap_or(path.trim_end_matches('/')).to_owned())
    });
    let path = |operation: &str| {
        let Some(route) = route.filter(|_| upstream.azure.is_some()) else {
            return base.as_ref().map(|base| format!("{base}/{operation}"));
        };
        // `ask` knows the model, and puts it in the place of this one.
        let model = AskedModel { own: None, named: Some("model") };
        let asked = format!("{}/{operation}", route.path.trim_end_matches('/'));
        let sent = route.path_at(&asked, upstream, target, model).ok()??;
        Some(format!("{sent}?{}", upstream.query(None)?))
    };
    let answer = if api == Api::Anthropic { "messages" } else { "chat/completions" };
    Subject { upstream, target, api, models_path: path("models"), answer_path: path(answer), timeout }
}

/// Anthropic's API is known by the header of its key (Anthropic API reference, "Authentication").
fn api_of(upstream: &Upstream) -> Api {
    let is_anthropic = upstream.auth.as_ref().is_some_and(|name| name == "x-api-key");
    if is_anthropic { Api::Anthropic } else { Api::OpenAi }
}

/// An event queue for asking.
///
/// # Errors
/// The system gives none.
pub(super) fn runtime() -> io::Result<LocalRuntime> {
    Builder::new_current_thread().enable_all().build_local(LocalOptions::default())
}

/// Asks one target; with `model`, also for a streamed answer of that model with each key.
pub(super) async fn ask(subject: &Subject<'_>, model: Option<&str>) -> TargetReport {
    let (steps, certificate) = reach::reach(subject).await;
    let mut report = TargetReport {
        upstream: subject.upstream.name.to_string(),
        url: subject.target.url.to_string(),
        steps,
        certificate,
        keys: Vec::new(),
    };
    if report.steps.iter().any(|step| step.error.is_some()) {
        return report;
    }
    let pools = Rc::new(Pools::new(Arc::new(WorkerMetrics::default())));
    report.keys = keys::ask(subject, &pools, model).await;
    report
}

fn too_slow(timeout: Duration) -> String {
    format!("not finished after {} s", timeout.as_secs_f64())
}

fn millis(since: Instant) -> u64 {
    u64::try_from(since.elapsed().as_millis()).unwrap_or(u64::MAX)
}
