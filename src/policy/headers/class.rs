//! The built-in policy: the class of each header name in each direction.

use http::{
    HeaderName,
    header::{CONTENT_LENGTH, TRAILER},
};

/// Which way headers go.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Direction {
    Upstream,
    Caller,
}

/// The class of a name in a direction.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum HeaderClass {
    /// End-to-end.
    Passes,
    /// Passes where a route allows it.
    Withheld,
    /// Hop-by-hop, or a credential's place.
    Never,
}

impl Direction {
    pub(super) fn passes(self, name: &HeaderName, allowed: &[HeaderName]) -> bool {
        match self.standing(name.as_str()) {
            HeaderClass::Passes => true,
            HeaderClass::Withheld => allowed.contains(name),
            HeaderClass::Never => false,
        }
    }

    /// Whether a route may set a header of this name.
    pub(super) fn may_set(self, name: &HeaderName) -> bool {
        self.standing(name.as_str()) != HeaderClass::Never
    }

    /// Whether who reads `name` there may take it for `other`: they are the same, or the same to CGI.
    pub(super) fn takes_for(self, name: &HeaderName, other: &HeaderName) -> bool {
        let hyphen = |byte: u8| if byte == b'_' { b'-' } else { byte };
        let bytes = name.as_str().bytes().zip(other.as_str().bytes());
        name == other
            || (self == Self::Upstream
                && name.as_str().len() == other.as_str().len()
                && bytes.into_iter().all(|(one, other)| hyphen(one) == hyphen(other)))
    }

    fn standing(self, name: &str) -> HeaderClass {
        if is_hop_by_hop(name) {
            return HeaderClass::Never;
        }
        match self {
            // CGI and its heirs read `_` and `-` as the same (RFC 3875 section 4.1.18).
            Self::Upstream if name.contains('_') => match name.replace('_', "-").as_str() {
                // What the gateway says of its own, or the body's reader goes by.
                "content-length" | "trailer" | "content-type" | "content-encoding" => HeaderClass::Never,
                "accept-encoding" | "traceparent" | "tracestate" => HeaderClass::Never,
                alike if is_hop_by_hop(alike) => HeaderClass::Never,
                alike => to_upstream(alike),
            },
            Self::Upstream => to_upstream(name),
            Self::Caller => to_caller(name),
        }
    }
}

/// What belongs to the body's framing. [`TRAILER`] does because hyper writes no trailer over HTTP/1.1 that it does not name; what it
/// names is checked apart.
pub(super) fn is_framing(name: &HeaderName) -> bool {
    *name == CONTENT_LENGTH || *name == TRAILER
}

/// RFC 9110 section 7.6.1, and what older and proxies' own specifications add (RFC 2616 section 13.5.1, RFC 7540 section 3.2.1).
/// `proxy-status` alone of its kind is for everybody (RFC 9209). What begins with our own name is said to this gateway or by it.
fn is_hop_by_hop(name: &str) -> bool {
    match name {
        "connection" | "close" | "keep-alive" | "te" | "transfer-encoding" | "upgrade" | "http2-settings" => {
            true
        }
        "proxy-status" => false,
        _ => name.starts_with("proxy-") || name.starts_with("x-sluicegate-"),
    }
}

/// Never: credentials, `host` (the target's goes instead) and `expect` (answered here). Withheld: who and where the caller is, what
/// contradicts the request line, and the accounts, which the upstream would match with our key.
fn to_upstream(name: &str) -> HeaderClass {
    match name {
        // The subprotocol is where a browser puts its key (`openai-insecure-api-key.KEY`).
        "authorization" | "x-api-key" | "api-key" | "x-goog-api-key" | "sec-websocket-protocol" => {
            HeaderClass::Never
        }
        "host" | "expect" => HeaderClass::Never,
        "cookie" | "cookie2" | "openai-organization" | "openai-project" => HeaderClass::Withheld,
        _ if is_address(name) || is_override(name) => HeaderClass::Withheld,
        _ => HeaderClass::Passes,
    }
}

/// The headers in which proxies and content delivery networks pass on the caller's address.
fn is_address(name: &str) -> bool {
    match name {
        "forwarded" | "x-real-ip" | "true-client-ip" | "x-client-ip" | "x-cluster-client-ip" => true,
        "cf-connecting-ip" | "cf-connecting-ipv6" | "cf-pseudo-ipv4" | "fastly-client-ip" => true,
        "x-original-forwarded-for" | "x-envoy-external-address" | "x-appengine-user-ip" => true,
        _ => name.starts_with("x-forwarded-"),
    }
}

/// By which frameworks let a request say that it has another method or target than it has (CVE-2018-14773): not what chose the route.
fn is_override(name: &str) -> bool {
    matches!(
        name,
        "x-original-url" | "x-rewrite-url" | "x-http-method-override" | "x-http-method" | "x-method-override"
    )
}

/// Withheld: what the upstream's host says about itself as a web site (it would be taken for ours), and whose accounts we use.
fn to_caller(name: &str) -> HeaderClass {
    match name {
        "set-cookie" | "set-cookie2" | "alt-svc" | "strict-transport-security" => HeaderClass::Withheld,
        "openai-organization" | "openai-project" | "anthropic-organization-id" => HeaderClass::Withheld,
        _ => HeaderClass::Passes,
    }
}

/// RFC 9110 section 6.5.1: no trailer may say how a message is framed, routed, authenticated, changed or read, since whoever needed
/// to know has gone on without it.
pub(super) fn may_trail(name: &HeaderName) -> bool {
    !matches!(
        name.as_str(),
        // Framing and routing.
        "content-length" | "trailer" | "host" | "max-forwards"
        // Request modifiers: controls and conditions.
        | "cache-control" | "expect" | "pragma" | "range" | "if-match" | "if-none-match" | "if-modified-since"
        | "if-unmodified-since" | "if-range"
        // Authentication and cookies.
        | "authorization" | "www-authenticate" | "authentication-info" | "cookie" | "set-cookie"
        // How the content is read.
        | "content-encoding" | "content-type" | "content-range"
        // Response control data.
        | "age" | "date" | "expires" | "location" | "retry-after" | "vary" | "warning"
    )
}
