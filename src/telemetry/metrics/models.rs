//! Which models have series of their own.
//!
//! A model's name comes from a request, so it is text of a client. It becomes a label only if the configuration names the model, or an
//! upstream has answered a request for it with a success; and only [`MAX_MODELS`] do. Places are kept for the models of the configuration;
//! the others are first come, first served, so that names that an upstream answers for, whatever they are, leave no configured model without
//! series.

use std::{
    collections::HashSet,
    sync::{
        Arc, Mutex, OnceLock, PoisonError, RwLock,
        atomic::{AtomicUsize, Ordering},
    },
};

use super::request_counts::Name;

/// Models with series of their own in one process.
pub const MAX_MODELS: usize = 64;

/// Combinations of operation, upstream and model in one process. A combination has up to [`MAX_ERRORS`](super::measures::MAX_ERRORS) + 3 histograms.
pub const MAX_COMBINATIONS: usize = 256;

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
    /// How many models that the configuration does not name may still be added.
    spare: AtomicUsize,
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

impl ModelNames {
    /// Sets the names that the configuration has, and keeps places for them as far as there are any.
    pub fn configure(&self, names: &[Arc<str>]) {
        let names = names.iter().filter(|name| is_fit(name)).cloned().collect();
        *self.configured.write().unwrap_or_else(PoisonError::into_inner) = names;
        let _one_at_a_time = self.combinations.lock().unwrap_or_else(PoisonError::into_inner);
        self.count_spare();
    }

    /// The label for a model that a request named: `None` if it has no series of its own. With `is_known`, an upstream has answered for it.
    pub fn label(&self, model: &str, is_known: bool) -> Name {
        if let Some(used) = self.used().find(|used| ***used == *model) {
            return Some(used.clone());
        }
        if self.is_full() || !is_fit(model) {
            return None;
        }
        let is_configured = self.configured.read().unwrap_or_else(PoisonError::into_inner).contains(model);
        let may_be_added = is_configured || (is_known && self.spare.load(Ordering::Relaxed) > 0);
        if may_be_added { self.add(model, is_configured) } else { None }
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

    fn add(&self, model: &str, is_configured: bool) -> Name {
        let _one_at_a_time = self.combinations.lock().unwrap_or_else(PoisonError::into_inner);
        let mut places = self.used.iter();
        let place = places.find(|place| place.get().is_none_or(|used| **used == *model))?;
        // Another worker may have added it meanwhile, or have taken the last place.
        if place.get().is_none() && !is_configured && self.spare.load(Ordering::Relaxed) == 0 {
            return None;
        }
        let name = place.get_or_init(|| model.into()).clone();
        self.count_spare();
        Some(name)
    }

    /// Counts the places that are neither taken nor kept. The caller has the lock.
    fn count_spare(&self) {
        let configured = self.configured.read().unwrap_or_else(PoisonError::into_inner);
        let kept = configured.iter().filter(|name| !self.used().any(|used| used == *name)).count();
        self.spare.store(MAX_MODELS.saturating_sub(self.len() + kept), Ordering::Relaxed);
    }
}

impl Default for ModelNames {
    fn default() -> Self {
        Self {
            configured: RwLock::default(),
            used: [const { OnceLock::new() }; MAX_MODELS],
            spare: AtomicUsize::new(MAX_MODELS),
            combinations: Mutex::default(),
        }
    }
}

/// Whether a name can be a label.
fn is_fit(model: &str) -> bool {
    model.len() <= LONGEST_NAME && model != OTHER && !model.chars().any(char::is_control)
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
    fn ten_thousand_junk_models_leave_the_places_of_configured_ones() {
        let names = ModelNames::default();
        let table = |number: usize| Arc::<str>::from(format!("table-{number}"));
        names.configure(&(0..10).map(table).collect::<Vec<_>>());
        assert_eq!(names.label("table-0", false).as_deref(), Some("table-0"));
        for number in 0..10_000 {
            names.label(&format!("junk-{number}"), true);
        }
        assert_eq!(names.len(), MAX_MODELS - 9, "nine places are kept");
        for number in 0..10 {
            assert_eq!(names.label(&table(number), false), Some(table(number)));
        }
        assert_eq!(names.len(), MAX_MODELS);
        // A reload may name more than there is room for; nothing is lost but its label.
        names.configure(&(0..100).map(table).collect::<Vec<_>>());
        assert_eq!(
            (names.label("table-99", true), names.label("junk-0", true).as_deref()),
            (None, Some("junk-0"))
        );
    }

    #[test]
    fn a_configuration_with_fewer_models_gives_their_places_to_others() {
        let names = ModelNames::default();
        let tables: Vec<Arc<str>> = (0..MAX_MODELS).map(|number| format!("table-{number}").into()).collect();
        names.configure(&tables);
        assert_eq!(names.label("other", true), None);
        names.configure(&tables[1..]);
        assert_eq!(names.label("other", true).as_deref(), Some("other"));
        assert_eq!(names.label("another", true), None);
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
}
