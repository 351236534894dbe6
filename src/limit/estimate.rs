//! How many tokens a request will probably use, as far as its size and earlier requests tell. There is no tokenizer: it would cost more than
//! what it could improve, and what is expected is corrected by what is reported anyway.

use std::{
    hash::{BuildHasher, Hasher, RandomState},
    sync::atomic::{AtomicU32, Ordering},
};

use fnv::FnvHasher;

use super::TokenCount;

/// Entries of each table. Two kinds of requests that share an entry are expected to use what both do on average.
const ENTRIES: usize = 4_096;

/// Tokens of an image, a piece of audio or a file, about: an image of 1 megapixel has 765 (OpenAI, "Images and vision") to 1,600 (Anthropic, "Vision").
/// Their bytes say nothing about their tokens.
const ATTACHMENT: u64 = 1_000;

/// No text has more bytes per token: a request with more has something else in it.
const MOST_OF_TEXT: u64 = 16;

/// Bytes of a request per token of input, before anything is known. English text in JSON has about that.
const USUAL_RATIO: f32 = 4.0;

/// Tokens of output before anything is known.
const USUAL_OUTPUT: f32 = 256.0;

/// Tokens in an event of a stream before anything is known.
const USUAL_EVENT: f32 = 1.0;

/// So many requests make up an average: each is one of them until there are as many, and an eighth afterwards.
const MOST_OF_AVERAGE: u32 = 8;

/// Averages of what requests used: of the input by dialect and model, of the output by client and model.
#[derive(Debug)]
pub struct Estimates {
    inputs: Box<[Input]>,
    outputs: Box<[Output]>,
    hash: RandomState,
}

/// The requests that a request is like, by what they use.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Likeness<'a> {
    /// Name of the client; empty on open routes.
    pub client: &'a str,
    /// The dialect that the request is written in, by name.
    pub dialect: &'a str,
    /// The model that is asked for.
    pub model: &'a str,
}

/// Where the averages of requests that are alike are. Found once for each request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct AverageIndex {
    input: usize,
    output: usize,
}

/// What the tokens of a request are estimated from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RequestSize {
    /// Bytes of text.
    pub text: u64,
    /// Images, pieces of audio, and files.
    pub attachments: u64,
    /// Whether bytes per token are learnt from it.
    pub teaches: Teaches,
}

/// Whether bytes per token are learnt from a request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Teaches {
    /// All of its bytes are text.
    Yes,
    /// Nobody has looked for attachments, because nothing depends on them: only if its bytes can be text.
    IfPlausible,
    /// It cannot be read.
    No,
}

/// What a request has used, and what that could have been seen by.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Lesson {
    /// The request.
    pub size: RequestSize,
    /// Events of the response; `None` if it was no stream, or not complete.
    pub events: Option<u64>,
    /// The tokens.
    pub used: TokenCount,
}

/// Averages, as the bits of `f32`s, and how many requests they are of. They are read and written without a lock: an update that is lost by another changes little.
#[derive(Debug)]
struct Input {
    /// Bytes of the request per token of input.
    ratio: AtomicU32,
    /// How many requests have been learnt from; at most [`MOST_OF_AVERAGE`].
    learnt: AtomicU32,
}

/// As [`Input`].
#[derive(Debug)]
struct Output {
    /// Tokens of output.
    tokens: AtomicU32,
    /// How far they are from that on average.
    deviation: AtomicU32,
    /// Tokens of output per event of a stream.
    per_event: AtomicU32,
    /// As [`Input::learnt`].
    learnt: AtomicU32,
    /// The streams among them.
    streams: AtomicU32,
}

impl RequestSize {
    /// A text of so many bytes.
    pub fn of_text(text: u64) -> Self {
        Self { text, attachments: 0, teaches: Teaches::Yes }
    }

