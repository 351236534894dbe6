//! `cors` of a route: the web pages of other origins that may use it.

use std::{net::Ipv6Addr, ops::RangeInclusive, sync::Arc, time::Duration};

use http::uri::Authority;

use crate::config::{
    declare::{
        Context, Declared as _, Keys as _, Kind as _, Or, ParseAs, Shape, list, parse_as, span, table, text,
    },
    problem::{Complaint, complaint},
    reader::{Node, Table},
};

/// Firefox keeps the response to a preflight request for at most a day, Chromium for two hours (MDN, Access-Control-Max-Age).
const MAX_AGES: RangeInclusive<Duration> = Duration::from_secs(1)..=Duration::from_secs(86_400);

const EXAMPLE: &str = r#"for example "https://app.example.com", "http://localhost:3000", "https://*.example.com", or "*" for all"#;

table! {
    /// The web pages that may use a route, by their origins (Fetch standard, CORS protocol).
    #[derive(Debug, Clone)]
    pub struct Cors(table, context) {
        origins: Vec<PageOrigin> = list(text("origin", origin)).non_empty(r#"for example ["https://app.example.com"]"#)
                .required(r#"for example origins = ["https://app.example.com"]"#),
            "Origins of the pages: scheme, host, and the port if it is not the scheme's own. In \"https://*.example.com\" the star stands \
             for one label of the host. \"*\" stands for all pages. Requests with any other `Origin` header are refused.",
            { example: &[r#"["https://app.example.com", "http://localhost:3000"]"#], since: "0.2.0" };
        max_age: Duration = span(MAX_AGES).or(Duration::from_secs(600)),
            "How long browsers may keep the response to a preflight request. A page whose origin is no longer listed can send requests \
             for that long, which are then refused.",
            { since: "0.2.0" };
    }
    check { without_tls(table, origins.as_deref()) }
}

/// Which pages one entry of `origins` stands for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum PageOrigin {
    /// "*": all.
    Any,
    /// Those of one origin, as browsers write it (RFC 6454 §6.2): in lower case, and without the port that the scheme implies.
    Exact(String),
    /// Those of all hosts with one label more than `domain`.
    Subdomains {
        /// The scheme, with `://`.
        scheme: String,
        /// The rest behind the label, from its dot on, with the port.
        domain: String,
    },
}

impl Cors {
    /// Whether pages of this origin are listed, which is the value of an `Origin` header.
    #[must_use]
    pub fn allows(&self, origin: &[u8]) -> bool {
        self.origins.iter().any(|listed| listed.is(origin))
    }

    /// Whether pages of all origins are.
    #[must_use]
    pub fn allows_all(&self) -> bool {
        self.origins.contains(&PageOrigin::Any)
    }
}

impl PageOrigin {
    fn is(&self, origin: &[u8]) -> bool {
        match self {
            Self::Any => true,
            Self::Exact(listed) => listed.as_bytes() == origin,
            Self::Subdomains { scheme, domain } => {
                let host = origin.strip_prefix(scheme.as_bytes());
                let label = host.and_then(|host| host.strip_suffix(domain.as_bytes()));
                label.is_some_and(|label| !label.is_empty() && label.iter().all(|byte| is_of_label(*byte)))
            }
        }
    }

    /// Whether its pages have come over TLS.
    pub(crate) fn is_https(&self) -> bool {
        match self {
            Self::Any => false,
            Self::Exact(origin) => origin.starts_with("https://"),
            Self::Subdomains { scheme, .. } => scheme == "https://",
        }
    }

    /// Whether its pages may have been changed on their way: not over TLS, and not from the browser's own machine.
    fn is_open_to_tampering(&self) -> bool {
        let Self::Exact(origin) = self else {
            return matches!(self, Self::Subdomains { scheme, domain } if scheme == "http://" && !is_local(domain));
        };
        origin.strip_prefix("http://").is_some_and(|rest| !is_local(rest))
    }
}

/// `cors`; `None`: "off".
pub(super) fn cors() -> Or<ParseAs<Option<Arc<Cors>>>> {
    let shape = || Shape::Either(vec![Shape::Table(Cors::keys()), Shape::Choice(vec!["off"])]);
    parse_as(shape, read).written_as("\"off\"").or(None)
}

/// A table or "off".
fn read(node: &Node<'_>, context: &Context<'_>) -> Option<Option<Arc<Cors>>> {
    if node.is_str("off") {
        return Some(None);
    }
    if !node.is_table() {
        let help = r#"for example: cors = { origins = ["https://app.example.com"] }"#;
        node.fail(complaint(r#"must be a table or "off""#, help));
        return None;
    }
    Cors::read(&node.table(Cors::NAMES)?, context).map(|cors| Some(Arc::new(cors)))
}

fn origin(text: &str) -> Result<PageOrigin, Complaint> {
    let wrong = || complaint("is not an origin", EXAMPLE);
    if text == "*" {
        return Ok(PageOrigin::Any);
    }
    if text.eq_ignore_ascii_case("null") {
        let help = r#"list the origins of the pages, or "*" if any page may send requests"#;
        return Err(complaint("stands for pages of any site: their sandboxed frames send it", help));
    }
    let (scheme, rest) = text.split_once("://").ok_or_else(wrong)?;
    let scheme = scheme.to_ascii_lowercase();
    let is_scheme = scheme.starts_with(|first: char| first.is_ascii_lowercase())
        && scheme.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"+-.".contains(&byte));
    let rest = rest.strip_suffix('/').unwrap_or(rest);
    if !is_scheme {
        return Err(wrong());
    }
    let Some(domain) = rest.strip_prefix("*.") else {
        let place = place(&scheme, rest).ok_or_else(wrong)?;
        return Ok(PageOrigin::Exact(format!("{scheme}://{place}")));
    };
    let domain = place(&scheme, domain).ok_or_else(wrong)?;
    if !domain.contains('.') && !is_local(&domain) {
        return Err(complaint("stands for the pages of a whole top-level domain", EXAMPLE));
    }
    Ok(PageOrigin::Subdomains { scheme: format!("{scheme}://"), domain: format!(".{domain}") })
}

/// A host with a port, as browsers write it behind the scheme.
fn place(scheme: &str, text: &str) -> Option<String> {
    let authority = Authority::try_from(text).ok()?;
    let host = authority.host().to_ascii_lowercase();
    let port = authority.as_str().get(host.len()..)?;
    let host = match host.strip_prefix('[').and_then(|rest| rest.strip_suffix(']')) {
        Some(address) => format!("[{}]", address.parse::<Ipv6Addr>().ok()?),
        None => host,
    };
    let is_name = host.split('.').all(|label| !label.is_empty() && label.bytes().all(is_of_label));
    if !host.starts_with('[') && !is_name {
        return None;
    }
    let port = match port.strip_prefix(':') {
        None if port.is_empty() => None,
        Some(digits) => Some(digits.parse::<u16>().ok()?),
        None => return None,
    };
    let implied = match scheme {
        "http" => Some(80),
        "https" => Some(443),
        _ => None,
    };
    Some(match port.filter(|port| Some(*port) != implied) {
        Some(port) => format!("{host}:{port}"),
        None => host,
    })
}

fn is_of_label(byte: u8) -> bool {
    byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-' || byte == b'_'
}

/// Whether a host, with or without a port, is the machine itself (W3C Secure Contexts, "potentially trustworthy").
fn is_local(place: &str) -> bool {
    let host = match place.rsplit_once(':') {
        Some((host, port)) if port.bytes().all(|byte| byte.is_ascii_digit()) => host,
        _ => place,
    };
    host == "localhost" || host.ends_with(".localhost") || host == "[::1]" || host.starts_with("127.")
}

fn without_tls(table: &Table<'_>, origins: Option<&[PageOrigin]>) {
    let nodes = table.get("origins").and_then(|node| node.items()).unwrap_or_default();
    let origins = origins.unwrap_or_default();
    if nodes.len() != origins.len() {
        return;
    }
    for (node, _) in nodes.iter().zip(origins).filter(|(_, origin)| origin.is_open_to_tampering()) {
        node.warn(complaint(
            "is an origin without TLS: who can change its pages on their way can use the keys in them, and browsers do not let them \
             connect to private networks or record sound",
            "serve the pages with https, and list that origin",
        ));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn origins_are_normalised() {
        for (written, sent) in [
            ("https://app.example.com", "https://app.example.com"),
            ("HTTPS://App.Example.COM:443/", "https://app.example.com"),
            ("http://localhost:80", "http://localhost"),
            ("http://localhost:443", "http://localhost:443"),
            ("https://app.example.com:08443", "https://app.example.com:8443"),
            ("http://[0:0::1]:3000", "http://[::1]:3000"),
            ("chrome-extension://abcdefgh", "chrome-extension://abcdefgh"),
            ("tauri://localhost", "tauri://localhost"),
        ] {
            assert_eq!(origin(written), Ok(PageOrigin::Exact(sent.into())), "{written}");
        }
    }

    #[test]
    fn what_no_browser_sends_is_refused() {
        for written in [
            "",
            "app.example.com",
            "https://",
            "https://app.example.com/path",
            "https://app.example.com?x",
            "https://user@app.example.com",
            "https://app.example.com:",
            "https://app.example.com:70000",
            "https://app..example.com",
            "https://app.example.com.",
            "https://*",
            "https://*.com",
            "https://a*.example.com",
            "https://app.*.com",
            "https://bücher.example",
            "*.example.com",
            "null",
            "://app.example.com",
            "https://app.example.com https://other.example.com",
        ] {
            assert!(origin(written).is_err(), "{written}");
        }
    }

    #[test]
    fn a_star_stands_for_one_label() {
        let listed = origin("https://*.Example.com:8443").unwrap();
        assert!(listed.is(b"https://a-1.example.com:8443"));
        for other in [
            "https://example.com:8443",
            "https://.example.com:8443",
            "https://a.b.example.com:8443",
            "https://a.example.com",
            "http://a.example.com:8443",
            "https://aexample.com:8443",
            "https://evil.test/.example.com:8443",
            "https://evil.test:1@a.example.com:8443",
            "https://A.example.com:8443",
        ] {
            assert!(!listed.is(other.as_bytes()), "{other}");
        }
    }

    #[test]
    fn an_origin_matches_as_a_whole() {
        let listed = origin("https://app.example.com").unwrap();
        assert!(listed.is(b"https://app.example.com"));
        for other in [
            "https://app.example.com.evil.test",
            "https://app.example.com:8443",
            "http://app.example.com",
            "https://app.example.co",
            "null",
            "",
        ] {
            assert!(!listed.is(other.as_bytes()), "{other}");
        }
    }

    #[test]
    fn pages_of_the_machine_itself_need_no_tls() {
        let is_open = |text: &str| origin(text).unwrap().is_open_to_tampering();
        for local in [
            "http://localhost:3000",
            "http://127.0.0.1:1",
            "http://[::1]",
            "http://*.localhost",
            "https://a.b",
            "*",
        ] {
            assert!(!is_open(local), "{local}");
        }
        assert!(is_open("http://app.example.com:3000") && is_open("http://*.example.com"));
    }
}
