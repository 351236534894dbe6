//! The APIs that are Gemini's and Ollama's own are forwarded as they are, and their ends, tokens and errors are known.

use http::StatusCode;
use serde_json::{Value, json};
use sluicegate::simulator::{Cut, Framing, Head, Script, Step};

use crate::harness::{Answer, Client, Gateway, Http, Keys, post, safely, simulator, whole};

const GEMINI: &str = "/v1/models/gemini-3-flash:streamGenerateContent?alt=sse";
const GEMINI_BODY: &str = r#"{"contents":[{"parts":[{"text":"Hi"}]}]}"#;
const OLLAMA: &str = "/v1/api/chat";
const OLLAMA_BODY: &str = r#"{"model":"gemma3","messages":[{"role":"user","content":"Hi"}]}"#;

/// Gemini API reference, "Generating content".
const GEMINI_PIECE: &str = "data: {\"candidates\":[{\"content\":{\"parts\":[{\"text\":\"Hel\"}],\"role\":\"model\"},\"index\":0}],\"usageMetadata\":{\"promptTokenCount\":4,\"totalTokenCount\":4},\"modelVersion\":\"gemini-3-flash\"}\r\n\r\n";
const GEMINI_LAST: &str = "data: {\"candidates\":[{\"content\":{\"parts\":[{\"text\":\"lo\"}],\"role\":\"model\"},\"finishReason\":\"STOP\",\"index\":0}],\"usageMetadata\":{\"promptTokenCount\":4,\"candidatesTokenCount\":2,\"thoughtsTokenCount\":5,\"totalTokenCount\":11},\"modelVersion\":\"gemini-3-flash\"}\r\n\r\n";
const GEMINI_BLOCKED: &str = "data: {\"promptFeedback\":{\"blockReason\":\"SAFETY\"},\"usageMetadata\":{\"promptTokenCount\":4,\"totalTokenCount\":4},\"modelVersion\":\"gemini-3-flash\"}\r\n\r\n";
const GEMINI_ERROR: &str = "data: {\"error\":{\"code\":503,\"message\":\"The model is overloaded.\",\"status\":\"UNAVAILABLE\"}}\r\n\r\n";

/// Ollama API documentation, "Streaming", "Errors".
const OLLAMA_PIECE: &str = "{\"model\":\"gemma3\",\"created_at\":\"2025-10-26T17:15:24Z\",\"message\":{\"role\":\"assistant\",\"content\":\"Hel\"},\"done\":false}\n";
const OLLAMA_LAST: &str = "{\"model\":\"gemma3\",\"created_at\":\"2025-10-26T17:15:24Z\",\"message\":{\"role\":\"assistant\",\"content\":\"\"},\"done\":true,\"done_reason\":\"stop\",\"total_duration\":174560334,\"prompt_eval_count\":11,\"eval_count\":18}\n";
const OLLAMA_ERROR: &str = "{\"error\":\"an error was encountered while running the model\"}\n";

/// One exchange: what the client got, and the line of the log.
async fn exchange(
    path: &str,
    request: &'static str,
    kind: &'static str,
    steps: Vec<Step>,
) -> (Answer, Value) {
    let upstream = simulator().await;
    let gateway = Gateway::with(
        &upstream,
        Http::One,
        Keys { upstream: "timeout = { idle = \"300ms\" }", ..Keys::default() },
    );
    let head = Step::Head(Head::new(StatusCode::OK, kind, Framing::Chunked));
    upstream.queue(Script::new([head].into_iter().chain(steps).collect()));
    let mut client = Client::connect(gateway.address(), Http::One).await;
    let request = post(gateway.address(), Http::One, path).body(whole(request)).unwrap();
    let answer = safely(client.ask(request)).await;
    client.leave().await;
    (answer, gateway.log.line(1).await)
}

/// The lines of the log that say how it went.
fn told(line: &Value) -> Value {
    let keys = [
        "model",
        "response_model",
        "finish_reason",
        "tokens_in",
        "tokens_out",
        "tokens_reasoning",
        "phase",
        "error",
    ];
    keys.iter()
        .filter(|key| !line[**key].is_null())
        .map(|key| ((*key).to_owned(), line[*key].clone()))
        .collect::<serde_json::Map<_, _>>()
        .into()
}

/// Every byte of it in a piece of its own.
fn bytes_of(text: &str) -> Vec<Step> {
    text.as_bytes().chunks(1).map(|byte| Step::Send(byte.to_vec().into())).collect()
}

const SSE: &str = "text/event-stream";
const LINES: &str = "application/x-ndjson";

#[tokio::test]
async fn a_stream_of_gemini_is_whole_when_its_candidates_have_finished() {
    let text = [GEMINI_PIECE, GEMINI_LAST].concat();
    for steps in [bytes_of(&text), vec![Step::Send(text.clone().into())]] {
        let (answer, line) = exchange(GEMINI, GEMINI_BODY, SSE, steps).await;
        assert_eq!((answer.text(), answer.whole), (&*text, true));
        let expected = json!({
            "model": "gemini-3-flash", "response_model": "gemini-3-flash",
            "finish_reason": "stop", "tokens_in": 4, "tokens_out": 7, "tokens_reasoning": 5, "phase": "done",
        });
        assert_eq!(told(&line), expected, "{line:#}");
    }
    // A prompt that is blocked has no candidates.
    let (answer, line) = exchange(GEMINI, GEMINI_BODY, SSE, vec![Step::Send(GEMINI_BLOCKED.into())]).await;
    assert!(answer.whole && line["phase"] == "done" && line["finish_reason"] == "content_filter", "{line:#}");
}

