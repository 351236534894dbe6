//! The Realtime API (OpenAI API reference, Realtime "Client events" and "Server events").

use std::{collections::VecDeque, time::Duration};

use base64::{Engine as _, engine::general_purpose::STANDARD};
use percent_encoding::percent_decode_str;
use serde_json::{Value, json};

use super::{
    super::content::{self, word},
    api::{Api, Mistake, Setting, Stage},
    turn::Turn,
};

/// The most items of a conversation that are kept.
const MAX_ITEMS: usize = 100;
/// The audio of one frame: 20 ms of silence at 24 kHz, 16 bits a sample.
const FRAME_OF_AUDIO: usize = 960;
/// What the client may send.
const KNOWN: &[&str] = &[
    "session.update",
    "input_audio_buffer.append",
    "input_audio_buffer.commit",
    "input_audio_buffer.clear",
    "conversation.item.create",
    "conversation.item.truncate",
    "conversation.item.delete",
    "conversation.item.retrieve",
    "output_audio_buffer.clear",
    "response.create",
    "response.cancel",
];
/// What a session may be told to change. Its model is fixed when the connection is opened, unless that named none.
const SETTINGS: &[&str] = &[
    "type",
    "output_modalities",
    "modalities",
    "instructions",
    "tools",
    "tool_choice",
    "max_output_tokens",
    "max_response_output_tokens",
    "parallel_tool_calls",
    "tracing",
    "truncation",
    "prompt",
    "reasoning",
    "include",
    "audio",
    "voice",
    "speed",
    "temperature",
    "turn_detection",
    "input_audio_format",
    "output_audio_format",
    "input_audio_transcription",
    "input_audio_noise_reduction",
];

/// A connection of the Realtime API.
pub(super) struct Realtime {
    setting: Setting,
    /// The session, as its events show it: at most a message of each setting.
    session: Value,
    model: Option<String>,
    /// Events sent so far.
    events: u64,
    /// Items made so far.
    made: u64,
    turns: u64,
    items: VecDeque<Value>,
    /// Bytes of audio, in base64, that were not committed.
    audio: usize,
    turn: Option<Turn>,
    /// The `event_id` of the message that is being answered.
    answered: Value,
}

impl Realtime {
    /// A session for the model that the handshake's query names.
    pub(super) fn new(setting: Setting, query: &str) -> Self {
        let value = |name: &str| {
            let mut pairs = query.split('&').filter_map(|pair| pair.split_once('='));
            let found = pairs.find(|(key, _)| *key == name)?;
            Some(percent_decode_str(found.1).decode_utf8_lossy().into_owned())
        };
        let model = value("model").or_else(|| value("deployment"));
        let kind =
            if value("intent").as_deref() == Some("transcription") { "transcription" } else { "realtime" };
        let session = session(&setting, kind, model.as_deref());
        Self {
            setting,
            session,
            model,
            events: 0,
            made: 0,
            turns: 0,
            items: VecDeque::new(),
            audio: 0,
            turn: None,
            answered: Value::Null,
        }
    }

