//! Base URLs of upstreams, addresses of egress proxies, and the paths of routes.

use http::Uri;
use percent_encoding::percent_decode_str;

use super::{
    naming::looks_secret,
    problem::{Complaint, complaint},
    schema::Target,
    secret::Secret,
};

const TARGET_HELP: &str = r#"for example "https://api.openai.com""#;
const PROXY_HELP: &str = r#"for example "http://proxy:3128""#;

impl Target {
    /// The prefix of each request's path: "" or "/x". (A [`Uri`] has "/" where nothing was written.)
    #[must_use]
    pub fn base_path(&self) -> &str {
        self.url.path().trim_end_matches('/')
    }
}

/// Reads the base URL of a target: http or https, a host, optionally a port and a path.
pub(crate) fn target(text: &str) -> Result<Uri, Complaint> {
    if text.contains(['?', '#']) {
        return Err(complaint("must not have a query or a fragment", TARGET_HELP));
    }
    let uri = authority(text, TARGET_HELP)?;
    if !matches!(uri.scheme_str(), Some("http" | "https")) {
        return Err(complaint("must begin with https:// or http://", TARGET_HELP));
    }
    let path = uri.path().trim_end_matches('/').to_owned();
    if !path.is_empty() {
        canonical(&path)?;
    }
    with_path(uri, &path)
}

/// Reads the address of an HTTP CONNECT proxy, and the user info in it.
pub(crate) fn proxy(text: &str) -> Result<(Uri, Option<Secret>), Complaint> {
    let Some(rest) = text.strip_prefix("http://") else {
        return Err(complaint(
            "must begin with http://; other kinds of proxies are not supported",
            PROXY_HELP,
        ));
    };
    let (user_info, host) = rest.rsplit_once('@').map_or((None, rest), |(user, host)| (Some(user), host));
    let credentials = user_info.map(credentials).transpose()?;
    let uri = authority(&format!("http://{host}"), PROXY_HELP)?;
    if uri.path() != "/" || uri.query().is_some() {
        return Err(complaint("must not have a path or a query", PROXY_HELP));
    }
    Ok((uri, credentials))
}

/// Checks a path prefix: segments of plain characters (RFC 3986 §3.3), no escapes, no dot segments.
pub(crate) fn canonical(path: &str) -> Result<(), Complaint> {
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || b"-._~!$&'()*+,=:@/".contains(&byte);
    if path == "/" {
        return Ok(());
    }
    let why = match path {
        _ if !path.starts_with('/') => "must begin with `/`",
        _ if path.ends_with('/') => "must not end with `/`: a prefix always matches whole segments",
        _ if path.contains("//") => "must not have an empty segment (`//`)",
        _ if path.split('/').any(|segment| matches!(segment, "." | "..")) => {
            "must not have a segment `.` or `..`"
        }
        _ if path.contains('%') => "must not have an escape (`%`): paths are matched after decoding",
        _ if path.contains('*') => "must not have a `*`: a prefix always matches everything below it",
        _ if path.contains(';') => "must not have a semicolon, which programs interpret differently",
        _ if !path.bytes().all(plain) => "has characters that are not allowed in a path",
        _ => return Ok(()),
    };
    Err(complaint(why, r#"for example "/v1", or "/" for all paths"#))
}

/// A part of a target's URL for a message: its host and a base path, or only its host if the path may be a key.
pub(crate) fn shown_base(url: &Uri, base: &str) -> String {
    let host = url.host().unwrap_or_default();
    if base.split('/').any(looks_secret) { host.to_owned() } else { format!("{host}{base}") }
}

/// Parses a URL and checks its authority: no user info, a host, and a valid port.
fn authority(text: &str, help: &'static str) -> Result<Uri, Complaint> {
    let malformed = || complaint("is not a URL", help);
    let uri: Uri = text.parse().map_err(|_| malformed())?;
    let authority = uri.authority().ok_or_else(malformed)?;
    if authority.as_str().contains('@') {
        return Err(complaint("must not have user info: secrets must not be written in this file", help));
    }
    let portless = authority.host();
    let port_wrong = authority.as_str().len() > portless.len() && !matches!(authority.port_u16(), Some(1..));
    if portless.is_empty() || port_wrong {
        return Err(complaint("has no host, or an invalid port", help));
    }
    Ok(uri)
}

fn with_path(uri: Uri, path: &str) -> Result<Uri, Complaint> {
    let mut parts = uri.into_parts();
    let path = if path.is_empty() { "/" } else { path };
    parts.path_and_query = Some(path.parse().map_err(|_| complaint("is not a URL", TARGET_HELP))?);
    Uri::from_parts(parts).map_err(|_| complaint("is not a URL", TARGET_HELP))
}

fn credentials(user_info: &str) -> Result<Secret, Complaint> {
    let unusable =
        |()| complaint("has invalid user info", "write user:password in visible ASCII, without spaces");
    let decoded = percent_decode_str(user_info).decode_utf8();
    let decoded = decoded.map_err(|_| complaint("has invalid user info", PROXY_HELP))?;
    if decoded.contains(' ') {
        return Err(unusable(()));
    }
    // Any password: unlike a file, a URL has nothing around it that could have been pasted with it.
    Secret::header_value(decoded.as_bytes()).map_err(|_| unusable(()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_targets_url_loses_its_last_slash_and_keeps_its_path() {
        let base = |text| {
            let target = Target { url: target(text).expect(text), weight: 1, account: None };
            (target.url.to_string(), target.base_path().to_owned())
        };
        assert_eq!(base("https://api.openai.com"), ("https://api.openai.com/".into(), String::new()));
        assert_eq!(base("https://api.openai.com/"), ("https://api.openai.com/".into(), String::new()));
        assert_eq!(base("http://[::1]:8080/a/b/"), ("http://[::1]:8080/a/b".into(), "/a/b".into()));
    }

    #[test]
    fn what_is_no_base_url_is_refused_without_being_shown() {
        let wrong = [
            "api.openai.com",
            "ftp://a",
            "https://a?x=1",
            "https://a#x",
            "https://sk-secret@a",
            "https://user:sk-secret@a/v1",
            "https://a:99999",
            "https://a:0",
            "https://",
            "https://a/../b",
            "https://a/%2e",
            "",
        ];
        for text in wrong {
            let complaint = target(text).expect_err(text);
            assert!(!format!("{complaint:?}").contains("sk-secret"), "{text}");
        }
    }

    #[test]
    fn a_proxys_user_info_is_taken_out_and_decoded() {
        let (uri, credentials) = proxy("http://user:p%40ss@proxy:3128").expect("sound");
        assert_eq!(uri.to_string(), "http://proxy:3128/");
        assert_eq!(credentials.expect("there").expose(), "user:p@ss");
        for text in ["https://proxy:3128", "socks5://proxy", "http://proxy/x", "proxy:3128", "http://a:b@"] {
            assert!(proxy(text).is_err(), "{text}");
        }
    }

    #[test]
    fn only_a_canonical_path_is_a_prefix() {
        for path in ["/", "/v1", "/a/b.c", "/openai/deployments"] {
            assert!(canonical(path).is_ok(), "{path}");
        }
        for path in ["", "v1", "/v1/", "//", "/a//b", "/a/../b", "/.", "/%76", "/a b", "/a?b"] {
            assert!(canonical(path).is_err(), "{path}");
        }
    }
}
