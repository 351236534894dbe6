//! One exchange's record: everything that its log line and its metrics are made of, from the first header to the last byte.
//!
//! An [`Exchange`] finishes exactly once: when it is dropped. Whoever knows how it ended says so with
//! [`Exchange::conclude`] before; an exchange that is dropped without that was left by its caller, or cut.

use std::{
    cell::RefCell,
    net::IpAddr,
    rc::Rc,
    sync::Arc,
    time::{Duration, Instant, SystemTime},
};

use http::{Method, StatusCode, Version};

use crate::{
    access::Caller,
    body::{About, Cut, Link, UploadTally, Watch},
    config::LogFormat,
    fault::{Fault, Outcome},
    openai::{Endpoint, FinishReason, Reading},
    telemetry::{
        access::Line,
        ids::{RequestId, TraceContext},
        metrics::{
            histogram::Histogram,
            stripe::{Ending, Finished, Stripe, Tokens},
        },
        queue::Queue,
    },
};

/// Longest path that is kept for the log, in bytes.
const PATH_KEPT: usize = 1024;

/// Where access lines go.
#[derive(Debug, Clone)]
pub struct AccessLog {
    /// The process' queue to stdout.
    pub queue: Queue,
    /// How lines are written.
    pub format: LogFormat,
}

/// One request and its answer.
#[derive(Debug)]
pub struct Exchange {
    /// What is known of it so far; written by whoever learns it.
    pub record: Record,
    /// Its abort handle.
    pub watch: Rc<Watch>,
    link: Rc<Link>,
    log: Option<AccessLog>,
    stripe: Arc<Stripe>,
    outcome: Option<Outcome>,
}

/// What is known of an exchange.
#[derive(Debug)]
pub struct Record {
    /// When it began, for people.
    pub time: SystemTime,
    /// When it began, for clocks.
    pub start: Instant,
    /// Ours.
    pub request_id: RequestId,
    /// The caller's, or begun here.
    pub trace: TraceContext,
    /// The upstream's own id of the request.
    pub upstream_request_id: Option<String>,
    /// The caller's address.
    pub client: IpAddr,
    /// Who asks.
    pub caller: Option<Arc<Caller>>,
    /// `[route.NAME]`
    pub route: Option<Arc<str>>,
    /// `[upstream.NAME]`
    pub upstream: Option<Arc<str>>,
    /// The target's base URL.
    pub target: Option<Arc<str>>,
    /// Between the caller and us.
    pub version: Version,
    /// Whether the caller's connection is TLS.
    pub tls: bool,
    /// The request's method.
    pub method: Method,
    /// The request's path, at most 1 KiB of it.
    pub path: String,
    /// Which API operation it is.
    pub endpoint: Endpoint,
    /// The model asked for.
    pub model: Option<String>,
    /// Whether a stream was asked for.
    pub stream: Option<bool>,
    /// What the caller was answered with.
    pub status: Option<StatusCode>,
    /// How often an upstream was asked.
    pub attempts: u32,
    /// The answer tells how often, and whom.
    pub attempt_headers: bool,
    /// The attempts of which nothing came, as `target code`, separated by commas.
    pub tried: String,
    /// Whether the upstream connection had been used before.
    pub reused: Option<bool>,
    /// How long the upstream connection took.
    pub connect: Option<Duration>,
    /// From the start to the upstream's response head.
    pub first_byte: Option<Duration>,
    /// From the start to the first content of a stream.
    pub first_token: Option<Duration>,
    /// The request's body.
    pub upload: Rc<UploadTally>,
    /// The answer's body, as it went to the caller.
    pub tally: Tally,
    /// What the answer told of itself.
    pub reading: Reading,
    /// What lies beneath the fault, for the operator.
    pub cause: Option<String>,
}

