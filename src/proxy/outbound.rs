//! What goes upstream: the caller's request with its body read or passed on, its credentials replaced by the upstream's.

use std::sync::Arc;

use bytes::Bytes;
use http::{HeaderMap, HeaderName, HeaderValue, Request, Uri, Version, header, request, uri::PathAndQuery};
use http_body::Body;

use super::{
    call::Call,
    intake::{self, Bounds, Intake},
    reception::Reception,
};
use crate::{
    access::Credential,
    body::{Arrival, Outbound, Upload},
    exchange::class,
    fault::{Fault, Phase},
    openai::{self, Endpoint},
    policy::{self, Crossing, path},
    snapshot::{Route, Target},
    upstream::Answer,
};

const TRACEPARENT: HeaderName = HeaderName::from_static("traceparent");
const TRACESTATE: HeaderName = HeaderName::from_static("tracestate");
const FORWARDED_FOR: HeaderName = HeaderName::from_static("x-forwarded-for");
const FORWARDED_PROTO: HeaderName = HeaderName::from_static("x-forwarded-proto");
const FORWARDED_HOST: HeaderName = HeaderName::from_static("x-forwarded-host");

/// A request that is ready to be sent somewhere.
#[derive(Debug)]
pub(super) struct Order {
    head: request::Parts,
    reception: Reception,
    body: Incoming,
    /// The model that the path names (Azure).
    deployment: Option<String>,
}

/// The request's body, as far as it had to be read.
#[derive(Debug)]
enum Incoming {
    Read(Intake),
    Passing(Arrival),
}

