//! The policy for an upstream's response after its head: the rules for trailers, and the search for keys.

use std::sync::Arc;

use bytes::Bytes;
use http::HeaderMap;
use http_body::Frame;

use crate::{
    fault::Fault,
    policy::{self, SecretScanner},
    snapshot::{Route, Upstream},
};

/// The policy for an upstream's response after its head.
#[derive(Debug)]
pub(in crate::proxy) struct ResponsePolicy {
    route: Arc<Route>,
    secrets: Arc<SecretScanner<'static>>,
    has_key: bool,
    judge: ErrorJudge,
}

/// Tells which fault the client is shown in place of an error event with this data, if that is about the gateway's own key. The other argument
/// says whether the upstream was sent a key.
pub(in crate::proxy) type ErrorJudge = fn(&[u8], bool) -> Option<Fault>;

impl ResponsePolicy {
    /// The policy for a response of `upstream` on `route`.
    pub(in crate::proxy) fn new(route: &Arc<Route>, upstream: &Upstream, judge: ErrorJudge) -> Self {
        Self {
            route: route.clone(),
            secrets: upstream.secrets.clone(),
            has_key: upstream.auth.is_some(),
            judge,
        }
    }

    /// The route that the response belongs to.
    pub(super) fn route(&self) -> &Route {
        &self.route
    }

    /// The fault that the client is shown in place of an error event with this data, if that must not be shown: it is about the gateway's own key
    /// or its account, or holds a key.
    pub(super) fn fault_instead_of(&self, data: &[u8]) -> Option<Fault> {
        let withheld = || self.holds_key(data).then_some(Fault::Withheld(200));
        (self.judge)(data, self.has_key).or_else(withheld)
    }

    /// Whether `text` holds a key of any upstream.
    pub(super) fn holds_key(&self, text: &[u8]) -> bool {
        self.secrets.found_in(text)
    }

    /// The trailers of a frame that may be forwarded.
    pub(super) fn trailers(&self, frame: Frame<Bytes>) -> HeaderMap {
        let mut trailers = frame.into_trailers().unwrap_or_default();
        policy::trailers_to_caller(&mut trailers, &self.route.response_headers, &self.secrets);
        trailers
    }
}
