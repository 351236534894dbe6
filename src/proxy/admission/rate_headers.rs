//! What is left of a client's limits, in the headers that OpenAI's clients read (OpenAI API reference, "Rate limits in headers").

use std::{iter::zip, time::Duration};

use http::{HeaderMap, HeaderName, HeaderValue};

use crate::limit::{Left, Tightest};

/// One of OpenAI's headers.
struct Header {
    own: HeaderName,
    /// The name that an upstream's gets beside the gateway's own.
    upstreams: HeaderName,
}

/// The headers of each unit.
const EACH: usize = 3;

/// Those of requests, then those of tokens. Made once, because nearly every response has them.
static HEADERS: [Header; 2 * EACH] = [
    Header::new("x-ratelimit-limit-requests", "x-upstream-ratelimit-limit-requests"),
    Header::new("x-ratelimit-remaining-requests", "x-upstream-ratelimit-remaining-requests"),
    Header::new("x-ratelimit-reset-requests", "x-upstream-ratelimit-reset-requests"),
    Header::new("x-ratelimit-limit-tokens", "x-upstream-ratelimit-limit-tokens"),
    Header::new("x-ratelimit-remaining-tokens", "x-upstream-ratelimit-remaining-tokens"),
    Header::new("x-ratelimit-reset-tokens", "x-upstream-ratelimit-reset-tokens"),
];

/// How the names of all such headers begin, also an upstream's own.
const BEGINNING: &str = "x-ratelimit-";

/// Room for a span as text, in bytes: the hours of a [`Duration`] have at most 16 digits.
const SPAN: usize = 32;

impl Header {
    const fn new(own: &'static str, upstreams: &'static str) -> Self {
        Self { own: HeaderName::from_static(own), upstreams: HeaderName::from_static(upstreams) }
    }
}

/// Adds what is left of the gateway's limits to the headers of a response. The headers of the upstream's own limits get other names then.
pub(in crate::proxy) fn write(headers: &mut HeaderMap, left: &Tightest) {
    if left.is_empty() {
        return;
    }
    headers.reserve(HEADERS.len());
    if headers.keys().any(|name| name.as_str().starts_with(BEGINNING)) {
        return replace(headers, left);
    }
    for (unit, left) in zip(HEADERS.chunks(EACH), [left.requests, left.tokens]) {
        let Some(left) = left else { continue };
        for (header, value) in zip(unit, values(left)) {
            if let Some(value) = value {
                headers.insert(header.own.clone(), value);
            }
        }
    }
}

/// As [`write`], where the upstream has sent such headers.
fn replace(headers: &mut HeaderMap, left: &Tightest) {
    let [limit, remaining, reset] = left.requests.map(values).unwrap_or_default();
    let [limit_tokens, remaining_tokens, reset_tokens] = left.tokens.map(values).unwrap_or_default();
    let mut own = [limit, remaining, reset, limit_tokens, remaining_tokens, reset_tokens];
    for (unit, left) in zip(HEADERS.chunks(EACH), [left.requests, left.tokens]) {
        if left.is_none() {
            rename(headers, unit);
        }
    }
    // The upstream's values, in the place of which the gateway's are.
    let mut replaced = [const { None }; HEADERS.len()];
    let mut has_others = false;
    // A look at all headers takes less than a lookup of each.
    for (name, value) in headers.iter_mut() {
        let Some(rest) = name.as_str().strip_prefix(BEGINNING) else { continue };
        let places = place(rest).and_then(|place| Some((own.get_mut(place)?, replaced.get_mut(place)?)));
        match places.and_then(|(own, replaced)| Some((own.take()?, replaced))) {
            Some((own, replaced)) => *replaced = Some(std::mem::replace(value, own)),
            None => has_others = true,
        }
    }
    for (header, (own, replaced)) in zip(&HEADERS, zip(own, replaced)) {
        if let Some(own) = own {
            headers.insert(header.own.clone(), own);
        }
        if let Some(replaced) = replaced {
            headers.insert(header.upstreams.clone(), replaced);
        }
    }
    if has_others {
        rename_others(headers, left);
    }
}

/// Gives an upstream's headers about a unit that the gateway does not limit their other names.
fn rename(headers: &mut HeaderMap, unit: &[Header]) {
    for header in unit {
        if let Some(value) = headers.remove(&header.own) {
            headers.insert(header.upstreams.clone(), value);
        }
    }
}

/// The place in [`HEADERS`] of the header whose name goes on so behind its beginning.
fn place(rest: &str) -> Option<usize> {
    Some(match rest {
        "limit-requests" => 0,
        "remaining-requests" => 1,
        "reset-requests" => 2,
        "limit-tokens" => 3,
        "remaining-tokens" => 4,
        "reset-tokens" => 5,
        _ => return None,
    })
}

