//! WebSocket connections: the tunnel between a client and an upstream after both handshakes.
//!
//! Frames pass unchanged, and with them masks and fragmentation; the gateway observes them from the side and never waits for the rest of a
//! message. It adds frames of its own only where it closes a connection, and only between two frames.
//!
//! One task drives both directions of a connection, which is the task of the client's connection. Nothing is read from one side while the other
//! has not taken what was read before, so memory is bounded, and an idle connection keeps no buffer.
//!
//! A key that is withdrawn ends a connection only if its client has `on_revoke = "cut"`: it was known when the connection was opened.

mod clocks;
mod direction;
mod ending;
mod opened;
mod refuse;
mod relay;
mod watch;

use std::{fmt, pin::Pin, rc::Rc, sync::Arc};

use http::{HeaderValue, header, request};
use tokio::io::{AsyncRead, AsyncWrite};

use super::{
    admission,
    arrival::{self, Arrived, CallerTimeouts, Handshake, models_in},
    attempts,
    context::{Presented, RequestContext},
    deadline::TotalTimeout,
    delivery::{ClientResponse, SwitchedUpstream},
    intake::{self, PreparedRequest},
};
use crate::{
    body::RequestBody,
    exchange::Exchange,
    fault::{Fault, Reason},
    openai::Repeat,
    policy::SecretScanner,
    snapshot::Route,
    websocket::handshake,
};
use clocks::TunnelTimeouts;
use opened::{Opened, TunnelPermits, TunnelSecrets};
pub(super) use refuse::PageRefusal;
use relay::TunnelRelay;

/// A request for a WebSocket connection.
pub(super) struct UpgradeRequest {
    pub(super) head: request::Parts,
    pub(super) body: RequestBody,
    pub(super) handshake: Rc<Handshake>,
    pub(super) presented: Presented,
}

/// A connection that switches to WebSocket after the response of 101.
pub struct OpenTunnel {
    exchange: Box<Exchange>,
    what: What,
}

enum What {
    /// The client is accepted, and told why it is refused.
    Refused(PageRefusal),
    Open(Box<Opened>, TunnelSecrets),
}

/// The ladder of a request for a WebSocket connection. The response is of 101 if an upstream has switched; else it is the upstream's error.
pub(super) async fn answer(
    context: &RequestContext,
    exchange: &mut Exchange,
    request: UpgradeRequest,
) -> Result<ClientResponse, Fault> {
    let UpgradeRequest { head, body, handshake, presented } = request;
    let routed = arrival::find_route(context, exchange, &head)?;
    admit_handshake(context, exchange, &head, &handshake, &routed.route)?;
    let authenticated = arrival::authenticate(context, exchange, &head, &routed, presented)?;
    exchange.introduce();
    arrival::admit_load(context, exchange)?;
    let timeouts = CallerTimeouts::read(&head.headers)?;
    let total = TotalTimeout::set(exchange, timeouts.total(routed.route.total));
    let arrived = Arrived::new(routed, authenticated, timeouts);
    let rungs = std::pin::pin!(async {
        let mut request = intake::prepare(context, exchange, head, body, arrived).await?;
        if !request.content.is_empty() {
            return Err(Fault::BadRequest(Reason::HandshakeBody));
        }
        name_models(context, exchange, &mut request)?;
        request.choose_upstreams(exchange.record.caller.as_deref())?;
        if request.has_several_accounts() {
            let map = &*context.worker.gateway.accounts;
            Box::pin(intake::choose_accounts(&mut request, &exchange.record, map, None)).await?;
        }
        // The handshake itself uses no tokens.
        request.handshake = Some(handshake.clone());
        admission::admit(context, exchange, &request).await?;
        intake::address(context, &exchange.record, &mut request);
        shake_hands(&mut request, &handshake);
        attempts::dispatch(context, exchange, request).await
    });
    total.bound(rungs).await
}

