//! The one request path: a request comes in from a listener, a response goes back.
//!
//! [`handle`] cannot fail: it opens the exchange, calls `answer`, and turns a [`Fault`] into a response. `answer` is the ladder: one function
//! call per rung, in the order of a request, and a rung that fails ends the ladder by `?`. Nothing else in the program knows this order.
//!
//! | part | decides | gives |
//! |---|---|---|
//! | `arrival` | before the body is read: route, client, the client's own timeouts | `Arrived` |
//! | `intake` | what the request says: its body is read where its facts are needed, and its headers are made fit to go upstream | `PreparedRequest` |
//! | `admission` | whether the request may go on, and whether an upstream may be sent it once more | `Accounting`, held by the exchange |
//! | `attempts` | which candidates are tried, how often, and what the client gets of their responses | `ClientResponse` |
//! | `delivery` | how the response reaches the client, and what happens when the client leaves | [`Relay`], in a [`ResponseBody`] |
//! | `tunnel` | how a WebSocket connection is opened, and what passes on it | [`OpenTunnel`], beside a response of 101 |
//!
//! A part uses those before it, and `attempts` uses `delivery`; `delivery` uses none of the others, and `tunnel` uses all. The files beside them are used by all parts
//! and import none of them. A test checks this, and that there is no import circle here. `ARCHITECTURE.md` has a picture of the whole way.

mod account_choice;
mod account_learning;
mod admission;
mod arrival;
mod attempts;
mod body_memory;
mod buffered;
mod context;
mod deadline;
mod delivery;
mod downstream;
mod gateway;
mod intake;
mod key_use;
mod known_head;
mod local;
mod memo;
mod names_memo;
mod queueing;
mod rewrite;
mod sdk;
mod tunnel;
mod worker;

use std::{convert::Infallible, pin::pin, rc::Rc, time::Duration};

use http::{HeaderMap, HeaderName, HeaderValue, Method, Request, Response, StatusCode, header, request};
use hyper::body::Incoming;

use crate::{
    body::RequestBody,
    config::OnDisconnect,
    exchange::{Exchange, Record},
    fault::{Fault, Outcome, Who},
    policy,
    snapshot::Route,
};
use arrival::{Handshake, RoutedRequest};
use context::{LogSafeHead, Presented, RequestContext};
use deadline::{TotalTimeout, until_cut};
use delivery::{ClientResponse, DetachPolicy, DetachedDispatch, DispatchResult};
use intake::PreparedRequest;
use tunnel::{PageRefusal, UpgradeRequest};

pub use crate::exchange::{Counted, Load};
pub use delivery::{Aborted, Relay, ResponseBody};
pub use downstream::Downstream;
pub use gateway::{ClientsApplied, Gateway, Reload};
pub use known_head::HeadMemo;
pub use memo::CallerMemo;
pub use tunnel::OpenTunnel;
pub use worker::Worker;

const REQUEST_ID: HeaderName = HeaderName::from_static("x-request-id");
const TRACE_ID: HeaderName = HeaderName::from_static("x-trace-id");

/// The pause between comments in a response that began early, on a route without heartbeats.
const HEARTBEAT: Duration = Duration::from_secs(15);

/// Where the ladder ends.
enum Answer {
    /// There is a response.
    Ready(ClientResponse),
    /// The candidates are to be asked by a dispatch of its own.
    Detached(Detached),
}

/// A dispatch that is to be detached from its client.
struct Detached {
    policy: DetachPolicy,
    request: Box<PreparedRequest>,
    total: TotalTimeout,
}

/// Answers one request. Cannot fail: every failure becomes a response that says so.
pub async fn handle(
    worker: Rc<Worker>,
    downstream: Rc<Downstream>,
    request: Request<Incoming>,
) -> Result<Response<ResponseBody>, Infallible> {
    let in_flight = worker.load.exchange();
    let (head, body) = request.into_parts();
    let context = RequestContext::of_head(worker, downstream, &head);
    let safe = LogSafeHead::read(&head, &context);
    let presented = safe.presented.clone();
    let mut exchange = context.open_exchange(&head, safe, in_flight);
    let body = context.request_body(body, head.version);
    let handle = exchange.handle.clone();
    let outcome = {
        // Futures are handed down by reference: each hand-over by value would double the size of what is allocated for a request.
        let answering = pin!(answer(&context, &mut exchange, head, body, presented));
        until_cut(&handle, answering).await
    };
    let response = match outcome {
        Ok(Answer::Ready(mut response)) => {
            response.reword(&mut exchange, &context.snapshot);
            response
        }
        Ok(Answer::Detached(detached)) => return Ok(Box::pin(detach(context, exchange, detached)).await),
        Err(fault) => ClientResponse::of_fault(&fault, &mut exchange, &context.snapshot),
    };
    Ok(respond(response, exchange, None))
}