    /// Whether its bytes are those of a text of so many `tokens`.
    fn is_text_of(&self, tokens: u64) -> bool {
        let teaches = match self.teaches {
            Teaches::Yes => true,
            Teaches::IfPlausible => self.text <= tokens.saturating_mul(MOST_OF_TEXT),
            Teaches::No => false,
        };
        teaches && self.text > 0 && self.attachments == 0
    }
}

impl Default for Estimates {
    fn default() -> Self {
        let bits = |value: f32| AtomicU32::new(value.to_bits());
        let input = || Input { ratio: bits(USUAL_RATIO), learnt: AtomicU32::new(0) };
        let output = || Output {
            tokens: bits(USUAL_OUTPUT),
            deviation: bits(0.0),
            per_event: bits(USUAL_EVENT),
            learnt: AtomicU32::new(0),
            streams: AtomicU32::new(0),
        };
        Self {
            inputs: (0..ENTRIES).map(|_| input()).collect(),
            outputs: (0..ENTRIES).map(|_| output()).collect(),
            hash: RandomState::new(),
        }
    }
}

impl Estimates {
    /// Where the averages of requests like this are.
    pub fn average_index(&self, like: Likeness<'_>) -> AverageIndex {
        // Clients choose the models, so where these lead is secret; the other names are configured.
        let model = self.hash.hash_one(like.model);
        AverageIndex { input: index(model, like.dialect), output: index(model, like.client) }
    }

    /// What a request of this size will probably use: the average output and its usual deviation.
    pub fn expected(&self, like: AverageIndex, size: RequestSize) -> TokenCount {
        let output =
            self.output(like).map_or(USUAL_OUTPUT, |output| read(&output.tokens) + read(&output.deviation));
        TokenCount { input: self.input_of(like, size), cached_input: 0, output: whole(output) }
    }

    /// The tokens that a request of this size uses on average: without the deviation, so that many requests use as much as is expected of them.
    pub fn usual(&self, like: AverageIndex, size: RequestSize) -> u64 {
        let output = self.output(like).map_or(USUAL_OUTPUT, |output| read(&output.tokens));
        self.input_of(like, size).saturating_add(whole(output))
    }

    fn input_of(&self, like: AverageIndex, size: RequestSize) -> u64 {
        let ratio = self.input(like).map_or(USUAL_RATIO, |input| read(&input.ratio)).max(f32::MIN_POSITIVE);
        whole(size.text as f32 / ratio).saturating_add(size.attachments.saturating_mul(ATTACHMENT))
    }

    /// The tokens that an event of a stream probably has; more than 0.
    pub fn tokens_per_event(&self, like: AverageIndex) -> f32 {
        self.output(like).map_or(USUAL_EVENT, |output| read(&output.per_event)).max(0.01)
    }

    /// Learns what a request has used.
    pub fn learn(&self, like: AverageIndex, lesson: Lesson) {
        let Lesson { size, events, used } = lesson;
        let tokens = used.input.saturating_add(used.cached_input);
        if let Some(input) = self.input(like).filter(|_| tokens > 0 && size.is_text_of(tokens)) {
            // A request whose prompt the provider keeps has few bytes per token.
            let most = MOST_OF_TEXT as f32;
            let ratio = (size.text as f32 / tokens as f32).clamp(0.25, most);
            approach(&input.ratio, ratio, share(&input.learnt));
        }
        let Some(output) = self.output(like) else { return };
        let tokens = used.output as f32;
        let part = share(&output.learnt);
        // The first one is the average, and nothing deviates from it yet.
        let deviation = if part < 1.0 { (tokens - read(&output.tokens)).abs() } else { 0.0 };
        approach(&output.deviation, deviation, part);
        approach(&output.tokens, tokens, part);
        if let Some(events) = events.filter(|events| *events > 0) {
            // What a model thinks may be counted without being sent.
            let per_event = (tokens / events as f32).clamp(0.01, 64.0);
            approach(&output.per_event, per_event, share(&output.streams));
        }
    }

    fn input(&self, like: AverageIndex) -> Option<&Input> {
        self.inputs.get(like.input)
    }

