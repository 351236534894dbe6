//! The data of one exchange, collected while it runs.

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

/// The longest path that is kept for the log, in bytes.
const PATH_KEPT: usize = 1024;

/// The data of one exchange.
#[derive(Debug)]
pub struct Record {
    /// When the exchange began, as wall-clock time for the log.
    pub time: SystemTime,
    /// When the exchange began, as monotonic time for measurements.
    pub start: Instant,
    /// The gateway's id of the request.
    pub request_id: RequestId,
    /// The trace that the client named, or a new one.
    pub trace: TraceContext,
    /// The upstream's own id of the request.
    pub upstream_request_id: Option<String>,
    /// The client's address.
    pub client: IpAddr,
    /// The client, once authenticated.
    pub caller: Option<Arc<Caller>>,
    /// `[route.NAME]`
    pub route: Option<Arc<str>>,
    /// The HTTP version between the client and the gateway.
    pub version: Version,
    /// Whether the client's connection uses TLS.
    pub tls: bool,
    /// The request method.
    pub method: Method,
    /// The request path, at most 1 KiB of it.
    pub path: String,
    /// The API operation.
    pub endpoint: Endpoint,
    /// The requested model.
    pub model: Option<String>,
    /// Whether a stream was requested.
    pub stream: Option<bool>,
    /// The status of the response to the client.
    pub status: Option<StatusCode>,
    /// The attempts and their results.
    pub attempts: Attempts,
    /// Time from the start to the upstream's response head.
    pub first_byte: Option<Duration>,
    /// Time from the start to the first content of a stream.
    pub first_token: Option<Duration>,
    /// Measurements of the request body.
    pub upload: Rc<UploadTally>,
    /// Measurements of the response body as it was sent to the client.
    pub tally: Tally,
    /// Model, usage and finish reason, as reported by the response.
    pub reading: Reading,
    /// The causes of the fault, for the operator.
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

    /// Records that the first content of a stream is sent to the client at `now`.
    pub fn first_token_sent(&mut self, now: Instant) {
        self.first_token = Some(now.saturating_duration_since(self.start));
        self.attempts.update(|attempt| {
            attempt.first_token = Some(now.saturating_duration_since(attempt.start));
        });
    }
}