impl Call<'_> {
    /// Reads the request's body, if it is one whose facts are needed.
    ///
    /// # Errors
    /// The body is too large, broken or unusable.
    pub(super) async fn intake(
        &mut self,
        request: Request<Arrival>,
        reception: Reception,
        credential: Option<&Credential>,
    ) -> Result<Order, Fault> {
        let (head, body) = request.into_parts();
        let record = &mut self.exchange.record;
        // What the request is, is told by the path that goes upstream.
        record.endpoint = Endpoint::of(&head.method, &reception.upstream_path);
        let body = if intake::is_readable(&head.method, &head.headers) && !body.is_end_stream() {
            record.phase = Phase::Intake;
            let bounds = Bounds {
                limit: reception.route.body_limit,
                idle: self.snapshot.server.body_idle,
                buffered: self.snapshot.server.max_buffered,
            };
            let intake = intake::read(body, bounds, &self.worker.gateway).await?;
            record.upload.whole(intake.bytes.len() as u64);
            record.model.clone_from(&intake.facts.model);
            record.stream = Some(intake.facts.stream);
            Incoming::Read(intake)
        } else {
            Incoming::Passing(body)
        };
        let deployment = openai::deployment(&reception.upstream_path).map(str::to_owned);
        record.model = record.model.take().or_else(|| deployment.clone());
        // It is logged, and may be any text.
        let presented = Crossing::new(credential.map(Credential::bytes));
        let keys = [&presented, &reception.route.upstream.crossing];
        record.model.take_if(|model| keys.iter().any(|keys| keys.carries(model.as_bytes())));
        Ok(Order { head, reception, body, deployment })
    }

    /// Lets the request in, or not.
    ///
    /// # Errors
    /// The caller may not use the model, or is limited to some and the request does not name one where it can be seen.
    pub(super) fn admit(&self, order: &Order) -> Result<(), Fault> {
        let record = &self.exchange.record;
        let Some(caller) = record.caller.as_ref().filter(|caller| caller.models.is_some()) else {
            return Ok(());
        };
        let named = record.model.iter().chain(&order.deployment);
        if let Some(forbidden) = named.clone().find(|model| !caller.may_use_model(model)) {
            return Err(Fault::ModelForbidden(forbidden.clone()));
        }
        if named.count() == 0 && !order.head.method.is_safe() {
            return Err(Fault::ModelUnknown);
        }
        Ok(())
    }

    /// Sends the request and waits for the head of an answer.
    ///
    /// # Errors
    /// No answer came.
    pub(super) async fn dispatch(
        &mut self,
        order: Order,
        credential: Option<Credential>,
    ) -> Result<Answer, Fault> {
        let route = order.reception.route.clone();
        let upstream = &route.upstream;
        let target = upstream.target(order.reception.target);
        self.exchange.record.upstream = Some(upstream.name.clone());
        self.exchange.record.target = Some(target.url.clone());
        let presented = Crossing::new(credential.iter().map(Credential::bytes));
        let Order { head, reception, body, .. } = order;
        let body = match body {
            Incoming::Read(intake) => Outbound::Whole(Some(intake.bytes)),
            Incoming::Passing(body) => self.pass(body, &route, &presented),
        };
        let host = caller_host(&head);
        let mut request = Request::from_parts(head, body);
        *request.uri_mut() = uri(request.uri(), &reception, target, &presented)?;
        *request.version_mut() = if target.dialer.http2() { Version::HTTP_2 } else { Version::HTTP_11 };
        self.readdress(request.headers_mut(), &route, target, &presented);
        if route.forward_address {
            self.forward_address(
                request.headers_mut(),
                host.filter(|host| !presented.carries(host.as_bytes())),
            );
        }
        let answered = self.attempt(request, target, &route.timeouts).await;
        self.exchange.attempted(match &answered {
            Ok(answer) => class(answer.status()),
            Err(fault) => fault.row().code,
        });
        answered
    }

    /// A body that is passed on as it comes.
    fn pass(&self, body: Arrival, route: &Arc<Route>, presented: &Crossing<'_>) -> Outbound {
        if body.is_end_stream() {
            return Outbound::EMPTY;
        }
        let (route, presented) = (route.clone(), presented.clone().into_owned());
        let trailers = move |trailers: &mut HeaderMap| {
            policy::trailers_to_upstream(trailers, &route.request_headers, &presented);
        };
        let tally = self.exchange.record.upload.clone();
        let upload = Upload::new(body, tally, self.snapshot.server.body_idle, Box::new(trailers));
        Outbound::Stream(Box::new(upload))
    }

    /// Makes the caller's headers the gateway's own request to `target`.
    fn readdress(&self, headers: &mut HeaderMap, route: &Route, target: &Target, presented: &Crossing<'_>) {
        policy::to_upstream(headers, &route.request_headers, presented);
        // The answer is looked into, and an error in it searched for keys: both need it as it is.
        headers.insert(header::ACCEPT_ENCODING, HeaderValue::from_static("identity"));
        for (name, value) in &route.upstream.headers {
            headers.insert(name.clone(), value.clone());
        }
        if let (Some(name), Some(key)) = (&route.upstream.auth, route.upstream.keys.take()) {
            headers.insert(name.clone(), key);
        }
        let trace = &self.exchange.record.trace;
        headers.insert(TRACEPARENT, trace.traceparent());
        if !trace.keeps_tracestate() {
            headers.remove(TRACESTATE);
        }
        if target.dialer.http2() {
            headers.remove(header::HOST);
        } else {
            headers.insert(header::HOST, target.host.clone());
        }
    }

    fn forward_address(&self, headers: &mut HeaderMap, host: Option<HeaderValue>) {
        if let Ok(client) = HeaderValue::from_str(&self.exchange.record.client.to_string()) {
            headers.insert(FORWARDED_FOR, client);
        }
        let scheme = if self.downstream.tls { "https" } else { "http" };
        headers.insert(FORWARDED_PROTO, HeaderValue::from_static(scheme));
        if let Some(host) = host {
            headers.insert(FORWARDED_HOST, host);
        }
    }
}

/// The host that the caller asked, port included: HTTP/2 says it in the target (RFC 9113 §8.3.1).
fn caller_host(head: &request::Parts) -> Option<HeaderValue> {
    let authority = head.uri.authority().and_then(|authority| HeaderValue::from_str(authority.as_str()).ok());
    authority.or_else(|| head.headers.get(header::HOST).cloned())
}

/// The request's target as it goes upstream: rewritten path, query without credentials. Origin form on HTTP/1.1 (RFC 9112
/// §3.2.1); HTTP/2 takes scheme and authority from it as well.
fn uri(asked: &Uri, reception: &Reception, target: &Target, presented: &Crossing<'_>) -> Result<Uri, Fault> {
    let path = &reception.upstream_path;
    let query = asked.query().map(|query| path::strip_credentials(query, |text| presented.carries(text)));
    let written = match query.as_deref() {
        None | Some("") => path.clone(),
        Some(query) => [path, "?", query].concat(),
    };
    let built = PathAndQuery::from_maybe_shared(Bytes::from(written)).map_err(http::Error::from).and_then(
        |path_and_query| {
            if target.dialer.http2() {
                let scheme = target.dialer.origin().scheme_str().unwrap_or("https");
                let authority = target.authority.clone();
                Uri::builder().scheme(scheme).authority(authority).path_and_query(path_and_query).build()
            } else {
                Ok(Uri::from(path_and_query))
            }
        },
    );
    built.map_err(|_| Fault::BadRequest("its path or query has characters that may not stand there"))
}
