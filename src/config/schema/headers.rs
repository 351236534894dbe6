//! `request_headers` and `response_headers` of a route, and the headers that a table sets.

use http::{HeaderName, HeaderValue};

use crate::config::{
    declare::{Keys as _, Kind, ParseAs, Secrecy, Shape, Text, defaults_table, list, parse_as, text},
    headers::{allowed_name, name, pairs},
    problem::complaint,
    reader::{Node, Table},
};

use super::Source;

/// A header to set.
#[derive(Debug, Clone)]
pub struct SetHeader {
    /// Its name.
    pub name: HeaderName,
    /// Its value; marked sensitive if it is a secret, or if the name suggests one.
    pub value: HeaderValue,
    /// Whether the value was read from an environment variable, a file or a credential. It is a secret then, however short.
    pub secret: bool,
}

defaults_table! {
    /// What a route does with headers beyond the general policy. No rule can let a credential through.
    #[derive(Debug, Clone)]
    pub struct HeaderRules {
        set: Vec<SetHeader> = values().or(Vec::new()),
            "Headers to set. A value replaces the one that was there. In `request_headers`, a value may be a secret that is read from \
             elsewhere: { env = \"NAME\" }, { file = \"path\" } or { credential = \"name\" }.",
            { secrecy: Secrecy::Headers };
        remove: Vec<HeaderName> = list(header()).or(Vec::new()),
            "Headers to remove.";
        allow: Vec<HeaderName> = list(text("header name", allowed_name)).or(Vec::new()),
            "Headers to let through although the general policy removes them. Credentials and hop-by-hop headers cannot be allowed.";
        only: Vec<HeaderName> = list(header()).or(Vec::new()),
            "When not empty: all other headers are removed.";
    }
}

/// Header values by name.
pub(super) fn values() -> ParseAs<Vec<SetHeader>> {
    parse_as(|| Shape::Headers(Source::keys()), |node, context| Some(pairs(node, context.env)))
        .written_as("{}")
}

fn header() -> Text<HeaderName> {
    text("header name", name)
}

/// What is set cannot also be removed.
pub(super) fn not_both(route: &Table<'_>, key: &'static str, rules: Option<&HeaderRules>) {
    let Some(rules) = rules else { return };
    if let Some(node) = route.get(key)
        && let Some(SetHeader { name, .. }) = rules.set.iter().find(|set| rules.remove.contains(&set.name))
    {
        node.fail(complaint(
            format!("`{name}` is both set and removed"),
            "remove it from `remove`: `set` replaces the value that was there",
        ));
    }
}

/// A response goes to the client, so a secret of the gateway has no place in it.
pub(super) fn no_secrets(route: &Table<'_>, key: &'static str) {
    let set = route.get(key).and_then(|rules| rules.child("set"));
    let entries = set.filter(Node::is_table).and_then(|set| set.entries()).unwrap_or_default();
    for (_, node) in entries.iter().filter(|(_, node)| node.is_table()) {
        node.fail(complaint(
            "is a secret, and would be sent to clients",
            "write the value itself, or set the header in `request_headers`",
        ));
    }
}
