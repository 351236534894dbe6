//! Where a response's `location` leads.
//!
//! SDKs follow redirects (openai-python `_base_client.py`, `follow_redirects=True`), and on the way to another origin their HTTP
//! clients take out `Authorization` alone. A caller who was sent to the upstream itself would show it the key that is only for
//! the gateway, and go round it.

use http::{HeaderValue, Uri, header, response, uri::PathAndQuery};

use crate::{
    fault::Fault,
    policy::path,
    snapshot::{Route, Target},
};

/// Makes `location` lead to the same place by way of the gateway.
///
/// # Errors
/// A redirect leads to somewhere that this route does not reach.
pub(super) fn relocate(head: &mut response::Parts, route: &Route, target: &Target) -> Result<(), Fault> {
    let Some(location) = head.headers.get(header::LOCATION) else { return Ok(()) };
    match mapped(location, route, target) {
        Some(here) => {
            head.headers.insert(header::LOCATION, here);
        }
        None if head.status.is_redirection() => {
            return Err(Fault::BadAnswer("it redirects to a place that this route does not reach"));
        }
        None => {
            head.headers.remove(header::LOCATION);
        }
    }
    Ok(())
}

/// The path by which a caller reaches what `location` names on `target`, if this route leads there.
fn mapped(location: &HeaderValue, route: &Route, target: &Target) -> Option<HeaderValue> {
    let there: Uri = location.to_str().ok()?.parse().ok()?;
    if let Some(authority) = there.authority() {
        let same_scheme = there.scheme() == target.dialer.origin().scheme();
        if !same_scheme || !authority.as_str().eq_ignore_ascii_case(target.authority.as_str()) {
            return None;
        }
    }
    // `//host/path` has an authority that the parser takes for a path.
    let raw = there.path_and_query().map(PathAndQuery::as_str).filter(|raw| !raw.starts_with("//"))?;
    let (raw_path, query) = raw.split_once('?').map_or((raw, None), |(path, query)| (path, Some(query)));
    let canonical = path::canonical(raw_path).ok()?;
    let upstream_prefix = [&*target.base, route.rewrite.trim_end_matches('/')].concat();
    let here = path::rewrite(&canonical, &upstream_prefix, &route.prefix, "")?;
    let written = query.map_or_else(|| here.to_string(), |query| [&*here, "?", query].concat());
    HeaderValue::try_from(written).ok()
}
