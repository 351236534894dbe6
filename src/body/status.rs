//! The visible state of an open exchange, for operators and for the parts that decide how it ended.

use std::{
    cell::{Cell, RefCell},
    sync::Arc,
    time::{Duration, Instant},
};

use bytes::{Bytes, BytesMut};

use super::OpenAttempt;
use crate::{fault::Phase, key_digest::KeyDigest, telemetry::ids::RequestId};

/// Identifies an exchange.
#[derive(Debug, Clone)]
pub struct About {
    /// The request id, as in the access line and in the response.
    pub request_id: RequestId,
    /// Time at which the request arrived.
    pub start: Instant,
    /// `[client.NAME]`, once known.
    pub caller: Option<Arc<str>>,
    /// `[route.NAME]`, once known.
    pub route: Option<Arc<str>>,
}

/// A snapshot of an open exchange.
#[derive(Debug, Clone)]
pub struct OpenExchange {
    /// Its identity.
    pub about: About,
    /// Number of data frames of the response given to hyper so far.
    pub frames: u64,
    /// Number of bytes in these frames.
    pub bytes: u64,
    /// Number of turns that have ended on a WebSocket connection; `None` for any other exchange.
    pub turns: Option<u64>,
    /// The requested model. It has been searched for keys.
    pub model: Option<Arc<str>>,
    /// The current phase.
    pub phase: Phase,
    /// Number of events of an event stream so far.
    pub events: u64,
    /// When the last frame of the upstream's response was passed on.
    pub last_frame: Option<Instant>,
    /// When the first content of a stream was passed on.
    pub first_token: Option<Instant>,
    /// The attempts that are kept, in order.
    pub attempts: Vec<OpenAttempt>,
    /// Number of all attempts.
    pub attempt_count: u32,
}

/// What a client has proved, and what follows if that is withdrawn.
#[derive(Debug, Clone, Copy)]
pub struct Grant {
    /// The digest of the client key; `None` if the client has an ephemeral key.
    pub key: Option<KeyDigest>,
    /// Whether the exchange is then cut.
    pub cut: bool,
}

/// What an open exchange was granted.
#[derive(Debug, Clone)]
pub struct OpenGrant {
    /// `[client.NAME]`
    pub caller: Arc<str>,
    /// `[route.NAME]`
    pub route: Option<Arc<str>>,
    /// See [`Grant`].
    pub key: Option<KeyDigest>,
    /// See [`Grant`].
    pub cut: bool,
    /// The model, if the client may use some only.
    pub model: Option<Box<str>>,
}

/// Identity and phase of an exchange.
#[derive(Debug)]
#[repr(C)]
pub struct Status {
    last_sent: Cell<Option<Instant>>,
    /// Number of frames and bytes of the response given to hyper while the client was still connected.
    frames: Cell<u64>,
    bytes: Cell<u64>,
    /// Number of events of the upstream's response.
    events: Cell<u64>,
    /// The phase in which the client left an exchange that continues.
    left: Cell<Option<Phase>>,
    phase: Cell<Phase>,
    /// Whether the response head was sent before there was a response.
    early: Cell<bool>,
    /// When the last frame of the gateway's own was sent, and the last one of the upstream's before it. Frames of the upstream write neither.
    last_own: Cell<Option<Instant>>,
    last_heard: Cell<Option<Instant>>,
    first_token: Cell<Option<Instant>>,
    about: RefCell<Option<About>>,
    grant: Cell<Option<Grant>>,
    /// The model, if the client may use some only.
    granted_model: RefCell<Option<Box<str>>>,
    model: RefCell<Option<Arc<str>>>,
    /// Comments of the upstream that the client may have at once, while the rest of the response is held back. At most as many bytes as
    /// are held.
    comments: RefCell<BytesMut>,
    turns: Cell<Option<u64>>,
    waited: Cell<Duration>,
}

