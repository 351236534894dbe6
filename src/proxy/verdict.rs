//! What becomes of an upstream's answer: it is passed on, or it is the gateway's own affair.

use std::{future::poll_fn, pin::Pin, sync::Arc, time::Duration};

use bytes::{Bytes, BytesMut};
use http::{HeaderMap, HeaderValue, Method, Response, StatusCode, Version, header, response};
use http_body::Body;
use serde::Deserialize;

use super::{Counted, Relay, call::Call, intake::is_json, relay::Passage, sight::Sight};
use crate::{
    exchange::Exchange,
    fault::Fault,
    openai::Dialect,
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
    /// The upstream sends it.
    Passing(Box<Passage>),
}

impl Answered {
    /// An answer that is here whole.
    pub(super) fn local(response: Response<Bytes>) -> Self {
        let (head, bytes) = response.into_parts();
        Self { head, content: Content::Local(bytes) }
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
            Self::Passing(passage) => Self::Passing(passage),
        }
    }

    pub(super) fn into_relay(self, exchange: Box<Exchange>, in_flight: Counted) -> Relay {
        match self {
            Self::Local(bytes) => Relay::local(bytes, exchange, in_flight),
            Self::Passing(passage) => Relay::passing(*passage, exchange, in_flight),
        }
    }
}

impl Call<'_> {
    /// Decides what the caller is given of `answer`.
    ///
    /// # Errors
    /// The answer is about the gateway's own key, holds it, or cannot be used.
    pub(super) async fn judge(
        &mut self,
        answer: Response<AnswerBody>,
        route: &Arc<Route>,
    ) -> Result<Answered, Fault> {
        let (mut head, body) = answer.into_parts();
        let upstream = &route.upstream;
        let kind = Kind::of(&head.headers);
        // A chunked body's length is told by its chunks; a length beside them counts for nothing (RFC 9112 §6.3), but hyper's server would
        // frame by it.
        let bodiless = self.exchange.record.method == Method::HEAD || body.is_end_stream();
        // And a stream whose end is an event may need room for last words, whatever it promised.
        let sight =
            if bodiless { Sight::Nothing } else { kind.sight(self.exchange.record.endpoint.dialect()) };
        if !bodiless && (body.size_hint().exact().is_none() || sight.is_unfinished()) {
            head.headers.remove(header::CONTENT_LENGTH);
        }
        self.relocate(&mut head, route)?;
        policy::to_caller(&mut head.headers, &route.response_headers, &upstream.crossing);
        let id = head.headers.get(policy::UPSTREAM_REQUEST_ID);
        self.exchange.record.upstream_request_id = id.and_then(|id| id.to_str().map(str::to_owned).ok());
        head.version = self.exchange.record.version;
        head.extensions.clear();
        if head.status == StatusCode::SWITCHING_PROTOCOLS {
            return Err(Fault::BadAnswer("it switches protocols, which was not asked for"));
        }
        // What is above 599 is no status that HTTP has (RFC 9110 section 15), but nothing keeps an upstream from saying it.
        if head.status.as_u16() >= 400 {
            return Box::pin(self.pass_error(head, body, kind, upstream)).await;
        }
        let sight =
            if bodiless { Sight::Nothing } else { kind.sight(self.exchange.record.endpoint.dialect()) };
        let passage = self.passage(&head, body, sight, route);
        Ok(Answered { head, content: Content::Passing(Box::new(passage)) })
    }

    fn passage(&self, head: &response::Parts, body: AnswerBody, sight: Sight, route: &Arc<Route>) -> Passage {
        let record = &self.exchange.record;
        Passage {
            sight,
            idle: route.timeouts.idle,
            total: route.timeouts.total,
            close_delimited: record.version == Version::HTTP_10
                && !head.headers.contains_key(header::CONTENT_LENGTH),
            route: route.clone(),
            body,
        }
    }

    /// An upstream's error answer goes to the caller as it is, unless it is about the gateway's key or holds it.
    async fn pass_error(
        &self,
        mut head: response::Parts,
        body: AnswerBody,
        kind: Kind,
        upstream: &Upstream,
    ) -> Result<Answered, Fault> {
        let checked = checked(head.status, body, kind, upstream).await;
        let about_our_key = match (head.status, &checked) {
            (StatusCode::UNAUTHORIZED, _) => true,
            (StatusCode::FORBIDDEN, Ok(bytes)) => upstream.auth.is_some() && !is_about_a_model(bytes),
            // It holds the key, or nobody knows what it holds: the caller is not to be told that their own key is at fault.
            (StatusCode::FORBIDDEN, Err(Fault::Withheld(_))) => upstream.auth.is_some(),
            _ => false,
        };
        if about_our_key {
            return Err(Fault::UpstreamAuth(head.status.as_u16()));
        }
        let bytes = checked?;
        if self.exchange.record.method != Method::HEAD {
            head.headers.remove(header::CONTENT_LENGTH);
        }
        Ok(Answered { head, content: Content::Local(bytes) })
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

/// Whether a 403 is about the model that the caller chose, not about the key (OpenAI: `model_not_found`; `param` names the member of the
/// request that is at fault).
fn is_about_a_model(body: &[u8]) -> bool {
    #[derive(Deserialize)]
    struct Body {
        error: ErrorObject,
    }
    #[derive(Deserialize)]
    struct ErrorObject {
        #[serde(default)]
        param: Option<String>,
        #[serde(default)]
        code: Option<String>,
    }
    let Ok(Body { error }) = serde_json::from_slice(body) else { return false };
    error.param.as_deref() == Some("model")
        || error.code.as_deref().is_some_and(|code| code.starts_with("model_"))
}
