use super::super::json;
use super::CachedTokens::{BesideInput, PartOfInput};
use super::*;

fn usage(cached_tokens: CachedTokens, json: &str) -> Option<Usage> {
    let mut tokens = Tokens::default();
    json::read(json.as_bytes(), &mut tokens).unwrap();
    tokens.usage(cached_tokens)
}

const fn of(input: u64, output: u64) -> Usage {
    Usage {
        input: Some(input),
        output: Some(output),
        total: Some(input + output),
        cached_input: None,
        cache_write: None,
        cache_write_1h: None,
        reasoning: None,
        audio_input: None,
        audio_output: None,
        audio: None,
    }
}

/// Input, cached input, cache write, output, reasoning.
fn classes(of: [Option<u64>; 5]) -> TokenClasses {
    let [input, cached_input, cache_write, output, reasoning] = of;
    TokenClasses { input, cached_input, cache_write, output, reasoning, ..TokenClasses::default() }
}

/// All tokens, as classes that do not overlap have them.
fn sum(classes: TokenClasses) -> u64 {
    let TokenClasses {
        input,
        cached_input,
        cache_write,
        cache_write_1h,
        output,
        reasoning,
        audio_input,
        audio_output,
    } = classes;
    [input, cached_input, cache_write, cache_write_1h, output, reasoning, audio_input, audio_output]
        .into_iter()
        .flatten()
        .sum()
}

