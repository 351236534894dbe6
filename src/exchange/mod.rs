//! One exchange: a request and its response, from the first header to the last byte, with the data for its log line and its metrics.
//!
//! An [`Exchange`] finishes exactly once: when it is dropped. The code that knows the outcome sets it before that with
//! [`Exchange::conclude`] or [`Exchange::fail`]. If no outcome was set, the client disconnected or the gateway cut the exchange.

mod attempt;
mod finished;
mod permit;
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
pub use permit::Permit;
pub use load::{Counted, Load};
pub use record::Record;
pub use tally::Tally;

/// The destination of access lines.
#[derive(Debug, Clone)]
pub struct AccessLog {
    /// The process's queue to stdout.
    pub queue: Queue,
    /// The format of the lines.
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

    /// Creates a log that discards its lines.
    #[cfg(test)]
    pub(crate) fn discarding() -> Self {
        let queue = Queue::start(Box::new(std::io::sink()), 1024, LogFormat::Json);
        Self { queue, format: LogFormat::Json }
    }
}

/// One request and its response.
#[derive(Debug)]
pub struct Exchange {
    /// The data known so far, written by the code that learns it.
    pub record: Record,
    /// The state shared with the response body and the driver of the connection.
    pub handle: Rc<ExchangeHandle>,
    /// Headers that the gateway adds to the response.
    pub response_headers: HeaderMap,
    connection: Rc<ConnectionState>,
    log: Option<AccessLog>,
    metrics: Arc<WorkerMetrics>,
    outcome: Option<Outcome>,
    /// The permits of its admission; at most one per limit that applies.
    permits: Vec<Permit>,
    /// Released last, so that a drain waits for the log line.
    _in_flight: Counted,
}

/// The data of a request that is known once its head has arrived.
#[derive(Debug)]
pub struct Opening {
    /// The client's address.
    pub client: IpAddr,
    /// Whether the client's connection uses TLS.
    pub tls: bool,
    /// The trace that the request belongs to.
    pub trace: TraceContext,
    /// The HTTP version.
    pub version: Version,
    /// The request method.
    pub method: Method,
    /// The request path as it was received.
    pub path: String,
}

impl Exchange {
    /// Begins an exchange on `connection`. At its end it writes a line to `log`, if there is one, and is counted in `metrics`.
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
            permits: Vec::new(),
            _in_flight: in_flight,
        };
        exchange.introduce();
        exchange
    }

    /// Publishes the identity of the exchange, for the list of open exchanges.
    pub fn introduce(&self) {
        let record = &self.record;
        self.handle.status.introduce(About {
            request_id: record.request_id,
            start: record.start,
            caller: record.caller.as_ref().map(|caller| caller.name.clone()),
            route: record.route.clone(),
        });
    }

    /// Returns the client's connection.
    pub fn connection(&self) -> &Rc<ConnectionState> {
        &self.connection
    }

    /// Returns whether this is the last exchange on its HTTP/1.1 connection, because the request body is not read to its end. hyper notices
    /// that only after it has written the response head. On HTTP/2 only the stream ends.
    pub fn is_last(&self) -> bool {
        let unread = self.connection.unread_body() || self.record.upload.is_under_way();
        unread && self.record.version != Version::HTTP_2
    }

    /// Holds `permit` until the end of the exchange.
    pub fn hold(&mut self, permit: Permit) {
        if permit.is_needed() {
            self.permits.push(permit);
        }
    }

    /// Records the start of an attempt.
    pub fn begin_attempt(&mut self, attempt: Attempt) {
        // Both describe the last attempt only.
        self.record.upstream_request_id = None;
        self.record.first_byte = None;
        self.record.attempts.begin(attempt);
    }

    /// Records that the response head of the current attempt arrived.
    pub fn head_received(&mut self) {
        self.record.first_byte = Some(self.record.start.elapsed());
        self.record.attempts.update(|attempt| attempt.head = Some(attempt.start.elapsed()));
    }

    /// Records that the client gets the response of the last attempt, which has this status.
    pub fn attempt_succeeded(&mut self, status: StatusCode) {
        self.record.attempts.update(|attempt| {
            attempt.status = Some(status);
            attempt.result = Some(class(status));
        });
        self.count_attempt();
    }

    /// Records that the last attempt failed. `result` is its label in the metrics; `status` and `code` are what the upstream sent, if
    /// anything.
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

    /// Sets the outcome of the exchange. The first outcome wins.
    pub fn conclude(&mut self, outcome: Outcome) {
        self.outcome.get_or_insert(outcome);
    }

    /// Sets `fault` in the current phase as the outcome, and keeps its causes for the log. Causes in which `is_secret` finds a key are
    /// withheld: they may contain what a peer sent, such as the debug data of an HTTP/2 GOAWAY frame. The first outcome wins.
    pub fn fail(&mut self, fault: &Fault, is_secret: impl Fn(&[u8]) -> bool) {
        if self.outcome.is_none() {
            let withheld = || "[withheld: holds the key]".to_owned();
            self.record.cause =
                causes(fault).map(|cause| if is_secret(cause.as_bytes()) { withheld() } else { cause });
            self.outcome = Some(fault.outcome(self.handle.status.phase()));
        }
    }

    /// Records that a response head, and comments after it, were sent before the upstream responded.
    pub fn committed_early(&mut self) {
        self.record.status.get_or_insert(StatusCode::OK);
        self.record.tally.begin(self.handle.status.handed_over());
    }

    /// Returns the outcome, if it was set.
    pub fn outcome(&self) -> Option<Outcome> {
        self.outcome
    }

    /// Returns the outcome of an exchange for which none was set: the gateway cut it, or the client disconnected.
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
        // A client that disconnected determines the outcome, even if the rest of the response was read after that.
        let left = self.handle.status.left().map(Outcome::left);
        let outcome = left.or(self.outcome).unwrap_or_else(|| self.implied());
        if self.handle.status.is_early() {
            self.committed_early();
        }
        let permits = std::mem::take(&mut self.permits);
        let finished = Finished { record: &self.record, outcome, total: self.record.start.elapsed() };
        for permit in permits {
            permit.settle(&finished);
        }
        self.metrics.finished(finished.sample());
        if let Some(log) = &self.log {
            log.write(&finished);
        }
    }
}

/// Returns the class of a status, such as `2xx`, for metrics.
pub fn class(status: StatusCode) -> &'static str {
    match status.as_u16() {
        100..200 => "1xx",
        200..300 => "2xx",
        300..400 => "3xx",
        400..500 => "4xx",
        _ => "5xx",
    }
}

/// The size, in bytes, from which on no further cause of a fault is added to the log.
const CAUSES_KEPT: usize = 512;

/// Joins the causes of `fault` into one line.
fn causes(fault: &Fault) -> Option<String> {
    let mut cause = std::error::Error::source(fault)?;
    let mut line = cause.to_string();
    while let Some(deeper) = cause.source()
        && line.len() < CAUSES_KEPT
    {
        line.push_str(": ");
        line.push_str(&deeper.to_string());
        cause = deeper;
    }
    Some(line)
}
