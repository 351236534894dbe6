//! The wait that an upstream names: in headers, or in the body of an error.

use std::time::{Duration, SystemTime};

use http::{HeaderMap, HeaderName, HeaderValue, header};

use super::error_body::ErrorBody;

/// The longest wait that is passed on. openai-node sleeps for as long as a response says (`client.ts`); the AI SDK heeds a wait only if it is
/// shorter than a minute (`retry-with-exponential-backoff.ts`).
const LONGEST_WAIT: Duration = Duration::from_secs(59);

const RETRY_AFTER_MS: HeaderName = HeaderName::from_static("retry-after-ms");

/// A number above this is not a span but a time since 1970, in seconds.
const EPOCH_SECONDS: f64 = 1e9;
/// The same in milliseconds.
const EPOCH_MILLISECONDS: f64 = 1e12;

/// How long to wait before the next request, according to the upstream: `retry-after-ms`, `retry-after`, Google's `retryDelay`, or the date in
/// Anthropic's message about a spending limit. A wait of zero means now.
pub(super) fn named(headers: &HeaderMap, body: Option<&ErrorBody>) -> Option<Duration> {
    if let Some(wait) = milliseconds(headers).or_else(|| retry_after(headers)) {
        return Some(wait);
    }
    let body = body?;
    body.retry_delay().and_then(span).or_else(|| until_access(body.message()))
}

/// How long a rate limit lasts according to the headers that describe limits. Providers send them with every response, so they tell a wait only
/// when a limit was the reason. OpenAI, Groq: `x-ratelimit-reset-requests: 1s`, `x-ratelimit-reset-tokens: 6m0s` (OpenAI's guide to rate limits,
/// Groq's documentation). Azure: seconds. Anthropic: `anthropic-ratelimit-tokens-reset: 2026-01-27T12:00:30Z`. OpenRouter: `x-ratelimit-reset` in
/// milliseconds since 1970.
///
/// The limits that have nothing left decide, of several the one that lasts longest. If all have something left, the error is about another
/// limit, of which the headers say nothing. If it cannot be told of any, the one that lasts longest counts.
pub(super) fn of_limits(headers: &HeaderMap) -> Option<Duration> {
    let limits = headers.iter().filter_map(|(name, value)| {
        let remaining = remaining_name(name.as_str())?;
        let reset = moment(value.to_str().ok()?)?;
        match headers.get(remaining) {
            Some(left) if left != "0" => None,
            known => Some((known.is_some(), reset)),
        }
    });
    // True is larger than false.
    limits.max().map(|(_, reset)| reset)
}

/// Shortens the waits in `headers` to the longest that is passed on.
pub(super) fn cap(headers: &mut HeaderMap) {
    if milliseconds(headers).is_some_and(|wait| wait > LONGEST_WAIT) {
        headers.remove(RETRY_AFTER_MS);
        headers.insert(header::RETRY_AFTER, HeaderValue::from(LONGEST_WAIT.as_secs()));
    }
    if retry_after(headers).is_some_and(|wait| wait > LONGEST_WAIT) {
        headers.insert(header::RETRY_AFTER, HeaderValue::from(LONGEST_WAIT.as_secs()));
    }
}

fn milliseconds(headers: &HeaderMap) -> Option<Duration> {
    let number: f64 = headers.get(RETRY_AFTER_MS)?.to_str().ok()?.trim().parse().ok()?;
    seconds(number / 1000.0)
}

/// `retry-after` in seconds or as a date (RFC 9110 §10.2.3).
fn retry_after(headers: &HeaderMap) -> Option<Duration> {
    let text = headers.get(header::RETRY_AFTER)?.to_str().ok()?.trim();
    if let Ok(date) = httpdate::parse_http_date(text) {
        return Some(until(date));
    }
    moment(text)
}

/// `… You will regain access on 2026-04-01 at 00:00 UTC.` (anthropics/claude-code#2127)
fn until_access(message: &str) -> Option<Duration> {
    let (_, moment) = message.split_once("You will regain access on ")?;
    let (date, rest) = moment.split_once(" at ")?;
    let (time, _) = rest.split_once(" UTC")?;
    humantime::parse_rfc3339(&[date, "T", time, ":00Z"].concat()).ok().map(until)
}

/// The name of the header that says how much is left of the limit whose reset is in the header `name`.
fn remaining_name(name: &str) -> Option<String> {
    let limit = name.strip_prefix("x-ratelimit-reset").map(|limit| ["x-ratelimit-remaining", limit].concat());
    let anthropic = || {
        let limit = name.strip_prefix("anthropic-ratelimit-")?.strip_suffix("-reset")?;
        Some(["anthropic-ratelimit-", limit, "-remaining"].concat())
    };
    limit.or_else(anthropic)
}

