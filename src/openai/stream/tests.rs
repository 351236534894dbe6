mod providers;

use proptest::prelude::*;

use super::super::{FinishReason, OUTLINED, Usage, ordinary::Ordinary};
use super::*;
use crate::sse::Scanner;

const DIALECTS: [Dialect; 10] = [
    Dialect::CHAT,
    Dialect::COMPLETIONS,
    Dialect::RESPONSES,
    Dialect::MESSAGES,
    Dialect::IMAGES,
    Dialect::SPEECH,
    Dialect::TRANSCRIPTIONS,
    Dialect::THREADS,
    Dialect::SESSIONS,
    Dialect::OTHER,
];

fn read(dialect: Dialect, stream: &[u8], chunk: usize) -> (StreamReader, Vec<Notice>) {
    let (mut scanner, mut reader, mut notices) =
        (Scanner::outlining(&OUTLINED), StreamReader::new(dialect), Vec::new());
    for bytes in stream.chunks(chunk) {
        scanner.scan(bytes, &mut |event| notices.push(reader.event(&event)));
    }
    scanner.finish(&mut |event| notices.push(reader.last_event(&event)));
    (reader, notices)
}

/// An unnamed event for each line.
fn unnamed(lines: &[&str]) -> String {
    lines.iter().map(|line| format!("data: {line}\n\n")).collect()
}

/// An event named by its `type` for each line.
fn named(lines: &[&str]) -> String {
    let name = |line: &str| {
        line.split("\"type\":\"").nth(1).and_then(|rest| rest.split('"').next()).map(str::to_owned)
    };
    lines.iter().map(|line| format!("event: {}\ndata: {line}\n\n", name(line).unwrap())).collect()
}

/// Positions of the events for which `flag` holds.
fn at(notices: &[Notice], flag: impl Fn(&Notice) -> bool) -> Vec<usize> {
    notices.iter().enumerate().filter(|(_, notice)| flag(notice)).map(|(at, _)| at).collect()
}

fn chunk(delta: &str, finish: &str, rest: &str) -> String {
    format!(
        r#"{{"id":"chatcmpl-1","object":"chat.completion.chunk","created":1754550000,"model":"gpt-4o-2024-08-06","service_tier":"default","system_fingerprint":"fp_1","choices":[{{"index":0,"delta":{delta},"logprobs":null,"finish_reason":{finish}}}]{rest}}}"#
    )
}

fn usage(input: u64, output: u64) -> Usage {
    Usage { input: Some(input), output: Some(output), total: Some(input + output), ..Usage::default() }
}

