//! `request_headers` and `response_headers` of a route.

use http::{HeaderName, HeaderValue};

use crate::config::{
    declare::{Kind, ParseAs, Secrecy, Shape, Text, defaults_table, list, parse_as, text},
    headers::{allowed_name, name, pairs},
    problem::complaint,
    reader::Table,
};

defaults_table! {
    /// What a route does with headers beyond the general policy. No rule can let a credential through.
    #[derive(Debug, Clone)]
    pub struct HeaderRules {
        set: Vec<(HeaderName, HeaderValue)> = values().or(Vec::new()),
            "Headers to set. A value replaces the one that was there.",
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
pub(super) fn values() -> ParseAs<Vec<(HeaderName, HeaderValue)>> {
    parse_as(|| Shape::Headers, |node, _| Some(pairs(node))).written_as("{}")
}

fn header() -> Text<HeaderName> {
    text("header name", name)
}

/// What is set cannot also be removed.
pub(super) fn not_both(route: &Table<'_>, key: &'static str, rules: Option<&HeaderRules>) {
    let Some(rules) = rules else { return };
    if let Some(node) = route.get(key)
        && let Some((name, _)) = rules.set.iter().find(|(name, _)| rules.remove.contains(name))
    {
        node.fail(complaint(
            format!("`{name}` is both set and removed"),
            "remove it from `remove`: `set` replaces the value that was there",
        ));
    }
}
