//! An upstream's response that the client may get, before any of it goes out.

use std::{
    collections::VecDeque,
    time::{Duration, Instant},
};

use bytes::Bytes;
use http_body::Frame;

use super::{EventFilter, ResponseObserver, ResponsePolicy};
use crate::{
    proxy::{account_learning::IdWatch, buffered::Buffered, key_use::KeyUse},
    upstream::{AnswerBody, TargetPermit},
};

/// An upstream's response that the client may get, before any of it goes out.
#[derive(Debug)]
pub(in crate::proxy) struct PendingStream {
    /// What was not read yet; `None` once the response was held to its end.
    pub(super) body: Option<AnswerBody>,
    /// Removes what the client did not ask for.
    pub(super) filter: Option<Box<EventFilter>>,
    pub(super) observer: ResponseObserver,
    /// Frames that were read while the response was held back.
    pub(super) held: VecDeque<Frame<Bytes>>,
    /// The count of the held frames, unless they have counts of their own.
    pub(super) counted: Option<Buffered>,
    pub(super) policy: ResponsePolicy,
    /// The longest silence of the upstream.
    pub(super) idle: Option<Duration>,
    /// The deadline for the first content, and the timeout that set it.
    pub(super) first_token: Option<(Instant, Duration)>,
    /// The request counts as pending at its target for as long as this lives.
    pub(super) permit: Option<TargetPermit>,
    /// The key that it came with, if it is an event stream.
    pub(super) key: Option<Box<KeyUse>>,
    /// Learns which ids the account knows that answers.
    pub(super) ids: Option<Box<IdWatch>>,
    /// Whether the end of the connection is the end of the response.
    pub(super) close_delimited: bool,
}

impl PendingStream {
    /// A response whose body was not read yet.
    pub(in crate::proxy) fn new(
        body: AnswerBody,
        observer: ResponseObserver,
        policy: ResponsePolicy,
        idle: Option<Duration>,
        close_delimited: bool,
    ) -> Self {
        let held = VecDeque::new();
        Self {
            body: Some(body),
            filter: None,
            observer,
            held,
            counted: None,
            policy,
            idle,
            first_token: None,
            permit: None,
            key: None,
            ids: None,
            close_delimited,
        }
    }

    /// Removes the usage from the response, because its client did not ask for it.
    pub(in crate::proxy) fn without_usage(mut self) -> Self {
        self.filter = self.observer.is_events().then(Box::default);
        self
    }
}
