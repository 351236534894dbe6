//! The head of a request, and the connection it arrived on.

use std::{sync::Arc, time::Instant};

use bytes::Bytes;
use http::{HeaderMap, Method, Version};

use super::{record::Record, tls::Handshake};

/// The head of a request.
pub(super) struct Request {
    pub(super) method: Method,
    /// Path and query.
    pub(super) target: String,
    pub(super) version: Version,
    pub(super) headers: HeaderMap,
    /// HTTP/1.1: the bytes of the head as received. HTTP/2: empty.
    pub(super) head: Bytes,
    pub(super) authority: Option<String>,
}

/// The connection that a request arrived on.
#[derive(Clone)]
pub(super) struct RequestOrigin {
    pub(super) connection: u64,
    /// Requests received on the connection so far, including this one.
    pub(super) on_connection: u64,
    pub(super) tls: Option<Arc<Handshake>>,
}

impl Request {
    /// The record of a request whose body has not been read.
    pub(super) fn into_record(self, number: u64, origin: &RequestOrigin) -> Record {
        Record {
            number,
            connection: origin.connection,
            on_connection: origin.on_connection,
            protocol: self.version,
            tls: origin.tls.clone(),
            head: self.head,
            method: self.method,
            target: self.target,
            headers: self.headers,
            authority: self.authority,
            body_length: 0,
            body_complete: false,
            body_sha256: [0; 32],
            body: Bytes::new(),
            trailers: HeaderMap::new(),
            started: Instant::now(),
            ended: None,
            sent: 0,
        }
    }

    /// The path without its query.
    pub(super) fn path(&self) -> &str {
        self.target.split_once('?').map_or(self.target.as_str(), |(path, _)| path)
    }

    /// The first value of a header, if it is visible ASCII.
    pub(super) fn header(&self, name: &str) -> Option<&str> {
        self.headers.get(name)?.to_str().ok()
    }
}

impl RequestOrigin {
    /// Counts another request on the connection.
    pub(super) fn next_request(&mut self) {
        self.on_connection += 1;
    }
}
