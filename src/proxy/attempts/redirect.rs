//! Rewrites a response's `location` so that it leads through the gateway.
//!
//! SDKs follow redirects (openai-python `_base_client.py`, `follow_redirects=True`), and on the way to another origin their HTTP
//! clients take out `Authorization` alone. A client that was sent to the upstream itself would reveal the key that is only for
//! the gateway, and bypass the gateway.

use http::{HeaderValue, Uri, header, response, uri::PathAndQuery};

use crate::{
    fault::{Fault, Reason},
    policy::path,
    snapshot::{Route, Target},
};

/// Rewrites `location` to the same resource behind the gateway. Removes it if the route does not reach that resource.
///
/// # Errors
/// A redirect leads to a resource that this route does not reach.
pub(super) fn relocate(head: &mut response::Parts, route: &Route, target: &Target) -> Result<(), Fault> {
    let Some(location) = head.headers.get(header::LOCATION) else { return Ok(()) };
    match mapped(location, route, target) {
        Some(here) => {
            head.headers.insert(header::LOCATION, here);
        }
        None if head.status.is_redirection() => {
            return Err(Fault::UnusableHead(Reason::AnswerRedirects));
        }
        None => {
            head.headers.remove(header::LOCATION);
        }
    }
    Ok(())
}

/// The path by which a client reaches the resource that `location` names on `target`, if this route reaches it.
fn mapped(location: &HeaderValue, route: &Route, target: &Target) -> Option<HeaderValue> {
    let there: Uri = location.to_str().ok()?.parse().ok()?;
    if let Some(authority) = there.authority() {
        let same_scheme = there.scheme() == target.dialer.origin().scheme();
        if !same_scheme || !authority.as_str().eq_ignore_ascii_case(target.authority.as_str()) {
            return None;
        }
    }
    // The parser takes the authority of `//host/path` for a part of the path.
    let raw = there.path_and_query().map(PathAndQuery::as_str).filter(|raw| !raw.starts_with("//"))?;
    let (raw_path, query) = raw.split_once('?').map_or((raw, None), |(path, query)| (path, Some(query)));
    let canonical = path::canonical(raw_path).ok()?;
    let upstream_prefix = [&*target.base, route.rewrite.trim_end_matches('/')].concat();
    let here = path::rewrite(&canonical, &upstream_prefix, &route.prefix, "")?;
    let written = query.map_or_else(|| here.to_string(), |query| [&*here, "?", query].concat());
    HeaderValue::try_from(written).ok()
}