/// What is measured of an answer's body.
#[derive(Debug, Default, Clone, Copy)]
pub struct Tally {
    /// Bytes handed to the caller's connection.
    pub bytes: u64,
    /// Data frames.
    pub frames: u64,
    /// SSE events; `None` where the answer is not a stream of them.
    pub events: Option<u64>,
    /// The longest time between two frames.
    pub max_gap: Option<Duration>,
    gaps: Histogram,
    last: Option<Instant>,
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
    pub fn open(opening: Opening, link: &Rc<Link>, log: Option<AccessLog>, stripe: Arc<Stripe>) -> Self {
        let watch = Rc::new(Watch::default());
        if let Some(task) = link.own_task() {
            watch.runs_in(task);
        }
        link.open(watch.clone());
        let exchange =
            Self { record: Record::new(opening), watch, link: link.clone(), log, stripe, outcome: None };
        exchange.introduce();
        exchange
    }

    /// Shows what is known of it to those who list open exchanges.
    pub fn introduce(&self) {
        let record = &self.record;
        self.watch.introduce(About {
            request_id: record.request_id,
            start: record.start,
            caller: record.caller.as_ref().map(|caller| caller.name.clone()),
            route: record.route.clone(),
        });
    }

    /// The connection that it is on.
    pub fn link(&self) -> &Rc<Link> {
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
            self.outcome = Some(fault.outcome(self.watch.phase()));
        }
    }

    /// The head of its answer went out before there was one, and comments after it.
    pub fn answered_early(&mut self) {
        self.record.status.get_or_insert(StatusCode::OK);
        self.record.tally.begin(self.watch.given());
    }

    /// How it ended, as far as that was said.
    pub fn outcome(&self) -> Option<Outcome> {
        self.outcome
    }

    /// An exchange that nobody concluded was cut, or its caller has left.
    fn implied(&self) -> Outcome {
        let phase = self.watch.phase();
        match self.watch.cut() {
            Some(Cut::WriteStall) => Fault::CallerStalled.outcome(phase),
            Some(Cut::Drain) => Fault::CutByDrain.outcome(phase),
            Some(Cut::Total) => Fault::TotalTimeout(self.record.start.elapsed()).outcome(phase),
            None => Outcome::left(phase),
        }
    }
}

impl Drop for Exchange {
    fn drop(&mut self) {
        self.link.close(&self.watch);
        // What was read on after the caller had left does not change how it ended.
        let left = self.watch.left().map(Outcome::left);
        let outcome = left.or(self.outcome).unwrap_or_else(|| self.implied());
        if self.watch.is_early() {
            self.answered_early();
        }
        self.stripe.finished(self.record.finished(outcome));
        if let Some(log) = &self.log {
            self.record.log(log, outcome);
        }
    }
}

impl Record {
    fn new(opening: Opening) -> Self {
        let mut path = opening.path;
        if path.len() > PATH_KEPT {
            let end = (0..=PATH_KEPT).rev().find(|at| path.is_char_boundary(*at)).unwrap_or(0);
            path.truncate(end);
        }
        Self {
            time: SystemTime::now(),
            start: Instant::now(),
            request_id: RequestId::random(),
            trace: opening.trace,
            upstream_request_id: None,
            client: opening.client,
            caller: None,
            route: None,
            upstream: None,
            target: None,
            version: opening.version,
            tls: opening.tls,
            method: opening.method,
            path,
            endpoint: Endpoint::Other,
            model: None,
            stream: None,
            status: None,
            attempts: 0,
            attempt_headers: false,
            tried: String::new(),
            reused: None,
            connect: None,
            first_byte: None,
            first_token: None,
            upload: Rc::default(),
            tally: Tally::default(),
            reading: Reading::default(),
            cause: None,
        }
    }

