//! Header names and values that the file may set, remove or allow.

use http::{HeaderName, HeaderValue};

use super::{
    problem::{Complaint, complaint},
    reader::Node,
};

/// Hop-by-hop (RFC 9110 §7.6.1) or framing: they belong to the connection, and no rule can move them.
const OF_THE_CONNECTION: [&str; 11] = [
    "close",
    "connection",
    "content-length",
    "expect",
    "host",
    "http2-settings",
    "keep-alive",
    "te",
    "trailer",
    "transfer-encoding",
    "upgrade",
];

/// They carry keys, by one provider or another.
const CREDENTIALS: [&str; 7] = [
    "api-key",
    "authorization",
    "cookie",
    "proxy-authorization",
    // Where a browser puts its key (`openai-insecure-api-key.KEY`).
    "sec-websocket-protocol",
    "x-api-key",
    "x-goog-api-key",
];

/// What names of headers with a secret in them have in common. Some that have none are called so too: to mask those does no harm.
const SECRETIVE: [&str; 11] =
    ["auth", "cookie", "credential", "jwt", "key", "passw", "pwd", "secret", "session", "signature", "token"];

/// Whether a header of this name carries a key, to judge by its name.
pub(crate) fn is_credential(name: &str) -> bool {
    let name = name.to_ascii_lowercase();
    CREDENTIALS.contains(&name.as_str()) || SECRETIVE.iter().any(|part| name.contains(part))
}

/// A rule for one of these would do nothing (`policy::headers` lets none through).
fn is_of_the_connection(name: &str) -> bool {
    OF_THE_CONNECTION.contains(&name)
        || (name.starts_with("proxy-") && name != "proxy-status")
        || name.starts_with("x-sluicegate-")
}

/// A header name that may be written in a rule.
pub(crate) fn name(text: &str) -> Result<HeaderName, Complaint> {
    let name = HeaderName::from_bytes(text.as_bytes());
    let name = name.map_err(|_| complaint("is not a header's name", r#"as in "x-team""#))?;
    if is_of_the_connection(name.as_str()) {
        let help = "framing and hop-by-hop headers are the connection's own";
        return Err(complaint(format!("`{name}` cannot be named here"), help));
    }
    Ok(name)
}

/// Headers with their values, as `{ x-team = "blue" }`. No header that carries a key: a value would be a secret in the file. What
/// sounds like one all the same is marked sensitive, so that nothing prints it.
pub(crate) fn pairs(node: &Node<'_>) -> Vec<(HeaderName, HeaderValue)> {
    let pair = |(written, node): (&str, Node<'_>)| {
        let name = node.accept(name(written).and_then(no_credential))?;
        let value = node.string()?;
        let malformed = |_| complaint("is not a header's value", "visible ASCII and spaces, one line");
        let mut value = node.accept(HeaderValue::from_str(value).map_err(malformed))?;
        value.set_sensitive(is_credential(name.as_str()));
        Some((name, value))
    };
    let mut pairs: Vec<(HeaderName, HeaderValue)> = Vec::new();
    for (written, entry) in node.entries().unwrap_or_default() {
        let Some((name, value)) = pair((written, entry.clone())) else { continue };
        if pairs.iter().any(|(other, _)| *other == name) {
            entry.fail(complaint("is written twice: case does not matter in header names", ""));
        }
        pairs.push((name, value));
    }
    pairs
}

/// A header name that may be let through: one that carries no key.
pub(crate) fn allowed_name(text: &str) -> Result<HeaderName, Complaint> {
    name(text).and_then(no_credential)
}

fn no_credential(name: HeaderName) -> Result<HeaderName, Complaint> {
    if CREDENTIALS.contains(&name.as_str()) {
        let help = "an upstream's key is its `key`, and its header is chosen by `auth`";
        return Err(complaint(format!("`{name}` carries a key and cannot be named here"), help));
    }
    Ok(name)
}
