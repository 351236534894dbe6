//! Reading a JSON request body whole, within bounds, and what it says.

use std::{future::poll_fn, pin::Pin, sync::Arc, time::Duration};

use bytes::{Bytes, BytesMut};
use http::{HeaderMap, Method, header};
use http_body::Body;

use super::gateway::{self, Gateway};
use crate::{
    body::Arrival,
    fault::Fault,
    openai::{self, Facts},
    upstream::Affinity,
};

/// A body from this size on is read on a thread of its own: scanning it would hold up the worker's streams.
const LARGE: usize = 1 << 20;

/// Room is made for so many times what is there of a body, whatever its `content-length` claims beyond that.
const AHEAD: usize = 4;

/// A request body, held whole.
#[derive(Debug)]
pub(super) struct Intake {
    /// They count against the process' bound for as long as anybody has them.
    pub(super) bytes: Bytes,
    pub(super) facts: Facts,
}

/// Bounds on one body.
#[derive(Debug, Clone, Copy)]
pub(super) struct Bounds {
    /// In bytes.
    pub(super) limit: u64,
    /// The longest pause within it.
    pub(super) idle: Duration,
    /// Of all bodies that the process holds, in bytes.
    pub(super) buffered: u64,
}

/// Whether the gateway can and must read this request's body: a JSON document that is not compressed.
pub(super) fn is_readable(method: &Method, headers: &HeaderMap) -> bool {
    let plain = headers.get(header::CONTENT_ENCODING).is_none_or(|coding| coding == "identity");
    let json = headers.get(header::CONTENT_TYPE).is_some_and(|kind| is_json(kind.as_bytes()));
    plain && json && !matches!(*method, Method::GET | Method::HEAD)
}

/// `application/json` or a `+json` type, whatever its parameters (RFC 6838 §4.2.8).
pub(super) fn is_json(content_type: &[u8]) -> bool {
    let essence = content_type.split(|byte| *byte == b';').next().unwrap_or_default().trim_ascii();
    let suffix = |suffix: &[u8]| {
        essence.len().checked_sub(suffix.len()).is_some_and(|at| essence[at..].eq_ignore_ascii_case(suffix))
    };
    essence.eq_ignore_ascii_case(b"application/json") || suffix(b"+json")
}

/// Reads `body` whole, and the facts in it.
///
/// # Errors
/// The body is too large, stops coming, breaks off, is no JSON object, or there is no room for it in the process.
pub(super) async fn read(mut body: Arrival, bounds: Bounds, gateway: &Arc<Gateway>) -> Result<Intake, Fault> {
    let announced = body.size_hint().lower();
    if announced > bounds.limit {
        return Err(Fault::BodyTooLarge { limit: bounds.limit });
    }
    let mut held = gateway.hold();
    let mut first = Bytes::new();
    let mut rest = BytesMut::new();
    while let Some(frame) = next(&mut body, bounds.idle).await? {
        let Ok(data) = frame.into_data() else { continue };
        let length = (first.len() + rest.len() + data.len()) as u64;
        if length > bounds.limit {
            return Err(Fault::BodyTooLarge { limit: bounds.limit });
        }
        held.grow_to(length, bounds.buffered)?;
        if first.is_empty() && rest.is_empty() {
            first = data;
            continue;
        }
        if rest.capacity() - rest.len() < first.len() + data.len() {
            let length = length as usize;
            let room = (announced as usize).min(length.saturating_mul(AHEAD)).max(length);
            // What is made room for counts like what is there.
            held.grow_to(room as u64, bounds.buffered)?;
            rest.reserve(room - rest.len());
        }
        rest.extend_from_slice(&std::mem::take(&mut first));
        rest.extend_from_slice(&data);
    }
    let bytes = if rest.is_empty() { first } else { rest.freeze() };
    let bytes = gateway::own(bytes, held);
    let facts = facts(&bytes).await?;
    Ok(Intake { bytes, facts })
}

async fn next(body: &mut Arrival, idle: Duration) -> Result<Option<http_body::Frame<Bytes>>, Fault> {
    let frame = poll_fn(|cx| Pin::new(&mut *body).poll_frame(cx));
    match tokio::time::timeout(idle, frame).await {
        Err(_) => Err(Fault::BodyStalled(idle)),
        Ok(None) => Ok(None),
        Ok(Some(Ok(frame))) => Ok(Some(frame)),
        Ok(Some(Err(error))) => Err(Fault::BodyBroken(error.into())),
    }
}

/// How the prompt in a body that was read begins, if it has one.
pub(super) async fn prompt(bytes: &Bytes) -> Option<Affinity> {
    let hash = |bytes: &[u8]| {
        let parts = openai::opening(bytes)?.into_iter();
        Some(parts.fold(Affinity::of(b""), |value, part| value.and(part).and(b"\n")))
    };
    if bytes.len() < LARGE {
        return hash(bytes);
    }
    let bytes = bytes.clone();
    tokio::task::spawn_blocking(move || hash(&bytes)).await.ok().flatten()
}

async fn facts(bytes: &Bytes) -> Result<Facts, Fault> {
    let read = if bytes.len() < LARGE {
        Facts::read(bytes)
    } else {
        let bytes = bytes.clone();
        match tokio::task::spawn_blocking(move || Facts::read(&bytes)).await {
            Ok(read) => read,
            Err(error) => return Err(Fault::Internal(error.into())),
        }
    };
    read.map_err(Fault::BodyInvalid)
}
