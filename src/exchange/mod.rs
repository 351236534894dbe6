//! One exchange: a request and its response, from the first header to the last byte, with all data for its access line and its metrics.
//!
//! An [`Exchange`] finishes exactly once: when it is dropped. The part that knows the outcome calls [`Exchange::conclude`] or
//! [`Exchange::fail`] before that. When neither was called, the client left, or the gateway cut the exchange.

mod accounting;
mod attempt;
mod finished;
mod load;
mod queueing;
mod record;
mod request_prices;
mod spans;
mod tally;

use std::{cell::RefCell, net::IpAddr, rc::Rc, sync::Arc, time::Instant};

use http::{HeaderMap, Method, StatusCode, Version};

use crate::{
    body::{About, ConnectionState, Cut, ExchangeHandle},
    config::LogFormat,
    fault::{ErrorForm, Fault, LanguageChoice, Outcome, Phase, Who},
    limit::{Slot, Tightest},
    policy::{Readers, SecretScanner},
    store::StoreWait,
    telemetry::{
        ids::{CallerIds, TraceContext},
        metrics::{sdk::Sdk, worker::WorkerMetrics},
        queue::Queue,
        trace::Tracer,
    },
};

pub use accounting::{Accounting, RequestKind, now};
pub use attempt::{Attempt, Attempts};
pub use finished::Finished;
pub use load::{Counted, Load};
pub use queueing::{QueueResult, QueueWait, Queueing, Server};
pub use record::{Charge, Record};
pub use request_prices::RequestPrices;
pub use tally::{Tally, TunnelTally};

/// Bytes of HTTP/2 frames that belong to no response and may be unacknowledged at its end: a PING (17 bytes), SETTINGS (9), WINDOW_UPDATE (13), of the
/// connection and of the stream.
const CONTROL_FRAMES: u64 = 64;

/// The destination of access lines.
#[derive(Debug, Clone)]
pub struct AccessLog {
    /// The process's queue to stdout.
    pub queue: Queue,
    /// Format of the lines.
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

/// One request and its response. Its fields are in this order (`repr(C)`), so that what a frame touches lies together.
#[derive(Debug)]
#[repr(C)]
pub struct Exchange {
    /// State shared with the response body and the driver of the connection.
    pub handle: Rc<ExchangeHandle>,
    connection: Rc<ConnectionState>,
    /// Events of the response at which it is charged for what it has used so far.
    charge_at: u64,
    /// The record of the exchange so far; each part of the gateway writes the fields that it learns.
    pub record: Record,
    /// Headers that parts of the gateway add to the response.
    pub response_headers: HeaderMap,
    /// What is left of the limits of the request, for the headers of the response; `None` where no limit applies.
    pub limits_left: Option<Box<Tightest>>,
    /// Finds the secrets that this exchange alone has to do with, and the keys of all upstreams.
    pub secrets: Option<Arc<SecretScanner<'static>>>,
    /// Who may read the response; `None`: the route does not decide about web pages.
    pub readers: Option<Box<Readers>>,
    log: Option<AccessLog>,
    metrics: Arc<WorkerMetrics>,
    /// Exports the exchange as a trace; `None`: nothing is exported.
    tracer: Option<Arc<Tracer>>,
    outcome: Option<Outcome>,
    is_preflight: bool,
    /// What limits have granted; `None` where no limit applies.
    accounting: Option<Box<Accounting>>,
    /// How long it has waited for the shared store.
    store_wait: StoreWait,
    /// Its place among the requests in flight, where they are bounded.
    slot: Option<Slot>,
    /// Released last, so that a drain waits for the access line.
    _in_flight: Counted,
}

/// The facts known when a request head has arrived.
#[derive(Debug)]
pub struct Opening {
    /// The client's address.
    pub client: IpAddr,
    /// Whether the client's connection uses TLS.
    pub tls: bool,
    /// The trace context of the request.
    pub trace: TraceContext,
    /// The ids that the client has given the request itself.
    pub caller_ids: Option<Box<CallerIds>>,
    /// The request's HTTP version.
    pub version: Version,
    /// The request's method.
    pub method: Method,
    /// The request's path as received.
    pub path: String,
    /// The form of the gateway's own errors for this client.
    pub error_form: ErrorForm,
    /// The languages of the gateway's own errors for this client.
    pub languages: LanguageChoice,
    /// The client's SDK.
    pub sdk: Sdk,
}

impl Exchange {
    /// Begins an exchange on `connection`. Its access line is written to `log`, if there is one, and it is counted in `metrics`.
    pub fn open(
        opening: Opening,
        connection: &Rc<ConnectionState>,
        log: Option<AccessLog>,
        metrics: Arc<WorkerMetrics>,
        in_flight: Counted,
    ) -> Box<Self> {
        let handle = Rc::new(ExchangeHandle::default());
        if let Some(task) = connection.own_task() {
            handle.abort.runs_in(task);
        }
        connection.open(handle.clone());
        let exchange = Box::new(Self {
            record: Record::new(opening),
            handle,
            response_headers: HeaderMap::new(),
            limits_left: None,
            secrets: None,
            readers: None,
            connection: connection.clone(),
            log,
            metrics,
            tracer: None,
            outcome: None,
            is_preflight: false,
            accounting: None,
            store_wait: StoreWait::default(),
            slot: None,
            charge_at: u64::MAX,
            _in_flight: in_flight,
        });
        let (request_id, start) = (exchange.record.request_id, exchange.record.start);
        exchange.handle.status.introduce(About { request_id, start, caller: None, route: None });
        exchange
    }

