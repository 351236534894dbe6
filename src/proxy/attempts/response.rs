//! Decides about an upstream's response: the client gets it, or it is an error and another candidate may be tried.

use std::{
    future::poll_fn,
    pin::Pin,
    sync::Arc,
    time::{Duration, Instant},
};

use bytes::{Bytes, BytesMut};
use http::{HeaderMap, HeaderValue, Method, Response, StatusCode, Version, header, response};
use http_body::Body;

use super::{
    candidate::{AskedUsage, Candidate},
    error_body::ErrorBody,
    redirect::relocate,
    retry::AttemptError,
    upstream_error::{UpstreamError, judge_event},
    usage_refused::may_refuse_usage,
    wait,
};
use crate::{
    exchange::Exchange,
    fault::{Fault, Reason},
    openai::Dialect,
    pause, policy,
    proxy::{
        buffered::{self, Buffered},
        context::RequestContext,
        delivery::{
            ClientResponse, HoldTimeouts, LONGEST, PendingStream, ResponseObserver, ResponsePolicy,
            next_within,
        },
        intake::is_json,
    },
    snapshot::{Route, Upstream},
    sse::{Sniffed, sniff},
    upstream::{Answer, AnswerBody},
};

/// The largest error body that is searched for keys, in bytes; a larger one is withheld.
const MOST_ERROR_BYTES: usize = 256 << 10;

/// How long an error body may take to arrive.
const ERROR_TIMEOUT: Duration = Duration::from_secs(30);

/// Makes the client's response from the upstream's, `answer`.
///
/// # Errors
/// The response is an error, cannot be used, or is about the gateway's own key.
pub(super) async fn judge(
    context: &RequestContext,
    exchange: &mut Exchange,
    answer: Answer,
    route: &Arc<Route>,
    candidate: &Candidate,
) -> Result<ClientResponse, AttemptError> {
    let (mut head, mut body) = (*answer).into_parts();
    let mut kind = BodyKind::of(&head.headers);
    if kind == BodyKind::Unlabelled && exchange.record.stream == Some(true) && head.status.is_success() {
        let start = exchange.record.attempts.last().map_or_else(Instant::now, |attempt| attempt.start);
        let clocks = HoldTimeouts { start: candidate.content_due_from(start), timeouts: candidate.timeouts };
        kind = Box::pin(recognise(&mut body, clocks)).await.map_err(AttemptError::Fault)?;
    }
    let endpoint = exchange.record.endpoint;
    // A response to an inference must have a body, even if the framing of an empty one is correct.
    let must_have_body = endpoint.is_inference() && head.status == StatusCode::OK;
    let bodiless = exchange.record.method == Method::HEAD || (body.is_end_stream() && !must_have_body);
    let observer = if bodiless { ResponseObserver::Nothing } else { kind.observer(endpoint.dialect()) };
    write_length(&mut head, &body, &observer, bodiless);
    relocate(&mut head, route, candidate.target()).map_err(AttemptError::Fault)?;
    if head.headers.contains_key(header::TRANSFER_ENCODING) && !is_chunked(&head.headers) {
        return Err(AttemptError::Fault(Fault::UnusableHead(Reason::TransferCoding)));
    }
    let id = headers_to_client(context, &mut head.headers, route, candidate);
    exchange.record.upstream_request_id = id.and_then(|id| id.to_str().map(str::to_owned).ok());
    head.version = exchange.record.version;
    head.extensions.clear();
    if head.status == StatusCode::SWITCHING_PROTOCOLS {
        let fault = Fault::UnusableHead(Reason::AnswerSwitches);
        return Err(AttemptError::Fault(fault));
    }
    // HTTP has no status above 599 (RFC 9110 section 15), but nothing keeps an upstream from sending one.
    if head.status.as_u16() >= 400 {
        let is_head = exchange.record.method == Method::HEAD;
        let bytes = Box::pin(error_bytes(context, head.status, body, kind)).await;
        let error = upstream_error(head, bytes, candidate, is_head);
        return Err(AttemptError::Upstream(Box::new(error)));
    }
    let close_delimited =
        exchange.record.version == Version::HTTP_10 && !head.headers.contains_key(header::CONTENT_LENGTH);
    let policy = ResponsePolicy::new(route, candidate.secrets(), candidate.has_key(), judge_event);
    let pending = PendingStream::new(body, observer, policy, candidate.timeouts.idle, close_delimited);
    let pending = if candidate.usage == AskedUsage::Yes { pending.without_usage() } else { pending };
    Ok(ClientResponse::streamed(head, pending))
}

