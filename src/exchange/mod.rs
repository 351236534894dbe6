//! One exchange's record: everything that its log line and its metrics are made of, from the first header to the last byte.
//!
//! An [`Exchange`] finishes exactly once: when it is dropped. Whoever knows how it ended says so with
//! [`Exchange::conclude`] before; an exchange that is dropped without that was left by its caller, or cut.

mod record;
mod tally;

use std::{net::IpAddr, rc::Rc, sync::Arc};

use http::{Method, StatusCode, Version};

use crate::{
    body::{About, ConnectionState, Cut, ExchangeHandle},
    config::LogFormat,
    fault::{Fault, Outcome},
    telemetry::{ids::TraceContext, metrics::worker::WorkerMetrics, queue::Queue},
};

pub use record::Record;
pub use tally::Tally;

/// Where access lines go.
#[derive(Debug, Clone)]
pub struct AccessLog {
    /// The process' queue to stdout.
    pub queue: Queue,
    /// How lines are written.
    pub format: LogFormat,
}

#[cfg(test)]
impl AccessLog {
    /// One whose lines nobody reads.
    pub(crate) fn discarding() -> Self {
        let queue = Queue::start(Box::new(std::io::sink()), 1024, LogFormat::Json);
        Self { queue, format: LogFormat::Json }
    }
}

/// One request and its answer.
#[derive(Debug)]
pub struct Exchange {
    /// What is known of it so far; written by whoever learns it.
    pub record: Record,
    /// Its abort handle.
    pub handle: Rc<ExchangeHandle>,
    link: Rc<ConnectionState>,
    log: Option<AccessLog>,
    stripe: Arc<WorkerMetrics>,
    outcome: Option<Outcome>,
}

/// What is known when a request's head is there.
#[derive(Debug)]
pub struct Opening {
    /// The caller's address.
    pub client: IpAddr,
    /// Whether its connection is TLS.
    pub tls: bool,
    /// The request's id of its trace.
    pub trace: TraceContext,
    /// Its version.
    pub version: Version,
    /// Its method.
    pub method: Method,
    /// Its path as it came.
    pub path: String,
}

impl Exchange {
    /// Begins an exchange on `link`; its line goes to `log`, if there is one, and it is counted in `stripe`.
    pub fn open(
        opening: Opening,
        link: &Rc<ConnectionState>,
        log: Option<AccessLog>,
        stripe: Arc<WorkerMetrics>,
    ) -> Self {
        let handle = Rc::new(ExchangeHandle::default());
        if let Some(task) = link.own_task() {
            handle.abort.runs_in(task);
        }
        link.open(handle.clone());
        let exchange =
            Self { record: Record::new(opening), handle, link: link.clone(), log, stripe, outcome: None };
        exchange.introduce();
        exchange
    }

    /// Shows what is known of it to those who list open exchanges.
    pub fn introduce(&self) {
        let record = &self.record;
        self.handle.status.introduce(About {
            request_id: record.request_id,
            start: record.start,
            caller: record.caller.as_ref().map(|caller| caller.name.clone()),
            route: record.route.clone(),
        });
    }

    /// The connection that it is on.
    pub fn link(&self) -> &Rc<ConnectionState> {
        &self.link
    }

    /// Whether no further request can come on its connection, since this one's body is not read to its end: known to hyper only after
    /// it has written the answer's head. (HTTP/2 has streams for that.)
    pub fn is_last(&self) -> bool {
        let unread = self.link.unread_body() || self.record.upload.is_under_way();
        unread && self.record.version != Version::HTTP_2
    }

    /// An attempt at its upstream came to this.
    pub fn attempted(&self, result: &'static str) {
        if let Some(upstream) = &self.record.upstream {
            self.stripe.attempted(upstream, self.record.target.as_ref(), result);
        }
    }

    /// Says how it ended. What was said first stays.
    pub fn conclude(&mut self, outcome: Outcome) {
        self.outcome.get_or_insert(outcome);
    }

    /// Ends it with `fault` in the phase that it is in, keeping what lies beneath for the log, unless `is_secret` finds a key in it:
    /// causes may hold what a peer said, such as the debug data of HTTP/2's GOAWAY.
    pub fn fail(&mut self, fault: &Fault, is_secret: impl Fn(&[u8]) -> bool) {
        if self.outcome.is_none() {
            let withheld = || "[withheld: holds the key]".to_owned();
            self.record.cause =
                causes(fault).map(|cause| if is_secret(cause.as_bytes()) { withheld() } else { cause });
            self.outcome = Some(fault.outcome(self.handle.status.phase()));
        }
    }

    /// The head of its answer went out before there was one, and comments after it.
    pub fn answered_early(&mut self) {
        self.record.status.get_or_insert(StatusCode::OK);
        self.record.tally.begin(self.handle.status.given());
    }

    /// How it ended, as far as that was said.
    pub fn outcome(&self) -> Option<Outcome> {
        self.outcome
    }

    /// An exchange that nobody concluded was cut, or its caller has left.
    fn implied(&self) -> Outcome {
        let phase = self.handle.status.phase();
        match self.handle.abort.cause() {
            Some(Cut::WriteStall) => Fault::CallerStalled.outcome(phase),
            Some(Cut::Drain) => Fault::CutByDrain.outcome(phase),
            Some(Cut::Total) => Fault::TotalTimeout(self.record.start.elapsed()).outcome(phase),
            None => Outcome::left(phase),
        }
    }
}

impl Drop for Exchange {
    fn drop(&mut self) {
        self.link.close(&self.handle);
        // What was read on after the caller had left does not change how it ended.
        let left = self.handle.status.left().map(Outcome::left);
        let outcome = left.or(self.outcome).unwrap_or_else(|| self.implied());
        if self.handle.status.is_early() {
            self.answered_early();
        }
        self.stripe.finished(self.record.finished(outcome));
        if let Some(log) = &self.log {
            self.record.log(log, outcome);
        }
    }
}

/// The class of a status, for metrics.
pub fn class(status: StatusCode) -> &'static str {
    match status.as_u16() {
        100..200 => "1xx",
        200..300 => "2xx",
        300..400 => "3xx",
        400..500 => "4xx",
        _ => "5xx",
    }
}

/// Most bytes of a fault's causes that are kept for the log.
const CAUSES_KEPT: usize = 512;

/// The chain of causes beneath `fault`, as one line.
fn causes(fault: &Fault) -> Option<String> {
    let mut beneath = std::error::Error::source(fault)?;
    let mut line = beneath.to_string();
    while let Some(deeper) = beneath.source()
        && line.len() < CAUSES_KEPT
    {
        line.push_str(": ");
        line.push_str(&deeper.to_string());
        beneath = deeper;
    }
    Some(line)
}
