//! The response body of an exchange: one state machine from upstream bytes to the caller's bytes.
//!
//! It never changes, delays or holds back a frame. What it looks at, it looks at as the frame goes out, so that what was
//! seen and what was sent never differ. When the upstream's answer breaks off, everything that came is delivered before the caller
//! is told: by an error event where one can be understood, else by an abort of the transport.

use std::{
    future::poll_fn,
    pin::Pin,
    task::{Context, Poll, ready},
    time::Instant,
};

use super::{
    pace::Due,
    passing::{ActiveStream, PendingStream},
    tail,
};
use crate::{
    body::{Chunk, Flush, UploadFailure},
    exchange::Exchange,
    fault::{Fault, Outcome, Who},
    openai::Dialect,
    proxy::worker::Counted,
    sse::writer,
    upstream::BodyError,
};
use bytes::{Buf, Bytes};
use http::HeaderMap;
use http_body::{Body, Frame, SizeHint};
use thiserror::Error;

/// Ends the transport without the message's end: hyper leaves out the last chunk (HTTP/1.1) or resets the stream (HTTP/2), so
/// that a broken-off answer never looks whole.
#[derive(Debug, Error)]
#[error("the answer broke off")]
pub struct Aborted;

/// The upstream's own error was told in the stream.
pub(super) const ERROR_EVENT: Outcome = Outcome { fault: Some("upstream_error_event"), ..Outcome::COMPLETE };

const UNFINISHED: &str = "the stream ended without its terminal event";

/// The response body of an exchange.
#[derive(Debug)]
pub struct Relay {
    stage: Stage,
    exchange: Box<Exchange>,
    _in_flight: Counted,
}

#[derive(Debug)]
enum Stage {
    /// An answer that is here whole: the gateway's own, or an error of the upstream's. `None` once it was handed over.
    Local(Option<Bytes>),
    /// The upstream's answer.
    ActiveStream(Box<ActiveStream>),
    /// The last that can be said in a stream, and whether it may end in order after that.
    Saying(Bytes, bool),
    /// Everything has been handed over; once it has left, the transport is aborted.
    Aborting(Option<Flush>),
    /// Nothing more to say.
    Ended,
}

impl Relay {
    /// Gives `bytes`, an answer of the gateway's own.
    pub(super) fn local(bytes: Bytes, exchange: Box<Exchange>, in_flight: Counted) -> Self {
        let bytes = (!bytes.is_empty()).then_some(bytes);
        Self { stage: Stage::Local(bytes), exchange, _in_flight: in_flight }
    }

    /// Says in `event` how an answer ends that has begun without an upstream's, and ends it.
    pub(super) fn last_words(
        event: Bytes,
        dialect: Dialect,
        exchange: Box<Exchange>,
        in_flight: Counted,
    ) -> Self {
        let orderly = dialect.raises_on_error_event();
        if orderly {
            exchange.link().reset_when_closing(false);
        }
        Self { stage: Stage::Saying(event, orderly), exchange, _in_flight: in_flight }
    }

    /// Passes an upstream's answer on.
    pub(super) fn passing(passage: PendingStream, exchange: Box<Exchange>, in_flight: Counted) -> Self {
        let close_delimited = passage.close_delimited;
        let start = exchange.record.start;
        let total = exchange.watch.total().map(|deadline| (deadline, deadline.duration_since(start)));
        let passing = ActiveStream::new(passage, total);
        // Until it is known to be whole: whatever else ends the connection must not look like its end.
        exchange.link().reset_when_closing(close_delimited);
        let mut relay =
            Self { stage: Stage::ActiveStream(Box::new(passing)), exchange, _in_flight: in_flight };
        relay.exchange.record.tally.events = relay.events();
        relay
    }

