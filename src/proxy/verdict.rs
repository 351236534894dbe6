//! What becomes of an upstream's answer: it is passed on, or it is the gateway's own affair.

use std::{
    future::poll_fn,
    pin::Pin,
    sync::Arc,
    time::{Duration, Instant, SystemTime},
};

use bytes::{Bytes, BytesMut};
use http::{HeaderMap, HeaderValue, Method, Response, StatusCode, Version, header, response};
use http_body::{Body, Frame};

use super::{
    Counted, Relay,
    again::Failed,
    call::Call,
    complete,
    dispatch::not_to_be_retried,
    hold::{Unheld, hold},
    intake::is_json,
    places::Place,
    redirect::relocate,
    relay::{ERROR_EVENT, Passage},
    sight::Sight,
    told::Told,
};
use crate::{
    config::Timeouts,
    exchange::Exchange,
    fault::{Fault, SHOULD_RETRY, event_of},
    openai::{Dialect, Endpoint},
    policy,
    snapshot::{Route, Upstream},
    upstream::AnswerBody,
};

/// An error answer above this is not checked for keys, and so not passed on.
const MOST_ERROR_BYTES: usize = 256 << 10;

/// An error answer's body must be there by then.
const ERROR_PATIENCE: Duration = Duration::from_secs(30);

/// An answer, ready to go to the caller.
#[derive(Debug)]
pub(super) struct Answered {
    head: response::Parts,
    content: Content,
}

/// Where an answer's body comes from.
#[derive(Debug)]
pub(super) enum Content {
    /// It is here.
    Local(Bytes),
    /// What was read of an event stream that is an error of the upstream's.
    Told(Bytes),
    /// The upstream sends it.
    Passing(Box<Passage>),
}

/// An error answer of an upstream's.
#[derive(Debug)]
pub(super) struct Refusal {
    /// As the upstream has it; for an error as the first thing in a stream, what it would be without one.
    pub(super) status: StatusCode,
    /// It is the first thing in a stream.
    pub(super) in_stream: bool,
    /// `error.code`, or `error.type` if that says more.
    pub(super) code: Option<String>,
    /// What it says of when to ask again.
    pub(super) retry_after: Option<Duration>,
    /// It says itself that asking it again is of no use (`x-should-retry: false`, as the SDKs heed it).
    pub(super) hopeless: bool,
    /// It is our key that is refused.
    pub(super) about_our_key: bool,
    /// What the caller is told if nothing better is found.
    pub(super) given: Result<Answered, Fault>,
}

impl Refusal {
    /// An error event, `data`, that is the first thing in a stream, which the caller gets as it is.
    pub(super) fn in_stream(answered: Answered, data: &[u8]) -> Self {
        Self::told_in_stream(Told::read(data), |_, _| Ok(answered))
    }

    /// Others are asked.
    pub(super) fn detach(&mut self) {
        if let Ok(answered) = &mut self.given {
            answered.detach();
        }
    }

    /// An error event, `data`, in a stream that was to be whole, of which the caller gets the error alone.
    pub(super) fn instead_of_whole(data: &[u8], upstream: &Upstream) -> Self {
        let told = Told::read(data).filter(|_| !upstream.crossing.carries(data));
        Self::told_in_stream(told, |told, status| {
            if is_about_key(status, told) {
                return Err(Fault::UpstreamAuth(status.as_u16()));
            }
            // Searched as it is written here, too: it may have been escaped.
            let body = told.map(Told::body).filter(|body| !upstream.crossing.carries(body));
            let mut response = Response::new(body.ok_or(Fault::Withheld(status.as_u16()))?);
            *response.status_mut() = status;
            let kind = HeaderValue::from_static("application/json");
            response.headers_mut().insert(header::CONTENT_TYPE, kind);
            Ok(Answered::local(response))
        })
    }

    fn told_in_stream(
        told: Option<Told>,
        given: impl FnOnce(Option<&Told>, StatusCode) -> Result<Answered, Fault>,
    ) -> Self {
        let status = told.as_ref().map_or(StatusCode::INTERNAL_SERVER_ERROR, Told::status);
        let about_our_key = is_about_key(status, told.as_ref());
        Self {
            given: given(told.as_ref(), status),
            status,
            in_stream: true,
            code: told.and_then(Told::into_code),
            retry_after: None,
            hopeless: false,
            about_our_key,
        }
    }
}

/// Whether an error in a stream is about the gateway's key, by the status that it has or would have.
fn is_about_key(status: StatusCode, told: Option<&Told>) -> bool {
    let concerns_model = told.is_some_and(Told::is_about_a_model);
    status == StatusCode::UNAUTHORIZED || (status == StatusCode::FORBIDDEN && !concerns_model)
}

