//! An answer on its way to the caller, and where its body comes from.

use std::time::Instant;

use bytes::{Bytes, BytesMut};
use http::{HeaderMap, HeaderValue, Response, header, response};
use http_body::Frame;

use super::{
    Counted, Relay,
    complete::{self, Form},
    dispatch::not_to_be_retried,
    hold::{Unheld, hold},
    passing::Passage,
    places::Place,
    relay::ERROR_EVENT,
    sight::Sight,
};
use crate::{
    config::Timeouts,
    exchange::Exchange,
    fault::{Fault, event_of},
    openai::{Dialect, Endpoint},
};

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

impl Answered {
    /// Lets go of the upstream's connection, since others are asked: what was read of it is all that the caller may get of it yet.
    pub(super) fn detach(&mut self) {
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
        let form = match passage.sight {
            Sight::Events(_) => Form::Events(endpoint.dialect()),
            // A file may be called JSON and be anything.
            Sight::Document(_) if endpoint.is_inference() => Form::Document,
            Sight::Document(_) | Sight::Nothing => Form::Opaque,
        };
        complete::hold(&mut passage.body, &mut passage.held, clocks, form, bounds).await
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

    /// One that the upstream sends.
    pub(super) fn passing(head: response::Parts, passage: Passage) -> Self {
        Self { head, content: Content::Passing(Box::new(passage)) }
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