/// Answers a request to switch to another protocol. If the response is of 101, what comes with it speaks the protocol. A request for anything
/// but WebSocket is answered as any other.
pub async fn handle_upgrade(
    worker: Rc<Worker>,
    downstream: Rc<Downstream>,
    request: Request<Incoming>,
) -> (Response<ResponseBody>, Option<OpenTunnel>) {
    let (mut head, body) = request.into_parts();
    let Some(handshake) = Handshake::take(&mut head).map(Rc::new) else {
        let Ok(response) = handle(worker, downstream, Request::from_parts(head, body)).await;
        return (response, None);
    };
    let in_flight = worker.load.exchange();
    let context = RequestContext::new(worker, downstream);
    let safe = LogSafeHead::read(&head, &context);
    let presented = safe.presented.clone();
    let mut exchange = context.open_exchange(&head, safe, in_flight);
    let body = context.request_body(body, head.version);
    let handle = exchange.handle.clone();
    let client_key = presented.scanner.clone();
    let accepts = handshake.is_of_page() && handshake.check(&head).is_ok();
    let request = UpgradeRequest { head, body, handshake: handshake.clone(), presented };
    let outcome = {
        let answering = pin!(tunnel::answer(&context, &mut exchange, request));
        until_cut(&handle, answering).await
    };
    let response = match outcome {
        Ok(response) => response,
        Err(fault) if accepts => {
            let refusal = PageRefusal::of_fault(&fault, &mut exchange, &context);
            return accept_to_refuse(exchange, &handshake, refusal);
        }
        Err(fault) => ClientResponse::of_fault(&fault, &mut exchange, &context.snapshot),
    };
    match response.into_switched() {
        Ok((head, upstream)) => {
            let head = switching(head.headers, &mut exchange);
            (head, Some(OpenTunnel::open(&context, exchange, *upstream, client_key)))
        }
        Err(response) if accepts => {
            let refusal = PageRefusal::of_response(response.status(), &mut exchange);
            accept_to_refuse(exchange, &handshake, refusal)
        }
        Err(mut response) => {
            response.reword(&mut exchange, &context.snapshot);
            (respond(*response, exchange, None), None)
        }
    }
}

/// Accepts the handshake of a web page, so that it can be told why it is refused.
fn accept_to_refuse(
    mut exchange: Box<Exchange>,
    handshake: &Handshake,
    refusal: PageRefusal,
) -> (Response<ResponseBody>, Option<OpenTunnel>) {
    let mut headers = HeaderMap::new();
    handshake.to_client(&mut headers);
    let head = switching(headers, &mut exchange);
    (head, Some(OpenTunnel::refuse(exchange, refusal)))
}

/// A response of 101 with these headers.
fn switching(headers: HeaderMap, exchange: &mut Exchange) -> Response<ResponseBody> {
    exchange.record.status = Some(StatusCode::SWITCHING_PROTOCOLS);
    let mut response = Response::new(ResponseBody::none());
    *response.status_mut() = StatusCode::SWITCHING_PROTOCOLS;
    *response.headers_mut() = headers;
    identify(response.headers_mut(), &exchange.record);
    add_own_headers(response.headers_mut(), exchange);
    response
}

/// The ladder.
async fn answer(
    context: &RequestContext,
    exchange: &mut Exchange,
    head: request::Parts,
    body: RequestBody,
    presented: Presented,
) -> Result<Answer, Fault> {
    if let Some(response) = arrival::preflight(context, exchange, &head)? {
        exchange.conclude(Outcome { who: Who::Gateway, ..Outcome::COMPLETE });
        return Ok(Answer::Ready(ClientResponse::local(response)));
    }
    let arrived = arrival::arrive(context, exchange, &head, presented)?;
    if let Err(fault) = arrival::admit_load(context, exchange) {
        return Err(refuse_unread(fault, &head, body).await);
    }
    let total = TotalTimeout::set(exchange, arrived.timeouts.total(arrived.routed.route.total));
    let RoutedRequest { route, path, .. } = &arrived.routed;
    if let Some(response) = local::models(&mut exchange.record, &head, route, path)? {
        exchange.conclude(Outcome { who: Who::Gateway, ..Outcome::COMPLETE });
        return Ok(Answer::Ready(ClientResponse::local(response)));
    }
    if let Err(fault) = admission::refuse_early(context, exchange, &arrived) {
        return Err(refuse_unread(fault, &head, body).await);
    }
    // Boxed, so that a request that is refused before its body is read takes little memory.
    let mut rungs = Box::pin(async {
        let mut request = intake::prepare(context, exchange, head, body, arrived).await?;
        admission::admit(context, exchange, &request).await?;
        intake::address(context, &exchange.record, &mut request);
        if let Some(policy) = detach_policy(&request) {
            return Ok(Answer::Detached(Detached { policy, request, total }));
        }
        attempts::dispatch(context, exchange, request).await.map(Answer::Ready)
    });
    total.bound(rungs.as_mut()).await
}

/// Refuses a request of a known client, whose body has not been read. A small one is discarded, so that the connection can go on. A client that waits
/// to be asked for its body (RFC 9110 §10.1.1) is not.
async fn refuse_unread(fault: Fault, head: &request::Parts, body: RequestBody) -> Fault {
    if !head.headers.contains_key(header::EXPECT) {
        Box::pin(body.discard_if_small()).await;
    }
    fault
}

