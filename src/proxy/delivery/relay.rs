//! The response body of an exchange: one state machine from a source's bytes to the client's bytes.
//!
//! The relay never changes, delays or holds back a frame, except that an error event about the gateway's own key is replaced if it opens the
//! stream: callers are not shown the operator's balance. It observes each frame as it goes out, so that what was observed and what was sent
//! never differ. When the upstream's response breaks off, everything that came is delivered before the client learns of it: by an error event
//! where the client can understand one, else by an abort of the transport.

use std::{
    future::poll_fn,
    pin::Pin,
    task::{Context, Poll, ready},
    time::Instant,
};

use bytes::{Buf, Bytes};
use http_body::{Body, Frame, SizeHint};
use thiserror::Error;

use super::{
    PendingStream,
    active::ActiveStream,
    clock::Due,
    drain,
    observer::{ErrorEvent, LastEvent},
    source::Source,
};
use crate::{
    body::{Chunk, Flush, UploadFailure},
    exchange::Exchange,
    fault::{Fault, Outcome, Phase, Who},
    openai::Dialect,
    upstream::{BodyError, Failure, RequestHash},
};

/// Ends the transport without the message's end: hyper leaves out the last chunk (HTTP/1.1) or resets the stream (HTTP/2), so
/// that a broken-off response never looks complete.
#[derive(Debug, Error)]
#[error("the response broke off")]
pub struct Aborted;

const UNFINISHED: &str = "the stream ended without its terminal event";

/// The result that hyper gets when it polls the relay.
type PolledFrame = Poll<Option<Result<Frame<Chunk>, Aborted>>>;

/// The response body of an exchange.
#[derive(Debug)]
pub struct Relay {
    stage: Stage,
    exchange: Box<Exchange>,
    /// The connection's poll in which an upstream's response had nothing more; 0 for none.
    waits_in: u64,
}

#[derive(Debug)]
enum Stage {
    /// A response is passed on.
    Active(Box<ActiveStream>),
    /// One more event is sent. Then the stream ends regularly, or is aborted.
    LastEvent { event: Bytes, orderly: bool },
    /// Everything has been handed over; once it has left, the transport is aborted.
    Aborting(Option<Flush>),
    /// Nothing is left to send.
    Ended,
}

impl Relay {
    /// Sends `bytes`, a complete response.
    pub(super) fn local(bytes: Bytes, exchange: Box<Exchange>) -> Self {
        Self { stage: Stage::Active(Box::new(ActiveStream::local(bytes))), exchange, waits_in: 0 }
    }

    /// Ends a response that began before the upstream's, with `event`.
    pub(super) fn last_event(event: Bytes, dialect: Dialect, exchange: Box<Exchange>) -> Self {
        let orderly = dialect.raises_on_error_event();
        if orderly {
            exchange.connection().reset_when_closing(false);
        }
        Self { stage: Stage::LastEvent { event, orderly }, exchange, waits_in: 0 }
    }

    /// Passes an upstream's response on.
    pub(super) fn upstream(pending: PendingStream, mut exchange: Box<Exchange>) -> Self {
        exchange.handle.status.enter(Phase::Stream);
        let start = exchange.record.start;
        let deadline = exchange.handle.abort.deadline();
        let total = deadline.map(|deadline| (deadline, deadline.duration_since(start)));
        // Until the response is known to be complete: whatever else ends the connection must not look like its end.
        exchange.connection().reset_when_closing(pending.close_delimited);
        let active = ActiveStream::new(pending, total);
        exchange.record.tally.events = active.observer.count();
        Self { stage: Stage::Active(Box::new(active)), exchange, waits_in: 0 }
    }

    /// Whether the client leaves if the relay is dropped now: an upstream's response is passed on that is not complete, and nobody has ended it.
    pub(super) fn is_left_unfinished(&self) -> bool {
        let Stage::Active(active) = &self.stage else { return false };
        let unfinished = !active.source.is_local() && !active.is_complete();
        unfinished && self.exchange.handle.abort.cause().is_none() && self.exchange.outcome().is_none()
    }

    /// Reads the response to its end without a client, for its usage.
    pub(super) async fn drain(mut self) {
        self.exchange.handle.status.leave();
        let mut bytes = 0;
        while let Stage::Active(active) = &mut self.stage
            && bytes < drain::MOST_FOR_USAGE
        {
            active.clock.heartbeat = None;
            let frame = poll_fn(|cx| match self.poll_active(cx) {
                // Nobody is left to be aborted.
                Poll::Pending if !matches!(self.stage, Stage::Active(_)) => Poll::Ready(None),
                polled => polled,
            })
            .await;
            if let Some(Ok(frame)) = frame {
                bytes += frame.data_ref().map_or(0, Buf::remaining);
            }
        }
    }

