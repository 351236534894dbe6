//! An answer on its way to the caller, and where its body comes from.

use std::time::Instant;

use bytes::{Bytes, BytesMut};
use http::{HeaderMap, HeaderValue, Response, header, response};
use http_body::Frame;

use super::{
    Counted, Relay,
    complete::{self, Form},
    dispatch::not_to_be_retried,
    hold::{HoldError, hold},
    passing::PendingStream,
    places::Candidate,
    relay::ERROR_EVENT,
    sight::ResponseObserver,
};
use crate::{
    config::Timeouts,
    exchange::Exchange,
    fault::{Fault, event_of},
    openai::{Dialect, Endpoint},
};

/// An answer, ready to go to the caller.
#[derive(Debug)]
pub(super) struct CallerResponse {
    head: response::Parts,
    content: Content,
}

/// Where an answer's body comes from.
#[derive(Debug)]
pub(super) enum Content {
    /// It is here.
    Local(Bytes),
    /// What was read of an event stream that is an error of the upstream's.
    ErrorBody(Bytes),
    /// The upstream sends it.
    ActiveStream(Box<PendingStream>),
}

impl CallerResponse {
    /// Lets go of the upstream's connection, since others are asked: what was read of it is all that the caller may get of it yet.
    pub(super) fn detach(&mut self) {
        if let Content::ActiveStream(passage) = &self.content {
            let held = passage.held.iter().filter_map(Frame::data_ref);
            self.content = Content::ErrorBody(
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
    ) -> Result<(), HoldError> {
        match &mut self.content {
            Content::ActiveStream(passage) if passage.sight.is_unfinished() => {
                hold(&mut passage.body, &mut passage.held, began, timeouts, endpoint).await
            }
            Content::ActiveStream(_) | Content::Local(_) | Content::ErrorBody(_) => Ok(()),
        }
    }

    /// Holds it until it is complete.
    pub(super) async fn hold_whole(
        &mut self,
        clocks: (Instant, &Timeouts),
        endpoint: Endpoint,
        bounds: complete::Bounds<'_>,
    ) -> Result<(), HoldError> {
        let Content::ActiveStream(passage) = &mut self.content else { return Ok(()) };
        let form = match passage.sight {
            ResponseObserver::Events(_) => Form::Events(endpoint.dialect()),
            // A file may be called JSON and be anything.
            ResponseObserver::Document(_) if endpoint.is_inference() => Form::Document,
            ResponseObserver::Document(_) | ResponseObserver::Nothing => Form::Opaque,
        };
        complete::hold(&mut passage.body, &mut passage.held, clocks, form, bounds).await
    }

    /// It is pending at `place` until it is over; the request was sent when that `began`.
    pub(super) fn comes_from(&mut self, place: Candidate, began: Instant) {
        if let Content::ActiveStream(passage) = &mut self.content {
            passage.first_token = place.timeouts.first_token.map(|limit| (began + limit, limit));
            passage.pass = Some(place.pass);
        }
    }

    /// Tells SDKs that everything has been tried.
    pub(super) fn not_to_be_retried(mut self) -> Self {
        not_to_be_retried(self.head.status, &mut self.head.headers);
        self
    }

    /// One that the upstream sends.
    pub(super) fn passing(head: response::Parts, passage: PendingStream) -> Self {
        Self { head, content: Content::ActiveStream(Box::new(passage)) }
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
    ) -> Result<PendingStream, Result<Bytes, Fault>> {
        match self.content {
            Content::ActiveStream(mut passage) if passage.sight.is_events() => {
                passage.close_delimited = close_delimited;
                Ok(*passage)
            }
            Content::ActiveStream(_) => Err(Err(Fault::BadAnswer("it is no event stream"))),
            Content::ErrorBody(events) => Err(Ok(events)),
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
            Self::ErrorBody(_) | Self::ActiveStream(_) => self,
        }
    }

    pub(super) fn into_relay(self, mut exchange: Box<Exchange>, in_flight: Counted) -> Relay {
        match self {
            Self::Local(bytes) => Relay::local(bytes, exchange, in_flight),
            Self::ErrorBody(events) => {
                let mut sight = ResponseObserver::events_of(exchange.record.endpoint.dialect());
                sight.look(&events);
                exchange.record.tally.events = sight.events();
                exchange.conclude(ERROR_EVENT);
                Relay::local(events, exchange, in_flight)
            }
            Self::ActiveStream(passage) => Relay::passing(*passage, exchange, in_flight),
        }
    }
}
