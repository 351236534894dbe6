//! Streams as providers send them. Each names its public source; text is shortened, the form is theirs.

use std::time::Duration;

use super::*;

/// What is expected of one stream.
struct Expected {
    /// The event with the first content.
    content: Option<usize>,
    terminal: Option<Terminal>,
    /// The answer is whole if the stream ends after its last event, whether or not that is a terminal one.
    complete: bool,
    usage: Option<Usage>,
    finish_reason: Option<FinishReason>,
}

fn check(dialect: Dialect, stream: &str, expected: &Expected) {
    let without_end = stream.trim_end();
    for stream in [stream, without_end] {
        for size in [stream.len() / 100_000 + 1, 16_381, usize::MAX] {
            let (reader, notices) = read(dialect, stream.as_bytes(), size);
            assert_eq!(
                at(&notices, |notice| notice.first_content).first().copied(),
                expected.content,
                "{stream}"
            );
            assert_eq!(at(&notices, |notice| notice.failed || notice.malformed), [0; 0], "{stream}");
            assert_eq!(reader.terminal(), expected.terminal, "{stream}");
            let complete = reader.terminal().is_some() || reader.all_finished();
            assert_eq!(complete, expected.complete, "{stream}");
            let reading = reader.reading();
            assert_eq!(
                (reading.usage, reading.finish_reason),
                (expected.usage, expected.finish_reason),
                "{stream}"
            );
        }
    }
    // Without its last event, or within it, no stream is complete.
    let cut = stream.trim_end().rfind("\n\n").map_or(0, |at| at + 2);
    for end in [cut, cut + 10] {
        let (reader, _) = read(dialect, &stream.as_bytes()[..end], usize::MAX);
        assert!(reader.terminal().is_none(), "{stream}");
    }
}

/// OpenAI API reference, "Image generation streaming events".
#[test]
fn images() {
    let partial = "event: image_generation.partial_image\ndata: {\"type\":\"image_generation.partial_image\",\"b64_json\":\"iVBO\",\"created_at\":1620000000,\"size\":\"1024x1024\",\"quality\":\"high\",\"background\":\"transparent\",\"output_format\":\"png\",\"partial_image_index\":0}\n\n";
    let completed = "event: image_generation.completed\ndata: {\"type\":\"image_generation.completed\",\"b64_json\":\"iVBO\",\"created_at\":1620000000,\"size\":\"1024x1024\",\"quality\":\"high\",\"background\":\"transparent\",\"output_format\":\"png\",\"usage\":{\"total_tokens\":100,\"input_tokens\":50,\"output_tokens\":50,\"input_tokens_details\":{\"text_tokens\":10,\"image_tokens\":40}}}\n\n";
    let whole = Expected {
        content: Some(0),
        terminal: None,
        complete: true,
        usage: Some(usage(50, 50)),
        finish_reason: None,
    };
    let broken_off = Expected { complete: false, usage: None, ..whole };
    for name in ["image_generation", "image_edit"] {
        let [partial, completed] = [partial, completed].map(|event| event.replace("image_generation", name));
        check(Dialect::IMAGES, &(partial.clone() + &partial + &completed), &whole);
        check(Dialect::IMAGES, &completed, &whole);
        check(Dialect::IMAGES, &partial, &broken_off);
        // Of two images, the second is under way.
        let begun = Expected { complete: false, usage: whole.usage, ..broken_off };
        check(Dialect::IMAGES, &(completed.clone() + &partial), &begun);
        // The image is larger than what is kept of an event, before its usage or after it.
        let image = "A".repeat(crate::sse::DATA_LIMIT + 1);
        let large = completed.replace("iVBO", &image);
        check(Dialect::IMAGES, &(partial.clone() + &large), &whole);
        let tail = format!(",\"b64_json\":\"{image}\"}}\n\n");
        let usage_first = completed.replace("\"b64_json\":\"iVBO\",", "").replace("}\n\n", &tail);
        check(Dialect::IMAGES, &usage_first, &whole);
        let nameless = large.replace("event: ", ": ");
        check(Dialect::IMAGES, &nameless, &whole);
    }
}