/// What OpenAI sends with `include_usage`: obfuscation, `usage: null`, a last chunk without choices.
fn openai_chat(words: usize) -> String {
    let mut stream = format!(
        ": hello\n\ndata: {}\n\n",
        chunk(
            r#"{"role":"assistant","content":"","refusal":null}"#,
            "null",
            r#","usage":null,"obfuscation":"aB""#
        )
    );
    for word in 0..words {
        let delta = format!(r#"{{"content":" w\"{word}é"}}"#);
        let rest = format!(r#","usage":null,"obfuscation":"{}""#, "z".repeat(word % 17));
        stream += &format!("data: {}\n\n", chunk(&delta, "null", &rest));
    }
    stream += &format!("data: {}\n\n", chunk("{}", "\"stop\"", r#","usage":null,"obfuscation":"q""#));
    stream += "data: {\"id\":\"chatcmpl-1\",\"model\":\"gpt-4o-2024-08-06\",\"choices\":[],\"usage\":{\"prompt_tokens\":19,\"completion_tokens\":40,\"total_tokens\":59,\"prompt_tokens_details\":{\"cached_tokens\":5},\"completion_tokens_details\":{\"reasoning_tokens\":30}},\"obfuscation\":\"\"}\n\n";
    stream + "data: [DONE]\n\n"
}

#[test]
fn a_chat_stream_is_read_whole_and_hardly_parsed() {
    let stream = openai_chat(200);
    for size in [1, 100, 1_000, usize::MAX] {
        let (reader, notices) = read(Dialect::CHAT, stream.as_bytes(), size);
        assert_eq!(at(&notices, |notice| notice.first_content), [1]);
        assert_eq!(at(&notices, |notice| notice.terminal), [203]);
        assert_eq!(at(&notices, |notice| notice.error || notice.malformed), [0; 0]);
        let usage = Usage { cached_input: Some(5), reasoning: Some(30), ..usage(19, 40) };
        let model = Some("gpt-4o-2024-08-06".to_owned());
        let expected = Reading { model, usage: Some(usage), finish_reason: Some(FinishReason::Stop) };
        assert_eq!(reader.reading(), expected);
        assert_eq!((reader.terminal(), reader.all_finished()), (Some(Terminal::Done), true));
        // The role, the first word, the finish, the usage; no ordinary word.
        assert_eq!(reader.counts(), Counts { events: 204, parsed: 4, errors: 0, malformed: 0 });
        assert_eq!(reader.next_sequence(), None);
    }
}

#[test]
fn each_kind_of_delta_is_content_and_an_empty_one_is_not() {
    for delta in [
        r#"{"content":"x"}"#,
        r#"{"reasoning_content":"x"}"#,
        // OpenRouter, image output; Mistral, reasoning; a member that nobody has yet.
        r#"{"content":"","images":[{"type":"image_url","image_url":{"url":"data:image/png;base64,AA"}}]}"#,
        r#"{"content":[{"type":"thinking","thinking":[{"type":"text","text":"Hm"}]}]}"#,
        r#"{"role":"assistant","next_year":{"a":1}}"#,
        r#"{"reasoning":"x"}"#,
        r#"{"refusal":"\u00e9"}"#,
        r#"{"audio":{"data":"AA=="}}"#,
        r#"{"tool_calls":[{"index":0,"id":"c","function":{"name":"f","arguments":""}}]}"#,
    ] {
        let stream = unnamed(&[
            &chunk(r#"{"role":"assistant","content":"","tool_calls":[],"audio":null}"#, "null", ""),
            "{\"choices\":[]}",
            &chunk(delta, "null", ""),
        ]);
        let (_, notices) = read(Dialect::CHAT, stream.as_bytes(), usize::MAX);
        assert_eq!(at(&notices, |notice| notice.first_content), [2], "{delta}");
    }
}

#[test]
fn tool_calls_and_code_do_not_hide_the_end() {
    let call = |arguments: &str| {
        chunk(
            &format!(r#"{{"tool_calls":[{{"index":0,"function":{{"arguments":"{arguments}"}}}}]}}"#),
            "null",
            "",
        )
    };
    let stream =
        unnamed(&[&call("{"), &call("a"), &call("}"), &call("b"), &chunk("{}", "\"tool_calls\"", "")]);
    let (reader, _) = read(Dialect::CHAT, stream.as_bytes(), 50);
    assert_eq!(reader.reading().finish_reason, Some(FinishReason::ToolCalls));
    assert!(reader.all_finished());
    assert_eq!(reader.counts().parsed, 3);
}

#[test]
fn any_key_order_is_read_alike() {
    let chunk = |content: &str, finish: &str, index: usize| {
        format!(
            r#"{{ "usage" : null, "choices" : [ {{ "finish_reason" : {finish} , "index" : {index}, "delta" : {{"content":"{content}"}} }} ], "model" : "m" }}"#
        )
    };
    let last = r#"{"usage" : {"total_tokens":3,"completion_tokens":2,"prompt_tokens":1},"choices":[]}"#;
    let stream = unnamed(&[
        &chunk("a", "null", 0),
        &chunk("b", "null", 0),
        &chunk("c", "null", 1),
        &chunk("", "\"length\"", 0),
        &chunk("", "\"stop\"", 1),
        last,
    ]);
    let (reader, _) = read(Dialect::CHAT, stream.as_bytes(), usize::MAX);
    assert_eq!(
        reader.reading(),
        Reading {
            model: Some("m".into()),
            usage: Some(usage(1, 2)),
            finish_reason: Some(FinishReason::Stop)
        }
    );
    assert!(reader.all_finished());
}

#[test]
fn a_choice_that_has_not_finished_is_not_forgotten() {
    let choice = |index: u64, finish: &str| {
        chunk(r#"{"content":"x"}"#, finish, "").replace("\"index\":0", &format!("\"index\":{index}"))
    };
    let (reader, _) = read(
        Dialect::CHAT,
        unnamed(&[&choice(0, "null"), &choice(1, "null"), &choice(0, "\"stop\"")]).as_bytes(),
        99,
    );
    assert!(!reader.all_finished());
    let (reader, _) =
        read(Dialect::CHAT, unnamed(&[&choice(0, "\"stop\""), &choice(500, "\"stop\"")]).as_bytes(), 99);
    assert!(!reader.all_finished(), "more choices than can be followed");
}

#[test]
fn an_error_is_seen_in_the_middle_of_a_stream() {
    let word = chunk(r#"{"content":"x"}"#, "null", "");
    let error = r#"{"error":{"message":"overloaded","type":"server_error","code":null}}"#;
    let beside = chunk(r#"{"content":"x"}"#, "null", r#","error":"upstream died""#);
    let falsy = chunk(r#"{"content":"x"}"#, "null", r#","error":null"#);
    let quoted = chunk(r#"{"content":"\"error\":{}"}"#, "null", "");
    let stream =
        unnamed(&[&word, &word, error, &beside, &falsy, &quoted]) + "event: error\ndata: overloaded\n\n";
    let (reader, notices) = read(Dialect::CHAT, stream.as_bytes(), 64);
    assert_eq!(at(&notices, |notice| notice.error), [2, 3, 6]);
    assert_eq!(at(&notices, |notice| notice.malformed), [6]);
    assert_eq!((reader.counts().errors, reader.terminal()), (3, None));
}

#[test]
fn what_is_foreign_is_ignored_and_what_is_no_json_is_told() {
    let lines = [
        "[1,2]",
        "null",
        "\"text\"",
        r#"{"choices":"x","usage":7,"model":{}}"#,
        r#"{"choices":[5,null,{"delta":"x","index":"a","finish_reason":1}]}"#,
        "{\"choices\":",
        "nonsense",
    ];
    let (reader, notices) = read(Dialect::CHAT, unnamed(&lines).as_bytes(), usize::MAX);
    assert_eq!(at(&notices, |notice| notice.malformed), [5, 6]);
    assert_eq!(at(&notices, |notice| notice.first_content || notice.terminal || notice.error), [0; 0]);
    assert_eq!(reader.reading(), Reading::default());
}

#[test]
fn an_empty_finish_reason_and_the_word_null_are_no_end() {
    // The first is what LocalAI and early vLLM wrote, the second what some proxies make of `None`.
    for none in ["null", r#""""#, r#""null""#] {
        let word = chunk(r#"{"content":"x"}"#, none, "");
        let (reader, notices) = read(Dialect::CHAT, unnamed(&[&word, &word]).as_bytes(), 50);
        assert_eq!((reader.all_finished(), reader.reading().finish_reason), (false, None), "{none}");
        assert_eq!(at(&notices, |notice| notice.first_content), [0]);
    }
    let stop = |reason: &str| {
        named(&[&format!(
            r#"{{"type":"message_delta","delta":{{"stop_reason":{reason}}},"usage":{{"output_tokens":1}}}}"#
        )])
    };
    for (reason, finished) in
        [("null", false), (r#""""#, false), (r#""null""#, false), (r#""end_turn""#, true)]
    {
        let (reader, _) = read(Dialect::MESSAGES, stop(reason).as_bytes(), 50);
        assert_eq!(reader.all_finished(), finished, "{reason}");
        assert_eq!((reader.terminal(), reader.reading().finish_reason.is_some()), (None, finished));
    }
}

/// Comments and events without data are no events at all; these are the other forms.
#[test]
fn a_keep_alive_is_neither_content_nor_failure() {
    for keep_alive in [
        "event: ping\ndata: {\"type\": \"ping\"}\n\n",
        "event: ping\ndata: ping\n\n",
        "event: ping\ndata:\n\n",
        "event: keepalive\ndata: {\"type\":\"keepalive\",\"sequence_number\":3}\n\n",
        "event: keepalive\ndata\n\n",
        "data:\n\n",
        "data: \n\n",
        "data:  \t\ndata: \n\n",
        ": OPENROUTER PROCESSING\n\n",
        "event: heartbeat\n\n",
    ] {
        for dialect in DIALECTS {
            let (reader, notices) = read(dialect, keep_alive.as_bytes(), 7);
            let told = at(&notices, |notice| {
                notice.first_content || notice.terminal || notice.failed || notice.malformed
            });
            assert_eq!(told, [0; 0], "{keep_alive:?} in {dialect:?}");
            assert!(!reader.all_finished());
        }
    }
    let numbered = "event: keepalive\ndata: {\"type\":\"keepalive\",\"sequence_number\":3}\n\ndata:\n\n";
    let (reader, _) = read(Dialect::RESPONSES, numbered.as_bytes(), 7);
    assert_eq!(reader.next_sequence(), Some(4));
    let (_, notices) = read(Dialect::CHAT, b"event: error\ndata:\n\n", 7);
    assert_eq!(at(&notices, |notice| notice.error), [0], "an error without data is an error");
}

#[test]
fn legacy_completions() {
    let chunk = |text: &str, finish: &str| {
        format!(
            r#"{{"id":"cmpl-1","object":"text_completion","created":1,"choices":[{{"text":"{text}","index":0,"logprobs":null,"finish_reason":{finish}}}],"model":"gpt-3.5-turbo-instruct"}}"#
        )
    };
    let stream = unnamed(&[
        &chunk("", "null"),
        &chunk("a", "null"),
        &chunk("}b{", "null"),
        &chunk("c", "null"),
        &chunk("", "\"length\""),
        "[DONE]",
    ]);
    let (reader, notices) = read(Dialect::COMPLETIONS, stream.as_bytes(), 33);
    assert_eq!(at(&notices, |notice| notice.first_content), [1]);
    assert_eq!(at(&notices, |notice| notice.terminal), [5]);
    assert_eq!(reader.reading().finish_reason, Some(FinishReason::Length));
    assert_eq!((reader.all_finished(), reader.counts().parsed), (true, 3));
}

fn responses_lines(terminal: &str, status: &str, text: &str) -> Vec<String> {
    let mut lines = vec![
        r#"{"type":"response.created","sequence_number":0,"response":{"id":"resp_1","status":"in_progress","model":"gpt-5","output":[],"usage":null}}"#.to_owned(),
        r#"{"type":"response.in_progress","sequence_number":1,"response":{"id":"resp_1","status":"in_progress","model":"gpt-5"}}"#.to_owned(),
        r#"{"type":"response.output_item.added","sequence_number":2,"output_index":0,"item":{"type":"message","content":[]}}"#.to_owned(),
    ];
    for number in 3..13 {
        lines.push(format!(r#"{{"type":"response.output_text.delta","sequence_number":{number},"item_id":"msg_1","delta":"w","logprobs":[],"obfuscation":"x"}}"#));
    }
    lines.push(format!(
        r#"{{"type":"{terminal}","sequence_number":13,"response":{{"id":"resp_1","status":"{status}","incomplete_details":{{"reason":"content_filter"}},"model":"gpt-5","output":[{{"content":[{{"text":"{text}","usage":{{"input_tokens":999}}}}]}}],"usage":{{"input_tokens":36,"output_tokens":87,"total_tokens":123}}}}}}"#
    ));
    lines
}

#[test]
fn a_responses_stream_named_or_not() {
    for (event, status, terminal, finish) in [
        ("response.completed", "completed", Terminal::Completed, FinishReason::Stop),
        ("response.failed", "failed", Terminal::Failed, FinishReason::Failed),
        ("response.incomplete", "incomplete", Terminal::Incomplete, FinishReason::ContentFilter),
    ] {
        let lines = responses_lines(event, status, "quoted \\\"usage\\\"");
        let lines: Vec<&str> = lines.iter().map(String::as_str).collect();
        for stream in [named(&lines), unnamed(&lines)] {
            let (reader, notices) = read(Dialect::RESPONSES, stream.as_bytes(), 77);
            assert_eq!(at(&notices, |notice| notice.first_content), [3]);
            assert_eq!(at(&notices, |notice| notice.terminal), [13]);
            let failed = terminal == Terminal::Failed;
            assert_eq!(at(&notices, |notice| notice.failed).len(), usize::from(failed));
            let expected = Reading {
                model: Some("gpt-5".into()),
                usage: Some(usage(36, 87)),
                finish_reason: Some(finish),
            };
            assert_eq!(reader.reading(), expected);
            assert_eq!((reader.terminal(), reader.next_sequence()), (Some(terminal), Some(14)));
            assert_eq!(reader.counts(), Counts { events: 14, parsed: 5, errors: 0, malformed: 0 });
        }
    }
}

#[test]
fn the_name_message_tells_as_little_as_none() {
    let written_out = |stream: &str| stream.replace("data: ", "event: message\ndata: ");
    let (reader, notices) = read(Dialect::CHAT, written_out(&openai_chat(50)).as_bytes(), 99);
    assert_eq!(at(&notices, |notice| notice.terminal), [53]);
    assert_eq!((reader.counts().parsed, reader.all_finished()), (4, true));
    let lines = responses_lines("response.completed", "completed", "x");
    let lines: Vec<&str> = lines.iter().map(String::as_str).collect();
    let (reader, _) = read(Dialect::RESPONSES, written_out(&unnamed(&lines)).as_bytes(), 99);
    assert_eq!((reader.terminal(), reader.counts().parsed), (Some(Terminal::Completed), 5));
}

#[test]
fn an_oversized_chunk_is_content_unless_it_is_an_error() {
    let big = format!("data: {}\n\n", "x".repeat(crate::sse::DATA_LIMIT + 1));
    let (reader, notices) = read(Dialect::CHAT, (format!("event: error\n{big}") + &big).as_bytes(), 9_999);
    assert_eq!(at(&notices, |notice| notice.error), [0]);
    assert_eq!(at(&notices, |notice| notice.first_content), [1]);
    assert_eq!(reader.counts(), Counts { events: 2, parsed: 2, errors: 1, malformed: 0 });
}

#[test]
fn done_ends_a_stream_of_any_dialect() {
    for dialect in DIALECTS {
        let (reader, notices) = read(dialect, b"data: [DONE]\n\n", usize::MAX);
        assert_eq!(notices, [Notice { terminal: true, ..Notice::default() }]);
        assert_eq!(reader.terminal(), Some(Terminal::Done));
    }
}

#[test]
fn a_terminal_event_of_any_size_is_read() {
    // Half a mebibyte is kept whole; of more, the outline.
    for length in [400_000, 600_000, 2_000_000] {
        let lines = responses_lines("response.completed", "completed", &"é".repeat(length));
        for stream in [named(&[lines.last().unwrap()]), unnamed(&[lines.last().unwrap()])] {
            for size in [16_384, usize::MAX] {
                let (reader, notices) = read(Dialect::RESPONSES, stream.as_bytes(), size);
                assert_eq!(notices, [Notice { terminal: true, ..Notice::default() }]);
                let model = Some("gpt-5".to_owned());
                let expected =
                    Reading { model, usage: Some(usage(36, 87)), finish_reason: Some(FinishReason::Stop) };
                assert_eq!((reader.reading(), reader.next_sequence()), (expected, Some(14)));
            }
        }
    }
}

#[test]
fn the_sequence_number_is_found_wherever_it_stands() {
    let first = r#"{"type":"response.output_text.delta","sequence_number":7,"delta":"x"}"#;
    for (line, next, parsed) in [
        (
            r#"{"type":"response.output_text.delta","sequence_number":41,"delta":"\"sequence_number\":5"}"#,
            42,
            1,
        ),
        (
            r#"{"content_index":0,"delta":"w","output_index":0,"sequence_number":41,"type":"response.output_text.delta"}"#,
            42,
            1,
        ),
        (r#"{"type":"response.output_text.delta","item_id":"m","delta":"w","sequence_number":41}"#, 42, 1),
        (r#"{"sequence_number": 41, "type": "response.output_text.delta", "delta": "w"}"#, 42, 2),
        (
            r#"{"type":"response.output_item.done","item":{"a":1,"sequence_number":5},"sequence_number" : 41}"#,
            42,
            2,
        ),
        (r#"{"type":"response.output_item.done","item":{"a":1,"sequence_number":5}}"#, 9, 2),
    ] {
        let stream = named(&[first]) + &format!("event: response.output_text.delta\ndata: {line}\n\n");
        let (reader, _) = read(Dialect::RESPONSES, stream.as_bytes(), usize::MAX);
        assert_eq!((reader.next_sequence(), reader.counts().parsed), (Some(next), parsed), "{line}");
    }
    assert_eq!(StreamReader::new(Dialect::RESPONSES).next_sequence(), Some(0));
}

#[test]
fn a_flat_error_event_and_a_call_as_first_content() {
    let stream = named(&[
        r#"{"type":"response.output_item.added","sequence_number":1,"item":{"type":"reasoning"}}"#,
        r#"{"type":"response.output_item.added","sequence_number":2,"item":{"type":"function_call","name":"f"}}"#,
        r#"{"type":"error","code":"server_error","message":"m","param":null,"sequence_number":3}"#,
    ]);
    let (reader, notices) = read(Dialect::RESPONSES, stream.as_bytes(), 20);
    assert_eq!(at(&notices, |notice| notice.first_content), [1]);
    assert_eq!(at(&notices, |notice| notice.error), [2]);
    assert_eq!((reader.terminal(), reader.next_sequence()), (None, Some(4)));
}

#[test]
fn a_response_that_ends_in_calls_is_told_as_that() {
    let end = |output: &str| {
        format!(
            r#"{{"type":"response.completed","sequence_number":9,"response":{{"status":"completed","output":{output},"usage":null}}}}"#
        )
    };
    let added = r#"{"type":"response.output_item.added","sequence_number":2,"item":{"type":"function_call","name":"f"}}"#;
    let word = r#"{"type":"response.output_text.delta","sequence_number":1,"delta":"w"}"#;
    for (lines, expected) in [
        (
            vec![end(r#"[{"type":"message","content":[]},{"type":"function_call","name":"f"}]"#)],
            FinishReason::ToolCalls,
        ),
        (vec![end(r#"[{"type":"custom_tool_call"}]"#)], FinishReason::ToolCalls),
        // Some servers leave the output out of the last event.
        (vec![word.to_owned(), added.to_owned(), end("[]")], FinishReason::ToolCalls),
        (vec![end(r#"[{"type":"web_search_call"},{"type":"message","content":[]}]"#)], FinishReason::Stop),
        (vec![added.to_owned(), end("[]").replace("completed", "incomplete")], FinishReason::Other),
    ] {
        let lines: Vec<&str> = lines.iter().map(String::as_str).collect();
        let (reader, _) = read(Dialect::RESPONSES, named(&lines).as_bytes(), 31);
        assert_eq!(reader.reading().finish_reason, Some(expected), "{lines:?}");
    }
}

#[test]
fn items_that_are_output_are_content_and_their_empty_beginnings_are_not() {
    for (item, content) in [
        (r#"{"type":"message","content":[]}"#, false),
        (r#"{"id":"rs_1","type":"reasoning","summary":[]}"#, false),
        (r#"{"type":"message","content":[{"type":"output_text","text":"Hi"}]}"#, true),
        (r#"{"type":"web_search_call","status":"in_progress"}"#, true),
        (r#"{"type":"mcp_list_tools"}"#, true),
        (r#"{"type":"compaction","encrypted_content":"x"}"#, true),
    ] {
        for event in ["response.output_item.added", "response.output_item.done"] {
            let line = format!(r#"{{"type":"{event}","sequence_number":2,"item":{item}}}"#);
            let (_, notices) = read(Dialect::RESPONSES, named(&[&line]).as_bytes(), 9);
            assert_eq!(notices[0].first_content, content, "{line}");
        }
    }
}

#[test]
fn a_messages_stream() {
    let stream = named(&[
        r#"{"type":"message_start","message":{"id":"msg_1","type":"message","role":"assistant","model":"claude-x","content":[],"stop_reason":null,"usage":{"input_tokens":25,"cache_creation_input_tokens":10,"cache_read_input_tokens":5,"output_tokens":1}}}"#,
        r#"{"type":"content_block_start","index":0,"content_block":{"type":"text","text":""}}"#,
        r#"{"type":"ping"}"#,
        r#"{"type":"content_block_delta","index":0,"delta":{"type":"text_delta","text":"Hi"}}"#,
        r#"{"type":"content_block_delta","index":0,"delta":{"type":"text_delta","text":"!"}}"#,
        r#"{"type":"content_block_stop","index":0}"#,
        r#"{"type":"message_delta","delta":{"stop_reason":"max_tokens","stop_sequence":null},"usage":{"output_tokens":15}}"#,
        r#"{"type":"message_stop"}"#,
    ]);
    let (reader, notices) = read(Dialect::MESSAGES, stream.as_bytes(), 31);
    assert_eq!(at(&notices, |notice| notice.first_content), [3]);
    assert_eq!(at(&notices, |notice| notice.terminal), [7]);
    let usage = Usage { cached_input: Some(5), cache_write: Some(10), ..usage(40, 15) };
    let expected = Reading {
        model: Some("claude-x".into()),
        usage: Some(usage),
        finish_reason: Some(FinishReason::Length),
    };
    assert_eq!(reader.reading(), expected);
    assert_eq!((reader.terminal(), reader.counts().parsed), (Some(Terminal::MessageStop), 4));
}

#[test]
fn a_messages_stream_that_calls_a_tool_or_fails() {
    let stream = named(&[
        r#"{"type":"content_block_start","index":0,"content_block":{"type":"tool_use","id":"t","name":"f","input":{}}}"#,
        r#"{"type":"error","error":{"type":"overloaded_error","message":"Overloaded"}}"#,
    ]);
    let (_, notices) = read(Dialect::MESSAGES, stream.as_bytes(), usize::MAX);
    assert_eq!(at(&notices, |notice| notice.first_content), [0]);
    assert_eq!(at(&notices, |notice| notice.error), [1]);
}

#[test]
fn a_stream_of_another_operation_is_read_as_far_as_it_is_alike() {
    let stream = unnamed(&[
        r#"{"type":"transcript.text.delta","delta":"x"}"#,
        "not json at all, \"usage\"",
        r#"{"type":"transcript.text.done","usage":{"input_tokens":14,"output_tokens":45,"total_tokens":59}}"#,
        "[DONE]",
    ]);
    let (reader, notices) = read(Dialect::OTHER, stream.as_bytes(), 10);
    assert_eq!(at(&notices, |notice| notice.first_content), [0]);
    assert_eq!(at(&notices, |notice| notice.terminal), [3]);
    assert_eq!(at(&notices, |notice| notice.malformed || notice.error), [0; 0]);
    assert_eq!(reader.reading().usage, Some(usage(14, 45)));
}

proptest! {
    /// What is reported does not depend on how the stream was cut, in any dialect, even of a stream in another one.
    #[test]
    fn no_cut_changes_what_is_told(words in 0usize..40, size in 1usize..400, cut in any::<prop::sample::Index>(), dialect in prop::sample::select(&DIALECTS)) {
        let lines = responses_lines("response.completed", "completed", "x");
        let lines: Vec<&str> = lines.iter().map(String::as_str).collect();
        let stream = openai_chat(words) + &named(&lines);
        // The very end is one of the cuts.
        let stream = &stream.as_bytes()[..cut.index(stream.len() + 1)];
        let (whole, expected) = read(dialect, stream, usize::MAX);
        let (cut, notices) = read(dialect, stream, size);
        prop_assert_eq!(notices, expected);
        prop_assert_eq!((cut.reading(), cut.counts(), cut.next_sequence()), (whole.reading(), whole.counts(), whole.next_sequence()));
    }

    /// Skipping the parse never loses anything: a reader that has to parse every chunk tells the same.
    #[test]
    fn what_is_skipped_tells_nothing(kinds in prop::collection::vec(0usize..9, 1..60)) {
        let pieces = [
            chunk(r#"{"content":"a"}"#, "null", ""),
            chunk(r#"{"content":"b} \"finish_reason\":\"stop\""}"#, "null", ""),
            chunk(r#"{"content":"c"}"#, "null", r#","obfuscation":"k""#),
            chunk(r#"{"content":"d"}"#, "\"length\"", ""),
            chunk(r#"{"content":"e"}"#, "null", r#","usage":{"prompt_tokens":1,"completion_tokens":2}"#),
            chunk(r#"{"content":"f"}"#, "null", "").replace("\"index\":0", "\"index\":1"),
            chunk(r#"{"content":"g"}"#, "\"stop\"", "").replace("\"index\":0", "\"index\":1"),
            r#"{"error":{"message":"x"}}"#.to_owned(),
            chunk(r#"{"tool_calls":[{"function":{"arguments":"{}"}}]}"#, "null", ""),
        ];
        let (mut skipping, mut parsing) = (StreamReader::new(Dialect::CHAT), StreamReader::new(Dialect::CHAT));
        for kind in kinds {
            let event = Event { name: b"", data: pieces[kind].as_bytes(), oversized: false };
            parsing.progress.ordinary = Ordinary::chat();
            prop_assert_eq!(skipping.event(&event), parsing.event(&event));
        }
        prop_assert_eq!(skipping.reading(), parsing.reading());
        prop_assert_eq!(skipping.all_finished(), parsing.all_finished());
    }
}