/// Whether `handshake` may be passed on, as far as that does not depend on the client.
fn admit_handshake(
    context: &RequestContext,
    exchange: &mut Exchange,
    head: &request::Parts,
    handshake: &Handshake,
    route: &Route,
) -> Result<(), Fault> {
    if !route.websocket {
        return Err(Fault::WebSocketUnavailable);
    }
    if let Err(fault) = handshake.check(head) {
        // RFC 6455 §4.4: a server says which version it speaks.
        let version = HeaderValue::from_static(handshake::VERSION);
        exchange.response_headers.insert(header::SEC_WEBSOCKET_VERSION, version);
        return Err(fault);
    }
    if context.downstream.connection.is_draining() {
        return Err(Fault::Draining);
    }
    // Browsers send cookies and keys of theirs with the handshakes of any page, and make no preflight request for it. Where there is `cors`, it
    // has decided already.
    if route.cors.is_none() && head.headers.contains_key(header::ORIGIN) {
        return Err(Fault::OriginUnlisted("the route has no `cors`".into()));
    }
    Ok(())
}

/// Notes the models that the query names.
fn name_models(
    context: &RequestContext,
    exchange: &mut Exchange,
    request: &mut PreparedRequest,
) -> Result<(), Fault> {
    let Some(query) = request.head.uri.query() else { return Ok(()) };
    let key = &request.arrived.key;
    let mut named: Vec<String> = models_in(query).filter(|model| !key.found_in(model.as_bytes())).collect();
    named.dedup();
    let mut named = named.into_iter();
    let Some(model) = named.next() else { return Ok(()) };
    if named.next().is_some() {
        return Err(Fault::BadRequest(Reason::HandshakeModels));
    }
    request.model = Some(model.as_str().into());
    exchange.record.model =
        Some(model).filter(|model| !context.snapshot.upstream_keys.found_in(model.as_bytes()));
    if let Some(model) = &exchange.record.model {
        exchange.handle.status.asks_for(model.as_str().into());
    }
    Ok(())
}

/// Makes the request a handshake with an upstream. Nothing is created before the connection is open, so that any failure may be retried.
fn shake_hands(request: &mut PreparedRequest, handshake: &Handshake) {
    let PreparedRequest { arrived, head, .. } = request;
    let allowed = &arrived.routed.route.request_headers.allow;
    handshake.to_upstream(&mut head.headers, allowed, |text| arrived.key.found_in(text));
    request.repeat = Repeat::Compute;
}

/// The route of the exchange, if it serves the models of tables only.
fn closed_route(context: &RequestContext, exchange: &Exchange) -> Option<Arc<Route>> {
    let name = exchange.record.route.as_ref()?;
    let route = context.snapshot.routes.iter().find(|route| route.name == *name)?;
    route.models.as_ref()?.is_closed().then(|| route.clone())
}

impl OpenTunnel {
    /// A connection to `upstream`, for the exchange that has asked for it. `client_key` finds the key of its client.
    pub(super) fn open(
        context: &RequestContext,
        exchange: Box<Exchange>,
        upstream: SwitchedUpstream,
        client_key: Rc<SecretScanner<'static>>,
    ) -> Self {
        let SwitchedUpstream { io, permit, ids, idle } = upstream;
        let timeouts = TunnelTimeouts { idle, stall: context.snapshot.server.write_stall };
        let permits = TunnelPermits { _target: permit, _count: context.worker.gateway.tunnels.clone() };
        let closed = closed_route(context, &exchange);
        let opened = Opened { upstream: io, timeouts, permits, closed, ids };
        let upstreams = exchange.secrets.clone().unwrap_or_else(|| context.snapshot.upstream_keys.clone());
        let secrets = TunnelSecrets { upstreams, client: client_key };
        Self { exchange, what: What::Open(Box::new(opened), secrets) }
    }

    /// A connection of a web page that is closed at once.
    pub(super) fn refuse(exchange: Box<Exchange>, refusal: PageRefusal) -> Self {
        Self { exchange, what: What::Refused(refusal) }
    }

    /// Speaks WebSocket with the client on `io`, to the end of the connection.
    pub fn run<C>(self, io: C) -> Pin<Box<dyn Future<Output = ()>>>
    where
        C: AsyncRead + AsyncWrite + Unpin + 'static,
    {
        let Self { exchange, what } = self;
        match what {
            What::Refused(refusal) => Box::pin(async move {
                refuse::refuse(io, &refusal).await;
                drop(exchange);
            }),
            What::Open(opened, secrets) => Box::pin(TunnelRelay::new(io, *opened, exchange, secrets).run()),
        }
    }
}

impl fmt::Debug for OpenTunnel {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("OpenTunnel").field("exchange", &self.exchange).finish_non_exhaustive()
    }
}
