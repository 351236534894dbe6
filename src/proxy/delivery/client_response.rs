//! A response that is ready to go to the client.

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use bytes::Bytes;
use http::{HeaderMap, HeaderValue, Response, StatusCode, header, response};

use super::{
    HoldBounds, HoldError, HoldTimeouts, PendingStream, Relay, ResponseObserver, SwitchedUpstream, commit,
    document,
    error_document::hold_error_document,
    learning,
    whole::{self, Form},
};
use crate::{
    config::Timeouts,
    exchange::{Exchange, Record},
    fault::{Fault, Reason, Recipient, event_of, reword},
    openai::{Dialect, Endpoint},
    proxy::{account_learning::IdWatch, key_use::KeyUse, sdk},
    snapshot::Snapshot,
    upstream::TargetPermit,
};

/// A response that is ready to go to the client.
#[derive(Debug)]
pub(in crate::proxy) struct ClientResponse {
    pub(super) head: response::Parts,
    content: ResponseContent,
}

/// Where a response's body comes from.
#[derive(Debug)]
enum ResponseContent {
    /// The gateway has all bytes.
    Local(Bytes),
    /// The gateway has all bytes of an upstream's error.
    UpstreamError(Box<UpstreamErrorContent>),
    /// The upstream sends it.
    Upstream(Box<PendingStream>),
    /// The upstream has switched to WebSocket.
    Switched(Box<SwitchedUpstream>),
}

/// An error response of an upstream.
#[derive(Debug)]
struct UpstreamErrorContent {
    bytes: Bytes,
    /// The name of the upstream.
    upstream: Arc<str>,
}

/// Why a response cannot go on as an event stream whose head is out already.
#[derive(Debug)]
pub(super) enum NotAStream {
    /// The response is an error, as this event.
    Error(Bytes),
    /// The response cannot be used.
    Fault(Fault),
}

impl ClientResponse {
    /// The response to a request that failed with `fault`, which also ends `exchange`.
    pub(in crate::proxy) fn of_fault(fault: &Fault, exchange: &mut Exchange, snapshot: &Snapshot) -> Self {
        exchange.fail(fault, |text| snapshot.upstream_keys.found_in(text));
        let status = fault.row().status;
        // The log has the original status.
        exchange.record.status = Some(status);
        let last = exchange.record.attempts.last().map(|attempt| &*attempt.upstream);
        let mut response = Self::local(fault.render(recipient(&exchange.record, snapshot, last)));
        if exchange.record.attempts.count() > 1 {
            sdk::forbid_retry(status, &mut response.head.headers);
        }
        response
    }

    /// An error response of `upstream`, which was read whole.
    pub(in crate::proxy) fn of_upstream_error(response: Response<Bytes>, upstream: &Arc<str>) -> Self {
        let (head, bytes) = response.into_parts();
        let content = UpstreamErrorContent { bytes, upstream: upstream.clone() };
        Self { head, content: ResponseContent::UpstreamError(Box::new(content)) }
    }

    /// Puts an upstream's error in other words, if the configuration has some for it.
    pub(in crate::proxy) fn reword(&mut self, exchange: &mut Exchange, snapshot: &Snapshot) {
        let ResponseContent::UpstreamError(error) = &mut self.content else { return };
        // The log has the original status.
        exchange.record.status = Some(self.head.status);
        if snapshot.errors.rules.is_empty() {
            return;
        }
        let UpstreamErrorContent { bytes, upstream } = &mut **error;
        let original = bytes.clone();
        reword(&mut self.head, bytes, recipient(&exchange.record, snapshot, Some(upstream)));
        // Escapes of the original may have hidden a key, and are gone now.
        if snapshot.upstream_keys.found_in(bytes) {
            *bytes = original;
        }
    }

    /// A response whose bytes the gateway has.
    pub(in crate::proxy) fn local(response: Response<Bytes>) -> Self {
        let (head, bytes) = response.into_parts();
        Self { head, content: ResponseContent::Local(bytes) }
    }

    /// A response that the upstream sends.
    pub(in crate::proxy) fn streamed(head: response::Parts, pending: PendingStream) -> Self {
        Self { head, content: ResponseContent::Upstream(Box::new(pending)) }
    }

    /// A response of 101, whose connection goes on as WebSocket.
    pub(in crate::proxy) fn switched(head: response::Parts, upstream: SwitchedUpstream) -> Self {
        Self { head, content: ResponseContent::Switched(Box::new(upstream)) }
    }

    /// The head of a response of 101, and the upstream's connection.
    ///
    /// # Errors
    /// It is another response.
    pub(in crate::proxy) fn into_switched(
        self,
    ) -> Result<(response::Parts, Box<SwitchedUpstream>), Box<Self>> {
        match self.content {
            ResponseContent::Switched(upstream) => Ok((self.head, upstream)),
            content => Err(Box::new(Self { head: self.head, content })),
        }
    }

