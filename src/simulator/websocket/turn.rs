//! A response of the Realtime API, in the objects of its events.

use serde_json::{Value, json};

use super::{
    super::{content, plan::Plan},
    api::Stage,
};

/// A response.
pub(super) struct Turn {
    pub(super) id: String,
    pub(super) item: String,
    pub(super) plan: Plan,
    pub(super) stage: Stage,
    pub(super) is_spoken: bool,
    pub(super) previous: Value,
}

impl Turn {
    /// The response, as `response.created` and `response.done` show it.
    pub(super) fn response(&self, status: &str, details: &Value, is_whole: bool) -> Value {
        let (input, output) = content::tokens(&self.plan);
        let (text_tokens, audio_tokens) = if self.is_spoken { (0, output) } else { (output, 0) };
        let usage = is_whole.then(|| {
            json!({
                "total_tokens": input.saturating_add(output), "input_tokens": input, "output_tokens": output,
                "input_token_details": {
                    "text_tokens": input, "audio_tokens": 0, "image_tokens": 0, "cached_tokens": 0,
                    "cached_tokens_details": {"text_tokens": 0, "audio_tokens": 0, "image_tokens": 0},
                },
                "output_token_details": {"text_tokens": text_tokens, "audio_tokens": audio_tokens},
            })
        });
        let output = if is_whole {
            json!([self.item("completed", &json!([self.content(&content::text(&self.plan))]))])
        } else {
            json!([])
        };
        json!({
            "object": "realtime.response", "id": self.id, "status": status, "status_details": details,
            "output": output, "conversation_id": "conv_sim", "max_output_tokens": "inf", "metadata": null,
            "output_modalities": [if self.is_spoken { "audio" } else { "text" }], "usage": usage,
        })
    }

    pub(super) fn item(&self, status: &str, content: &Value) -> Value {
        json!({
            "id": self.item, "object": "realtime.item", "type": "message", "status": status, "role": "assistant",
            "content": content,
        })
    }

    pub(super) fn content(&self, text: &str) -> Value {
        if self.is_spoken {
            json!({"type": "output_audio", "transcript": text})
        } else {
            json!({"type": "output_text", "text": text})
        }
    }

    /// The members of an event about the part that is being generated; `name` is that of its text.
    pub(super) fn piece(&self, name: &str, text: &str) -> Value {
        let mut members = json!({
            "response_id": self.id, "item_id": self.item, "output_index": 0, "content_index": 0,
        });
        if !name.is_empty() {
            members[name] = text.into();
        }
        members
    }
}