    /// Publishes the client and the route of the exchange for the operator's list of open exchanges.
    pub fn introduce(&self) {
        let record = &self.record;
        let caller = record.caller.as_ref().map(|caller| caller.name.clone());
        self.handle.status.belongs_to(caller, record.route.clone());
    }

    /// The downstream connection of the exchange.
    pub fn connection(&self) -> &Rc<ConnectionState> {
        &self.connection
    }

    /// The metrics in which the exchange is counted.
    pub fn metrics(&self) -> &Arc<WorkerMetrics> {
        &self.metrics
    }

    /// Whether the connection cannot carry another request, because the body of this one is not read to its end. hyper knows this only after
    /// it has written the response head. (Always false on HTTP/2, which has streams.)
    pub fn is_last(&self) -> bool {
        let unread = self.connection.unread_body() || self.record.upload.is_under_way();
        unread && self.record.version != Version::HTTP_2
    }

    /// Has the exchange exported as a trace.
    pub fn trace_with(&mut self, tracer: &Arc<Tracer>) {
        self.tracer = Some(tracer.clone());
    }

    /// Whether the exchange may be exported as a trace, in which each attempt is a span.
    pub fn is_traced(&self) -> bool {
        self.tracer.is_some()
    }

    /// Holds its place among the requests in flight until the exchange is over.
    pub fn hold_slot(&mut self, slot: Slot) {
        self.slot = Some(slot);
    }

    /// Opens the exchange's account with the limits that apply to it, which is settled when the exchange is over.
    pub fn open_account(&mut self, accounting: Accounting) {
        self.charge_at = accounting.step();
        self.accounting = Some(Box::new(accounting));
    }

    /// The account with limits, if any apply.
    pub fn accounting(&mut self) -> Option<&mut Accounting> {
        self.accounting.as_deref_mut()
    }

    /// How long it has waited for the shared store.
    pub fn store_wait(&mut self) -> &mut StoreWait {
        &mut self.store_wait
    }

    /// The account with limits, to be looked at.
    pub fn account(&self) -> Option<&Accounting> {
        self.accounting.as_deref()
    }

    /// Charges a stream of which so many `events` have passed, if its next charge is due.
    pub fn events_passed(&mut self, events: u64) {
        if events >= self.charge_at {
            self.charge(events);
        }
    }

    #[cold]
    fn charge(&mut self, events: u64) {
        let Some(accounting) = &mut self.accounting else { return };
        accounting.charge_events(events);
        self.charge_at = events.saturating_add(accounting.step());
    }

