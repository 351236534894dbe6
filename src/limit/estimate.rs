//! How many tokens a request will probably use, as far as its size and earlier requests tell. There is no tokenizer: it would cost more than
//! what it could improve, and what is expected is corrected by what is reported anyway.

use std::{
    hash::{BuildHasher, RandomState},
    sync::atomic::{AtomicU32, Ordering},
};

use super::TokenCount;

/// Entries of the table. Two kinds of requests that share an entry are expected to use what both do on average.
const ENTRIES: usize = 4_096;

/// Bytes of a request per token of input, before anything is known. English text in JSON has about that.
const USUAL_RATIO: f32 = 4.0;

/// Tokens of output before anything is known.
const USUAL_OUTPUT: f32 = 256.0;

/// The part of an average that one request makes up.
const SHARE: f32 = 0.125;

/// Averages of what requests of one kind used. A kind is a client and a model.
#[derive(Debug)]
pub struct Estimates {
    entries: Box<[Entry]>,
    hash: RandomState,
}

/// Averages, as the bits of `f32`s. They are read and written without a lock: an update that is lost by another changes little.
#[derive(Debug)]
struct Entry {
    /// Bytes of the request per token of input.
    ratio: AtomicU32,
    /// Tokens of output.
    output: AtomicU32,
    /// How far they are from that on average.
    deviation: AtomicU32,
}

impl Default for Estimates {
    fn default() -> Self {
        let entry = || Entry {
            ratio: AtomicU32::new(USUAL_RATIO.to_bits()),
            output: AtomicU32::new(USUAL_OUTPUT.to_bits()),
            deviation: AtomicU32::new(0),
        };
        Self { entries: (0..ENTRIES).map(|_| entry()).collect(), hash: RandomState::new() }
    }
}

impl Estimates {
    /// What a request of `bytes` will probably use: the average output and its usual deviation.
    pub fn expected(&self, client: &str, model: &str, bytes: u64) -> TokenCount {
        let Some(entry) = self.entry(client, model) else { return TokenCount::default() };
        let ratio = read(&entry.ratio).max(f32::MIN_POSITIVE);
        let output = read(&entry.output) + read(&entry.deviation);
        TokenCount { input: whole(bytes as f32 / ratio), cached_input: 0, output: whole(output) }
    }

    /// The tokens that a request of `bytes` uses on average: without the deviation, so that many requests use as much as is expected of them.
    pub fn usual(&self, client: &str, model: &str, bytes: u64) -> u64 {
        let Some(entry) = self.entry(client, model) else { return 1 };
        let ratio = read(&entry.ratio).max(f32::MIN_POSITIVE);
        whole(bytes as f32 / ratio).saturating_add(whole(read(&entry.output)))
    }

    /// Learns what a request of `bytes` has used.
    pub fn learn(&self, client: &str, model: &str, bytes: u64, used: TokenCount) {
        let Some(entry) = self.entry(client, model) else { return };
        let input = used.input.saturating_add(used.cached_input);
        if input > 0 && bytes > 0 {
            // A request with an image has many bytes per token, and one whose prompt the provider keeps few.
            approach(&entry.ratio, (bytes as f32 / input as f32).clamp(0.25, 4_096.0));
        }
        let output = used.output as f32;
        approach(&entry.deviation, (output - read(&entry.output)).abs());
        approach(&entry.output, output);
    }

    fn entry(&self, client: &str, model: &str) -> Option<&Entry> {
        let hash = self.hash.hash_one((client, model));
        self.entries.get(usize::try_from(hash % ENTRIES as u64).unwrap_or(0))
    }
}

fn read(bits: &AtomicU32) -> f32 {
    f32::from_bits(bits.load(Ordering::Relaxed))
}

fn approach(average: &AtomicU32, value: f32) {
    let before = read(average);
    average.store((before + SHARE * (value - before)).to_bits(), Ordering::Relaxed);
}

/// A number of tokens, rounded up. What is too large for the type is its largest value.
#[expect(clippy::cast_sign_loss, reason = "averages of what is not negative")]
fn whole(tokens: f32) -> u64 {
    tokens.ceil() as u64
}

#[cfg(test)]
mod tests {
    use super::*;

    fn used(input: u64, output: u64) -> TokenCount {
        TokenCount { input, cached_input: 0, output }
    }

    #[test]
    fn nothing_known_is_text_and_a_short_answer() {
        assert_eq!(Estimates::default().expected("team", "gpt", 4_000), used(1_000, 256));
    }

    #[test]
    fn what_a_client_uses_of_a_model_is_learnt() {
        let estimates = Estimates::default();
        for _ in 0..100 {
            estimates.learn("team", "gpt", 8_000, used(1_000, 50));
        }
        let expected = estimates.expected("team", "gpt", 16_000);
        assert!((1_990..=2_010).contains(&expected.input), "{expected:?}");
        assert!((50..=55).contains(&expected.output), "{expected:?}");
    }

    #[test]
    fn outputs_that_vary_are_expected_to_be_longer_than_the_average() {
        let estimates = Estimates::default();
        for _ in 0..100 {
            estimates.learn("team", "gpt", 100, used(25, 100));
            estimates.learn("team", "gpt", 100, used(25, 900));
        }
        let expected = estimates.expected("team", "gpt", 100).output;
        assert!((700..=1_100).contains(&expected), "{expected}");
    }

    #[test]
    fn a_cached_prompt_is_input_too() {
        let estimates = Estimates::default();
        for _ in 0..100 {
            let cached = TokenCount { input: 100, cached_input: 900, output: 1 };
            estimates.learn("team", "gpt", 4_000, cached);
        }
        let expected = estimates.expected("team", "gpt", 4_000).input;
        assert!((999..=1_001).contains(&expected), "{expected}");
    }

    #[test]
    fn nothing_overflows() {
        let estimates = Estimates::default();
        estimates.learn("team", "gpt", u64::MAX, used(u64::MAX, u64::MAX));
        estimates.learn("team", "gpt", 0, used(0, 0));
        let expected = estimates.expected("team", "gpt", u64::MAX);
        assert!(expected.input > 0 && expected.output > 0);
    }
}