/// Whether the dispatch of `request` is to be detached from its client.
fn detach_policy(request: &PreparedRequest) -> Option<DetachPolicy> {
    if !request.is_inference() {
        return None;
    }
    let route = &request.arrived.routed.route;
    // A response that is held until it is complete sends nothing for that long, so heartbeats fill the silence.
    let heartbeat = route.heartbeat.filter(|_| route.is_whole());
    let commit_after = route.commit_after.or(heartbeat).filter(|_| request.streams_known_dialect());
    let drains = route.on_disconnect == OnDisconnect::Drain;
    (drains || commit_after.is_some()).then_some(DetachPolicy { commit_after, drains })
}

/// Runs a detached dispatch, and answers its client: with the response, or early with a head and heartbeats.
async fn detach(
    context: RequestContext,
    mut exchange: Box<Exchange>,
    detached: Detached,
) -> Response<ResponseBody> {
    let Detached { policy, request, total } = detached;
    let drains_on = policy.drains.then(|| context.worker.clone());
    let (handle, connection) = (exchange.handle.clone(), exchange.connection().clone());
    let version = exchange.record.version;
    let route = request.arrived.routed.route.clone();
    let early = policy.commit_after.map(|_| early_head(&exchange, &route));
    let running = async move {
        let handle = exchange.handle.clone();
        let response = {
            let dispatching = pin!(attempts::dispatch(&context, &mut exchange, request));
            let bounded = pin!(total.bound(dispatching));
            until_cut(&handle, bounded).await
        };
        DispatchResult { context, exchange, response }
    };
    let mut dispatch = DetachedDispatch::new(running, handle.clone(), drains_on.clone());
    let done = match policy.commit_after {
        None => Some((&mut dispatch).await),
        Some(span) => tokio::time::timeout(span, &mut dispatch).await.ok(),
    };
    if let Some(DispatchResult { context, mut exchange, response }) = done {
        let mut response = response
            .unwrap_or_else(|fault| ClientResponse::of_fault(&fault, &mut exchange, &context.snapshot));
        response.reword(&mut exchange, &context.snapshot);
        return respond(response, exchange, drains_on);
    }
    handle.status.commit_early();
    // Until the response is known to be complete, as in the relay.
    connection.reset_when_closing(version == http::Version::HTTP_10);
    let heartbeat = route.heartbeat.unwrap_or(HEARTBEAT);
    let mut response = Response::new(ResponseBody::early(dispatch, heartbeat, drains_on));
    *response.headers_mut() = early.unwrap_or_default();
    *response.version_mut() = version;
    response
}

/// The headers of a response that begins before there is one.
fn early_head(exchange: &Exchange, route: &Route) -> HeaderMap {
    let mut headers = HeaderMap::new();
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("text/event-stream"));
    headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-cache"));
    if let Some(first) = route.steps.first() {
        policy::to_caller(&mut headers, &route.response_headers, &first.upstream.secrets, None);
    }
    identify(&mut headers, &exchange.record);
    if exchange.is_last() {
        headers.insert(header::CONNECTION, HeaderValue::from_static("close"));
    }
    if let Some(left) = &exchange.limits_left {
        admission::write_limits_left(&mut headers, left);
    }
    if let Some(readers) = &exchange.readers {
        readers.add_to(&mut headers);
    }
    headers
}

/// Makes a response ready for hyper. With `drains_on`, its body is read on there when the client leaves.
fn respond(
    mut response: ClientResponse,
    mut exchange: Box<Exchange>,
    drains_on: Option<Rc<Worker>>,
) -> Response<ResponseBody> {
    if exchange.record.method == Method::HEAD {
        response = response.for_head();
    }
    exchange.record.status.get_or_insert(response.status());
    let headers = response.headers_mut();
    identify(headers, &exchange.record);
    add_own_headers(headers, &mut exchange);
    if exchange.is_last() {
        headers.insert(header::CONNECTION, HeaderValue::from_static("close"));
    }
    if let Some(readers) = &exchange.readers {
        readers.add_to(headers);
    }
    let (head, relay) = response.into_relay(exchange);
    Response::from_parts(head, ResponseBody::relay(relay, drains_on))
}

/// Adds what the parts of the gateway have to say to a response's headers.
fn add_own_headers(headers: &mut HeaderMap, exchange: &mut Exchange) {
    if let Some(left) = exchange.limits_left.take() {
        admission::write_limits_left(headers, &left);
    }
    if !exchange.response_headers.is_empty() {
        headers.extend(std::mem::take(&mut exchange.response_headers));
    }
}

/// Adds the ids of the request and its trace to a response's headers.
fn identify(headers: &mut HeaderMap, record: &Record) {
    headers.insert(REQUEST_ID, record.request_id.header());
    headers.insert(TRACE_ID, record.trace.header());
}