/// The time until the moment that `text` describes: a span, a number of seconds, or a time of the wall clock.
fn moment(text: &str) -> Option<Duration> {
    if let Ok(number) = text.parse::<f64>() {
        let since_epoch = match number {
            EPOCH_MILLISECONDS.. => number / 1000.0,
            EPOCH_SECONDS.. => number,
            _ => return seconds(number),
        };
        return Some(SystemTime::UNIX_EPOCH.checked_add(seconds(since_epoch)?).map_or(Duration::MAX, until));
    }
    let in_utc = text.strip_suffix("+00:00").map_or_else(|| text.into(), |time| [time, "Z"].concat());
    span(text).or_else(|| humantime::parse_rfc3339_weak(&in_utc).ok().map(until))
}

/// `text` as a span in Go's form, for example `1m30s`, `2m59.56s` or `6ms`.
fn span(text: &str) -> Option<Duration> {
    let mut rest = text.trim();
    let mut total = 0.0;
    while !rest.is_empty() {
        let digits = rest.find(|sign: char| !sign.is_ascii_digit() && sign != '.')?;
        let number: f64 = rest[..digits].parse().ok()?;
        let after = &rest[digits..];
        let unit = after.find(|sign: char| sign.is_ascii_digit()).unwrap_or(after.len());
        total += number * seconds_of(&after[..unit])?;
        rest = &after[unit..];
    }
    (!text.is_empty()).then(|| seconds(total)).flatten()
}

fn seconds_of(unit: &str) -> Option<f64> {
    Some(match unit {
        "d" => 86_400.0,
        "h" => 3_600.0,
        "m" => 60.0,
        "s" => 1.0,
        "ms" => 1e-3,
        "us" | "µs" => 1e-6,
        "ns" => 1e-9,
        _ => return None,
    })
}

/// A negative number means now; one that is too large for a Duration becomes the longest Duration.
fn seconds(number: f64) -> Option<Duration> {
    let number = if number.is_nan() { return None } else { number.max(0.0) };
    Some(Duration::try_from_secs_f64(number).unwrap_or(Duration::MAX))
}