    /// The response's status.
    pub(in crate::proxy) fn status(&self) -> StatusCode {
        self.head.status
    }

    /// Tells SDKs that the gateway has tried everything already.
    pub(in crate::proxy) fn not_to_be_retried(mut self) -> Self {
        sdk::forbid_retry(self.head.status, &mut self.head.headers);
        self
    }

    /// Whether [`hold_start`](Self::hold_start) or [`hold_document`](Self::hold_document) holds anything of the response to a request for a
    /// stream, or for no stream.
    pub(in crate::proxy) fn may_fail_at_start(&self, to_stream: bool) -> bool {
        let ResponseContent::Upstream(pending) = &self.content else { return false };
        pending.observer.is_unfinished() || (to_stream && pending.observer.is_document())
    }

    /// Holds an event stream back until its first content; anything else goes at once.
    ///
    /// # Errors
    /// The stream failed before its first content.
    pub(in crate::proxy) async fn hold_start(
        &mut self,
        clocks: HoldTimeouts,
        endpoint: Endpoint,
        bounds: HoldBounds<'_>,
    ) -> Result<(), HoldError> {
        match &mut self.content {
            ResponseContent::Upstream(pending) if pending.observer.is_unfinished() => {
                commit::hold_until_content(pending, clocks, endpoint, &bounds).await
            }
            ResponseContent::Upstream(_)
            | ResponseContent::Switched(_)
            | ResponseContent::Local(_)
            | ResponseContent::UpstreamError(_) => Ok(()),
        }
    }

    /// Holds a JSON document that is the response to a request for a stream, until it is known whether it is an error; anything else goes at once.
    ///
    /// # Errors
    /// The document is an error, or ended early.
    pub(in crate::proxy) async fn hold_document(
        &mut self,
        clocks: HoldTimeouts,
        endpoint: Endpoint,
        bounds: &HoldBounds<'_>,
    ) -> Result<(), HoldError> {
        match &mut self.content {
            ResponseContent::Upstream(pending)
                if self.head.status.is_success() && pending.observer.is_document() =>
            {
                hold_error_document(pending, clocks, endpoint, bounds).await
            }
            ResponseContent::Upstream(_)
            | ResponseContent::Switched(_)
            | ResponseContent::Local(_)
            | ResponseContent::UpstreamError(_) => Ok(()),
        }
    }

    /// Holds the response until it is complete.
    ///
    /// # Errors
    /// The response failed before its end, is no answer of `endpoint`, or is larger than `bounds` allow.
    pub(in crate::proxy) async fn hold_whole(
        &mut self,
        clocks: HoldTimeouts,
        endpoint: Endpoint,
        bounds: HoldBounds<'_>,
    ) -> Result<(), HoldError> {
        let ResponseContent::Upstream(pending) = &mut self.content else { return Ok(()) };
        let is_coded = self.head.headers.contains_key(header::CONTENT_ENCODING);
        // Of another operation, a file may be labelled JSON and be something else.
        let is_answer = endpoint.is_inference() && self.head.status.is_success();
        let form = match pending.observer {
            ResponseObserver::Events(_) => Form::Events(endpoint.dialect()),
            // Whatever its label: a page of HTML is no answer, and a document without a label may be one.
            ResponseObserver::Document(_) | ResponseObserver::Nothing if is_answer && !is_coded => {
                Form::Answer(endpoint)
            }
            ResponseObserver::Document(_) | ResponseObserver::Nothing => Form::Opaque,
        };
        whole::hold_until_complete(pending, clocks, form, bounds).await
    }

    /// Holds the response until the ids that it begins with are learnt by `watch` and written down, which goes on learning then.
    ///
    /// # Errors
    /// The response ended early, or was silent for too long.
    pub(in crate::proxy) async fn hold_until_learnt(
        &mut self,
        mut watch: Box<IdWatch>,
        timeouts: Timeouts,
        bounds: &HoldBounds<'_>,
    ) -> Result<(), Fault> {
        match &mut self.content {
            ResponseContent::Upstream(pending) => {
                learning::hold_until_learnt(pending, watch, timeouts, bounds).await
            }
            ResponseContent::Switched(upstream) => {
                watch.learn().await;
                upstream.ids = Some(watch);
                Ok(())
            }
            ResponseContent::Local(_) | ResponseContent::UpstreamError(_) => {
                watch.learn().await;
                Ok(())
            }
        }
    }

    /// Reads the body whole. `None`: there is none of an upstream, or it is larger than `bounds` allow, and goes on as it came.
    ///
    /// # Errors
    /// The body ended early, or stopped arriving.
    pub(in crate::proxy) async fn read_document(
        &mut self,
        bounds: &HoldBounds<'_>,
    ) -> Result<Option<Bytes>, Fault> {
        match &mut self.content {
            ResponseContent::Upstream(pending) => document::read_document(pending, bounds).await,
            ResponseContent::Switched(_) | ResponseContent::Local(_) | ResponseContent::UpstreamError(_) => {
                Ok(None)
            }
        }
    }

