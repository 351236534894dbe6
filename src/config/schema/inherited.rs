//! What `[defaults]`, an upstream and a route inherit from one another, key by key.

use std::time::Duration;

/// Clocks of an exchange, each named by the event that it waits for. `[defaults] timeout = { … }`, overridden key by key
/// in an upstream's `timeout`, and then in a route's.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Timeouts {
    /// `connect = "5s"`: TCP and TLS, each address tried within it.
    pub connect: Duration,
    /// `first_byte = "600s"`: the upstream's response head.
    pub first_byte: Option<Duration>,
    /// `first_token = "off"`: the first piece of what is being said in a streamed answer.
    pub first_token: Option<Duration>,
    /// `idle = "300s"`: the longest silence within the upstream's answer, while it is being asked.
    pub idle: Option<Duration>,
    /// `total = "off"`: the whole exchange.
    pub total: Option<Duration>,
}

/// The keys of a `timeout` table that were written there; `None`: inherited.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct TimeoutOverrides {
    /// See [`Timeouts::connect`].
    pub connect: Option<Duration>,
    /// See [`Timeouts::first_byte`]; `Some(None)`: written as "off".
    pub first_byte: Option<Option<Duration>>,
    /// See [`Timeouts::first_token`].
    pub first_token: Option<Option<Duration>>,
    /// See [`Timeouts::idle`].
    pub idle: Option<Option<Duration>>,
    /// See [`Timeouts::total`].
    pub total: Option<Option<Duration>>,
}

/// `retry = { retries = 3, backoff = "1s", max_backoff = "8s" }` or "off" (`retries` 0). `[defaults]`, overridden key by key in an
/// upstream, and then in a route; a table below an "off" begins with the values that are told here.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Retry {
    /// `retries = 3`: attempts after the first one; 0 to 10.
    pub retries: u32,
    /// `backoff = "1s"`: the wait before the first of them.
    pub backoff: Duration,
    /// `max_backoff = "8s"`: the longest wait before any of them; not below `backoff`.
    pub max_backoff: Duration,
}

/// The keys of `retry` that were written at one level.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum RetryOverrides {
    /// Nothing was: inherited.
    #[default]
    Inherited,
    /// "off"
    Off,
    /// A table; `None`: inherited, or the built-in default when that is off.
    Keys {
        /// See [`Retry::retries`].
        retries: Option<u32>,
        /// See [`Retry::backoff`].
        backoff: Option<Duration>,
        /// See [`Retry::max_backoff`].
        max_backoff: Option<Duration>,
    },
}

/// `breaker = { failures = 5, open = "10s" }` or "off": when a target is left alone for a while. Inherited as [`Retry`] is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Breaker {
    /// `failures = 5`: so many in a row open it; 1 to 1000.
    pub failures: u32,
    /// `open = "10s"`: for so long nothing is asked of the target.
    pub open: Duration,
}

/// The keys of `breaker` that were written at one level.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum BreakerOverride {
    /// Nothing was: inherited.
    #[default]
    Inherited,
    /// "off"
    Off,
    /// A table; `None`: inherited, or the built-in default when that is off.
    Keys {
        /// See [`Breaker::failures`].
        failures: Option<u32>,
        /// See [`Breaker::open`].
        open: Option<Duration>,
    },
}
