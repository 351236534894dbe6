//! What must hold between tables.

use std::{collections::HashMap, net::SocketAddr};

use super::{Entry, Placed, client::Found};
use crate::config::{
    problem::complaint,
    reader::Node,
    schema::{Admin, Listener, Route, Server, Target, Upstream},
    secret::KeyHash,
};

/// No two sockets may want the same address. Port 0 is any free one; but a listener is known by its address as it is written.
pub(super) fn addresses(listeners: &[Placed<'_, Listener>], admin: Option<&Placed<'_, Admin>>) {
    let mut seen: Vec<(&Node<'_>, SocketAddr)> = Vec::new();
    for (node, listener) in listeners {
        let address = listener.address;
        let taken = |(_, other): &&(&Node<'_>, SocketAddr)| collide(*other, address) || *other == address;
        taken_by(node, seen.iter().find(taken));
        seen.push((node, address));
    }
    if let Some((node, admin)) = admin {
        taken_by(node, seen.iter().find(|(_, other)| collide(*other, admin.address)));
    }
}

fn taken_by(node: &Node<'_>, other: Option<&(&Node<'_>, SocketAddr)>) {
    if let Some((other, _)) = other {
        node.fail(complaint(format!("is taken by {}", other.path), "choose another address or port"));
    }
}

fn collide(one: SocketAddr, other: SocketAddr) -> bool {
    let wild = one.ip().is_unspecified() || other.ip().is_unspecified();
    one.port() != 0
        && one.port() == other.port()
        && one.is_ipv4() == other.is_ipv4()
        && (wild || one.ip() == other.ip())
}

/// No request may belong to two routes alike; every route needs callers or says that it needs none; every upstream should be used.
pub(super) fn routes(routes: &[Entry<'_, Route>], upstreams: &[Entry<'_, Upstream>], clients: bool) {
    for (index, (_, node, route)) in routes.iter().enumerate() {
        if let Some((name, ..)) = routes.iter().take(index).find(|(_, _, other)| alike(route, other)) {
            let help = "tell them apart by `path`, `hosts` or `methods`";
            node.fail(complaint(format!("takes the same requests as route `{name}`"), help));
        }
        if !route.open && !clients {
            let help = r#"`sluicegate key new NAME` prints one; or write access = "open" to need none"#;
            node.fail(complaint("needs a caller's key, and there is no [client.NAME]", help));
        }
        doubled_path(node, route, upstreams);
    }
    for (name, node, _) in upstreams {
        if !routes.iter().any(|(_, _, route)| uses(route, name)) {
            node.warn(complaint("no route uses this upstream", ""));
        }
    }
}

fn uses(route: &Route, upstream: &str) -> bool {
    route.upstreams.iter().any(|choice| *choice.upstream == *upstream)
}

/// Same prefix, a host in common, a method in common. One that names its host or method wins over one that does not
/// (`snapshot::RouteTable`).
fn alike(one: &Route, other: &Route) -> bool {
    one.path == other.path && share(&one.hosts, &other.hosts) && share(&one.methods, &other.methods)
}

fn share<T: PartialEq>(one: &[T], other: &[T]) -> bool {
    (one.is_empty() && other.is_empty()) || one.iter().any(|value| other.contains(value))
}

/// `/v1` in the URL and `/v1` in the route make `/v1/v1`, which no provider has.
fn doubled_path(node: &Node<'_>, route: &Route, upstreams: &[Entry<'_, Upstream>]) {
    let sent = route.rewrite.as_deref().unwrap_or(&route.path);
    let used = upstreams.iter().filter(|(name, ..)| uses(route, name));
    for base in used.flat_map(|(_, _, upstream)| &upstream.targets).map(Target::base_path) {
        if !base.is_empty() && sent.starts_with(base) {
            let help = r#"leave the path out of the upstream's `url`, or write rewrite = "/""#;
            node.warn(complaint(format!("requests go to `{base}{sent}`, the prefix twice"), help));
            return;
        }
    }
}

/// Workers share no connections, and one of HTTP/2 is closed only when nobody uses it. Only a warning: another machine may have another number
/// of cores, and what is not busy makes room.
pub(super) fn workers(server: &Server, upstreams: &[Entry<'_, Upstream>]) {
    let threads = server.threads;
    for (_, node, upstream) in upstreams {
        let Some(most) = upstream.max_connections.filter(|most| upstream.http2 && *most < threads) else {
            continue;
        };
        let written = node.entries().into_iter().flatten().find(|(key, _)| *key == "max_connections");
        if let Some((_, written)) = written {
            let told = format!(
                "there are {threads} workers (`server.threads`), and HTTP/2 connections for {most} of them"
            );
            let help =
                format!("write max_connections = {threads} or more: each worker has a connection of its own");
            written.warn(complaint(told, help));
        }
    }
}

/// A key's hash says who calls, so it stands in the file once.
pub(super) fn clients(clients: &[Entry<'_, Found<'_>>]) {
    let mut seen: HashMap<KeyHash, &str> = HashMap::new();
    for (_, _, found) in clients {
        for (place, hash) in found.places.iter().zip(&found.client.keys) {
            if let Some(other) = seen.get(hash) {
                place
                    .fail(complaint(format!("is the same key as {other}"), "each key belongs to one client"));
            }
            seen.entry(*hash).or_insert(&place.path);
        }
    }
}
