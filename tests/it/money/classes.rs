//! The tokens of each dialect in classes that do not overlap: together they are what the provider says was used.

use std::{fs, path::Path};

use sluicegate::{
    limit::PricedTokens,
    openai::{AnswerReader, Dialect, OUTLINED, StreamReader, Usage},
    sse::Scanner,
};

/// An answer or a stream, the classes of its tokens, and all of them as its provider counts.
struct Row {
    source: &'static str,
    dialect: Dialect,
    body: &'static str,
    tokens: PricedTokens,
    total: u64,
}

const NONE: PricedTokens = PricedTokens {
    input: 0,
    cached_input: 0,
    cache_write: 0,
    cache_write_1h: 0,
    output: 0,
    reasoning: 0,
    audio_input: 0,
    audio_output: 0,
};

const ROWS: &[Row] = &[
    Row {
        source: "OpenAI API reference, chat completion object",
        dialect: Dialect::CHAT,
        body: r#"{"object":"chat.completion","model":"gpt-5.4","choices":[],"usage":{"prompt_tokens":19,"completion_tokens":10,"total_tokens":29,"prompt_tokens_details":{"cached_tokens":7,"audio_tokens":0},"completion_tokens_details":{"reasoning_tokens":3,"audio_tokens":0,"accepted_prediction_tokens":0,"rejected_prediction_tokens":0}}}"#,
        tokens: PricedTokens { input: 12, cached_input: 7, output: 7, reasoning: 3, ..NONE },
        total: 29,
    },
    Row {
        source: "OpenAI API reference, chat completion with audio",
        dialect: Dialect::CHAT,
        body: r#"{"object":"chat.completion","model":"gpt-audio","choices":[],"usage":{"prompt_tokens":100,"completion_tokens":60,"total_tokens":160,"prompt_tokens_details":{"cached_tokens":20,"audio_tokens":50},"completion_tokens_details":{"reasoning_tokens":0,"audio_tokens":45}}}"#,
        tokens: PricedTokens {
            input: 30,
            cached_input: 20,
            audio_input: 50,
            output: 15,
            audio_output: 45,
            ..NONE
        },
        total: 160,
    },
    Row {
        source: "OpenAI API reference, completion object",
        dialect: Dialect::COMPLETIONS,
        body: r#"{"object":"text_completion","model":"gpt-3.5-turbo-instruct","choices":[],"usage":{"prompt_tokens":5,"completion_tokens":7,"total_tokens":12}}"#,
        tokens: PricedTokens { input: 5, output: 7, ..NONE },
        total: 12,
    },
    Row {
        source: "OpenAI API reference, response object",
        dialect: Dialect::RESPONSES,
        body: r#"{"object":"response","status":"completed","model":"gpt-5.4","output":[],"usage":{"input_tokens":36,"input_tokens_details":{"cached_tokens":6},"output_tokens":87,"output_tokens_details":{"reasoning_tokens":64},"total_tokens":123}}"#,
        tokens: PricedTokens { input: 30, cached_input: 6, output: 23, reasoning: 64, ..NONE },
        total: 123,
    },
    Row {
        source: "OpenAI API reference, `response.completed`",
        dialect: Dialect::RESPONSES,
        body: "event: response.completed\ndata: {\"type\":\"response.completed\",\"response\":{\"model\":\"gpt-5.4\",\"status\":\"completed\",\"usage\":{\"input_tokens\":37,\"input_tokens_details\":{\"cached_tokens\":0},\"output_tokens\":11,\"output_tokens_details\":{\"reasoning_tokens\":0},\"total_tokens\":48}}}\n\n",
        tokens: PricedTokens { input: 37, output: 11, ..NONE },
        total: 48,
    },
    // Its `input_tokens` have nothing of the cache: 5 + 1000 + 100 + 2.
    Row {
        source: "Anthropic API reference, message object",
        dialect: Dialect::MESSAGES,
        body: r#"{"type":"message","role":"assistant","model":"claude-sonnet-4-5","content":[],"stop_reason":"end_turn","usage":{"input_tokens":5,"cache_creation_input_tokens":100,"cache_read_input_tokens":1000,"cache_creation":{"ephemeral_5m_input_tokens":60,"ephemeral_1h_input_tokens":40},"output_tokens":2,"service_tier":"standard"}}"#,
        tokens: PricedTokens {
            input: 5,
            cached_input: 1_000,
            cache_write: 60,
            cache_write_1h: 40,
            output: 2,
            ..NONE
        },
        total: 1_107,
    },
    // The counts of `message_delta` are cumulative, and those of `message_start` stay where it has none.
    Row {
        source: "Anthropic docs, \"Streaming messages\"",
        dialect: Dialect::MESSAGES,
        body: concat!(
            "event: message_start\ndata: {\"type\":\"message_start\",\"message\":{\"model\":\"claude-sonnet-4-5\",\"usage\":{\"input_tokens\":25,\"cache_read_input_tokens\":10,\"output_tokens\":1}}}\n\n",
            "event: message_delta\ndata: {\"type\":\"message_delta\",\"delta\":{\"stop_reason\":\"end_turn\"},\"usage\":{\"output_tokens\":15}}\n\n",
            "event: message_stop\ndata: {\"type\":\"message_stop\"}\n\n",
        ),
        tokens: PricedTokens { input: 25, cached_input: 10, output: 15, ..NONE },
        total: 50,
    },
    Row {
        source: "OpenAI API reference, embeddings",
        dialect: Dialect::OTHER,
        body: r#"{"object":"list","data":[],"model":"text-embedding-3-small","usage":{"prompt_tokens":8,"total_tokens":8}}"#,
        tokens: PricedTokens { input: 8, ..NONE },
        total: 8,
    },
    Row {
        source: "OpenAI API reference, images",
        dialect: Dialect::IMAGES,
        body: r#"{"created":1,"data":[],"usage":{"total_tokens":100,"input_tokens":50,"output_tokens":50,"input_tokens_details":{"text_tokens":10,"image_tokens":40}}}"#,
        tokens: PricedTokens { input: 50, output: 50, ..NONE },
        total: 100,
    },
    Row {
        source: "OpenAI API reference, `speech.audio.done`",
        dialect: Dialect::SPEECH,
        body: "data: {\"type\":\"speech.audio.done\",\"usage\":{\"input_tokens\":14,\"output_tokens\":101,\"total_tokens\":115}}\n\n",
        tokens: PricedTokens { input: 14, output: 101, ..NONE },
        total: 115,
    },
    Row {
        source: "OpenAI API reference, transcription object",
        dialect: Dialect::TRANSCRIPTIONS,
        body: r#"{"text":"Hi","usage":{"type":"tokens","input_tokens":14,"input_token_details":{"text_tokens":0,"audio_tokens":14},"output_tokens":45,"total_tokens":59}}"#,
        tokens: PricedTokens { audio_input: 14, output: 45, ..NONE },
        total: 59,
    },
    Row {
        source: "OpenAI API reference, `transcript.text.done`",
        dialect: Dialect::TRANSCRIPTIONS,
        body: "data: {\"type\":\"transcript.text.done\",\"text\":\"Hi\",\"usage\":{\"type\":\"tokens\",\"input_tokens\":14,\"input_token_details\":{\"text_tokens\":4,\"audio_tokens\":10},\"output_tokens\":31,\"total_tokens\":45}}\n\n",
        tokens: PricedTokens { input: 4, audio_input: 10, output: 31, ..NONE },
        total: 45,
    },
    Row {
        source: "OpenAI API reference, run object",
        dialect: Dialect::THREADS,
        body: r#"{"object":"thread.run","model":"gpt-4o","usage":{"prompt_tokens":123,"completion_tokens":456,"total_tokens":579}}"#,
        tokens: PricedTokens { input: 123, output: 456, ..NONE },
        total: 579,
    },
    Row {
        source: "Gemini API reference, `GenerateContentResponse`",
        dialect: Dialect::GEMINI,
        body: r#"{"candidates":[],"modelVersion":"gemini-2.5-pro","usageMetadata":{"promptTokenCount":120,"candidatesTokenCount":30,"thoughtsTokenCount":20,"cachedContentTokenCount":40,"totalTokenCount":170,"promptTokensDetails":[{"modality":"TEXT","tokenCount":90},{"modality":"AUDIO","tokenCount":30}]}}"#,
        tokens: PricedTokens {
            input: 50,
            cached_input: 40,
            audio_input: 30,
            output: 30,
            reasoning: 20,
            ..NONE
        },
        total: 170,
    },
    Row {
        source: "Ollama API documentation, chat",
        dialect: Dialect::OLLAMA,
        body: r#"{"model":"llama3.2","message":{"role":"assistant","content":"Hi"},"done":true,"prompt_eval_count":26,"eval_count":259}"#,
        tokens: PricedTokens { input: 26, output: 259, ..NONE },
        total: 285,
    },
    Row {
        source: "explicit zeros, which are not unknown",
        dialect: Dialect::CHAT,
        body: r#"{"object":"chat.completion","choices":[],"usage":{"prompt_tokens":0,"completion_tokens":0,"total_tokens":0}}"#,
        tokens: NONE,
        total: 0,
    },
];

