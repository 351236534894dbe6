//! One canonical path decides the route and goes upstream, so that no two readers of a path can disagree about it.

use std::borrow::Cow;

use percent_encoding::{CONTROLS, percent_decode, utf8_percent_encode};

use crate::{access::is_credential_parameter, fault::Reason};

/// Why a path is rejected. Each is something that programs interpret in different ways.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum PathProblem {
    /// It does not begin with `/`.
    #[error("the path does not begin with a slash")]
    NotAbsolute,
    /// `%` without two hex digits (RFC 3986 section 2.1).
    #[error("the path has a percent sign that two hex digits do not follow")]
    Escape,
    /// `%2F` beside `.` or `..`, or where a decoded slash would lead to another route: programs that decode it see another path.
    #[error("the path has an encoded slash (%2F) in a place where it may be taken for a slash")]
    EncodedSlash,
    /// `\` or `%5C`, which some take for a slash.
    #[error("the path has a backslash")]
    Backslash,
    /// A control character, encoded or not; NUL above all.
    #[error("the path has a control character")]
    Control,
    /// More `..` than there are segments.
    #[error("the path leads above its root")]
    AboveRoot,
    /// `;` or `%3B`: servlets take what follows for a parameter, which is not of the path: `/v1/files;x/1` is `/v1/files/1`, and `..;` is
    /// `..` (RFC 3986 section 3.3 leaves it to them).
    #[error("the path has a semicolon")]
    Semicolon,
}

impl From<PathProblem> for Reason {
    fn from(problem: PathProblem) -> Self {
        match problem {
            PathProblem::NotAbsolute => Self::PathNotAbsolute,
            PathProblem::Escape => Self::PathEscape,
            PathProblem::EncodedSlash => Self::PathEncodedSlash,
            PathProblem::Backslash => Self::PathBackslash,
            PathProblem::Control => Self::PathControl,
            PathProblem::AboveRoot => Self::PathAboveRoot,
            PathProblem::Semicolon => Self::PathSemicolon,
        }
    }
}

/// The canonical form of a request's path, query not included: unreserved characters decoded, other escapes in upper case,
/// what may not stand in a path encoded, `//` merged, `.` and `..` resolved (RFC 3986 section 6.2.2). Reserved
/// characters stay as they are, since `%21` and `!` need not mean the same. An encoded slash is such a character: it is part of its
/// segment, and stays as it is written (the SDKs encode the slash in the name of a model: openai-python `_utils/_path.py`, openai-node
/// `internal/utils/path.ts`).
///
/// # Errors
/// For what cannot be read in one way only, see [`PathProblem`].
pub fn canonical(raw: &str) -> Result<Cow<'_, str>, PathProblem> {
    if !raw.starts_with('/') {
        return Err(PathProblem::NotAbsolute);
    }
    if is_canonical(raw) { Ok(Cow::Borrowed(raw)) } else { rebuild(raw).map(Cow::Owned) }
}

/// Whether `path` is `prefix` or goes on below it. Both are canonical; `/v1` is not a prefix of `/v1x`.
pub fn matches(path: &str, prefix: &str) -> bool {
    below(path, prefix).is_some()
}

/// The canonical `path` as a program sees it that decodes `%2F`; `None` if it has none.
pub fn with_slashes_decoded(path: &str) -> Option<String> {
    let has_any = path.contains("%2F") || path.contains("%2f");
    has_any.then(|| path.replace("%2F", "/").replace("%2f", "/"))
}

/// What goes upstream: the target's `base` path, then `path` with `prefix` replaced by `to`. `None` when `path` is not below
/// `prefix`. All are canonical; a slash at the end of `base`, `prefix` or `to` does not matter.
pub fn rewrite<'p>(path: &'p str, prefix: &str, to: &str, base: &str) -> Option<Cow<'p, str>> {
    let rest = below(path, prefix)?;
    let [prefix, to, base] = [prefix, to, base].map(|part| part.trim_end_matches('/'));
    Some(match (base, to, rest) {
        ("", to, _) if to == prefix => Cow::Borrowed(path),
        ("", "", "") => Cow::Borrowed("/"),
        _ => Cow::Owned([base, to, rest].concat()),
    })
}

