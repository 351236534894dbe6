//! `tests/sdk/calls.toml`: which calls are made, what the upstream answers, and which differences are known.

use std::{collections::BTreeMap, fs};

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

/// The file.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Data {
    pub(super) section: Vec<Section>,
    /// Bodies of responses, and events of streams, by name.
    #[serde(default)]
    pub(super) answer: BTreeMap<String, String>,
    #[serde(default)]
    pub(super) stream: BTreeMap<String, String>,
    #[serde(default)]
    pub(super) difference: Vec<Difference>,
    /// Methods that are in no section, by SDK: beginnings of their names, with the reason.
    #[serde(default)]
    pub(super) left_out: BTreeMap<String, BTreeMap<String, String>>,
}

/// Calls that the same clients can make.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Section {
    pub(super) title: String,
    /// A sentence for the reader.
    pub(super) text: Option<String>,
    #[serde(default)]
    pub(super) upstream: Upstream,
    pub(super) clients: Vec<String>,
    pub(super) calls: Vec<Call>,
}

/// Who answers the calls of a section.
#[derive(Deserialize, Default, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
#[serde(rename_all = "lowercase")]
pub(super) enum Upstream {
    /// The simulated provider, with the scripts of the calls; it notes the requests.
    #[default]
    Scripted,
    /// The same by its own rules over TLS, which some clients insist on. It has the WebSocket APIs.
    Tls,
    /// npm's `@copilotkit/aimock`.
    Aimock,
    /// llama.cpp's own server.
    Llama,
    /// The simulated provider by its own rules, for programs whose requests carry no id: each has a path of its own.
    Tools,
}

/// One call: a line of the page.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Call {
    /// The method of Python's SDK, or a function of `clients.py` and `clients.mjs`.
    pub(super) call: String,
    /// What is special about it.
    pub(super) r#as: Option<String>,
    #[serde(default)]
    pub(super) ids: Vec<Value>,
    #[serde(default)]
    pub(super) with: Map<String, Value>,
    /// What the upstream answers, by name (`answers.rs`); several are for one request after another.
    #[serde(default)]
    pub(super) answer: Names,
    /// The id in an ordinary answer.
    pub(super) id: Option<String>,
    /// Clients of the section that cannot make it.
    #[serde(default)]
    pub(super) not: Vec<String>,
    /// How often the SDK itself may repeat it.
    #[serde(default)]
    pub(super) retries: u32,
    /// Whether it fails at an upstream without scripts too.
    #[serde(default)]
    pub(super) fails: bool,
    /// Whether the client presents a key that nobody knows.
    #[serde(default)]
    pub(super) wrong_key: bool,
}

/// One name or several.
#[derive(Deserialize, Default)]
#[serde(untagged)]
pub(super) enum Names {
    #[default]
    None,
    One(String),
    Several(Vec<String>),
}

/// A difference between a call through the gateway and a direct one, and why it is there.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Difference {
    /// The calls, as the page names them.
    pub(super) calls: Vec<String>,
    /// The clients; none = all.
    #[serde(default)]
    pub(super) clients: Vec<String>,
    /// What differs, as `compare` names it.
    pub(super) at: Vec<String>,
    pub(super) because: String,
}

/// What a script is told about one call.
#[derive(Serialize)]
pub(super) struct Case<'a> {
    pub(super) id: String,
    pub(super) client: &'a str,
    pub(super) call: &'a str,
    pub(super) ids: &'a [Value],
    pub(super) with: Map<String, Value>,
    pub(super) retries: u32,
    pub(super) base: &'a str,
    pub(super) key: &'a str,
}

impl Data {
    /// A file of `tests/sdk`.
    pub(super) fn read(name: &str) -> Self {
        let path = format!("{}/tests/sdk/{name}", env!("CARGO_MANIFEST_DIR"));
        let text = fs::read_to_string(path).unwrap();
        toml::from_str(&text).unwrap()
    }
}

impl Upstream {
    /// As in the path of its route.
    pub(super) fn name(self) -> &'static str {
        match self {
            Self::Scripted => "scripted",
            Self::Tls => "tls",
            Self::Aimock => "aimock",
            Self::Llama => "llama",
            Self::Tools => "tools",
        }
    }
}

impl Call {
    /// As the page names it.
    pub(super) fn title(&self) -> String {
        match &self.r#as {
            Some(special) => format!("{}, {special}", self.call),
            None => self.call.clone(),
        }
    }

    /// The arguments of one client.
    pub(super) fn arguments(&self, client: &str) -> Map<String, Value> {
        let own = |value: &Value| if value == "@client" { Value::from(client) } else { value.clone() };
        self.with.iter().map(|(name, value)| (name.clone(), own(value))).collect()
    }
}

impl Names {
    pub(super) fn list(&self) -> Vec<&str> {
        match self {
            Self::None => vec!["object"],
            Self::One(name) => vec![name],
            Self::Several(names) => names.iter().map(String::as_str).collect(),
        }
    }
}