/// OpenAI API reference, "Speech streaming events".
#[test]
fn speech() {
    let delta = "data: {\"type\":\"speech.audio.delta\",\"audio\":\"base64-encoded-audio-data\"}\n\n";
    let done = "data: {\"type\":\"speech.audio.done\",\"usage\":{\"input_tokens\":14,\"output_tokens\":101,\"total_tokens\":115}}\n\n";
    let whole = Expected {
        content: Some(0),
        terminal: Some(Terminal::Last),
        complete: true,
        usage: Some(usage(14, 101)),
        finish_reason: None,
    };
    check(Dialect::SPEECH, &format!("{delta}{delta}{done}"), &whole);
    let broken_off = Expected { terminal: None, complete: false, usage: None, ..whole };
    check(Dialect::SPEECH, delta, &broken_off);
}

/// OpenAI API reference, "Transcription streaming events"; openai-openapi, `TranscriptTextUsageDuration`.
#[test]
fn transcriptions() {
    let delta = "event: transcript.text.delta\ndata: {\"type\":\"transcript.text.delta\",\"delta\":\" wonderful\"}\n\n";
    let segment = "event: transcript.text.segment\ndata: {\"type\":\"transcript.text.segment\",\"id\":\"seg_002\",\"start\":5.2,\"end\":12.8,\"text\":\"Hi, I need help with diarization.\",\"speaker\":\"A\"}\n\n";
    let done = "event: transcript.text.done\ndata: {\"type\":\"transcript.text.done\",\"text\":\"I see skies of blue\",\"usage\":{\"type\":\"tokens\",\"input_tokens\":14,\"input_token_details\":{\"text_tokens\":0,\"audio_tokens\":14},\"output_tokens\":45,\"total_tokens\":59}}\n\n";
    let whole = Expected {
        content: Some(1),
        terminal: Some(Terminal::Last),
        complete: true,
        usage: Some(Usage { audio_input: Some(14), ..usage(14, 45) }),
        finish_reason: None,
    };
    // The first delta may be empty.
    let empty = delta.replace(" wonderful", "");
    check(Dialect::TRANSCRIPTIONS, &(empty.clone() + delta + done), &whole);
    check(Dialect::TRANSCRIPTIONS, &(empty + segment + done), &whole);
    let (from, to) = (done.find("{\"type\":\"tokens\"").unwrap(), done.rfind('}').unwrap());
    let timed = done.replace(&done[from..to], "{\"type\":\"duration\",\"seconds\":9}");
    let audio = Usage { audio: Some(Duration::from_secs(9)), ..Usage::default() };
    check(Dialect::TRANSCRIPTIONS, &timed, &Expected { content: Some(0), usage: Some(audio), ..whole });
}

/// OpenAI API reference, "Create run", streaming.
#[test]
fn threads() {
    let stream = "event: thread.run.created\ndata: {\"id\":\"run_123\",\"object\":\"thread.run\",\"status\":\"queued\",\"last_error\":null,\"model\":\"gpt-4o\",\"usage\":null}\n\n\
        event: thread.message.created\ndata: {\"id\":\"msg_001\",\"object\":\"thread.message\",\"content\":[]}\n\n\
        event: thread.message.delta\ndata: {\"id\":\"msg_001\",\"object\":\"thread.message.delta\",\"delta\":{\"content\":[{\"index\":0,\"type\":\"text\",\"text\":{\"value\":\"Hello\",\"annotations\":[]}}]}}\n\n\
        event: thread.run.completed\ndata: {\"id\":\"run_123\",\"object\":\"thread.run\",\"status\":\"completed\",\"last_error\":null,\"model\":\"gpt-4o\",\"usage\":{\"prompt_tokens\":20,\"completion_tokens\":11,\"total_tokens\":31}}\n\n";
    let whole = Expected {
        content: Some(2),
        terminal: Some(Terminal::Done),
        complete: true,
        usage: Some(usage(20, 11)),
        finish_reason: None,
    };
    check(Dialect::THREADS, &format!("{stream}event: done\ndata: [DONE]\n\n"), &whole);
    check(Dialect::THREADS, stream, &Expected { terminal: None, ..whole });
    let begun = &stream[..stream.find("event: thread.run.completed").unwrap()];
    check(Dialect::THREADS, begun, &Expected { terminal: None, complete: false, usage: None, ..whole });
    let failed = "event: thread.run.failed\ndata: {\"id\":\"run_123\",\"last_error\":{\"code\":\"server_error\",\"message\":\"m\"}}\n\n";
    let unnamed = "data: {\"type\":\"thread.run.failed\",\"last_error\":{\"code\":\"server_error\",\"message\":\"m\"}}\n\n";
    let type_last = "data: {\"last_error\":{\"code\":\"server_error\",\"message\":\"m\"},\"type\":\"thread.run.failed\"}\n\n";
    for failed in [failed, unnamed, type_last] {
        let (_, notices) = read(Dialect::THREADS, failed.as_bytes(), 9);
        assert_eq!(at(&notices, |notice| notice.failed && !notice.error), [0], "{failed}");
    }
    for failed in ["{\"type\":\"response.failed\",\"id\":7}", "{\"id\":7,\"type\":\"response.failed\"}"] {
        let (_, notices) = read(Dialect::OTHER, format!("data: {failed}\n\n").as_bytes(), 9);
        assert_eq!(at(&notices, |notice| notice.failed && !notice.error), [0], "{failed}");
    }
    let error = "event: error\ndata: {\"error\":{\"message\":\"m\"}}\n\n";
    let (_, notices) = read(Dialect::THREADS, error.as_bytes(), 9);
    assert_eq!(at(&notices, |notice| notice.error), [0]);
}

