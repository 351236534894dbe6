//! `timeout`: the clocks of a request, inherited key by key from `[defaults]` to an upstream to a route.

use std::{ops::RangeInclusive, time::Duration};

use crate::config::declare::{Kind as _, inherited_table, span};

/// Anything from a millisecond to a week.
pub(super) const SPANS: RangeInclusive<Duration> = Duration::from_millis(1)..=Duration::from_secs(7 * 86_400);

inherited_table! {
    /// Timeouts of a request, each named by the event that it waits for.
    #[derive(Debug, Clone, Copy, PartialEq, Eq)]
    pub struct Timeouts, overridden by TimeoutOverrides {
        connect: Duration = span(SPANS).or(Duration::from_secs(5)),
            "Connecting to the upstream: TCP and TLS, for each address that is tried.";
        first_byte: Option<Duration> = span(SPANS).or_off().or(Some(Duration::from_secs(600))),
            "The upstream's response head. If a response is not streamed, its head comes only when the response is complete.";
        first_token: Option<Duration> = span(SPANS).or_off().or(None),
            "The first piece of content in a streamed response.";
        idle: Option<Duration> = span(SPANS).or_off().or(Some(Duration::from_secs(300))),
            "The longest silence within the upstream's response.";
        total: Option<Duration> = span(SPANS).or_off().or(None),
            "The whole request, up to the last byte of the response.";
    }
}
