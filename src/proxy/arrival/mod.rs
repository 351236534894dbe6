//! What is decided before the body is read: the route, the client, and the timeouts that the client sets itself.

mod authenticate;
mod caller_timeouts;
mod cors;
mod ephemeral;
mod handshake;
mod host;
mod no_route;
mod overload;
mod preflight;
mod refuse;
mod route;

use std::{cell::OnceCell, rc::Rc, sync::Arc};

use http::request;

use super::{
    context::{Presented, RequestContext},
    known_head::{HeadFacts, KnownHead},
};
use crate::{exchange::Exchange, fault::Fault, limit::Applied, policy::SecretScanner, snapshot::Route};

pub(super) use authenticate::{Authenticated, authenticate};
pub(super) use caller_timeouts::CallerTimeouts;
pub(super) use ephemeral::EphemeralAccess;
pub(super) use handshake::{Handshake, models_in, with_model};
pub(super) use overload::admit_load;
pub(super) use preflight::preflight;
pub(super) use route::{NOT_THE_ROUTES, RoutedRequest, find_route};

/// A request whose route and client are known.
#[derive(Debug)]
pub(super) struct Arrived {
    pub(super) routed: RoutedRequest,
    /// Finds the client's own key.
    pub(super) key: Rc<SecretScanner<'static>>,
    pub(super) timeouts: CallerTimeouts,
    /// What the request's ephemeral key opens, if it has one.
    pub(super) ephemeral: Option<Rc<EphemeralAccess>>,
    /// What its connection remembers of its head.
    pub(super) known_head: Option<Rc<KnownHead>>,
    /// The limits that apply to it with any model, once they are found; where a connection knows its head, they are there.
    limits: OnceCell<Rc<[Applied]>>,
}

impl Arrived {
    /// A request that has found its route, from a client that is known.
    pub(super) fn new(routed: RoutedRequest, client: Authenticated, timeouts: CallerTimeouts) -> Self {
        let Authenticated { key, ephemeral, known: _ } = client;
        Self { routed, key, timeouts, ephemeral, known_head: None, limits: OnceCell::new() }
    }

    /// The limits that apply to the request with any model, which `find` finds. They follow from its client and its route.
    pub(super) fn limits(&self, find: impl FnOnce() -> Vec<Applied>) -> Rc<[Applied]> {
        let found = self.known_head.as_ref().map_or(&self.limits, |known| &known.limits);
        found.get_or_init(|| find().into()).clone()
    }
}

/// Finds the route and the client of a request with this head.
///
/// # Errors
/// No route matches the request, its client is not known or may not use the route, or the head is malformed.
pub(super) fn arrive(
    context: &RequestContext,
    exchange: &mut Exchange,
    head: &request::Parts,
    presented: Presented,
) -> Result<Arrived, Fault> {
    if let Some(known) = &context.known_head
        && let Some(route) = known.facts.route.upgrade()
    {
        return arrive_again(exchange, known, route);
    }
    let routed = find_route(context, exchange, head)?;
    let authenticated = authenticate(context, exchange, head, &routed, presented)?;
    exchange.introduce();
    let timeouts = CallerTimeouts::read(&head.headers)?;
    let known_head = remember(context, exchange, Arriving { head, routed: &routed, client: &authenticated });
    Ok(Arrived { known_head, ..Arrived::new(routed, authenticated, timeouts) })
}

/// A request whose route and client have been found.
#[derive(Clone, Copy)]
struct Arriving<'a> {
    head: &'a request::Parts,
    routed: &'a RoutedRequest,
    client: &'a Authenticated,
}

/// What [`arrive`] does for a head that the connection knows. An expired key is all that can have changed.
fn arrive_again(exchange: &mut Exchange, known: &Rc<KnownHead>, route: Arc<Route>) -> Result<Arrived, Fault> {
    let facts = &known.facts;
    let record = &mut exchange.record;
    record.route = Some(route.name.clone());
    record.languages.languages = route.languages;
    record.caller = Some(facts.client.caller.clone());
    authenticate::admit_key(exchange, &facts.client);
    if facts.client.caller.is_expired() {
        return Err(Fault::KeyExpired);
    }
    exchange.introduce();
    let routed = RoutedRequest {
        route,
        path: facts.path.clone(),
        upstream_path: facts.upstream_path.clone(),
        operation: facts.operation,
    };
    let client = Authenticated { key: facts.key.clone(), known: None, ephemeral: None };
    let arrived = Arrived::new(routed, client, CallerTimeouts::default());
    Ok(Arrived { known_head: Some(known.clone()), ..arrived })
}

/// Has the connection remember a head, if all that was found out about it follows from the head and the configuration.
fn remember(context: &RequestContext, exchange: &Exchange, arriving: Arriving<'_>) -> Option<Rc<KnownHead>> {
    let Arriving { head, routed, client } = arriving;
    let RoutedRequest { route, path, upstream_path, operation } = routed;
    let (record, snapshot) = (&exchange.record, &context.snapshot);
    let is_shown = record.path == head.uri.path() && record.method == head.method;
    let is_for_pages = route.cors.is_some() || snapshot.cors.is_some();
    if !is_shown || is_for_pages {
        return None;
    }
    let facts = HeadFacts {
        key: client.key.clone(),
        client: client.known.clone()?,
        route: Arc::downgrade(route),
        path: path.clone(),
        upstream_path: upstream_path.clone(),
        operation: *operation,
        error_form: record.error_form,
        sdk: record.sdk,
    };
    context.downstream.head_memo.remember(head, snapshot, facts)
}
