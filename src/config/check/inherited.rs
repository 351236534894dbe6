//! `[defaults]`, and the tables that routes and upstreams inherit from it and override key by key.

use std::{ops::RangeInclusive, time::Duration};

use crate::config::{
    defaults::BODY_LIMIT,
    keys,
    problem::complaint,
    reader::{Node, Table},
    schema::{TimeoutOverrides, Timeouts},
};

/// Anything from a millisecond to a week.
pub(super) const SPANS: RangeInclusive<Duration> = Duration::from_millis(1)..=Duration::from_secs(7 * 86_400);

/// What holds for routes and upstreams that do not say otherwise.
pub(super) struct Defaults {
    pub(super) body_limit: u64,
    pub(super) timeout: Timeouts,
}

pub(super) fn defaults(root: &Table<'_>) -> Defaults {
    let table = root.section("defaults", keys::DEFAULTS);
    not_yet(&table);
    Defaults {
        body_limit: body_limit(&table).unwrap_or(BODY_LIMIT),
        timeout: timeout(&table).over(Timeouts::default()),
    }
}

/// `body_limit`, in bytes.
pub(super) fn body_limit(table: &Table<'_>) -> Option<u64> {
    table.get("body_limit")?.size(1 << 10..=1 << 30)
}

/// The keys of `timeout` that are written in this table.
pub(super) fn timeout(table: &Table<'_>) -> TimeoutOverrides {
    let table = table.section("timeout", keys::TIMEOUT);
    let clock = |key| table.get(key).and_then(|node| node.span_or_off(SPANS));
    if let Some(Some(_)) = clock("first_token") {
        table.get("first_token").as_ref().map(no_effect);
    }
    TimeoutOverrides {
        connect: table.get("connect").and_then(|node| node.span(SPANS)),
        first_byte: clock("first_byte"),
        idle: clock("idle"),
        total: clock("total"),
    }
}

/// `retry`, `breaker` and `heartbeat`: their shape is checked, and what would have an effect is warned of.
pub(super) fn not_yet(table: &Table<'_>) {
    let on = |key, active: fn(&Node<'_>) -> bool| table.get(key).filter(active);
    let found = [on("retry", retries), on("breaker", breaks), on("heartbeat", beats)];
    found.iter().flatten().for_each(no_effect);
}

fn retries(node: &Node<'_>) -> bool {
    if node.is_str("off") {
        return false;
    }
    let Some(table) = table_or_off(node, keys::RETRY) else { return false };
    let retries = table.get("retries").map(|node| node.count(0..=10).unwrap_or(0));
    for key in ["backoff", "max_backoff"] {
        let _checked = table.get(key).and_then(|node| node.span(SPANS));
    }
    retries != Some(0)
}

fn breaks(node: &Node<'_>) -> bool {
    if node.is_str("off") {
        return false;
    }
    let Some(table) = table_or_off(node, keys::BREAKER) else { return false };
    let failures = table.get("failures").map(|node| node.count(0..=1000).unwrap_or(0));
    let _checked = table.get("open").and_then(|node| node.span(SPANS));
    failures != Some(0)
}

fn beats(node: &Node<'_>) -> bool {
    matches!(node.span_or_off(SPANS), Some(Some(_)))
}

fn table_or_off<'a>(node: &Node<'a>, known: &'static [&'static str]) -> Option<Table<'a>> {
    if node.is_table() { node.table(known) } else { node.mistyped(r#"a table or "off""#, "") }
}

fn no_effect(node: &Node<'_>) {
    node.warn(complaint("has no effect in this version yet", r#"write "off", or leave it out"#));
}

impl TimeoutOverrides {
    /// What is written here, and for the rest what is inherited.
    #[must_use]
    pub fn over(self, inherited: Timeouts) -> Timeouts {
        Timeouts {
            connect: self.connect.unwrap_or(inherited.connect),
            first_byte: self.first_byte.unwrap_or(inherited.first_byte),
            idle: self.idle.unwrap_or(inherited.idle),
            total: self.total.unwrap_or(inherited.total),
        }
    }
}
