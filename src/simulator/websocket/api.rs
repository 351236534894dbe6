//! What a session needs of an API.

use std::time::Duration;

use serde_json::{Value, json};

use super::super::plan::Plan;

/// What an API says on one connection. Its events are JSON texts.
pub(super) trait Api {
    /// The events that it sends as soon as the connection is open.
    fn greeting(&mut self) -> Vec<String>;

    /// The events with which it answers a message at once. A message may also begin a turn.
    fn message(&mut self, text: &str) -> Vec<String>;

    /// The time before the next events of the turn that is under way; `None` if there is no turn.
    fn pace(&self) -> Option<Duration>;

    /// The next events of the turn that is under way.
    fn step(&mut self) -> Vec<String>;

    /// The event that says that the connection has lasted too long.
    fn expired(&mut self) -> String;
}

/// What is known of a connection when it is opened.
pub(super) struct Setting {
    /// Number of the request, from 1.
    pub(super) number: u64,
    /// Unix seconds.
    pub(super) created: u64,
    pub(super) plan: Plan,
    /// Time between two batches of frames, unless the plan has its own.
    pub(super) pace: Duration,
}

/// How far a turn has come.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) enum Stage {
    /// Nothing was sent.
    #[default]
    Opening,
    /// So many frames were sent.
    Frames(u64),
}

impl Setting {
    /// The plan of a turn of `model`: the settings of the connection override those of the name.
    pub(super) fn plan_of(&self, model: &str) -> Plan {
        let mut plan = self.plan.clone();
        plan.read_model(model);
        Plan {
            frames: self.plan.frames.or(plan.frames),
            interval: self.plan.interval.or(plan.interval),
            size: if self.plan.size > 0 { self.plan.size } else { plan.size },
            newline: "\n",
            comments: false,
            malformed: false,
            ..plan
        }
    }

    /// The number that the ids of turn `turn` end with; it differs from those of all other connections.
    pub(super) fn id(&self, turn: u64) -> u64 {
        self.number.saturating_mul(1000).saturating_add(turn)
    }
}

impl Stage {
    /// The time before the next events.
    pub(super) fn pace(self, plan: &Plan, pace: Duration) -> Duration {
        match self {
            Self::Opening => plan.delay,
            Self::Frames(0) => plan.first,
            Self::Frames(_) => plan.interval.unwrap_or(pace),
        }
    }
}

/// The mistake in a message.
pub(super) struct Mistake {
    pub(super) code: &'static str,
    pub(super) message: String,
    pub(super) param: Option<&'static str>,
}

impl Mistake {
    /// The `error` of an error event.
    pub(super) fn body(&self) -> Value {
        json!({"type": "invalid_request_error", "code": self.code, "message": self.message, "param": self.param})
    }

    /// Reads a message: a JSON object with a type.
    pub(super) fn find(text: &str) -> Result<(String, Value), Self> {
        let Ok(Value::Object(members)) = serde_json::from_str(text) else {
            let message = "We could not parse the JSON body of your message.".to_owned();
            return Err(Self { code: "invalid_json", message, param: None });
        };
        let Some(kind) = members.get("type").and_then(Value::as_str).map(str::to_owned) else {
            return Err(Self::missing("type"));
        };
        Ok((kind, Value::Object(members)))
    }

    /// A member is missing.
    pub(super) fn missing(param: &'static str) -> Self {
        let message = format!("Missing required parameter: '{param}'.");
        Self { code: "missing_required_parameter", message, param: Some(param) }
    }

    /// There is no message of this type.
    pub(super) fn unknown_type(kind: &str, known: &[&str]) -> Self {
        let known = known.iter().map(|name| format!("'{name}'")).collect::<Vec<_>>().join(", ");
        let message = format!("Invalid value: '{kind}'. Supported values are: {known}.");
        Self { code: "invalid_value", message, param: Some("type") }
    }
}
