//! What an open WebSocket connection consists of and holds, beside its client.

use std::{rc::Rc, sync::Arc};

use super::clocks::TunnelTimeouts;
use crate::{
    body::Upgraded,
    policy::SecretScanner,
    proxy::account_learning::IdWatch,
    snapshot::Route,
    upstream::{Io, TargetPermit},
};

/// What an open connection consists of, beside its client.
pub(super) struct Opened {
    pub(super) upstream: Upgraded<Io>,
    pub(super) timeouts: TunnelTimeouts,
    pub(super) permits: TunnelPermits,
    /// The route, if it serves the models of tables only.
    pub(super) closed: Option<Arc<Route>>,
    /// Learns which ids the account knows that answers.
    pub(super) ids: Option<Box<IdWatch>>,
}

/// What an open connection holds.
#[derive(Debug)]
pub(super) struct TunnelPermits {
    /// The connection is pending at its target until it ends.
    pub(super) _target: Option<TargetPermit>,
    /// Counts the open connections.
    pub(super) _count: Arc<()>,
}

/// Finds the keys that must not be logged.
#[derive(Debug)]
pub(super) struct TunnelSecrets {
    /// The keys of all upstreams.
    pub(super) upstreams: Arc<SecretScanner<'static>>,
    /// What the client has presented as its key.
    pub(super) client: Rc<SecretScanner<'static>>,
}

impl TunnelSecrets {
    pub(super) fn found_in(&self, text: &[u8]) -> bool {
        self.upstreams.found_in(text) || self.client.found_in(text)
    }
}
