//! What is probably wrong with a request that no route matches. The commonest mistakes are a `base_url` without `/v1` or with `/v1` twice,
//! and a health probe that asks the wrong listener.

use std::cmp::Reverse;

use http::HeaderMap;

use crate::{
    fault::Mistake,
    openai::operation_part,
    policy::path,
    snapshot::{Route, RouteTable},
};

/// Characters of a base URL and of a path that are told in the message.
const MOST_SHOWN: usize = 256;

/// The paths that probes and scrapers ask for: those of the admin listener, and what other programs call the same.
const PROBES: [&str; 10] = [
    "/health",
    "/healthz",
    "/health/live",
    "/health/liveliness",
    "/health/readiness",
    "/live",
    "/livez",
    "/ready",
    "/readyz",
    "/metrics",
];

/// The version in the path, which the Anthropic SDKs add to their `base_url` themselves.
const VERSION: &str = "/v1";

/// What is probably wrong with a request to `path`, which no route matches.
#[cold]
pub(super) fn mistake(routes: &RouteTable, host: Option<&str>, path: &str, headers: &HeaderMap) -> Mistake {
    if PROBES.contains(&path) {
        return Mistake::Probe;
    }
    let is_anthropic = headers.contains_key("anthropic-version");
    base_url(routes, host, path, is_anthropic).unwrap_or(Mistake::Unknown)
}

/// The base URL that would have reached a route: of the route whose base is most like the one that was used.
fn base_url(routes: &RouteTable, host: Option<&str>, path: &str, is_anthropic: bool) -> Option<Mistake> {
    let operation = operation_part(path)?;
    let used = path.strip_suffix(operation)?;
    let adds_version = is_anthropic || operation.starts_with("/messages");
    let reached = routes.iter().filter(|route| route.serves_host(host)).filter_map(|route| {
        let base = base_of(route, operation)?;
        let base = if adds_version { base.strip_suffix(VERSION).unwrap_or(base) } else { base };
        let version = if adds_version { VERSION } else { "" };
        let path = format!("{base}{version}{operation}");
        path::matches(&path, &route.prefix).then(|| (likeness(used, base), base, path))
    });
    let (_, base, path) = reached.max_by_key(|(likeness, ..)| *likeness)?;
    Some(Mistake::BaseUrl {
        base: base.chars().take(MOST_SHOWN).collect(),
        path: path.chars().take(MOST_SHOWN).collect(),
    })
}

/// The path of the base URL for `operation` at this route. A prefix may contain the beginning of an operation (`/v1/embeddings`); then only
/// that operation reaches the route.
fn base_of<'r>(route: &'r Route, operation: &str) -> Option<&'r str> {
    let prefix = route.prefix.trim_end_matches('/');
    match operation_part(prefix) {
        Some(part) => path::matches(operation, part).then(|| prefix.strip_suffix(part)).flatten(),
        None => Some(prefix),
    }
}

/// How much `base` is like the one that was used; what compares as greater is more alike.
type Likeness = (Reverse<usize>, usize, bool);

/// The fewest segments to add and to take away count first, then the same beginning; then a version is expected.
fn likeness(used: &str, base: &str) -> Likeness {
    let from_start = segments(used).zip(segments(base)).take_while(|(used, base)| used == base).count();
    let backwards = segments(used).rev().zip(segments(base).rev());
    let from_end = backwards.take_while(|(used, base)| used == base).count();
    let distance = segments(used).count() + segments(base).count() - 2 * from_start.max(from_end);
    (Reverse(distance), from_start, base.ends_with(VERSION))
}

fn segments(path: &str) -> impl DoubleEndedIterator<Item = &str> {
    path.split('/').filter(|segment| !segment.is_empty())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_base_with_the_smallest_difference_is_the_most_alike() {
        for (used, best, other) in [
            ("", "/v1", "/azure/v1"),
            ("", "/v1", "/bare"),
            ("/v1/v1", "/v1", "/azure/v1"),
            ("/azure", "/azure/v1", "/v1"),
            ("/api/v1", "/v1", "/azure/v1"),
            ("/bare/v1", "/bare", "/v1"),
            ("/a/b", "/a/b", "/a"),
        ] {
            assert!(likeness(used, best) > likeness(used, other), "{used}: {best}, {other}");
        }
    }
}
