//! Timeouts that a client sets itself, below those of its route: `x-sluicegate-timeout`.

use std::time::Duration;

use http::{HeaderMap, HeaderName};

use crate::{
    config::{Timeouts, span},
    fault::Fault,
};

/// Either a span, which bounds the whole exchange, or spans by the event that each waits for.
const TIMEOUT: HeaderName = HeaderName::from_static("x-sluicegate-timeout");

const MALFORMED: Fault = Fault::BadRequest(
    "its x-sluicegate-timeout is no time limit; write `30s`, or any of `connect=2s, first_byte=10s, first_token=15s, idle=30s, total=2m`",
);

/// The timeouts of one request's header; `None`: as the route has it.
#[derive(Debug, Clone, Copy, Default)]
pub(in crate::proxy) struct CallerTimeouts {
    connect: Option<Duration>,
    first_byte: Option<Duration>,
    first_token: Option<Duration>,
    idle: Option<Duration>,
    total: Option<Duration>,
}

impl CallerTimeouts {
    /// Reads a request's headers.
    ///
    /// # Errors
    /// The header is not a list of timeouts.
    pub(in crate::proxy) fn read(headers: &HeaderMap) -> Result<Self, Fault> {
        let mut timeouts = Self::default();
        for value in headers.get_all(TIMEOUT) {
            value.to_str().ok().and_then(|text| timeouts.add(text)).ok_or(MALFORMED)?;
        }
        Ok(timeouts)
    }

    fn add(&mut self, text: &str) -> Option<()> {
        for part in text.split(',') {
            let (event, written) = part.split_once('=').unwrap_or(("total", part));
            let limit = match event.trim() {
                "connect" => &mut self.connect,
                "first_byte" => &mut self.first_byte,
                "first_token" => &mut self.first_token,
                "idle" => &mut self.idle,
                "total" => &mut self.total,
                _ => return None,
            };
            let span = span::parse(written.trim()).ok().filter(|span| !span.is_zero())?;
            *limit = lower(*limit, Some(span));
        }
        Some(())
    }

    /// Whether the client has set any.
    pub(in crate::proxy) fn is_any(self) -> bool {
        [self.connect, self.first_byte, self.first_token, self.idle, self.total].iter().any(Option::is_some)
    }

    /// The lower of these and `inherited`, one by one.
    pub(in crate::proxy) fn over(self, inherited: Timeouts) -> Timeouts {
        Timeouts {
            connect: self.connect.map_or(inherited.connect, |own| own.min(inherited.connect)),
            first_byte: lower(self.first_byte, inherited.first_byte),
            first_token: lower(self.first_token, inherited.first_token),
            idle: lower(self.idle, inherited.idle),
            total: self.total(inherited.total),
        }
    }

    /// The bound on the whole exchange.
    pub(in crate::proxy) fn total(self, inherited: Option<Duration>) -> Option<Duration> {
        lower(self.total, inherited)
    }
}

fn lower(own: Option<Duration>, inherited: Option<Duration>) -> Option<Duration> {
    own.into_iter().chain(inherited).min()
}

#[cfg(test)]
mod tests {
    use http::HeaderValue;

    use super::*;

    fn read(value: &'static str) -> Option<CallerTimeouts> {
        let mut headers = HeaderMap::new();
        headers.insert(TIMEOUT, HeaderValue::from_static(value));
        CallerTimeouts::read(&headers).ok()
    }

    #[test]
    fn limits_are_lowered_and_never_raised() {
        let inherited = Timeouts {
            connect: Duration::from_secs(5),
            first_byte: None,
            first_token: Some(Duration::from_secs(10)),
            idle: Some(Duration::from_secs(300)),
            total: Some(Duration::from_secs(60)),
        };
        let lowered = read("connect=1s, first_byte = 3s,first_token=20s,total=90s, total=1m 30s").unwrap();
        let expected = Timeouts {
            connect: Duration::from_secs(1),
            first_byte: Some(Duration::from_secs(3)),
            ..inherited
        };
        assert_eq!(lowered.over(inherited), expected);
        assert_eq!(read("250ms").unwrap().total(None), Some(Duration::from_millis(250)));
        assert_eq!(CallerTimeouts::read(&HeaderMap::new()).unwrap().over(inherited), inherited);
    }

    #[test]
    fn what_cannot_be_understood_is_refused() {
        for wrong in ["", "30", "off", "0s", "total=", "first=3s", "3s;", "idle=3s,,"] {
            assert!(read(wrong).is_none(), "{wrong}");
        }
    }
}