/// How a dialect counts the cache, an object of `usage`, its meaning, and its classes.
type Shape = (CachedTokens, &'static str, Usage, [Option<u64>; 5]);

/// Each provider's own object.
const SHAPES: &[Shape] = &[
    // OpenAI API reference, chat completion object.
    (
        PartOfInput,
        r#"{"prompt_tokens":19,"completion_tokens":10,"total_tokens":29,
            "prompt_tokens_details":{"cached_tokens":7,"audio_tokens":0},
            "completion_tokens_details":{"reasoning_tokens":3,"accepted_prediction_tokens":0}}"#,
        Usage { cached_input: Some(7), reasoning: Some(3), audio_input: Some(0), ..of(19, 10) },
        [Some(12), Some(7), None, Some(7), Some(3)],
    ),
    // OpenAI API reference, response object.
    (
        PartOfInput,
        r#"{"input_tokens":36,"input_tokens_details":{"cached_tokens":0,"cache_write_tokens":6},"output_tokens":87,
            "output_tokens_details":{"reasoning_tokens":64},"total_tokens":123}"#,
        Usage { cached_input: Some(0), cache_write: Some(6), reasoning: Some(64), ..of(36, 87) },
        [Some(30), Some(0), Some(6), Some(23), Some(64)],
    ),
    // OpenAI API reference, `image_generation.completed`.
    (
        PartOfInput,
        r#"{"total_tokens":100,"input_tokens":50,"output_tokens":50,"input_tokens_details":{"text_tokens":10,"image_tokens":40}}"#,
        of(50, 50),
        [Some(50), None, None, Some(50), None],
    ),
    // OpenAI API reference, `transcript.text.done`.
    (
        PartOfInput,
        r#"{"type":"tokens","input_tokens":14,"input_token_details":{"text_tokens":0,"audio_tokens":14},"output_tokens":31,"total_tokens":45}"#,
        Usage { audio_input: Some(14), ..of(14, 31) },
        [Some(0), None, None, Some(31), None],
    ),
    // OpenAI API reference, Realtime `response.done`.
    (
        PartOfInput,
        r#"{"total_tokens":275,"input_tokens":127,"output_tokens":148,"input_token_details":{"cached_tokens":64,"text_tokens":119,"audio_tokens":8,"cached_tokens_details":{"text_tokens":64,"audio_tokens":0}},"output_token_details":{"text_tokens":36,"audio_tokens":112}}"#,
        Usage { cached_input: Some(64), audio_input: Some(8), audio_output: Some(112), ..of(127, 148) },
        [Some(55), Some(64), None, Some(36), None],
    ),
    // OpenAI API reference, embeddings: there is no output, and the total says so.
    (PartOfInput, r#"{"prompt_tokens":8,"total_tokens":8}"#, of(8, 0), [Some(8), None, None, Some(0), None]),
    // Anthropic API reference, message object.
    (
        BesideInput,
        r#"{"input_tokens":5,"cache_creation_input_tokens":100,"cache_read_input_tokens":1000,"output_tokens":2}"#,
        Usage { cached_input: Some(1000), cache_write: Some(100), ..of(1105, 2) },
        [Some(5), Some(1000), Some(100), Some(2), None],
    ),
    (
        BesideInput,
        r#"{"input_tokens":2048,"cache_read_input_tokens":1800,"cache_creation_input_tokens":248,"output_tokens":503,
            "cache_creation":{"ephemeral_5m_input_tokens":148,"ephemeral_1h_input_tokens":100},
            "output_tokens_details":{"thinking_tokens":300},"server_tool_use":{"web_search_requests":1},"service_tier":"standard"}"#,
        Usage {
            cached_input: Some(1800),
            cache_write: Some(248),
            cache_write_1h: Some(100),
            reasoning: Some(300),
            ..of(4096, 503)
        },
        [Some(2048), Some(1800), Some(148), Some(203), Some(300)],
    ),
    (
        BesideInput,
        r#"{"input_tokens":1,"cache_creation":{"ephemeral_5m_input_tokens":148,"ephemeral_1h_input_tokens":100},"output_tokens":2}"#,
        Usage { cache_write: Some(248), cache_write_1h: Some(100), ..of(249, 2) },
        [Some(1), None, Some(148), Some(2), None],
    ),
    // DeepSeek API docs, chat completion object.
    (
        PartOfInput,
        r#"{"prompt_tokens":30,"completion_tokens":10,"total_tokens":40,"prompt_cache_hit_tokens":20,"prompt_cache_miss_tokens":10}"#,
        Usage { cached_input: Some(20), ..of(30, 10) },
        [Some(10), Some(20), None, Some(10), None],
    ),
    // vercel/ai#1651, `x_groq.usage`.
    (
        PartOfInput,
        r#"{"queue_time":0.07535312,"prompt_tokens":23,"prompt_time":0.006,"completion_tokens":19,"completion_time":0.022,"total_tokens":42,"total_time":0.027999999999999997}"#,
        of(23, 19),
        [Some(23), None, None, Some(19), None],
    ),
    // vercel/ai#12425, grok-3-mini.
    (
        PartOfInput,
        r#"{"prompt_tokens":12,"completion_tokens":1,"total_tokens":399,"completion_tokens_details":{"reasoning_tokens":386}}"#,
        Usage { reasoning: Some(386), ..of(12, 387) },
        [Some(12), None, None, Some(1), Some(386)],
    ),
    // router-for-me/CLIProxyAPI#5733, Gemini.
    (
        PartOfInput,
        r#"{"completion_tokens":0,"total_tokens":81,"prompt_tokens":21,"completion_tokens_details":{"reasoning_tokens":60}}"#,
        Usage { reasoning: Some(60), ..of(21, 60) },
        [Some(21), None, None, Some(0), Some(60)],
    ),
    // mozilla-ai/any-llm#1290, Gemini without details.
    (
        PartOfInput,
        r#"{"prompt_tokens":20,"completion_tokens":198,"total_tokens":623}"#,
        of(20, 603),
        [Some(20), None, None, Some(603), None],
    ),
    // aallan/vera-bench#97, Moonshot.
    (
        PartOfInput,
        r#"{"prompt_tokens":19,"completion_tokens":21,"total_tokens":40,"cached_tokens":10}"#,
        Usage { cached_input: Some(10), ..of(19, 21) },
        [Some(9), Some(10), None, Some(21), None],
    ),
    // Gemini API reference, `UsageMetadata`; thoughts and the prompts of tools are beside the others.
    (
        PartOfInput,
        r#"{"promptTokenCount":120,"candidatesTokenCount":30,"thoughtsTokenCount":20,"toolUsePromptTokenCount":50,"cachedContentTokenCount":40,"totalTokenCount":220,
            "promptTokensDetails":[{"modality":"TEXT","tokenCount":90},{"modality":"AUDIO","tokenCount":30}],
            "cacheTokensDetails":[{"modality":"TEXT","tokenCount":30},{"modality":"AUDIO","tokenCount":10}],
            "candidatesTokensDetails":[{"modality":"TEXT","tokenCount":25},{"modality":"AUDIO","tokenCount":5}]}"#,
        Usage {
            cached_input: Some(40),
            reasoning: Some(20),
            audio_input: Some(20),
            audio_output: Some(5),
            ..of(170, 50)
        },
        [Some(110), Some(40), None, Some(25), Some(20)],
    ),
    // OpenAI API reference, chat completion object with audio.
    (
        PartOfInput,
        r#"{"prompt_tokens":100,"completion_tokens":60,"total_tokens":160,
            "prompt_tokens_details":{"cached_tokens":20,"audio_tokens":50,"text_tokens":50},
            "completion_tokens_details":{"reasoning_tokens":0,"audio_tokens":45,"text_tokens":15}}"#,
        Usage {
            cached_input: Some(20),
            reasoning: Some(0),
            audio_input: Some(50),
            audio_output: Some(45),
            ..of(100, 60)
        },
        [Some(30), Some(20), None, Some(15), Some(0)],
    ),
    // Ollama API documentation, "Usage".
    (
        PartOfInput,
        r#"{"prompt_eval_count":26,"eval_count":259,"total_duration":5191566416}"#,
        of(26, 259),
        [Some(26), None, None, Some(259), None],
    ),
];