/// A session's error is an event like any other, and nothing ends the stream.
///
/// The types and members of the events are those of anthropic-sdk-python 2.14 (`types/beta/sessions/beta_managed_agents_*_event.py`); the
/// first is the example of the Anthropic API reference, "Stream Events" of sessions. The other values are invented.
#[test]
fn sessions() {
    let stream = "event: user.message\ndata: {\"id\":\"sevt_011CZkZGOp0iBcp4kaQSihUmy\",\"content\":[{\"text\":\"Where is my order #1234?\",\"type\":\"text\"}],\"type\":\"user.message\",\"processed_at\":\"2026-03-15T10:00:00Z\"}\n\n\
        event: session.status_running\ndata: {\"type\":\"session.status_running\",\"id\":\"sevt_1\",\"processed_at\":\"2026-03-15T10:00:00Z\"}\n\n\
        event: session.error\ndata: {\"type\":\"session.error\",\"id\":\"sevt_2\",\"error\":{\"type\":\"model_overloaded_error\",\"message\":\"Overloaded\",\"retry_status\":{\"type\":\"retrying\"}},\"processed_at\":\"2026-03-15T10:00:01Z\"}\n\n\
        event: session.status_idle\ndata: {\"type\":\"session.status_idle\",\"id\":\"sevt_3\",\"stop_reason\":{\"type\":\"end_turn\"},\"processed_at\":\"2026-03-15T10:00:02Z\"}\n\n";
    let expected =
        Expected { content: Some(0), terminal: None, complete: false, usage: None, finish_reason: None };
    check(Dialect::SESSIONS, stream, &expected);
    assert!(Dialect::SESSIONS.stays_open() && !Dialect::SESSIONS.has_terminal_event());
    assert!(DIALECTS.into_iter().filter(|dialect| dialect.stays_open()).count() == 1);
}

/// northes/go-moonshot#17.
#[test]
fn moonshot_reports_its_usage_within_the_choice() {
    let stream = "data: {\"id\":\"cmpl-1305b94c570f447fbde3180560736287\",\"object\":\"chat.completion.chunk\",\"created\":1698999575,\"model\":\"moonshot-v1-8k\",\"choices\":[{\"index\":0,\"delta\":{\"role\":\"assistant\",\"content\":\"\"},\"finish_reason\":null}]}\n\n\
        data: {\"id\":\"cmpl-1305b94c570f447fbde3180560736287\",\"object\":\"chat.completion.chunk\",\"created\":1698999575,\"model\":\"moonshot-v1-8k\",\"choices\":[{\"index\":0,\"delta\":{\"content\":\"你好\"},\"finish_reason\":null}]}\n\n\
        data: {\"id\":\"cmpl-1305b94c570f447fbde3180560736287\",\"object\":\"chat.completion.chunk\",\"created\":1698999575,\"model\":\"moonshot-v1-8k\",\"choices\":[{\"index\":0,\"delta\":{\"content\":\"。\"},\"finish_reason\":null}]}\n\n\
        data: {\"id\":\"cmpl-1305b94c570f447fbde3180560736287\",\"object\":\"chat.completion.chunk\",\"created\":1698999575,\"model\":\"moonshot-v1-8k\",\"choices\":[{\"index\":0,\"delta\":{},\"finish_reason\":\"stop\",\"usage\":{\"prompt_tokens\":19,\"completion_tokens\":13,\"total_tokens\":32}}]}\n\n";
    let expected = Expected {
        content: Some(1),
        terminal: Some(Terminal::Done),
        complete: true,
        usage: Some(usage(19, 13)),
        finish_reason: Some(FinishReason::Stop),
    };
    check(Dialect::CHAT, &format!("{stream}data: [DONE]\n\n"), &expected);
    check(Dialect::CHAT, stream, &Expected { terminal: None, ..expected });
}