impl Default for Status {
    fn default() -> Self {
        Self {
            about: RefCell::default(),
            grant: Cell::default(),
            granted_model: RefCell::default(),
            model: RefCell::default(),
            phase: Cell::new(Phase::Request),
            left: Cell::default(),
            early: Cell::default(),
            comments: RefCell::default(),
            frames: Cell::default(),
            bytes: Cell::default(),
            turns: Cell::default(),
            waited: Cell::default(),
            events: Cell::default(),
            last_sent: Cell::default(),
            last_own: Cell::default(),
            last_heard: Cell::default(),
            first_token: Cell::default(),
        }
    }
}

impl Status {
    /// Sets the identity of the exchange.
    pub fn introduce(&self, about: About) {
        *self.about.borrow_mut() = Some(about);
    }

    /// Notes who calls, and which route the request takes.
    pub fn belongs_to(&self, caller: Option<Arc<str>>, route: Option<Arc<str>>) {
        if let Some(about) = &mut *self.about.borrow_mut() {
            (about.caller, about.route) = (caller, route);
        }
    }

    /// When the request arrived.
    pub fn start(&self) -> Option<Instant> {
        self.about.borrow().as_ref().map(|about| about.start)
    }

    /// Whether the exchange has this request id.
    pub fn is(&self, request_id: &str) -> bool {
        self.about.borrow().as_ref().is_some_and(|about| about.request_id.as_str() == request_id)
    }

    /// Notes by what the client is known.
    pub fn granted(&self, grant: Grant) {
        self.grant.set(Some(grant));
    }

    /// Notes the model that a client may use which may not use all.
    pub fn uses_model(&self, model: &str) {
        *self.granted_model.borrow_mut() = Some(model.into());
    }

    /// Notes the requested model, which may be shown: no key was found in it.
    pub fn asks_for(&self, model: Arc<str>) {
        *self.model.borrow_mut() = Some(model);
    }

    /// Notes that a frame of the upstream's response is sent at `now`, with which so many `events` have been sent. Returns when the frame
    /// before it was sent.
    pub fn frame_sent(&self, now: Instant, events: u64) -> Option<Instant> {
        self.events.set(events);
        self.last_sent.replace(Some(now))
    }

    /// Notes that a frame of the gateway's own is sent at `now`, such as a heartbeat: the upstream is as silent as before. Returns when the
    /// frame before it was sent.
    pub fn own_frame_sent(&self, now: Instant) -> Option<Instant> {
        self.last_heard.set(self.last_frame());
        self.last_own.set(Some(now));
        self.last_sent.replace(Some(now))
    }

    /// When the last frame was sent, of the upstream's response or of the gateway's own.
    pub fn last_sent(&self) -> Option<Instant> {
        self.last_sent.get()
    }

    /// Notes that the first content of a stream was passed on at `now`.
    pub fn first_token_sent(&self, now: Instant) {
        self.first_token.set(Some(now));
    }

    /// What the exchange was granted; `None` if its client is not known.
    pub fn grant(&self) -> Option<OpenGrant> {
        let Grant { key, cut } = self.grant.get()?;
        let about = self.about.borrow();
        let About { caller, route, .. } = about.as_ref()?;
        let model = self.granted_model.borrow().clone();
        Some(OpenGrant { caller: caller.clone()?, route: route.clone(), key, cut, model })
    }

    /// The current phase of the exchange.
    pub fn phase(&self) -> Phase {
        self.phase.get()
    }

    /// Notes that the exchange has entered `phase`.
    pub fn enter(&self, phase: Phase) {
        self.phase.set(phase);
    }

    /// How long the exchange has waited for permits, in queues of limits, and between attempts.
    pub fn waited(&self) -> Duration {
        self.waited.get()
    }

    /// Notes a wait for a permit, in the queue of a limit, or between attempts. It does not count as time that the gateway itself adds.
    pub fn add_wait(&self, wait: Duration) {
        self.waited.set(self.waited.get() + wait);
    }

    /// Notes that the client has left while the upstream's response is still being read. The first call counts.
    pub fn leave(&self) {
        if self.left.get().is_none() {
            self.left.set(Some(self.phase.get()));
        }
    }

    /// The phase in which the client left an exchange that continues.
    pub fn left(&self) -> Option<Phase> {
        self.left.get()
    }

