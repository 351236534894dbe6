//! Requests of web pages: preflight requests, and whether the route lists the page's origin (Fetch standard, "CORS protocol").
//!
//! A page cannot send a key before a preflight request has been granted, and that has no key. So both are decided before the client is known.

use bytes::Bytes;
use http::{HeaderMap, HeaderName, HeaderValue, Method, Response, StatusCode, header, request};

use super::route;
use crate::{
    config::Cors,
    exchange::Exchange,
    fault::{Fault, Reason},
    policy::Readers,
    proxy::context::RequestContext,
};

/// Bytes of `access-control-request-headers` that are repeated; SDKs ask for about 300.
const MOST_ASKED: usize = 4096;

/// Characters of an origin that the log shows.
const MOST_SHOWN: usize = 200;

/// Older Chromium asks so before a public page connects to a private address (WICG, Private Network Access).
const ASKS_FOR_PRIVATE_NETWORK: HeaderName =
    HeaderName::from_static("access-control-request-private-network");
const ALLOWS_PRIVATE_NETWORK: HeaderName = HeaderName::from_static("access-control-allow-private-network");

/// All that the response to a preflight request depends on.
const VARIES_BY: HeaderValue =
    HeaderValue::from_static("Origin, Access-Control-Request-Method, Access-Control-Request-Headers");

/// The response to a preflight request, if this is one and the route of the request that it announces has `cors`. One that announces a request
/// without a route is granted where `cors` of `[defaults]` lists the origin, so that the page can read the error.
///
/// # Errors
/// The origin is not listed, or the request announces none that HTTP knows.
pub(in crate::proxy) fn preflight(
    context: &RequestContext,
    exchange: &mut Exchange,
    head: &request::Parts,
) -> Result<Option<Response<Bytes>>, Fault> {
    if head.method == Method::OPTIONS { answer(context, exchange, head) } else { Ok(None) }
}

/// Notes who may read the response to a request, by the `cors` that applies to it.
///
/// # Errors
/// The request is of a page that is not listed.
pub(super) fn admit(exchange: &mut Exchange, cors: &Cors, headers: &HeaderMap) -> Result<(), Fault> {
    let readers = readers(cors, headers);
    let is_refused = readers == Readers::NoPage && headers.contains_key(header::ORIGIN);
    exchange.readers = Some(Box::new(readers));
    if is_refused { Err(unlisted(headers)) } else { Ok(()) }
}

#[cold]
fn answer(
    context: &RequestContext,
    exchange: &mut Exchange,
    head: &request::Parts,
) -> Result<Option<Response<Bytes>>, Fault> {
    let headers = &head.headers;
    let Some(method) = headers.get(header::ACCESS_CONTROL_REQUEST_METHOD) else { return Ok(None) };
    if !headers.contains_key(header::ORIGIN) {
        return Ok(None);
    }
    let announced =
        Method::from_bytes(method.as_bytes()).map_err(|_| Fault::BadRequest(Reason::AnnouncedMethod))?;
    let found = route::locate(context, head, &announced).ok().map(|located| located.route);
    let cors = match &found {
        Some(route) if route.refuse_origin => None,
        Some(route) => route.cors.as_deref(),
        None => context.snapshot.cors.as_deref(),
    };
    let Some(cors) = cors else { return Ok(None) };
    exchange.record.route = found.as_ref().map(|route| route.name.clone());
    exchange.response_headers.insert(header::VARY, VARIES_BY);
    let allowed = match readers(cors, headers) {
        Readers::NoPage => return Err(unlisted(headers)),
        Readers::Page(origin) => origin,
        Readers::AllPages => HeaderValue::from_static("*"),
    };
    let mut response = Response::new(Bytes::new());
    *response.status_mut() = StatusCode::NO_CONTENT;
    let granted = response.headers_mut();
    granted.insert(header::ACCESS_CONTROL_ALLOW_ORIGIN, allowed);
    granted.insert(header::ACCESS_CONTROL_ALLOW_METHODS, method.clone());
    granted.insert(header::ACCESS_CONTROL_MAX_AGE, HeaderValue::from(cors.max_age.as_secs()));
    if let Some(names) = asked_headers(headers)? {
        granted.insert(header::ACCESS_CONTROL_ALLOW_HEADERS, names);
    }
    if headers.get(ASKS_FOR_PRIVATE_NETWORK).is_some_and(|asks| asks == "true") {
        granted.insert(ALLOWS_PRIVATE_NETWORK, HeaderValue::from_static("true"));
    }
    exchange.mark_preflight();
    Ok(Some(response))
}

fn readers(cors: &Cors, headers: &HeaderMap) -> Readers {
    if cors.allows_all() {
        return Readers::AllPages;
    }
    let mut origins = headers.get_all(header::ORIGIN).iter();
    match (origins.next(), origins.next()) {
        (Some(origin), None) if cors.allows(origin.as_bytes()) => Readers::Page(origin.clone()),
        _ => Readers::NoPage,
    }
}

/// The headers that the announced request is to have. All are allowed: what SDKs send grows with each version, and `*` would not include
/// `authorization`.
fn asked_headers(headers: &HeaderMap) -> Result<Option<HeaderValue>, Fault> {
    let mut lines = headers.get_all(header::ACCESS_CONTROL_REQUEST_HEADERS).iter();
    let Some(names) = lines.next() else { return Ok(None) };
    let is_name = |name: &[u8]| HeaderName::from_bytes(name.trim_ascii()).is_ok();
    let is_list = names.is_empty() || names.as_bytes().split(|byte| *byte == b',').all(is_name);
    if lines.next().is_some() || names.len() > MOST_ASKED || !is_list {
        return Err(Fault::BadRequest(Reason::AnnouncedHeaders { most: MOST_ASKED }));
    }
    Ok(Some(names.clone()))
}

#[cold]
fn unlisted(headers: &HeaderMap) -> Fault {
    let origins: Vec<&[u8]> = headers.get_all(header::ORIGIN).iter().map(HeaderValue::as_bytes).collect();
    let origins = origins.join(&b", "[..]).escape_ascii().to_string();
    let shown: String = origins.chars().take(MOST_SHOWN).collect();
    Fault::OriginUnlisted(format!("the origin is {shown}").into())
}
