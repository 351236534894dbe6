//! A response while it is passed on: its source, its observer and its clock.

use std::time::{Duration, Instant};

use bytes::Bytes;

use super::{PendingStream, ResponseObserver, ResponsePolicy, clock::Clock, source::Source};
use crate::{
    proxy::{account_learning::IdWatch, key_use::KeyUse},
    upstream::TargetPermit,
};

/// A response while it is passed on.
#[derive(Debug)]
pub(super) struct ActiveStream {
    pub(super) source: Source,
    pub(super) observer: ResponseObserver,
    pub(super) clock: Clock,
    /// `None` for the gateway's own bytes, which contain neither trailers nor upstream keys.
    pub(super) policy: Option<ResponsePolicy>,
    pub(super) permit: Option<TargetPermit>,
    /// The key that an event stream came with.
    pub(super) key: Option<Box<KeyUse>>,
    /// Learns which ids the account knows that answers.
    pub(super) ids: Option<Box<IdWatch>>,
    /// Whether the client was promised no length, so that bytes may be added and the end may come anywhere. Known from the start, because a
    /// body that broke off no longer says so.
    pub(super) lengthless: bool,
}

impl ActiveStream {
    /// Starts to forward `pending`. `total` is the deadline of the exchange, and the timeout that set it.
    pub(super) fn new(pending: PendingStream, total: Option<(Instant, Duration)>) -> Self {
        let PendingStream {
            body, observer, held, counted, policy, idle, first_token, permit, key, ids, ..
        } = pending;
        let source = Source::Upstream { held, counted, body };
        let lengthless = observer.is_unfinished() || source.size_hint().exact().is_none();
        let heartbeat = policy.route().heartbeat.filter(|_| lengthless && observer.takes_comments());
        let first_token = first_token.filter(|_| observer.is_unfinished());
        let idle = idle.filter(|_| !observer.stays_open());
        let clock = Clock { idle, first_token, total, heartbeat, ..Clock::default() };
        Self { source, observer, clock, policy: Some(policy), permit, key, ids, lengthless }
    }

    /// A response whose bytes the gateway has.
    pub(super) fn local(bytes: Bytes) -> Self {
        Self {
            source: Source::local(bytes),
            observer: ResponseObserver::Nothing,
            clock: Clock::default(),
            policy: None,
            permit: None,
            key: None,
            ids: None,
            lengthless: false,
        }
    }

    /// Whether the client has the whole response as it stands: all of the body, or its terminal event.
    pub(super) fn is_complete(&self) -> bool {
        self.observer.is_terminated() || (self.source.is_whole() && !self.observer.is_unfinished())
    }

    /// Whether `text` holds a key of any upstream.
    pub(super) fn holds_key(&self, text: &[u8]) -> bool {
        self.policy.as_ref().is_some_and(|policy| policy.holds_key(text))
    }
}