    fn poll_active(&mut self, cx: &mut Context<'_>) -> PolledFrame {
        let Stage::Active(active) = &mut self.stage else { return Poll::Ready(None) };
        if let Source::Local(bytes) = &mut active.source {
            let bytes = bytes.take();
            return self.poll_local(bytes);
        }
        let handle = &self.exchange.handle;
        handle.progress.polled();
        if let Some(cut) = handle.abort.cause()
            && !active.has_frames()
        {
            let fault = active.clock.fault(cut);
            return self.rescue(&fault, cx);
        }
        match active.poll_frame(cx) {
            Poll::Ready(Some(Ok(frame))) if frame.is_trailers() && active.observer.is_unfinished() => {
                self.source_ended(cx)
            }
            Poll::Ready(Some(Ok(frame))) => self.forward(frame, cx),
            Poll::Ready(Some(Err(error))) => {
                let fault = self.broken(error);
                self.rescue(&fault, cx)
            }
            Poll::Ready(None) => self.source_ended(cx),
            Poll::Pending => {
                let rewoken = handle.abort.register(cx.waker());
                let now = self.exchange.connection().time().unwrap_or_else(Instant::now);
                match active.clock.poll(now, rewoken, active.observer.takes_comments(), cx) {
                    Poll::Ready(Due::Beat) => {
                        let comment = active.observer.heartbeat();
                        Poll::Ready(Some(Ok(self.send(comment))))
                    }
                    Poll::Ready(Due::Fault(fault)) => self.rescue(&fault, cx),
                    Poll::Pending => {
                        self.waits_in = self.exchange.connection().poll_number();
                        Poll::Pending
                    }
                }
            }
        }
    }

    /// Sends a response whose bytes the gateway has: no clock runs, and nothing is observed.
    fn poll_local(&mut self, bytes: Option<Bytes>) -> PolledFrame {
        if let Some(bytes) = bytes {
            return Poll::Ready(Some(Ok(self.send(bytes))));
        }
        self.conclude();
        self.stage = Stage::Ended;
        Poll::Ready(None)
    }

    /// The fault that stands for an upstream's body that broke off: the client's upload may have broken off on the same connection.
    fn broken(&self, error: BodyError) -> Fault {
        match self.exchange.record.upload.failure() {
            Some(UploadFailure::Stalled(idle)) => Fault::BodyStalled(idle),
            Some(UploadFailure::Broken) => Fault::BodyBroken(error.into()),
            Some(UploadFailure::File) => Fault::SpoolFailed(error.into()),
            None => Fault::Truncated(error.into()),
        }
    }

    /// Observes a frame as it goes out.
    fn forward(&mut self, frame: Frame<Bytes>, cx: &mut Context<'_>) -> PolledFrame {
        let Stage::Active(active) = &mut self.stage else { return Poll::Ready(None) };
        active.clock.asked = None;
        active.clock.beat = None;
        let data = match frame.into_data() {
            Ok(data) => data,
            Err(frame) => {
                let trailers = active.policy.as_ref().map(|policy| policy.trailers(frame));
                return Poll::Ready(Some(Ok(Frame::trailers(trailers.unwrap_or_default()))));
            }
        };
        let now = Instant::now();
        self.exchange.connection().note_time(now);
        let first_content = active.observer.look(&data);
        let events = active.observer.count().unwrap_or(0);
        self.exchange.events_passed(events);
        if let Some(ids) = &mut active.ids {
            ids.look(&data);
        }
        if let Some(error) = active.observer.take_error() {
            let instead = self.judge(&error);
            if let Some(fault) = instead.filter(|_| error.opens) {
                return self.replace(&error, &fault, cx);
            }
        }
        let Stage::Active(active) = &mut self.stage else { return Poll::Ready(None) };
        if active.tries_key && active.observer.has_answered() {
            active.tries_key = false;
            if let Some(key) = &mut active.key {
                key.works();
            }
        }
        if first_content {
            active.clock.first_token = None;
            self.exchange.record.first_token_sent(now);
            self.exchange.handle.status.first_token_sent(now);
        }
        if self.exchange.handle.status.left().is_none() {
            let last = self.exchange.handle.status.frame_sent(now, events);
            self.exchange.record.tally.frame(last, now);
        }
        Poll::Ready(Some(Ok(self.hand_over(data, now))))
    }