/// Applies the header policy to a response. Returns the upstream's request id.
fn headers_to_client(
    context: &RequestContext,
    headers: &mut HeaderMap,
    route: &Arc<Route>,
    candidate: &Candidate,
) -> Option<HeaderValue> {
    let (rules, secrets) = (&route.response_headers, candidate.secrets());
    if candidate.ephemeral.is_some() {
        // Its scanner is of this request alone.
        return policy::to_caller(headers, rules, secrets, None);
    }
    let memo = &context.worker.names_memo;
    memo.with(route, secrets, |names| policy::to_caller(headers, rules, secrets, Some(names)))
}

/// Reads an error response of `upstream` that the client does not get.
pub(super) async fn read_error(
    context: RequestContext,
    answer: Answer,
    upstream: Arc<Upstream>,
) -> UpstreamError {
    let (head, body) = (*answer).into_parts();
    let bytes = error_bytes(&context, head.status, body, BodyKind::of(&head.headers)).await;
    let body = bytes.ok().and_then(|bytes| ErrorBody::read(&bytes));
    UpstreamError::of_response(head.status, &head.headers, body.as_ref(), upstream.auth.is_some())
}

/// Sets the response's `content-length` for the client, or removes it.
fn write_length(head: &mut response::Parts, body: &AnswerBody, observer: &ResponseObserver, bodiless: bool) {
    let length = match body.size_hint().exact() {
        _ if head.status == StatusCode::NO_CONTENT => None,
        // The length of the body that GET would have; hyper has not checked it.
        _ if bodiless => one_length(&head.headers),
        // The length of a chunked body is in its chunks. A `content-length` beside them must be ignored (RFC 9112 §6.3), but hyper's server would
        // use it. A stream that ends with an event may need room for an error event, whatever length it announced.
        known => known.filter(|_| !observer.is_unfinished()),
    };
    // The gateway writes the length itself: hyper takes `7, 7` and repeated lines for 7, others do not (RFC 9110 §8.6).
    match length.filter(|_| head.headers.contains_key(header::CONTENT_LENGTH)) {
        Some(length) => _ = head.headers.insert(header::CONTENT_LENGTH, HeaderValue::from(length)),
        None => _ = head.headers.remove(header::CONTENT_LENGTH),
    }
}

/// An upstream's error response with the body `bytes`. The client gets it unchanged, unless it is about the gateway's key or contains a key.
fn upstream_error(
    mut head: response::Parts,
    bytes: Result<Bytes, Fault>,
    candidate: &Candidate,
    is_head: bool,
) -> UpstreamError {
    let status = head.status;
    let body = bytes.as_ref().ok().and_then(|bytes| ErrorBody::read(bytes));
    let error = UpstreamError::of_response(status, &head.headers, body.as_ref(), candidate.has_key());
    let may_refuse_usage = bytes.as_ref().is_ok_and(|bytes| may_refuse_usage(status, bytes));
    if !is_head {
        head.headers.remove(header::CONTENT_LENGTH);
    }
    wait::cap(&mut head.headers);
    let response = bytes.and_then(|bytes| {
        if candidate.secrets().found_in(&bytes) {
            return Err(Fault::Withheld(status.as_u16()));
        }
        Ok(ClientResponse::of_upstream_error(Response::from_parts(head, bytes), &candidate.upstream.name))
    });
    UpstreamError { may_refuse_usage, ..error }.answered(response)
}

/// Whether `chunked` is the only transfer coding. hyper accepts others too, and with the header gone they would be left in the body (RFC 9112
/// §6.1).
fn is_chunked(headers: &HeaderMap) -> bool {
    let mut codings = headers.get_all(header::TRANSFER_ENCODING).iter();
    codings.next().is_some_and(|coding| coding.as_bytes().eq_ignore_ascii_case(b"chunked"))
        && codings.next().is_none()
}

/// The length in the header, if the header occurs once.
fn one_length(headers: &HeaderMap) -> Option<u64> {
    let mut lengths = headers.get_all(header::CONTENT_LENGTH).iter();
    let length = lengths.next()?.to_str().ok()?.parse().ok();
    length.filter(|_| lengths.next().is_none())
}

/// The kind of a response's body, by the upstream's own headers. It is read before a route's rules may remove them.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum BodyKind {
    /// An event stream.
    Events,
    /// JSON, one document in each line.
    Lines,
    /// A JSON document.
    Json,
    /// Compressed.
    Coded,
    /// Without a `content-type`, or with the one that servers give to what they do not know.
    Unlabelled,
    /// Anything else.
    Opaque,
}