/// vercel/ai#1651.
#[test]
fn groq_reports_its_usage_in_a_member_of_its_own() {
    let word = "data: {\"id\":\"chatcmpl-8566e76f-7ded-47d7-a2ca-d212098af00c\",\"object\":\"chat.completion.chunk\",\"created\":1716131679,\"model\":\"llama3-8b-8192\",\"system_fingerprint\":\"fp_179b0f92c9\",\"choices\":[{\"index\":0,\"delta\":{\"content\":\"Hi\"},\"logprobs\":null,\"finish_reason\":null}]}\n\n";
    let stop = "data: {\"id\":\"chatcmpl-8566e76f-7ded-47d7-a2ca-d212098af00c\",\"object\":\"chat.completion.chunk\",\"created\":1716131679,\"model\":\"llama3-8b-8192\",\"system_fingerprint\":\"fp_179b0f92c9\",\"choices\":[{\"index\":0,\"delta\":{},\"logprobs\":null,\"finish_reason\":\"stop\"}],\"x_groq\":{\"id\":\"req_01hy8ppkajfqk987jv2vx88m9r\",\"usage\":{\"queue_time\":0.07535312,\"prompt_tokens\":23,\"prompt_time\":0.006,\"completion_tokens\":19,\"completion_time\":0.022,\"total_tokens\":42,\"total_time\":0.027999999999999997}}}\n\n";
    let expected = Expected {
        content: Some(0),
        terminal: None,
        complete: true,
        usage: Some(usage(23, 19)),
        finish_reason: Some(FinishReason::Stop),
    };
    check(Dialect::CHAT, &format!("{word}{word}{stop}"), &expected);
}

/// OpenRouter docs, "Streaming" (the comment); speakeasy-api/gram#921 (usage beside a choice, after the finish), brightwave-inc/tidebreak#1401
/// (usage twice: the last counts).
#[test]
fn openrouter_begins_with_comments_and_reports_its_usage_twice() {
    let chunk = |delta: &str, finish: &str, usage: &str| {
        format!(
            "data: {{\"id\":\"gen-1\",\"provider\":\"X\",\"model\":\"x/y\",\"object\":\"chat.completion.chunk\",\"created\":1,\"choices\":[{{\"index\":0,\"delta\":{delta},\"finish_reason\":{finish},\"native_finish_reason\":{finish},\"logprobs\":null}}]{usage}}}\n\n"
        )
    };
    let reasoning = r#"{"role":"assistant","content":"","reasoning":"Hm","reasoning_details":[{"type":"reasoning.text","text":"Hm"}]}"#;
    let stream = ": OPENROUTER PROCESSING\n\n: OPENROUTER PROCESSING\n\n".to_owned()
        + &chunk(r#"{"role":"assistant","content":""}"#, "null", "")
        + &chunk(reasoning, "null", "")
        + &chunk(r#"{"role":"assistant","content":"Hi"}"#, "null", "")
        + &chunk(
            r#"{"role":"assistant","content":""}"#,
            "\"stop\"",
            r#","usage":{"prompt_tokens":9,"completion_tokens":4,"total_tokens":13}"#,
        )
        + &chunk(
            r#"{"role":"assistant","content":""}"#,
            "null",
            r#","usage":{"prompt_tokens":9,"completion_tokens":5,"total_tokens":14,"cost":0.0001,"completion_tokens_details":{"reasoning_tokens":3}}"#,
        )
        + "data: [DONE]\n\n";
    let expected = Expected {
        content: Some(1),
        terminal: Some(Terminal::Done),
        complete: true,
        usage: Some(Usage { reasoning: Some(3), ..usage(9, 5) }),
        finish_reason: Some(FinishReason::Stop),
    };
    check(Dialect::CHAT, &stream, &expected);
}
