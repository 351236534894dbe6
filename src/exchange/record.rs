//! What is known of one exchange while it goes on.

use std::{
    net::IpAddr,
    rc::Rc,
    sync::Arc,
    time::{Duration, Instant, SystemTime},
};

use http::{Method, StatusCode, Version};

use super::{Attempts, Opening, Tally};
use crate::{
    access::Caller,
    body::UploadTally,
    openai::{Endpoint, Reading},
    telemetry::ids::{RequestId, TraceContext},
};

/// Longest path that is kept for the log, in bytes.
const PATH_KEPT: usize = 1024;

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
    /// The candidates that were asked, and what each gave.
    pub attempts: Attempts,
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
            version: opening.version,
            tls: opening.tls,
            method: opening.method,
            path,
            endpoint: Endpoint::Other,
            model: None,
            stream: None,
            status: None,
            attempts: Attempts::default(),
            first_byte: None,
            first_token: None,
            upload: Rc::default(),
            tally: Tally::default(),
            reading: Reading::default(),
            cause: None,
        }
    }

    /// Notes that the first content of a stream goes to the client at `now`.
    pub fn first_token_sent(&mut self, now: Instant) {
        self.first_token = Some(now.saturating_duration_since(self.start));
        self.attempts.update(|attempt| {
            attempt.first_token = Some(now.saturating_duration_since(attempt.start));
        });
    }
}
