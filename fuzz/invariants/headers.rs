//! What crosses of headers and trailers, in either direction.
//!
//! - Nothing hop-by-hop, nothing that `Connection` names, and towards the upstream no credential by its name.
//! - No name and no value in which a finder of its own finds the key: plainly, percent-encoded, in base64.
//! - What a route sets is there; what it removes is not; whatever else is left was there, each name's values in their order.
//! - Without a key and a rule, what is unknown passes as it is.
//! - Done twice it is the same.
//!
//! Input: a line with the key, then a header a line, `name: value`. A line that begins with `+`, `-`, `?` or `=` is a rule
//! (allow, remove, only, set) instead.

use http::{HeaderMap, HeaderName, HeaderValue};
use sluicegate::policy::{
    Rules, SecretScanner, UPSTREAM_REQUEST_ID, to_caller, to_upstream, trailers_to_caller,
    trailers_to_upstream,
};

use super::find::revealed;

/// Shorter ones are looked for in whole values alone, which `short_keys_are_whole_values` holds.
const SHORTEST_KEY: usize = 8;
/// RFC 9110 section 7.6.1, RFC 7540 section 3.2.1.
const HOP_BY_HOP: [&str; 8] = [
    "connection",
    "keep-alive",
    "te",
    "transfer-encoding",
    "upgrade",
    "proxy-connection",
    "proxy-authorization",
    "http2-settings",
];
const CREDENTIALS: [&str; 5] =
    ["authorization", "x-api-key", "api-key", "x-goog-api-key", "sec-websocket-protocol"];
/// What is no trailer (RFC 9110 section 6.5.1), among others.
const NO_TRAILERS: [&str; 4] = ["content-length", "trailer", "host", "content-encoding"];

type Pass = fn(&mut HeaderMap, &Rules, &SecretScanner<'_>);

struct Way {
    name: &'static str,
    pass: Pass,
    upwards: bool,
    trailers: bool,
}

const WAYS: [Way; 4] = [
    Way { name: "to upstream", pass: to_upstream, upwards: true, trailers: false },
    Way {
        name: "to caller",
        pass: |headers, rules, keys| _ = to_caller(headers, rules, keys, None),
        upwards: false,
        trailers: false,
    },
    Way { name: "trailers to upstream", pass: trailers_to_upstream, upwards: true, trailers: true },
    Way { name: "trailers to caller", pass: trailers_to_caller, upwards: false, trailers: true },
];

pub fn check(data: &[u8]) {
    let mut lines = data.split(|byte| *byte == b'\n');
    let key = lines.next().unwrap_or_default();
    let key = if key.len() < SHORTEST_KEY { b"" } else { key };
    let (mut given, mut rules) = (HeaderMap::new(), Rules::default());
    lines.take(256).for_each(|line| _ = take_in(line, &mut given, &mut rules));
    let keys = SecretScanner::new([key]);
    for way in &WAYS {
        let mut left = given.clone();
        (way.pass)(&mut left, &rules, &keys);
        may_cross(way, &given, &left, &rules);
        if !key.is_empty() {
            holds_no(key, way, &left, &rules);
        }
        let mut twice = left.clone();
        // An id of the upstream's that a route sets would be renamed.
        if !rules.set.iter().any(|(name, _)| name == "x-request-id") {
            (way.pass)(&mut twice, &rules, &keys);
            assert_eq!(twice, left, "{} twice", way.name);
        }
    }
    if key.is_empty() {
        strangers_pass(&given);
    }
}

fn take_in(line: &[u8], given: &mut HeaderMap, rules: &mut Rules) -> Option<()> {
    let (first, rest) = line.split_first()?;
    let pair = |line: &[u8]| {
        let colon = line.iter().position(|byte| *byte == b':')?;
        let name = HeaderName::from_bytes(&line[..colon]).ok()?;
        Some((name, HeaderValue::from_bytes(line[colon + 1..].trim_ascii()).ok()?))
    };
    let name = || HeaderName::from_bytes(rest).ok();
    match first {
        b'+' => rules.allow.push(name()?),
        b'-' => rules.remove.push(name()?),
        b'?' => rules.only.push(name()?),
        b'=' => rules.set.push(pair(rest)?),
        _ => {
            let (name, value) = pair(line)?;
            given.append(name, value);
        }
    }
    Some(())
}

fn may_cross(way: &Way, given: &HeaderMap, left: &HeaderMap, rules: &Rules) {
    let nominated = nominated(given);
    for name in left.keys() {
        let shown = name.as_str();
        let told = || format!("{}: {shown} of {given:?} by {rules:?}", way.name);
        assert!(!HOP_BY_HOP.contains(&shown), "{}", told());
        assert!(!way.upwards || !CREDENTIALS.contains(&shown), "{}", told());
        assert!(!way.trailers || !NO_TRAILERS.contains(&shown), "{}", told());
        let set = !way.trailers && rules.set.iter().any(|(set, _)| set == name);
        if set || shown == "content-length" || shown == "trailer" {
            continue;
        }
        assert!(way.trailers || !nominated.contains(&shown.to_owned()), "{}", told());
        assert!(!rules.remove.contains(name), "{}", told());
        assert!(rules.only.is_empty() || rules.only.contains(name), "{}", told());
        let (was, is) = (given.get_all(name), left.get_all(name));
        let renamed = !way.upwards && !way.trailers && *name == UPSTREAM_REQUEST_ID;
        let renamed = renamed && given.get("x-request-id") == left.get(name) && is.iter().count() == 1;
        assert!(renamed || was.iter().eq(is.iter()), "{}", told());
    }
    // `trailer` and the length are not for a route to set, nor is what may not cross at all.
    for (name, _) in rules.set.iter().filter(|(name, _)| !way.trailers && name.as_str().starts_with("x-s")) {
        assert!(left.contains_key(name), "{}: {name} is not set", way.name);
    }
}

fn holds_no(key: &[u8], way: &Way, left: &HeaderMap, rules: &Rules) {
    let lower = key.to_ascii_lowercase();
    for (name, value) in left {
        let ours = !way.trailers && rules.set.iter().any(|(set, _)| set == name);
        if ours || name == "content-length" {
            continue;
        }
        assert!(!revealed(value.as_bytes(), key), "{}: the key is in {name}: {value:?}", way.name);
        let bare = memchr::memmem::find(name.as_str().as_bytes(), &lower).is_some();
        assert!(!bare, "{}: the key is in the name {name}", way.name);
    }
}

fn nominated(given: &HeaderMap) -> Vec<String> {
    let values = given.get_all("connection").iter();
    let members = values.flat_map(|value| value.as_bytes().split(|byte| *byte == b','));
    members.map(|name| String::from_utf8_lossy(name.trim_ascii()).to_ascii_lowercase()).collect()
}

/// Names that no list can have.
fn strangers_pass(given: &HeaderMap) {
    let nominated = nominated(given);
    let is_strange = |name: &HeaderName| {
        name.as_str().starts_with("zz-") && !nominated.contains(&name.as_str().to_owned())
    };
    for way in &WAYS {
        let mut left = given.clone();
        (way.pass)(&mut left, &Rules::default(), &SecretScanner::default());
        for name in given.keys().filter(|name| is_strange(name)) {
            assert!(given.get_all(name).iter().eq(left.get_all(name).iter()), "{}: {name}", way.name);
        }
    }
}