impl Answered {
    /// Lets go of the upstream's connection, since others are asked: what was read of it is all that the caller may get of it yet.
    fn detach(&mut self) {
        if let Content::Passing(passage) = &self.content {
            let held = passage.held.iter().filter_map(Frame::data_ref);
            self.content = Content::Told(
                held.fold(BytesMut::new(), |mut all, data| {
                    all.extend_from_slice(data);
                    all
                })
                .freeze(),
            );
        }
    }

    /// Holds an event stream back until its first content; anything else goes at once.
    pub(super) async fn hold(
        &mut self,
        began: Instant,
        timeouts: &Timeouts,
        endpoint: Endpoint,
    ) -> Result<(), Unheld> {
        match &mut self.content {
            Content::Passing(passage) if passage.sight.is_unfinished() => {
                hold(&mut passage.body, &mut passage.held, began, timeouts, endpoint).await
            }
            Content::Passing(_) | Content::Local(_) | Content::Told(_) => Ok(()),
        }
    }

    /// Holds it until it is complete.
    pub(super) async fn hold_whole(
        &mut self,
        clocks: (Instant, &Timeouts),
        endpoint: Endpoint,
        bounds: complete::Bounds<'_>,
    ) -> Result<(), Unheld> {
        let Content::Passing(passage) = &mut self.content else { return Ok(()) };
        let events = passage.sight.is_events().then_some(endpoint.dialect());
        complete::hold(&mut passage.body, &mut passage.held, clocks, events, bounds).await
    }

    /// It is pending at `place` until it is over; the request was sent when that `began`.
    pub(super) fn comes_from(&mut self, place: Place, began: Instant) {
        if let Content::Passing(passage) = &mut self.content {
            passage.first_token = place.timeouts.first_token.map(|limit| (began + limit, limit));
            passage.pass = Some(place.pass);
        }
    }

    /// Tells SDKs that everything has been tried.
    pub(super) fn not_to_be_retried(mut self) -> Self {
        not_to_be_retried(self.head.status, &mut self.head.headers);
        self
    }

    /// An answer that is here whole.
    pub(super) fn local(response: Response<Bytes>) -> Self {
        let (head, bytes) = response.into_parts();
        Self { head, content: Content::Local(bytes) }
    }

    /// As the rest of an event stream of `dialect` whose head has gone out.
    ///
    /// # Errors
    /// It is no such stream: what to say instead, or a fault.
    pub(super) fn into_stream(
        self,
        dialect: Dialect,
        close_delimited: bool,
    ) -> Result<Passage, Result<Bytes, Fault>> {
        match self.content {
            Content::Passing(mut passage) if passage.sight.is_events() => {
                passage.close_delimited = close_delimited;
                Ok(*passage)
            }
            Content::Passing(_) => Err(Err(Fault::BadAnswer("it is no event stream"))),
            Content::Told(events) => Err(Ok(events)),
            Content::Local(bytes) => {
                Err(event_of(&bytes, dialect).ok_or(Fault::Withheld(self.head.status.as_u16())))
            }
        }
    }

    pub(super) fn into_parts(self) -> (response::Parts, Content) {
        (self.head, self.content)
    }
}

impl Content {
    /// What goes out in answer to HEAD: nothing. hyper sees to that on HTTP/1.1 alone. The length that GET would have is told.
    pub(super) fn for_head(self, headers: &mut HeaderMap) -> Self {
        match self {
            Self::Local(bytes) => {
                if !bytes.is_empty() {
                    headers.insert(header::CONTENT_LENGTH, HeaderValue::from(bytes.len()));
                }
                Self::Local(Bytes::new())
            }
            Self::Told(_) | Self::Passing(_) => self,
        }
    }

    pub(super) fn into_relay(self, mut exchange: Box<Exchange>, in_flight: Counted) -> Relay {
        match self {
            Self::Local(bytes) => Relay::local(bytes, exchange, in_flight),
            Self::Told(events) => {
                let mut sight = Sight::events_of(exchange.record.endpoint.dialect());
                sight.look(&events);
                exchange.record.tally.events = sight.events();
                exchange.conclude(ERROR_EVENT);
                Relay::local(events, exchange, in_flight)
            }
            Self::Passing(passage) => Relay::passing(*passage, exchange, in_flight),
        }
    }
}