    /// Notes that an attempt begins.
    pub fn begin_attempt(&mut self, attempt: Attempt) -> Instant {
        // Both fields describe only the last attempt.
        self.record.upstream_request_id = None;
        self.record.first_byte = None;
        let start = attempt.start;
        if self.record.attempts.count() == 0 {
            let waited = self.record.upload.waited() + self.handle.status.waited();
            let since = start.saturating_duration_since(self.record.start);
            self.record.overhead = Some(since.saturating_sub(waited));
        }
        self.handle.attempts.begin(attempt.shown());
        self.record.attempts.begin(attempt);
        start
    }

    /// Notes that the response head of the attempt has arrived.
    pub fn head_received(&mut self, status: StatusCode) {
        let now = Instant::now();
        self.record.first_byte = Some(now.saturating_duration_since(self.record.start));
        self.record.attempts.update(|attempt| {
            attempt.head = Some(now.saturating_duration_since(attempt.start));
            attempt.status = Some(status);
        });
        self.show_attempt();
    }

    /// Notes that the response of the last attempt, with this status, goes to the client.
    pub fn attempt_answered(&mut self, status: StatusCode) {
        self.record.attempts.update(|attempt| attempt.result = Some(class(status)));
        self.count_attempt();
    }

    /// Notes that the last attempt failed: `result` is the metrics' label value, `code` is the provider's, if it sent one.
    pub fn attempt_failed(&mut self, result: &'static str, code: Option<&str>) {
        self.record.attempts.update(|attempt| attempt.fail(result, code));
        self.show_attempt();
        self.count_attempt();
    }

    /// Notes that the response of the last attempt was judged as soon as its head was here, which adds to the overhead.
    pub fn judged_at_once(&mut self) {
        let Some(head) = self.record.first_byte else { return };
        let since = self.record.start.elapsed().saturating_sub(head);
        self.record.overhead = self.record.overhead.map(|before| before + since);
    }

    /// Notes that the attempt of that `number`, from 1, which was late, is the last one again.
    pub fn resume_attempt(&mut self, number: u32) {
        self.record.upstream_request_id = None;
        self.record.first_byte = None;
        self.record.attempts.resume(number);
        self.handle.attempts.resume(number);
        self.handle.status.enter(Phase::FirstByte);
    }

    /// Shows operators what has become of the last attempt.
    fn show_attempt(&self) {
        let Some(last) = self.record.attempts.last() else { return };
        self.handle.attempts.update(|shown| {
            (shown.connect, shown.head, shown.end) = (last.connect, last.head, last.end);
            (shown.status, shown.result) = (last.status.map(|status| status.as_u16()), last.result);
        });
    }

    /// Counts the last attempt. One that was resumed stays counted with its first result.
    fn count_attempt(&mut self) {
        let metrics = &self.metrics;
        self.record.attempts.update(|attempt| {
            let Some(result) = attempt.result.filter(|_| !attempt.counted) else { return };
            attempt.counted = true;
            metrics.attempted(&attempt.upstream, Some(&attempt.target), result);
        });
    }

    /// Notes that the exchange is a preflight request, which a browser sends before the request of a page. It is counted apart, and has no access
    /// line: the request behind it has one.
    pub fn mark_preflight(&mut self) {
        self.is_preflight = true;
    }

    /// Sets the outcome. Only the first outcome is kept.
    pub fn conclude(&mut self, outcome: Outcome) {
        self.outcome.get_or_insert(outcome);
    }

    /// Ends the exchange with `fault` in its current phase, and keeps the causes for the log unless `is_secret` finds a key in them. Causes may
    /// contain bytes sent by a peer, such as the debug data of HTTP/2's GOAWAY.
    pub fn fail(&mut self, fault: &Fault, is_secret: impl Fn(&[u8]) -> bool) {
        if self.outcome.is_none() {
            let own = self.secrets.as_deref();
            let is_secret = |text: &[u8]| is_secret(text) || own.is_some_and(|own| own.found_in(text));
            let withheld = || "[withheld: holds the key]".to_owned();
            self.record.cause =
                causes(fault).map(|cause| if is_secret(cause.as_bytes()) { withheld() } else { cause });
            self.outcome = Some(fault.outcome(self.handle.status.phase()));
        }
    }

