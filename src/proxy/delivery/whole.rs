//! Holds a response until it is complete (`delivery = "whole"`), so that another candidate can be tried when it fails midway.

use std::{collections::VecDeque, io, slice, sync::Arc};

use bytes::Bytes;
use http::HeaderMap;
use http_body::{Body, Frame};

use super::{
    HoldBounds, HoldError, HoldTimeouts, PendingStream,
    commit::{HeldError, next_within},
    drain,
    probe::{ERROR_KEPT, Finding, Probe},
};
use crate::{
    fault::{Fault, Reason},
    openai::{Dialect, Endpoint, NoAnswer, check_answer, is_flat_error},
    proxy::{body_memory::BodyMemory, buffered::Buffered},
    upstream::BodyError,
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
    let Some(mut body) = pending.body.take() else { return Ok(()) };
    let mut whole = read(&mut body, clocks, form, &bounds).await?;
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

/// Reads `body` as far as it belongs to the response.
async fn read<B>(
    body: &mut B,
    clocks: HoldTimeouts,
    form: Form,
    bounds: &HoldBounds<'_>,
) -> Result<Held, HoldError>
where
    B: Body<Data = Bytes, Error = BodyError> + Unpin,
{
    let HoldTimeouts { start, timeouts } = clocks;
    let mut whole =
        Held { pieces: Vec::new(), length: 0, trailers: None, counted: Buffered::new(bounds.gateway) };
    let mut probe = match form {
        Form::Events(dialect) => Some(Probe::of_whole(dialect)),
        Form::Answer(_) | Form::Opaque => None,
    };
    let mut first_token = timeouts.first_token.filter(|_| probe.is_some()).map(|limit| start + limit);
    while let Some(frame) = next_within(body, timeouts.idle, first_token.zip(timeouts.first_token)).await? {
        let data = match frame.into_data() {
            Ok(data) => data,
            Err(trailers) => {
                whole.trailers = trailers.into_trailers().ok();
                break;
            }
        };
        let Some(probe) = &mut probe else {
            whole.take(&data, bounds)?;
            continue;
        };
        let (seen, length) = probe.look_to_end(&data);
        whole.take(&data[..length], bounds)?;
        if seen == Finding::Content {
            first_token = None;
        }
        if probe.has_failed() || probe.has_ended() {
            break;
        }
    }
    if let Some(probe) = probe.take_if(|probe| probe.has_failed()) {
        return Err(HoldError::Upstream(HeldError::new(probe.into_error(), whole.counted)));
    }
    if probe.is_some_and(|mut probe| probe.at_end() == Finding::Failed) {
        return Err(HoldError::Fault(Fault::Truncated("the stream ended without its terminal event".into())));
    }
    Ok(whole)
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
            Err(NoAnswer::NotAnObject) => Err(HoldError::Fault(Fault::BadAnswer(Reason::AnswerNotObject))),
            Err(NoAnswer::Lacks(_)) if is_flat_error(&self.beginning()) => Err(self.take_error()),
            Err(NoAnswer::Lacks(member)) => {
                Err(HoldError::Fault(Fault::BadAnswer(Reason::AnswerLacks { member })))
            }
            Err(NoAnswer::Error) => Err(self.take_error()),
        }
    }

    /// The response as an error.
    fn take_error(&mut self) -> HoldError {
        let counted = self.counted.another();
        HoldError::Upstream(HeldError::new(self.beginning(), std::mem::replace(&mut self.counted, counted)))
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

#[cfg(test)]
mod tests {
    use std::{
        pin::Pin,
        task::{Context, Poll},
        time::{Duration, Instant},
    };

    use proptest::{prelude::*, sample::Index};

    use super::*;
    use crate::{
        body::Status,
        config::{Server, Timeouts},
        exchange::AccessLog,
        proxy::{Gateway, delivery::ResponseObserver},
        snapshot::Snapshot,
    };

    /// A dialect with events of its own: contents, the last ones in order, and an error.
    struct Sample {
        dialect: Dialect,
        contents: [&'static str; 2],
        end: &'static [&'static str],
        error: &'static str,
    }

    const SAMPLES: [Sample; 3] = [
        Sample {
            dialect: Dialect::CHAT,
            contents: [
                "data: {\"choices\":[{\"index\":0,\"delta\":{\"role\":\"assistant\",\"content\":\"\"}}]}\n\n",
                "data: {\"choices\":[{\"index\":0,\"delta\":{\"content\":\"a\"}}]}\n\n",
            ],
            end: &[
                "data: {\"choices\":[{\"index\":0,\"delta\":{},\"finish_reason\":\"stop\"}]}\n\n",
                "data: [DONE]\n\n",
            ],
            error: "data: {\"error\":{\"message\":\"no\",\"type\":\"server_error\",\"code\":\"x\"}}\n\n",
        },
        Sample {
            dialect: Dialect::RESPONSES,
            contents: [
                "event: response.created\ndata: {\"type\":\"response.created\",\"response\":{\"id\":\"r\"}}\n\n",
                "event: response.output_text.delta\ndata: {\"type\":\"response.output_text.delta\",\"delta\":\"a\"}\n\n",
            ],
            end: &[
                "event: response.completed\ndata: {\"type\":\"response.completed\",\"response\":{\"status\":\"completed\"}}\n\n",
            ],
            error: "event: error\ndata: {\"type\":\"error\",\"code\":\"x\",\"message\":\"no\",\"param\":null}\n\n",
        },
        Sample {
            dialect: Dialect::MESSAGES,
            contents: [
                "event: message_start\ndata: {\"type\":\"message_start\",\"message\":{\"id\":\"m\"}}\n\n",
                "event: content_block_delta\ndata: {\"type\":\"content_block_delta\",\"index\":0,\"delta\":{\"type\":\"text_delta\",\"text\":\"a\"}}\n\n",
            ],
            end: &[
                "event: message_delta\ndata: {\"type\":\"message_delta\",\"delta\":{\"stop_reason\":\"end_turn\"}}\n\n",
                "event: message_stop\ndata: {\"type\":\"message_stop\"}\n\n",
            ],
            error: "event: error\ndata: {\"type\":\"error\",\"error\":{\"type\":\"api_error\",\"message\":\"no\"}}\n\n",
        },
    ];

    /// One thing that an upstream sends.
    #[derive(Debug, Clone)]
    enum Sent {
        Content(usize),
        Comment,
        /// The last events, as many of them.
        End(usize),
        Error,
        /// Bytes that are no event.
        Rest(&'static str),
    }

    /// How the body ends behind the bytes that were sent.
    #[derive(Debug, Clone, Copy, PartialEq, Eq)]
    enum Ending {
        InOrder,
        Broken,
        Silent,
    }

    #[derive(Debug, Clone)]
    struct Schedule {
        sample: usize,
        sent: Vec<Sent>,
        line_end: &'static str,
        /// Where the text is cut; `None` = not at all.
        cut: Option<Index>,
        sizes: Vec<usize>,
        ending: Ending,
    }

    fn schedule() -> impl Strategy<Value = Schedule> {
        let before = prop_oneof![
            4 => (0..2_usize).prop_map(Sent::Content),
            2 => Just(Sent::Comment),
            1 => Just(Sent::Error),
        ];
        let end = prop_oneof![1 => Just(Sent::End(0)), 1 => Just(Sent::End(1)), 4 => Just(Sent::End(2))];
        let behind = prop_oneof![
            Just(Sent::Content(1)),
            Just(Sent::Comment),
            Just(Sent::Error),
            Just(Sent::End(2)),
            Just(Sent::Rest("data: {no\n\n")),
            Just(Sent::Rest("data: ha")),
            Just(Sent::Rest("\n")),
        ];
        let sent = (prop::collection::vec(before, 0..5), end, prop::collection::vec(behind, 0..3)).prop_map(
            |(before, end, behind)| {
                // Behind a stream without its end there is nothing that could not be read.
                let behind = behind.into_iter().filter(|_| matches!(end, Sent::End(2))).collect::<Vec<_>>();
                [before, vec![end], behind].concat()
            },
        );
        let ending = prop_oneof![Just(Ending::InOrder), Just(Ending::Broken), Just(Ending::Silent)];
        let line_end = prop::sample::select(vec!["\n", "\r\n", "\r"]);
        let sizes = prop::collection::vec(prop_oneof![1..9_usize, 1..400_usize], 1..8);
        (0..SAMPLES.len(), sent, line_end, prop::option::of(any::<Index>()), sizes, ending).prop_map(
            |(sample, sent, line_end, cut, sizes, ending)| Schedule {
                sample,
                sent,
                line_end,
                cut,
                sizes,
                ending,
            },
        )
    }

    impl Schedule {
        fn dialect(&self) -> Dialect {
            SAMPLES[self.sample].dialect
        }

        fn text(&self) -> Vec<u8> {
            let sample = &SAMPLES[self.sample];
            let mut text = String::new();
            for sent in &self.sent {
                match sent {
                    Sent::Content(number) => text += sample.contents[*number],
                    Sent::Comment => text += ": keep-alive\n\n",
                    Sent::End(number) => text += &sample.end[..sample.end.len().min(*number)].concat(),
                    Sent::Error => text += sample.error,
                    Sent::Rest(rest) => text += rest,
                }
            }
            let mut text = text.replace('\n', self.line_end).into_bytes();
            if let Some(cut) = self.cut {
                text.truncate(cut.index(text.len() + 1));
            }
            text
        }

        fn body(&self) -> Scripted {
            let mut rest = Bytes::from(self.text());
            let mut frames = VecDeque::new();
            let mut sizes = self.sizes.iter().cycle();
            while let Some(size) = sizes.next().filter(|_| !rest.is_empty()) {
                frames.push_back(rest.split_to((*size).min(rest.len())));
            }
            Scripted { frames, ending: self.ending }
        }

        /// What the relay would call complete: the bytes up to the terminal event, or all of a body that ends in order and is finished.
        fn complete(&self) -> Option<Vec<u8>> {
            let text = self.text();
            let mut observer = ResponseObserver::events(self.dialect());
            for (at, byte) in text.iter().enumerate() {
                observer.look(slice::from_ref(byte));
                if observer.outcome().fault.is_some() {
                    return None;
                }
                if observer.is_terminated() {
                    return Some(text[..=at].to_vec());
                }
            }
            if self.ending != Ending::InOrder {
                return None;
            }
            observer.at_end();
            (!observer.is_unfinished() && observer.outcome().fault.is_none()).then_some(text)
        }

        async fn held(&self) -> Result<Vec<u8>, HoldError> {
            let gateway = Gateway::new(
                Snapshot::of_listeners(1, Server::default(), Vec::new()),
                AccessLog::discarding(),
            );
            let status = Status::default();
            let bounds = HoldBounds { limit: 1 << 20, buffered: 1 << 20, gateway: &gateway, status: &status };
            // Frames are there at once; only silence lasts.
            let idle = Some(Duration::from_millis(1));
            let timeouts = Timeouts { idle, ..Timeouts::default() };
            let clocks = HoldTimeouts { start: Instant::now(), timeouts };
            let held = read(&mut self.body(), clocks, Form::Events(self.dialect()), &bounds).await;
            let text: Result<Vec<u8>, HoldError> =
                held.map(|held| held.pieces.iter().flat_map(|piece| piece.as_ref().to_vec()).collect());
            // An error is counted for as long as it is kept, and nothing else is.
            let kept = match &text {
                Err(HoldError::Upstream(error)) => error.data.len(),
                Ok(_) | Err(HoldError::Fault(_)) => 0,
            };
            assert_eq!(gateway.buffered(), kept as u64);
            text
        }
    }

    /// A body that is there already.
    struct Scripted {
        frames: VecDeque<Bytes>,
        ending: Ending,
    }

    impl Body for Scripted {
        type Data = Bytes;
        type Error = BodyError;

        fn poll_frame(
            mut self: Pin<&mut Self>,
            _: &mut Context<'_>,
        ) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
            match (self.frames.pop_front(), self.ending) {
                (Some(data), _) => Poll::Ready(Some(Ok(Frame::data(data)))),
                (None, Ending::InOrder) => Poll::Ready(None),
                (None, Ending::Broken) => Poll::Ready(Some(Err(BodyError::Reset))),
                (None, Ending::Silent) => Poll::Pending,
            }
        }
    }

    proptest! {
        /// Exactly that is delivered which the relay would call complete; anything else is an error.
        #[test]
        fn what_the_relay_calls_complete_is_delivered(schedule in schedule()) {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
            let held = runtime.block_on(schedule.held());
            let complete: Option<Vec<u8>> = schedule.complete();
            match (held, complete) {
                (Ok(held), Some(complete)) => {
                    // An LF behind the CR that ended the event is a part of the same line end.
                    let same = held == complete || held == [&*complete, b"\n"].concat();
                    prop_assert!(same, "{:?}\n{:?}", String::from_utf8_lossy(&held), String::from_utf8_lossy(&complete));
                }
                (Err(_), None) => {}
                (held, complete) => prop_assert!(false, "{held:?} but {complete:?}"),
            }
        }
    }
}
