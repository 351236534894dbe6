//! The policy for an upstream's response after its head: the rules for trailers, and the search for keys.

use std::sync::Arc;

use bytes::Bytes;
use http::HeaderMap;
use http_body::Frame;

use crate::{
    policy::{self, SecretScanner},
    snapshot::{Route, Upstream},
};

/// The policy for an upstream's response after its head.
#[derive(Debug)]
pub(in crate::proxy) struct ResponsePolicy {
    route: Arc<Route>,
    secrets: Arc<SecretScanner<'static>>,
}

impl ResponsePolicy {
    /// The policy for a response of `upstream` on `route`.
    pub(in crate::proxy) fn new(route: &Arc<Route>, upstream: &Upstream) -> Self {
        Self { route: route.clone(), secrets: upstream.secrets.clone() }
    }

    /// The route that the response belongs to.
    pub(super) fn route(&self) -> &Route {
        &self.route
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
