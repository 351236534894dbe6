//! Finds the route of a request.

use std::{borrow::Cow, rc::Rc, sync::Arc};

use http::{Method, header, request};

use super::{cors, host, no_route, refuse};
use crate::{
    exchange::Exchange,
    fault::{Fault, Reason},
    openai::Operation,
    policy::path::{self, PathProblem},
    proxy::context::RequestContext,
    snapshot::{Miss, Route},
};

/// A path without the prefix of its route. The prefix chose the route, so this is not expected.
pub(in crate::proxy) const NOT_THE_ROUTES: Fault = Fault::BadRequest(Reason::PathOfNoRoute);

/// Characters of a path that are repeated in the message.
const MOST_SHOWN: usize = 256;

/// A request that has found its route.
#[derive(Debug)]
pub(in crate::proxy) struct RoutedRequest {
    pub(in crate::proxy) route: Arc<Route>,
    /// The canonical path, which decided the route.
    pub(in crate::proxy) path: Rc<str>,
    /// The same path, rewritten, as it goes to the first of the route's targets.
    pub(in crate::proxy) upstream_path: Rc<str>,
    /// What the request does. The path that is sent upstream decides.
    pub(in crate::proxy) operation: Operation,
}

/// A route, and the canonical path that led to it.
pub(super) struct Located<'h> {
    pub(super) route: Arc<Route>,
    path: Cow<'h, str>,
    host: Option<String>,
}

/// Finds the request's route, and notes which web pages may read the response.
///
/// # Errors
/// No route matches the request, the request is ambiguous, or its page may not use the route.
pub(in crate::proxy) fn find_route(
    context: &RequestContext,
    exchange: &mut Exchange,
    head: &request::Parts,
) -> Result<RoutedRequest, Fault> {
    let located = locate(context, head, &head.method).inspect_err(|_| {
        if let Some(cors) = &context.snapshot.cors {
            // The error is the one above in any case.
            _ = cors::admit(exchange, cors, &head.headers);
        }
    })?;
    let Located { route, path, host } = located;
    exchange.record.route = Some(route.name.clone());
    exchange.record.languages.languages = route.languages;
    if route.refuse_origin && head.headers.contains_key(header::ORIGIN) {
        return Err(Fault::OriginRefused);
    }
    if let Some(cors) = &route.cors {
        cors::admit(exchange, cors, &head.headers)?;
    }
    let first = route.steps.first().map(|step| step.upstream.target(0));
    let upstream_path = first.and_then(|target| route.upstream_path(&path, target));
    let upstream_path = upstream_path.ok_or(NOT_THE_ROUTES)?;
    // No API has its version twice: the client's base URL has one that the gateway, or the SDK, adds as well.
    let rest = path.get(route.prefix.len()..).unwrap_or_default();
    if rest.starts_with("/v1/") && upstream_path.contains("/v1/v1/") {
        return Err(no_route(context, head, host.as_deref(), &path));
    }
    let operation = Operation::of(&head.method, &upstream_path);
    Ok(RoutedRequest { upstream_path: upstream_path.into(), path: path.into(), operation, route })
}

/// Finds the route of a request with this head, but with another `method` if that is announced.
///
/// # Errors
/// No route matches the request, or the request is ambiguous.
pub(super) fn locate<'h>(
    context: &RequestContext,
    head: &'h request::Parts,
    method: &Method,
) -> Result<Located<'h>, Fault> {
    let snapshot = &context.snapshot;
    refuse::unsupported(head)?;
    // hyper counts the lines of an HTTP/1.1 head itself.
    if head.headers.len() > snapshot.server.max_headers {
        return Err(Fault::TooManyHeaders(snapshot.server.max_headers));
    }
    refuse::ambiguous(&head.headers)?;
    let host = host::named(head)?;
    let path = path::canonical(head.uri.path()).map_err(|problem| Fault::BadPath(problem.into()))?;
    let found = snapshot.routes.find(host.as_deref(), method, &path);
    let route = match found {
        Ok(route) => route.clone(),
        Err(Miss::Path) => return Err(no_route(context, head, host.as_deref(), &path)),
        Err(Miss::Method(allowed)) => {
            return Err(Fault::MethodNotAllowed { method: shortened(method), allowed });
        }
    };
    // An upstream may decode an encoded slash. The path that it then sees must not be that of another route, which may have other clients.
    if let Some(decoded) = path::with_slashes_decoded(&path) {
        let seen = snapshot.routes.find(host.as_deref(), method, &decoded);
        if !seen.is_ok_and(|seen| Arc::ptr_eq(seen, &route)) {
            return Err(Fault::BadPath(PathProblem::EncodedSlash.into()));
        }
    }
    Ok(Located { route, path, host })
}

/// No route matches, or none can mean this path.
#[cold]
fn no_route(context: &RequestContext, head: &request::Parts, host: Option<&str>, path: &str) -> Fault {
    let mistake = no_route::mistake(&context.snapshot.routes, host, path, &head.headers);
    let path = path.chars().take(MOST_SHOWN).collect();
    Fault::NoRoute { method: shortened(&head.method), path, mistake: Box::new(mistake) }
}

/// Methods are extensible, so only the beginning of a long one is repeated.
fn shortened(method: &Method) -> String {
    method.as_str().chars().take(32).collect()
}