    fn output(&self, like: AverageIndex) -> Option<&Output> {
        self.outputs.get(like.output)
    }
}

/// The entry of a name with a model, by the model's hash.
fn index(model: u64, name: &str) -> usize {
    let mut hash = FnvHasher::with_key(model);
    hash.write(name.as_bytes());
    usize::try_from(hash.finish() % ENTRIES as u64).unwrap_or(0)
}

fn read(bits: &AtomicU32) -> f32 {
    f32::from_bits(bits.load(Ordering::Relaxed))
}

/// The part of an average that one more request makes up: all of it at first, so that what was assumed before anything was known is over with the first
/// request that tells.
fn share(learnt: &AtomicU32) -> f32 {
    let count = learnt.load(Ordering::Relaxed).saturating_add(1).min(MOST_OF_AVERAGE);
    learnt.store(count, Ordering::Relaxed);
    1.0 / count as f32
}

fn approach(average: &AtomicU32, value: f32, part: f32) {
    let before = read(average);
    average.store((before + part * (value - before)).to_bits(), Ordering::Relaxed);
}

/// A number of tokens, rounded up. What is too large for the type is its largest value.
#[expect(clippy::cast_sign_loss, reason = "averages of what is not negative")]
fn whole(tokens: f32) -> u64 {
    tokens.ceil() as u64
}

#[cfg(test)]
mod tests {
    use super::*;

    const TEAM: Likeness<'_> = Likeness { client: "team", dialect: "chat", model: "gpt" };

    fn text(bytes: u64) -> RequestSize {
        RequestSize::of_text(bytes)
    }

    fn used(input: u64, output: u64) -> TokenCount {
        TokenCount { input, cached_input: 0, output }
    }

    fn lesson(bytes: u64, input: u64, output: u64) -> Lesson {
        Lesson { size: text(bytes), events: None, used: used(input, output) }
    }

    #[test]
    fn nothing_known_is_text_and_a_short_answer() {
        let estimates = Estimates::default();
        assert_eq!(estimates.expected(estimates.average_index(TEAM), text(4_000)), used(1_000, 256));
    }

    #[test]
    fn what_a_client_uses_of_a_model_is_learnt() {
        let estimates = Estimates::default();
        for _ in 0..100 {
            estimates.learn(estimates.average_index(TEAM), lesson(8_000, 1_000, 50));
        }
        let expected = estimates.expected(estimates.average_index(TEAM), text(16_000));
        assert!((1_990..=2_010).contains(&expected.input), "{expected:?}");
        assert!((50..=55).contains(&expected.output), "{expected:?}");
    }

    #[test]
    fn the_first_requests_replace_what_was_assumed_and_later_ones_change_an_average_slowly() {
        let estimates = Estimates::default();
        let index = estimates.average_index(TEAM);
        let streamed = |input, output| Lesson { events: Some(10), ..lesson(4_000, input, output) };
        estimates.learn(index, streamed(4_000, 40));
        assert_eq!(estimates.expected(index, text(4_000)), used(4_000, 40));
        assert!((estimates.tokens_per_event(index) - 4.0).abs() < 0.01);
        estimates.learn(index, streamed(4_000, 80));
        // 60 on average; the second differs by 40 from what was the average then, the first by nothing.
        assert_eq!(estimates.expected(index, text(4_000)).output, 60 + 20);
        for _ in 0..100 {
            estimates.learn(index, streamed(4_000, 40));
        }
        estimates.learn(index, streamed(4_000, 440));
        let output = estimates.usual(index, text(4_000)) - 4_000;
        assert!((90..=91).contains(&output), "{output}");
    }

    #[test]
    fn bytes_per_token_are_those_of_the_dialect_and_the_model_and_outputs_those_of_the_client() {
        let estimates = Estimates::default();
        for _ in 0..100 {
            estimates.learn(estimates.average_index(TEAM), lesson(8_000, 1_000, 50));
        }
        let other =
            estimates.expected(estimates.average_index(Likeness { client: "other", ..TEAM }), text(16_000));
        assert!((1_990..=2_010).contains(&other.input), "{other:?}");
        assert_eq!(other.output, 256);
        let dialect = estimates
            .expected(estimates.average_index(Likeness { dialect: "messages", ..TEAM }), text(16_000));
        assert_eq!(dialect.input, 4_000);
        assert!((50..=55).contains(&dialect.output), "{dialect:?}");
    }