/// The query without credentials: parameters that hold one by their name (`key`, `api-key`, …) and those in whose
/// name or value `is_secret` finds one, when it is shown the pair as written and decoded. What is left stays as it was,
/// byte for byte, in its order; but for what is not ASCII, which may not stand in a request line (RFC 3986 section 2), and is encoded.
pub fn strip_credentials(query: &str, is_secret: impl Fn(&[u8]) -> bool) -> Cow<'_, str> {
    let kept = without_credentials(query, is_secret);
    if kept.is_ascii() { kept } else { utf8_percent_encode(&kept, CONTROLS).to_string().into() }
}

fn without_credentials(query: &str, is_secret: impl Fn(&[u8]) -> bool) -> Cow<'_, str> {
    let taken = |pair: &str| {
        let (name, _) = pair.split_once('=').unwrap_or((pair, ""));
        is_credential_parameter(&decoded(name)) || is_secret(pair.as_bytes()) || is_secret(&decoded(pair))
    };
    // A key may hold an `&` itself, and so lie across pairs.
    let across = |query: &str| is_secret(query.as_bytes()) || is_secret(&decoded(query));
    if !query.split('&').any(taken) {
        return if across(query) { Cow::Borrowed("") } else { Cow::Borrowed(query) };
    }
    let mut kept = String::with_capacity(query.len());
    let mut first = true;
    for pair in query.split('&').filter(|pair| !taken(pair)) {
        if !std::mem::take(&mut first) {
            kept.push('&');
        }
        kept.push_str(pair);
    }
    if across(&kept) { Cow::Borrowed("") } else { Cow::Owned(kept) }
}

fn decoded(text: &str) -> Cow<'_, [u8]> {
    percent_decode(text.as_bytes()).into()
}

/// What follows `prefix`: nothing, or a slash and the rest.
fn below<'p>(path: &'p str, prefix: &str) -> Option<&'p str> {
    let rest = path.strip_prefix(prefix.trim_end_matches('/'))?;
    (rest.is_empty() || rest.starts_with('/')).then_some(rest)
}

/// One scan; escapes and segments that begin with a dot are left to [`rebuild`].
fn is_canonical(raw: &str) -> bool {
    let mut last = 0;
    raw.bytes().all(|byte| {
        let doubtful = last == b'/' && matches!(byte, b'/' | b'.');
        last = byte;
        !doubtful && stays(byte)
    })
}

/// `pchar` of RFC 3986 section 3.3 but for escapes and the semicolon, and the slash.
fn stays(byte: u8) -> bool {
    is_unreserved(byte) || matches!(byte, b'/' | b'!' | b'$' | b'&'..=b',' | b'=' | b':' | b'@')
}

fn is_unreserved(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'.' | b'_' | b'~')
}

fn rebuild(raw: &str) -> Result<String, PathProblem> {
    let mut path = String::with_capacity(raw.len());
    let mut segments = raw.split('/').skip(1).peekable();
    while let Some(segment) = segments.next() {
        let start = path.len();
        path.push('/');
        append(segment, &mut path)?;
        let up = match path.get(start + 1..).unwrap_or_default() {
            "" | "." => 0,
            ".." => 1,
            other if hides_dots(other) => return Err(PathProblem::EncodedSlash),
            _ => continue,
        };
        path.truncate(start);
        if up == 1 {
            path.truncate(path.rfind('/').ok_or(PathProblem::AboveRoot)?);
        }
        if segments.peek().is_none() {
            path.push('/');
        }
    }
    Ok(path)
}

/// Appends one segment in its canonical form.
fn append(segment: &str, path: &mut String) -> Result<(), PathProblem> {
    let mut rest = segment.as_bytes();
    while let [first, behind @ ..] = rest {
        let escaped = *first == b'%';
        let (byte, behind) =
            if escaped { unescape(behind).ok_or(PathProblem::Escape)? } else { (*first, behind) };
        match byte {
            // Only an escape can be one here. Its digits stay in the case in which they are written.
            b'/' => path.push_str(if rest.get(2) == Some(&b'F') { "%2F" } else { "%2f" }),
            b'\\' => return Err(PathProblem::Backslash),
            // A proxy that decodes a path before it passes it on makes `;` of `%3B`.
            b';' => return Err(PathProblem::Semicolon),
            control if control.is_ascii_control() => return Err(PathProblem::Control),
            plain if is_unreserved(plain) || (!escaped && stays(plain)) => path.push(char::from(plain)),
            other => path.push_str(percent_encoding::percent_encode_byte(other)),
        }
        rest = behind;
    }
    Ok(())
}