    fn poll_passing(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Chunk>, Aborted>>> {
        let Stage::ActiveStream(passing) = &mut self.stage else { return Poll::Ready(None) };
        self.exchange.watch.polled();
        if let Some(cut) = self.exchange.watch.cut() {
            let fault = passing.clock.fault(cut);
            return self.rescue(&fault, cx);
        }
        let polled = match passing.held.pop_front() {
            Some(frame) => Poll::Ready(Some(Ok(frame))),
            None => Pin::new(&mut passing.body).poll_frame(cx),
        };
        match polled {
            Poll::Ready(Some(Ok(frame))) if frame.is_trailers() && passing.sight.is_unfinished() => {
                self.upstream_ended(cx)
            }
            Poll::Ready(Some(Ok(frame))) => Poll::Ready(Some(Ok(self.pass(frame)))),
            Poll::Ready(Some(Err(error))) => {
                let fault = self.broken(error);
                self.rescue(&fault, cx)
            }
            Poll::Ready(None) => self.upstream_ended(cx),
            Poll::Pending => {
                let rewoken = self.exchange.watch.waits(cx.waker());
                match ready!(passing.clock.poll(rewoken, passing.sight.takes_comments(), cx)) {
                    Due::Beat => Poll::Ready(Some(Ok(self.say(writer::comment("keep-alive"))))),
                    Due::Fault(fault) => self.rescue(&fault, cx),
                }
            }
        }
    }

    /// What it means that the upstream's body broke off: the caller's upload may have, on the same connection.
    fn broken(&self, error: BodyError) -> Fault {
        match self.exchange.record.upload.failure() {
            Some(UploadFailure::Stalled(idle)) => Fault::BodyStalled(idle),
            Some(UploadFailure::Broken) => Fault::BodyBroken(error.into()),
            None => Fault::Truncated(error.into()),
        }
    }

    /// Looks at a frame as it goes out.
    fn pass(&mut self, frame: Frame<Bytes>) -> Frame<Chunk> {
        let Stage::ActiveStream(passing) = &mut self.stage else { return Frame::trailers(HeaderMap::new()) };
        passing.clock.asked = None;
        passing.clock.beat = None;
        let data = match frame.into_data() {
            Ok(data) => data,
            Err(frame) => return Frame::trailers(passing.trailers(frame)),
        };
        let now = Instant::now();
        let record = &mut self.exchange.record;
        if self.exchange.watch.left().is_none() {
            record.tally.frame(data.len(), now);
        }
        if passing.sight.look(&data) {
            record.first_token = Some(now.saturating_duration_since(record.start));
            passing.clock.first_token = None;
        }
        self.hand_over(data, now)
    }

    /// Puts in words of the gateway's own.
    fn say(&mut self, words: Bytes) -> Frame<Chunk> {
        let now = Instant::now();
        if self.exchange.watch.left().is_none() {
            self.exchange.record.tally.frame(words.len(), now);
        }
        self.hand_over(words, now)
    }

    /// Gives `data` to hyper.
    fn hand_over(&self, data: Bytes, now: Instant) -> Frame<Chunk> {
        let watch = &self.exchange.watch;
        watch.handed(now);
        Frame::data(Chunk::new(data, watch.clone()))
    }

    /// The upstream's body ended as HTTP has it; whether the answer did is for the stream's own dialect to say.
    fn upstream_ended(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Chunk>, Aborted>>> {
        let Stage::ActiveStream(passing) = &mut self.stage else { return Poll::Ready(None) };
        if passing.sight.is_unfinished() {
            return self.rescue(&Fault::Truncated(UNFINISHED.into()), cx);
        }
        self.conclude();
        self.stage = Stage::Ended;
        Poll::Ready(None)
    }

    /// Ends an answer that cannot be completed: nothing that came is lost, and the end is told as well as it can be. One whose
    /// terminal event went out lacks only its framing's end, which is made up for.
    fn rescue(&mut self, fault: &Fault, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Chunk>, Aborted>>> {
        let Stage::ActiveStream(passing) = &mut self.stage else { return Poll::Ready(None) };
        let to_blame = fault.row().who == Who::Upstream && !passing.is_complete();
        if let Some(pass) = passing.pass.as_mut().filter(|_| to_blame) {
            let now = Instant::now();
            if fault.is_slowness() { pass.was_slow(now) } else { pass.failed(now) }
        }
        let lengthless = passing.lengthless;
        let whole = passing.is_complete() && lengthless;
        let last = passing.sight.last_words(fault).filter(|_| lengthless);
        let upstream = passing.upstream.clone();
        self.conclude();
        self.exchange.fail(fault, |text| upstream.secrets.found_in(text));
        let orderly = whole || last.as_ref().is_some_and(|last| last.is_enough);
        if orderly {
            // A reset could take with it what is still on its way.
            self.exchange.link().reset_when_closing(false);
        }
        // Drops the upstream's body, and with it the connection or the stream.
        self.stage = if orderly { Stage::Ended } else { Stage::Aborting(None) };
        match last {
            Some(last) => Poll::Ready(Some(Ok(self.say(last.event)))),
            None if whole => Poll::Ready(None),
            None => {
                // From here on the caller is to take what there is; if it does not, that is a stall.
                self.exchange.watch.handed(Instant::now());
                self.poll_abort(cx)
            }
        }
    }

    fn poll_abort(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Chunk>, Aborted>>> {
        if let Stage::Aborting(flush) = &mut self.stage {
            // First out of hyper and h2, then out of the connection's own buffers.
            ready!(self.exchange.watch.poll_emptied(cx));
            let link = self.exchange.link();
            ready!(flush.get_or_insert_with(|| link.flush()).poll(link, cx));
            self.stage = Stage::Ended;
        }
        Poll::Ready(Some(Err(Aborted)))
    }

    /// The one place that decides whether the caller was given a whole answer.
    fn conclude(&mut self) {
        match &self.stage {
            Stage::ActiveStream(passing) if passing.is_complete() => {
                let outcome = passing.sight.outcome();
                self.exchange.link().reset_when_closing(false);
                self.exchange.conclude(outcome);
            }
            // hyper asks no further than the length that was promised.
            Stage::ActiveStream(passing)
                if passing.held.is_empty() && passing.body.is_whole() && passing.sight.is_unfinished() =>
            {
                let fault = Fault::Truncated(UNFINISHED.into());
                self.exchange.fail(&fault, |_| false);
            }
            // A fault's answer was concluded with it; what is left is the upstream's own words.
            Stage::Local(None) => self.exchange.conclude(Outcome::COMPLETE),
            _ => {}
        }
        self.note();
    }

    /// Whether its caller leaves if it is dropped now: an answer was passing that is not whole, and nobody has ended it.
    pub(super) fn is_left_unfinished(&self) -> bool {
        let unfinished = matches!(&self.stage, Stage::ActiveStream(passing) if !passing.is_complete());
        unfinished && self.exchange.watch.cut().is_none() && self.exchange.outcome().is_none()
    }

    /// Reads on without a caller, for what the answer tells of itself.
    pub(super) async fn drain(mut self) {
        self.exchange.watch.leave();
        let mut bytes = 0;
        while let Stage::ActiveStream(passing) = &mut self.stage
            && bytes < tail::MOST_FOR_USAGE
        {
            passing.clock.heartbeat = None;
            let frame = poll_fn(|cx| match self.poll_passing(cx) {
                // Nobody is left to be aborted.
                Poll::Pending if !matches!(self.stage, Stage::ActiveStream(_)) => Poll::Ready(None),
                polled => polled,
            })
            .await;
            bytes +=
                frame.and_then(Result::ok).and_then(|frame| Some(frame.data_ref()?.remaining())).unwrap_or(0);
        }
    }

    /// Takes what was seen into the exchange's record.
    fn note(&mut self) {
        if let Stage::ActiveStream(passing) = &mut self.stage {
            let record = &mut self.exchange.record;
            let keys = &passing.upstream.secrets;
            record.reading = passing.sight.reading();
            record.reading.model.take_if(|model| keys.found_in(model.as_bytes()));
            record.tally.events = passing.sight.events();
        }
    }

    fn events(&self) -> Option<u64> {
        match &self.stage {
            Stage::ActiveStream(passing) => passing.sight.events(),
            _ => None,
        }
    }
}

impl Body for Relay {
    type Data = Chunk;
    type Error = Aborted;

    fn poll_frame(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Chunk>, Aborted>>> {
        let this = self.get_mut();
        match &mut this.stage {
            Stage::ActiveStream(_) => this.poll_passing(cx),
            Stage::Local(bytes) => {
                let Some(bytes) = bytes.take() else { return Poll::Ready(None) };
                let now = Instant::now();
                this.exchange.record.tally.frame(bytes.len(), now);
                Poll::Ready(Some(Ok(this.hand_over(bytes, now))))
            }
            Stage::Saying(event, orderly) => {
                let event = std::mem::take(event);
                this.stage = if *orderly { Stage::Ended } else { Stage::Aborting(None) };
                Poll::Ready(Some(Ok(this.say(event))))
            }
            Stage::Aborting(_) => this.poll_abort(cx),
            Stage::Ended => Poll::Ready(None),
        }
    }

    fn is_end_stream(&self) -> bool {
        match &self.stage {
            Stage::Local(bytes) => bytes.is_none(),
            // A stream's end is looked at when it comes, so it has to be asked for.
            Stage::ActiveStream(passing) => {
                passing.held.is_empty() && passing.body.is_end_stream() && !passing.sight.is_unfinished()
            }
            Stage::Saying(..) | Stage::Aborting(_) => false,
            Stage::Ended => true,
        }
    }

    fn size_hint(&self) -> SizeHint {
        match &self.stage {
            Stage::Local(bytes) => SizeHint::with_exact(bytes.as_ref().map_or(0, |bytes| bytes.len() as u64)),
            Stage::ActiveStream(passing) if passing.lengthless => SizeHint::default(),
            Stage::ActiveStream(passing) => passing.size_hint(),
            Stage::Saying(..) | Stage::Aborting(_) => SizeHint::default(),
            Stage::Ended => SizeHint::with_exact(0),
        }
    }
}

impl Drop for Relay {
    fn drop(&mut self) {
        self.conclude();
        if let Stage::ActiveStream(passing) = std::mem::replace(&mut self.stage, Stage::Ended)
            && passing.is_complete()
            && !passing.body.is_ended()
        {
            tail::read_on(passing.body);
        }
    }
}
