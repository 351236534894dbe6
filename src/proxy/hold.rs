//! Holding a stream back until its first content, so that what fails before it can still be asked for elsewhere.

use std::{
    collections::VecDeque,
    future::poll_fn,
    pin::Pin,
    time::{Duration, Instant},
};

use bytes::Bytes;
use http_body::{Body, Frame};

use super::{
    again::Failed,
    sight::{Probe, Seen},
    verdict::{Answered, Refusal},
};
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
pub(super) enum Unheld {
    /// It failed.
    Fault(Fault),
    /// It is an error, in the upstream's own words: the data of its event.
    Error(Vec<u8>),
}

impl Unheld {
    /// With the answer that the caller gets if there is no other.
    pub(super) fn or_given(self, answered: Answered) -> Failed {
        match self {
            Self::Fault(fault) => Failed::Fault(fault),
            Self::Error(data) => Failed::Refused(Box::new(Refusal::in_stream(answered, &data))),
        }
    }
}

/// Reads `body` into `held` until there is content, or the end. `began` is when the request was sent.
pub(super) async fn hold(
    body: &mut AnswerBody,
    held: &mut VecDeque<Frame<Bytes>>,
    began: Instant,
    timeouts: &Timeouts,
    endpoint: Endpoint,
) -> Result<(), Unheld> {
    let mut probe = Probe::new(endpoint.dialect());
    let mut bytes = 0;
    while bytes < MOST_BYTES {
        let next = match next(body, began, timeouts).await {
            Next::Frame(frame) => frame.map_err(Unheld::Fault)?,
            Next::LongEnough => return Ok(()),
        };
        let Some(frame) = next else {
            return match probe.at_end() {
                Seen::Failed => Err(Unheld::Fault(Fault::Truncated(UNFINISHED.into()))),
                Seen::Content | Seen::Nothing => Ok(()),
            };
        };
        let seen = frame.data_ref().map_or(Seen::Nothing, |data| probe.look(data));
        // A frame takes room even if there is little in it.
        bytes += frame.data_ref().map_or(0, Bytes::len) + FRAME;
        let last = frame.is_trailers();
        held.push_back(frame);
        match seen {
            Seen::Failed => return Err(Unheld::Error(probe.into_error())),
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
    let frame = poll_fn(|cx| Pin::new(&mut *body).poll_frame(cx));
    let idle = timeouts.idle.map(|limit| (Instant::now() + limit, Fault::Idle(limit)));
    let first_token = timeouts.first_token.map(|limit| (began + limit, Fault::FirstTokenTimeout(limit)));
    let patience = (began + LONGEST, None);
    let failing = [idle, first_token].into_iter().flatten().map(|(at, fault)| (at, Some(fault)));
    // With a limit of the operator's own, that is how long it is held.
    let own = timeouts.first_token.is_some();
    let all = failing.chain((!own).then_some(patience));
    let Some((deadline, fault)) = all.min_by_key(|(at, _)| *at) else {
        return Next::Frame(frame.await.transpose().map_err(|error| Fault::Truncated(error.into())));
    };
    match (tokio::time::timeout_at(deadline.into(), frame).await, fault) {
        (Ok(frame), _) => Next::Frame(frame.transpose().map_err(|error| Fault::Truncated(error.into()))),
        (Err(_), Some(fault)) => Next::Frame(Err(fault)),
        (Err(_), None) => Next::LongEnough,
    }
}
