//! Paths: one reading of each, and no way out of a route.
//!
//! - A canonical path is the same once more.
//! - It begins with a slash, is ASCII, and has no empty and no dot segment and no backslash, semicolon or control character, for a reader
//!   that decodes it either. An encoded slash is none; even for a reader that decodes it there is no dot segment.
//! - `matches` and `rewrite` agree, segment by segment, with a reader of their own; what is rewritten stays below where the route
//!   leads for a reader that decodes, takes `\` for `/` and resolves dots, and is canonical itself.
//! - A query loses its credentials by name and value, and nothing else: what is left is in its order, and the same once more.
//!
//! Input: lines of path, prefix, replacement, base, query.

use std::borrow::Cow;

use percent_encoding::{CONTROLS, percent_decode_str, utf8_percent_encode};
use sluicegate::policy::path::{canonical, matches, rewrite, strip_credentials, with_slashes_decoded};

const SECRET: &[u8] = b"sk-Zx81";

pub fn check(data: &[u8]) {
    let Ok(text) = std::str::from_utf8(data) else { return };
    let mut lines = text.split('\n');
    let mut line = || lines.next().unwrap_or_default();
    let [path, prefix, to, base, query] = [line(), line(), line(), line(), line()];
    for raw in [path, prefix, to, base] {
        if let Ok(path) = canonical(raw) {
            is_clean(&path);
        }
    }
    let parts = [path, prefix, to, base].map(|raw| canonical(raw).ok());
    if let [Some(path), Some(prefix), Some(to), Some(base)] = parts {
        stays_below(&path, &prefix, &to, &base);
    }
    loses_credentials(query);
}

fn is_clean(path: &str) {
    assert_eq!(canonical(path).as_deref(), Ok(path));
    assert!(path.starts_with('/') && path.is_ascii() && !path.contains("//"), "{path:?}");
    let read = decoded_but_for_slashes(path);
    assert!(!read.iter().any(|byte| byte.is_ascii_control() || matches!(*byte, b'\\' | b';')), "{path:?}");
    let slashes = |bytes: &[u8]| bytes.iter().filter(|byte| **byte == b'/').count();
    assert_eq!(slashes(&read), slashes(path.as_bytes()), "{path:?}");
    for segment in decoded(path).split(|byte| *byte == b'/') {
        assert!(segment != b"." && segment != b"..", "{path:?}");
    }
}

fn stays_below(path: &str, prefix: &str, to: &str, base: &str) {
    let (read, above) = (segments(path), segments(prefix));
    let below = read.starts_with(&above);
    assert_eq!(matches(path, prefix), below, "{path:?} below {prefix:?}");
    let Some(sent) = rewrite(path, prefix, to, base) else {
        assert!(!below, "{path:?} below {prefix:?}");
        return;
    };
    assert!(below, "{path:?} below {prefix:?}");
    is_clean(&sent);
    let expected = [segments(base), segments(to), read[above.len()..].to_vec()].concat();
    assert_eq!(segments(&sent), expected, "{sent:?} of {path:?}");
    // Nor does a reader that decodes slashes find a way out.
    let leads = [base, to].concat();
    if with_slashes_decoded(&leads).is_none() {
        let seen = with_slashes_decoded(&sent).unwrap_or_else(|| sent.to_string());
        assert!(segments(&seen).starts_with(&segments(&leads)), "{sent:?} of {path:?}");
    }
}

/// What a forgiving reader makes of a path: percent signs decoded, `\` a slash, empty segments none, dots resolved.
fn segments(path: &str) -> Vec<Vec<u8>> {
    let mut found = Vec::new();
    for segment in decoded_but_for_slashes(path).split(|byte| matches!(byte, b'/' | b'\\')) {
        match segment {
            b"" | b"." => {}
            b".." => {
                found.pop().expect("nothing leads above the root");
            }
            name => found.push(name.to_vec()),
        }
    }
    found
}

fn loses_credentials(query: &str) {
    let is_secret = |text: &[u8]| memchr::memmem::find(text, SECRET).is_some();
    let kept = strip_credentials(query, is_secret);
    assert!(!is_secret(kept.as_bytes()) && !is_secret(&decoded(&kept)), "{kept:?} of {query:?}");
    let by_name = |pair: &str| {
        let name = decoded(pair.split('=').next().unwrap_or_default()).to_ascii_lowercase();
        matches!(&*name, b"key" | b"api-key" | b"api_key" | b"apikey" | b"x-api-key" | b"access_token")
    };
    assert!(!kept.split('&').any(by_name), "{kept:?} of {query:?}");
    assert_eq!(strip_credentials(&kept, is_secret), kept, "{query:?}");
    let found_in = |pair: &str| is_secret(pair.as_bytes()) || is_secret(&decoded(pair));
    let ordinary: Vec<_> = query.split('&').filter(|pair| !by_name(pair) && !found_in(pair)).collect();
    // A secret may lie across pairs, and then all of them go.
    let ordinary_ascii = utf8_percent_encode(&ordinary.join("&"), CONTROLS).to_string();
    let expected = if ordinary.join("&").is_ascii() { ordinary.join("&") } else { ordinary_ascii };
    assert!(kept.is_empty() || kept == expected, "{kept:?} of {query:?}");
    assert!(
        !kept.is_empty() || ordinary.concat().is_empty() || found_in(&ordinary.join("&")) || found_in(query)
    );
}

fn decoded(text: &str) -> Cow<'_, [u8]> {
    percent_decode_str(text).into()
}

/// An encoded slash stays as it is, in capitals.
fn decoded_but_for_slashes(path: &str) -> Vec<u8> {
    decoded(&path.replace("%2F", "%252F").replace("%2f", "%252F")).into_owned()
}