/// Gives an upstream's headers about units that only the upstream limits other names. Of headers that it has sent twice, the first one counts.
#[cold]
fn rename_others(headers: &mut HeaderMap, left: &Tightest) {
    let is_own = |name: &HeaderName| match name.as_str().strip_prefix(BEGINNING).and_then(place) {
        Some(..EACH) => left.requests.is_some(),
        Some(_) => left.tokens.is_some(),
        None => false,
    };
    let names: Vec<HeaderName> =
        headers.keys().filter(|name| name.as_str().starts_with(BEGINNING)).cloned().collect();
    for name in names {
        let Some(value) = headers.remove(&name) else { continue };
        if is_own(&name) {
            headers.insert(name, value);
        } else if let Ok(other) = HeaderName::try_from(name.as_str().replacen("x-", "x-upstream-", 1)) {
            headers.insert(other, value);
        }
    }
}

/// The values of a unit's headers.
fn values(left: Left) -> [Option<HeaderValue>; EACH] {
    let mut span = String::with_capacity(SPAN);
    write_span(&mut span, left.full_in);
    [number(left.quantity), number(left.remaining), HeaderValue::from_str(&span).ok()]
}

/// `HeaderValue::from` allocates twice.
fn number(number: u64) -> Option<HeaderValue> {
    HeaderValue::from_str(itoa::Buffer::new().format(number)).ok()
}

/// Appends a span as OpenAI writes it: `120ms`, `6.5s`, `1m30s`, `26h3m0s`.
fn write_span(text: &mut String, span: Duration) {
    let mut digits = itoa::Buffer::new();
    let (seconds, millis) = (span.as_secs(), span.subsec_millis());
    if seconds == 0 {
        text.push_str(digits.format(millis));
        text.push_str("ms");
        return;
    }
    let (hours, minutes) = (seconds / 3_600, seconds / 60 % 60);
    if hours > 0 {
        text.push_str(digits.format(hours));
        text.push('h');
    }
    if hours > 0 || minutes > 0 {
        text.push_str(digits.format(minutes));
        text.push('m');
    }
    text.push_str(digits.format(seconds % 60));
    if millis > 0 {
        text.push('.');
        // The first digit keeps the zeros of the others, and is left out.
        let thousandths = digits.format(1_000 + millis).trim_end_matches('0');
        text.push_str(thousandths.get(1..).unwrap_or_default());
    }
    text.push('s');
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn spans_are_written_as_openai_does() {
        for (millis, text) in [
            (0, "0ms"),
            (120, "120ms"),
            (1_000, "1s"),
            (6_500, "6.5s"),
            (90_000, "1m30s"),
            (93_780_000, "26h3m0s"),
            (61_001, "1m1.001s"),
            (59_010, "59.01s"),
            (3_600_000, "1h0m0s"),
        ] {
            let mut written = String::new();
            write_span(&mut written, Duration::from_millis(millis));
            assert_eq!(written, text);
        }
    }

    /// Of 10 units, of which 4 are left.
    const LEFT: Left =
        Left { quantity: 10, at_once: 10, used: 6, remaining: 4, full_in: Duration::from_millis(6_500) };

    fn of_upstream() -> HeaderMap {
        let mut headers = HeaderMap::new();
        headers.insert(&HEADERS[0].own, HeaderValue::from(7));
        headers.append(&HEADERS[0].own, HeaderValue::from(700));
        headers.insert("x-ratelimit-limit-project-tokens", HeaderValue::from(8));
        headers.insert(&HEADERS[5].own, HeaderValue::from_static("6ms"));
        headers
    }

    #[test]
    fn an_upstreams_headers_keep_their_values_under_other_names() {
        let mut headers = of_upstream();
        write(&mut headers, &Tightest::default());
        assert_eq!(headers, of_upstream(), "without limits of the gateway they pass as they are");
        for (left, own) in [
            (Tightest { tokens: Some(LEFT), requests: None }, 3),
            (Tightest { tokens: None, requests: Some(LEFT) }, 3),
            (Tightest { tokens: Some(LEFT), requests: Some(LEFT) }, 6),
        ] {
            let mut headers = of_upstream();
            write(&mut headers, &left);
            assert_eq!(headers["x-upstream-ratelimit-limit-requests"], "7");
            assert_eq!(headers["x-upstream-ratelimit-limit-project-tokens"], "8");
            assert_eq!(headers["x-upstream-ratelimit-reset-tokens"], "6ms");
            assert_eq!(headers.len(), 3 + own, "no header is there twice: {headers:?}");
            let written = HEADERS.each_ref().map(|header| headers.get(&header.own));
            let of = |left: Option<Left>| {
                ["10", "4", "6.5s"].map(|text| left.map(|_| HeaderValue::from_static(text)))
            };
            assert_eq!(
                written.map(Option::<&HeaderValue>::cloned).as_slice(),
                [of(left.requests), of(left.tokens)].concat()
            );
        }
    }

    #[test]
    fn without_an_upstreams_there_are_the_gateways_alone() {
        let mut headers = HeaderMap::new();
        write(&mut headers, &Tightest { tokens: None, requests: Some(LEFT) });
        assert_eq!(headers.len(), 3);
        assert_eq!(headers["x-ratelimit-remaining-requests"], "4");
    }

    #[test]
    fn an_upstreams_names_follow_from_the_gateways() {
        for (at, name) in HEADERS.iter().enumerate() {
            assert_eq!(name.own.as_str().strip_prefix(BEGINNING).and_then(place), Some(at));
            assert_eq!(name.upstreams.as_str(), name.own.as_str().replacen("x-", "x-upstream-", 1));
        }
    }
}
