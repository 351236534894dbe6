//! Measurements by model, and which models have series of their own.
//!
//! A model's name comes from a request, so it is text of a client. It becomes a label only if the configuration names the model, or an
//! upstream has answered a request for it with a success; and only [`MAX_MODELS`] do, first come, first served.

use std::{
    collections::HashSet,
    sync::{Arc, Mutex, OnceLock, PoisonError, RwLock},
};

use super::{
    exemplar::Exemplars,
    histogram::Total,
    sample::{RequestResult, Tokens},
    worker::Name,
};
use crate::{money::Cost, openai::FinishReason};

/// Models with series of their own in one process.
pub const MAX_MODELS: usize = 64;

/// Combinations of operation, upstream and model in one process. A combination has up to [`MAX_ERRORS`] + 3 histograms.
pub const MAX_COMBINATIONS: usize = 256;

/// Kinds of errors that a combination tells apart.
pub const MAX_ERRORS: usize = 4;

/// The longest name of a model that becomes a label, in bytes.
const LONGEST_NAME: usize = 128;

/// The label for models without series of their own. A model of this name has none.
const OTHER: &str = "_other";

/// The models with series of their own. Finding one takes no lock.
#[derive(Debug)]
pub struct ModelNames {
    configured: RwLock<HashSet<Arc<str>>>,
    /// In the order in which they were added.
    used: [OnceLock<Arc<str>>; MAX_MODELS],
    /// At most [`MAX_COMBINATIONS`].
    combinations: Mutex<HashSet<ModelKey>>,
}

/// The labels of measurements by model.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Default)]
pub struct ModelKey {
    /// As OpenTelemetry's conventions name it; empty: the limit on combinations is reached.
    pub operation: &'static str,
    /// `[upstream.NAME]`
    pub upstream: Name,
    /// The model; `None` if it has no series of its own.
    pub model: Name,
}

/// Measurements of the requests for one model.
#[derive(Debug, Clone, Default)]
pub struct ModelMeasures {
    /// Requests, in the order of [`RequestResult::ALL`].
    pub results: [u64; RequestResult::ALL.len()],
    /// Time from the request to the end, of those that went well.
    pub duration: Total,
    /// The same of those that did not, by kind of error; at most [`MAX_ERRORS`], and one for the others.
    pub errors: Vec<(&'static str, Total)>,
    /// Time from the request to the first content of a stream.
    pub first_token: Total,
    /// Exemplars of `first_token`.
    pub exemplars: Exemplars,
    /// Time per output token after the first one.
    pub per_token: Total,
    /// Tokens.
    pub tokens: Tokens,
    /// What they have cost, in the currency of the last one that had a cost. The operator's live page shows it.
    pub cost: Option<Box<Cost>>,
    /// Responses by the reason why the model stopped, in the order of [`FinishReason::ALL`].
    pub finish_reasons: [u64; FinishReason::ALL.len()],
}

impl ModelNames {
    /// Sets the names that the configuration has.
    pub fn configure(&self, names: &[Arc<str>]) {
        *self.configured.write().unwrap_or_else(PoisonError::into_inner) = names.iter().cloned().collect();
    }

    /// The label for a model that a request named: `None` if it has no series of its own. With `is_known`, an upstream has answered for it.
    pub fn label(&self, model: &str, is_known: bool) -> Name {
        if let Some(used) = self.used().find(|used| ***used == *model) {
            return Some(used.clone());
        }
        if self.is_full() || !is_fit(model) {
            return None;
        }
        let is_configured = || self.configured.read().unwrap_or_else(PoisonError::into_inner).contains(model);
        if is_known || is_configured() { self.add(model) } else { None }
    }

