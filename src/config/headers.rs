//! Header names and values that the file may set, remove or allow.

use http::{HeaderName, HeaderValue};

use super::{
    problem::{Complaint, complaint},
    reader::Node,
    schema::SetHeader,
    source::{self, Env},
};

/// Hop-by-hop (RFC 9110 §7.6.1) and framing headers: they belong to a single connection, and no rule can change that.
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

/// Headers that carry keys, with one provider or another.
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

/// Parts of the names of headers that carry secrets. Some headers without a secret match too: masking those does no harm.
const SECRETIVE: [&str; 11] =
    ["auth", "cookie", "credential", "jwt", "key", "passw", "pwd", "secret", "session", "signature", "token"];

/// Whether the name of a header suggests that it carries a secret.
pub(crate) fn is_credential(name: &str) -> bool {
    let name = name.to_ascii_lowercase();
    CREDENTIALS.contains(&name.as_str()) || SECRETIVE.iter().any(|part| name.contains(part))
}

/// Whether a rule for this header would have no effect (`policy::headers` removes it in any case).
fn is_of_the_connection(name: &str) -> bool {
    OF_THE_CONNECTION.contains(&name)
        || (name.starts_with("proxy-") && name != "proxy-status")
        || name.starts_with("x-sluicegate-")
}

/// Reads a header name that may be used in a rule.
pub(crate) fn name(text: &str) -> Result<HeaderName, Complaint> {
    let name = HeaderName::from_bytes(text.as_bytes());
    let name = name.map_err(|_| complaint("is not a valid header name", r#"for example "x-team""#))?;
    if is_of_the_connection(name.as_str()) {
        let help = "remove it: framing and hop-by-hop headers belong to a single connection";
        return Err(complaint(format!("`{name}` cannot be named here"), help));
    }
    Ok(name)
}

/// Reads headers with their values, as `{ x-team = "blue", x-gateway-token = { env = "TOKEN" } }`. Headers that carry the keys of clients
/// and upstreams are refused. Values of headers whose name suggests a secret are marked sensitive, so that nothing prints them.
pub(crate) fn pairs(node: &Node<'_>, env: &Env<'_>) -> Vec<SetHeader> {
    each(node, |written, entry| pair(allowed_name(written), entry, env))
}

/// The same for requests of the gateway's own, which may carry keys. A key in clear is refused.
pub(crate) fn exporter_pairs(node: &Node<'_>, env: &Env<'_>) -> Vec<SetHeader> {
    each(node, |written, entry| {
        let pair = pair(name(written), entry, env)?;
        if CREDENTIALS.contains(&pair.name.as_str()) && !pair.secret {
            entry.fail(complaint(
                "is a secret in clear, which must not be written in this file",
                r#"say where to read it from: { env = "NAME" }, { file = "path" }, or { credential = "name" } (systemd)"#,
            ));
        }
        Some(pair)
    })
}

fn each(node: &Node<'_>, read: impl Fn(&str, &Node<'_>) -> Option<SetHeader>) -> Vec<SetHeader> {
    let mut pairs: Vec<SetHeader> = Vec::new();
    for (written, entry) in node.entries().unwrap_or_default() {
        let Some(pair) = read(written, &entry) else { continue };
        if pairs.iter().any(|other| other.name == pair.name) {
            entry.fail(complaint("is set twice: header names are case-insensitive", "remove one of the two"));
        }
        pairs.push(pair);
    }
    pairs
}

fn pair(name: Result<HeaderName, Complaint>, node: &Node<'_>, env: &Env<'_>) -> Option<SetHeader> {
    let name = node.accept(name)?;
    let malformed = |_| complaint("is not a valid header value", "use visible ASCII and spaces, in one line");
    let secret = node.is_table();
    let mut value = if secret {
        let value = source::header_value(node, env)?;
        node.accept(HeaderValue::from_str(value.expose()).map_err(malformed))?
    } else {
        node.accept(HeaderValue::from_str(node.string()?).map_err(malformed))?
    };
    value.set_sensitive(secret || is_credential(name.as_str()));
    Some(SetHeader { name, value, secret })
}

/// Reads the name of a header that may be set or let through: one that carries no key.
pub(crate) fn allowed_name(text: &str) -> Result<HeaderName, Complaint> {
    name(text).and_then(no_credential)
}

fn no_credential(name: HeaderName) -> Result<HeaderName, Complaint> {
    if CREDENTIALS.contains(&name.as_str()) {
        let help = "remove it: the provider's key is set by `key` of the upstream, and its header by `auth`";
        return Err(complaint(format!("`{name}` carries a key and cannot be named here"), help));
    }
    Ok(name)
}
