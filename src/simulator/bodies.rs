//! Generated JSON bodies: whole responses, and the objects that they share with event streams.

use base64::{Engine as _, engine::general_purpose::STANDARD};
use serde_json::{Value, json};

use super::{
    content::{self, Dialect, ResponseMeta},
    endpoint::RequestParams,
    plan::Plan,
    upload::Upload,
};

/// The most numbers in one embedding, and the most embeddings in one response.
const MAX_EMBEDDING: usize = 4096;

/// A completion, message or response that is not streamed.
pub(super) fn completion(dialect: Dialect, meta: &ResponseMeta, plan: &Plan) -> String {
    let text = content::text(plan);
    let ResponseMeta { number, model, created } = meta;
    match dialect {
        Dialect::Chat => format!(
            r#"{{"id":"chatcmpl-sim{number}","object":"chat.completion","created":{created},"model":{model},"choices":[{{"index":0,"message":{{"role":"assistant","content":"{text}","refusal":null,"annotations":[]}},"logprobs":null,"finish_reason":"stop"}}],"usage":{},"service_tier":"default","system_fingerprint":"fp_simulator"}}"#,
            usage_of_completions(plan)
        ),
        Dialect::Completions => format!(
            r#"{{"id":"cmpl-sim{number}","object":"text_completion","created":{created},"model":{model},"choices":[{{"text":"{text}","index":0,"logprobs":null,"finish_reason":"stop"}}],"usage":{}}}"#,
            usage_of_completions(plan)
        ),
        Dialect::Responses => response(meta, plan, "completed", Some(&text)),
        Dialect::Messages => {
            let (input, output) = content::tokens(plan);
            format!(
                r#"{{"id":"msg_sim{number}","type":"message","role":"assistant","model":{model},"content":[{{"type":"text","text":"{text}"}}],"stop_reason":"end_turn","stop_sequence":null,"usage":{{"input_tokens":{input},"output_tokens":{output}}}}}"#
            )
        }
    }
}

/// How the ephemeral keys begin that the simulator issues.
pub(super) const EPHEMERAL: &str = "ek_sim_";

/// An ephemeral key, valid for ten minutes by its own word, and in fact as long as the simulator runs.
pub(super) fn client_secret(number: u64, created: u64) -> Value {
    json!({
        "value": format!("{EPHEMERAL}{number:016}"), "expires_at": created + 600,
        "session": { "type": "realtime", "object": "realtime.session", "id": format!("sess_sim{number}") },
    })
}

/// The usage object of chat and completions.
pub(super) fn usage_of_completions(plan: &Plan) -> String {
    let (input, output) = content::tokens(plan);
    let total = input.saturating_add(output);
    format!(
        r#"{{"prompt_tokens":{input},"completion_tokens":{output},"total_tokens":{total},"prompt_tokens_details":{{"cached_tokens":0,"audio_tokens":0}},"completion_tokens_details":{{"reasoning_tokens":0,"audio_tokens":0,"accepted_prediction_tokens":0,"rejected_prediction_tokens":0}}}}"#
    )
}

/// A response object. Its output and usage are present only if `text` is given.
pub(super) fn response(meta: &ResponseMeta, plan: &Plan, status: &str, text: Option<&str>) -> String {
    let ResponseMeta { number, model, created } = meta;
    let (input, output) = content::tokens(plan);
    let (items, usage) = match text {
        Some(text) => (
            response_item(*number, text),
            format!(
                r#"{{"input_tokens":{input},"input_tokens_details":{{"cached_tokens":0}},"output_tokens":{output},"output_tokens_details":{{"reasoning_tokens":0}},"total_tokens":{}}}"#,
                input.saturating_add(output)
            ),
        ),
        None => (String::new(), "null".to_owned()),
    };
    format!(
        r#"{{"id":"resp_sim{number}","object":"response","created_at":{created},"status":"{status}","background":false,"error":null,"incomplete_details":null,"instructions":null,"max_output_tokens":null,"model":{model},"output":[{items}],"parallel_tool_calls":true,"previous_response_id":null,"reasoning":{{"effort":null,"summary":null}},"service_tier":"default","store":true,"temperature":1.0,"text":{{"format":{{"type":"text"}}}},"tool_choice":"auto","tools":[],"top_p":1.0,"truncation":"disabled","usage":{usage},"user":null,"metadata":{{}}}}"#
    )
}

/// The message inside a response.
pub(super) fn response_item(number: u64, text: &str) -> String {
    let part = response_part(text);
    format!(
        r#"{{"id":"msg_sim{number}","type":"message","status":"completed","role":"assistant","content":[{part}]}}"#
    )
}

/// The text part inside a response's message.
pub(super) fn response_part(text: &str) -> String {
    format!(r#"{{"type":"output_text","text":"{text}","annotations":[],"logprobs":[]}}"#)
}

/// The list of models.
pub(super) fn models(created: u64) -> Value {
    let models: Vec<Value> = ["gpt-4o", "gpt-4o-mini", "sim", "text-embedding-3-small", "whisper-1"]
        .into_iter()
        .map(|id| model(id, created))
        .collect();
    json!({"object": "list", "data": models})
}

/// One model.
pub(super) fn model(id: &str, created: u64) -> Value {
    json!({"id": id, "object": "model", "created": created, "owned_by": "simulator"})
}

/// Embeddings: the same fixed numbers for each input.
pub(super) fn embeddings(params: &RequestParams, plan: &Plan) -> Value {
    let dimensions = params.dimensions.unwrap_or(8).min(MAX_EMBEDDING);
    let numbers: Vec<f32> =
        (0_u16..).take(dimensions).map(|index| f32::from(index).mul_add(0.125, -0.5)).collect();
    let embedding = if params.base64 {
        let bytes: Vec<u8> = numbers.iter().flat_map(|number| number.to_le_bytes()).collect();
        Value::String(STANDARD.encode(bytes))
    } else {
        json!(numbers)
    };
    let data: Vec<Value> = (0..params.inputs.clamp(1, MAX_EMBEDDING))
        .map(|index| json!({"object": "embedding", "index": index, "embedding": embedding}))
        .collect();
    let (input, _) = content::tokens(plan);
    let usage = json!({"prompt_tokens": input, "total_tokens": input});
    json!({"object": "list", "data": data, "model": params.model, "usage": usage})
}

/// An uploaded file, with the number of bytes received and their hash.
pub(super) fn file(number: u64, created: u64, upload: &Upload) -> Value {
    json!({
        "id": format!("file-sim{number}"),
        "object": "file",
        "bytes": upload.length(),
        "created_at": created,
        "filename": part(upload.kept(), b"filename=\"", b"\"").unwrap_or_else(|| "upload".to_owned()),
        "purpose": part(upload.kept(), b"name=\"purpose\"\r\n\r\n", b"\r\n").unwrap_or_else(|| "assistants".to_owned()),
        "status": "processed",
        "sha256": upload.sha256_hex(),
    })
}

/// A transcription, with the number of bytes received and their hash.
pub(super) fn transcription(plan: &Plan, upload: &Upload) -> Value {
    json!({"text": content::text(plan), "bytes": upload.length(), "sha256": upload.sha256_hex()})
}

/// The text between `open` and `close` in a multipart body.
fn part(body: &[u8], open: &[u8], close: &[u8]) -> Option<String> {
    let (_, rest) = body.split_at_checked(memchr::memmem::find(body, open)? + open.len())?;
    let (value, _) = rest.split_at_checked(memchr::memmem::find(rest, close)?)?;
    String::from_utf8(value.to_vec()).ok()
}
