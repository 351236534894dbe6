//! What becomes of an upstream's answer: it is passed on, or it is the gateway's own affair.

use std::{future::poll_fn, pin::Pin, sync::Arc, time::Duration};

use bytes::{Bytes, BytesMut};
use http::{HeaderMap, HeaderValue, Method, Response, StatusCode, Version, header, response};
use http_body::Body;

use super::{
    again::AttemptError,
    answered::CallerResponse,
    call::Call,
    intake::is_json,
    passing::PendingStream,
    places::Candidate,
    redirect::relocate,
    refusal::{UpstreamError, cap_wait, retry_after},
    sight::ResponseObserver,
    told::ErrorBody,
};
use crate::{
    fault::{Fault, SHOULD_RETRY},
    openai::Dialect,
    policy,
    snapshot::{Route, Upstream},
    upstream::AnswerBody,
};

/// An error answer above this is not checked for keys, and so not passed on.
const MOST_ERROR_BYTES: usize = 256 << 10;

/// An error answer's body must be there by then.
const ERROR_PATIENCE: Duration = Duration::from_secs(30);

impl Call {
    /// Decides what the caller is given of `answer`.
    ///
    /// # Errors
    /// The answer is about the gateway's own key, holds it, or cannot be used.
    pub(super) async fn judge(
        &mut self,
        answer: Response<AnswerBody>,
        route: &Arc<Route>,
        place: &Candidate,
    ) -> Result<CallerResponse, AttemptError> {
        let (mut head, body) = answer.into_parts();
        let upstream = &place.upstream;
        let kind = Kind::of(&head.headers);
        let endpoint = self.exchange.record.endpoint;
        // An answer to an inference that has no body is none, however orderly its framing.
        let owed = endpoint.is_inference() && head.status == StatusCode::OK;
        let bodiless = self.exchange.record.method == Method::HEAD || (body.is_end_stream() && !owed);
        let sight = if bodiless { ResponseObserver::Nothing } else { kind.sight(endpoint.dialect()) };
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
        relocate(&mut head, route, place.target()).map_err(AttemptError::Fault)?;
        if head.headers.contains_key(header::TRANSFER_ENCODING) && !is_chunked(&head.headers) {
            return Err(AttemptError::Fault(Fault::BadAnswer("its Transfer-Encoding is not just chunked")));
        }
        let id = policy::to_caller(&mut head.headers, &route.response_headers, &upstream.secrets);
        self.exchange.record.upstream_request_id = id.and_then(|id| id.to_str().map(str::to_owned).ok());
        head.version = self.exchange.record.version;
        head.extensions.clear();
        if head.status == StatusCode::SWITCHING_PROTOCOLS {
            let fault = Fault::BadAnswer("it switches protocols, which was not asked for");
            return Err(AttemptError::Fault(fault));
        }
        // What is above 599 is no status that HTTP has (RFC 9110 section 15), but nothing keeps an upstream from saying it.
        if head.status.as_u16() >= 400 {
            return Err(AttemptError::Refused(Box::new(
                Box::pin(self.refusal(head, body, kind, upstream)).await,
            )));
        }
        let close_delimited = self.exchange.record.version == Version::HTTP_10
            && !head.headers.contains_key(header::CONTENT_LENGTH);
        let passage = PendingStream::new(body, sight, route, place, close_delimited);
        Ok(CallerResponse::passing(head, passage))
    }

    /// An upstream's error answer goes to the caller as it is, unless it is about the gateway's key or holds it.
    async fn refusal(
        &self,
        mut head: response::Parts,
        body: AnswerBody,
        kind: Kind,
        upstream: &Upstream,
    ) -> UpstreamError {
        let status = head.status;
        let checked = checked(status, body, kind, upstream).await;
        let told = checked.as_ref().ok().and_then(|bytes| ErrorBody::read(bytes));
        let about_our_key = match (status, &checked) {
            (StatusCode::UNAUTHORIZED, _) => true,
            (StatusCode::FORBIDDEN, Ok(_)) => {
                upstream.auth.is_some() && !told.as_ref().is_some_and(ErrorBody::is_about_a_model)
            }
            // It holds the key, or nobody knows what it holds: the caller is not to be told that their own key is at fault.
            (StatusCode::FORBIDDEN, Err(Fault::Withheld(_))) => upstream.auth.is_some(),
            _ => false,
        };
        let retry_after = retry_after(&head.headers);
        let hopeless = head.headers.get(SHOULD_RETRY).is_some_and(|value| value == "false");
        let given = if about_our_key {
            Err(Fault::UpstreamAuth(format!("it answered {}", status.as_u16()).into()))
        } else {
            checked
        };
        if self.exchange.record.method != Method::HEAD {
            head.headers.remove(header::CONTENT_LENGTH);
        }
        cap_wait(&mut head.headers);
        let given = given.map(|bytes| CallerResponse::local(Response::from_parts(head, bytes)));
        let code = told.and_then(ErrorBody::into_code);
        UpstreamError { status, in_stream: false, code, retry_after, hopeless, about_our_key, given }
    }
}

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
    fn sight(self, dialect: Dialect) -> ResponseObserver {
        match self {
            Self::Events => ResponseObserver::events_of(dialect),
            Self::Json => ResponseObserver::document(dialect),
            Self::Coded | Self::Opaque => ResponseObserver::Nothing,
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
        Ok(Ok(Some(bytes))) if !upstream.secrets.found_in(&bytes) => Ok(bytes),
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
