//! What keeps the web pages of `cors` from using the gateway.

use http::HeaderName;

use super::{Entry, Placed};
use crate::config::{
    problem::complaint,
    reader::Node,
    schema::{ClientAddress, Cors, Listener, PageOrigin, Route},
};

/// Warns of routes whose pages cannot use them. `inherited` is `cors` of `[defaults]` in the file.
pub(super) fn works(
    inherited: Option<&Node<'_>>,
    routes: &[Entry<'_, Route>],
    listeners: &[Placed<'_, Listener>],
) {
    let is_plain = !listeners.is_empty() && listeners.iter().all(|(_, listener)| is_plain_and_far(listener));
    for (_, node, route) in routes {
        let Some(cors) = &route.cors else { continue };
        let own = node.child("cors");
        if let Some(own) = &own
            && route.refuse_origin
        {
            own.warn(complaint("has no effect: `refuse_origin` is true", "remove one of the two"));
        }
        sets_headers_of_cors(node, route);
        if let Some(place) = own.as_ref().filter(|_| is_plain) {
            is_blocked(place, cors);
        }
    }
    let inherits =
        routes.iter().find(|(_, node, route)| node.child("cors").is_none() && route.cors.is_some());
    if let Some((place, (_, _, route))) = inherited.zip(inherits).filter(|_| is_plain)
        && let Some(cors) = &route.cors
    {
        is_blocked(place, cors);
    }
}

/// Whether a listener takes plain HTTP from other machines, and no proxy before it that could speak TLS is configured.
fn is_plain_and_far(listener: &Listener) -> bool {
    let is_first = listener.client_address == ClientAddress::Peer;
    listener.tls.is_none() && is_first && !listener.address.ip().is_loopback()
}

/// Pages that came over TLS may not send requests without it, except to their own machine (W3C Mixed Content).
fn is_blocked(place: &Node<'_>, cors: &Cors) {
    if cors.origins.iter().any(PageOrigin::is_https) {
        place.warn(complaint(
            "lists pages with https, but no listener has TLS: browsers block their requests, unless a proxy with TLS is in front of the \
             gateway",
            "set `tls` of the listener",
        ));
    }
}

fn sets_headers_of_cors(node: &Node<'_>, route: &Route) {
    let is_cors = |name: &&HeaderName| name.as_str().starts_with("access-control-");
    let mut set = route.response_headers.set.iter().map(|set| &set.name);
    if let Some(name) = set.find(is_cors)
        && let Some(place) = node.child("response_headers")
    {
        let message = format!("`{name}` has no effect: `cors` decides about it");
        place.warn(complaint(message, "remove it from `set`"));
    }
}
