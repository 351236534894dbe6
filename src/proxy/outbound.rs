//! What goes upstream: the caller's request with its body read or passed on, its credentials replaced by the upstream's.

use std::{rc::Rc, sync::Arc};

use bytes::Bytes;
use http::{HeaderMap, HeaderName, HeaderValue, Request, Uri, Version, header, request, uri::PathAndQuery};
use http_body::Body;

use super::{
    call::Call,
    dispatch,
    errand::DetachPolicy,
    gateway,
    intake::{self, Bounds, Intake},
    places::Candidate,
    reception::{NOT_THE_ROUTES, RoutedRequest},
};
use crate::{
    body::{Outbound, RequestBody, Upload},
    config::{Balance, HashBy},
    fault::{Fault, Phase},
    openai::{self, EditPoints, Endpoint, Splices},
    policy::{self, SecretScanner, path},
    snapshot::{Route, Step, Target},
    upstream::Affinity,
};

const TRACEPARENT: HeaderName = HeaderName::from_static("traceparent");
const TRACESTATE: HeaderName = HeaderName::from_static("tracestate");
const FORWARDED_FOR: HeaderName = HeaderName::from_static("x-forwarded-for");
const FORWARDED_PROTO: HeaderName = HeaderName::from_static("x-forwarded-proto");
const FORWARDED_HOST: HeaderName = HeaderName::from_static("x-forwarded-host");

/// A request that is ready to be sent somewhere.
#[derive(Debug)]
pub(super) struct PreparedRequest {
    route: Arc<Route>,
    /// Canonical.
    path: String,
    head: request::Parts,
    body: Incoming,
    /// The model that the path names (Azure).
    deployment: Option<String>,
    /// The same request may be sent again: [`Endpoint::may_repeat`].
    repeatable: bool,
    /// Where the body can be edited, if it was read.
    edit_points: EditPoints,
    /// Its answer is to be an event stream.
    stream: bool,
    endpoint: Endpoint,
    presented: Rc<SecretScanner<'static>>,
    /// As an SDK told it.
    retried: u32,
    /// By the route's steps, where one of them balances by a hash.
    affinities: Vec<Affinity>,
}

/// The request's body, as far as it had to be read.
#[derive(Debug)]
enum Incoming {
    Read(Bytes),
    ActiveStream(RequestBody),
    /// It was passed on, and cannot be once more.
    Gone,
}

impl Call {
    /// Reads the request's body, if it is one whose facts are needed.
    ///
    /// # Errors
    /// The body is too large, broken or unusable.
    pub(super) async fn intake(
        &mut self,
        request: Request<RequestBody>,
        reception: RoutedRequest,
        presented: Rc<SecretScanner<'static>>,
    ) -> Result<Box<PreparedRequest>, Fault> {
        let (head, body) = request.into_parts();
        let RoutedRequest { route, path, upstream_path } = reception;
        let record = &mut self.exchange.record;
        // What the request is, is told by the path that goes upstream.
        let endpoint = Endpoint::of(&head.method, &upstream_path);
        record.endpoint = endpoint;
        let mut repeatable = false;
        let mut edit_points = EditPoints::default();
        let body = if intake::is_readable(&head.method, &head.headers) && !body.is_end_stream() {
            self.exchange.watch.reach(Phase::Intake);
            let bounds = Bounds {
                limit: route.body_limit,
                idle: self.snapshot.server.body_idle,
                buffered: self.snapshot.server.max_buffered,
            };
            let Intake { bytes, facts } =
                intake::read(body, bounds, &self.worker.gateway, &record.upload).await?;
            repeatable = endpoint.may_repeat(&facts);
            record.model = facts.model;
            record.stream = Some(facts.stream);
            edit_points = facts.edit_points;
            Incoming::Read(bytes)
        } else {
            Incoming::ActiveStream(body)
        };
        let deployment = openai::deployment(&upstream_path).map(str::to_owned);
        record.model = record.model.take().or_else(|| deployment.clone());
        // It is logged, and may be any text.
        let secret = |text: &[u8]| presented.found_in(text) || route.carries_key(text);
        record.model.take_if(|model| secret(model.as_bytes()));
        let retried = dispatch::retried(&head);
        let affinities = self.affinities(&route, &head, &body).await;
        let stream = self.exchange.record.stream == Some(true);
        // Handed on by everybody from here on.
        Ok(Box::new(PreparedRequest {
            route,
            path,
            head,
            body,
            deployment,
            repeatable,
            edit_points,
            stream,
            endpoint,
            presented,
            retried,
            affinities,
        }))
    }

