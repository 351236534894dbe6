//! The one request path: a request comes in from a listener, an answer goes back.
//!
//! [`handle`] cannot fail: it opens the Exchange, calls `answer`, and turns a Fault into an answer. `answer` is the ladder, one
//! rung a line, failure by `?`; nothing else in the program knows this order.

mod again;
mod attempt;
mod call;
mod dispatch;
mod downstream;
mod gateway;
mod hold;
mod intake;
mod outbound;
mod pace;
mod places;
mod reception;
mod redirect;
mod relay;
mod sight;
mod tail;
mod told;
mod verdict;
mod worker;

use std::{convert::Infallible, pin::pin, rc::Rc};

use http::{HeaderName, HeaderValue, Method, Request, Response, Version, header, request};
use hyper::body::Incoming;

use crate::{body::Arrival, exchange::Exchange, fault::Fault};
use call::Call;
use verdict::Answered;

pub use downstream::Downstream;
pub use gateway::{Gateway, Reload};
pub use relay::{Aborted, Relay};
pub use worker::{Counted, Load, Worker};

const REQUEST_ID: HeaderName = HeaderName::from_static("x-request-id");
const TRACE_ID: HeaderName = HeaderName::from_static("x-trace-id");
const ATTEMPTS: HeaderName = HeaderName::from_static("x-sluicegate-attempts");
const UPSTREAM: HeaderName = HeaderName::from_static("x-sluicegate-upstream");

/// Answers one request. Cannot fail: every failure becomes an answer that says so.
pub async fn handle(
    worker: Rc<Worker>,
    downstream: Rc<Downstream>,
    request: Request<Incoming>,
) -> Result<Response<Relay>, Infallible> {
    let in_flight = worker.load.exchange();
    let (head, body) = request.into_parts();
    let mut call = Call::open(&worker, &downstream, &head);
    let linger = (head.version == Version::HTTP_2).then_some(call.snapshot.server.linger);
    let body = Arrival::new(body, downstream.link.clone(), linger);
    let watch = call.exchange.watch.clone();
    let answered = {
        // Futures are handed down by reference: each hand-over by value would double the size of what is allocated for a request.
        let answering = pin!(answer(&mut call, head, body));
        call::until_cut(&watch, answering).await
    };
    let answered = answered.unwrap_or_else(|fault| failed(&mut call, &fault));
    Ok(respond(answered, call.exchange, in_flight))
}

/// The ladder.
async fn answer(call: &mut Call<'_>, head: request::Parts, body: Arrival) -> Result<Answered, Fault> {
    let reception = call.receive(&head)?;
    let key = call.authenticate(&head, &reception)?;
    call.exchange.introduce();
    let route = reception.route.clone();
    let within = call.within(route.total);
    let rungs = pin!(async {
        let order = call.intake(Request::from_parts(head, body), reception, key).await?;
        call.admit(&order)?;
        let order = call.readdress(order);
        call.dispatch(order).await
    });
    within.run(rungs).await
}

fn failed(call: &mut Call<'_>, fault: &Fault) -> Answered {
    let snapshot = &call.snapshot;
    call.exchange
        .fail(fault, |text| snapshot.upstreams.values().any(|upstream| upstream.crossing.carries(text)));
    let answered = Answered::local(fault.render());
    if call.exchange.record.attempts > 1 { answered.not_to_be_retried() } else { answered }
}

fn respond(answered: Answered, mut exchange: Box<Exchange>, in_flight: Counted) -> Response<Relay> {
    let (mut head, mut content) = answered.into_parts();
    if exchange.record.method == Method::HEAD {
        content = content.for_head(&mut head.headers);
    }
    let id: HeaderValue = exchange.record.request_id.header();
    head.headers.insert(REQUEST_ID, id);
    head.headers.insert(TRACE_ID, exchange.record.trace.header());
    if exchange.record.attempts > 0 && exchange.record.attempt_headers {
        head.headers.insert(ATTEMPTS, HeaderValue::from(exchange.record.attempts));
        let upstream = exchange.record.upstream.as_deref().and_then(|name| HeaderValue::from_str(name).ok());
        upstream.into_iter().for_each(|name| drop(head.headers.insert(UPSTREAM, name)));
    }
    exchange.record.status = Some(head.status);
    if exchange.is_last() {
        head.headers.insert(header::CONNECTION, HeaderValue::from_static("close"));
    }
    Response::from_parts(head, content.into_relay(exchange, in_flight))
}
