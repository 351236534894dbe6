//! What is decided before the body is read: the route, the client, and the timeouts that the client sets itself.

mod authenticate;
mod caller_timeouts;
mod cors;
mod handshake;
mod host;
mod no_route;
mod refuse;
mod route;

use std::rc::Rc;

use crate::policy::SecretScanner;

pub(super) use authenticate::authenticate;
pub(super) use caller_timeouts::CallerTimeouts;
pub(super) use cors::preflight;
pub(super) use handshake::{Handshake, models_in, with_model};
pub(super) use route::{NOT_THE_ROUTES, RoutedRequest, find_route};

/// A request whose route and client are known.
#[derive(Debug)]
pub(super) struct Arrived {
    pub(super) routed: RoutedRequest,
    /// Finds the client's own key.
    pub(super) key: Rc<SecretScanner<'static>>,
    pub(super) timeouts: CallerTimeouts,
}
