//! Turns the client's headers into those that every attempt sends.

use http::{HeaderMap, HeaderName, HeaderValue, header, request};

use super::PreparedRequest;
use crate::{
    exchange::Record,
    policy,
    proxy::{arrival::Arrived, context::RequestContext, known_head::KnownHead},
};

pub(in crate::proxy) const TRACEPARENT: HeaderName = HeaderName::from_static("traceparent");
const TRACESTATE: HeaderName = HeaderName::from_static("tracestate");
const FORWARDED_FOR: HeaderName = HeaderName::from_static("x-forwarded-for");
const FORWARDED_PROTO: HeaderName = HeaderName::from_static("x-forwarded-proto");
const FORWARDED_HOST: HeaderName = HeaderName::from_static("x-forwarded-host");

/// Applies the header policy and the route's rules, and adds the trace context.
pub(in crate::proxy) fn address(context: &RequestContext, record: &Record, prepared: &mut PreparedRequest) {
    let host = client_host(&prepared.head);
    // What is remembered of the head holds for the rules of the route as it is configured.
    let known_head = prepared.arrived.known_head.clone().filter(|_| prepared.configured_route.is_none());
    let PreparedRequest { arrived, head, .. } = prepared;
    let (route, key) = (&arrived.routed.route, &arrived.key);
    withhold(&mut head.headers, arrived, known_head.as_deref());
    // The gateway observes responses and searches errors for keys. Both need an uncompressed body.
    head.headers.insert(header::ACCEPT_ENCODING, HeaderValue::from_static("identity"));
    head.headers.insert(TRACEPARENT, record.trace.traceparent());
    if !record.trace.keeps_tracestate() {
        head.headers.remove(TRACESTATE);
    }
    if route.forward_address {
        let host = host.filter(|host| !key.found_in(host.as_bytes()));
        forward_address(context, record, &mut head.headers, host);
    }
}

/// Applies the header policy. Which headers it takes out of a head that the connection knows has been found out before.
fn withhold(headers: &mut HeaderMap, arrived: &Arrived, known_head: Option<&KnownHead>) {
    let rules = &arrived.routed.route.request_headers;
    let Some(known) = known_head else {
        return policy::to_upstream(headers, rules, &arrived.key);
    };
    if let Some(withheld) = known.withheld.get() {
        return policy::withhold(headers, withheld, rules);
    }
    let before: Vec<HeaderName> = headers.keys().cloned().collect();
    policy::to_upstream(headers, rules, &arrived.key);
    known.withheld.get_or_init(|| before.into_iter().filter(|name| !headers.contains_key(name)).collect());
}

fn forward_address(
    context: &RequestContext,
    record: &Record,
    headers: &mut HeaderMap,
    host: Option<HeaderValue>,
) {
    if let Ok(client) = HeaderValue::from_str(&record.client.to_string()) {
        headers.insert(FORWARDED_FOR, client);
    }
    let scheme = if context.downstream.tls { "https" } else { "http" };
    headers.insert(FORWARDED_PROTO, HeaderValue::from_static(scheme));
    if let Some(host) = host {
        headers.insert(FORWARDED_HOST, host);
    }
}

/// The host that the client asked, port included; HTTP/2 has it in the request's target (RFC 9113 §8.3.1).
fn client_host(head: &request::Parts) -> Option<HeaderValue> {
    let authority = head.uri.authority().and_then(|authority| HeaderValue::from_str(authority.as_str()).ok());
    authority.or_else(|| head.headers.get(header::HOST).cloned())
}
