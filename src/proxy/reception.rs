//! The first rungs: where a request is to go, and who sends it.

use std::{net::IpAddr, rc::Rc, sync::Arc};

use http::{
    HeaderMap, Method, Version, header, request,
    uri::{Authority, Scheme},
};

use super::{CallerMemo, Downstream, call::Call};
use crate::{
    access::{self, Credential, Refused},
    config::Network,
    fault::Fault,
    policy::{SecretScanner, path},
    snapshot::{Miss, Route, Snapshot},
    telemetry::ids::TraceContext,
};

/// What a request presents that may be a key is looked for in its path, up to so many; a request with more is hostile, and its path not
/// worth the time.
const MOST_PRESENTED: usize = 8;

/// A request that has found its route.
#[derive(Debug)]
pub(super) struct RoutedRequest {
    pub(super) route: Arc<Route>,
    /// Canonical: what decided the route.
    pub(super) path: String,
    /// The same, rewritten, as it goes to the first of the route's targets.
    pub(super) upstream_path: String,
}

/// A route's prefix led to it, so this is not to be expected.
pub(super) const NOT_THE_ROUTES: Fault = Fault::BadRequest("its path is not the route's");

impl Call {
    /// Finds the request's route.
    ///
    /// # Errors
    /// Nothing here takes such a request, or it can be read in more than one way.
    pub(super) fn receive(&mut self, head: &request::Parts) -> Result<RoutedRequest, Fault> {
        refuse_unsupported(head)?;
        // hyper counts the lines of an HTTP/1.1 head itself.
        if head.headers.len() > self.snapshot.server.max_headers {
            return Err(Fault::TooManyHeaders(self.snapshot.server.max_headers));
        }
        refuse_ambiguous(&head.headers)?;
        let host = host(head)?;
        let path = path::canonical(head.uri.path()).map_err(|problem| Fault::BadPath(problem.into()))?;
        let found = self.snapshot.routes.find(host.as_deref(), &head.method, &path);
        let route = found.map_err(|miss| missed(miss, &head.method, &path))?.clone();
        self.exchange.record.route = Some(route.name.clone());
        let first = route.steps.first().map(|step| step.upstream.target(0));
        let upstream_path = first.and_then(|target| route.upstream_path(&path, target));
        let upstream_path = upstream_path.ok_or(NOT_THE_ROUTES)?.into_owned();
        Ok(RoutedRequest { path: path.into_owned(), upstream_path, route })
    }

    /// Finds out who asks, and whether they may use `route`. What it gives keeps their key from crossing.
    ///
    /// # Errors
    /// No key, nobody's key, two keys, or one that may not use the route.
    pub(super) fn authenticate(
        &mut self,
        head: &request::Parts,
        reception: &RoutedRequest,
    ) -> Result<Rc<SecretScanner<'static>>, Fault> {
        let RoutedRequest { route, path, .. } = reception;
        let credential = access::credentials(&head.headers, head.uri.query()).map_err(refused)?;
        let bytes = credential.as_ref().map(Credential::bytes);
        // Made before, for nearly all requests present one key and nothing else.
        let made = std::mem::take(&mut self.presented);
        let key = if bytes.is_some_and(|key| made.is_for(key)) {
            made
        } else {
            Rc::new(SecretScanner::new(bytes).into_owned())
        };
        refuse_key_in_line(head, path, &key)?;
        let recall = &self.downstream.recall;
        let caller =
            credential.as_ref().and_then(|credential| recall.caller(credential, &key, &self.snapshot));
        match (&caller, &credential) {
            (None, _) if route.open => {}
            (None, Some(presented)) if !presented.in_query() => return Err(Fault::KeyUnknown),
            (None, _) => return Err(Fault::KeyMissing),
            (Some(caller), _) if !caller.may_use_route(&route.name) => {
                self.exchange.record.caller = Some(caller.clone());
                return Err(Fault::RouteForbidden);
            }
            (Some(_), _) => {}
        }
        self.exchange.record.caller = caller;
        Ok(key)
    }
}

