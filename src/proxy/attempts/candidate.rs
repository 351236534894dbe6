//! One candidate of a request.

use std::{sync::Arc, time::Instant};

use super::head::{HeadLimit, PendingHead};
use crate::{
    config::Timeouts,
    proxy::key_use::KeyUse,
    snapshot::{Target, Upstream},
    upstream::{Account, BudgetPermit, TargetPermit},
};

/// Where a request may be sent: a target of an upstream, a key and a model. The request counts as pending at the target until this is dropped.
#[derive(Debug)]
pub(super) struct Candidate {
    /// Index into the route's steps.
    pub(super) step: usize,
    pub(super) upstream: Arc<Upstream>,
    /// Index into the upstream's targets.
    pub(super) target: usize,
    /// The model to ask for instead of the request's own.
    pub(super) model: Option<Arc<str>>,
    pub(super) timeouts: Timeouts,
    /// `None` if the upstream needs no key.
    pub(super) key: Option<KeyUse>,
    pub(super) permit: TargetPermit,
    /// Whether something else is tried if the head of its response is late.
    pub(super) may_be_late: bool,
    /// When the head of its response is late; `None`: however late it is, nothing else is tried meanwhile.
    pub(super) head_limit: Option<HeadLimit>,
    /// The head of its response, if that is late and still to come.
    pub(super) pending_head: Option<PendingHead>,
    /// When the head of its response came.
    pub(super) answered: Option<Instant>,
    /// Counts the attempt in its upstream's retry budget.
    pub(super) budget: Option<BudgetPermit>,
}

impl Candidate {
    /// The time that `first_token` counts from for the first content of its response: the response's head, if that may be waited for beyond
    /// `first_token`.
    pub(super) fn content_due_from(&self, start: Instant) -> Instant {
        self.answered.filter(|_| self.head_limit.is_none()).unwrap_or(start)
    }

    pub(super) fn target(&self) -> &Target {
        self.upstream.target(self.target)
    }

    /// The account that it belongs to: what a request makes there is known in this account alone.
    #[expect(dead_code, reason = "until requests with ids are bound to accounts")]
    pub(super) fn account(&self) -> Option<&Account> {
        self.upstream.account(self.target(), self.key_number())
    }

    /// The number of its key, in the order of the configuration.
    pub(super) fn key_number(&self) -> Option<usize> {
        self.key.as_ref().and_then(KeyUse::number)
    }
}
