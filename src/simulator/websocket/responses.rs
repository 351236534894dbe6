//! The Responses API in WebSocket mode (OpenAI API guide, "WebSocket mode"): each `response.create` is a turn, whose events are those of a stream
//! over HTTP, one message each.

use std::{collections::VecDeque, time::Duration};

use bytes::BytesMut;
use serde_json::{Value, json};

use super::{
    super::{
        bodies,
        content::{Dialect, ResponseMeta},
        endpoint::RequestParams,
        events::Events,
        plan::Plan,
    },
    api::{Api, Mistake, Setting, Stage},
};

/// The most responses that wait for the one before them.
const MAX_WAITING: usize = 16;
/// The most responses that later ones may continue.
const MAX_KNOWN: usize = 32;
/// What the client may send.
const KNOWN: &[&str] = &["response.create"];

/// A connection of the Responses API.
pub(super) struct Responses {
    setting: Setting,
    turns: u64,
    turn: Option<Turn>,
    waiting: VecDeque<Turn>,
    /// The ids that `previous_response_id` may name.
    known: VecDeque<String>,
}

/// A response.
struct Turn {
    number: u64,
    events: Events,
    plan: Plan,
    stage: Stage,
    /// The lane that the client has named.
    lane: Option<String>,
    /// A response without output, if the client only warms up.
    empty: Option<String>,
}

impl Responses {
    pub(super) fn new(setting: Setting) -> Self {
        Self { setting, turns: 0, turn: None, waiting: VecDeque::new(), known: VecDeque::new() }
    }

    fn create(&mut self, message: &Value) -> Result<(), Mistake> {
        let text = |name: &str| message.get(name).and_then(Value::as_str);
        let model = text("model").ok_or_else(|| Mistake::missing("model"))?;
        if let Some(previous) = text("previous_response_id")
            && !self.known.iter().any(|known| known == previous)
        {
            let message = format!("Previous response with id '{previous}' not found.");
            let param = Some("previous_response_id");
            return Err(Mistake { code: "previous_response_not_found", message, param });
        }
        if model.starts_with("missing-") {
            let message =
                format!("The requested model '{model}' does not exist or you do not have access to it.");
            return Err(Mistake { code: "model_not_found", message, param: Some("model") });
        }
        if self.waiting.len() == MAX_WAITING {
            let message = "Too many responses are in progress on this connection.".to_owned();
            return Err(Mistake { code: "websocket_stream_limit_reached", message, param: None });
        }
        self.turns += 1;
        let number = self.setting.id(self.turns);
        let plan = self.setting.plan_of(model);
        let quoted = serde_json::to_string(model).unwrap_or_default();
        let meta = || ResponseMeta { number, model: quoted.clone(), created: self.setting.created };
        let is_warm_up = message.get("generate") == Some(&Value::Bool(false));
        let empty = is_warm_up.then(|| empty_response(&meta(), &plan));
        let params = RequestParams { stream: true, ..RequestParams::default() };
        let events = Events::new(Dialect::Responses, &params, meta(), &plan, self.setting.pace);
        let lane = text("stream_id").map(str::to_owned);
        self.waiting.push_back(Turn { number, events, plan, stage: Stage::Opening, lane, empty });
        self.begin_next();
        Ok(())
    }

    fn begin_next(&mut self) {
        if self.turn.is_none() {
            self.turn = self.waiting.pop_front();
        }
    }
}

impl Api for Responses {
    fn greeting(&mut self) -> Vec<String> {
        Vec::new()
    }

    fn message(&mut self, text: &str) -> Vec<String> {
        let created = Mistake::find(text).and_then(|(kind, message)| match kind.as_str() {
            "response.create" => self.create(&message),
            other => Err(Mistake::unknown_type(other, KNOWN)),
        });
        created.err().map(|mistake| error(400, &mistake.body())).into_iter().collect()
    }

    fn pace(&self) -> Option<Duration> {
        let turn = self.turn.as_ref()?;
        Some(turn.stage.pace(&turn.plan, self.setting.pace))
    }

    fn step(&mut self) -> Vec<String> {
        let Some(turn) = &mut self.turn else { return Vec::new() };
        let (events, is_over) = turn.step();
        if is_over {
            if self.known.len() == MAX_KNOWN {
                self.known.pop_front();
            }
            self.known.push_back(format!("resp_sim{}", turn.number));
            self.turn = None;
            self.begin_next();
        }
        events
    }

    fn expired(&mut self) -> String {
        error(
            400,
            &json!({
                "type": "invalid_request_error",
                "code": "websocket_connection_limit_reached",
                "message": "Responses websocket connection limit reached (60 minutes). Create a new websocket connection to continue.",
                "param": null,
            }),
        )
    }
}

impl Turn {
    /// The next events, and whether they are the last.
    fn step(&mut self) -> (Vec<String>, bool) {
        if let Some(empty) = &self.empty {
            let kinds = ["response.created", "response.completed"];
            let numbered = kinds.iter().enumerate();
            let events = numbered.map(|(sequence, kind)| {
                format!(r#"{{"type":"{kind}","sequence_number":{sequence},"response":{empty}}}"#)
            });
            return (self.in_lane(events.collect()), true);
        }
        let mut out = BytesMut::new();
        let frames = self.events.frames();
        let is_last = match self.stage {
            Stage::Opening => {
                self.events.opening(&mut out);
                self.stage = Stage::Frames(0);
                false
            }
            Stage::Frames(sent) => {
                let end = sent.saturating_add(self.events.batch()).min(frames);
                (sent..end).for_each(|index| self.events.frame(index, &mut out));
                self.stage = Stage::Frames(end);
                end == frames
            }
        };
        if is_last && !self.plan.error_event {
            self.events.closing(&mut out);
        }
        let mut events = self.in_lane(messages(&out));
        if is_last && self.plan.error_event {
            let message = "The server had an error while processing your request.";
            let failed =
                json!({"type": "server_error", "code": "server_error", "message": message, "param": null});
            events.push(error(500, &failed));
        }
        (events, is_last)
    }

    /// `events` with the lane that the client has named.
    fn in_lane(&self, events: Vec<String>) -> Vec<String> {
        let Some(lane) = &self.lane else { return events };
        let lane = serde_json::to_string(lane).unwrap_or_default();
        let named = events.into_iter().map(|event| {
            let end = event.len().saturating_sub(1);
            format!(r#"{},"stream_id":{lane}}}"#, event.get(..end).unwrap_or_default())
        });
        named.collect()
    }
}

/// The data of each event of a stream.
fn messages(stream: &[u8]) -> Vec<String> {
    let stream = String::from_utf8_lossy(stream);
    stream.lines().filter_map(|line| line.strip_prefix("data: ")).map(str::to_owned).collect()
}

fn empty_response(meta: &ResponseMeta, plan: &Plan) -> String {
    bodies::response(meta, plan, "completed", None)
}

/// Unlike over HTTP, the error is nested (openai-python, `types/beta/response_ws_error.py`).
fn error(status: u16, error: &Value) -> String {
    format!(r#"{{"type":"error","status":{status},"error":{error}}}"#)
}
