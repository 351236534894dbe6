//! What is used of a limit, for operators.

use std::sync::Arc;

use super::{CompiledLimit, LimitIndex, Rules};
use crate::{
    config::Each,
    limit::{CountedSubject, Counter, Left, Limit, Moment, Unit},
    wait_queue::QueueView,
};

/// A limit, and what its subjects have used.
#[derive(Debug, Clone, Copy)]
pub struct LimitView<'l> {
    index: &'l LimitIndex,
    compiled: &'l CompiledLimit,
}

/// One subject that has used something of a limit.
#[derive(Debug, Clone)]
pub struct SubjectView<'l> {
    /// Its name; `None` for the callers of open routes, the models without a table, and the gateway.
    pub name: Option<Arc<str>>,
    limit: &'l Limit,
    counter: Arc<Counter>,
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

    /// The subjects of this configuration that have used something, in no order.
    pub fn subjects(self) -> impl Iterator<Item = SubjectView<'l>> {
        let known = self.compiled.counters.all().filter(move |(subject, _)| self.is_known(subject));
        known.map(move |(subject, counter)| SubjectView {
            name: match subject {
                CountedSubject::Unnamed => None,
                CountedSubject::Named(name) | CountedSubject::Alone(name) => Some(name),
            },
            limit: &self.compiled.limit,
            counter,
        })
    }

    /// Whether the configuration still has a subject.
    fn is_known(&self, subject: &CountedSubject) -> bool {
        let Self { index, compiled } = self;
        let rules = &index.rules;
        match (compiled.each, subject) {
            (_, CountedSubject::Unnamed) => true,
            (Each::Client, CountedSubject::Named(name)) | (_, CountedSubject::Alone(name)) => {
                index.clients.get(&**name).is_some()
            }
            (Each::Group, CountedSubject::Named(name)) => rules.groups.contains_key(name),
            (Each::Route, CountedSubject::Named(name)) => rules.routes.contains_key(name),
            (Each::Model, CountedSubject::Named(name)) => {
                rules.models.contains_key(name)
                    || compiled.filters.models.iter().flatten().any(|pattern| pattern == name)
            }
            (Each::Gateway, CountedSubject::Named(_)) => false,
        }
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
        let LimitIndex { rules, clients, .. } = self.index;
        let Rules { limits, of_all, groups, routes, models, .. } = &**rules;
        let has = |list: &[usize]| {
            list.iter()
                .any(|position| limits.get(*position).is_some_and(|one| std::ptr::eq(one, self.compiled)))
        };
        let is_referenced = has(of_all)
            || group.and_then(|group| groups.get(group)).is_some_and(|group| has(&group.list))
            || clients.get(client).is_some_and(|client| has(&client.list))
            || routes.values().chain(models.values()).any(|table| has(&table.list));
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
