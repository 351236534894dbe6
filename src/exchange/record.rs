//! What is known of one exchange, and how it is told: in a log line, and to the metrics.

use std::{
    cell::RefCell,
    net::IpAddr,
    rc::Rc,
    sync::Arc,
    time::{Duration, Instant, SystemTime},
};

use http::{Method, StatusCode, Version};

use super::{AccessLog, Opening, Tally, class};
use crate::{
    access::Caller,
    body::UploadTally,
    config::LogFormat,
    fault::Outcome,
    openai::{Endpoint, FinishReason, Reading},
    telemetry::{
        access::Line,
        ids::{RequestId, TraceContext},
        metrics::worker::{Ending, Finished, Tokens},
    },
};

/// Longest path that is kept for the log, in bytes.
const PATH_KEPT: usize = 1024;

/// Most bytes of [`Record::tried`]: ten attempts, and some.
const TRIED_KEPT: usize = 1024;

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

impl Record {
    pub(super) fn new(opening: Opening) -> Self {
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

    /// Nothing came of an attempt at `target` but `code`.
    pub fn tried(&mut self, target: &str, code: &str) {
        if self.tried.len() + target.len() + code.len() > TRIED_KEPT {
            return;
        }
        let separator = if self.tried.is_empty() { "" } else { ", " };
        [separator, target, " ", code].iter().for_each(|part| self.tried.push_str(part));
    }

    pub(super) fn finished(&self, outcome: Outcome) -> Finished {
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

    pub(super) fn log(&self, log: &AccessLog, outcome: Outcome) {
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

fn protocol(version: Version) -> &'static str {
    match version {
        Version::HTTP_2 => "HTTP/2",
        Version::HTTP_10 => "HTTP/1.0",
        _ => "HTTP/1.1",
    }
}