    fn finished(&self, outcome: Outcome) -> Finished {
        Finished {
            ending: Ending {
                route: self.route.clone(),
                upstream: self.upstream.clone(),
                status: self.status.map_or("none", class),
                who: outcome.who.as_str(),
                phase: outcome.phase.as_str(),
            },
            caller: self.caller.as_deref().map(|caller| caller.name.clone()),
            fault: outcome.fault,
            total: self.start.elapsed(),
            first_byte: self.first_byte,
            first_token: self.first_token,
            gaps: self.tally.gaps,
            bytes_in: self.upload.bytes(),
            bytes_out: self.tally.bytes,
            tokens: self.reading.usage.map(|usage| Tokens { input: usage.input, output: usage.output }),
        }
    }

    fn log(&self, log: &AccessLog, outcome: Outcome) {
        thread_local! {
            static BUFFER: RefCell<Vec<u8>> = const { RefCell::new(Vec::new()) };
        }
        let line = self.line(outcome);
        BUFFER.with_borrow_mut(|buffer| {
            buffer.clear();
            match log.format {
                LogFormat::Json => line.write_json(buffer),
                LogFormat::Text => line.write_text(buffer),
            }
            log.queue.push(buffer);
        });
    }

    fn line(&self, outcome: Outcome) -> Line<'_> {
        let usage = self.reading.usage;
        Line {
            time: self.time,
            request_id: self.request_id.as_str(),
            trace_id: Some(self.trace.trace_id()),
            upstream_request_id: self.upstream_request_id.as_deref(),
            client: self.client,
            caller: self.caller.as_deref().map(|caller| &*caller.name),
            route: self.route.as_deref(),
            upstream: self.upstream.as_deref(),
            target: self.target.as_deref(),
            protocol: protocol(self.version),
            tls: self.tls,
            method: self.method.as_str(),
            path: &self.path,
            model: self.model.as_deref(),
            response_model: self.reading.model.as_deref(),
            stream: self.stream,
            status: self.status.map(|status| status.as_u16()),
            who: outcome.who.as_str(),
            phase: outcome.phase.as_str(),
            attempts: self.attempts,
            tried: Some(&*self.tried).filter(|tried| !tried.is_empty()),
            reused: self.reused,
            connect: self.connect,
            first_byte: self.first_byte,
            first_token: self.first_token,
            total: self.start.elapsed(),
            max_gap: self.tally.max_gap,
            bytes_in: self.upload.bytes(),
            bytes_out: self.tally.bytes,
            frames: self.tally.frames,
            events: self.tally.events,
            tokens_in: usage.map(|usage| usage.input),
            tokens_out: usage.map(|usage| usage.output),
            finish_reason: self.reading.finish_reason.map(FinishReason::as_str),
            error: outcome.fault,
            cause: self.cause.as_deref(),
        }
    }
}

/// Most bytes of [`Record::tried`]: ten attempts, and some.
const TRIED_KEPT: usize = 1024;

impl Record {
    /// Nothing came of an attempt at `target` but `code`.
    pub fn tried(&mut self, target: &str, code: &str) {
        if self.tried.len() + target.len() + code.len() > TRIED_KEPT {
            return;
        }
        let separator = if self.tried.is_empty() { "" } else { ", " };
        [separator, target, " ", code].iter().for_each(|part| self.tried.push_str(part));
    }
}

impl Tally {
    /// So many frames and bytes had gone out before the first one that is measured.
    fn begin(&mut self, (frames, bytes): (u64, u64)) {
        if self.frames == 0 {
            (self.frames, self.bytes) = (frames, bytes);
        }
    }

    /// A data frame of `bytes` goes out at `now`.
    pub fn frame(&mut self, bytes: usize, now: Instant) {
        self.bytes += bytes as u64;
        self.frames += 1;
        if let Some(last) = self.last.replace(now) {
            let gap = now.saturating_duration_since(last);
            self.gaps.observe(gap);
            self.max_gap = Some(self.max_gap.map_or(gap, |longest| longest.max(gap)));
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

fn protocol(version: Version) -> &'static str {
    match version {
        Version::HTTP_2 => "HTTP/2",
        Version::HTTP_10 => "HTTP/1.0",
        _ => "HTTP/1.1",
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
