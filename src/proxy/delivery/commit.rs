//! Holds a stream back until its first content, so that another candidate can be tried when it fails before that.

use std::{
    future::poll_fn,
    pin::Pin,
    sync::Arc,
    time::{Duration, Instant},
};

use bytes::Bytes;
use http_body::{Body, Frame};

use super::{
    PendingStream,
    probe::{Finding, Probe},
};
use crate::{
    body::Status,
    config::Timeouts,
    fault::Fault,
    openai::Endpoint,
    pause,
    proxy::{Gateway, buffered::Buffered},
    upstream::{AnswerBody, BodyError},
};

/// The most bytes that are held, in bytes. A stream without content in them is forwarded.
const MOST_BYTES: usize = 256 << 10;

/// The overhead of a held frame, in bytes.
pub(super) const FRAME: usize = 64;

/// Without a `first_token` timeout a stream is not held longer than this: its client waits without a head.
pub(in crate::proxy) const LONGEST: Duration = Duration::from_secs(30);

const UNFINISHED: &str = "the stream ended before its first content";

/// Why a held response is not passed on.
#[derive(Debug)]
pub(in crate::proxy) enum HoldError {
    /// The response failed.
    Fault(Fault),
    /// The response is an error of the upstream.
    Upstream(HeldError),
}

/// The data of an upstream's error event, or a document that is an error; at most 64 KiB.
#[derive(Debug)]
pub(in crate::proxy) struct HeldError {
    pub(in crate::proxy) data: Vec<u8>,
    /// The count of the data. Where the process had no room left for a response, it counts less.
    pub(in crate::proxy) counted: Buffered,
}

impl HeldError {
    /// The error `data` of a response that `counted` was the count of.
    pub(super) fn new(data: Vec<u8>, mut counted: Buffered) -> Self {
        counted.shrink_to(data.len() as u64);
        Self { data, counted }
    }
}

/// The timeouts of a response that is held back.
#[derive(Debug, Clone, Copy)]
pub(in crate::proxy) struct HoldTimeouts {
    /// When the request was sent.
    pub(in crate::proxy) start: Instant,
    pub(in crate::proxy) timeouts: Timeouts,
}

/// Bounds on a response that is held back.
#[derive(Debug)]
pub(in crate::proxy) struct HoldBounds<'a> {
    /// The largest response that is held whole, in bytes.
    pub(in crate::proxy) limit: u64,
    /// Of all that the process holds, in bytes.
    pub(in crate::proxy) buffered: u64,
    pub(in crate::proxy) gateway: &'a Arc<Gateway>,
    /// Says whether the client has left meanwhile, and whether it has a head already.
    pub(in crate::proxy) status: &'a Status,
}

impl From<Fault> for HoldError {
    fn from(fault: Fault) -> Self {
        Self::Fault(fault)
    }
}

/// Reads the body of `pending` and holds it until there is content, or the end, or no room. If the client has a head already, comments are not
/// held: an upstream sends them so that the connection does not look dead.
///
/// # Errors
/// The stream failed before its first content.
pub(super) async fn hold_until_content(
    pending: &mut PendingStream,
    clocks: HoldTimeouts,
    endpoint: Endpoint,
    bounds: &HoldBounds<'_>,
) -> Result<(), HoldError> {
    let Some(body) = &mut pending.body else { return Ok(()) };
    let held = &mut pending.held;
    let counted = pending.counted.get_or_insert_with(|| Buffered::new(bounds.gateway));
    let mut probe = Probe::new(endpoint.dialect());
    let mut bytes = 0;
    while bytes < MOST_BYTES {
        let next = match next(body, clocks).await {
            Next::Frame(frame) => frame.map_err(HoldError::Fault)?,
            Next::LongEnough => return Ok(()),
        };
        let Some(frame) = next else {
            return match probe.at_end() {
                Finding::Failed => Err(HoldError::Fault(Fault::Truncated(UNFINISHED.into()))),
                Finding::Content | Finding::Nothing => Ok(()),
            };
        };
        let began_between = probe.is_between_events();
        let seen = frame.data_ref().map_or(Finding::Nothing, |data| probe.look(data));
        // A frame takes room even if there is little in it.
        bytes += frame.data_ref().map_or(0, Bytes::len) + FRAME;
        let last = frame.is_trailers();
        let is_comment = began_between && probe.has_only_comments();
        match frame.into_data() {
            Ok(comment) if is_comment && bounds.status.is_early() => {
                bounds.status.pass_comment(&comment);
                continue;
            }
            Ok(data) => held.push_back(Frame::data(data)),
            Err(frame) => held.push_back(frame),
        }
        // A stream for which there is no room goes on to the client.
        let has_room = counted.grow_to(bytes as u64, bounds.buffered).is_ok();
        match seen {
            Finding::Failed => {
                let counted = std::mem::replace(counted, Buffered::new(bounds.gateway));
                return Err(HoldError::Upstream(HeldError::new(probe.into_error(), counted)));
            }
            Finding::Content => return Ok(()),
            Finding::Nothing if last || !has_room => return Ok(()),
            Finding::Nothing => {}
        }
    }
    Ok(())
}

/// The result of a wait for a frame.
enum Next {
    Frame(Result<Option<Frame<Bytes>>, Fault>),
    /// The stream was held for long enough: the client gets it, though there is no content yet.
    LongEnough,
}

async fn next(body: &mut AnswerBody, clocks: HoldTimeouts) -> Next {
    let HoldTimeouts { start, timeouts } = clocks;
    // A configured timeout decides how long the stream is held.
    if let Some(limit) = timeouts.first_token {
        return Next::Frame(next_within(body, timeouts.idle, Some((start + limit, limit))).await);
    }
    let frame = next_within(body, timeouts.idle, None);
    tokio::time::timeout_at((start + LONGEST).into(), frame).await.map_or(Next::LongEnough, Next::Frame)
}

/// The next frame of `body`, within `idle` and before the deadline of `first_token`.
pub(in crate::proxy) async fn next_within<B: Body<Data = Bytes, Error = BodyError> + Unpin>(
    body: &mut B,
    idle: Option<Duration>,
    first_token: Option<(Instant, Duration)>,
) -> Result<Option<Frame<Bytes>>, Fault> {
    let frame = poll_fn(|cx| Pin::new(&mut *body).poll_frame(cx));
    let idle = idle.map(|limit| (Instant::now(), limit, Fault::Idle(limit)));
    let first_token = first_token
        .map(|(at, limit)| (at.checked_sub(limit).unwrap_or(at), limit, Fault::FirstTokenTimeout(limit)));
    let frame = match idle.into_iter().chain(first_token).min_by_key(|(start, limit, _)| *start + *limit) {
        None => frame.await,
        Some((start, limit, fault)) => match pause::timeout_from(start, limit, frame).await {
            Ok(frame) => frame,
            Err(_) => return Err(fault),
        },
    };
    frame.transpose().map_err(|error| Fault::Truncated(error.into()))
}