impl BodyKind {
    fn of(headers: &HeaderMap) -> Self {
        let kind = headers.get(header::CONTENT_TYPE).map(HeaderValue::as_bytes).unwrap_or_default();
        let essence = kind.split(|byte| *byte == b';').next().unwrap_or_default().trim_ascii();
        if headers.get(header::CONTENT_ENCODING).is_some_and(|coding| coding != "identity") {
            Self::Coded
        } else if essence.eq_ignore_ascii_case(b"text/event-stream") {
            Self::Events
        } else if essence.eq_ignore_ascii_case(b"application/x-ndjson") {
            Self::Lines
        } else if is_json(kind) {
            Self::Json
        } else if essence.is_empty() || essence.eq_ignore_ascii_case(b"text/plain") {
            Self::Unlabelled
        } else {
            Self::Opaque
        }
    }

    /// The observer for such a body.
    fn observer(self, dialect: Dialect) -> ResponseObserver {
        match self {
            // A stream in another form than the dialect's.
            Self::Events if dialect.is_lines() => ResponseObserver::events(Dialect::OTHER),
            Self::Events => ResponseObserver::events(dialect),
            Self::Lines if dialect.is_lines() => ResponseObserver::events(dialect),
            Self::Json => ResponseObserver::document(dialect),
            Self::Lines | Self::Coded | Self::Unlabelled | Self::Opaque => ResponseObserver::Nothing,
        }
    }
}

/// The kind of a body without a label where a stream was requested, by its first bytes, which stay in the body. Several servers and proxies
/// send event streams as `text/plain` or without a `content-type`. The first bytes have to come as early as the first content of a stream with a
/// label; without a timeout for that, a body that is silent for [`LONGEST`] is passed on as it comes.
async fn recognise(body: &mut AnswerBody, clocks: HoldTimeouts) -> Result<BodyKind, Fault> {
    let HoldTimeouts { start, timeouts } = clocks;
    let longest = timeouts.first_token.unwrap_or(LONGEST);
    let mut first = Bytes::new();
    let found = loop {
        let frame = match next_within(body, timeouts.idle, Some((start + longest, longest))).await {
            Err(Fault::FirstTokenTimeout(_)) if timeouts.first_token.is_none() => break Sniffed::Undecided,
            frame => frame?,
        };
        let Some(data) = frame.and_then(|frame| frame.into_data().ok()) else {
            break Sniffed::SomethingElse;
        };
        first = if first.is_empty() { data } else { [first, data].concat().into() };
        // Only so many bytes are ever undecided.
        let found = sniff(&first);
        if found != Sniffed::Undecided {
            break found;
        }
    };
    let is_object = first.iter().find(|byte| !byte.is_ascii_whitespace()) == Some(&b'{');
    if !first.is_empty() {
        body.unread(first);
    }
    Ok(match found {
        Sniffed::Events => BodyKind::Events,
        // An answer, or an error, of a server that does not stream.
        _ if is_object => BodyKind::Json,
        Sniffed::SomethingElse | Sniffed::Undecided => BodyKind::Opaque,
    })
}

/// The body of an error response, if it can be searched for upstream keys and there is room for it.
async fn error_bytes(
    context: &RequestContext,
    status: StatusCode,
    body: AnswerBody,
    kind: BodyKind,
) -> Result<Bytes, Fault> {
    let withheld = Fault::Withheld(status.as_u16());
    if kind == BodyKind::Coded {
        return Err(withheld);
    }
    let mut held = Buffered::new(&context.worker.gateway);
    let bound = context.snapshot.server.max_buffered;
    match pause::timeout(ERROR_TIMEOUT, read(body, &mut held, bound)).await {
        Err(_) => Err(Fault::Idle(ERROR_TIMEOUT)),
        Ok(Err(fault)) => Err(fault),
        Ok(Ok(None)) => Err(withheld),
        Ok(Ok(Some(bytes))) => Ok(buffered::own(bytes, held)),
    }
}

/// The whole body, counted in `held`; `None` if it is larger than [`MOST_ERROR_BYTES`], or if the process would then hold more than `bound`.
async fn read(mut body: AnswerBody, held: &mut Buffered, bound: u64) -> Result<Option<Bytes>, Fault> {
    let mut bytes = BytesMut::new();
    while let Some(frame) = poll_fn(|cx| Pin::new(&mut body).poll_frame(cx)).await {
        let frame = frame.map_err(|error| Fault::Truncated(error.into()))?;
        let Ok(data) = frame.into_data() else { continue };
        let length = bytes.len() + data.len();
        if length > MOST_ERROR_BYTES || held.grow_to(length as u64, bound).is_err() {
            return Ok(None);
        }
        bytes.extend_from_slice(&data);
        // Spare room counts too: it is no more than what is there, and so no more than the largest body.
        if held.grow_to(bytes.capacity() as u64, bound).is_err() {
            return Ok(None);
        }
    }
    Ok(Some(bytes.freeze()))
}
