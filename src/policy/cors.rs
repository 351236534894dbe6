//! The CORS headers of responses to web pages of other origins (Fetch standard, "CORS protocol").

use http::{
    HeaderMap, HeaderName, HeaderValue,
    header::{ACCESS_CONTROL_ALLOW_ORIGIN, ACCESS_CONTROL_EXPOSE_HEADERS, VARY},
};

const ALL: HeaderValue = HeaderValue::from_static("*");
const ORIGIN: HeaderValue = HeaderValue::from_static("Origin");

/// Who may read the response to a request. Cookies play no part: no SDK sends any, so `access-control-allow-credentials` is never sent.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Readers {
    /// Pages of all origins.
    AllPages,
    /// Pages of the origin that has sent the request.
    Page(HeaderValue),
    /// No page of another origin: the request comes from a program, or from a page that is not listed.
    NoPage,
}

impl Readers {
    /// Adds the CORS headers to those of a response, in place of any that it has from elsewhere: a browser refuses a response that allows two
    /// origins. Pages may read all of the other headers. Call it last.
    pub fn add_to(&self, headers: &mut HeaderMap) {
        remove_foreign(headers);
        let allowed = match self {
            Self::AllPages => ALL,
            Self::Page(origin) => {
                vary_by_origin(headers);
                origin.clone()
            }
            Self::NoPage => return vary_by_origin(headers),
        };
        if let Some(names) = names_to_expose(headers) {
            headers.insert(ACCESS_CONTROL_EXPOSE_HEADERS, names);
        }
        headers.insert(ACCESS_CONTROL_ALLOW_ORIGIN, allowed);
    }
}

fn remove_foreign(headers: &mut HeaderMap) {
    let foreign: Vec<HeaderName> = headers.keys().filter(|name| is_cors(name)).cloned().collect();
    for name in &foreign {
        headers.remove(name);
    }
}

fn is_cors(name: &HeaderName) -> bool {
    name.as_str().starts_with("access-control-")
}

/// A cache must not give the response to a page of another origin (Fetch standard, "CORS protocol and HTTP caches").
fn vary_by_origin(headers: &mut HeaderMap) {
    let lists = |line: &HeaderValue| {
        let mut items = line.as_bytes().split(|byte| *byte == b',').map(<[u8]>::trim_ascii);
        items.any(|item| item == b"*" || item.eq_ignore_ascii_case(b"origin"))
    };
    if !headers.get_all(VARY).iter().any(lists) {
        headers.append(VARY, ORIGIN);
    }
}

/// The names of the headers that a page does not see by itself. Each is listed, because there are no wildcards within names, and what SDKs
/// read differs by provider and version.
fn names_to_expose(headers: &HeaderMap) -> Option<HeaderValue> {
    let names: Vec<&str> =
        headers.keys().filter(|name| !is_known_to_pages(name)).map(HeaderName::as_str).collect();
    if names.is_empty() {
        return None;
    }
    HeaderValue::try_from(names.join(", ")).ok()
}

/// Whether pages see a header of this name in any case (Fetch standard, "CORS-safelisted response-header name"), or never.
fn is_known_to_pages(name: &HeaderName) -> bool {
    match name.as_str() {
        "cache-control" | "content-language" | "content-length" | "content-type" | "expires" => true,
        "last-modified" | "pragma" => true,
        "set-cookie" | "set-cookie2" | "connection" | "trailer" | "upgrade" | "vary" => true,
        _ => is_cors(name),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn with(readers: &Readers, headers: &[(&'static str, &'static str)]) -> HeaderMap {
        let mut map = HeaderMap::new();
        for (name, value) in headers {
            map.append(*name, HeaderValue::from_static(value));
        }
        readers.add_to(&mut map);
        map
    }

    fn page() -> Readers {
        Readers::Page(HeaderValue::from_static("https://app.test"))
    }

    #[test]
    fn the_upstreams_own_cors_headers_are_replaced() {
        let theirs = [
            ("access-control-allow-origin", "*"),
            ("access-control-allow-origin", "https://other.test"),
            ("access-control-allow-credentials", "true"),
            ("access-control-expose-headers", "x-theirs"),
            ("access-control-allow-private-network", "true"),
            ("x-request-id", "1"),
        ];
        let headers = with(&page(), &theirs);
        let all: Vec<_> =
            headers.iter().map(|(name, value)| (name.as_str(), value.to_str().unwrap())).collect();
        let expected = [
            ("x-request-id", "1"),
            ("vary", "Origin"),
            ("access-control-expose-headers", "x-request-id"),
            ("access-control-allow-origin", "https://app.test"),
        ];
        assert!(all.len() == 4 && expected.iter().all(|header| all.contains(header)), "{all:?}");
        assert!(with(&Readers::NoPage, &theirs).keys().all(|name| !is_cors(name)));
    }

    #[test]
    fn the_response_varies_by_origin_beside_all_else() {
        let lines = |readers: &Readers, vary: &'static str| {
            let headers = with(readers, &[("vary", vary)]);
            headers.get_all(VARY).iter().map(|line| line.to_str().unwrap().to_owned()).collect::<Vec<_>>()
        };
        for readers in [page(), Readers::NoPage] {
            assert_eq!(lines(&readers, "accept-encoding"), ["accept-encoding", "Origin"]);
            assert_eq!(lines(&readers, "accept, oRIGIN"), ["accept, oRIGIN"]);
            assert_eq!(lines(&readers, "*"), ["*"]);
        }
        assert_eq!(lines(&Readers::AllPages, "accept"), ["accept"]);
    }

    #[test]
    fn each_header_is_exposed_by_its_name() {
        let headers = with(
            &Readers::AllPages,
            &[
                ("content-type", "application/json"),
                ("retry-after", "1"),
                ("x-ratelimit-limit-requests", "1"),
                ("set-cookie", "a=b"),
                ("connection", "close"),
                ("location", "/"),
            ],
        );
        let exposed = headers.get(ACCESS_CONTROL_EXPOSE_HEADERS).unwrap().to_str().unwrap();
        let mut exposed: Vec<_> = exposed.split(", ").collect();
        exposed.sort_unstable();
        assert_eq!(exposed, ["location", "retry-after", "x-ratelimit-limit-requests"]);
        assert_eq!(headers.get(ACCESS_CONTROL_ALLOW_ORIGIN).unwrap(), "*");
        assert!(!headers.contains_key(VARY));
    }
}