impl Call {
    /// Decides what the caller is given of `answer`.
    ///
    /// # Errors
    /// The answer is about the gateway's own key, holds it, or cannot be used.
    pub(super) async fn judge(
        &mut self,
        answer: Response<AnswerBody>,
        route: &Arc<Route>,
        place: &Place,
    ) -> Result<Answered, Failed> {
        let (mut head, body) = answer.into_parts();
        let upstream = &place.upstream;
        let kind = Kind::of(&head.headers);
        let bodiless = self.exchange.record.method == Method::HEAD || body.is_end_stream();
        let sight =
            if bodiless { Sight::Nothing } else { kind.sight(self.exchange.record.endpoint.dialect()) };
        let length = match body.size_hint().exact() {
            _ if head.status == StatusCode::NO_CONTENT => None,
            // It is of what is not here, and hyper has not looked at it.
            _ if bodiless => one_length(&head.headers),
            // A chunked body's length is told by its chunks; a length beside them counts for nothing (RFC 9112 §6.3), but hyper's server
            // would frame by it. And a stream whose end is an event may need room for last words, whatever it promised.
            known => known.filter(|_| !sight.is_unfinished()),
        };
        // Written anew: hyper takes `7, 7` and repeated lines for 7, others do not (RFC 9110 §8.6).
        match length.filter(|_| head.headers.contains_key(header::CONTENT_LENGTH)) {
            Some(length) => _ = head.headers.insert(header::CONTENT_LENGTH, HeaderValue::from(length)),
            None => _ = head.headers.remove(header::CONTENT_LENGTH),
        }
        relocate(&mut head, route, place.target()).map_err(Failed::Fault)?;
        if head.headers.contains_key(header::TRANSFER_ENCODING) && !is_chunked(&head.headers) {
            return Err(Failed::Fault(Fault::BadAnswer("its Transfer-Encoding is not just chunked")));
        }
        policy::to_caller(&mut head.headers, &route.response_headers, &upstream.crossing);
        let id = head.headers.get(policy::UPSTREAM_REQUEST_ID);
        self.exchange.record.upstream_request_id = id.and_then(|id| id.to_str().map(str::to_owned).ok());
        head.version = self.exchange.record.version;
        head.extensions.clear();
        if head.status == StatusCode::SWITCHING_PROTOCOLS {
            let fault = Fault::BadAnswer("it switches protocols, which was not asked for");
            return Err(Failed::Fault(fault));
        }
        // What is above 599 is no status that HTTP has (RFC 9110 section 15), but nothing keeps an upstream from saying it.
        if head.status.as_u16() >= 400 {
            return Err(Failed::Refused(Box::new(Box::pin(self.refusal(head, body, kind, upstream)).await)));
        }
        let close_delimited = self.exchange.record.version == Version::HTTP_10
            && !head.headers.contains_key(header::CONTENT_LENGTH);
        let passage = Passage::new(body, sight, route, place, close_delimited);
        Ok(Answered { head, content: Content::Passing(Box::new(passage)) })
    }

    /// An upstream's error answer goes to the caller as it is, unless it is about the gateway's key or holds it.
    async fn refusal(
        &self,
        mut head: response::Parts,
        body: AnswerBody,
        kind: Kind,
        upstream: &Upstream,
    ) -> Refusal {
        let status = head.status;
        let checked = checked(status, body, kind, upstream).await;
        let told = checked.as_ref().ok().and_then(|bytes| Told::read(bytes));
        let about_our_key = match (status, &checked) {
            (StatusCode::UNAUTHORIZED, _) => true,
            (StatusCode::FORBIDDEN, Ok(_)) => {
                upstream.auth.is_some() && !told.as_ref().is_some_and(Told::is_about_a_model)
            }
            // It holds the key, or nobody knows what it holds: the caller is not to be told that their own key is at fault.
            (StatusCode::FORBIDDEN, Err(Fault::Withheld(_))) => upstream.auth.is_some(),
            _ => false,
        };
        let retry_after = retry_after(&head.headers);
        let hopeless = head.headers.get(SHOULD_RETRY).is_some_and(|value| value == "false");
        let given = if about_our_key { Err(Fault::UpstreamAuth(status.as_u16())) } else { checked };
        if self.exchange.record.method != Method::HEAD {
            head.headers.remove(header::CONTENT_LENGTH);
        }
        cap_wait(&mut head.headers);
        let given = given.map(|bytes| Answered { head, content: Content::Local(bytes) });
        let code = told.and_then(Told::into_code);
        Refusal { status, in_stream: false, code, retry_after, hopeless, about_our_key, given }
    }
}

/// What is passed on at most of how long to wait: some SDKs sleep for as long as they are told (openai-node `client.ts`).
const LONGEST_WAIT: Duration = Duration::from_secs(60);

