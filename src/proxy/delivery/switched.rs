//! The connection of an upstream that has switched to WebSocket.

use std::{fmt, time::Duration};

use crate::{
    body::Upgraded,
    proxy::account_learning::IdWatch,
    upstream::{Io, TargetPermit},
};

/// The connection of an upstream that has switched to WebSocket.
pub(in crate::proxy) struct SwitchedUpstream {
    /// Its I/O.
    pub(in crate::proxy) io: Upgraded<Io>,
    /// The request stays pending at its target for as long as the connection is open.
    pub(in crate::proxy) permit: Option<TargetPermit>,
    /// Learns which ids the account knows that answers.
    pub(in crate::proxy) ids: Option<Box<IdWatch>>,
    /// The longest time in which nothing passes.
    pub(in crate::proxy) idle: Option<Duration>,
}

impl fmt::Debug for SwitchedUpstream {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SwitchedUpstream").field("permit", &self.permit).finish_non_exhaustive()
    }
}
