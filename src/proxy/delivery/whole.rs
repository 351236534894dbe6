//! Holds a response until it is complete (`delivery = "whole"`), so that another candidate can be tried when it fails midway.

use std::{collections::VecDeque, io, slice, sync::Arc};

use bytes::Bytes;
use http::HeaderMap;
use http_body::Frame;

use super::{
    HoldBounds, HoldError, HoldTimeouts, PendingStream,
    commit::next_within,
    drain,
    probe::{ERROR_KEPT, Finding, Probe},
};
use crate::{
    fault::Fault,
    openai::{Dialect, Endpoint, NoAnswer, check_answer, is_flat_error},
    proxy::{body_memory::BodyMemory, buffered::Buffered},
};

/// The response is passed on in pieces of this size, in bytes, so that observing them does not delay the worker's other streams.
const PIECE: usize = 64 << 10;
const FIRST_PIECE: usize = 4 << 10;

/// A longer document, in bytes, is parsed on a thread for blocking work.
const READ_AT_ONCE: u64 = 256 << 10;

/// When a response counts as complete, by its form.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Form {
    /// An event stream, each event of which can be read.
    Events(Dialect),
    /// A JSON document that is an answer of this operation.
    Answer(Endpoint),
    /// Anything, up to its end.
    Opaque,
}

/// The part of a response that was read. Its bytes are copied, so that the connection's read buffers can be released.
#[derive(Debug)]
struct Held {
    pieces: Vec<BodyMemory>,
    length: u64,
    trailers: Option<HeaderMap>,
    counted: Buffered,
}

/// Reads the body of `pending` to its end, and holds it. An event stream ends at its terminal event: whatever does or does not follow is not
/// part of the response.
///
/// # Errors
/// The response failed before its end, is not what `form` says, or is larger than `bounds` allow.
pub(super) async fn hold_until_complete(
    pending: &mut PendingStream,
    clocks: HoldTimeouts,
    form: Form,
    bounds: HoldBounds<'_>,
) -> Result<(), HoldError> {
    let HoldTimeouts { start, timeouts } = clocks;
    let Some(mut body) = pending.body.take() else { return Ok(()) };
    let mut whole =
        Held { pieces: Vec::new(), length: 0, trailers: None, counted: Buffered::new(bounds.gateway) };
    let mut probe = match form {
        Form::Events(dialect) => Some(Probe::of_whole(dialect)),
        Form::Answer(_) | Form::Opaque => None,
    };
    let mut first_token = timeouts.first_token.filter(|_| probe.is_some()).map(|limit| start + limit);
    while let Some(frame) =
        next_within(&mut body, timeouts.idle, first_token.zip(timeouts.first_token)).await?
    {
        let data = match frame.into_data() {
            Ok(data) => data,
            Err(trailers) => {
                whole.trailers = trailers.into_trailers().ok();
                break;
            }
        };
        whole.take(&data, &bounds)?;
        let Some(probe) = &mut probe else { continue };
        if probe.look(&data) == Finding::Content {
            first_token = None;
        }
        if probe.has_failed() || probe.has_ended() {
            break;
        }
    }
    if let Some(probe) = probe.take_if(|probe| probe.has_failed()) {
        return Err(HoldError::ErrorEvent(probe.into_error()));
    }
    if probe.is_some_and(|mut probe| probe.at_end() == Finding::Failed) {
        return Err(HoldError::Fault(Fault::Truncated("the stream ended without its terminal event".into())));
    }
    if let Form::Answer(endpoint) = form {
        whole.check(endpoint).await?;
    }
    whole.release(&mut pending.held);
    if !body.is_ended() {
        // For the sake of the connection only.
        drain::read_on(body);
    }
    Ok(())
}

/// Reads pieces one after the other.
struct Text<'p> {
    now: &'p [u8],
    later: slice::Iter<'p, BodyMemory>,
}

impl<'p> Text<'p> {
    fn of(pieces: &'p [BodyMemory]) -> Self {
        Self { now: &[], later: pieces.iter() }
    }
}

impl io::Read for Text<'_> {
    fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        while self.now.is_empty() {
            let Some(piece) = self.later.next() else { return Ok(0) };
            self.now = piece.as_ref();
        }
        self.now.read(into)
    }
}

impl Held {
    fn take(&mut self, mut data: &[u8], bounds: &HoldBounds<'_>) -> Result<(), HoldError> {
        self.length += data.len() as u64;
        // Without a client, the response is read only for its usage.
        let most = if bounds.status.left().is_some() { drain::MOST_FOR_USAGE as u64 } else { u64::MAX };
        if self.length > bounds.limit.min(most) {
            return Err(HoldError::Fault(Fault::AnswerTooLarge { limit: bounds.limit }));
        }
        while !data.is_empty() {
            let room = self.pieces.last().map_or(0, |piece| piece.capacity() - piece.len());
            if room == 0 {
                let taken = self.pieces.iter().map(BodyMemory::capacity).sum::<usize>();
                // The first piece is small, so that a short response takes little memory.
                let size = if self.pieces.is_empty() { data.len().clamp(FIRST_PIECE, PIECE) } else { PIECE };
                self.counted.grow_to((taken + size) as u64, bounds.buffered).map_err(HoldError::Fault)?;
                self.pieces.push(BodyMemory::with_capacity(size));
                continue;
            }
            data = self.pieces.last_mut().map_or(&[], |piece| piece.put(data));
        }
        Ok(())
    }

    /// Checks that the response is an answer of `endpoint`.
    async fn check(&mut self, endpoint: Endpoint) -> Result<(), HoldError> {
        let pieces = std::mem::take(&mut self.pieces);
        let checking = move || {
            let checked = check_answer(endpoint, Text::of(&pieces));
            (pieces, checked)
        };
        let (pieces, checked) = if self.length <= READ_AT_ONCE {
            checking()
        } else {
            let checked = tokio::task::spawn_blocking(checking).await;
            checked.map_err(|error| HoldError::Fault(Fault::Internal(error.into())))?
        };
        self.pieces = pieces;
        match checked {
            Ok(()) => Ok(()),
            Err(NoAnswer::NotAnObject) => {
                Err(HoldError::Fault(Fault::BadAnswer("it is not a valid JSON object")))
            }
            Err(NoAnswer::Lacks(_)) if is_flat_error(&self.beginning()) => {
                Err(HoldError::ErrorEvent(self.beginning()))
            }
            Err(NoAnswer::Lacks(what)) => Err(HoldError::Fault(Fault::BadAnswer(what))),
            Err(NoAnswer::Error) => Err(HoldError::ErrorEvent(self.beginning())),
        }
    }

    /// As much of the response as is kept of an error.
    fn beginning(&self) -> Vec<u8> {
        let mut beginning = Vec::new();
        for piece in &self.pieces {
            let room = ERROR_KEPT - beginning.len();
            beginning.extend_from_slice(&piece.as_ref()[..piece.len().min(room)]);
        }
        beginning
    }

    /// Moves the response into `held`. All pieces stay counted until the last one is dropped.
    fn release(self, held: &mut VecDeque<Frame<Bytes>>) {
        let Self { pieces, trailers, counted, .. } = self;
        let counted = Arc::new(counted);
        held.extend(pieces.into_iter().map(|piece| Frame::data(piece.freeze(counted.clone()))));
        held.extend(trailers.map(Frame::trailers));
    }
}