#[tokio::test]
async fn a_stream_of_gemini_that_is_cut_is_told_as_cut() {
    for last in [None, Some(Step::Cut(Cut::Close)), Some(Step::Stall)] {
        let steps = [Step::Send(GEMINI_PIECE.into())].into_iter().chain(last).collect();
        let (answer, line) = exchange(GEMINI, GEMINI_BODY, SSE, steps).await;
        // Not all SDKs raise on the event, so the transport is aborted as well.
        let event = answer.text().strip_prefix(GEMINI_PIECE).unwrap_or_default();
        let error: Value =
            serde_json::from_str(event.trim().strip_prefix("data: ").unwrap_or_default()).unwrap();
        assert_eq!(error["error"]["status"], "UNAVAILABLE", "{answer:?}");
        assert!(!answer.whole && line["who"] == "upstream" && line["error"] != Value::Null, "{line:#}");
        assert_eq!(line["tokens_in"], 4, "{line:#}");
    }
    let steps = vec![Step::Send([GEMINI_PIECE, GEMINI_ERROR].concat().into())];
    let (answer, line) = exchange(GEMINI, GEMINI_BODY, SSE, steps).await;
    assert_eq!(answer.text(), [GEMINI_PIECE, GEMINI_ERROR].concat());
    assert_eq!(line["error"], "upstream_error_event", "{line:#}");
}

/// Without `alt=sse`, a stream is an array.
#[tokio::test]
async fn an_answer_of_gemini_that_is_an_array_has_its_tokens_counted() {
    let array = format!("[{}\n,\r\n{}]", &GEMINI_PIECE[6..].trim_end(), &GEMINI_LAST[6..].trim_end());
    let (answer, line) = exchange(
        "/v1/models/gemini-3-flash:streamGenerateContent",
        GEMINI_BODY,
        "application/json",
        bytes_of(&array),
    )
    .await;
    assert_eq!((answer.text(), answer.whole), (&*array, true));
    let long = array.replace("Hel", &"Hello ".repeat(3000));
    let (_, of_long) = exchange(
        "/v1/models/gemini-3-flash:streamGenerateContent",
        GEMINI_BODY,
        "application/json",
        vec![Step::Send(long.into())],
    )
    .await;
    assert_eq!(told(&of_long), told(&line), "{of_long:#}");
    assert_eq!(
        (&line["tokens_in"], &line["tokens_out"], &line["finish_reason"]),
        (&4.into(), &7.into(), &"stop".into()),
        "{line:#}"
    );
    let (_, line) = exchange(
        "/v1/models/m:generateContent",
        GEMINI_BODY,
        "application/json",
        bytes_of(&GEMINI_LAST[6..]),
    )
    .await;
    assert_eq!((&line["tokens_out"], &line["model"]), (&7.into(), &"m".into()), "{line:#}");
}

#[tokio::test]
async fn a_stream_of_ollama_ends_with_its_last_line() {
    let text = [OLLAMA_PIECE, OLLAMA_LAST].concat();
    for steps in [bytes_of(&text), vec![Step::Send(text.clone().into())], bytes_of(text.trim_end())] {
        let (answer, line) = exchange(OLLAMA, OLLAMA_BODY, LINES, steps).await;
        assert_eq!((answer.text().trim_end(), answer.whole), (text.trim_end(), true));
        let expected = json!({
            "model": "gemma3", "response_model": "gemma3", "finish_reason": "stop",
            "tokens_in": 11, "tokens_out": 18, "phase": "done",
        });
        assert_eq!(told(&line), expected, "{line:#}");
        assert_eq!(line["events"], 2, "{line:#}");
    }
    let (_, line) =
        exchange("/v1/api/generate", OLLAMA_BODY, "application/json", bytes_of(OLLAMA_LAST)).await;
    assert_eq!(line["tokens_out"], 18, "{line:#}");
}

#[tokio::test]
async fn a_stream_of_ollama_that_is_cut_ends_with_a_line_of_the_gateway() {
    for last in [None, Some(Step::Cut(Cut::Close)), Some(Step::Stall)] {
        let steps = [Step::Send(OLLAMA_PIECE.into())].into_iter().chain(last).collect();
        let (answer, line) = exchange(OLLAMA, OLLAMA_BODY, LINES, steps).await;
        let added: Value =
            serde_json::from_str(answer.text().strip_prefix(OLLAMA_PIECE).unwrap_or_default()).unwrap();
        assert!(
            added["error"].as_str().is_some_and(|error| error.contains("(docs/errors#upstream_")),
            "{answer:?}"
        );
        assert!(answer.whole && line["who"] == "upstream" && line["error"] != Value::Null, "{line:#}");
    }
    // Within a line nothing can be added.
    let half = &OLLAMA_PIECE[..20];
    let (answer, _) = exchange(OLLAMA, OLLAMA_BODY, LINES, vec![Step::Send(half.into())]).await;
    assert_eq!((answer.text(), answer.whole), (half, false));
    let steps = vec![Step::Send([OLLAMA_PIECE, OLLAMA_ERROR].concat().into())];
    let (answer, line) = exchange(OLLAMA, OLLAMA_BODY, LINES, steps).await;
    assert_eq!((answer.text(), answer.whole), (&*[OLLAMA_PIECE, OLLAMA_ERROR].concat(), true));
    assert_eq!(line["error"], "upstream_error_event", "{line:#}");
}