/// The byte that two hex digits stand for, and what is behind them.
fn unescape(text: &[u8]) -> Option<(u8, &[u8])> {
    let ([high, low], behind) = text.split_first_chunk::<2>()?;
    let digit = |byte: u8| char::from(byte).to_digit(16);
    let value = u8::try_from(digit(*high)? * 16 + digit(*low)?).ok()?;
    Some((value, behind))
}

/// Whether a reader that decodes the slashes in this segment finds a dot segment.
fn hides_dots(segment: &str) -> bool {
    let mut parts = segment.split("%2F").flat_map(|part| part.split("%2f"));
    parts.any(|part| matches!(part, "." | ".."))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::{PathProblem::*, *};

    #[test]
    fn ordinary_paths_are_borrowed() {
        for path in [
            "/",
            "/v1/chat/completions",
            "/v1/",
            "/v1/models/ft:gpt-4o:org::a1",
            "/a/b.c/d..e/~f",
            "/a,b=1,2/@(x)",
        ] {
            assert!(matches!(canonical(path), Ok(Cow::Borrowed(same)) if same == path), "{path}");
        }
    }

    #[test]
    fn one_form_for_one_path() {
        for (raw, path) in [
            ("//", "/"),
            ("/v1//models///x//", "/v1/models/x/"),
            ("/v1/./models/.", "/v1/models/"),
            ("/v1/x/../models", "/v1/models"),
            ("/v1/x/..", "/v1/"),
            ("/v1/..", "/"),
            ("/a//../b", "/b"),
            ("/%76%31/%6dodels", "/v1/models"),
            ("/v1/x/%2e%2E/models", "/v1/models"),
            ("/v1/x/.%2e/%2E/models", "/v1/models"),
            ("/v1/.well-known/...", "/v1/.well-known/..."),
            ("/v1/%c3%a9/é", "/v1/%C3%A9/%C3%A9"),
            ("/v1/a%20b%3f%21!%25%32%65", "/v1/a%20b%3F%21!%252e"),
            ("/v1/{a}|\"b\"", "/v1/%7Ba%7D%7C%22b%22"),
            ("/v1/models/org%2Fm", "/v1/models/org%2Fm"),
            ("/v1/models/%6frg%2fm%2F%3f", "/v1/models/org%2fm%2F%3F"),
            ("/v1%2Fmodels/x/..", "/v1%2Fmodels/"),
            ("/v1/%2Fadmin/...%2F", "/v1/%2Fadmin/...%2F"),
        ] {
            assert_eq!(canonical(raw).as_deref(), Ok(path), "{raw}");
        }
    }

    #[test]
    fn what_can_be_read_in_two_ways_is_refused() {
        for (raw, problem) in [
            ("", NotAbsolute),
            ("*", NotAbsolute),
            ("v1", NotAbsolute),
            ("/%", Escape),
            ("/%4", Escape),
            ("/%g1", Escape),
            ("/%4/1", Escape),
            ("/%+1", Escape),
            ("/v1/..%2f..%2fadmin", EncodedSlash),
            ("/v1/x%2F..", EncodedSlash),
            ("/v1/x%2F%2e%2e%2Fy", EncodedSlash),
            ("/v1/.%2Fx", EncodedSlash),
            ("/v1\\models", Backslash),
            ("/v1%5cmodels", Backslash),
            ("/v1%00", Control),
            ("/v1/%0d%0aa", Control),
            ("/v1/\u{7f}", Control),
            ("/..", AboveRoot),
            ("/v1/../../v1", AboveRoot),
            ("/%2e%2e/v1", AboveRoot),
            ("/v1/..;/admin", Semicolon),
            ("/v1/.;a=b/admin", Semicolon),
            ("/v1/%2e%2e;/admin", Semicolon),
            ("/v1/..%3b/admin", Semicolon),
            ("/v1/%2e%3Ba/admin", Semicolon),
            ("/v1/files;x=1/a", Semicolon),
            ("/v1/files%3bx/a", Semicolon),
            ("/v1/models/;", Semicolon),
        ] {
            assert_eq!(canonical(raw), Err(problem), "{raw}");
        }
    }

    #[test]
    fn prefixes_end_at_segments() {
        for (path, prefix, expected) in [
            ("/v1", "/v1", true),
            ("/v1/", "/v1", true),
            ("/v1/x", "/v1", true),
            ("/v1/x", "/v1/", true),
            ("/v1x", "/v1", false),
            ("/v", "/v1", false),
            ("/V1", "/v1", false),
            ("/v1%2Fmodels", "/v1", false),
            ("/v1/models%2Fx", "/v1/models", false),
            ("/v1/models/x%2Fy", "/v1/models", true),
            ("/", "/", true),
            ("/any", "/", true),
        ] {
            assert_eq!(matches(path, prefix), expected, "{path} {prefix}");
        }
    }

    #[test]
    fn the_prefix_becomes_what_the_route_says_below_the_base() {
        for (path, prefix, to, base, expected) in [
            ("/v1/models", "/v1", "/v1", "", "/v1/models"),
            ("/v1/models", "/v1", "/v1", "/api", "/api/v1/models"),
            ("/openai/v1/models", "/openai", "/", "", "/v1/models"),
            ("/openai", "/openai", "", "", "/"),
            ("/openai/", "/openai", "/", "", "/"),
            ("/openai", "/openai", "", "/base/", "/base"),
            ("/models", "/", "/v1", "", "/v1/models"),
            ("/", "/", "/v1", "", "/v1/"),
            ("/x", "/", "/", "/b", "/b/x"),
            ("/a/b/c", "/a/b", "/z", "", "/z/c"),
        ] {
            assert_eq!(
                rewrite(path, prefix, to, base).as_deref(),
                Some(expected),
                "{path} {prefix} {to} {base}"
            );
        }
        assert!(matches!(rewrite("/v1/x", "/v1", "/v1", ""), Some(Cow::Borrowed("/v1/x"))));
        assert_eq!(rewrite("/v1x", "/v1", "/v2", ""), None);
    }

    #[test]
    fn credentials_leave_the_query_and_nothing_else_changes() {
        let secret = |text: &[u8]| text.windows(6).any(|window| window == b"sk-abc");
        for (query, kept) in [
            ("", ""),
            ("a=b&c&&d=%zz&e=%2f+", "a=b&c&&d=%zz&e=%2f+"),
            ("key=1&api-version=2024", "api-version=2024"),
            ("a=1&KEY=1&b=2&Api-Key=3", "a=1&b=2"),
            ("a=1&%6bey=1&api_key", "a=1"),
            ("x=1sk-abc2&y=%73k-abc&sk-abc=1&z=3", "z=3"),
            ("monkey=1&key2=2&&", "monkey=1&key2=2&&"),
            ("key=1", ""),
        ] {
            assert_eq!(strip_credentials(query, secret), kept, "{query}");
        }
        assert!(matches!(strip_credentials("a=b&c=d", secret), Cow::Borrowed("a=b&c=d")));
        assert_eq!(strip_credentials("a=é&key=1&[]={}", secret), "a=%C3%A9&[]={}");
    }

    #[test]
    fn a_key_with_an_ampersand_does_not_hide_between_pairs() {
        let secret = |text: &[u8]| text.windows(7).any(|window| window == b"sk&key2");
        assert_eq!(strip_credentials("a=sk&key2=1", secret), "");
        assert_eq!(strip_credentials("a=sk&key=&key2=1", secret), "");
    }

    proptest! {
        #[test]
        fn canonical_keeps_the_meaning(segments in prop::collection::vec("[a-z0-9 é?%!]{1,6}", 1..5)) {
            let encode = |segment: &String| segment.bytes().map(|byte| format!("%{byte:02x}")).collect::<String>();
            let raw = format!("/{}", segments.iter().map(encode).collect::<Vec<_>>().join("/"));
            let path = canonical(&raw).unwrap();
            let read: Vec<_> = path[1..].split('/').map(|segment| String::from_utf8(decoded(segment).into()).unwrap()).collect();
            prop_assert_eq!(read, segments);
        }
    }
}