    /// Sends bytes of the gateway's own.
    fn send(&mut self, bytes: Bytes) -> Frame<Chunk> {
        let now = Instant::now();
        if self.exchange.handle.status.left().is_none() {
            let last = self.exchange.handle.status.own_frame_sent(now);
            self.exchange.record.tally.frame(last, now);
        }
        self.hand_over(bytes, now)
    }

    /// Gives `data` to hyper.
    fn hand_over(&self, data: Bytes, now: Instant) -> Frame<Chunk> {
        let handle = &self.exchange.handle;
        handle.progress.handed(now);
        Frame::data(Chunk::new(data, handle.clone()))
    }

    /// The upstream's body ended by the rules of HTTP; whether the response did is for the stream's own dialect to say.
    fn source_ended(&mut self, cx: &mut Context<'_>) -> PolledFrame {
        let Stage::Active(active) = &mut self.stage else { return Poll::Ready(None) };
        active.observer.at_end();
        if let Some(error) = active.observer.take_error() {
            self.judge(&error);
        }
        let Stage::Active(active) = &mut self.stage else { return Poll::Ready(None) };
        if active.observer.is_unfinished() {
            return self.rescue(&Fault::Truncated(UNFINISHED.into()), cx);
        }
        self.conclude();
        self.stage = Stage::Ended;
        Poll::Ready(None)
    }

    /// Ends a response that cannot be completed: nothing that came is lost, and the client learns of it as well as the protocol allows. A response whose
    /// terminal event went out lacks only the end of its framing, which is supplied.
    fn rescue(&mut self, fault: &Fault, cx: &mut Context<'_>) -> PolledFrame {
        let Stage::Active(active) = &mut self.stage else { return Poll::Ready(None) };
        let complete = active.is_complete();
        if let Some(permit) = &mut active.permit
            && !complete
            && fault.row().who == Who::Upstream
        {
            let now = Instant::now();
            // The body is not held any more, so a repetition of the request is not recognised.
            let request = RequestHash::unique(self.exchange.record.request_id.as_str().as_bytes());
            let failure = Failure::Response(request);
            if self.exchange.record.attempts.last_has_blamed() {
                permit.failed_again(failure, now);
            } else if fault.is_slowness() {
                permit.was_slow(failure, now);
            } else {
                permit.failed(failure, now);
            }
        }
        let lengthless = active.lengthless;
        let only_framing_missing = complete && lengthless;
        let rest = active.filtered_rest();
        let last = match &rest {
            // All that came goes out first, and it ends within an event.
            Some(rest) => {
                active.observer.look(rest);
                Some(LastEvent { event: rest.clone(), is_enough: false })
            }
            None => {
                let language = self.exchange.record.languages.language();
                active.observer.last_event(fault, language).filter(|_| lengthless)
            }
        };
        self.conclude();
        self.fail(fault);
        self.end_with(last, only_framing_missing, cx)
    }

    /// Notes what an error event of the stream says about the gateway's own key. Returns the fault that the client is shown instead, if it may not
    /// be shown the event.
    #[cold]
    fn judge(&mut self, error: &ErrorEvent) -> Option<Fault> {
        let Stage::Active(active) = &mut self.stage else { return None };
        let record = &self.exchange.record;
        let model = record.model.as_deref();
        let asked_for = record.attempts.last().and_then(|attempt| attempt.model.as_deref()).or(model);
        let verdict = active.policy.as_ref()?.judge(&error.data, asked_for);
        if let (Some(cooldown), Some(key)) = (verdict.cooldown, &mut active.key) {
            key.failed(cooldown, model, self.exchange.metrics());
        }
        verdict.instead
    }

    /// Ends a stream without content with `fault`, in place of the upstream's own error event.
    #[cold]
    fn replace(&mut self, error: &ErrorEvent, fault: &Fault, cx: &mut Context<'_>) -> PolledFrame {
        let Stage::Active(active) = &mut self.stage else { return Poll::Ready(None) };
        let lengthless = active.lengthless;
        let last = active
            .observer
            .event_instead(fault, self.exchange.record.languages.language(), error)
            .filter(|_| lengthless);
        self.fail(fault);
        self.conclude();
        self.end_with(last, false, cx)
    }

