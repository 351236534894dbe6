//! Which headers pass in either direction. End-to-end headers pass, known or not (RFC 9110 section 7.6.1). Hop-by-hop headers, credentials
//! and headers that concern only one side and the gateway do not. Trailers follow the same policy and section 6.5.1.
//!
//! `content-length` is not changed, except that duplicates are merged: framing belongs to the owner of the body. What the gateway sets itself, the upstream's key
//! above all, is to be set afterwards, so that no `Connection: authorization` can take it out again.

mod class;
mod passed;
mod sweep;

use http::{
    HeaderMap, HeaderName, HeaderValue,
    header::{CONTENT_LENGTH, TRAILER},
};

use super::secret_scanner::{InNames, SecretScanner};
pub use passed::PassedNames;

use class::{Direction, is_framing, may_trail};
use sweep::{announce, remove_nominated, sweep};

/// What a route does beyond the standing policy. No rule can let through a hop-by-hop header, a credential by its name, or a
/// value that carries a key; and none applies to `content-length`.
#[derive(Debug, Clone, Default)]
pub struct Rules {
    /// Set last, replacing existing values. Removed from trailers, and never set there.
    pub set: Vec<(HeaderName, HeaderValue)>,
    /// Removed.
    pub remove: Vec<HeaderName>,
    /// Let through though the standing policy withholds it: a cookie, a forwarded address, an account's name.
    pub allow: Vec<HeaderName>,
    /// If not empty, only these pass.
    pub only: Vec<HeaderName>,
}

/// The upstream's `x-request-id` goes on under this name; the first is the gateway's.
pub const UPSTREAM_REQUEST_ID: HeaderName = HeaderName::from_static("x-upstream-request-id");
const REQUEST_ID: HeaderName = HeaderName::from_static("x-request-id");

/// Removes from a request's headers everything that must not go upstream. `credential` is the caller's. `host`, the upstream's key and all
/// else that the gateway sends of its own is for the caller of this function to set, afterwards.
pub fn to_upstream(headers: &mut HeaderMap, rules: &Rules, credential: &SecretScanner<'_>) {
    head(headers, &Policy::new(Direction::Upstream, rules, credential), None);
}

/// What [`to_upstream`] does to headers that are the same as others, of which it took out those `withheld`.
pub fn withhold(headers: &mut HeaderMap, withheld: &[HeaderName], rules: &Rules) {
    for name in withheld {
        headers.remove(name);
    }
    set(headers, Direction::Upstream, rules);
}

/// Makes an answer's headers fit to go to the caller. `keys` are all of the upstream's. Returns the upstream's request id, which
/// the caller gets as [`UPSTREAM_REQUEST_ID`]. `names` are those of another
/// head, which had the same rules and keys.
pub fn to_caller(
    headers: &mut HeaderMap,
    rules: &Rules,
    keys: &SecretScanner<'_>,
    names: Option<&mut PassedNames>,
) -> Option<HeaderValue> {
    let id = headers.remove(REQUEST_ID).filter(|id| !keys.found_in(id.as_bytes()));
    if let Some(id) = &id {
        headers.insert(UPSTREAM_REQUEST_ID, id.clone());
    }
    head(headers, &Policy::new(Direction::Caller, rules, keys), names);
    id
}

/// Puts a header of the gateway's own, or of the configuration's, into a request's, in place of all that the upstream might take for
/// it.
pub fn put_upstream(headers: &mut HeaderMap, name: &HeaderName, value: &HeaderValue) {
    headers.insert(name, value.clone());
    let length = name.as_str().len();
    let twin = |other: &&HeaderName| {
        other.as_str().len() == length && *other != name && Direction::Upstream.takes_for(other, name)
    };
    let twins: Vec<_> = headers.keys().filter(twin).cloned().collect();
    for twin in &twins {
        headers.remove(twin);
    }
}

/// [`to_upstream`] for a request's trailers.
pub fn trailers_to_upstream(trailers: &mut HeaderMap, rules: &Rules, credential: &SecretScanner<'_>) {
    tail(trailers, &Policy::new(Direction::Upstream, rules, credential));
}

/// [`to_caller`] for an answer's trailers.
pub fn trailers_to_caller(trailers: &mut HeaderMap, rules: &Rules, keys: &SecretScanner<'_>) {
    trailers.remove(REQUEST_ID);
    tail(trailers, &Policy::new(Direction::Caller, rules, keys));
}

/// Everything that decides about a header.
struct Policy<'p> {
    direction: Direction,
    rules: &'p Rules,
    keys: &'p SecretScanner<'p>,
    in_names: InNames<'p>,
}

impl<'p> Policy<'p> {
    fn new(direction: Direction, rules: &'p Rules, keys: &'p SecretScanner<'p>) -> Self {
        Self { direction, rules, keys, in_names: keys.in_names() }
    }

    /// Whether a header of this name passes.
    fn passes(&self, name: &HeaderName) -> bool {
        let Rules { set, remove, allow, only } = self.rules;
        let named = |other: &HeaderName| self.direction.takes_for(name, other);
        self.direction.passes(name, allow)
            && !remove.iter().any(named)
            // What the route says of it is to be all that is said.
            && !set.iter().any(|(other, _)| named(other))
            && (only.is_empty() || only.contains(name))
            && !self.in_names.found_in(name.as_str())
    }

    fn passes_in_trailers(&self, name: &HeaderName) -> bool {
        may_trail(name) && self.passes(name)
    }
}

fn head(headers: &mut HeaderMap, policy: &Policy<'_>, names: Option<&mut PassedNames>) {
    remove_nominated(headers);
    let mut recalled = names.map(PassedNames::recall);
    let mut passes = |name: &HeaderName| match &mut recalled {
        Some(recalled) => recalled.passes(name, || policy.passes(name)),
        None => policy.passes(name),
    };
    sweep(headers, |name, value| {
        // The owner of the body checks and writes the length.
        *name == CONTENT_LENGTH
            || *name == TRAILER
            || (passes(name) && !policy.keys.found_in(value.as_bytes()))
    });
    say_length_once(headers);
    if headers.contains_key(TRAILER) {
        announce(headers, |name| policy.passes_in_trailers(name));
        // A name that holds a key is gone by now; a key may hold a comma, and so lie across names.
        if headers.get_all(TRAILER).iter().any(|names| policy.keys.found_in(names.as_bytes())) {
            headers.remove(TRAILER);
        }
    }
    set(headers, policy.direction, policy.rules);
}

fn set(headers: &mut HeaderMap, direction: Direction, rules: &Rules) {
    for (name, value) in &rules.set {
        if !is_framing(name) && direction.may_set(name) {
            headers.insert(name, value.clone());
        }
    }
}

/// h2 lets a length through that is said twice, if both say the same; next to it in HTTP/1.1 somebody may go by another rule than
/// that (RFC 9110 section 8.6).
fn say_length_once(headers: &mut HeaderMap) {
    let mut lengths = headers.get_all(CONTENT_LENGTH).iter();
    if let (Some(first), Some(_)) = (lengths.next(), lengths.next()) {
        let first = first.clone();
        headers.insert(CONTENT_LENGTH, first);
    }
}

fn tail(trailers: &mut HeaderMap, policy: &Policy<'_>) {
    sweep(trailers, |name, value| policy.passes_in_trailers(name) && !policy.keys.found_in(value.as_bytes()));
}

#[cfg(test)]
mod tests;
