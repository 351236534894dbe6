//! Streams that end as real providers end them, and what the log says of them.

use serde_json::{Value, json};
use sluicegate::simulator::{Head, Script, Step};

use super::assert_ended;
use crate::harness::{Answer, BOTH, Gateway, Http, Keys, post, send, simulator, whole};

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
    let gateway = Gateway::with(&upstream, Http::One, Keys::default());
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