    /// Notes that the head of a response is sent before its content is known.
    pub fn commit_early(&self) {
        self.early.set(true);
    }

    /// Whether the response head was sent early.
    pub fn is_early(&self) -> bool {
        self.early.get()
    }

    /// Gives the client `comment`, whole lines of the upstream's. It must have a head already, and no event.
    pub fn pass_comment(&self, comment: &[u8]) {
        self.comments.borrow_mut().extend_from_slice(comment);
    }

    /// Takes the comments that the client may have at once.
    pub fn take_comments(&self) -> Option<Bytes> {
        let mut comments = self.comments.borrow_mut();
        (!comments.is_empty()).then(|| comments.split().freeze())
    }

    /// Notes how much has passed to the client of a WebSocket connection so far, and how many turns have ended.
    pub fn tunnelled(&self, frames: u64, bytes: u64, turns: u64) {
        self.frames.set(frames);
        self.bytes.set(bytes);
        self.turns.set(Some(turns));
    }

    /// Number of frames and bytes of the response given to hyper.
    pub fn given(&self) -> (u64, u64) {
        (self.frames.get(), self.bytes.get())
    }

    /// For how long the stream of the exchange has sent no frame at `now`; `None`: it is not streaming.
    pub fn silence(&self, now: Instant) -> Option<Duration> {
        if self.phase.get() != Phase::Stream || self.turns.get().is_some() {
            return None;
        }
        self.last_frame().map(|last| now.saturating_duration_since(last))
    }

    /// Shows the identity of the exchange, once it is set.
    pub fn with_about(&self, show: impl FnOnce(&About)) {
        if let Some(about) = &*self.about.borrow() {
            show(about);
        }
    }

    pub(super) fn open_exchange(&self) -> Option<OpenExchange> {
        let about = self.about.borrow().clone()?;
        Some(OpenExchange {
            about,
            frames: self.frames.get(),
            bytes: self.bytes.get(),
            turns: self.turns.get(),
            model: self.model.borrow().clone(),
            phase: self.phase.get(),
            events: self.events.get(),
            last_frame: self.last_frame(),
            first_token: self.first_token.get(),
            attempts: Vec::new(),
            attempt_count: 0,
        })
    }

    /// When the last frame of the upstream's response was sent.
    fn last_frame(&self) -> Option<Instant> {
        let last = self.last_sent.get();
        if last == self.last_own.get() { self.last_heard.get() } else { last }
    }

    pub(super) fn count_frame(&self, bytes: usize) {
        if self.left.get().is_none() {
            self.frames.set(self.frames.get() + 1);
            self.bytes.set(self.bytes.get() + bytes as u64);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn silence_counts_from_the_last_frame() {
        let (status, start) = (Status::default(), Instant::now());
        assert_eq!(status.frame_sent(start, 1), None);
        assert_eq!(status.silence(start), None);
        status.enter(Phase::Stream);
        assert_eq!(status.silence(start + Duration::from_secs(30)), Some(Duration::from_secs(30)));
        status.tunnelled(1, 1, 0);
        assert_eq!(status.silence(start), None);
    }

    #[test]
    fn heartbeats_do_not_end_the_silence_of_the_upstream() {
        let (status, start) = (Status::default(), Instant::now());
        let after = |seconds| start + Duration::from_secs(seconds);
        let silence = |seconds| status.silence(after(seconds)).map(|silence| silence.as_secs());
        status.enter(Phase::Stream);
        assert_eq!((status.own_frame_sent(start), silence(1)), (None, None));
        assert_eq!((status.frame_sent(after(2), 1), silence(3)), (Some(start), Some(1)));
        assert_eq!((status.own_frame_sent(after(5)), silence(6)), (Some(after(2)), Some(4)));
        assert_eq!((status.own_frame_sent(after(8)), silence(9)), (Some(after(5)), Some(7)));
        assert_eq!((status.frame_sent(after(10), 2), silence(11)), (Some(after(8)), Some(1)));
        assert_eq!(status.last_sent(), Some(after(10)));
    }
}