    /// Notes that the response head, and comments after it, were sent before there was a response.
    pub fn answered_early(&mut self) {
        self.record.status.get_or_insert(StatusCode::OK);
    }

    /// The outcome, if it has been set.
    pub fn outcome(&self) -> Option<Outcome> {
        self.outcome
    }

    /// Number of bytes of the response that were written and that the client's kernel has not acknowledged. 0 if other streams of an HTTP/2
    /// connection are open, since nobody knows whose bytes these are.
    fn untaken(&self) -> u64 {
        let is_shared = self.connection.busy();
        let untaken = self.connection.sent().filter(|_| !is_shared).map_or(0, |sent| sent.untaken);
        let is_http2 = self.record.version == Version::HTTP_2;
        if is_http2 { untaken.saturating_sub(CONTROL_FRAMES) } else { untaken }
    }

    /// The outcome of an exchange without a set outcome: the gateway cut it, or its client left.
    fn implied(&self) -> Outcome {
        let phase = self.handle.status.phase();
        match self.handle.abort.cause() {
            Some(Cut::WriteStall) => Fault::CallerStalled.outcome(phase),
            Some(Cut::Drain) => Fault::CutByDrain.outcome(phase),
            Some(Cut::Revoked) => Fault::KeyRevoked.outcome(phase),
            Some(Cut::Operator) => Fault::CutByOperator.outcome(phase),
            Some(Cut::Total) => Fault::TotalTimeout(self.record.start.elapsed()).outcome(phase),
            None => Outcome::left(phase),
        }
    }
}

impl Drop for Exchange {
    fn drop(&mut self) {
        self.connection.close(&self.handle);
        // The part of the response read after the client left does not change the outcome.
        let left = self.handle.status.left().map(Outcome::left);
        let outcome = left.or(self.outcome).unwrap_or_else(|| self.implied());
        // What was not written was not delivered. Unless the client ended the response, its last bytes are about to be written.
        let progress = &self.handle.progress;
        let ended_by_client = outcome.who == Who::Downstream && outcome.phase == Phase::Stream;
        let lost = if ended_by_client { progress.unwritten() + self.untaken() } else { progress.discarded() };
        if self.handle.status.is_early() {
            self.answered_early();
        }
        if self.record.tunnel.is_none() {
            self.record.tally.count(&self.handle.status);
        }
        self.record.tally.not_written(lost);
        let total = self.record.start.elapsed();
        let accounting = self.accounting.take();
        if let Some(queueing) = &self.record.queueing {
            queueing.settle(&Finished { record: &self.record, outcome, total }, accounting.is_some());
        }
        if let Some(accounting) = accounting {
            self.record.charge = accounting.settle(&Finished { record: &self.record, outcome, total });
        }
        let finished = Finished { record: &self.record, outcome, total };
        if self.is_preflight {
            return self.metrics.preflight(self.record.route.as_ref());
        }
        let is_recorded = match &self.tracer {
            Some(tracer) => finished.export(tracer),
            None => self.record.trace.is_recorded_by_client(),
        };
        self.metrics.finished(&finished.sample(is_recorded));
        let history = &self.metrics.history;
        if history.is_on() {
            let went_wrong = finished.went_wrong();
            if went_wrong || history.keeps_all() {
                finished.keep(history, went_wrong);
            }
        }
        if let Some(log) = &self.log {
            log.write(&finished);
        }
    }
}

/// Returns the class of a status, for metrics.
pub fn class(status: StatusCode) -> &'static str {
    match status.as_u16() {
        100..200 => "1xx",
        200..300 => "2xx",
        300..400 => "3xx",
        400..500 => "4xx",
        _ => "5xx",
    }
}

/// Limit in bytes of a fault's causes in the log.
const CAUSES_KEPT: usize = 512;

/// Formats the chain of causes of `fault` as one line.
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