/// The time until `then`: zero if that has passed.
fn until(then: SystemTime) -> Duration {
    then.duration_since(SystemTime::now()).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn headers(lines: &[(&'static str, &str)]) -> HeaderMap {
        let line = |(name, value): &(&'static str, &str)| {
            (HeaderName::from_static(name), HeaderValue::from_str(value).unwrap())
        };
        lines.iter().map(line).collect()
    }

    fn secs(seconds: f64) -> Option<Duration> {
        Some(Duration::from_secs_f64(seconds))
    }

    #[test]
    fn every_form_of_a_wait_is_read() {
        for (name, value, expected) in [
            ("retry-after", "7", secs(7.0)),
            ("retry-after", "0.5", secs(0.5)),
            ("retry-after", "0", secs(0.0)),
            ("retry-after", "-3", secs(0.0)),
            ("retry-after", "20s", secs(20.0)),
            ("retry-after", "Fri, 01 Jan 2010 00:00:00 GMT", secs(0.0)),
            ("retry-after", "soon", None),
            ("retry-after", "NaN", None),
            ("retry-after", "", None),
            ("retry-after", "1e300", Some(Duration::MAX)),
            ("retry-after-ms", "1500", secs(1.5)),
            ("retry-after-ms", "-1", secs(0.0)),
        ] {
            assert_eq!(named(&headers(&[(name, value)]), None), expected, "{name}: {value}");
        }
        let both = headers(&[("retry-after-ms", "200"), ("retry-after", "60")]);
        assert_eq!(named(&both, None), secs(0.2));
        let unusable = headers(&[("retry-after-ms", "?"), ("retry-after", "60")]);
        assert_eq!(named(&unusable, None), secs(60.0));
        let later = httpdate::fmt_http_date(SystemTime::now() + Duration::from_secs(100));
        let wait = named(&headers(&[("retry-after", &later)]), None).unwrap();
        assert!((90..=100).contains(&wait.as_secs()), "{wait:?}");
    }

    #[test]
    fn googles_delay_is_read_in_the_body_also_in_an_array() {
        let error = r#"{"error":{"code":429,"status":"RESOURCE_EXHAUSTED","details":[
            {"@type":"type.googleapis.com/google.rpc.QuotaFailure","violations":[]},
            {"@type":"type.googleapis.com/google.rpc.RetryInfo","retryDelay":"34.5s"}]}}"#;
        for body in [error.to_owned(), format!("[{error}]")] {
            let body = ErrorBody::read(body.as_bytes());
            assert_eq!(named(&HeaderMap::new(), body.as_ref()), secs(34.5));
        }
    }

    #[test]
    fn the_end_of_a_spending_limit_is_read_in_its_message() {
        let then = SystemTime::now() + Duration::from_secs(7200);
        let then = humantime::format_rfc3339_seconds(then).to_string();
        let (date, time) = (&then[..10], &then[11..16]);
        let limited = |moment: &str| {
            let message = format!(
                "You have reached your specified API usage limits. You will regain access on {moment}."
            );
            let body = serde_json::json!({"error": {"type": "invalid_request_error", "message": message}});
            named(&HeaderMap::new(), ErrorBody::read(body.to_string().as_bytes()).as_ref())
        };
        let wait = limited(&format!("{date} at {time} UTC")).unwrap();
        assert!((7100..=7200).contains(&wait.as_secs()), "{wait:?}");
        assert_eq!(limited("2010-01-01 at 00:00 UTC"), secs(0.0));
        assert_eq!(limited("some day at noon UTC"), None);
    }

    #[test]
    fn the_limit_that_has_nothing_left_says_how_long_it_lasts() {
        let both = |requests: &'static str, tokens: &'static str| {
            of_limits(&headers(&[
                ("x-ratelimit-remaining-requests", requests),
                ("x-ratelimit-reset-requests", "6m0s"),
                ("x-ratelimit-remaining-tokens", tokens),
                ("x-ratelimit-reset-tokens", "6ms"),
            ]))
        };
        assert_eq!(both("0", "7"), secs(360.0));
        assert_eq!(both("9", "0"), secs(0.006));
        assert_eq!(both("0", "0"), secs(360.0));
        assert_eq!(both("9", "7"), None, "another limit is reached");
        for (value, expected) in [
            ("1m30s", 90.0),
            ("2m59.56s", 179.56),
            ("1h2m3s", 3723.0),
            ("60", 60.0),
            ("7.66s", 7.66),
            ("0s", 0.0),
        ] {
            let reset = of_limits(&headers(&[("x-ratelimit-reset-tokens", value)]));
            assert_eq!(
                reset.map(|reset| reset.as_millis()),
                secs(expected).map(|reset| reset.as_millis()),
                "{value}"
            );
        }
        assert_eq!(of_limits(&headers(&[("x-ratelimit-reset-tokens", "later")])), None);
        assert_eq!(of_limits(&headers(&[("x-ratelimit-limit-tokens", "60")])), None);
    }

    #[test]
    fn a_limits_time_of_the_wall_clock_is_read() {
        let then = SystemTime::now() + Duration::from_secs(100);
        let rfc3339 = humantime::format_rfc3339_seconds(then).to_string();
        let milliseconds = then.duration_since(SystemTime::UNIX_EPOCH).unwrap().as_millis().to_string();
        for (name, value) in [
            ("anthropic-ratelimit-output-tokens-reset", rfc3339.clone()),
            ("anthropic-ratelimit-output-tokens-reset", rfc3339.replace('Z', "+00:00")),
            ("x-ratelimit-reset", milliseconds),
        ] {
            let wait = of_limits(&headers(&[(name, &value)])).unwrap();
            assert!((90..=100).contains(&wait.as_secs()), "{name}: {value}: {wait:?}");
        }
        let past = headers(&[("anthropic-ratelimit-tokens-reset", "2010-01-01T00:00:00Z")]);
        assert_eq!(of_limits(&past), secs(0.0));
    }

    #[test]
    fn what_is_passed_on_is_shorter_than_a_minute() {
        for (lines, capped) in [
            (vec![("retry-after", "3600")], vec![("retry-after", "59")]),
            (vec![("retry-after", "60")], vec![("retry-after", "59")]),
            (vec![("retry-after-ms", "60000")], vec![("retry-after", "59")]),
            (
                vec![("retry-after-ms", "5000"), ("retry-after", "99")],
                vec![("retry-after-ms", "5000"), ("retry-after", "59")],
            ),
            (vec![("retry-after", "30")], vec![("retry-after", "30")]),
            (vec![("retry-after", "Fri, 01 Jan 2100 00:00:00 GMT")], vec![("retry-after", "59")]),
        ] {
            let mut given = headers(&lines);
            cap(&mut given);
            assert_eq!(given, headers(&capped), "{lines:?}");
        }
    }
}
