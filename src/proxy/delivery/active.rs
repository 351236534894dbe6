//! A response while it is passed on: its source, its observer and its clock.

use std::{
    task::{Context, Poll, ready},
    time::{Duration, Instant},
};

use bytes::Bytes;
use http_body::Frame;

use super::{EventFilter, PendingStream, ResponseObserver, ResponsePolicy, clock::Clock, source::Source};
use crate::{
    proxy::{account_learning::IdWatch, key_use::KeyUse},
    upstream::{BodyError, TargetPermit},
};

/// A response while it is passed on. Its fields are in this order (`repr(C)`), so that what a frame touches lies together.
#[derive(Debug)]
#[repr(C)]
pub(super) struct ActiveStream {
    pub(super) observer: ResponseObserver,
    /// Removes events before they are observed.
    filter: Option<Box<EventFilter>>,
    /// Learns which ids the account knows that answers.
    pub(super) ids: Option<Box<IdWatch>>,
    /// Whether it is not known yet that `key` works.
    pub(super) tries_key: bool,
    /// Whether the client was promised no length, so that bytes may be added and the end may come anywhere. Known from the start, because a
    /// body that broke off no longer says so.
    pub(super) lengthless: bool,
    pub(super) source: Source,
    pub(super) clock: Clock,
    /// `None` for the gateway's own bytes, which contain neither trailers nor upstream keys.
    pub(super) policy: Option<ResponsePolicy>,
    /// The key that an event stream came with.
    pub(super) key: Option<Box<KeyUse>>,
    pub(super) permit: Option<TargetPermit>,
}

impl ActiveStream {
    /// Starts to forward `pending`. `total` is the deadline of the exchange, and the timeout that set it.
    pub(super) fn new(pending: PendingStream, total: Option<(Instant, Duration)>) -> Self {
        let PendingStream {
            body,
            filter,
            observer,
            held,
            counted,
            policy,
            idle,
            first_token,
            permit,
            key,
            ids,
            ..
        } = pending;
        let source = Source::Upstream { held, counted, body };
        let lengthless = observer.is_unfinished() || source.size_hint().exact().is_none();
        let heartbeat = policy.route().heartbeat.filter(|_| lengthless && observer.takes_comments());
        let first_token = first_token.filter(|_| observer.is_unfinished());
        let idle = idle.filter(|_| !observer.stays_open());
        let clock = Clock { idle, first_token, total, heartbeat, ..Clock::default() };
        let (tries_key, policy) = (key.is_some(), Some(policy));
        Self { observer, filter, ids, tries_key, lengthless, source, clock, policy, key, permit }
    }

    /// A response whose bytes the gateway has.
    pub(super) fn local(bytes: Bytes) -> Self {
        Self {
            observer: ResponseObserver::Nothing,
            filter: None,
            ids: None,
            tries_key: false,
            lengthless: false,
            source: Source::local(bytes),
            clock: Clock::default(),
            policy: None,
            key: None,
            permit: None,
        }
    }

    /// The next frame for the client.
    #[inline]
    pub(super) fn poll_frame(
        &mut self,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        if self.filter.is_some() {
            return self.poll_filtered(cx);
        }
        self.source.poll_frame(cx)
    }

    /// The bytes that the filter has kept back, when nothing more comes.
    pub(super) fn filtered_rest(&mut self) -> Option<Bytes> {
        let Self { filter, observer, .. } = self;
        filter.as_mut()?.rest(&mut |event| observer.see_removed(event))
    }

    /// Whether frames that came before anything else are to be sent.
    pub(super) fn has_frames(&self) -> bool {
        self.filter.as_ref().is_some_and(|filter| filter.has_frames())
    }

    /// Whether every byte that was promised has been handed over.
    pub(super) fn is_whole(&self) -> bool {
        self.source.is_whole() && self.filter.as_ref().is_none_or(|filter| filter.is_empty())
    }

    /// Whether no frame is left.
    pub(super) fn is_end_stream(&self) -> bool {
        self.source.is_end_stream() && self.filter.as_ref().is_none_or(|filter| filter.is_empty())
    }

    /// Whether the client has the whole response as it stands: all of the body, or its terminal event.
    pub(super) fn is_complete(&self) -> bool {
        self.observer.is_terminated() || (self.is_whole() && !self.observer.is_unfinished())
    }

    /// Whether `text` holds a key of any upstream.
    pub(super) fn holds_key(&self, text: &[u8]) -> bool {
        self.policy.as_ref().is_some_and(|policy| policy.holds_key(text))
    }

    /// The next frame that the filter lets through.
    fn poll_filtered(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        let Self { source, filter, observer, clock, .. } = self;
        let Some(filter) = filter else { return Poll::Ready(None) };
        loop {
            if let Some(frame) = filter.next() {
                return Poll::Ready(Some(Ok(frame)));
            }
            if filter.has_ended() {
                return Poll::Ready(None);
            }
            let removed = &mut |event: &[u8]| observer.see_removed(event);
            match ready!(source.poll_frame(cx)) {
                Some(Ok(frame)) => {
                    // The upstream is not silent, even if the client gets nothing of this.
                    clock.asked = None;
                    match frame.into_data() {
                        Ok(data) => filter.take(data, removed),
                        Err(trailers) => filter.take_trailers(trailers, removed),
                    }
                }
                Some(Err(error)) => return Poll::Ready(Some(Err(error))),
                None => filter.finish(removed),
            }
        }
    }
}