    /// Sends the `last` event, if there is one. The stream ends regularly if that is enough, or if only the end of its framing is missing;
    /// otherwise it is aborted.
    fn end_with(
        &mut self,
        last: Option<LastEvent>,
        only_framing_missing: bool,
        cx: &mut Context<'_>,
    ) -> PolledFrame {
        let orderly = only_framing_missing || last.as_ref().is_some_and(|last| last.is_enough);
        if orderly {
            // A reset could destroy what is still on its way.
            self.exchange.connection().reset_when_closing(false);
        }
        // Drops the upstream's body, and with it the connection or the stream.
        self.stage = if orderly { Stage::Ended } else { Stage::Aborting(None) };
        match last {
            Some(last) => Poll::Ready(Some(Ok(self.send(last.event)))),
            None if only_framing_missing => Poll::Ready(None),
            None => {
                // From here on the client is to take what there is; if it does not, that is a stall.
                self.exchange.handle.progress.handed(Instant::now());
                self.poll_abort(cx)
            }
        }
    }

    /// Ends the exchange with `fault`.
    fn fail(&mut self, fault: &Fault) {
        let Stage::Active(active) = &self.stage else { return };
        self.exchange.fail(fault, |text| active.holds_key(text));
    }

    fn poll_abort(&mut self, cx: &mut Context<'_>) -> PolledFrame {
        if let Stage::Aborting(flush) = &mut self.stage {
            // First out of hyper and h2, then out of the connection's own buffers.
            ready!(self.exchange.handle.progress.poll_emptied(cx));
            let connection = self.exchange.connection();
            ready!(flush.get_or_insert_with(|| connection.flush()).poll(connection, cx));
            self.stage = Stage::Ended;
        }
        Poll::Ready(Some(Err(Aborted)))
    }

    /// Decides whether the client was given a complete response. Nothing else decides that.
    fn conclude(&mut self) {
        let Stage::Active(active) = &mut self.stage else { return };
        if active.is_whole() {
            active.observer.at_end();
        }
        if active.is_complete() {
            let outcome = active.observer.outcome();
            if let Some(key) = &mut active.key
                && outcome == Outcome::COMPLETE
            {
                key.works();
            }
            self.exchange.connection().reset_when_closing(false);
            // A fault's own response was concluded with the fault, which stays.
            self.exchange.conclude(outcome);
        } else if active.is_whole() {
            // hyper does not poll beyond the announced length.
            self.exchange.fail(&Fault::Truncated(UNFINISHED.into()), |_| false);
        }
        let Some(policy) = &active.policy else { return };
        let record = &mut self.exchange.record;
        record.reading = active.observer.reading();
        record.reading.model.take_if(|model| policy.holds_key(model.as_bytes()));
        record.tally.events = active.observer.count();
    }
}

impl Body for Relay {
    type Data = Chunk;
    type Error = Aborted;

    fn poll_frame(self: Pin<&mut Self>, cx: &mut Context<'_>) -> PolledFrame {
        let this = self.get_mut();
        match &mut this.stage {
            // hyper's HTTP/1.1 asks again after it has flushed. Whatever has come since has woken the connection, which is polled again then.
            Stage::Active(_)
                if this.waits_in != 0 && this.waits_in == this.exchange.connection().poll_number() =>
            {
                Poll::Pending
            }
            Stage::Active(_) => this.poll_active(cx),
            Stage::LastEvent { event, orderly } => {
                let event = std::mem::take(event);
                this.stage = if *orderly { Stage::Ended } else { Stage::Aborting(None) };
                Poll::Ready(Some(Ok(this.send(event))))
            }
            Stage::Aborting(_) => this.poll_abort(cx),
            Stage::Ended => Poll::Ready(None),
        }
    }

    fn is_end_stream(&self) -> bool {
        match &self.stage {
            // The relay looks at a stream's end when it comes, so hyper has to ask for it.
            Stage::Active(active) => active.is_end_stream() && !active.observer.is_unfinished(),
            Stage::LastEvent { .. } | Stage::Aborting(_) => false,
            Stage::Ended => true,
        }
    }

    fn size_hint(&self) -> SizeHint {
        match &self.stage {
            Stage::Active(active) if !active.lengthless => active.source.size_hint(),
            Stage::Active(_) | Stage::LastEvent { .. } | Stage::Aborting(_) => SizeHint::default(),
            Stage::Ended => SizeHint::with_exact(0),
        }
    }
}

impl Drop for Relay {
    fn drop(&mut self) {
        self.conclude();
        let Stage::Active(active) = std::mem::replace(&mut self.stage, Stage::Ended) else { return };
        let complete = active.is_complete();
        if let Source::Upstream { body: Some(body), .. } = active.source
            && complete
            && !body.is_ended()
        {
            drain::read_on(body);
        }
    }
}
