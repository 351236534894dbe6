//! An upstream's answer while it is passed on: what was kept of it, what is still to come, and its clock.

use std::{
    collections::VecDeque,
    sync::Arc,
    time::{Duration, Instant},
};

use bytes::Bytes;
use http::HeaderMap;
use http_body::{Body, Frame, SizeHint};

use super::{pace::Clock, places::Candidate, sight::ResponseObserver};
use crate::{
    policy,
    snapshot::{Route, Upstream},
    upstream::{AnswerBody, TargetPermit},
};

/// An upstream's answer on its way.
#[derive(Debug)]
pub(super) struct ActiveStream {
    /// What was read of it before it was passed on.
    pub(super) held: VecDeque<Frame<Bytes>>,
    pub(super) body: AnswerBody,
    pub(super) sight: ResponseObserver,
    pub(super) clock: Clock,
    route: Arc<Route>,
    pub(super) upstream: Arc<Upstream>,
    pub(super) pass: Option<TargetPermit>,
    /// The caller was promised no length, so that bytes may be added and the end may come anywhere. Known from the start, for a
    /// body that broke off no longer tells.
    pub(super) lengthless: bool,
}

/// How an upstream's answer is to be passed on.
#[derive(Debug)]
pub(super) struct PendingStream {
    pub(super) body: AnswerBody,
    pub(super) sight: ResponseObserver,
    /// What was read of it while it was held back.
    pub(super) held: VecDeque<Frame<Bytes>>,
    idle: Option<Duration>,
    /// By when there must be content, and what that limit was.
    pub(super) first_token: Option<(Instant, Duration)>,
    heartbeat: Option<Duration>,
    route: Arc<Route>,
    upstream: Arc<Upstream>,
    /// Its place at the target.
    pub(super) pass: Option<TargetPermit>,
    pub(super) close_delimited: bool,
}

impl PendingStream {
    /// The answer that `place` gives, nothing of it read yet.
    pub(super) fn new(
        body: AnswerBody,
        sight: ResponseObserver,
        route: &Arc<Route>,
        place: &Candidate,
        close_delimited: bool,
    ) -> Self {
        Self {
            body,
            sight,
            held: VecDeque::new(),
            idle: place.timeouts.idle,
            first_token: None,
            heartbeat: route.heartbeat,
            route: route.clone(),
            upstream: place.upstream.clone(),
            pass: None,
            close_delimited,
        }
    }
}

impl ActiveStream {
    /// Begins to pass it on, in an exchange that has until `total`: by when it must be over, and what that limit was.
    pub(super) fn new(passage: PendingStream, total: Option<(Instant, Duration)>) -> Self {
        let lengthless = passage.sight.is_unfinished() || passage.body.size_hint().exact().is_none();
        let heartbeat = passage.heartbeat.filter(|_| lengthless && passage.sight.takes_comments());
        Self {
            lengthless,
            held: passage.held,
            body: passage.body,
            clock: Clock {
                idle: passage.idle,
                first_token: passage.first_token.filter(|_| passage.sight.is_unfinished()),
                total,
                heartbeat,
                ..Clock::default()
            },
            sight: passage.sight,
            route: passage.route,
            upstream: passage.upstream,
            pass: passage.pass,
        }
    }

    /// Whether the answer is whole as it stands: all of the body is there, or its terminal event went out.
    pub(super) fn is_complete(&self) -> bool {
        self.sight.is_terminated()
            || (self.held.is_empty() && self.body.is_whole() && !self.sight.is_unfinished())
    }

    /// What is held goes before the rest.
    pub(super) fn size_hint(&self) -> SizeHint {
        let mut hint = self.body.size_hint();
        let held: u64 = self.held.iter().filter_map(Frame::data_ref).map(|data| data.len() as u64).sum();
        if let Some(exact) = hint.exact() {
            hint.set_exact(exact + held);
        } else {
            hint.set_lower(hint.lower() + held);
        }
        hint
    }

    /// What may cross of a frame of trailers.
    pub(super) fn trailers(&self, frame: Frame<Bytes>) -> HeaderMap {
        let mut trailers = frame.into_trailers().unwrap_or_default();
        policy::trailers_to_caller(&mut trailers, &self.route.response_headers, &self.upstream.secrets);
        trailers
    }
}