/// Path and method are logged, and go upstream: they are no place for a key. The canonical path may show one that dot segments hid.
fn refuse_key_in_line(head: &request::Parts, path: &str, key: &SecretScanner<'_>) -> Result<(), Fault> {
    if [head.uri.path(), path, head.method.as_str()].iter().any(|text| key.found_in(text.as_bytes())) {
        return Err(Fault::BadRequest(
            "its path or method holds the key; send that in the Authorization header alone",
        ));
    }
    Ok(())
}

/// What is logged of a request's head; the trace goes upstream as well.
pub(super) struct LogSafeHead {
    pub(super) path: String,
    pub(super) method: Method,
    pub(super) trace: TraceContext,
    /// Keeps what it presents from crossing.
    pub(super) keys: Rc<SecretScanner<'static>>,
}

/// What a request says of itself, as far as it holds no key. Nobody is known yet when this is asked, and may never be: all that could be
/// a key is looked for, and a key of any upstream. (A method may be any word.)
pub(super) fn shown(head: &request::Parts, snapshot: &Snapshot, recall: &CallerMemo) -> LogSafeHead {
    let presented: Vec<_> =
        access::presented(&head.headers, head.uri.query()).take(MOST_PRESENTED + 1).collect();
    let keys = recall.secrets(&presented);
    let is_secret = |text: &str| {
        keys.found_in(text.as_bytes())
            || presented.len() > MOST_PRESENTED
            || snapshot.upstreams.values().any(|upstream| upstream.secrets.found_in(text.as_bytes()))
    };
    let path = head.uri.path();
    let path = if is_secret(path) { "[withheld: holds the key]" } else { path }.to_owned();
    let method = if is_secret(head.method.as_str()) {
        Method::from_bytes(b"WITHHELD").unwrap_or_default()
    } else {
        head.method.clone()
    };
    let trace = TraceContext::of(&head.headers);
    let secret = trace.is_given() && is_secret(trace.trace_id());
    let trace = if secret { TraceContext::random() } else { trace };
    LogSafeHead { path, method, trace, keys }
}

/// The caller's address: the TCP peer's (or the PROXY header's), or, if that is trusted to speak of others, the last one in `x-forwarded-for` that is
/// not itself trusted. What a stranger wrote further left is not believed.
pub(super) fn client_address(downstream: &Downstream, headers: &HeaderMap) -> IpAddr {
    let peer = downstream.client.ip();
    let Some(trusted) = downstream.trusted.as_deref() else { return peer };
    let is_trusted = |address: IpAddr| trusted.iter().any(|network: &Network| network.contains(address));
    let mut nearest = peer;
    for value in headers.get_all("x-forwarded-for").iter().rev() {
        for element in value.as_bytes().rsplit(|byte| *byte == b',') {
            if !is_trusted(nearest) {
                return nearest;
            }
            let Some(address) = address(element) else { return nearest };
            nearest = address;
        }
    }
    nearest
}

/// An element of `x-forwarded-for`: an address, perhaps with a port.
fn address(element: &[u8]) -> Option<IpAddr> {
    let text = std::str::from_utf8(element).ok()?.trim();
    let with_port = || text.parse().ok().map(|address: std::net::SocketAddr| address.ip());
    text.trim_matches(['[', ']']).parse().ok().or_else(with_port)
}

/// Requests that a gateway for HTTP APIs has no use for.
fn refuse_unsupported(head: &request::Parts) -> Result<(), Fault> {
    match head.method {
        Method::CONNECT => return Err(Fault::MethodUnsupported("CONNECT")),
        Method::TRACE => return Err(Fault::MethodUnsupported("TRACE")),
        _ if head.uri.path() == "*" => return Err(Fault::MethodUnsupported("OPTIONS *")),
        _ => {}
    }
    // `h2c` may be ignored (RFC 9113 §3.1 has withdrawn it; curl still offers it), anything else was meant to change the protocol.
    let upgrades = head.headers.get_all(header::UPGRADE).iter();
    let mut offered = upgrades.flat_map(|value| value.as_bytes().split(|byte| *byte == b','));
    if offered.any(|protocol| !protocol.trim_ascii().eq_ignore_ascii_case(b"h2c")) {
        return Err(Fault::UpgradeUnsupported);
    }
    Ok(())
}

