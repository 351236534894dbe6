//! One exchange: a request and its response, from the first header to the last byte, and everything that its log line and its metrics are
//! made of.
//!
//! An [`Exchange`] finishes exactly once: when it is dropped. The part that knows how it ended says so with [`Exchange::conclude`] or
//! [`Exchange::fail`] before that; an exchange that is dropped without a word was left by its client, or cut.

mod attempt;
mod finished;
mod held;
mod load;
mod record;
mod tally;

use std::{cell::RefCell, net::IpAddr, rc::Rc, sync::Arc};

use http::{HeaderMap, Method, StatusCode, Version};

use crate::{
    body::{About, ConnectionState, Cut, ExchangeHandle},
    config::LogFormat,
    fault::{Fault, Outcome},
    telemetry::{ids::TraceContext, metrics::worker::WorkerMetrics, queue::Queue},
};

pub use attempt::{Attempt, Attempts};
pub use finished::Finished;
pub use held::Permit;
pub use load::{Counted, Load};
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

impl AccessLog {
    fn write(&self, finished: &Finished<'_>) {
        thread_local! {
            static BUFFER: RefCell<Vec<u8>> = const { RefCell::new(Vec::new()) };
        }
        let line = finished.line();
        BUFFER.with_borrow_mut(|buffer| {
            buffer.clear();
            match self.format {
                LogFormat::Json => line.write_json(buffer),
                LogFormat::Text => line.write_text(buffer),
            }
            self.queue.push(buffer);
        });
    }

    /// A log whose lines nobody reads.
    #[cfg(test)]
    pub(crate) fn discarding() -> Self {
        let queue = Queue::start(Box::new(std::io::sink()), 1024, LogFormat::Json);
        Self { queue, format: LogFormat::Json }
    }
}

/// One request and its response.
#[derive(Debug)]
pub struct Exchange {
    /// What is known of it so far; written by the part that learns it.
    pub record: Record,
    /// What its response body and the driver of its connection share with it.
    pub handle: Rc<ExchangeHandle>,
    /// Headers that parts of the gateway add to its response.
    pub response_headers: HeaderMap,
    connection: Rc<ConnectionState>,
    log: Option<AccessLog>,
    metrics: Arc<WorkerMetrics>,
    outcome: Option<Outcome>,
    /// What admission granted; as many as limits apply to it.
    held: Vec<Permit>,
    /// Given back last, so that a drain waits for the log line.
    _in_flight: Counted,
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
    /// Begins an exchange on `connection`; its line goes to `log`, if there is one, and it is counted in `metrics`.
    pub fn open(
        opening: Opening,
        connection: &Rc<ConnectionState>,
        log: Option<AccessLog>,
        metrics: Arc<WorkerMetrics>,
        in_flight: Counted,
    ) -> Self {
        let handle = Rc::new(ExchangeHandle::default());
        if let Some(task) = connection.own_task() {
            handle.abort.runs_in(task);
        }
        connection.open(handle.clone());
        let exchange = Self {
            record: Record::new(opening),
            handle,
            response_headers: HeaderMap::new(),
            connection: connection.clone(),
            log,
            metrics,
            outcome: None,
            held: Vec::new(),
            _in_flight: in_flight,
        };
        exchange.introduce();
        exchange
    }

    /// Shows what is known of it to the operator, who may list open exchanges.
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
    pub fn connection(&self) -> &Rc<ConnectionState> {
        &self.connection
    }

    /// Whether no further request can come on its connection, since this one's body is not read to its end: known to hyper only after
    /// it has written the answer's head. (HTTP/2 has streams for that.)
    pub fn is_last(&self) -> bool {
        let unread = self.connection.unread_body() || self.record.upload.is_under_way();
        unread && self.record.version != Version::HTTP_2
    }

    /// Keeps `permit` until the exchange is over.
    pub fn hold(&mut self, permit: Permit) {
        if permit.is_needed() {
            self.held.push(permit);
        }
    }

    /// Notes that an attempt begins.
    pub fn begin_attempt(&mut self, attempt: Attempt) {
        // Both are of the last attempt alone.
        self.record.upstream_request_id = None;
        self.record.first_byte = None;
        self.record.attempts.begin(attempt);
    }

    /// Notes that the head of the attempt's response is there.
    pub fn head_received(&mut self) {
        self.record.first_byte = Some(self.record.start.elapsed());
        self.record.attempts.update(|attempt| attempt.head = Some(attempt.start.elapsed()));
    }

    /// Notes that the client gets the response of the last attempt, of this status.
    pub fn attempt_answered(&mut self, status: StatusCode) {
        self.record.attempts.update(|attempt| {
            attempt.status = Some(status);
            attempt.result = Some(class(status));
        });
        self.count_attempt();
    }

    /// Notes that the last attempt failed with `result`, in the words of the metrics, and what the upstream said of it.
    pub fn attempt_failed(&mut self, result: &'static str, status: Option<StatusCode>, code: Option<&str>) {
        self.record.attempts.update(|attempt| attempt.fail(result, status, code));
        self.count_attempt();
    }

    fn count_attempt(&self) {
        if let Some(attempt) = self.record.attempts.last()
            && let Some(result) = attempt.result
        {
            self.metrics.attempted(&attempt.upstream, Some(&attempt.target), result);
        }
    }

    /// Says how it ended. What is said first stays.
    pub fn conclude(&mut self, outcome: Outcome) {
        self.outcome.get_or_insert(outcome);
    }

    /// Ends it with `fault` in the phase that it is in, and keeps the causes for the log, unless `is_secret` finds a key in them: they may hold
    /// what a peer sent, such as the debug data of HTTP/2's GOAWAY.
    pub fn fail(&mut self, fault: &Fault, is_secret: impl Fn(&[u8]) -> bool) {
        if self.outcome.is_none() {
            let withheld = || "[withheld: holds the key]".to_owned();
            self.record.cause =
                causes(fault).map(|cause| if is_secret(cause.as_bytes()) { withheld() } else { cause });
            self.outcome = Some(fault.outcome(self.handle.status.phase()));
        }
    }

    /// Notes that the head of its response went out before there was a response, and comments after it.
    pub fn answered_early(&mut self) {
        self.record.status.get_or_insert(StatusCode::OK);
        self.record.tally.begin(self.handle.status.given());
    }

    /// How it ended, as far as that was said.
    pub fn outcome(&self) -> Option<Outcome> {
        self.outcome
    }

    /// How an exchange ended that nobody concluded: it was cut, or its client has left.
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
        self.connection.close(&self.handle);
        // What was read on after the caller had left does not change how it ended.
        let left = self.handle.status.left().map(Outcome::left);
        let outcome = left.or(self.outcome).unwrap_or_else(|| self.implied());
        if self.handle.status.is_early() {
            self.answered_early();
        }
        let held = std::mem::take(&mut self.held);
        let finished = Finished { record: &self.record, outcome, total: self.record.start.elapsed() };
        for permit in held {
            permit.settle(&finished);
        }
        self.metrics.finished(finished.sample());
        if let Some(log) = &self.log {
            log.write(&finished);
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