#[test]
fn every_shape_by_its_provider() {
    for (cached_tokens, json, expected, expected_classes) in SHAPES {
        let usage = usage(*cached_tokens, json).unwrap();
        assert_eq!(usage, *expected, "{json}");
        let Usage { audio_input, audio_output, cache_write_1h, .. } = usage;
        let expected_classes =
            TokenClasses { audio_input, audio_output, cache_write_1h, ..classes(*expected_classes) };
        assert_eq!(usage.classes(), expected_classes, "{json}");
        assert_eq!(Some(sum(usage.classes())), usage.total, "{json}");
    }
}

/// Whatever an upstream reports, the classes are together what was used.
#[test]
fn audio_is_a_class_of_its_own_and_never_more_than_all() {
    let cached_audio = r#"{"input_tokens":127,"output_tokens":9,"input_token_details":{"cached_tokens":64,"audio_tokens":70,"cached_tokens_details":{"audio_tokens":60}}}"#;
    let usage = usage(PartOfInput, cached_audio).unwrap();
    assert_eq!(usage.audio_input, Some(10));
    let classes = usage.classes();
    assert_eq!((classes.input, classes.cached_input, classes.audio_input), (Some(53), Some(64), Some(10)));
    let too_much = Usage { audio_input: Some(99), audio_output: Some(99), cached_input: Some(4), ..of(5, 6) };
    let classes = too_much.classes();
    assert_eq!((classes.input, classes.audio_input), (Some(0), Some(1)));
    assert_eq!((classes.output, classes.audio_output), (Some(0), Some(6)));
}

proptest::proptest! {
    /// Classes are together what was used, whatever an upstream reports of their sizes.
    #[test]
    fn classes_add_up(counts: [Option<u16>; 8]) {
        let [input, output, cached_input, cache_write, cache_write_1h, reasoning, audio_input, audio_output] =
            counts.map(|count| count.map(u64::from));
        let usage = Usage {
            input: input.or(Some(0)),
            output: output.or(Some(0)),
            total: None,
            cached_input,
            cache_write,
            cache_write_1h,
            reasoning,
            audio_input,
            audio_output,
            audio: None,
        };
        proptest::prop_assert_eq!(sum(usage.classes()), input.unwrap_or(0) + output.unwrap_or(0));
    }
}

