//! What is left of a key's quota, according to the headers of its provider's responses.
//!
//! Sources: OpenAI's guide to rate limits and Groq's documentation (`x-ratelimit-remaining-requests`, `x-ratelimit-limit-tokens`, …), Azure
//! OpenAI's quota documentation (the same names), OpenRouter's (`x-ratelimit-remaining`), Anthropic's on rate limits
//! (`anthropic-ratelimit-input-tokens-remaining`).

use std::{
    sync::atomic::{AtomicU64, Ordering},
    time::Instant,
};

use http::HeaderMap;

/// A number that no provider has named.
const UNKNOWN: u64 = u64::MAX;

/// What providers count, as the label of metrics has it.
const QUOTA_UNITS: [&str; 4] = ["requests", "tokens", "input_tokens", "output_tokens"];

/// The last numbers that a provider has named for a key. Where a provider counts each model alone, they are those of the last response.
#[derive(Debug)]
pub struct Quota {
    born: Instant,
    /// Seconds after `born` when the headers were read last, plus 1.
    read: AtomicU64,
    /// In the order of [`QUOTA_UNITS`].
    numbers: [QuotaNumbers; QUOTA_UNITS.len()],
}

#[derive(Debug)]
struct QuotaNumbers {
    remaining: AtomicU64,
    limit: AtomicU64,
}

/// The quota of one unit.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct QuotaLeft {
    /// One of [`QUOTA_UNITS`].
    pub unit: &'static str,
    /// What is left.
    pub remaining: Option<u64>,
    /// What the provider allows in its span of time.
    pub limit: Option<u64>,
}

/// Which number a header names.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Which {
    Remaining,
    Limit,
}

impl Quota {
    /// Reads the headers of a response that arrived at `now`, at most once a second: a scrape needs no more, and a request pays nothing.
    pub fn note(&self, headers: &HeaderMap, now: Instant) {
        let second = now.saturating_duration_since(self.born).as_secs() + 1;
        if self.read.load(Ordering::Relaxed) == second {
            return;
        }
        self.read.store(second, Ordering::Relaxed);
        for (name, value) in headers {
            let Some((unit, which)) = named(name.as_str()) else { continue };
            let Some(number) = value.to_str().ok().and_then(|text| text.trim().parse::<u64>().ok()) else {
                continue;
            };
            if let Some(numbers) = self.numbers.get(unit) {
                numbers.of(which).store(number, Ordering::Relaxed);
            }
        }
    }

    /// The units of which anything is known.
    pub fn left(&self) -> impl Iterator<Item = QuotaLeft> {
        let known =
            |number: &AtomicU64| Some(number.load(Ordering::Relaxed)).filter(|number| *number != UNKNOWN);
        let all = QUOTA_UNITS.into_iter().zip(&self.numbers).map(move |(unit, numbers)| QuotaLeft {
            unit,
            remaining: known(&numbers.remaining),
            limit: known(&numbers.limit),
        });
        all.filter(|left| left.remaining.is_some() || left.limit.is_some())
    }
}

impl Default for Quota {
    fn default() -> Self {
        let unknown = || QuotaNumbers { remaining: AtomicU64::new(UNKNOWN), limit: AtomicU64::new(UNKNOWN) };
        Self { born: Instant::now(), read: AtomicU64::new(0), numbers: std::array::from_fn(|_| unknown()) }
    }
}

impl QuotaNumbers {
    fn of(&self, which: Which) -> &AtomicU64 {
        match which {
            Which::Remaining => &self.remaining,
            Which::Limit => &self.limit,
        }
    }
}

/// The unit, as an index into [`QUOTA_UNITS`], and the number that a header of this name is about.
fn named(name: &str) -> Option<(usize, Which)> {
    if let Some(rest) = name.strip_prefix("x-ratelimit-") {
        let (which, unit) = rest.split_once('-').unwrap_or((rest, "requests"));
        return Some((unit_of(unit)?, which_of(which)?));
    }
    let (unit, which) = name.strip_prefix("anthropic-ratelimit-")?.rsplit_once('-')?;
    Some((unit_of(unit)?, which_of(which)?))
}

fn which_of(word: &str) -> Option<Which> {
    match word {
        "remaining" => Some(Which::Remaining),
        "limit" => Some(Which::Limit),
        _ => None,
    }
}

fn unit_of(word: &str) -> Option<usize> {
    match word {
        "requests" => Some(0),
        "tokens" => Some(1),
        "input-tokens" => Some(2),
        "output-tokens" => Some(3),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use http::{HeaderName, HeaderValue};

    use super::*;

    fn headers(of: &[(&'static str, &'static str)]) -> HeaderMap {
        let pair = |(name, value): &(&'static str, &'static str)| {
            (HeaderName::from_static(name), HeaderValue::from_static(value))
        };
        of.iter().map(pair).collect()
    }

    fn left(quota: &Quota) -> Vec<(&'static str, Option<u64>, Option<u64>)> {
        quota.left().map(|left| (left.unit, left.remaining, left.limit)).collect()
    }

    #[test]
    fn the_headers_of_each_provider_are_read() {
        for (sent, read) in [
            (
                &[
                    ("x-ratelimit-limit-requests", "10000"),
                    ("x-ratelimit-remaining-requests", "9999"),
                    ("x-ratelimit-remaining-tokens", "149984"),
                    ("x-ratelimit-reset-tokens", "6m0s"),
                ][..],
                vec![("requests", Some(9999), Some(10000)), ("tokens", Some(149_984), None)],
            ),
            (
                &[
                    ("anthropic-ratelimit-input-tokens-remaining", "40000"),
                    ("anthropic-ratelimit-requests-limit", "50"),
                ],
                vec![("requests", None, Some(50)), ("input_tokens", Some(40000), None)],
            ),
            (&[("x-ratelimit-remaining", "7")], vec![("requests", Some(7), None)]),
            (&[("x-ratelimit-remaining-requests", "many"), ("x-ratelimit-remaining-images", "1")], vec![]),
        ] {
            let quota = Quota::default();
            quota.note(&headers(sent), Instant::now());
            assert_eq!(left(&quota), read);
        }
    }

    #[test]
    fn headers_are_read_once_a_second() {
        let (quota, now) = (Quota::default(), Instant::now());
        for (after, value) in [(0, "9"), (100, "8"), (1100, "7")] {
            quota.note(
                &headers(&[("x-ratelimit-remaining-requests", value)]),
                now + Duration::from_millis(after),
            );
            let expected = if after < 1000 { 9 } else { 7 };
            assert_eq!(left(&quota), [("requests", Some(expected), None)]);
        }
    }
}
