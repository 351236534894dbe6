//! Holding a stream back until its first content, so that what fails before it can still be asked for elsewhere.

use std::{
    collections::VecDeque,
    future::poll_fn,
    pin::Pin,
    time::{Duration, Instant},
};

use bytes::Bytes;
use http_body::{Body, Frame};

use super::sight::{Probe, Seen};
use crate::{config::Timeouts, fault::Fault, openai::Endpoint, upstream::AnswerBody};

/// An answer that says nothing in so many bytes is passed on, whatever it is.
const MOST_BYTES: usize = 256 << 10;

/// What a held frame takes beside its bytes.
const FRAME: usize = 64;

/// Without a `first_token` timeout a stream is not held longer than that: its caller waits without a head.
const LONGEST: Duration = Duration::from_secs(30);

const UNFINISHED: &str = "the stream ended before its first content";

/// Why a stream is not passed on.
#[derive(Debug)]
pub(super) enum HoldError {
    /// It failed.
    Fault(Fault),
    /// It is an error, in the upstream's own words: the data of its event.
    Error(Vec<u8>),
}

impl From<Fault> for HoldError {
    fn from(fault: Fault) -> Self {
        Self::Fault(fault)
    }
}

/// Reads `body` into `held` until there is content, or the end. `began` is when the request was sent.
pub(super) async fn hold(
    body: &mut AnswerBody,
    held: &mut VecDeque<Frame<Bytes>>,
    began: Instant,
    timeouts: &Timeouts,
    endpoint: Endpoint,
) -> Result<(), HoldError> {
    let mut probe = Probe::new(endpoint.dialect());
    let mut bytes = 0;
    while bytes < MOST_BYTES {
        let next = match next(body, began, timeouts).await {
            Next::Frame(frame) => frame.map_err(HoldError::Fault)?,
            Next::LongEnough => return Ok(()),
        };
        let Some(frame) = next else {
            return match probe.at_end() {
                Seen::AttemptError => Err(HoldError::Fault(Fault::Truncated(UNFINISHED.into()))),
                Seen::Content | Seen::Nothing => Ok(()),
            };
        };
        let seen = frame.data_ref().map_or(Seen::Nothing, |data| probe.look(data));
        // A frame takes room even if there is little in it.
        bytes += frame.data_ref().map_or(0, Bytes::len) + FRAME;
        let last = frame.is_trailers();
        held.push_back(frame);
        match seen {
            Seen::AttemptError => return Err(HoldError::Error(probe.into_error())),
            Seen::Content => return Ok(()),
            Seen::Nothing if last => return Ok(()),
            Seen::Nothing => {}
        }
    }
    Ok(())
}

/// What came of waiting for a frame.
enum Next {
    Frame(Result<Option<Frame<Bytes>>, Fault>),
    /// It is the caller's, though there is no content yet.
    LongEnough,
}

async fn next(body: &mut AnswerBody, began: Instant, timeouts: &Timeouts) -> Next {
    // With a limit of the operator's own, that is how long it is held.
    if let Some(limit) = timeouts.first_token {
        return Next::Frame(next_within(body, timeouts.idle, Some((began + limit, limit))).await);
    }
    let frame = next_within(body, timeouts.idle, None);
    tokio::time::timeout_at((began + LONGEST).into(), frame).await.map_or(Next::LongEnough, Next::Frame)
}

/// The next frame of `body`, before it was silent for `idle`, and before there had to be a `first_token`.
pub(super) async fn next_within(
    body: &mut AnswerBody,
    idle: Option<Duration>,
    first_token: Option<(Instant, Duration)>,
) -> Result<Option<Frame<Bytes>>, Fault> {
    let frame = poll_fn(|cx| Pin::new(&mut *body).poll_frame(cx));
    let idle = idle.map(|limit| (Instant::now() + limit, Fault::Idle(limit)));
    let first_token = first_token.map(|(at, limit)| (at, Fault::FirstTokenTimeout(limit)));
    let frame = match idle.into_iter().chain(first_token).min_by_key(|(at, _)| *at) {
        None => frame.await,
        Some((deadline, fault)) => match tokio::time::timeout_at(deadline.into(), frame).await {
            Ok(frame) => frame,
            Err(_) => return Err(fault),
        },
    };
    frame.transpose().map_err(|error| Fault::Truncated(error.into()))
}