    /// An event with its id. The type comes first, as the provider writes it.
    fn event(&mut self, kind: &str, members: &Value) -> String {
        self.events += 1;
        let (connection, number) = (self.setting.number, self.events);
        let members = members.to_string();
        let members = members.strip_prefix('{').and_then(|rest| rest.strip_suffix('}')).unwrap_or_default();
        let comma = if members.is_empty() { "" } else { "," };
        format!(r#"{{"type":"{kind}","event_id":"event_sim{connection}_{number}"{comma}{members}}}"#)
    }

    fn error(&mut self, error: &Mistake) -> String {
        let mut body = error.body();
        if let Value::Object(members) = &mut body {
            members.insert("event_id".to_owned(), self.answered.clone());
        }
        self.event("error", &json!({"error": body}))
    }

    fn answer(&mut self, kind: &str, message: &Value) -> Result<Vec<String>, Mistake> {
        match kind {
            "session.update" => self.update(message),
            "input_audio_buffer.append" => {
                let audio = message.get("audio").and_then(Value::as_str);
                self.audio += audio.ok_or_else(|| Mistake::missing("audio"))?.len();
                Ok(Vec::new())
            }
            "input_audio_buffer.clear" => {
                self.audio = 0;
                Ok(vec![self.event("input_audio_buffer.cleared", &json!({}))])
            }
            "output_audio_buffer.clear" => Ok(vec![self.event("output_audio_buffer.cleared", &json!({}))]),
            "input_audio_buffer.commit" => self.commit(),
            "conversation.item.create" => {
                let item = message.get("item").filter(|item| item.is_object());
                let item = item.cloned().ok_or_else(|| Mistake::missing("item"))?;
                Ok(self.add(item, &message["previous_item_id"]))
            }
            "conversation.item.truncate" | "conversation.item.delete" | "conversation.item.retrieve" => {
                self.change(kind, message)
            }
            "response.create" => self.create(message),
            "response.cancel" => self.cancel(),
            other => Err(Mistake::unknown_type(other, KNOWN)),
        }
    }

    fn update(&mut self, message: &Value) -> Result<Vec<String>, Mistake> {
        let Some(Value::Object(update)) = message.get("session") else {
            return Err(Mistake::missing("session"));
        };
        for (name, value) in update {
            if name == "model" {
                if self.model.is_none() {
                    self.model = value.as_str().map(str::to_owned);
                    self.session["model"] = value.clone();
                }
            } else if SETTINGS.contains(&name.as_str()) {
                merge(&mut self.session[name.as_str()], value);
            } else {
                let message = format!("Unknown parameter: 'session.{name}'.");
                return Err(Mistake { code: "unknown_parameter", message, param: Some("session") });
            }
        }
        let session = self.session.clone();
        Ok(vec![self.event("session.updated", &json!({"session": session}))])
    }

    fn commit(&mut self) -> Result<Vec<String>, Mistake> {
        if self.audio == 0 {
            let message = "Error committing input audio buffer: buffer too small. Expected at least 100ms of audio, but buffer only has 0.00ms of audio.";
            let code = "input_audio_buffer_commit_empty";
            return Err(Mistake { code, message: message.to_owned(), param: None });
        }
        self.audio = 0;
        let previous = self.last_item();
        let id = self.new_item();
        let mut events =
            vec![self.event(
                "input_audio_buffer.committed",
                &json!({"previous_item_id": previous, "item_id": id}),
            )];
        let content = json!([{"type": "input_audio", "transcript": null}]);
        events.extend(
            self.add(json!({"id": id, "type": "message", "role": "user", "content": content}), &previous),
        );
        let transcription = &self.session["audio"]["input"]["transcription"];
        if !transcription.is_null() || self.session["type"] == "transcription" {
            let text = content::text(&self.setting.plan);
            let usage = json!({
                "type": "tokens", "total_tokens": 17, "input_tokens": 13, "output_tokens": 4,
                "input_token_details": {"text_tokens": 0, "audio_tokens": 13},
            });
            let kind = "conversation.item.input_audio_transcription.completed";
            let members = json!({"item_id": id, "content_index": 0, "transcript": text, "usage": usage});
            events.push(self.event(kind, &members));
        }
        Ok(events)
    }

    /// Adds an item to the conversation.
    fn add(&mut self, mut item: Value, previous: &Value) -> Vec<String> {
        if !item["id"].is_string() {
            item["id"] = self.new_item().into();
        }
        item["object"] = "realtime.item".into();
        item["status"] = "completed".into();
        let previous = if previous.is_string() { previous.clone() } else { self.last_item() };
        self.keep(item.clone());
        let members = json!({"previous_item_id": previous, "item": item});
        ["conversation.item.added", "conversation.item.done"].map(|kind| self.event(kind, &members)).into()
    }

    fn change(&mut self, kind: &str, message: &Value) -> Result<Vec<String>, Mistake> {
        let id = message.get("item_id").and_then(Value::as_str).ok_or_else(|| Mistake::missing("item_id"))?;
        let Some(at) = self.items.iter().position(|item| item["id"] == id) else {
            let message = format!("Item with item_id '{id}' not found.");
            return Err(Mistake { code: "item_not_found", message, param: Some("item_id") });
        };
        let event = match kind {
            "conversation.item.delete" => {
                self.items.remove(at);
                self.event("conversation.item.deleted", &json!({"item_id": id}))
            }
            "conversation.item.retrieve" => {
                let item = self.items.get(at).cloned();
                self.event("conversation.item.retrieved", &json!({"item": item}))
            }
            _ => {
                let members = json!({
                    "item_id": id, "content_index": message["content_index"], "audio_end_ms": message["audio_end_ms"],
                });
                self.event("conversation.item.truncated", &members)
            }
        };
        Ok(vec![event])
    }

    fn create(&mut self, message: &Value) -> Result<Vec<String>, Mistake> {
        if let Some(turn) = &self.turn {
            let id = &turn.id;
            let message = format!(
                "Conversation already has an active response in progress: {id}. Wait until the response is finished before creating a new one."
            );
            let code = "conversation_already_has_active_response";
            return Err(Mistake { code, message, param: None });
        }
        self.turns += 1;
        let number = self.setting.id(self.turns);
        let wanted = ["output_modalities", "modalities"].map(|name| &message["response"][name]);
        let wanted =
            wanted.into_iter().chain([&self.session["output_modalities"]]).find(|kinds| kinds.is_array());
        let is_spoken =
            wanted.is_none_or(|kinds| kinds.as_array().is_some_and(|all| all.contains(&"audio".into())));
        let plan = self.setting.plan_of(self.model.as_deref().unwrap_or_default());
        let (item, previous) = (self.new_item(), self.last_item());
        let id = format!("resp_sim{number}");
        self.turn = Some(Turn { id, item, plan, stage: Stage::Opening, is_spoken, previous });
        Ok(Vec::new())
    }

    fn cancel(&mut self) -> Result<Vec<String>, Mistake> {
        let Some(turn) = self.turn.take() else {
            let message = "Cancellation failed: no active response found".to_owned();
            return Err(Mistake { code: "response_cancel_not_active", message, param: None });
        };
        let details = json!({"type": "cancelled", "reason": "client_cancelled"});
        let response = turn.response("cancelled", &details, false);
        Ok(vec![self.event("response.done", &json!({"response": response}))])
    }

    fn open_turn(&mut self, turn: &Turn) -> Vec<String> {
        let response = turn.response("in_progress", &Value::Null, false);
        let (id, item_id) = (turn.id.clone(), turn.item.clone());
        let item = turn.item("in_progress", &json!([]));
        let part = if turn.is_spoken {
            json!({"type": "audio", "transcript": ""})
        } else {
            json!({"type": "text", "text": ""})
        };
        let part = json!({
            "response_id": id, "item_id": item_id, "output_index": 0, "content_index": 0, "part": part,
        });
        vec![
            self.event("response.created", &json!({"response": response})),
            self.event(
                "response.output_item.added",
                &json!({"response_id": id, "output_index": 0, "item": item}),
            ),
            self.event("conversation.item.added", &json!({"previous_item_id": turn.previous, "item": item})),
            self.event("response.content_part.added", &part),
        ]
    }

    fn frames(&mut self, turn: &Turn, from: u64, to: u64) -> Vec<String> {
        let mut events = Vec::new();
        for index in from..to {
            let text = format!("{}{}", word(index), "x".repeat(turn.plan.size));
            if turn.is_spoken {
                events
                    .push(self.event("response.output_audio_transcript.delta", &turn.piece("delta", &text)));
                let audio = STANDARD.encode([0_u8; FRAME_OF_AUDIO]);
                events.push(self.event("response.output_audio.delta", &turn.piece("delta", &audio)));
            } else {
                events.push(self.event("response.output_text.delta", &turn.piece("delta", &text)));
            }
        }
        events
    }

    fn close_turn(&mut self, turn: &Turn) -> Vec<String> {
        if turn.plan.error_event {
            let message = "The server had an error while processing your request. Sorry about that!";
            let error = json!({"type": "server_error", "code": "server_error", "message": message});
            let response = turn.response("failed", &json!({"type": "failed", "error": error}), false);
            return vec![self.event("response.done", &json!({"response": response}))];
        }
        let text = content::text(&turn.plan);
        let content = turn.content(&text);
        let item = turn.item("completed", &json!([content]));
        let (id, item_id) = (turn.id.clone(), turn.item.clone());
        let mut events = Vec::new();
        if turn.is_spoken {
            events.push(self.event("response.output_audio.done", &turn.piece("", "")));
            events
                .push(self.event("response.output_audio_transcript.done", &turn.piece("transcript", &text)));
        } else {
            events.push(self.event("response.output_text.done", &turn.piece("text", &text)));
        }
        let part = if turn.is_spoken {
            json!({"type": "audio", "transcript": text})
        } else {
            json!({"type": "text", "text": text})
        };
        let part = json!({"response_id": id, "item_id": item_id, "output_index": 0, "content_index": 0, "part": part});
        events.push(self.event("response.content_part.done", &part));
        events.push(
            self.event("conversation.item.done", &json!({"previous_item_id": turn.previous, "item": item})),
        );
        events.push(self.event(
            "response.output_item.done",
            &json!({"response_id": id, "output_index": 0, "item": item}),
        ));
        let response = turn.response("completed", &Value::Null, true);
        events.push(self.event("response.done", &json!({"response": response})));
        self.keep(item);
        events
    }

    fn new_item(&mut self) -> String {
        self.made += 1;
        format!("item_sim{}_{}", self.setting.number, self.made)
    }

    fn last_item(&self) -> Value {
        self.items.back().map_or(Value::Null, |item| item["id"].clone())
    }

    fn keep(&mut self, item: Value) {
        if self.items.len() == MAX_ITEMS {
            self.items.pop_front();
        }
        self.items.push_back(item);
    }
}

impl Api for Realtime {
    fn greeting(&mut self) -> Vec<String> {
        let session = self.session.clone();
        vec![self.event("session.created", &json!({"session": session}))]
    }

