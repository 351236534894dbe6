//! Preflight requests, by which a browser asks whether a page may send a request (Fetch standard, "CORS-preflight request"). They have no key.

use bytes::Bytes;
use http::{HeaderMap, HeaderName, HeaderValue, Method, Response, StatusCode, header, request};

use super::{cors, route};
use crate::{
    config::Cors,
    exchange::Exchange,
    fault::{Fault, Reason},
    policy::Readers,
    proxy::context::RequestContext,
};

/// Bytes of `access-control-request-headers` that are repeated; SDKs ask for about 300.
const MOST_ASKED: usize = 4096;

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
/// The origin is not listed, or what is announced is no request of HTTP.
pub(in crate::proxy) fn preflight(
    context: &RequestContext,
    exchange: &mut Exchange,
    head: &request::Parts,
) -> Result<Option<Response<Bytes>>, Fault> {
    if head.method == Method::OPTIONS { answer(context, exchange, head) } else { Ok(None) }
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
    let announced = announced(method)?;
    let route = route::locate(context, head, &announced).ok().map(|located| located.route);
    let cors = match &route {
        Some(route) if route.refuse_origin => None,
        Some(route) => route.cors.as_deref(),
        None => context.snapshot.cors.as_deref(),
    };
    let Some(cors) = cors else { return Ok(None) };
    exchange.record.route = route.as_ref().map(|route| route.name.clone());
    // No page may read an error; a page that may have the response gets all of its headers here.
    exchange.readers = Some(Box::new(Readers::NoPage));
    let allowed = match cors::readers(cors, headers) {
        Readers::NoPage => return Err(cors::unlisted(headers)),
        Readers::Page(origin) => origin,
        Readers::AllPages => HeaderValue::from_static("*"),
    };
    let mut response = granted(cors, headers)?;
    response.headers_mut().insert(header::ACCESS_CONTROL_ALLOW_ORIGIN, allowed);
    response.headers_mut().insert(header::ACCESS_CONTROL_ALLOW_METHODS, method.clone());
    exchange.readers = None;
    exchange.mark_preflight();
    Ok(Some(response))
}

/// The method of the announced request. Browsers let no page send the two that are never forwarded (Fetch standard, "forbidden method").
fn announced(method: &HeaderValue) -> Result<Method, Fault> {
    match Method::from_bytes(method.as_bytes()) {
        Ok(method) if method != Method::CONNECT && method != Method::TRACE => Ok(method),
        _ => Err(Fault::BadRequest(Reason::AnnouncedMethod)),
    }
}

/// The response with everything but the origin and the method.
fn granted(cors: &Cors, asked: &HeaderMap) -> Result<Response<Bytes>, Fault> {
    let mut response = Response::new(Bytes::new());
    *response.status_mut() = StatusCode::NO_CONTENT;
    let headers = response.headers_mut();
    headers.insert(header::VARY, VARIES_BY);
    headers.insert(header::ACCESS_CONTROL_MAX_AGE, HeaderValue::from(cors.max_age.as_secs()));
    if let Some(names) = asked_headers(asked)? {
        headers.insert(header::ACCESS_CONTROL_ALLOW_HEADERS, names);
    }
    if asked.get(ASKS_FOR_PRIVATE_NETWORK).is_some_and(|asks| asks == "true") {
        headers.insert(ALLOWS_PRIVATE_NETWORK, HeaderValue::from_static("true"));
    }
    Ok(response)
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
