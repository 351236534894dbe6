//! Whether a collector takes what it is sent, in a few log lines.

use std::time::{Duration, Instant};

use super::send::Sent;
use crate::telemetry::trace::Receipt;

/// Two lines about the same collector are so far apart at least, however often it changes.
const BETWEEN_LINES: Duration = Duration::from_secs(10);

/// The state of exports of one kind, as far as the log says it.
#[derive(Debug)]
pub(super) struct Health {
    /// What is exported, for the log.
    kind: &'static str,
    url: String,
    logged_failing: bool,
    last_line: Option<Instant>,
}

impl Health {
    pub(super) fn new(kind: &'static str, url: String) -> Self {
        Self { kind, url, logged_failing: false, last_line: None }
    }

    /// Notes what became of a request.
    pub(super) fn judge(&mut self, sent: &Sent) {
        match sent.receipt {
            Receipt::Taken { .. } => self.good(),
            Receipt::Later(_) | Receipt::Refused => self.bad(&sent.why),
        }
    }

    /// The collector has taken something.
    fn good(&mut self) {
        if self.changes_to(false) {
            let Self { kind, url, .. } = self;
            tracing::info!(%url, "OTLP export of {kind} works again");
        }
    }

    /// The collector has not taken something, because of this.
    fn bad(&mut self, why: &str) {
        if self.changes_to(true) {
            let Self { kind, url, .. } = self;
            tracing::warn!(%url, error = why, "OTLP export of {kind} fails; requests are not affected");
        }
    }

    /// Whether the log has to say that it is so now.
    fn changes_to(&mut self, failing: bool) -> bool {
        let is_soon = self.last_line.is_some_and(|last| last.elapsed() < BETWEEN_LINES);
        if self.logged_failing == failing || is_soon {
            return false;
        }
        self.logged_failing = failing;
        self.last_line = Some(Instant::now());
        true
    }
}
