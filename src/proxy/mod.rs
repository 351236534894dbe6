//! The one request path: a request comes in from a listener, an answer goes back.
//!
//! [`handle`] cannot fail: it opens the Exchange, calls `answer`, and turns a Fault into an answer. `answer` is the ladder, one
//! rung a line, failure by `?`; nothing else in the program knows this order.

mod again;
mod answered;
mod attempt;
mod call;
mod complete;
mod dispatch;
mod downstream;
mod errand;
mod gateway;
mod hold;
mod intake;
mod lowered;
mod outbound;
mod pace;
mod passing;
mod places;
mod recall;
mod reception;
mod redirect;
mod refusal;
mod relay;
mod reply;
mod sight;
mod tail;
mod told;
mod verdict;
mod worker;

use std::{convert::Infallible, pin::pin, rc::Rc};

use http::{HeaderMap, HeaderName, HeaderValue, Method, Request, Response, Version, header, request};
use hyper::body::Incoming;

use crate::{
    body::RequestBody,
    exchange::{Exchange, Record},
    fault::Fault,
};
use answered::CallerResponse;
use call::{Call, Within};
use errand::DetachPolicy;
use lowered::CallerTimeouts;
use outbound::PreparedRequest;

pub use downstream::Downstream;
pub use gateway::{Gateway, Reload};
pub use recall::CallerMemo;
pub use relay::{Aborted, Relay};
pub use reply::ResponseBody;
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
) -> Result<Response<ResponseBody>, Infallible> {
    let in_flight = worker.load.exchange();
    let (head, body) = request.into_parts();
    let mut call = Call::open(worker, downstream, &head);
    let linger = (head.version == Version::HTTP_2).then_some(call.snapshot.server.linger);
    let body = RequestBody::new(body, call.downstream.link.clone(), linger);
    let watch = call.exchange.handle.clone();
    let answered = {
        // Futures are handed down by reference: each hand-over by value would double the size of what is allocated for a request.
        let answering = pin!(answer(&mut call, head, body));
        call::until_cut(&watch, answering).await
    };
    let answered = match answered {
        Ok(Answer::CallerResponse(answered)) => answered,
        Ok(Answer::DetachPolicy(apart, order, within)) => {
            return Ok(Box::pin(apart.run(call, order, within, in_flight)).await);
        }
        Err(fault) => failed(&mut call, &fault),
    };
    Ok(respond(answered, call.exchange, in_flight, None))
}

/// Where the ladder ends.
enum Answer {
    /// There is an answer.
    CallerResponse(CallerResponse),
    /// The attempts are to be run apart from it.
    DetachPolicy(DetachPolicy, Box<PreparedRequest>, Within),
}

/// The ladder.
async fn answer(call: &mut Call, head: request::Parts, body: RequestBody) -> Result<Answer, Fault> {
    let reception = call.receive(&head)?;
    let key = call.authenticate(&head, &reception)?;
    call.exchange.introduce();
    let route = reception.route.clone();
    call.lowered = CallerTimeouts::of(&head.headers)?;
    let within = call.within(call.lowered.total(route.total));
    let rungs = pin!(async {
        let mut order = call.intake(Request::from_parts(head, body), reception, key).await?;
        call.admit(&order)?;
        call.readdress(&mut order);
        match order.apart() {
            Some(apart) => Ok(Answer::DetachPolicy(apart, order, within)),
            None => call.dispatch(order).await.map(Answer::CallerResponse),
        }
    });
    within.run(rungs).await
}

fn failed(call: &mut Call, fault: &Fault) -> CallerResponse {
    let snapshot = &call.snapshot;
    call.exchange
        .fail(fault, |text| snapshot.upstreams.values().any(|upstream| upstream.secrets.found_in(text)));
    let answered = CallerResponse::local(fault.render());
    if call.exchange.record.attempts > 1 { answered.not_to_be_retried() } else { answered }
}

/// Says whose answer it is.
fn identify(headers: &mut HeaderMap, record: &Record) {
    headers.insert(REQUEST_ID, record.request_id.header());
    headers.insert(TRACE_ID, record.trace.header());
}

fn respond(
    answered: CallerResponse,
    mut exchange: Box<Exchange>,
    in_flight: Counted,
    drains_on: Option<Rc<Worker>>,
) -> Response<ResponseBody> {
    let (mut head, mut content) = answered.into_parts();
    if exchange.record.method == Method::HEAD {
        content = content.for_head(&mut head.headers);
    }
    identify(&mut head.headers, &exchange.record);
    if exchange.record.attempts > 0 && exchange.record.attempt_headers {
        head.headers.insert(ATTEMPTS, HeaderValue::from(exchange.record.attempts));
        let upstream = exchange.record.upstream.as_deref().and_then(|name| HeaderValue::from_str(name).ok());
        upstream.into_iter().for_each(|name| drop(head.headers.insert(UPSTREAM, name)));
    }
    exchange.record.status = Some(head.status);
    if exchange.is_last() {
        head.headers.insert(header::CONNECTION, HeaderValue::from_static("close"));
    }
    let relay = content.into_relay(exchange, in_flight);
    Response::from_parts(head, ResponseBody::relay(relay, drains_on))
}
