//! Sends one request to a collector and says what its response means.

use std::{error::Error, future::poll_fn, io::Write as _, pin::Pin, rc::Rc, sync::Arc};

use bytes::{Bytes, BytesMut};
use flate2::{Compression, write::GzEncoder};
use http::{HeaderValue, Method, Request, header};
use http_body::Body;
use tokio::time::timeout;

use crate::{
    body::Outbound,
    snapshot::{Collector, Endpoint},
    telemetry::trace::Receipt,
    upstream::{AnswerBody, Connection, Pools},
};

/// Limit in bytes of what is read of a response. The messages for success have a few bytes.
const MOST_READ: usize = 64 << 10;

/// Sends requests to one collector, over connections that are kept.
#[derive(Debug, Clone)]
pub(super) struct Sender {
    collector: Arc<Collector>,
    pools: Rc<Pools>,
}

/// A request body, compressed if the collector wants that.
#[derive(Debug, Clone)]
pub(super) struct Payload {
    bytes: Bytes,
    gzip: bool,
}

/// What became of a request.
#[derive(Debug)]
pub(super) struct Sent {
    pub(super) receipt: Receipt,
    /// Why it was not taken, for the log. Never holds text of the collector's.
    pub(super) why: String,
}

impl Sender {
    pub(super) fn new(collector: Arc<Collector>, pools: Rc<Pools>) -> Self {
        Self { collector, pools }
    }

    /// The collector.
    pub(super) fn collector(&self) -> &Collector {
        &self.collector
    }

    /// Makes a request body of encoded spans or metrics.
    pub(super) fn payload(&self, items: &[u8]) -> Payload {
        let plain = self.collector.envelope.request(items);
        match self.collector.gzip.then(|| compressed(&plain)).flatten() {
            Some(bytes) => Payload { bytes: bytes.into(), gzip: true },
            None => Payload { bytes: plain.into(), gzip: false },
        }
    }

    /// Sends a request and reads the response, within the collector's timeout.
    pub(super) async fn send(&self, endpoint: &Endpoint, payload: &Payload) -> Sent {
        let limit = self.collector.timeout;
        match timeout(limit, self.exchange(endpoint, payload)).await {
            Ok(sent) => sent,
            Err(_) => Sent::later(format!("no response within {} s", limit.as_secs_f64())),
        }
    }

    async fn exchange(&self, endpoint: &Endpoint, payload: &Payload) -> Sent {
        if let Some(kept) = self.pools.take(&endpoint.dialer)
            && let Ok(sent) = self.on(kept, endpoint, payload).await
        {
            return sent;
        }
        // A kept connection may have been closed by the collector at any moment.
        let dialled = self.pools.dial(&endpoint.dialer, self.collector.timeout).await;
        match dialled {
            Ok(connection) => match self.on(connection, endpoint, payload).await {
                Ok(sent) => sent,
                Err(why) => Sent::later(why),
            },
            Err(error) => Sent::later(described(&error)),
        }
    }

    /// Sends the request on this connection.
    ///
    /// # Errors
    /// Why there is no response.
    async fn on(
        &self,
        connection: Connection,
        endpoint: &Endpoint,
        payload: &Payload,
    ) -> Result<Sent, String> {
        let request = request(endpoint, payload);
        let answer = connection.send(request).await.map_err(|error| described(&error))?;
        let (head, body) = answer.into_parts();
        let receipt = Receipt::of(head.status, &head.headers);
        let why = if head.status.is_redirection() {
            format!("status {}: redirects are not followed", head.status.as_u16())
        } else {
            format!("status {}", head.status.as_u16())
        };
        let body = read(body).await;
        Ok(Sent { receipt: receipt.with_body(&body), why })
    }
}

impl Sent {
    fn later(why: String) -> Self {
        Self { receipt: Receipt::Later(None), why }
    }
}

fn request(endpoint: &Endpoint, payload: &Payload) -> Request<Outbound> {
    let mut request = Request::new(Outbound::Whole(Some(payload.bytes.clone())));
    *request.method_mut() = Method::POST;
    *request.uri_mut() = endpoint.path.clone();
    *request.headers_mut() = endpoint.headers.clone();
    let headers = request.headers_mut();
    headers.insert(header::CONTENT_LENGTH, HeaderValue::from(payload.bytes.len()));
    if payload.gzip {
        headers.insert(header::CONTENT_ENCODING, HeaderValue::from_static("gzip"));
    }
    request
}

fn compressed(plain: &[u8]) -> Option<Vec<u8>> {
    let mut encoder = GzEncoder::new(Vec::with_capacity(plain.len() / 4), Compression::fast());
    encoder.write_all(plain).ok()?;
    encoder.finish().ok()
}

/// The beginning of a body. One that is too long or breaks off says nothing; the status counts.
async fn read(mut body: AnswerBody) -> Bytes {
    let mut bytes = BytesMut::new();
    while let Some(Ok(frame)) = poll_fn(|cx| Pin::new(&mut body).poll_frame(cx)).await {
        let Ok(data) = frame.into_data() else { continue };
        if bytes.len() + data.len() > MOST_READ {
            return Bytes::new();
        }
        bytes.extend_from_slice(&data);
    }
    bytes.freeze()
}

/// An error with its causes.
fn described(error: &dyn Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        text.push_str(": ");
        text.push_str(&error.to_string());
        cause = error.source();
    }
    text
}