    /// What leads the request to its targets, for each of the route's steps if any balances so.
    async fn affinities(&self, route: &Route, head: &request::Parts, body: &Incoming) -> Vec<Affinity> {
        let hash_by = |step: &Step| match &step.upstream.balance {
            Balance::Hash(by) => Some(by.clone()),
            Balance::LeastPending | Balance::RoundRobin => None,
        };
        if route.steps.iter().all(|step| hash_by(step).is_none()) {
            return Vec::new();
        }
        let record = &self.exchange.record;
        let caller = match &record.caller {
            Some(caller) => Affinity::of(caller.name.as_bytes()),
            None => Affinity::of(record.client.to_string().as_bytes()),
        };
        let mut affinities = Vec::with_capacity(route.steps.len());
        for step in &route.steps {
            let found = match (hash_by(step), body) {
                (Some(HashBy::Header(name)), _) => {
                    head.headers.get(name).map(|value| Affinity::of(value.as_bytes()))
                }
                (Some(HashBy::Prompt), Incoming::Read(bytes)) => intake::prompt(bytes).await,
                _ => None,
            };
            affinities.push(found.unwrap_or(caller));
        }
        affinities
    }

    /// Lets the request in, or not.
    ///
    /// # Errors
    /// The caller may not use the model, or is limited to some and the request does not name one where it can be seen.
    pub(super) fn admit(&self, order: &PreparedRequest) -> Result<(), Fault> {
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

    /// Makes the caller's headers those of a request of the gateway's own, as far as every attempt has the same.
    pub(super) fn readdress(&self, order: &mut PreparedRequest) {
        let host = caller_host(&order.head);
        let PreparedRequest { route, head, presented, .. } = order;
        policy::to_upstream(&mut head.headers, &route.request_headers, presented);
        // The answer is looked into, and an error in it searched for keys: both need it as it is.
        head.headers.insert(header::ACCEPT_ENCODING, HeaderValue::from_static("identity"));
        let trace = &self.exchange.record.trace;
        head.headers.insert(TRACEPARENT, trace.traceparent());
        if !trace.keeps_tracestate() {
            head.headers.remove(TRACESTATE);
        }
        if route.forward_address {
            let host = host.filter(|host| !presented.found_in(host.as_bytes()));
            self.forward_address(&mut head.headers, host);
        }
    }

    /// The request as it is sent to `place`. A body that passes on goes with it.
    pub(super) fn request(
        &self,
        order: &mut PreparedRequest,
        place: &Candidate,
    ) -> Result<Request<Outbound>, Fault> {
        let (upstream, target) = (&place.upstream, place.target());
        let uri = order.uri(target)?;
        let body = self.body(order, place)?;
        let mut request = Request::new(body);
        *request.method_mut() = order.head.method.clone();
        *request.uri_mut() = uri;
        *request.version_mut() = if target.dialer.http2() { Version::HTTP_2 } else { Version::HTTP_11 };
        let mut headers = order.head.headers.clone();
        for (name, value) in &upstream.headers {
            policy::put_upstream(&mut headers, name, value);
        }
        if let (Some(name), Some(key)) = (&upstream.auth, &place.key) {
            policy::put_upstream(&mut headers, name, key.value());
        }
        if target.dialer.http2() {
            headers.remove(header::HOST);
        } else {
            headers.insert(header::HOST, target.host.clone());
        }
        match request.body().size_hint().exact() {
            // Written anew: `007` is not the same number to everybody.
            Some(length) if place.model.is_some() || headers.contains_key(header::CONTENT_LENGTH) => {
                headers.insert(header::CONTENT_LENGTH, HeaderValue::from(length));
            }
            Some(_) => {}
            // hyper sends no body of unknown length with GET unless it is told how.
            None if !target.dialer.http2() => {
                headers.insert(header::TRANSFER_ENCODING, HeaderValue::from_static("chunked"));
            }
            None => {}
        }
        *request.headers_mut() = headers;
        Ok(request)
    }

    fn body(&self, order: &mut PreparedRequest, place: &Candidate) -> Result<Outbound, Fault> {
        Ok(match std::mem::replace(&mut order.body, Incoming::Gone) {
            Incoming::Read(bytes) => {
                order.body = Incoming::Read(bytes.clone());
                let has_model = self.exchange.record.model.is_some() || order.endpoint.takes_model();
                let model = place.model.as_deref().filter(|_| has_model);
                Outbound::Whole(Some(match model {
                    Some(model) => self.with_model(&bytes, &order.edit_points, model)?,
                    None => bytes,
                }))
            }
            Incoming::ActiveStream(body) if body.is_end_stream() => {
                order.body = Incoming::ActiveStream(body);
                Outbound::EMPTY
            }
            Incoming::ActiveStream(body) => self.pass(body, &order.route, &order.presented),
            Incoming::Gone => Outbound::EMPTY,
        })
    }

    /// A copy of a body that was read, with another model; counted as the body is, beside it.
    fn with_model(&self, bytes: &[u8], points: &EditPoints, model: &str) -> Result<Bytes, Fault> {
        let mut splices = Splices::new();
        splices.set_model(points, model)?;
        let mut counted = self.worker.gateway.hold();
        let length = splices.edited_length(bytes.len());
        counted.grow_to(length as u64, self.snapshot.server.max_buffered)?;
        let edited = splices.apply(bytes)?;
        Ok(gateway::own(edited.into(), counted))
    }

    /// A body that is passed on as it comes.
    fn pass(
        &self,
        body: RequestBody,
        route: &Arc<Route>,
        presented: &Rc<SecretScanner<'static>>,
    ) -> Outbound {
        let (route, presented) = (route.clone(), presented.clone());
        let trailers = move |trailers: &mut HeaderMap| {
            policy::trailers_to_upstream(trailers, &route.request_headers, &presented);
        };
        let tally = self.exchange.record.upload.clone();
        let upload = Upload::new(body, tally, self.snapshot.server.body_idle, Box::new(trailers));
        Outbound::Stream(Box::new(upload))
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

impl PreparedRequest {
    pub(super) fn route(&self) -> &Arc<Route> {
        &self.route
    }

    /// Whether its attempts are to be run apart from who waits for them.
    pub(super) fn apart(&self) -> Option<DetachPolicy> {
        let stream = self.stream && self.endpoint.dialect().has_terminal_event();
        self.is_inference().then(|| DetachPolicy::of(&self.route, stream)).flatten()
    }

    pub(super) fn take_affinities(&mut self) -> Vec<Affinity> {
        std::mem::take(&mut self.affinities)
    }

    /// See [`dispatch::retried`].
    pub(super) fn retried(&self) -> u32 {
        self.retried
    }

    /// Whether it makes an answer and nothing else.
    pub(super) fn is_inference(&self) -> bool {
        self.repeatable && matches!(self.body, Incoming::Read(_))
    }

    /// Whether its body is still there.
    pub(super) fn can_be_sent(&self) -> bool {
        !matches!(self.body, Incoming::Gone)
    }

    /// A body that was to be passed on, and of which nothing was.
    pub(super) fn take_back(&mut self, body: Outbound) {
        if let Outbound::Stream(upload) = body {
            self.body = Incoming::ActiveStream(upload.into_inner());
        }
    }

    /// Its target as it goes upstream: rewritten path, query without credentials. Origin form on HTTP/1.1 (RFC 9112 §3.2.1); HTTP/2
    /// takes scheme and authority from it as well.
    fn uri(&self, target: &Target) -> Result<Uri, Fault> {
        let Self { route, path, presented, .. } = self;
        let path = route.upstream_path(path, target).ok_or(NOT_THE_ROUTES)?;
        let query = self.head.uri.query();
        let query = query.map(|query| path::strip_credentials(query, |text| presented.found_in(text)));
        let written = match query.as_deref() {
            None | Some("") => path.into_owned(),
            Some(query) => [&*path, "?", query].concat(),
        };
        let built = PathAndQuery::from_maybe_shared(Bytes::from(written))
            .map_err(http::Error::from)
            .and_then(|path_and_query| {
                if target.dialer.http2() {
                    let scheme = target.dialer.origin().scheme_str().unwrap_or("https");
                    let authority = target.authority.clone();
                    Uri::builder().scheme(scheme).authority(authority).path_and_query(path_and_query).build()
                } else {
                    Ok(Uri::from(path_and_query))
                }
            });
        built.map_err(|_| Fault::BadRequest("its path or query has characters that may not stand there"))
    }
}