const RETRY_AFTER_MS: &str = "retry-after-ms";

/// Whether there is no transfer coding but that. hyper takes all others too, and with the header gone they would be left in the body (RFC 9112
/// §6.1).
fn is_chunked(headers: &HeaderMap) -> bool {
    let mut codings = headers.get_all(header::TRANSFER_ENCODING).iter();
    codings.next().is_some_and(|coding| coding.as_bytes().eq_ignore_ascii_case(b"chunked"))
        && codings.next().is_none()
}

/// The length that is told, if it is told once.
fn one_length(headers: &HeaderMap) -> Option<u64> {
    let mut lengths = headers.get_all(header::CONTENT_LENGTH).iter();
    let length = lengths.next()?.to_str().ok()?.parse().ok();
    length.filter(|_| lengths.next().is_none())
}

/// How long the upstream wants to be left alone: `retry-after-ms`, or `retry-after` in seconds or as a date (RFC 9110 §10.2.3).
fn retry_after(headers: &HeaderMap) -> Option<Duration> {
    let number = |name: &str| headers.get(name)?.to_str().ok()?.trim().parse::<f64>().ok();
    let milliseconds = number(RETRY_AFTER_MS).map(|milliseconds| milliseconds / 1000.0);
    let Some(seconds) = milliseconds.or_else(|| number(header::RETRY_AFTER.as_str())) else {
        let date = httpdate::parse_http_date(headers.get(header::RETRY_AFTER)?.to_str().ok()?).ok()?;
        return Some(date.duration_since(SystemTime::now()).unwrap_or_default());
    };
    // More than a Duration holds is as good as for ever.
    (seconds >= 0.0).then(|| Duration::try_from_secs_f64(seconds).unwrap_or(Duration::MAX))
}

fn cap_wait(headers: &mut HeaderMap) {
    if retry_after(headers).is_some_and(|wait| wait > LONGEST_WAIT) {
        headers.remove(RETRY_AFTER_MS);
        headers.insert(header::RETRY_AFTER, HeaderValue::from(LONGEST_WAIT.as_secs()));
    }
}

/// What an answer's bytes are, as the upstream said it: asked before a route's rules may take that away.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    /// An event stream.
    Events,
    /// A JSON document.
    Json,
    /// Compressed.
    Coded,
    /// Anything else.
    Opaque,
}

impl Kind {
    fn of(headers: &HeaderMap) -> Self {
        let kind = headers.get(header::CONTENT_TYPE).map(HeaderValue::as_bytes).unwrap_or_default();
        let essence = kind.split(|byte| *byte == b';').next().unwrap_or_default().trim_ascii();
        if headers.get(header::CONTENT_ENCODING).is_some_and(|coding| coding != "identity") {
            Self::Coded
        } else if essence.eq_ignore_ascii_case(b"text/event-stream") {
            Self::Events
        } else if is_json(kind) {
            Self::Json
        } else {
            Self::Opaque
        }
    }

    /// How they are looked at.
    fn sight(self, dialect: Dialect) -> Sight {
        match self {
            Self::Events => Sight::events_of(dialect),
            Self::Json => Sight::document(dialect),
            Self::Coded | Self::Opaque => Sight::Nothing,
        }
    }
}

/// An error answer's body, found free of the upstream's keys.
async fn checked(
    status: StatusCode,
    body: AnswerBody,
    kind: Kind,
    upstream: &Upstream,
) -> Result<Bytes, Fault> {
    let withheld = Fault::Withheld(status.as_u16());
    if kind == Kind::Coded {
        return Err(withheld);
    }
    match tokio::time::timeout(ERROR_PATIENCE, read(body)).await {
        Err(_) => Err(Fault::Idle(ERROR_PATIENCE)),
        Ok(Err(fault)) => Err(fault),
        Ok(Ok(Some(bytes))) if !upstream.crossing.carries(&bytes) => Ok(bytes),
        Ok(Ok(_)) => Err(withheld),
    }
}

/// The body, if it is not too large.
async fn read(mut body: AnswerBody) -> Result<Option<Bytes>, Fault> {
    let mut bytes = BytesMut::new();
    while let Some(frame) = poll_fn(|cx| Pin::new(&mut body).poll_frame(cx)).await {
        let frame = frame.map_err(|error| Fault::Truncated(error.into()))?;
        let Ok(data) = frame.into_data() else { continue };
        if bytes.len() + data.len() > MOST_ERROR_BYTES {
            return Ok(None);
        }
        bytes.extend_from_slice(&data);
    }
    Ok(Some(bytes.freeze()))
}
