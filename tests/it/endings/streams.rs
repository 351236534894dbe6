//! Streams that end as real providers end them, and what the log says of them.

use std::time::Duration;

use http::HeaderValue;
use serde_json::{Value, json};
use sluicegate::simulator::{Head, Script, Step};

use super::{assert_ended, counted};
use crate::harness::{
    Answer, BOTH, Gateway, GatewayToml, Http, Keys, authorised, chat, post, send, simulator, whole,
};

/// A chunk of chat with this delta and finish reason, both as JSON.
fn chunk(delta: &str, finish: &str) -> String {
    format!(
        "data: {{\"model\":\"m-1\",\"choices\":[{{\"index\":0,\"delta\":{delta},\"finish_reason\":{finish}}}]}}\n\n"
    )
}

/// What the client gets of a stream that ends in order after `body`, and the access line.
async fn answered(path: &str, body: &str, down: Http) -> (Answer, Value) {
    answered_with(Head::event_stream(), path, body, down).await
}

async fn answered_with(head: Head, path: &str, body: &str, down: Http) -> (Answer, Value) {
    let upstream = simulator().await;
    let gateway = counted(&upstream.url(), Http::One, Keys::default());
    upstream.queue(Script::new(vec![Step::Head(head), Step::Send(body.to_owned().into())]));
    let request = post(gateway.address(), down, path);
    let answer =
        send(gateway.address(), down, request.body(whole(r#"{"model":"m","stream":true}"#)).unwrap());
    let answer = answer.await;
    let line = gateway.log.line_of(&answer).await;
    gateway.finish(1).await;
    (answer, line)
}

/// The stream is passed on as it came, and is complete.
async fn assert_complete(path: &str, body: &str) -> Value {
    let mut last = Value::Null;
    for down in BOTH {
        let (answer, line) = answered(path, body, down).await;
        assert!(answer.whole, "{path} {body}");
        assert_eq!(answer.text(), body);
        assert_ended(&line, "upstream", "done", "");
        last = line;
    }
    last
}

/// The client is told that the stream broke off.
async fn assert_broken_off(path: &str, body: &str) {
    for down in BOTH {
        let (answer, line) = answered(path, body, down).await;
        let told = answer.text().strip_prefix(body).is_some_and(|rest| rest.contains("\"error\""));
        assert!(told || !answer.whole, "{path}: {}", answer.text());
        assert_ended(&line, "upstream", "stream", "upstream_truncated");
    }
}

const CHAT: &str = "/v1/chat/completions";
const MESSAGES: &str = "/v1/messages";

#[tokio::test]
async fn an_empty_finish_reason_and_the_word_null_do_not_end_a_chat() {
    for none in [r#""""#, r#""null""#, "null"] {
        let begun = chunk(r#"{"content":"Hi"}"#, none);
        assert_broken_off(CHAT, &begun).await;
        let line = assert_complete(CHAT, &(begun + &chunk("{}", r#""stop""#))).await;
        assert_eq!(line["finish_reason"], json!("stop"));
    }
}

#[tokio::test]
async fn a_last_event_without_its_blank_line_is_read() {
    let word = chunk(r#"{"content":"Hi"}"#, "null");
    for end in ["data: [DONE]", "data: [DONE]\n", "data: [DONE]\r\n", "data:[DONE]\r"] {
        assert_complete(CHAT, &(word.clone() + end)).await;
    }
    let finish = chunk("{}", r#""length""#)
        .replace("}\n\n", r#","usage":{"prompt_tokens":3,"completion_tokens":4,"total_tokens":7}}"#);
    let line = assert_complete(CHAT, &(word.clone() + &finish)).await;
    assert_eq!((&line["tokens_in"], &line["tokens_out"]), (&json!(3), &json!(4)));
    assert_eq!(line["finish_reason"], json!("length"));
    // Half an event is no end.
    assert_broken_off(CHAT, &(word + &finish[..finish.len() / 2])).await;
}

#[tokio::test]
async fn a_message_is_complete_after_its_stop_reason() {
    let start = "event: message_start\ndata: {\"type\":\"message_start\",\"message\":{\"model\":\"c\",\"usage\":{\"input_tokens\":5,\"output_tokens\":1}}}\n\n";
    let delta = "event: message_delta\ndata: {\"type\":\"message_delta\",\"delta\":{\"stop_reason\":\"tool_use\"},\"usage\":{\"output_tokens\":9}}\n\n";
    let line = assert_complete(MESSAGES, &format!("{start}{delta}")).await;
    assert_eq!((&line["tokens_out"], &line["finish_reason"]), (&json!(9), &json!("tool_calls")));
    assert_broken_off(MESSAGES, start).await;
    assert_broken_off(MESSAGES, &format!("{start}{}", delta.replace("\"tool_use\"", "null"))).await;
}

#[tokio::test]
async fn media_and_runs_end_by_the_events_of_their_own_dialect() {
    let event = |name: &str, rest: &str| format!("event: {name}\ndata: {{\"type\":\"{name}\"{rest}}}\n\n");
    let usage = r#","usage":{"input_tokens":3,"output_tokens":4,"total_tokens":7}"#;
    let table = [
        (
            "/v1/images/generations",
            event("image_generation.partial_image", r#","b64_json":"AA""#),
            event("image_generation.completed", &format!(r#","b64_json":"AA"{usage}"#)),
        ),
        (
            "/v1/images/edits",
            event("image_edit.partial_image", r#","b64_json":"AA""#),
            event("image_edit.completed", &format!(r#","b64_json":"AA"{usage}"#)),
        ),
        (
            "/v1/audio/speech",
            event("speech.audio.delta", r#","audio":"AA""#),
            event("speech.audio.done", usage),
        ),
        (
            "/v1/audio/transcriptions",
            event("transcript.text.delta", r#","delta":"Hi""#),
            event("transcript.text.done", usage),
        ),
        (
            "/v1/threads/thread_1/runs",
            event("thread.message.delta", r#","delta":{"content":[{"index":0}]}"#),
            event("thread.run.completed", usage) + "event: done\ndata: [DONE]\n\n",
        ),
    ];
    for (path, begun, end) in table {
        assert_broken_off(path, &begun).await;
        let line = assert_complete(path, &(begun + &end)).await;
        assert_eq!((&line["tokens_in"], &line["tokens_out"]), (&json!(3), &json!(4)), "{path} {line}");
        assert!(line["first_token_ms"].is_number(), "{path} {line}");
    }
}

/// A session is silent for as long as its agent has nothing to do.
#[tokio::test]
async fn the_silence_of_a_session_is_no_failure() {
    let upstream = simulator().await;
    let route = r#"timeout = { idle = "50ms" }"#;
    let gateway = counted(&upstream.url(), Http::One, Keys { route, ..Keys::default() });
    let event = "event: session.status_idle\ndata: {\"type\":\"session.status_idle\"}\n\n";
    for down in BOTH {
        upstream.queue(Script::new(vec![
            Step::Head(Head::event_stream()),
            Step::Send(event.into()),
            Step::Wait(Duration::from_millis(300)),
            Step::Send(event.into()),
        ]));
        let request = authorised(gateway.address(), down, "GET", "/v1/agents/sessions/s/events");
        let answer = send(gateway.address(), down, request.body(whole("")).unwrap()).await;
        assert!(answer.whole && answer.text() == event.repeat(2), "{}", answer.text());
        let line = gateway.log.line_of(&answer).await;
        assert_ended(&line, "upstream", "done", "");
    }
    gateway.finish(2).await;
}

#[tokio::test]
async fn an_event_of_more_than_a_mebibyte_still_ends_its_stream() {
    let image = "A".repeat(1_500_000);
    let completed = format!(
        "event: response.completed\ndata: {{\"type\":\"response.completed\",\"sequence_number\":1,\"response\":{{\"status\":\"completed\",\"model\":\"m-1\",\"output\":[{{\"type\":\"image_generation_call\",\"result\":\"{image}\"}}],\"usage\":{{\"input_tokens\":5,\"output_tokens\":7}}}}}}\n\n"
    );
    let nameless = completed.replace("event: response.completed\n", "");
    for stream in [completed, nameless] {
        let line = assert_complete("/v1/responses", &stream).await;
        assert_eq!((&line["tokens_in"], &line["tokens_out"]), (&json!(5), &json!(7)), "{line}");
        assert_eq!((&line["finish_reason"], &line["response_model"]), (&json!("stop"), &json!("m-1")));
    }
}

/// Without a `content-type`, and with the one of everything unknown.
#[tokio::test]
async fn a_stream_without_a_label_is_recognised_by_its_first_bytes() {
    let stream = ": OPENROUTER PROCESSING\n\n".to_owned()
        + &chunk(r#"{"content":"Hi"}"#, "null")
        + &chunk("{}", r#""stop""#)
        + "data: [DONE]\n\n";
    let unlabelled = || {
        let mut head = Head::event_stream();
        head.headers.remove("content-type");
        head
    };
    let plain = || {
        let mut head = unlabelled();
        head.headers.insert("content-type", HeaderValue::from_static("text/plain; charset=utf-8"));
        head
    };
    for down in BOTH {
        for head in [unlabelled(), plain()] {
            let (answer, line) = answered_with(head.clone(), CHAT, &stream, down).await;
            assert!(answer.whole && answer.text() == stream);
            assert_ended(&line, "upstream", "done", "");
            assert_eq!((&line["events"], &line["finish_reason"]), (&json!(3), &json!("stop")), "{line}");
            let cut = &stream[..stream.len() - 200];
            let (_, line) = answered_with(head.clone(), CHAT, cut, down).await;
            assert_ended(&line, "upstream", "stream", "upstream_truncated");
            // What is no stream is passed on as it is.
            let (answer, line) = answered_with(head, CHAT, "it works", down).await;
            assert!(answer.whole && answer.text() == "it works");
            assert!(line["events"].is_null(), "{line}");
        }
    }
}

#[tokio::test]
async fn a_whole_answer_is_read_wherever_its_members_stand() {
    let long = "l".repeat(34_000);
    let body = format!(
        r#"{{"instructions":"{long}","status":"completed","model":"gpt-5","output":[{{"type":"function_call","arguments":"{long}"}}],"usage":{{"input_tokens":5,"output_tokens":7,"input_tokens_details":{{"cached_tokens":2}},"output_tokens_details":{{"reasoning_tokens":3}}}},"tools":"{long}"}}"#
    );
    let head = Head::json(http::StatusCode::OK, body.len());
    let (answer, line) = answered_with(head, "/v1/responses", &body, Http::One).await;
    assert!(answer.whole);
    assert_eq!(
        (&line["finish_reason"], &line["response_model"]),
        (&json!("tool_calls"), &json!("gpt-5")),
        "{line}"
    );
    assert_eq!((&line["tokens_cached_input"], &line["tokens_reasoning"]), (&json!(2), &json!(3)), "{line}");
}

/// The start of a stream that fails while it is held back was never given to the client.
#[tokio::test]
async fn what_was_not_streamed_did_not_end_in_a_stream() {
    let upstream = simulator().await;
    let retry = r#"retry = { retries = 1, backoff = "20ms" }"#;
    let toml = GatewayToml::before(&upstream.url(), retry).route("delivery = \"whole\"");
    let gateway = Gateway::start(&toml);
    for _ in 0..2 {
        let nothing = Step::Send(": nothing\n\n".into());
        upstream.queue(Script::new(vec![Step::Head(Head::event_stream()), nothing]));
    }
    let answer = chat(gateway.address(), Http::One).await;
    let line = gateway.log.line_of(&answer).await;
    assert!(answer.status.is_server_error(), "{line}");
    assert_ended(&line, "upstream", "first_byte", "upstream_truncated");
    gateway.finish(1).await;
}
