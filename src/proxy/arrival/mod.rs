//! What is decided before the body is read: the route, the client, and the timeouts that the client sets itself.

mod authenticate;
mod caller_timeouts;
mod cors;
mod ephemeral;
mod handshake;
mod host;
mod no_route;
mod overload;
mod preflight;
mod refuse;
mod route;

use std::rc::Rc;

use crate::policy::SecretScanner;

pub(super) use authenticate::{Authenticated, authenticate};
pub(super) use caller_timeouts::CallerTimeouts;
pub(super) use ephemeral::EphemeralAccess;
pub(super) use handshake::{Handshake, models_in, with_model};
pub(super) use overload::admit_load;
pub(super) use preflight::preflight;
pub(super) use route::{NOT_THE_ROUTES, RoutedRequest, find_route};

/// A request whose route and client are known.
#[derive(Debug)]
pub(super) struct Arrived {
    pub(super) routed: RoutedRequest,
    /// Finds the client's own key.
    pub(super) key: Rc<SecretScanner<'static>>,
    pub(super) timeouts: CallerTimeouts,
    /// What the request's ephemeral key opens, if it has one.
    pub(super) ephemeral: Option<Rc<EphemeralAccess>>,
}

impl Arrived {
    /// A request that has found its route, from a client that is known.
    pub(super) fn new(routed: RoutedRequest, client: Authenticated, timeouts: CallerTimeouts) -> Self {
        let Authenticated { key, ephemeral } = client;
        Self { routed, key, timeouts, ephemeral }
    }
}
