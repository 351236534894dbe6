//! `[[listener]]`

use super::{Placed, one_or_several, server::address};
use crate::config::{
    certificate::{authorities, chain_and_key},
    keys,
    problem::{Complaint, complaint},
    reader::{Node, Table},
    schema::{Certificate, ClientAddress, Listener, ListenerTls, Network},
    source::Env,
};

/// Every listener, with the place of its address.
pub(super) fn listeners<'a>(root: &Table<'a>, env: &Env<'_>) -> Vec<Placed<'a, Listener>> {
    let help = r#"add a table [[listener]] with address = "127.0.0.1:8080""#;
    let Some(list) = root.required("listener", help) else { return Vec::new() };
    if list.is_table() {
        list.fail(complaint(
            "is written as one table, but there may be several",
            "write [[listener]], with two brackets",
        ));
        return Vec::new();
    }
    list.some_items(help).unwrap_or_default().iter().filter_map(|node| listener(node, env)).collect()
}

fn listener<'a>(node: &Node<'a>, env: &Env<'_>) -> Option<Placed<'a, Listener>> {
    let table = node.table(keys::LISTENER)?;
    let tls = table.get("tls").map(|node| tls(&node, env));
    let h2c = table.get("h2c");
    let h2c_on = h2c.as_ref().and_then(Node::boolean).unwrap_or(false);
    if let Some(h2c) = h2c.filter(|_| h2c_on && tls.is_some()) {
        h2c.fail(complaint("has no meaning with `tls`, where ALPN decides", "leave it out"));
    }
    let client_address = client_address(&table);
    let place = table.required("address", r#"as in address = "0.0.0.0:8443""#)?;
    let address = place.parse(address)?;
    let tls = match tls {
        Some(tls) => Some(tls?),
        None => None,
    };
    Some((place, Listener { address, tls, h2c: h2c_on, client_address: client_address? }))
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Kind {
    Peer,
    ForwardedFor,
    ProxyProtocol,
}

fn client_address(table: &Table<'_>) -> Option<ClientAddress> {
    let kinds = [
        ("peer", Kind::Peer),
        ("x-forwarded-for", Kind::ForwardedFor),
        ("proxy-protocol", Kind::ProxyProtocol),
    ];
    let node = table.get("client_address");
    let kind = node.as_ref().map_or(Some(Kind::Peer), |node| node.choice(&kinds));
    let trusted = table.get("trusted");
    let networks = trusted.as_ref().map(networks).unwrap_or_default();
    match kind? {
        Kind::Peer => {
            if let Some(trusted) = trusted {
                let help = r#"write client_address = "x-forwarded-for" or "proxy-protocol", or leave it out"#;
                trusted.fail(complaint("has no meaning when the client's address is the peer's", help));
            }
            Some(ClientAddress::Peer)
        }
        Kind::ForwardedFor => {
            if trusted.is_none() {
                let _told = table
                    .required("trusted", r#"who may send x-forwarded-for, as in trusted = ["10.0.0.0/8"]"#);
            }
            Some(ClientAddress::ForwardedFor(networks))
        }
        Kind::ProxyProtocol => Some(ClientAddress::ProxyProtocol(networks)),
    }
}

fn networks(list: &Node<'_>) -> Vec<Network> {
    let items = list.some_items(r#"as in trusted = ["10.0.0.0/8"]"#).unwrap_or_default();
    items.iter().filter_map(|item| item.parse(network)).collect()
}

fn network(text: &str) -> Result<Network, Complaint> {
    let help = r#"as in "10.0.0.0/8" (no bits beyond the prefix), "192.0.2.7" or "::1""#;
    text.parse().map_err(|_| complaint("is not an address or a range of addresses", help))
}

fn tls(node: &Node<'_>, env: &Env<'_>) -> Option<ListenerTls> {
    let table = node.table(keys::LISTENER_TLS)?;
    let certificates = certificates(&table, env);
    let client_ca = table.get("client_ca").map(|node| authorities(&node, env));
    let versions = [("1.2", true), ("1.3", false)];
    let tls12 = table.get("min_version").map_or(Some(true), |node| node.choice(&versions));
    let (client_ca, client_ca_digest) = match client_ca {
        Some(read) => read.map(|(store, digest)| (Some(store), Some(digest)))?,
        None => (None, None),
    };
    Some(ListenerTls { certificates: certificates?, client_ca, client_ca_digest, tls12: tls12? })
}

const CERTIFICATE_HELP: &str =
    r#"as in tls = { certificate = "certs/server.pem", key = "certs/server.key" }"#;

fn certificates(tls: &Table<'_>, env: &Env<'_>) -> Option<Vec<Certificate>> {
    let nodes = one_or_several(tls, "certificate", "certificates", CERTIFICATE_HELP)?;
    if tls.get("certificate").is_some() {
        return Some(vec![certificate(tls, env)?]);
    }
    if let Some(key) = tls.get("key") {
        key.fail(complaint("belongs to no certificate", "write it in each entry of `certificates`"));
    }
    let read = |node: &Node<'_>| certificate(&node.table(keys::CERTIFICATE)?, env);
    let read: Vec<Option<Certificate>> = nodes.iter().map(read).collect();
    let read: Vec<Certificate> = read.into_iter().collect::<Option<_>>()?;
    for (node, nameless) in
        nodes.iter().zip(&read).skip(1).filter(|(_, certificate)| certificate.names.is_empty())
    {
        let help = "only the first certificate serves clients that ask for no known name";
        node.warn(complaint(
            format!("`{}` is for no DNS name, so it is never chosen", nameless.path.display()),
            help,
        ));
    }
    Some(read)
}

fn certificate(table: &Table<'_>, env: &Env<'_>) -> Option<Certificate> {
    let chain = table.required("certificate", CERTIFICATE_HELP);
    let key = table.required("key", CERTIFICATE_HELP);
    chain_and_key(&chain?, key.as_ref(), env)
}
