//! The host that a request names.

use http::{
    Version, header, request,
    uri::{Authority, Scheme},
};

use crate::fault::{Fault, Reason};

/// A host and a port, comparable with another.
#[derive(Debug, PartialEq, Eq)]
struct Origin {
    /// In lower case.
    host: String,
    port: u16,
}

/// The host that the request names, in lower case, without its port; the target's authority wins over `Host` (RFC 9112 §3.2.2). On HTTP/2
/// the two must agree (RFC 9113 §8.3.1), because a proxy before the gateway may have decided by the other one.
///
/// # Errors
/// There are two `Host` headers, the names differ, or the text is not a host.
pub(super) fn named(head: &request::Parts) -> Result<Option<String>, Fault> {
    let mut hosts = head.headers.get_all(header::HOST).iter();
    let named = hosts.next();
    if hosts.next().is_some() {
        return Err(Fault::BadRequest(Reason::HostRepeated));
    }
    let https = head.uri.scheme() == Some(&Scheme::HTTPS);
    let in_header = || {
        let authority = Authority::try_from(named?.as_bytes()).ok()?;
        origin(&authority, https)
    };
    if let Some(authority) = head.uri.authority() {
        let target = origin(authority, https).ok_or(Fault::BadRequest(Reason::AuthorityForm))?;
        let must_agree = head.version == Version::HTTP_2 && named.is_some();
        if must_agree && in_header().as_ref() != Some(&target) {
            return Err(Fault::BadRequest(Reason::HostsDiffer));
        }
        return Ok(Some(target.host));
    }
    let Some(named) = named else {
        // RFC 9112 §3.2: HTTP/1.1 requires it.
        return match head.version {
            Version::HTTP_11 => Err(Fault::BadRequest(Reason::HostMissing)),
            _ => Ok(None),
        };
    };
    match in_header() {
        Some(origin) => Ok(Some(origin.host)),
        None if named.is_empty() => Ok(None),
        None => Err(Fault::BadRequest(Reason::HostForm)),
    }
}

/// `None` if the text is not a host with or without a port: user info is not allowed (RFC 9110 §4.2.4, RFC 9113 §8.3.1), and a port is a number
/// of 16 bits.
fn origin(authority: &Authority, https: bool) -> Option<Origin> {
    let host = authority.host();
    let port = authority.as_str().strip_prefix(host)?;
    let port = match port.strip_prefix(':') {
        None | Some("") if https => 443,
        None | Some("") => 80,
        Some(port) => port.parse().ok().filter(|_| port.bytes().all(|byte| byte.is_ascii_digit()))?,
    };
    (!host.is_empty()).then(|| Origin { host: host.to_ascii_lowercase(), port })
}
