//! What is left of a client's limits, in the headers that OpenAI's clients read (OpenAI API reference, "Rate limits in headers").

use std::time::Duration;

use http::{HeaderMap, HeaderName, HeaderValue};

use crate::limit::{Left, Tightest};

/// The name of one of OpenAI's headers, and the name that an upstream's gets beside the gateway's own.
struct Name {
    own: HeaderName,
    upstreams: HeaderName,
}

/// The headers of one unit.
struct Names {
    limit: Name,
    remaining: Name,
    reset: Name,
}

/// Made once, because nearly every response has them.
static REQUESTS: Names = Names {
    limit: Name::new("x-ratelimit-limit-requests", "x-upstream-ratelimit-limit-requests"),
    remaining: Name::new("x-ratelimit-remaining-requests", "x-upstream-ratelimit-remaining-requests"),
    reset: Name::new("x-ratelimit-reset-requests", "x-upstream-ratelimit-reset-requests"),
};

static TOKENS: Names = Names {
    limit: Name::new("x-ratelimit-limit-tokens", "x-upstream-ratelimit-limit-tokens"),
    remaining: Name::new("x-ratelimit-remaining-tokens", "x-upstream-ratelimit-remaining-tokens"),
    reset: Name::new("x-ratelimit-reset-tokens", "x-upstream-ratelimit-reset-tokens"),
};

/// How the names of all such headers begin, also an upstream's own.
const BEGINNING: &str = "x-ratelimit-";

/// The most headers that are added to a response.
const MOST_ADDED: usize = 12;

/// Room for a span as text, in bytes: the hours of a [`Duration`] have at most 16 digits.
const SPAN: usize = 32;

impl Name {
    const fn new(own: &'static str, upstreams: &'static str) -> Self {
        Self { own: HeaderName::from_static(own), upstreams: HeaderName::from_static(upstreams) }
    }
}

impl Names {
    fn all(&self) -> [&Name; 3] {
        [&self.limit, &self.remaining, &self.reset]
    }
}

/// Adds what is left of the gateway's limits to the headers of a response. The headers of the upstream's own limits get other names then.
pub(in crate::proxy) fn write(headers: &mut HeaderMap, left: &Tightest) {
    if left.is_empty() {
        return;
    }
    headers.reserve(MOST_ADDED);
    let of_upstream = headers.keys().filter(|name| name.as_str().starts_with(BEGINNING)).count();
    let mut renamed = 0;
    for (names, left) in [(&REQUESTS, left.requests), (&TOKENS, left.tokens)] {
        match left {
            Some(left) => renamed += insert(headers, names, left),
            None if of_upstream > renamed => renamed += rename(headers, names),
            None => {}
        }
    }
    if of_upstream > renamed {
        rename_others(headers);
    }
}

/// Inserts the headers of a unit, and gives the upstream's that they replace their other names. Returns how many these are.
fn insert(headers: &mut HeaderMap, names: &Names, left: Left) -> usize {
    let Names { limit, remaining, reset } = names;
    let values = [
        (limit, number(left.quantity)),
        (remaining, number(left.remaining)),
        (reset, HeaderValue::try_from(written(left.full_in)).ok()),
    ];
    let mut renamed = 0;
    for (name, value) in values {
        let Some(value) = value else { continue };
        if let Some(replaced) = headers.insert(name.own.clone(), value) {
            headers.insert(name.upstreams.clone(), replaced);
            renamed += 1;
        }
    }
    renamed
}

/// Gives an upstream's headers about a unit that the gateway does not limit their other names. Returns how many these are.
fn rename(headers: &mut HeaderMap, names: &Names) -> usize {
    let mut renamed = 0;
    for name in names.all() {
        if let Some(value) = headers.remove(&name.own) {
            headers.insert(name.upstreams.clone(), value);
            renamed += 1;
        }
    }
    renamed
}

/// Gives an upstream's headers about units that only the upstream has other names.
#[cold]
fn rename_others(headers: &mut HeaderMap) {
    let is_own = |name: &HeaderName| {
        [&REQUESTS, &TOKENS].into_iter().flat_map(Names::all).any(|known| known.own == *name)
    };
    let names: Vec<HeaderName> = headers
        .keys()
        .filter(|name| name.as_str().starts_with(BEGINNING) && !is_own(name))
        .cloned()
        .collect();
    for name in names {
        let Some(value) = headers.remove(&name) else { continue };
        if let Ok(other) = HeaderName::try_from(name.as_str().replacen("x-", "x-upstream-", 1)) {
            headers.insert(other, value);
        }
    }
}

/// `HeaderValue::from` allocates twice.
fn number(number: u64) -> Option<HeaderValue> {
    HeaderValue::from_str(itoa::Buffer::new().format(number)).ok()
}

/// A span as OpenAI writes it: `120ms`, `6.5s`, `1m30s`, `26h3m0s`.
fn written(span: Duration) -> String {
    let mut text = String::with_capacity(SPAN);
    let mut digits = itoa::Buffer::new();
    let (seconds, millis) = (span.as_secs(), span.subsec_millis());
    if seconds == 0 {
        text.push_str(digits.format(millis));
        text.push_str("ms");
        return text;
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
    text
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
            assert_eq!(written(Duration::from_millis(millis)), text);
        }
    }

    /// Of 10 units, of which 4 are left.
    const LEFT: Left =
        Left { quantity: 10, at_once: 10, used: 6, remaining: 4, full_in: Duration::from_millis(6_500) };

    fn of_upstream() -> HeaderMap {
        let mut headers = HeaderMap::new();
        headers.insert(&REQUESTS.limit.own, HeaderValue::from(7));
        headers.insert("x-ratelimit-limit-project-tokens", HeaderValue::from(8));
        headers.insert(&TOKENS.reset.own, HeaderValue::from_static("6ms"));
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
            assert_eq!(headers.len(), 3 + own);
            for (names, left) in [(&REQUESTS, left.requests), (&TOKENS, left.tokens)] {
                let written = names.all().map(|name| headers.get(&name.own).map(HeaderValue::as_bytes));
                let expected = [b"10".as_slice(), b"4", b"6.5s"].map(|value| left.map(|_| value));
                assert_eq!(written, expected);
            }
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
        for name in [&REQUESTS, &TOKENS].into_iter().flat_map(Names::all) {
            assert_eq!(name.upstreams.as_str(), name.own.as_str().replacen("x-", "x-upstream-", 1));
        }
    }
}
