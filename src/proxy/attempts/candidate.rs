//! One candidate of a request.

use std::{rc::Rc, sync::Arc, time::Instant};

use super::head::{HeadLimit, PendingHead};
use crate::{
    config::Timeouts,
    policy::SecretScanner,
    proxy::{arrival::EphemeralAccess, key_use::KeyUse},
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
    /// `None` if the upstream needs no key, or gets the client's own.
    pub(super) key: Option<KeyUse>,
    /// What the client's ephemeral key opens, if it has one.
    pub(super) ephemeral: Option<Rc<EphemeralAccess>>,
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
    pub(super) usage: AskedUsage,
}

/// Whether a candidate is asked for the usage of its stream although the client does not ask for it.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) enum AskedUsage {
    /// It is not.
    #[default]
    No,
    /// It is: the gateway has added `stream_options.include_usage`, and removes the chunk from the response.
    Yes,
    /// It was, and refused the request; so it is sent the request again without that.
    Refused,
}

impl Candidate {
    /// The time that `first_token` counts from for the first content of its response: the response's head, if that may be waited for beyond
    /// `first_token`.
    pub(super) fn content_due_from(&self, start: Instant) -> Instant {
        self.answered.filter(|_| self.head_limit.is_none()).unwrap_or(start)
    }

    /// Decides whether the attempt that begins at `now` asks for the usage of the stream, as the route wants.
    pub(super) fn ask_for_usage(&mut self, now: Instant) {
        if self.usage != AskedUsage::Refused {
            let asks = self.upstream.takes_usage(now);
            self.usage = if asks { AskedUsage::Yes } else { AskedUsage::No };
        }
    }

    /// Whether the body of the request is changed for this candidate, if it can be.
    pub(super) fn edits_body(&self) -> bool {
        self.model.is_some() || self.usage == AskedUsage::Yes
    }

    /// Notes that the candidate has served the request. If it did so only without being asked for the usage, it is not asked for a while.
    pub(super) fn served(&self) {
        if self.usage != AskedUsage::Refused {
            return;
        }
        let upstream = &self.upstream.name;
        if let Some(span) = self.upstream.usage_support.refused(Instant::now()) {
            tracing::warn!(
                %upstream,
                "upstream refused stream_options.include_usage; its streams are not asked for their usage for {span:?} \
                 (include_usage = \"refuses\" in [upstream.{upstream}] says so for good)"
            );
        }
    }

    pub(super) fn target(&self) -> &Target {
        self.upstream.target(self.target)
    }

    /// Whether the upstream is sent a key of the gateway's.
    pub(super) fn has_key(&self) -> bool {
        self.ephemeral.is_none() && self.upstream.auth.is_some()
    }

    /// Finds the keys of all upstreams, and the secret that this one is sent.
    pub(super) fn secrets(&self) -> &Arc<SecretScanner<'static>> {
        self.ephemeral.as_ref().map_or(&self.upstream.secrets, |ephemeral| &ephemeral.secrets)
    }

    /// The account that it belongs to: what a request makes there is known in this account alone.
    pub(super) fn account(&self) -> Option<&Account> {
        match &self.ephemeral {
            None => self.upstream.account(self.target(), self.key_number()),
            Some(ephemeral) => Some(&ephemeral.account),
        }
    }

    /// The number of its key, in the order of the configuration.
    pub(super) fn key_number(&self) -> Option<usize> {
        self.key.as_ref().and_then(KeyUse::number)
    }
}
