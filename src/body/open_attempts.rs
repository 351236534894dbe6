//! What operators see of the attempts of an open exchange.

use std::{
    cell::{Cell, RefCell},
    sync::Arc,
    time::{Duration, Instant},
};

/// Limit of the ended attempts of one exchange that are kept.
const MOST_KEPT: usize = 15;

/// One attempt at one candidate, as operators see it.
#[derive(Debug, Clone)]
pub struct OpenAttempt {
    /// `[upstream.NAME]`
    pub upstream: Arc<str>,
    /// The target's base URL.
    pub target: Arc<str>,
    /// Number of the upstream key in the order of the configuration, from 1.
    pub key: Option<usize>,
    /// Start of the attempt.
    pub start: Instant,
    /// Time that the connection took to open; `None` for a connection that was already open.
    pub connect: Option<Duration>,
    /// Time from the start to the response head.
    pub head: Option<Duration>,
    /// Time from the start to the end; `None` while the attempt is running.
    pub end: Option<Duration>,
    /// The upstream's status.
    pub status: Option<u16>,
    /// The result of an attempt that failed.
    pub result: Option<&'static str>,
}

/// The attempts of an open exchange. One attempt needs no allocation.
#[derive(Debug, Default)]
pub struct OpenAttempts {
    last: RefCell<Option<OpenAttempt>>,
    /// Those before it, at most [`MOST_KEPT`].
    earlier: RefCell<Vec<OpenAttempt>>,
    count: Cell<u32>,
}

impl OpenAttempts {
    /// Notes that an attempt begins.
    pub fn begin(&self, attempt: OpenAttempt) {
        self.count.set(self.count.get() + 1);
        let Some(before) = self.last.replace(Some(attempt)) else { return };
        let mut earlier = self.earlier.borrow_mut();
        if earlier.len() < MOST_KEPT {
            earlier.push(before);
        }
    }

    /// Changes the last attempt, if there is one.
    pub fn update(&self, change: impl FnOnce(&mut OpenAttempt)) {
        if let Some(last) = &mut *self.last.borrow_mut() {
            change(last);
        }
    }

    /// Makes the attempt of that `number`, from 1, the last one, which runs again.
    pub fn resume(&self, number: u32) {
        let index = (number as usize).saturating_sub(1);
        let mut earlier = self.earlier.borrow_mut();
        if index < earlier.len() {
            let resumed = earlier.remove(index);
            earlier.extend(self.last.replace(Some(resumed)));
        }
        drop(earlier);
        self.update(|attempt| (attempt.end, attempt.result) = (None, None));
    }

    /// Number of attempts, including those that are not kept.
    pub fn count(&self) -> u32 {
        self.count.get()
    }

    /// The kept attempts, in order.
    pub fn list(&self) -> Vec<OpenAttempt> {
        let (earlier, last) = (self.earlier.borrow(), self.last.borrow());
        earlier.iter().chain(&*last).cloned().collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn attempt(key: usize) -> OpenAttempt {
        OpenAttempt {
            upstream: "up".into(),
            target: "http://target".into(),
            key: Some(key),
            start: Instant::now(),
            connect: None,
            head: None,
            end: None,
            status: None,
            result: None,
        }
    }

    #[test]
    fn the_list_is_bounded_and_ends_with_the_attempt_that_runs() {
        let attempts = OpenAttempts::default();
        for key in 1..=40 {
            attempts.begin(attempt(key));
            attempts.update(|attempt| attempt.end = Some(Duration::ZERO));
        }
        attempts.resume(2);
        let kept: Vec<_> = attempts.list().iter().filter_map(|attempt| attempt.key).collect();
        let expected: Vec<_> = [1].into_iter().chain(3..=MOST_KEPT).chain([40, 2]).collect();
        assert_eq!((attempts.count(), kept), (40, expected));
        assert_eq!(attempts.list().last().and_then(|last| last.end), None);
    }
}
