//! The policy for an upstream's response after its head: the rules for trailers, and the search for keys.

use std::sync::Arc;

use bytes::Bytes;
use http::HeaderMap;
use http_body::Frame;

use crate::{
    fault::Fault,
    policy::{self, SecretScanner},
    proxy::key_use::KeyCooldown,
    snapshot::Route,
};

/// The policy for an upstream's response after its head.
#[derive(Debug)]
pub(in crate::proxy) struct ResponsePolicy {
    route: Arc<Route>,
    secrets: Arc<SecretScanner<'static>>,
    has_key: bool,
    judge: ErrorJudge,
}

/// What an error event of a stream says about the gateway's own key.
#[derive(Debug, Default)]
pub(in crate::proxy) struct EventVerdict {
    /// The fault that the client is shown in place of the event, if that is about the key or its account.
    pub(in crate::proxy) instead: Option<Fault>,
    /// The cooldown that it calls for.
    pub(in crate::proxy) cooldown: Option<KeyCooldown>,
}

/// Judges an error event with this data. The other arguments say whether the upstream was sent a key, and which model the attempt asked for.
pub(in crate::proxy) type ErrorJudge = fn(&[u8], bool, Option<&str>) -> EventVerdict;

impl ResponsePolicy {
    /// The policy for a response on `route` in which `secrets` are searched for. `has_key`: the upstream was sent a key of the gateway's.
    pub(in crate::proxy) fn new(
        route: &Arc<Route>,
        secrets: &Arc<SecretScanner<'static>>,
        has_key: bool,
        judge: ErrorJudge,
    ) -> Self {
        Self { route: route.clone(), secrets: secrets.clone(), has_key, judge }
    }

    /// The route that the response belongs to.
    pub(super) fn route(&self) -> &Route {
        &self.route
    }

    /// What an error event with this data says. An event that holds a key is not shown either.
    pub(super) fn judge(&self, data: &[u8], model: Option<&str>) -> EventVerdict {
        let verdict = (self.judge)(data, self.has_key, model);
        let withheld = || self.holds_key(data).then_some(Fault::Withheld(200));
        EventVerdict { instead: verdict.instead.or_else(withheld), ..verdict }
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
