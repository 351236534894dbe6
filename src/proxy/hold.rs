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

const UNFINISHED: &str = "the stream ended before its first content";

/// Why a stream is not passed on.
#[derive(Debug)]
pub(super) enum Unheld {
    /// It failed.
    Fault(Fault),
    /// It is an error, in the upstream's own words.
    Error,
}

impl Unheld {
    /// With the answer that the caller gets if there is no other.
    pub(super) fn or_given(self, answered: Answered) -> Failed {
        match self {
            Self::Fault(fault) => Failed::Fault(fault),
            Self::Error => Failed::Refused(Box::new(Refusal::in_stream(answered))),
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
        let Some(frame) = next(body, began, timeouts).await.map_err(Unheld::Fault)? else {
            return match probe.at_end() {
                Seen::Failed => Err(Unheld::Fault(Fault::Truncated(UNFINISHED.into()))),
                Seen::Content | Seen::Nothing => Ok(()),
            };
        };
        let seen = frame.data_ref().map_or(Seen::Nothing, |data| probe.look(data));
        bytes += frame.data_ref().map_or(0, Bytes::len);
        let last = frame.is_trailers();
        held.push_back(frame);
        match seen {
            Seen::Failed => return Err(Unheld::Error),
            Seen::Content => return Ok(()),
            Seen::Nothing if last => return Ok(()),
            Seen::Nothing => {}
        }
    }
    Ok(())
}

async fn next(
    body: &mut AnswerBody,
    began: Instant,
    timeouts: &Timeouts,
) -> Result<Option<Frame<Bytes>>, Fault> {
    let frame = poll_fn(|cx| Pin::new(&mut *body).poll_frame(cx));
    let now = Instant::now();
    let until = |limit: Option<Duration>, from: Instant| limit.map(|limit| (from + limit, limit));
    let first_token = until(timeouts.first_token, began);
    let idle = until(timeouts.idle, now);
    let deadline = [first_token, idle].into_iter().flatten().map(|(at, _)| at).min();
    let frame = match deadline {
        None => frame.await,
        Some(deadline) => match tokio::time::timeout_at(deadline.into(), frame).await {
            Ok(frame) => frame,
            Err(_) => {
                return Err(match (first_token, idle) {
                    (Some((at, limit)), _) if at == deadline => Fault::FirstTokenTimeout(limit),
                    (_, idle) => Fault::Idle(idle.map(|(_, limit)| limit).unwrap_or_default()),
                });
            }
        },
    };
    frame.transpose().map_err(|error| Fault::Truncated(error.into()))
}