    fn message(&mut self, text: &str) -> Vec<String> {
        self.answered = Value::Null;
        let answered = Mistake::find(text).and_then(|(kind, message)| {
            self.answered = message["event_id"].clone();
            self.answer(&kind, &message)
        });
        answered.unwrap_or_else(|mistake| vec![self.error(&mistake)])
    }

    fn pace(&self) -> Option<Duration> {
        let turn = self.turn.as_ref()?;
        Some(turn.stage.pace(&turn.plan, self.setting.pace))
    }

    fn step(&mut self) -> Vec<String> {
        let Some(mut turn) = self.turn.take() else { return Vec::new() };
        let frames = content::frames(&turn.plan);
        let frames = if turn.plan.error_event { frames / 2 } else { frames };
        let events = match turn.stage {
            Stage::Opening => {
                turn.stage = Stage::Frames(0);
                self.open_turn(&turn)
            }
            Stage::Frames(sent) => {
                let end = sent.saturating_add(turn.plan.batch).min(frames);
                turn.stage = Stage::Frames(end);
                let mut events = self.frames(&turn, sent, end);
                if end == frames {
                    events.extend(self.close_turn(&turn));
                    return events;
                }
                events
            }
        };
        self.turn = Some(turn);
        events
    }

    fn expired(&mut self) -> String {
        self.answered = Value::Null;
        let message = "Your session hit the maximum duration of 60 minutes.".to_owned();
        self.error(&Mistake { code: "session_expired", message, param: None })
    }
}

/// A session as it begins.
fn session(setting: &Setting, kind: &str, model: Option<&str>) -> Value {
    let format = json!({"type": "audio/pcm", "rate": 24000});
    let detection = json!({
        "type": "server_vad", "threshold": 0.5, "prefix_padding_ms": 300, "silence_duration_ms": 200,
        "idle_timeout_ms": null, "create_response": true, "interrupt_response": true,
    });
    let input = json!({
        "format": format, "transcription": null, "noise_reduction": null, "turn_detection": detection,
    });
    let id = format!("sess_sim{}", setting.number);
    let expires_at = setting.created.saturating_add(60 * 60);
    if kind == "transcription" {
        return json!({
            "type": kind, "object": "realtime.transcription_session", "id": id, "expires_at": expires_at,
            "audio": {"input": input}, "include": null,
        });
    }
    json!({
        "type": kind, "object": "realtime.session", "id": id, "model": model, "output_modalities": ["audio"],
        "instructions": "", "tools": [], "tool_choice": "auto", "max_output_tokens": "inf", "tracing": null,
        "truncation": "auto", "prompt": null, "expires_at": expires_at,
        "audio": {"input": input, "output": {"format": format, "voice": "marin", "speed": 1.0}},
        "include": null,
    })
}

/// Changes `known` by what `update` names.
fn merge(known: &mut Value, update: &Value) {
    match (known, update) {
        (Value::Object(known), Value::Object(update)) => {
            for (name, value) in update {
                merge(known.entry(name.clone()).or_insert(Value::Null), value);
            }
        }
        (known, update) => *known = update.clone(),
    }
}
