//! The candidates that one request has tried, and what their failures say about others.

use std::sync::Arc;

use super::candidate::Candidate;
use crate::{
    snapshot::{Step, Target},
    upstream::{Key, TargetState},
};

/// How much of a candidate a failure concerns. The rest of it may be tried at once: one model of a target may be overloaded while another is not.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum FailureScope {
    /// Its key, for the model that was asked for.
    Key,
    /// That model there, whatever the key.
    Model,
    /// The target, for every model and key.
    Target,
}

/// A target of one of the route's steps, and the model that a request names there.
#[derive(Debug, Clone, Copy)]
pub(super) struct StepTarget<'r, 'm> {
    /// Index into the route's steps.
    pub(super) number: usize,
    pub(super) step: &'r Step,
    pub(super) target: &'r Target,
    pub(super) model: Option<&'m str>,
}

/// A candidate that was tried.
#[derive(Debug)]
pub(super) struct Tried {
    pub(super) state: Arc<TargetState>,
    /// Index into the route's steps.
    pub(super) step: usize,
    pub(super) key: Option<Key>,
    /// The model that was asked for.
    model: Option<Box<str>>,
    scope: FailureScope,
    /// Not to be tried in another round either: silent until a timeout, or without another key than the one that was refused.
    excluded: bool,
}

/// The candidates of a round that were tried, and the excluded ones. Bounded by the number of attempts plus the targets without retry budget.
#[derive(Debug, Default)]
pub(super) struct Failures(Vec<Tried>);

impl Failures {
    /// Adds the failure of `candidate`, of which `model` was asked.
    pub(super) fn add(
        &mut self,
        candidate: &Candidate,
        model: Option<&str>,
        scope: FailureScope,
        excluded: bool,
    ) {
        let state = candidate.target().state.clone();
        let key = candidate.key.as_ref().map(|used| used.key().clone());
        let model = model.map(Into::into);
        self.0.push(Tried { state, step: candidate.step, key, model, scope, excluded });
    }

    /// Forgets all but those that are excluded.
    pub(super) fn new_round(&mut self) {
        self.0.retain(|tried| tried.excluded);
    }

    /// Forgets those at these steps, but not the excluded ones.
    pub(super) fn forget_at(&mut self, is_one: impl Fn(usize) -> bool) {
        self.0.retain(|tried| tried.excluded || !is_one(tried.step));
    }

    /// Takes the last one away.
    pub(super) fn pop(&mut self) -> Option<Tried> {
        self.0.pop()
    }

    /// Puts back what [`pop`](Self::pop) has taken.
    pub(super) fn push(&mut self, tried: Tried) {
        self.0.push(tried);
    }

    /// Whether `place` was tried, whatever the key.
    pub(super) fn any_at(&self, place: &StepTarget<'_, '_>) -> bool {
        self.at(place).next().is_some()
    }

    /// Whether `place` is excluded, whatever the key.
    pub(super) fn is_excluded(&self, place: &StepTarget<'_, '_>) -> bool {
        self.at(place).any(|tried| tried.excluded)
    }

    /// The keys that were used at `place`.
    pub(super) fn used_keys(&self, place: &StepTarget<'_, '_>) -> Vec<Key> {
        let here = self.0.iter().filter(|tried| tried.concerns(place));
        here.filter_map(|tried| tried.key.clone()).collect()
    }

    /// The keys that are not used at `place` any more.
    pub(super) fn excluded_keys(&self, place: &StepTarget<'_, '_>) -> Vec<Key> {
        let excluded = self.0.iter().filter(|tried| tried.excluded && tried.concerns(place));
        excluded.filter_map(|tried| tried.key.clone()).collect()
    }

    /// The keys that are not used at the step with that `number` any more.
    pub(super) fn excluded_keys_of_step(&self, number: usize) -> Vec<Key> {
        let excluded = self
            .0
            .iter()
            .filter(|tried| tried.excluded && tried.scope == FailureScope::Key && tried.step == number);
        excluded.filter_map(|tried| tried.key.clone()).collect()
    }

    fn at(&self, place: &StepTarget<'_, '_>) -> impl Iterator<Item = &Tried> {
        let failed = self.0.iter().filter(|tried| tried.scope != FailureScope::Key);
        failed.filter(move |tried| tried.concerns(place))
    }
}

impl Tried {
    /// Whether it says something about what would be asked at `place`. The same upstream may stand in a route twice, with different models.
    fn concerns(&self, place: &StepTarget<'_, '_>) -> bool {
        Arc::ptr_eq(&self.state, &place.target.state)
            && (self.scope == FailureScope::Target
                || self.step == place.number
                || self.model.as_deref() == place.model)
    }
}