    /// Puts another document in the place of the body, which was read whole.
    pub(in crate::proxy) fn replace_document(&mut self, document: Bytes) {
        if let ResponseContent::Upstream(pending) = &mut self.content {
            if self.head.headers.contains_key(header::CONTENT_LENGTH) {
                self.head.headers.insert(header::CONTENT_LENGTH, HeaderValue::from(document.len()));
            }
            document::replace_document(pending, document);
        }
    }

    /// Notes that the response comes from the target of `permit`, which keeps the request pending there. Content is due within `first_token`
    /// after `start`, when the request was sent.
    pub(in crate::proxy) fn comes_from(
        &mut self,
        permit: TargetPermit,
        first_token: Option<Duration>,
        start: Instant,
    ) {
        match &mut self.content {
            ResponseContent::Upstream(pending) => {
                pending.first_token = first_token.map(|limit| (start + limit, limit));
                pending.permit = Some(permit);
            }
            ResponseContent::Switched(upstream) => upstream.permit = Some(permit),
            ResponseContent::Local(_) | ResponseContent::UpstreamError(_) => {}
        }
    }

    /// Notes that the response came with this key. A stream tells by its first event whether the key works, and any later event may be an error
    /// about it; any other response tells by its head.
    pub(in crate::proxy) fn uses(&mut self, mut key: KeyUse) {
        match &mut self.content {
            ResponseContent::Upstream(pending) if pending.observer.is_events() => {
                pending.key = Some(Box::new(key));
            }
            ResponseContent::Upstream(_)
            | ResponseContent::Switched(_)
            | ResponseContent::Local(_)
            | ResponseContent::UpstreamError(_) => {
                key.works();
            }
        }
    }

    /// Removes the body, because the request was a HEAD; hyper does so on HTTP/1.1 only. The length that GET would have stays in the head.
    pub(in crate::proxy) fn for_head(mut self) -> Self {
        let bytes = match &self.content {
            ResponseContent::Local(bytes) => Some(bytes),
            ResponseContent::UpstreamError(error) => Some(&error.bytes),
            ResponseContent::Upstream(_) | ResponseContent::Switched(_) => None,
        };
        if let Some(bytes) = bytes {
            if !bytes.is_empty() {
                self.head.headers.insert(header::CONTENT_LENGTH, HeaderValue::from(bytes.len()));
            }
            self.content = ResponseContent::Local(Bytes::new());
        }
        self
    }

    /// The response's headers.
    pub(in crate::proxy) fn headers_mut(&mut self) -> &mut HeaderMap {
        &mut self.head.headers
    }

    /// The response's head, and the relay of its body.
    pub(in crate::proxy) fn into_relay(self, exchange: Box<Exchange>) -> (response::Parts, Relay) {
        let relay = match self.content {
            ResponseContent::Local(bytes) => Relay::local(bytes, exchange),
            ResponseContent::UpstreamError(error) => Relay::local(error.bytes, exchange),
            ResponseContent::Upstream(pending) => Relay::upstream(*pending, exchange),
            // Its connection is closed: it goes on only by `into_switched`.
            ResponseContent::Switched(_) => Relay::local(Bytes::new(), exchange),
        };
        (self.head, relay)
    }

    /// The response as the rest of an event stream of `dialect` whose head was sent already.
    ///
    /// # Errors
    /// The response is not such a stream.
    pub(super) fn into_stream(
        self,
        dialect: Dialect,
        close_delimited: bool,
    ) -> Result<PendingStream, NotAStream> {
        match self.content {
            ResponseContent::Upstream(mut pending) if pending.observer.is_events() => {
                pending.close_delimited = close_delimited;
                Ok(*pending)
            }
            ResponseContent::Upstream(_) | ResponseContent::Switched(_) => {
                Err(NotAStream::Fault(Fault::BadAnswer(Reason::AnswerNotStream)))
            }
            ResponseContent::Local(bytes) => Err(as_event(&bytes, self.head.status, dialect)),
            ResponseContent::UpstreamError(error) => Err(as_event(&error.bytes, self.head.status, dialect)),
        }
    }
}

/// The client of an exchange as the recipient of an error that comes from `upstream`.
fn recipient<'a>(record: &'a Record, snapshot: &'a Snapshot, upstream: Option<&'a str>) -> Recipient<'a> {
    Recipient {
        form: record.error_form,
        request_id: record.request_id.as_str(),
        languages: &record.languages,
        rules: &snapshot.errors.rules,
        upstream,
    }
}

/// An error response as an event of a stream that has begun.
fn as_event(bytes: &[u8], status: StatusCode, dialect: Dialect) -> NotAStream {
    match event_of(bytes, dialect) {
        Some(event) => NotAStream::Error(event),
        None => NotAStream::Fault(Fault::Withheld(status.as_u16())),
    }
}
