//! The attempts of an exchange: the candidates that were tried, and the result of each.

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use http::StatusCode;

use crate::body::OpenAttempt;

/// Limit of the attempts of one exchange that are kept in detail. Later attempts are still counted, and the last attempt is always kept.
const MOST_KEPT: usize = 16;

/// Limit in bytes of a provider's error code; a longer code is truncated.
const CODE_KEPT: usize = 64;

/// One attempt at one candidate.
#[derive(Debug)]
pub struct Attempt {
    /// Its number among the attempts of the exchange, from 1.
    pub number: u32,
    /// `[upstream.NAME]`
    pub upstream: Arc<str>,
    /// The target's base URL.
    pub target: Arc<str>,
    /// Number of the upstream key in the order of the configuration, from 1.
    pub key: Option<usize>,
    /// The model sent upstream instead of the request's own.
    pub model: Option<Arc<str>>,
    /// Start of the attempt.
    pub start: Instant,
    /// Time that the connection took to open; `None` for a connection that was already open.
    pub connect: Option<Duration>,
    /// Whether the connection had served another request before.
    pub reused: Option<bool>,
    /// Time from the start to the response head.
    pub head: Option<Duration>,
    /// Time from the start to the first content sent to the client.
    pub first_token: Option<Duration>,
    /// Time from the start to the end of the attempt.
    pub end: Option<Duration>,
    /// The status of the upstream's response, if its head arrived.
    pub status: Option<StatusCode>,
    /// The provider's own error code.
    pub code: Option<Box<str>>,
    /// The result, with the metrics' label value; `None` while the attempt is running.
    pub result: Option<&'static str>,
    /// Whether the failure counts against the target.
    pub blames_target: bool,
    /// Whether the metrics have counted the attempt.
    pub(super) counted: bool,
}

/// The attempts of one exchange, in order.
#[derive(Debug, Default)]
pub struct Attempts {
    /// The attempts before the last. Nearly all exchanges have one attempt, which needs no allocation.
    earlier: Vec<Attempt>,
    last: Option<Attempt>,
    count: u32,
}

impl Attempt {
    /// Creates an attempt that begins now.
    pub fn new(upstream: Arc<str>, target: Arc<str>, key: Option<usize>, model: Option<Arc<str>>) -> Self {
        Self {
            number: 0,
            upstream,
            target,
            key,
            model,
            start: Instant::now(),
            connect: None,
            reused: None,
            head: None,
            first_token: None,
            end: None,
            status: None,
            code: None,
            result: None,
            blames_target: false,
            counted: false,
        }
    }

    /// Notes a failure: `result` is the metrics' label value, `code` the provider's own error code, if it sent one.
    pub(super) fn fail(&mut self, result: &'static str, code: Option<&str>) {
        self.result = Some(result);
        self.code = code.map(|code| {
            let end = (0..=CODE_KEPT.min(code.len())).rev().find(|at| code.is_char_boundary(*at));
            code[..end.unwrap_or(0)].into()
        });
        self.end = Some(self.start.elapsed());
    }

    /// The attempt as operators see it.
    pub(super) fn shown(&self) -> OpenAttempt {
        OpenAttempt {
            upstream: self.upstream.clone(),
            target: self.target.clone(),
            key: self.key,
            start: self.start,
            connect: self.connect,
            head: self.head,
            end: self.end,
            status: self.status.map(|status| status.as_u16()),
            result: self.result,
        }
    }

    /// Notes that the attempt has not failed after all.
    fn resume(&mut self) {
        (self.result, self.code, self.end) = (None, None, None);
    }
}

impl Attempts {
    /// Number of attempts, including those that are not kept.
    pub fn count(&self) -> u32 {
        self.count
    }

    /// The running attempt, or the last one.
    pub fn last(&self) -> Option<&Attempt> {
        self.last.as_ref()
    }

    /// Iterates over the kept attempts, in order.
    pub fn iter(&self) -> impl Iterator<Item = &Attempt> {
        self.earlier.iter().chain(&self.last)
    }

    /// Changes the last attempt, if there is one.
    pub fn update(&mut self, change: impl FnOnce(&mut Attempt)) {
        if let Some(last) = &mut self.last {
            change(last);
        }
    }

    /// Whether a failure of this exchange has counted against that target of `upstream`.
    pub fn has_blamed(&self, upstream: &str, target: &str) -> bool {
        let is_at = |attempt: &Attempt| *attempt.upstream == *upstream && *attempt.target == *target;
        self.iter().any(|attempt| attempt.blames_target && is_at(attempt))
    }

    /// Whether a failure of this exchange has counted against the target of the last attempt.
    pub fn last_has_blamed(&self) -> bool {
        self.last.as_ref().is_some_and(|last| self.has_blamed(&last.upstream, &last.target))
    }

    pub(super) fn begin(&mut self, mut attempt: Attempt) {
        self.count += 1;
        attempt.number = self.count;
        let Some(before) = self.last.replace(attempt) else { return };
        if self.earlier.len() < MOST_KEPT - 1 {
            self.earlier.push(before);
        }
    }

    /// Makes the attempt of that `number`, from 1, the last one, which runs again.
    pub(super) fn resume(&mut self, number: u32) {
        let index = number as usize - 1;
        if index >= self.earlier.len() {
            self.update(Attempt::resume);
            return;
        }
        let mut resumed = self.earlier.remove(index);
        resumed.resume();
        self.earlier.extend(self.last.replace(resumed));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn attempt(number: usize) -> Attempt {
        Attempt::new("upstream".into(), "http://target".into(), Some(number), None)
    }

    #[test]
    fn the_first_attempts_and_the_last_are_kept() {
        let mut attempts = Attempts::default();
        assert!(attempts.last().is_none() && attempts.iter().next().is_none());
        for number in 1..=40 {
            attempts.begin(attempt(number));
        }
        let kept: Vec<_> = attempts.iter().filter_map(|attempt| attempt.key).collect();
        let expected: Vec<_> = (1..MOST_KEPT).chain([40]).collect();
        assert_eq!((attempts.count(), kept), (40, expected));
    }

    #[test]
    fn an_attempt_that_is_resumed_is_the_last_and_has_no_result() {
        let mut attempts = Attempts::default();
        for number in 1..=3 {
            attempts.begin(attempt(number));
            attempts.update(|attempt| attempt.fail("5xx", None));
        }
        attempts.resume(2);
        let kept: Vec<_> = attempts.iter().map(|attempt| (attempt.key, attempt.result)).collect();
        assert_eq!(kept, [(Some(1), Some("5xx")), (Some(3), Some("5xx")), (Some(2), None)]);
        attempts.resume(3);
        assert_eq!((attempts.count(), attempts.last().and_then(|last| last.key)), (3, Some(2)));
        assert_eq!(attempts.last().and_then(|last| last.end), None);
    }

    #[test]
    fn a_long_code_is_cut_between_characters() {
        let mut attempt = attempt(1);
        attempt.fail("4xx", Some(&["x", &"é".repeat(50)].concat()));
        assert_eq!(attempt.code.as_deref().map(str::len), Some(CODE_KEPT - 1));
    }
}
