//! `timeout`: the clocks of a request, inherited key by key from `[defaults]` to an upstream to a route.

use std::{ops::RangeInclusive, time::Duration};

use crate::config::declare::{Keys as _, Kind as _, inherited_table, span};

/// Anything from a millisecond to a week.
pub(super) const SPANS: RangeInclusive<Duration> = Duration::from_millis(1)..=Duration::from_secs(7 * 86_400);

/// Declares the timeouts, and how a client may lower each of them.
macro_rules! timeouts {
    ( $( $key:ident: $type:ty = $kind:expr, $doc:expr $(, $meta:tt)?; )* ) => {
        inherited_table! {
            /// Timeouts of a request, each named by the event that it waits for.
            #[derive(Debug, Clone, Copy, PartialEq, Eq)]
            pub struct Timeouts, overridden by TimeoutOverrides {
                $( $key: $type = $kind, $doc $(, $meta)?; )*
            }
        }

        impl Timeouts {
            /// These, but none longer than its limit.
            #[must_use]
            pub fn lowered_by(self, limits: TimeoutLimits) -> Self {
                if !limits.is_any() {
                    return self;
                }
                Self { $( $key: LowerLimit::lowered(self.$key, limits.of(stringify!($key))) ),* }
            }
        }
    };
}

timeouts! {
    connect: Duration = span(SPANS).or(Duration::from_secs(5)),
        "Connecting to the upstream: TCP and TLS, for each address that is tried.";
    first_byte: Option<Duration> = span(SPANS).or_off().or(Some(Duration::from_secs(600))),
        "The upstream's response head, from the last piece of the request that was sent. If a response is not streamed, its head comes only when the response is complete.";
    first_token: Option<Duration> = span(SPANS).or_off().or(None),
        "The first piece of content in a streamed response, from the start of the attempt; the wait for its head counts too. If the head is \
         late, the next candidate is tried while this attempt goes on, and the answer that comes first is used. If nothing else can be tried, or \
         the request creates something, the head may take as long as `first_byte`, and the content is due this long after it.";
    idle: Option<Duration> = span(SPANS).or_off().or(Some(Duration::from_secs(300))),
        "The longest silence within the upstream's response.";
    total: Option<Duration> = span(SPANS).or_off().or(None),
        "The whole request, up to the last byte of the response, or the end of a WebSocket connection.";
    websocket_idle: Option<Duration> = span(SPANS).or_off().or(Some(Duration::from_secs(900))),
        "The longest time in which nothing passes on a WebSocket connection in either direction, pings included.";
}

/// Upper limits for some of the timeouts, set by name.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct TimeoutLimits([Option<Duration>; Timeouts::NAMES.len()]);

impl TimeoutLimits {
    /// Limits a timeout; of several limits the lowest counts. `None`: there is no timeout of this name.
    pub fn limit(&mut self, name: &str, span: Duration) -> Option<()> {
        let index = Timeouts::NAMES.iter().position(|known| *known == name)?;
        let limit = self.0.get_mut(index)?;
        *limit = limit.lowered(Some(span));
        Some(())
    }

    /// The limit of one timeout.
    #[must_use]
    pub fn of(&self, name: &str) -> Option<Duration> {
        let index = Timeouts::NAMES.iter().position(|known| *known == name)?;
        self.0.get(index).copied().flatten()
    }

    /// Whether any timeout is limited.
    #[must_use]
    pub fn is_any(&self) -> bool {
        self.0.iter().any(Option::is_some)
    }
}

/// A timeout that may be "off", or may not.
trait LowerLimit {
    /// The lower of the two.
    fn lowered(self, limit: Option<Duration>) -> Self;
}

impl LowerLimit for Duration {
    fn lowered(self, limit: Option<Duration>) -> Self {
        limit.map_or(self, |limit| limit.min(self))
    }
}

impl LowerLimit for Option<Duration> {
    fn lowered(self, limit: Option<Duration>) -> Self {
        self.into_iter().chain(limit).min()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_timeout_can_be_lowered_by_its_name_and_none_is_raised() {
        let written = |timeouts: &Timeouts| crate::config::declare::Declared::written(timeouts);
        let usual = Timeouts::default();
        let (short, long) = (Duration::from_millis(1), Duration::from_secs(86_400 * 7));
        for name in Timeouts::NAMES {
            let mut limits = TimeoutLimits::default();
            assert!(!limits.is_any());
            limits.limit(name, long).expect(name);
            limits.limit(name, short).expect(name);
            limits.limit(name, long).expect(name);
            assert!(limits.is_any());
            let changed: Vec<_> = written(&usual)
                .into_iter()
                .zip(written(&usual.lowered_by(limits)))
                .filter(|(before, after)| before != after)
                .map(|(_, after)| after)
                .collect();
            assert_eq!(changed, [(*name, "\"1ms\"".to_owned())]);
        }
        assert_eq!(TimeoutLimits::default().limit("first", short), None);
        let mut limits = TimeoutLimits::default();
        limits.limit("connect", long).expect("a timeout");
        assert_eq!(usual.lowered_by(limits), usual);
    }
}
