//! Which models have series of their own.
//!
//! A model's name comes from a request, so it is text of a client. It becomes a label only if the configuration names the model, or an
//! upstream has answered a request for it with a success; and only [`MAX_MODELS`] do. Places are kept for the models of the configuration;
//! the others are first come, first served, so that names that an upstream answers for, whatever they are, leave no configured model without
//! series. If a reload names models when all places are taken, each takes the place of one that the configuration does not name when it is first
//! requested: the latter is counted as any other from then on, and its series stay as they are.

use std::{
    collections::HashSet,
    sync::{Arc, Mutex, PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard},
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

/// The models with series of their own. The lock is taken when a request names another model than the one before it on the same worker; it is written only
/// when a model gets or loses its place.
#[derive(Debug, Default)]
pub struct ModelNames {
    labels: RwLock<LabelSet>,
    /// At most [`MAX_COMBINATIONS`].
    combinations: Mutex<HashSet<ModelKey>>,
}

#[derive(Debug, Default)]
struct LabelSet {
    configured: HashSet<Arc<str>>,
    /// In the order in which they were added; at most [`MAX_MODELS`].
    used: Vec<Arc<str>>,
    /// Configured models that are not among them yet.
    kept: usize,
    /// Those among them that the configuration does not name.
    foreign: usize,
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
        let mut places = self.write();
        places.configured = names.iter().filter(|name| is_fit(name)).cloned().collect();
        places.count();
    }

    /// The label for a model that a request named: `None` if it has no series of its own. With `is_known`, an upstream has answered for it.
    pub fn label(&self, model: &str, is_known: bool) -> Name {
        let places = self.read();
        if let Some(used) = places.find(model) {
            return Some(used.clone());
        }
        if !is_fit(model) || !places.has_room_for(model, is_known) {
            return None;
        }
        drop(places);
        self.add(model, is_known)
    }

    /// How many models have series of their own.
    pub fn len(&self) -> usize {
        self.read().used.len()
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Whether a combination of labels may have a series. Where there are as many as there may be, one with a configured model takes the place of one
    /// without; a worker that has counted the latter goes on with it.
    pub(super) fn admit(&self, key: &ModelKey) -> bool {
        let mut combinations = self.combinations.lock().unwrap_or_else(PoisonError::into_inner);
        if combinations.contains(key) {
            return true;
        }
        if combinations.len() >= MAX_COMBINATIONS {
            let places = self.read();
            let is_foreign =
                |key: &ModelKey| key.model.as_ref().is_some_and(|name| !places.configured.contains(name));
            let is_configured = key.model.as_ref().is_some_and(|name| places.configured.contains(name));
            let Some(foreign) = combinations.iter().find(|key| is_configured && is_foreign(key)).cloned()
            else {
                return false;
            };
            combinations.remove(&foreign);
        }
        combinations.insert(key.clone())
    }

    fn add(&self, model: &str, is_known: bool) -> Name {
        let mut places = self.write();
        // Another worker may have added it meanwhile, or have taken the last place.
        if let Some(used) = places.find(model) {
            return Some(used.clone());
        }
        if !places.has_room_for(model, is_known) {
            return None;
        }
        let name = Arc::<str>::from(model);
        if places.used.len() < MAX_MODELS {
            places.used.push(name.clone());
        } else {
            let foreign = places.last_foreign()?;
            *places.used.get_mut(foreign)? = name.clone();
        }
        places.count();
        Some(name)
    }

    fn read(&self) -> RwLockReadGuard<'_, LabelSet> {
        self.labels.read().unwrap_or_else(PoisonError::into_inner)
    }

    fn write(&self) -> RwLockWriteGuard<'_, LabelSet> {
        self.labels.write().unwrap_or_else(PoisonError::into_inner)
    }
}

impl LabelSet {
    fn find(&self, model: &str) -> Option<&Arc<str>> {
        self.used.iter().find(|used| ***used == *model)
    }

    /// Whether the model may be added. One of the configuration takes the place of one that it does not name.
    fn has_room_for(&self, model: &str, is_known: bool) -> bool {
        if self.configured.contains(model) {
            return self.used.len() < MAX_MODELS || self.foreign > 0;
        }
        is_known && self.used.len() + self.kept < MAX_MODELS
    }

    /// Counts again, after a change.
    fn count(&mut self) {
        self.kept = self.configured.iter().filter(|name| !self.used.contains(name)).count();
        self.foreign = self.used.iter().filter(|name| !self.configured.contains(*name)).count();
    }

    /// The place that was given last to a model that the configuration does not name.
    fn last_foreign(&self) -> Option<usize> {
        self.used.iter().rposition(|name| !self.configured.contains(name))
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
        // What a reload names takes the places of junk, and not those of other configured models.
        names.configure(&(0..100).map(table).collect::<Vec<_>>());
        assert_eq!(names.label("table-99", false), Some(table(99)));
        assert_eq!(names.label("junk-53", true), None, "the last one lost its place");
        assert_eq!(names.label("junk-0", true).as_deref(), Some("junk-0"));
        for number in 10..MAX_MODELS - 1 {
            assert_eq!(names.label(&table(number), false), Some(table(number)));
        }
        assert_eq!(names.label("table-80", true), None, "more are configured than there are places");
        assert_eq!((names.label("table-0", false), names.len()), (Some(table(0)), MAX_MODELS));
    }

    #[test]
    fn a_configured_model_takes_the_combination_of_another() {
        let names = ModelNames::default();
        let key = |model: &str, number: usize| ModelKey {
            operation: "chat",
            upstream: Some(format!("upstream-{number}").into()),
            model: Some(model.into()),
        };
        (0..MAX_COMBINATIONS).for_each(|number| assert!(names.admit(&key("junk", number))));
        assert!(!names.admit(&key("table", 0)));
        names.configure(&["table".into()]);
        assert!(names.admit(&key("table", 0)));
        assert!(!names.admit(&key("more junk", 0)));
        assert_eq!(names.combinations.lock().unwrap().len(), MAX_COMBINATIONS);
        (0..MAX_COMBINATIONS).for_each(|number| assert!(names.admit(&key("table", number))));
        assert!(!names.admit(&key("table", MAX_COMBINATIONS)), "only configured ones are left");
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
