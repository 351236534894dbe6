//! What providers say at the start of a run: whether they accept their keys, and which models they have.

use std::{
    future::{Future, poll_fn},
    pin::Pin,
    task::Poll,
    time::Duration,
};

use super::{Error, providers::Provider};
use crate::{
    cli::{
        paste,
        probe::{self, KeyAnswer, TargetReport},
    },
    config::Config,
    snapshot::Snapshot,
};

/// What a provider has said at the start.
#[derive(Debug)]
pub(super) struct Found {
    /// Whether its key is accepted, in words.
    pub(super) state: String,
    /// A model that it has, whose name needs no escaping.
    pub(super) model: Option<String>,
    /// All models that it lists, at most 1,000.
    pub(super) models: Vec<String>,
    /// It refuses the key: what was asked, and the answer.
    pub(super) refused: Option<String>,
}

/// How long each step of asking may take: the commands of a run are printed afterwards.
const PATIENCE: Duration = Duration::from_secs(3);

/// Asks all providers at once for their models, each with its key. One that cannot be reached now may be reached later.
pub(super) fn ask(config: Config, providers: &[Provider]) -> Result<Vec<Found>, Error> {
    let snapshot = Snapshot::compile(config, None).map_err(|error| Error::App(error.into()))?;
    let runtime = probe::runtime().map_err(Error::Runtime)?;
    let subjects = probe::subjects(&snapshot, PATIENCE);
    let asking = subjects.iter().map(|subject| probe::ask(subject, None));
    let asked = runtime.block_on(all(asking.collect()));
    let of = |provider: &Provider| {
        let report = asked.iter().find(|report| report.upstream == provider.name);
        report.map_or_else(|| Found::nothing("not asked"), |report| found(provider, report))
    };
    Ok(providers.iter().map(of).collect())
}

impl Found {
    /// The provider said nothing, for this reason.
    fn nothing(state: impl Into<String>) -> Self {
        Self { state: state.into(), model: None, models: Vec::new(), refused: None }
    }
}

fn found(provider: &Provider, report: &TargetReport) -> Found {
    let failed = report.steps.iter().find_map(|step| Some((step.name, step.error.as_ref()?)));
    if let Some((step, error)) = failed {
        let cure = if step == "tls" { "; SSL_CERT_FILE names a private authority" } else { "" };
        return Found::nothing(format!("cannot be reached now ({step}: {error}{cure})"));
    }
    let Some(key) = report.keys.first() else { return Found::nothing("not asked") };
    let said = key.detail.split(';').next().unwrap_or_default();
    let asked = said.split(": ").next().unwrap_or_default();
    let state = match key.verdict {
        KeyAnswer::Refused => format!("refuses the key ({})", key.detail),
        KeyAnswer::Accepted => "accepts the key".to_owned(),
        KeyAnswer::NoneNeeded => "needs no key".to_owned(),
        KeyAnswer::CannotTell if key.detail.contains(": 404") && !provider.base.ends_with("/v1") => {
            format!("answers 404 to GET /models; perhaps its base URL is {}/v1", provider.base)
        }
        // A known provider may have no list of models.
        KeyAnswer::CannotTell if key.detail.contains(": 404") && provider.model.is_none() => {
            format!("answers 404 to {asked}: is this an OpenAI-compatible API?")
        }
        KeyAnswer::CannotTell if provider.variable.is_none() => format!("answers ({said})"),
        KeyAnswer::CannotTell => {
            "answers; whether it accepts the key shows with the first request".to_owned()
        }
        KeyAnswer::Failed => format!("fails now ({})", key.detail),
    };
    let usual = provider.model.filter(|model| key.models.iter().any(|listed| listed == model));
    // A provider may list anything, and the commands that are printed go into a shell.
    let pasted = key.models.iter().find(|model| paste::is_plain_model(model));
    Found {
        state,
        model: usual.map(str::to_owned).or_else(|| pasted.cloned()),
        models: key.models.clone(),
        refused: (key.verdict == KeyAnswer::Refused).then(|| key.detail.clone()),
    }
}

/// Runs all of them at once; their results, in their order.
async fn all<F: Future>(futures: Vec<F>) -> Vec<F::Output> {
    let mut running: Vec<Pin<Box<F>>> = futures.into_iter().map(Box::pin).collect();
    let mut results: Vec<Option<F::Output>> = running.iter().map(|_| None).collect();
    poll_fn(|cx| {
        for (future, result) in running.iter_mut().zip(&mut results).filter(|(_, result)| result.is_none()) {
            if let Poll::Ready(output) = future.as_mut().poll(cx) {
                *result = Some(output);
            }
        }
        if results.iter().all(Option::is_some) { Poll::Ready(()) } else { Poll::Pending }
    })
    .await;
    results.into_iter().flatten().collect()
}
