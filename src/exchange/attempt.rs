//! The attempts of an exchange: which candidates were asked, and what each of them gave.

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use http::StatusCode;

/// The most attempts of one exchange that are kept in detail. The count goes on, and the last attempt is always kept.
const MOST_KEPT: usize = 16;

/// Most bytes of a provider's error code that are kept.
const CODE_KEPT: usize = 64;

/// One attempt at one candidate.
#[derive(Debug)]
pub struct Attempt {
    /// `[upstream.NAME]`
    pub upstream: Arc<str>,
    /// The target's base URL.
    pub target: Arc<str>,
    /// The upstream's key, by its place in the configuration, from 1.
    pub key: Option<usize>,
    /// The model that was asked for instead of the request's own.
    pub model: Option<Arc<str>>,
    /// When it began.
    pub start: Instant,
    /// How long the connection took to open; `None` for one that was open already.
    pub connect: Option<Duration>,
    /// Whether the connection had served another request before.
    pub reused: Option<bool>,
    /// From its start to the response's head.
    pub head: Option<Duration>,
    /// From its start to the first content that went to the client.
    pub first_token: Option<Duration>,
    /// From its start to its end.
    pub end: Option<Duration>,
    /// The upstream's status.
    pub status: Option<StatusCode>,
    /// The provider's own error code.
    pub code: Option<Box<str>>,
    /// What came of it, in the words of the metrics; `None` while it is under way.
    pub result: Option<&'static str>,
}

/// The attempts of one exchange, in their order.
#[derive(Debug, Default)]
pub struct Attempts {
    /// Nearly all exchanges have one attempt, which is kept without an allocation.
    earlier: Vec<Attempt>,
    last: Option<Attempt>,
    count: u32,
}

impl Attempt {
    /// An attempt that begins now.
    pub fn new(upstream: Arc<str>, target: Arc<str>, key: Option<usize>, model: Option<Arc<str>>) -> Self {
        Self {
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
        }
    }

    /// Notes how it failed: `result` in the words of the metrics, the upstream's status and its own error code, if it gave any.
    pub(super) fn fail(&mut self, result: &'static str, status: Option<StatusCode>, code: Option<&str>) {
        self.result = Some(result);
        self.status = status;
        self.code = code.map(|code| {
            let end = (0..=CODE_KEPT.min(code.len())).rev().find(|at| code.is_char_boundary(*at));
            code[..end.unwrap_or(0)].into()
        });
        self.end = Some(self.start.elapsed());
    }
}

impl Attempts {
    /// How many there were.
    pub fn count(&self) -> u32 {
        self.count
    }

    /// The one that is under way, or was the last.
    pub fn last(&self) -> Option<&Attempt> {
        self.last.as_ref()
    }

    /// Those that are kept, in their order.
    pub fn iter(&self) -> impl Iterator<Item = &Attempt> {
        self.earlier.iter().chain(&self.last)
    }

    /// Changes what is known of the last one.
    pub fn update(&mut self, change: impl FnOnce(&mut Attempt)) {
        if let Some(last) = &mut self.last {
            change(last);
        }
    }

    pub(super) fn begin(&mut self, attempt: Attempt) {
        self.count += 1;
        let Some(before) = self.last.replace(attempt) else { return };
        if self.earlier.len() < MOST_KEPT - 1 {
            self.earlier.push(before);
        }
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
    fn a_long_code_is_cut_between_characters() {
        let mut attempt = attempt(1);
        attempt.fail("4xx", Some(StatusCode::BAD_REQUEST), Some(&["x", &"é".repeat(50)].concat()));
        assert_eq!(attempt.code.as_deref().map(str::len), Some(CODE_KEPT - 1));
    }
}