    /// How many models have series of their own.
    pub fn len(&self) -> usize {
        self.used().count()
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Whether a combination of labels may have a series.
    pub(super) fn admit(&self, key: &ModelKey) -> bool {
        let mut combinations = self.combinations.lock().unwrap_or_else(PoisonError::into_inner);
        if combinations.contains(key) {
            return true;
        }
        combinations.len() < MAX_COMBINATIONS && combinations.insert(key.clone())
    }

    fn used(&self) -> impl Iterator<Item = &Arc<str>> {
        self.used.iter().map_while(OnceLock::get)
    }

    fn is_full(&self) -> bool {
        self.used.last().is_some_and(|last| last.get().is_some())
    }

    fn add(&self, model: &str) -> Name {
        let _one_at_a_time = self.combinations.lock().unwrap_or_else(PoisonError::into_inner);
        // Another worker may have added it meanwhile.
        let mut places = self.used.iter();
        let place = places.find(|place| place.get().is_none_or(|used| **used == *model))?;
        Some(place.get_or_init(|| model.into()).clone())
    }
}

impl Default for ModelNames {
    fn default() -> Self {
        Self {
            configured: RwLock::default(),
            used: [const { OnceLock::new() }; MAX_MODELS],
            combinations: Mutex::default(),
        }
    }
}

impl ModelMeasures {
    pub(super) fn merge(&mut self, other: &Self) {
        add(&mut self.results, &other.results);
        self.duration.merge(&other.duration);
        for (error, total) in &other.errors {
            self.of_error(error).merge(total);
        }
        self.first_token.merge(&other.first_token);
        self.exemplars.merge(&other.exemplars);
        self.per_token.merge(&other.per_token);
        self.tokens.merge(&other.tokens);
        if let Some(cost) = &other.cost {
            self.add_cost(cost);
        }
        add(&mut self.finish_reasons, &other.finish_reasons);
    }

    /// Adds a cost. One in another currency begins a new sum.
    pub(super) fn add_cost(&mut self, cost: &Cost) {
        match &mut self.cost {
            Some(sum) if sum.currency == cost.currency => sum.amount = sum.amount.saturating_add(cost.amount),
            sum => *sum = Some(Box::new(cost.clone())),
        }
    }

    /// The times of requests with that kind of error. `_OTHER` is OpenTelemetry's word for kinds that are not told apart.
    pub(super) fn of_error(&mut self, error: &'static str) -> &mut Total {
        let known = self.errors.iter().position(|(known, _)| *known == error);
        let rest = if self.errors.len() < MAX_ERRORS { error } else { "_OTHER" };
        let at =
            known.or_else(|| self.errors.iter().position(|(known, _)| *known == rest)).unwrap_or_else(|| {
                self.errors.push((rest, Total::default()));
                self.errors.len() - 1
            });
        &mut self.errors[at].1
    }
}

/// Whether a name can be a label.
fn is_fit(model: &str) -> bool {
    model.len() <= LONGEST_NAME && model != OTHER && !model.chars().any(char::is_control)
}

fn add(own: &mut [u64], other: &[u64]) {
    own.iter_mut().zip(other).for_each(|(own, other)| *own += other);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_model_is_a_label_if_it_is_configured_or_was_answered_for() {
        let names = ModelNames::default();
        names.configure(&["table".into()]);
        assert_eq!(names.label("typo", false), None);
        assert_eq!(names.label("table", false).as_deref(), Some("table"));
        assert_eq!(names.label("answered", true).as_deref(), Some("answered"));
        assert_eq!(names.label("answered", false).as_deref(), Some("answered"));
        assert_eq!(names.len(), 2);
        for unfit in ["_other", "a\nb", &"x".repeat(LONGEST_NAME + 1)] {
            assert_eq!(names.label(unfit, true), None, "{unfit}");
        }
    }

    #[test]
    fn models_and_combinations_are_bounded() {
        let names = ModelNames::default();
        for number in 0..10_000 {
            names.label(&format!("model-{number}"), true);
            let upstream = Some(format!("upstream-{number}").into());
            names.admit(&ModelKey { operation: "chat", upstream, model: None });
        }
        assert_eq!(names.len(), MAX_MODELS);
        assert_eq!(names.combinations.lock().unwrap().len(), MAX_COMBINATIONS);
        assert_eq!(names.label("model-9999", true), None);
        assert_eq!(names.label("model-0", false).as_deref(), Some("model-0"));
    }

    #[test]
    fn errors_past_the_bound_are_counted_together() {
        const CODES: [&str; 12] = ["a", "b", "c", "d", "e", "f", "g", "h", "i", "j", "k", "l"];
        let mut measures = ModelMeasures::default();
        for code in CODES {
            measures.of_error(code).observe(super::super::scale::Scale::LONG, std::time::Duration::ZERO);
        }
        assert_eq!(measures.errors.len(), MAX_ERRORS + 1);
        assert_eq!(measures.errors.last().map(|(code, total)| (*code, total.count())), Some(("_OTHER", 8)));
    }
}