/// What others may read in another way. A transfer coding that nobody here can undo would be gone with its header; hyper takes all codings
/// whose last is `chunked` (RFC 9112 §6.1). Of two types one reader takes the first and another the last (RFC 9110 §5.3).
fn refuse_ambiguous(headers: &HeaderMap) -> Result<(), Fault> {
    let mut codings = headers.get_all(header::TRANSFER_ENCODING).iter();
    let chunked = codings.next().is_none_or(|coding| coding.as_bytes().eq_ignore_ascii_case(b"chunked"));
    if !chunked || codings.next().is_some() {
        return Err(Fault::BadRequest("its Transfer-Encoding is not just chunked"));
    }
    if headers.get_all(header::CONTENT_TYPE).iter().nth(1).is_some() {
        return Err(Fault::BadRequest("it has more than one Content-Type header"));
    }
    Ok(())
}

/// The host that the request names, in lower case, without its port; the target's authority wins over `Host` (RFC 9112 §3.2.2). On HTTP/2 they
/// have to agree (RFC 9113 §8.3.1): whoever is in front of the gateway may have gone by the other.
fn host(head: &request::Parts) -> Result<Option<String>, Fault> {
    let mut hosts = head.headers.get_all(header::HOST).iter();
    let named = hosts.next();
    if hosts.next().is_some() {
        return Err(Fault::BadRequest("it has more than one Host header"));
    }
    let https = head.uri.scheme() == Some(&Scheme::HTTPS);
    let by_header = || named.and_then(|host| Authority::try_from(host.as_bytes()).ok());
    if let Some(authority) = head.uri.authority() {
        let asked = place(authority, https)
            .ok_or(Fault::BadRequest("its target's authority is not a host with or without a port"))?;
        let agrees = || by_header().and_then(|host| place(&host, https)).is_some_and(|named| named == asked);
        if head.version == Version::HTTP_2 && named.is_some() && !agrees() {
            return Err(Fault::BadRequest("its Host header and its :authority name different hosts"));
        }
        return Ok(Some(asked.0));
    }
    let Some(named) = named else {
        // RFC 9112 §3.2: HTTP/1.1 requires it.
        return match head.version {
            Version::HTTP_11 => Err(Fault::BadRequest("it has no Host header")),
            _ => Ok(None),
        };
    };
    match by_header().and_then(|authority| place(&authority, https)) {
        Some((host, _)) => Ok(Some(host)),
        None if named.is_empty() => Ok(None),
        None => Err(Fault::BadRequest("its Host header is not a host")),
    }
}

/// Host, in lower case, and port. None for what is no host with or without a port: there is no user in it (RFC 9110 §4.2.4, RFC 9113
/// §8.3.1), and a port is a number that there may be.
fn place(authority: &Authority, https: bool) -> Option<(String, u16)> {
    let host = authority.host();
    let port = authority.as_str().strip_prefix(host)?;
    let port = match port.strip_prefix(':') {
        None | Some("") if https => 443,
        None | Some("") => 80,
        Some(port) => port.parse().ok().filter(|_| port.bytes().all(|byte| byte.is_ascii_digit()))?,
    };
    (!host.is_empty()).then(|| (host.to_ascii_lowercase(), port))
}

fn refused(refused: Refused) -> Fault {
    match refused {
        Refused::Different | Refused::Repeated => Fault::KeysConflict(refused.into()),
        Refused::Authorization | Refused::Key(_) => Fault::KeyMalformed(refused.into()),
    }
}

fn missed(miss: Miss, method: &Method, path: &str) -> Fault {
    match miss {
        Miss::Path => Fault::NoRoute { method: beginning(method), path: path.chars().take(256).collect() },
        Miss::Method(allowed) => Fault::MethodNotAllowed { method: beginning(method), allowed },
    }
}

/// Methods are extensible; only so much of one is repeated.
fn beginning(method: &Method) -> String {
    method.as_str().chars().take(32).collect()
}
