//! Holding an answer until it is complete (`delivery = "whole"`), so that one that fails midway can still be asked for elsewhere.

use std::{collections::VecDeque, sync::Arc, time::Instant};

use bytes::{Bytes, BytesMut};
use http::HeaderMap;
use http_body::Frame;

use super::{
    Gateway,
    gateway::Buffered,
    hold::{Unheld, next_within},
    sight::{Probe, Seen},
};
use crate::{config::Timeouts, fault::Fault, openai::Dialect, upstream::AnswerBody};

/// It is passed on in pieces of this size, so that looking at them does not hold up the worker's other streams.
const PIECE: usize = 64 << 10;

/// Bounds on one answer.
#[derive(Debug)]
pub(super) struct Bounds {
    /// In bytes.
    pub(super) limit: u64,
    /// Of all that the process holds, in bytes.
    pub(super) buffered: u64,
}

/// An answer, as far as it is there. What frames share with the connection's read buffer is not kept.
#[derive(Debug)]
struct Held {
    bytes: BytesMut,
    trailers: Option<HeaderMap>,
    counted: Buffered,
}

/// Reads `body` into `held`, to its end. `began` is when the request was sent; `events`: it is an event stream of that dialect.
pub(super) async fn hold(
    body: &mut AnswerBody,
    held: &mut VecDeque<Frame<Bytes>>,
    (began, timeouts): (Instant, &Timeouts),
    events: Option<Dialect>,
    (bounds, gateway): (Bounds, &Arc<Gateway>),
) -> Result<(), Unheld> {
    let mut whole = Held { bytes: BytesMut::new(), trailers: None, counted: gateway.hold() };
    let mut probe = events.map(Probe::of_whole);
    let mut first_token = timeouts.first_token.filter(|_| events.is_some()).map(|limit| began + limit);
    while let Some(frame) = next_within(body, timeouts.idle, first_token.zip(timeouts.first_token)).await? {
        let data = match frame.into_data() {
            Ok(data) => data,
            Err(trailers) => {
                whole.trailers = trailers.into_trailers().ok();
                break;
            }
        };
        whole.take(&data, &bounds)?;
        let Some(probe) = &mut probe else { continue };
        if probe.look(&data) == Seen::Content {
            first_token = None;
        }
        if probe.has_failed() {
            break;
        }
    }
    if let Some(probe) = probe.take_if(|probe| probe.has_failed()) {
        return Err(Unheld::Error(probe.into_error()));
    }
    if probe.is_some_and(|probe| probe.at_end() == Seen::Failed) {
        return Err(Unheld::Fault(Fault::Truncated("the stream ended without its terminal event".into())));
    }
    whole.release(held);
    Ok(())
}

impl Held {
    fn take(&mut self, data: &[u8], bounds: &Bounds) -> Result<(), Unheld> {
        let length = (self.bytes.len() + data.len()) as u64;
        if length > bounds.limit {
            return Err(Unheld::Fault(Fault::AnswerTooLarge { limit: bounds.limit }));
        }
        self.counted.grow_to(length, bounds.buffered).map_err(Unheld::Fault)?;
        self.bytes.extend_from_slice(data);
        Ok(())
    }

    /// In pieces, which count until the last of them has gone.
    fn release(self, held: &mut VecDeque<Frame<Bytes>>) {
        let Self { bytes, trailers, counted } = self;
        let mut bytes = counted.own(bytes.freeze());
        while !bytes.is_empty() {
            held.push_back(Frame::data(bytes.split_to(PIECE.min(bytes.len()))));
        }
        held.extend(trailers.map(Frame::trailers));
    }
}
