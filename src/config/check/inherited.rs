//! `[defaults]`, and the tables that routes and upstreams inherit from it and override key by key.

use std::{ops::RangeInclusive, time::Duration};

use crate::config::{
    defaults::BODY_LIMIT,
    keys,
    problem::complaint,
    reader::Table,
    schema::{Breaker, BreakerOverride, Retry, RetryOverrides, TimeoutOverrides, Timeouts},
    span,
};

/// Anything from a millisecond to a week.
pub(super) const SPANS: RangeInclusive<Duration> = Duration::from_millis(1)..=Duration::from_secs(7 * 86_400);

const HEARTBEATS: RangeInclusive<Duration> = Duration::from_secs(1)..=Duration::from_secs(3600);

/// What holds for routes and upstreams that do not say otherwise.
pub(super) struct Defaults {
    pub(super) body_limit: u64,
    pub(super) timeout: Timeouts,
    pub(super) retry: Retry,
    pub(super) breaker: Option<Breaker>,
    pub(super) heartbeat: Option<Duration>,
}

pub(super) fn defaults(root: &Table<'_>) -> Defaults {
    let table = root.section("defaults", keys::DEFAULTS);
    let built_in = Retry::default();
    Defaults {
        body_limit: body_limit(&table).unwrap_or(BODY_LIMIT),
        timeout: timeout(&table).over(Timeouts::default()),
        retry: retry(&table, Some(built_in)).over(built_in),
        breaker: breaker(&table).over(Some(Breaker::default())),
        heartbeat: heartbeat(&table).flatten(),
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
    TimeoutOverrides {
        connect: table.get("connect").and_then(|node| node.span(SPANS)),
        first_byte: clock("first_byte"),
        first_token: clock("first_token"),
        idle: clock("idle"),
        total: clock("total"),
    }
}

/// What is written under `retry`. Together with what it inherits it must be sound; `None`: not known, since there is a mistake.
pub(super) fn retry(table: &Table<'_>, inherited: Option<Retry>) -> RetryOverrides {
    let help = r#"as in retry = { retries = 3, backoff = "1s", max_backoff = "8s" }"#;
    let table = match written(table, "retry", keys::RETRY, help) {
        Written::Nothing => return RetryOverrides::Inherited,
        Written::Off => return RetryOverrides::Off,
        Written::Keys(table) => table,
    };
    let span = |key| table.get(key).map_or(Some(None), |node| node.span(SPANS).map(Some));
    let (backoff, max_backoff) = (span("backoff"), span("max_backoff"));
    let read = backoff.is_some() && max_backoff.is_some();
    let overrides = RetryOverrides::Keys {
        retries: count(&table, "retries", 0..=10),
        backoff: backoff.flatten(),
        max_backoff: max_backoff.flatten(),
    };
    if let Some(inherited) = inherited.filter(|_| read) {
        in_order(&table, overrides.over(inherited));
    }
    overrides
}

/// One of the two may be inherited: the one that is written here is the one to change.
fn in_order(table: &Table<'_>, retry: Retry) {
    let Retry { backoff, max_backoff, .. } = retry;
    if backoff <= max_backoff {
        return;
    }
    if let Some(node) = table.get("max_backoff") {
        let message = format!("must not be below `backoff`, which is {}", span::written(backoff));
        node.fail(complaint(message, ""));
    } else if let Some(node) = table.get("backoff") {
        let message = format!("must not be above `max_backoff`, which is {}", span::written(max_backoff));
        node.fail(complaint(message, "write `max_backoff` too"));
    }
}

/// What is written under `breaker`.
pub(super) fn breaker(table: &Table<'_>) -> BreakerOverride {
    let help = r#"as in breaker = { failures = 5, open = "10s" }"#;
    match written(table, "breaker", keys::BREAKER, help) {
        Written::Nothing => BreakerOverride::Inherited,
        Written::Off => BreakerOverride::Off,
        Written::Keys(table) => BreakerOverride::Keys {
            failures: count(&table, "failures", 1..=1000),
            open: table.get("open").and_then(|node| node.span(SPANS)),
        },
    }
}

/// What is written under `heartbeat`; "off" is `Some(None)`.
pub(super) fn heartbeat(table: &Table<'_>) -> Option<Option<Duration>> {
    table.get("heartbeat")?.span_or_off(HEARTBEATS)
}

/// A key that is a table or "off".
enum Written<'a> {
    Nothing,
    Off,
    Keys(Table<'a>),
}

fn written<'a>(
    table: &Table<'a>,
    key: &'static str,
    known: &'static [&'static str],
    help: &'static str,
) -> Written<'a> {
    let Some(node) = table.get(key) else { return Written::Nothing };
    if node.is_str("off") {
        return Written::Off;
    }
    if !node.is_table() {
        node.fail(complaint(r#"must be a table or "off""#, help));
        return Written::Nothing;
    }
    node.table(known).map_or(Written::Nothing, Written::Keys)
}

fn count(table: &Table<'_>, key: &'static str, range: RangeInclusive<u64>) -> Option<u32> {
    table.get(key)?.count(range).and_then(|count| u32::try_from(count).ok())
}

impl TimeoutOverrides {
    /// What is written here, and for the rest what is inherited.
    #[must_use]
    pub fn over(self, inherited: Timeouts) -> Timeouts {
        Timeouts {
            connect: self.connect.unwrap_or(inherited.connect),
            first_byte: self.first_byte.unwrap_or(inherited.first_byte),
            first_token: self.first_token.unwrap_or(inherited.first_token),
            idle: self.idle.unwrap_or(inherited.idle),
            total: self.total.unwrap_or(inherited.total),
        }
    }
}

impl RetryOverrides {
    /// What is written here, and for the rest what is inherited, or the built-in default when that is off.
    #[must_use]
    pub fn over(self, inherited: Retry) -> Retry {
        match self {
            Self::Inherited => inherited,
            Self::Off => Retry { retries: 0, ..inherited },
            Self::Keys { retries, backoff, max_backoff } => {
                let base = if inherited.retries == 0 { Retry::default() } else { inherited };
                Retry {
                    retries: retries.unwrap_or(base.retries),
                    backoff: backoff.unwrap_or(base.backoff),
                    max_backoff: max_backoff.unwrap_or(base.max_backoff),
                }
            }
        }
    }
}

impl BreakerOverride {
    /// What is written here, and for the rest what is inherited, or the built-in default when that is off.
    #[must_use]
    pub fn over(self, inherited: Option<Breaker>) -> Option<Breaker> {
        match self {
            Self::Inherited => inherited,
            Self::Off => None,
            Self::Keys { failures, open } => {
                let base = inherited.unwrap_or_default();
                Some(Breaker { failures: failures.unwrap_or(base.failures), open: open.unwrap_or(base.open) })
            }
        }
    }
}