    #[test]
    fn outputs_that_vary_are_expected_to_be_longer_than_the_average() {
        let estimates = Estimates::default();
        for _ in 0..100 {
            estimates.learn(estimates.average_index(TEAM), lesson(100, 25, 100));
            estimates.learn(estimates.average_index(TEAM), lesson(100, 25, 900));
        }
        let expected = estimates.expected(estimates.average_index(TEAM), text(100)).output;
        assert!((700..=1_100).contains(&expected), "{expected}");
    }

    #[test]
    fn events_of_several_tokens_are_learnt() {
        let estimates = Estimates::default();
        assert!((estimates.tokens_per_event(estimates.average_index(TEAM)) - 1.0).abs() < f32::EPSILON);
        for _ in 0..100 {
            estimates
                .learn(estimates.average_index(TEAM), Lesson { events: Some(100), ..lesson(100, 25, 800) });
        }
        assert!((7.9..=8.1).contains(&estimates.tokens_per_event(estimates.average_index(TEAM))));
    }

    #[test]
    fn a_cached_prompt_is_input_too() {
        let estimates = Estimates::default();
        for _ in 0..100 {
            let cached = TokenCount { input: 100, cached_input: 900, output: 1 };
            estimates.learn(
                estimates.average_index(TEAM),
                Lesson { size: text(4_000), events: None, used: cached },
            );
        }
        let expected = estimates.expected(estimates.average_index(TEAM), text(4_000)).input;
        assert!((999..=1_001).contains(&expected), "{expected}");
    }

    #[test]
    fn an_attachment_is_not_estimated_by_its_bytes_and_teaches_nothing_about_text() {
        let estimates = Estimates::default();
        let size = RequestSize { text: 400, attachments: 3, teaches: Teaches::Yes };
        assert_eq!(estimates.expected(estimates.average_index(TEAM), size).input, 3_100);
        let of_images = Lesson { size, events: None, used: used(5_000, 1) };
        let unreadable = RequestSize { teaches: Teaches::No, ..text(400) };
        let not_searched = RequestSize { teaches: Teaches::IfPlausible, ..text(1 << 20) };
        for _ in 0..100 {
            estimates.learn(estimates.average_index(TEAM), of_images);
            estimates.learn(estimates.average_index(TEAM), Lesson { size: unreadable, ..of_images });
            estimates.learn(estimates.average_index(TEAM), Lesson { size: not_searched, ..of_images });
        }
        assert_eq!(estimates.expected(estimates.average_index(TEAM), text(4_000)).input, 1_000);
        let not_searched = RequestSize { teaches: Teaches::IfPlausible, ..text(8_000) };
        for _ in 0..100 {
            estimates.learn(
                estimates.average_index(TEAM),
                Lesson { size: not_searched, ..lesson(8_000, 1_000, 1) },
            );
        }
        assert!((499..=501).contains(&estimates.expected(estimates.average_index(TEAM), text(4_000)).input));
    }

    #[test]
    fn nothing_overflows() {
        let estimates = Estimates::default();
        estimates.learn(
            estimates.average_index(TEAM),
            Lesson { events: Some(u64::MAX), ..lesson(u64::MAX, u64::MAX, u64::MAX) },
        );
        estimates.learn(estimates.average_index(TEAM), Lesson { events: Some(0), ..lesson(0, 0, 0) });
        let expected = estimates.expected(estimates.average_index(TEAM), text(u64::MAX));
        assert!(expected.input > 0 && expected.output > 0);
        assert!(estimates.tokens_per_event(estimates.average_index(TEAM)) > 0.0);
    }
}
