//! How long one request waits for the store, over all of its calls.

use std::time::Duration;

/// The time that one request has waited for the store. All of its calls together may take the timeout of one.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct StoreWait {
    /// `OVER`: a call has not been answered in time.
    micros: u32,
}

const OVER: u32 = u32::MAX;

impl StoreWait {
    /// What is left of `timeout`; `None`: nothing, and the request asks no more.
    pub fn left(self, timeout: Duration) -> Option<Duration> {
        if self.is_over() {
            return None;
        }
        let waited = Duration::from_micros(self.micros.into());
        timeout.checked_sub(waited).filter(|left| !left.is_zero())
    }

    /// Whether a call of this request has not been answered in time.
    pub fn is_over(self) -> bool {
        self.micros == OVER
    }

    /// Notes that a call was answered after so long.
    pub fn answered(&mut self, after: Duration) {
        if self.is_over() {
            return;
        }
        let micros = u32::try_from(after.as_micros()).unwrap_or(OVER - 1);
        self.micros = self.micros.saturating_add(micros).min(OVER - 1);
    }

    /// Notes that a call was not answered in time.
    pub fn is_late(&mut self) {
        self.micros = OVER;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const TIMEOUT: Duration = Duration::from_millis(40);

    #[test]
    fn calls_of_one_request_share_the_timeout() {
        let mut wait = StoreWait::default();
        assert_eq!(wait.left(TIMEOUT), Some(TIMEOUT));
        wait.answered(Duration::from_millis(30));
        assert_eq!(wait.left(TIMEOUT), Some(Duration::from_millis(10)));
        wait.answered(Duration::from_millis(10));
        assert_eq!((wait.left(TIMEOUT), wait.is_over()), (None, false));
        wait.answered(Duration::from_secs(100_000));
        assert_eq!((wait.left(TIMEOUT), wait.is_over()), (None, false));
    }

    #[test]
    fn nothing_is_left_after_a_call_without_an_answer() {
        let mut wait = StoreWait::default();
        wait.is_late();
        assert_eq!(wait.left(TIMEOUT), None);
        wait.answered(Duration::ZERO);
        assert!(wait.is_over() && wait.left(TIMEOUT).is_none());
    }
}