/// Some OpenAI-like upstreams add Anthropic's names to counts that already hold them, others to counts that do not.
#[test]
fn tokens_of_the_cache_are_counted_once() {
    let part = r#"{"prompt_tokens":1105,"cache_read_input_tokens":1000,"completion_tokens":2}"#;
    assert_eq!(usage(PartOfInput, part).unwrap().input, Some(1105));
    let more_than_all = r#"{"prompt_tokens":5,"cache_read_input_tokens":1000,"completion_tokens":2}"#;
    assert_eq!(usage(PartOfInput, more_than_all).unwrap().input, Some(1005));
    let by_the_total =
        r#"{"prompt_tokens":500,"cache_read_input_tokens":100,"completion_tokens":2,"total_tokens":602}"#;
    assert_eq!(
        usage(PartOfInput, by_the_total),
        Some(Usage { cached_input: Some(100), ..of(600, 2) }),
        "reasoning that is not known does not explain the total better"
    );
    let two_names = r#"{"prompt_tokens":50,"prompt_tokens_details":{"cached_tokens":40},"prompt_cache_hit_tokens":0,"completion_tokens":1}"#;
    assert_eq!(usage(PartOfInput, two_names).unwrap().cached_input, Some(40));
}

#[test]
fn audio_that_is_charged_by_time_has_no_tokens() {
    for (json, millis) in [
        (r#"{"type":"duration","seconds":9}"#, 9_000),
        (r#"{"type":"duration","seconds":1.5}"#, 1_500),
        (r#"{"type":"duration","seconds":0}"#, 0),
    ] {
        let audio = Some(Duration::from_millis(millis));
        assert_eq!(usage(PartOfInput, json), Some(Usage { audio, ..Usage::default() }), "{json}");
    }
    for json in [r#"{"seconds":-1}"#, r#"{"seconds":1e300}"#, r#"{"seconds":"9"}"#] {
        assert_eq!(usage(PartOfInput, json), None, "{json}");
    }
}

#[test]
fn unknown_and_zero_are_told_apart() {
    for json in [
        "{}",
        "null",
        "[1,2]",
        r#"{"prompt_tokens":"19"}"#,
        r#"{"prompt_tokens":-1}"#,
        r#"{"prompt_tokens":1.5}"#,
        r#"{"cached_tokens":5}"#,
    ] {
        assert_eq!(usage(PartOfInput, json), None, "{json}");
    }
    let half = Usage { input: Some(8), ..Usage::default() };
    assert_eq!(usage(PartOfInput, r#"{"prompt_tokens":8,"prompt_tokens_details":null}"#), Some(half));
    let half = Usage { output: Some(8), ..Usage::default() };
    assert_eq!(usage(PartOfInput, r#"{"output_tokens":8,"input_tokens":null}"#), Some(half));
    assert_eq!(half.classes(), classes([None, None, None, Some(8), None]));
    assert_eq!(usage(PartOfInput, r#"{"prompt_tokens":0,"completion_tokens":0}"#), Some(of(0, 0)));
}

#[test]
fn a_later_zero_or_null_takes_nothing_away_and_the_last_count_stays() {
    let mut tokens = Tokens::default();
    let mut then = |json: &str| {
        let mut later = Tokens::default();
        json::read(json.as_bytes(), &mut later).unwrap();
        tokens.update(&later);
        tokens.usage(PartOfInput)
    };
    assert_eq!(then("{}"), None);
    assert_eq!(then(r#"{"prompt_tokens":0,"completion_tokens":0,"total_tokens":0}"#), Some(of(0, 0)));
    let cumulative = r#"{"prompt_tokens":5,"completion_tokens":1,"total_tokens":6}"#;
    assert_eq!(then(cumulative), Some(of(5, 1)));
    assert_eq!(then(r#"{"prompt_tokens":5,"completion_tokens":9,"total_tokens":14}"#), Some(of(5, 9)));
    for nothing in [r#"{"prompt_tokens":0,"completion_tokens":0,"total_tokens":0}"#, "null", "{}"] {
        assert_eq!(then(nothing), Some(of(5, 9)), "{nothing}");
    }
    // A part of the counts, without a total: the total is theirs again.
    assert_eq!(then(r#"{"completion_tokens":4}"#), Some(of(5, 4)));
}
