//! What is used of a limit, for operators.

use std::sync::Arc;

use super::{CompiledLimit, LimitIndex, Subject};
use crate::{
    config::Each,
    limit::{Counter, Left, Limit, Moment, Unit},
    wait_queue::QueueView,
};

/// A limit, and what its subjects have used.
#[derive(Debug, Clone, Copy)]
pub struct LimitView<'l> {
    index: &'l LimitIndex,
    compiled: &'l CompiledLimit,
}

/// One subject that has used something of a limit.
#[derive(Debug, Clone, Copy)]
pub struct SubjectView<'l> {
    /// Its name; `None` for the callers of open routes, the models without a table, and the gateway.
    pub name: Option<&'l str>,
    limit: &'l Limit,
    counter: &'l Counter,
}

/// What a subject has used of one unit.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct UnitView {
    /// The unit.
    pub unit: Unit,
    /// How much of it.
    pub left: Left,
}

impl<'l> LimitView<'l> {
    pub(super) fn new(index: &'l LimitIndex, compiled: &'l CompiledLimit) -> Self {
        Self { index, compiled }
    }

    /// The limit.
    pub fn limit(&self) -> &'l Arc<Limit> {
        &self.compiled.limit
    }

    /// Whose use counts together.
    pub fn each(&self) -> Each {
        self.compiled.each
    }

    /// The units that the limit restricts.
    pub fn units(&self) -> impl Iterator<Item = Unit> {
        let limit = self.limit();
        let restricted = [
            (Unit::Requests, limit.requests.is_some()),
            (Unit::Tokens, limit.tokens.is_some()),
            (Unit::Cost, limit.cost.is_some()),
            (Unit::Concurrent, limit.concurrent.is_some()),
        ];
        restricted.into_iter().filter_map(|(unit, is_restricted)| is_restricted.then_some(unit))
    }

    /// The subjects that have used something since the process has started, in no order.
    pub fn subjects(self) -> impl Iterator<Item = SubjectView<'l>> {
        let Self { index, compiled } = self;
        let known = index.subjects.names(compiled.each).map(|subject| match subject {
            Subject::Unnamed => None,
            Subject::Named(name) | Subject::Alone(name) => Some(name),
        });
        let patterns = compiled.filters.models.iter().filter(|_| compiled.each == Each::Model).flatten();
        let names = known.chain(patterns.map(|pattern| Some(pattern.as_str())));
        names.enumerate().filter_map(move |(number, name)| {
            let counter = compiled.counters.used_by(number)?;
            Some(SubjectView { name, limit: &compiled.limit, counter })
        })
    }

    /// What is used by the subject that the requests of `client`, which is in `group`, count as; `None` where that does not depend on the client.
    pub fn subject_of<'n>(&self, client: &'n str, group: Option<&'n str>) -> Option<&'n str> {
        match self.compiled.each {
            Each::Client => Some(client),
            Each::Group => Some(group.unwrap_or(client)),
            Each::Route | Each::Model | Each::Gateway => None,
        }
    }

    /// Whether the limit may apply to requests of `client`, which is in `group`.
    pub fn concerns(&self, client: &str, group: Option<&str>) -> bool {
        let LimitIndex { limits, of_all, of_groups, of_clients, of_routes, of_models, .. } = self.index;
        let has = |list: &[usize]| {
            list.iter()
                .any(|position| limits.get(*position).is_some_and(|one| std::ptr::eq(one, self.compiled)))
        };
        let is_referenced = has(of_all)
            || group.and_then(|group| of_groups.get(group)).is_some_and(|list| has(list))
            || of_clients.get(client).is_some_and(|list| has(list))
            || of_routes.values().chain(of_models.values()).any(|list| has(list));
        let filters = &self.compiled.filters;
        let fits = |names: &Option<Vec<Arc<str>>>, name: Option<&str>| {
            names
                .as_ref()
                .is_none_or(|names| name.is_some_and(|name| names.iter().any(|known| **known == *name)))
        };
        is_referenced && fits(&filters.clients, Some(client)) && fits(&filters.groups, group)
    }
}

impl SubjectView<'_> {
    /// What is used of each unit that the limit restricts.
    pub fn units(&self, now: Moment) -> Vec<UnitView> {
        let remaining = self.counter.remaining(self.limit, now);
        let of_time = [
            (Unit::Requests, remaining.requests),
            (Unit::Tokens, remaining.tokens),
            (Unit::Cost, remaining.cost),
        ];
        let of_time = of_time.into_iter().filter_map(|(unit, left)| left.map(|left| UnitView { unit, left }));
        of_time.chain(self.concurrent()).collect()
    }

    /// What waits for the subject; `None`: the limit has no queue.
    pub fn queue(&self) -> Option<QueueView> {
        self.limit.queue.map(|_| self.counter.queue_view())
    }

    fn concurrent(&self) -> Option<UnitView> {
        let quantity = u64::from(self.limit.concurrent?);
        let used = u64::from(self.counter.in_flight());
        let left = Left {
            quantity,
            at_once: quantity,
            used,
            remaining: quantity.saturating_sub(used),
            full_in: std::time::Duration::ZERO,
        };
        Some(UnitView { unit: Unit::Concurrent, left })
    }
}
