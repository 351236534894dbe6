//! `[[listener]]`

use std::{
    net::{IpAddr, SocketAddr},
    path::PathBuf,
    sync::Arc,
};

use rustls::{RootCertStore, sign::CertifiedKey};

use super::{Source, server::address};
use crate::config::{
    certificate::{authorities, chain_and_key},
    declare::{
        Context, Effect, Field, Keys, Kind, Secrecy, Shape, choice, described, flag, keys, list, nested,
        table, text,
    },
    problem::{Complaint, complaint},
    reader::Table,
};

table! {
    /// `[[listener]]`: one address that clients connect to.
    #[derive(Debug, Clone)]
    pub struct Listener(table, context) {
        address: SocketAddr = text("IP address and port", address).required(r#"for example: address = "0.0.0.0:8443""#),
            "Address to listen on. `[::]:8443` accepts IPv6 only.",
            { shipped: r#""0.0.0.0:8443""#, effect: Effect::Restart };
        tls: Option<ListenerTls> = nested::<ListenerTls>().optional(),
            "TLS of this listener.",
            { shipped: r#"{ certificate = "certs/server.pem", key = "certs/server.key" }"#,
              example: &[r#"{ certificates = [{ certificate = "certs/server.pem", key = "certs/server.key" }], client_ca = "certs/ca.pem", min_version = "1.3" }"#],
              default: "plain HTTP", effect: Effect::NewConnections };
        h2c: bool = flag().or(false),
            "Whether clients may speak HTTP/2 without TLS (prior knowledge). Only without `tls`: with TLS, ALPN decides.",
            { effect: Effect::NewConnections };
        client_address = kind(),
            "How the client's address is determined: from the TCP connection (\"peer\"), from the last address in `x-forwarded-for` \
             that is not in `trusted`, or from a PROXY protocol header (v1 or v2), which then must open every connection.",
            { effect: Effect::NewConnections };
        trusted = described(list(text("address or address range", network)).shape()),
            "Proxies that are trusted to report the client's address. Required with \"x-forwarded-for\". With \"proxy-protocol\", \
             connections from other addresses are refused.",
            { example: &[r#"["10.0.0.0/8", "::1"]"#], effect: Effect::NewConnections };
    }
    derived {
        /// How the client's address is determined, from `client_address` and `trusted`.
        client_address: ClientAddress = client_address(table, context);
    }
    check { h2c_without_tls(table, h2c) }
}

/// How a listener determines the client's address.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ClientAddress {
    /// The address of the TCP peer.
    Peer,
    /// The last address in `x-forwarded-for` that is not a trusted one, if the TCP peer is trusted.
    ForwardedFor(Vec<Network>),
    /// A PROXY protocol v1 or v2 header, which must open every connection. If the list is not empty, other peers are refused.
    ProxyProtocol(Vec<Network>),
}

/// An address range, `10.0.0.0/8` or a single address.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Network {
    /// The network's first address.
    pub address: IpAddr,
    /// Leading bits that must be equal.
    pub prefix: u8,
}

const CERTIFICATE_HELP: &str =
    r#"for example: tls = { certificate = "certs/server.pem", key = "certs/server.key" }"#;

table! {
    /// `tls = { … }` of a listener.
    #[derive(Debug, Clone)]
    pub struct ListenerTls(table, context) {
        certificate = described(pem()),
            "PEM file with the certificate chain, the server's own certificate first.",
            { default: "required, unless `certificates` is set", effect: Effect::NewConnections };
        key = described(pem()),
            "PEM file with the private key of `certificate`.",
            { default: "required with `certificate`", secrecy: Secrecy::Secret, effect: Effect::NewConnections };
        certificates = described(Shape::List(Box::new(Shape::Table(CertificateTable::keys())))),
            "Several certificates in place of one, chosen by SNI. The first one is the default.",
            { effect: Effect::NewConnections };
        client_ca = described(pem()),
            "PEM file with certificate authorities. When set, clients must present a certificate that one of them signed.",
            { effect: Effect::NewConnections };
        min_version = min_version(),
            "Lowest TLS version that is accepted.",
            { effect: Effect::NewConnections };
    }
    prepare { let trusted = client_authorities(table, context); }
    derived {
        /// Certificates with their keys; the first is the default, the others are chosen by SNI.
        certificates: Vec<Certificate> = certificates(table, context);
        /// Authorities of client certificates; `None`: no client certificate is asked for.
        client_ca: Option<Arc<RootCertStore>> = trusted.clone().map(|read| read.map(|(store, _)| store));
        /// SHA-256 of the authorities' DER certificates, so that no TLS session is resumed after they have changed.
        client_ca_digest: Option<[u8; 32]> = trusted.map(|read| read.map(|(_, digest)| digest));
        /// Whether TLS 1.2 is served.
        tls12: bool = min_version().read(table, "min_version", context);
    }
}

keys! {
    /// An entry of `certificates`.
    pub(crate) struct CertificateTable {
        certificate = described(pem()).required(), "PEM file with the certificate chain.",
            { effect: Effect::NewConnections };
        key = described(pem()).required(), "PEM file with its private key.",
            { secrecy: Secrecy::Secret, effect: Effect::NewConnections };
    }
}

/// A certificate chain, its key, and the DNS names it is for.
#[derive(Debug, Clone)]
pub struct Certificate {
    /// Chain and signing key, found to match.
    pub key: Arc<CertifiedKey>,
    /// Its subject alternative DNS names, lowercase (`*.example.com` kept as written).
    pub names: Vec<String>,
    /// Where it was read from, for messages.
    pub path: PathBuf,
    /// When the first certificate of the chain expires, in seconds since 1970.
    pub not_after: i64,
}

/// A path or a source.
pub(super) fn pem() -> Shape {
    Shape::Either(vec![Shape::Text("path of a PEM file"), Shape::Source(Source::keys())])
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum AddressKind {
    Peer,
    ForwardedFor,
    ProxyProtocol,
}

const KINDS: &[(&str, AddressKind)] = &[
    ("peer", AddressKind::Peer),
    ("x-forwarded-for", AddressKind::ForwardedFor),
    ("proxy-protocol", AddressKind::ProxyProtocol),
];

fn kind() -> impl Field<Value = AddressKind> {
    choice(KINDS).or(AddressKind::Peer)
}

fn client_address(table: &Table<'_>, context: &Context<'_>) -> Option<ClientAddress> {
    let kind = match table.get("client_address") {
        Some(node) => node.choice(KINDS)?,
        None => AddressKind::Peer,
    };
    let networks = list(text("", network)).non_empty(r#"for example: trusted = ["10.0.0.0/8"]"#);
    let trusted = table.get("trusted");
    let networks = trusted.as_ref().and_then(|node| networks.read(node, context)).unwrap_or_default();
    match kind {
        AddressKind::Peer => {
            if let Some(trusted) = trusted {
                let help =
                    r#"set client_address = "x-forwarded-for" or "proxy-protocol", or leave `trusted` out"#;
                trusted.fail(complaint("has no meaning when `client_address` is \"peer\"", help));
            }
            Some(ClientAddress::Peer)
        }
        AddressKind::ForwardedFor => {
            let help =
                r#"list the proxies that may send x-forwarded-for, for example: trusted = ["10.0.0.0/8"]"#;
            let _reported = table.required("trusted", help);
            Some(ClientAddress::ForwardedFor(networks))
        }
        AddressKind::ProxyProtocol => Some(ClientAddress::ProxyProtocol(networks)),
    }
}

fn network(text: &str) -> Result<Network, Complaint> {
    let help = r#"for example "10.0.0.0/8" (bits after the prefix must be zero), "192.0.2.7" or "::1""#;
    text.parse().map_err(|_| complaint("is not an IP address or an address range", help))
}

fn h2c_without_tls(table: &Table<'_>, h2c: Option<bool>) {
    if let Some(node) = table.get("h2c").filter(|_| h2c == Some(true) && table.get("tls").is_some()) {
        node.fail(complaint("has no meaning with `tls`, where ALPN selects HTTP/2", "leave it out"));
    }
}

fn min_version() -> impl Field<Value = bool> {
    choice(&[("1.2", true), ("1.3", false)]).or(true)
}

fn certificates(tls: &Table<'_>, context: &Context<'_>) -> Option<Vec<Certificate>> {
    let nodes = tls.one_or_several("certificate", "certificates", CERTIFICATE_HELP)?;
    if tls.get("certificate").is_some() {
        return Some(vec![certificate(tls, context)?]);
    }
    if let Some(key) = tls.get("key") {
        key.fail(complaint("belongs to no certificate", "write a `key` in each entry of `certificates`"));
    }
    let read: Vec<Option<Certificate>> =
        nodes.iter().map(|node| certificate(&node.table(CertificateTable::NAMES)?, context)).collect();
    let read: Vec<Certificate> = read.into_iter().collect::<Option<_>>()?;
    for (node, nameless) in
        nodes.iter().zip(&read).skip(1).filter(|(_, certificate)| certificate.names.is_empty())
    {
        let help = "only the first certificate serves clients that ask for no known name; move it to the front, or remove it";
        node.warn(complaint(
            format!("the certificate `{}` has no DNS name, so it is never chosen", nameless.path.display()),
            help,
        ));
    }
    Some(read)
}

/// The authorities and their digest; `Some(None)`: there is no `client_ca`.
fn client_authorities(
    tls: &Table<'_>,
    context: &Context<'_>,
) -> Option<Option<(Arc<RootCertStore>, [u8; 32])>> {
    let Some(node) = tls.get("client_ca") else { return Some(None) };
    authorities(&node, context.env).map(Some)
}

fn certificate(table: &Table<'_>, context: &Context<'_>) -> Option<Certificate> {
    let chain = table.required("certificate", CERTIFICATE_HELP);
    let key = table.required("key", CERTIFICATE_HELP);
    chain_and_key(&chain?, key.as_ref(), context.env)
}
