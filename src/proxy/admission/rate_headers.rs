//! What is left of a client's limits, in the headers that OpenAI's clients read (OpenAI API reference, "Rate limits in headers").

use std::time::Duration;

use http::{HeaderMap, HeaderName, HeaderValue};

use crate::limit::{Applied, Left, Moment, Unit};

/// The headers of one unit.
struct Names {
    limit: HeaderName,
    remaining: HeaderName,
    reset: HeaderName,
}

const REQUESTS: Names = Names {
    limit: HeaderName::from_static("x-ratelimit-limit-requests"),
    remaining: HeaderName::from_static("x-ratelimit-remaining-requests"),
    reset: HeaderName::from_static("x-ratelimit-reset-requests"),
};

const TOKENS: Names = Names {
    limit: HeaderName::from_static("x-ratelimit-limit-tokens"),
    remaining: HeaderName::from_static("x-ratelimit-remaining-tokens"),
    reset: HeaderName::from_static("x-ratelimit-reset-tokens"),
};

/// The names of OpenAI's headers, and those that an upstream's get beside the gateway's own: made once, because nearly every response has them.
static RENAMED: [(HeaderName, HeaderName); 6] = {
    const fn names(name: &'static str, other: &'static str) -> (HeaderName, HeaderName) {
        (HeaderName::from_static(name), HeaderName::from_static(other))
    }
    [
        names("x-ratelimit-limit-requests", "x-upstream-ratelimit-limit-requests"),
        names("x-ratelimit-limit-tokens", "x-upstream-ratelimit-limit-tokens"),
        names("x-ratelimit-remaining-requests", "x-upstream-ratelimit-remaining-requests"),
        names("x-ratelimit-remaining-tokens", "x-upstream-ratelimit-remaining-tokens"),
        names("x-ratelimit-reset-requests", "x-upstream-ratelimit-reset-requests"),
        names("x-ratelimit-reset-tokens", "x-upstream-ratelimit-reset-tokens"),
    ]
};

/// How the names of all such headers begin, also an upstream's own.
const BEGINNING: &str = "x-ratelimit-";

/// Writes what is left of the tightest of the limits for each unit: the one with the smallest part of its quantity left. Limits that do not
/// enforce say nothing.
pub(super) fn write<'a>(
    headers: &mut HeaderMap,
    applying: &(impl Iterator<Item = &'a Applied> + Clone),
    now: Moment,
) {
    let enforced = || applying.clone().filter(|applied| applied.limit.enforce);
    let left_of = |unit| tightest(enforced().filter_map(|one| one.counter.left(&one.limit, unit, now)));
    if let Some(requests) = left_of(Unit::Requests) {
        insert(headers, &REQUESTS, requests);
    }
    if let Some(tokens) = left_of(Unit::Tokens) {
        insert(headers, &TOKENS, tokens);
    }
}

/// Gives the headers of the upstream's own limits other names, where those of the gateway's take theirs.
pub(in crate::proxy) fn rename_upstreams(headers: &mut HeaderMap, own: &HeaderMap) {
    if !own.contains_key(REQUESTS.limit) && !own.contains_key(TOKENS.limit) {
        return;
    }
    for (name, other) in &RENAMED {
        if let Some(value) = headers.remove(name) {
            headers.insert(other.clone(), value);
        }
    }
    let names: Vec<HeaderName> =
        headers.keys().filter(|name| name.as_str().starts_with(BEGINNING)).cloned().collect();
    for name in names {
        let Some(value) = headers.remove(&name) else { continue };
        if let Ok(other) = HeaderName::try_from(name.as_str().replacen("x-", "x-upstream-", 1)) {
            headers.insert(other, value);
        }
    }
}

/// The one of which the smallest part is left.
fn tightest(all: impl Iterator<Item = Left>) -> Option<Left> {
    // a ÷ b < c ÷ d, without a division.
    let is_tighter = |one: &Left, other: &Left| {
        u128::from(one.remaining) * u128::from(other.quantity)
            < u128::from(other.remaining) * u128::from(one.quantity)
    };
    all.reduce(|one, other| if is_tighter(&other, &one) { other } else { one })
}

fn insert(headers: &mut HeaderMap, names: &Names, left: Left) {
    headers.insert(names.limit.clone(), HeaderValue::from(left.quantity));
    headers.insert(names.remaining.clone(), HeaderValue::from(left.remaining));
    if let Ok(reset) = HeaderValue::try_from(written(left.full_in)) {
        headers.insert(names.reset.clone(), reset);
    }
}

/// A span as OpenAI writes it: `120ms`, `6.5s`, `1m30s`, `26h3m0s`.
fn written(span: Duration) -> String {
    let millis = span.as_millis();
    if millis < 1_000 {
        return format!("{millis}ms");
    }
    let (hours, minutes, rest) = (millis / 3_600_000, millis / 60_000 % 60, millis % 60_000);
    let seconds = match (rest / 1_000, rest % 1_000) {
        (whole, 0) => format!("{whole}s"),
        (whole, part) => format!("{}s", format!("{whole}.{part:03}").trim_end_matches('0')),
    };
    match (hours, minutes) {
        (0, 0) => seconds,
        (0, minutes) => format!("{minutes}m{seconds}"),
        (hours, minutes) => format!("{hours}h{minutes}m{seconds}"),
    }
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
        ] {
            assert_eq!(written(Duration::from_millis(millis)), text);
        }
    }

    #[test]
    fn the_tightest_limit_is_the_one_with_the_smallest_part_left() {
        let left = |quantity, remaining| Left {
            quantity,
            at_once: quantity,
            used: quantity.saturating_sub(remaining),
            remaining,
            full_in: Duration::ZERO,
        };
        let all = [left(100, 50), left(10, 4), left(1_000, 900)];
        assert_eq!(tightest(all.into_iter()), Some(left(10, 4)));
        assert_eq!(tightest(std::iter::empty()), None);
    }

    #[test]
    fn an_upstreams_headers_keep_their_values_under_other_names() {
        let mut headers = HeaderMap::new();
        headers.insert(&REQUESTS.limit, HeaderValue::from(7));
        headers.insert("x-ratelimit-limit-project-tokens", HeaderValue::from(8));
        headers.insert(&TOKENS.reset, HeaderValue::from_static("6ms"));
        let before = headers.clone();
        rename_upstreams(&mut headers, &HeaderMap::new());
        assert_eq!(headers, before, "without limits of the gateway they pass as they are");
        let mut own = HeaderMap::new();
        own.insert(&TOKENS.limit, HeaderValue::from(1));
        rename_upstreams(&mut headers, &own);
        assert_eq!(headers["x-upstream-ratelimit-limit-requests"], "7");
        assert_eq!(headers["x-upstream-ratelimit-limit-project-tokens"], "8");
        assert_eq!(headers["x-upstream-ratelimit-reset-tokens"], "6ms");
        assert_eq!(headers.len(), 3);
        for (name, other) in &RENAMED {
            assert_eq!(other.as_str(), name.as_str().replacen("x-", "x-upstream-", 1));
        }
    }
}
