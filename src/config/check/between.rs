//! What must hold between tables.

use std::{collections::HashMap, net::SocketAddr};

use super::{Entry, Placed, models};
use crate::config::{
    naming::looks_secret,
    problem::complaint,
    reader::Node,
    schema::{Admin, Client, Listener, Model, Route, Server, Upstream, key_nodes},
    secret::KeyHash,
};

/// No two sockets may have the same address. Port 0 is any free port; but a listener is identified by its address as written.
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

/// Both are tables with an `address`.
fn taken_by(table: &Node<'_>, other: Option<&(&Node<'_>, SocketAddr)>) {
    if let Some((other, _)) = other
        && let Some(address) = table.child("address")
    {
        let message = format!("is already used by {}.address", other.path);
        address.fail(complaint(message, "choose another address or port"));
    }
}

fn collide(one: SocketAddr, other: SocketAddr) -> bool {
    let wild = one.ip().is_unspecified() || other.ip().is_unspecified();
    one.port() != 0
        && one.port() == other.port()
        && one.is_ipv4() == other.is_ipv4()
        && (wild || one.ip() == other.ip())
}

/// No request may match two routes equally; every route needs clients or must be open; every upstream should be used.
pub(super) fn routes(
    routes: &[Entry<'_, Route>],
    upstreams: &[Entry<'_, Upstream>],
    models: &[Entry<'_, Model>],
    clients: bool,
) {
    for (index, (_, node, route)) in routes.iter().enumerate() {
        if let Some((name, ..)) = routes.iter().take(index).find(|(_, _, other)| alike(route, other)) {
            let help = "give them different `path`, `hosts` or `methods`";
            node.fail(complaint(format!("matches the same requests as route `{name}`"), help));
        }
        if !route.open && !clients {
            let help = r#"`sluicegate key new NAME` prints a [client] table; or set access = "open" to require no key"#;
            node.fail(complaint("requires a client key, but there is no [client.NAME] table", help));
        }
        doubled_path(node, route, upstreams);
    }
    for (name, node, _) in upstreams {
        let by_models = || routes.iter().any(|(_, _, route)| models::use_upstream(models, route, name));
        if !routes.iter().any(|(_, _, route)| uses(route, name)) && !by_models() {
            node.warn(complaint(
                "no route uses this upstream",
                "remove it, or add it to the `upstreams` of a route",
            ));
        }
    }
}

fn uses(route: &Route, upstream: &str) -> bool {
    route.upstreams.iter().any(|choice| *choice.upstream == *upstream)
}

/// Same prefix, a host in common, a method in common. A route that names its host or method wins over one that does not
/// (`snapshot::RouteTable`).
fn alike(one: &Route, other: &Route) -> bool {
    one.path == other.path && share(&one.hosts, &other.hosts) && share(&one.methods, &other.methods)
}

fn share<T: PartialEq>(one: &[T], other: &[T]) -> bool {
    (one.is_empty() && other.is_empty()) || one.iter().any(|value| other.contains(value))
}

/// `/v1` in the URL and `/v1` in the route make `/v1/v1`, which no provider serves. One warning for each upstream of the route.
fn doubled_path(node: &Node<'_>, route: &Route, upstreams: &[Entry<'_, Upstream>]) {
    let (sent, key) = match &route.rewrite {
        Some(rewrite) => (rewrite.as_str(), "rewrite"),
        None => (route.path.as_str(), "path"),
    };
    // A resource of Azure's gets paths of its own.
    let concerned =
        upstreams.iter().filter(|(name, _, written)| uses(route, name) && written.azure.is_none());
    for (_, upstream, written) in concerned {
        for (index, target) in written.targets.iter().enumerate() {
            let base = target.base_path();
            let Some(twice) = overlap(base, sent) else { continue };
            let place = match upstream.child("url") {
                Some(url) => url.path,
                None => format!("{}.targets[{index}].url", upstream.path),
            };
            let url = target.url.to_string();
            // A few providers have a key in the path of their URL.
            let url = if url.split('/').any(looks_secret) { "…" } else { url.trim_end_matches('/') };
            let message = format!(
                "requests are sent to `{url}{sent}`, with `{twice}` twice: at the end of {place}, and in `{key}` of this route"
            );
            let help =
                format!("remove `{twice}` from the end of {place}, or set rewrite = {:?}", rest(sent, twice));
            node.warn(complaint(message, help));
            break;
        }
    }
}

/// The longest whole segments with which `base` ends and `sent` begins.
fn overlap<'s>(base: &str, sent: &'s str) -> Option<&'s str> {
    let mut ends = sent.match_indices('/').map(|(at, _)| at).chain([sent.len()]);
    let start =
        ends.rfind(|end| sent.get(..*end).is_some_and(|start| start.len() > 1 && base.ends_with(start)))?;
    sent.get(..start)
}

/// What is left of `sent` without its first segments.
fn rest<'s>(sent: &'s str, segments: &str) -> &'s str {
    let rest = sent.strip_prefix(segments).unwrap_or(sent);
    if rest.is_empty() { "/" } else { rest }
}

/// Workers share no connections, and an HTTP/2 connection is closed only when it is idle. Only a warning: another machine may have
/// another number of cores, and a worker whose connection is idle gives it up for another.
pub(super) fn workers(server: &Server, upstreams: &[Entry<'_, Upstream>]) {
    let threads = server.threads;
    for (_, node, upstream) in upstreams {
        let Some(most) = upstream.max_connections.filter(|most| upstream.http2 && *most < threads) else {
            continue;
        };
        if let Some(written) = node.child("max_connections") {
            let message = format!(
                "allows {most} HTTP/2 connections, but there are {threads} workers (`server.threads`)"
            );
            let help =
                format!("set max_connections = {threads} or more: each worker uses its own connection");
            written.warn(complaint(message, help));
        }
    }
}

/// The hash of a key identifies a client, so it may stand in the file once.
pub(super) fn clients(clients: &[Entry<'_, Client>]) {
    let mut seen: HashMap<KeyHash, String> = HashMap::new();
    for (_, node, client) in clients {
        for (place, hash) in key_nodes(node).iter().zip(&client.keys) {
            if let Some(other) = seen.get(hash) {
                let help = "each key may belong to one client only";
                place.fail(complaint(format!("is the same key as {other}"), help));
            }
            seen.entry(*hash).or_insert_with(|| place.path.clone());
        }
    }
}