/// The usage of a whole answer, or of a stream of events.
fn usage(dialect: Dialect, body: &str) -> Option<Usage> {
    if body.starts_with('{') {
        let mut reader = AnswerReader::new(dialect);
        reader.bytes(body.as_bytes());
        return reader.finish().usage;
    }
    let (mut scanner, mut reader) = (Scanner::outlining(&OUTLINED), StreamReader::new(dialect));
    scanner.scan(body.as_bytes(), &mut |event| _ = reader.event(&event));
    scanner.finish(&mut |event| _ = reader.last_event(&event));
    reader.reading().usage
}

fn sum(tokens: &PricedTokens) -> u64 {
    tokens.all_input() + tokens.output + tokens.reasoning + tokens.audio_output
}

#[test]
fn classes_do_not_overlap_in_any_dialect() {
    for Row { source, dialect, body, tokens, total } in ROWS {
        let usage = usage(*dialect, body).expect(source);
        let classes = PricedTokens::from(usage.classes());
        assert_eq!(classes, *tokens, "{source}");
        assert_eq!((sum(&classes), usage.total), (*total, Some(*total)), "{source}");
        // Limits on tokens count the same ones.
        let counted = classes.counted();
        assert_eq!(counted.input + counted.cached_input + counted.output, *total, "{source}");
    }
}

#[test]
fn classes_of_recorded_streams_are_their_providers_totals() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/streams");
    let mut streams = 0;
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.extension().is_none_or(|extension| extension != "sse") {
            continue;
        }
        let text = fs::read_to_string(&path).unwrap();
        let is_completion = text.contains("\"text_completion\"");
        let dialect = if is_completion { Dialect::COMPLETIONS } else { Dialect::CHAT };
        let usage = usage(dialect, &text).unwrap_or_else(|| panic!("{}", path.display()));
        let (_, total) = text.rsplit_once("total_tokens\":").unwrap();
        let digits: String = total.trim_start().chars().take_while(char::is_ascii_digit).collect();
        let classes = PricedTokens::from(usage.classes());
        assert_eq!(sum(&classes).to_string(), digits, "{}", path.display());
        streams += 1;
    }
    assert!(streams >= 10, "{streams}");
}
