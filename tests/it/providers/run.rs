//! Sends the request of each cell, and compares what comes of it with what the cell says.

use std::{collections::BTreeSet, fmt::Write as _};

use serde_json::Value;
use sluicegate::simulator::{Head, Options, Protocols, Script, Simulator, Step};

use super::fixture::{Ask, Body, Cell, Expected, Log, Provider, Setting};
use crate::{
    folder::Folder,
    harness::{Answer, Client, Gateway, Http, LogLines, log, post, safely, whole},
};

/// More requests than any rule allows.
const MANY: usize = 8;

const SPARE_CHAT: &str = r#"{"id":"spare","object":"chat.completion","model":"spare","choices":[{"index":0,"message":{"role":"assistant","content":"from the spare one"},"finish_reason":"stop"}],"usage":{"prompt_tokens":1,"completion_tokens":2,"total_tokens":3}}"#;
const SPARE_CHAT_STREAM: &str = "data: {\"id\":\"spare\",\"object\":\"chat.completion.chunk\",\"model\":\"spare\",\"choices\":[{\"index\":0,\"delta\":{\"role\":\"assistant\",\"content\":\"from the spare one\"},\"finish_reason\":null}]}\n\ndata: {\"id\":\"spare\",\"object\":\"chat.completion.chunk\",\"model\":\"spare\",\"choices\":[{\"index\":0,\"delta\":{},\"finish_reason\":\"stop\"}]}\n\ndata: {\"id\":\"spare\",\"object\":\"chat.completion.chunk\",\"model\":\"spare\",\"choices\":[],\"usage\":{\"prompt_tokens\":1,\"completion_tokens\":2,\"total_tokens\":3}}\n\ndata: [DONE]\n\n";
const SPARE_MESSAGE: &str = r#"{"id":"spare","type":"message","role":"assistant","model":"spare","content":[{"type":"text","text":"from the spare one"}],"stop_reason":"end_turn","stop_sequence":null,"usage":{"input_tokens":1,"output_tokens":2}}"#;
const SPARE_MESSAGE_STREAM: &str = "event: message_start\ndata: {\"type\":\"message_start\",\"message\":{\"id\":\"spare\",\"type\":\"message\",\"role\":\"assistant\",\"model\":\"spare\",\"content\":[],\"stop_reason\":null,\"usage\":{\"input_tokens\":1,\"output_tokens\":1}}}\n\nevent: content_block_start\ndata: {\"type\":\"content_block_start\",\"index\":0,\"content_block\":{\"type\":\"text\",\"text\":\"\"}}\n\nevent: content_block_delta\ndata: {\"type\":\"content_block_delta\",\"index\":0,\"delta\":{\"type\":\"text_delta\",\"text\":\"from the spare one\"}}\n\nevent: content_block_stop\ndata: {\"type\":\"content_block_stop\",\"index\":0}\n\nevent: message_delta\ndata: {\"type\":\"message_delta\",\"delta\":{\"stop_reason\":\"end_turn\",\"stop_sequence\":null},\"usage\":{\"output_tokens\":2}}\n\nevent: message_stop\ndata: {\"type\":\"message_stop\"}\n\n";
const SPARE_RESPONSE: &str = r#"{"id":"spare","object":"response","model":"spare","status":"completed","error":null,"output":[{"type":"message","id":"m","role":"assistant","status":"completed","content":[{"type":"output_text","text":"from the spare one","annotations":[]}]}],"usage":{"input_tokens":1,"output_tokens":2,"total_tokens":3}}"#;
const SPARE_RESPONSE_STREAM: &str = "event: response.output_text.delta\ndata: {\"type\":\"response.output_text.delta\",\"sequence_number\":0,\"delta\":\"from the spare one\"}\n\nevent: response.completed\ndata: {\"type\":\"response.completed\",\"sequence_number\":1,\"response\":{\"id\":\"spare\",\"status\":\"completed\",\"model\":\"spare\",\"output\":[],\"usage\":{\"input_tokens\":1,\"output_tokens\":2,\"total_tokens\":3}}}\n\n";

/// The two upstreams and the gateway before them, with a route for each cell in each setting.
pub(super) struct Rig<'a> {
    pub(super) provider: &'a Provider,
    pub(super) main: Simulator,
    spare: Simulator,
    pub(super) gateway: Gateway,
    _keys: Folder,
}

/// Tries all cells of a provider in both settings, and fails with a list of all that differ.
pub async fn all_cells_of(provider: &Provider) {
    let rig = Rig::start(provider).await;
    let mut wrong = String::new();
    for cell in &provider.cells {
        for setting in [Setting::Alone, Setting::Spare] {
            let expected = cell.expected(setting);
            let mut found = rig.found(cell, setting).await;
            if expected.keys.is_none() {
                found["keys"] = Value::Null;
            }
            let differs = found != described(&expected);
            let pending = cell.pending.contains(&setting);
            if differs && !pending {
                let expected = described(&expected);
                writeln!(wrong, "{} {setting:?}\n  expected {expected}\n  found    {found}", cell.name)
                    .unwrap();
            }
            if !differs && pending {
                writeln!(wrong, "{} {setting:?} is as expected: remove it from `pending`", cell.name)
                    .unwrap();
            }
        }
    }
    assert!(wrong.is_empty(), "{}\n{wrong}", provider.provider);
    rig.gateway.finish(2 * provider.cells.len()).await;
}

impl<'a> Rig<'a> {
    pub(super) async fn start(provider: &'a Provider) -> Self {
        let (main, spare) = (upstream().await, upstream().await);
        let keys = Folder::new();
        let toml = configuration(provider, &main, &spare, &keys);
        Self { provider, gateway: Gateway::start(&toml), main, spare, _keys: keys }
    }

    /// The upstream sends the cell's bytes to each request with that `x-simulate-id`.
    pub(super) fn queue(&self, id: &str, cell: &Cell) {
        (0..MANY).for_each(|_| self.main.queue_for(id, cell.script()));
    }

    async fn found(&self, cell: &Cell, setting: Setting) -> Value {
        let id = id_of(cell, setting);
        self.queue(&id, cell);
        self.spare.queue_for(&id, cell.ask.spare());
        let address = self.gateway.address();
        let mut request = post(address, Http::One, &format!("/{id}{}", cell.ask.path()));
        request = request.header("x-simulate-id", &id);
        if matches!(cell.ask, Ask::Messages | Ask::MessagesStream) {
            request = request.header("anthropic-version", "2023-06-01");
        }
        let mut client = Client::connect(address, Http::One).await;
        let answer = safely(client.ask(request.body(whole(cell.ask.body())).unwrap())).await;
        let line = line_of(&self.gateway.log, &id).await;
        let records: Vec<_> = self
            .main
            .records()
            .into_iter()
            .filter(|record| record.headers.get("x-simulate-id").is_some_and(|of| *of == *id))
            .collect();
        let keys: BTreeSet<_> =
            records.iter().map(|record| format!("{:?}", record.headers.get("authorization"))).collect();
        let main = self.main.url();
        let failed =
            log::failed_attempts(&line).replace(&format!("{main}/x "), "").replace(&format!("{main} "), "");
        assert!(!answer.text().contains("sk-upstream"), "{} {setting:?}: a key", self.provider.provider);
        serde_json::json!({
            "status": answer.status.as_u16(),
            "body": body(&answer, cell),
            "code": code(&answer, cell),
            "should_retry": header(&answer, "x-should-retry"),
            "retry_after": header(&answer, "retry-after"),
            "attempts": records.len(),
            "keys": keys.len(),
            "aborted": !answer.whole,
            "log": {
                "error": line["error"], "failed": failed, "finish": line["finish_reason"],
                "in": line["tokens_in"], "out": line["tokens_out"],
                "who": if line["who"] == "complete" || line["error"].is_null() { Value::Null } else { line["who"].clone() },
            },
        })
    }
}

/// The same form for what is expected.
fn described(expected: &Expected) -> Value {
    let Expected { status, body, code, should_retry, retry_after, attempts, keys, aborted, log } = expected;
    let Log { error, failed, finish, tokens_in, tokens_out, who } = log;
    serde_json::json!({
        "status": status,
        "body": format!("{body:?}"),
        "code": code,
        "should_retry": should_retry,
        "retry_after": retry_after,
        "attempts": attempts,
        "keys": keys,
        "aborted": aborted,
        "log": {
            "error": error, "failed": failed.join(", "), "finish": finish,
            "in": tokens_in, "out": tokens_out, "who": who,
        },
    })
}

/// Which of the [`Body`]s it is, or its text.
fn body(answer: &Answer, cell: &Cell) -> String {
    let (text, upstream) = (answer.text(), cell.bytes());
    let body = if text == cell.ask.spares() {
        Body::Spare
    } else if text == upstream {
        Body::Upstream
    } else if !upstream.is_empty() && answer.status == 200 && text.starts_with(&upstream) {
        Body::UpstreamThenError
    } else if answer.status != 200 && message(answer).is_some_and(|message| upstream.contains(&message)) {
        Body::Event
    } else if answer.status != 200 {
        Body::Gateway
    } else {
        return format!("{text:?}");
    };
    format!("{body:?}")
}

/// The code of an error that is not byte for byte the upstream's.
fn code(answer: &Answer, cell: &Cell) -> Option<String> {
    if answer.text() == cell.bytes() || answer.text() == cell.ask.spares() {
        return None;
    }
    let text = answer.text().strip_prefix(&cell.bytes()).unwrap_or(answer.text());
    let json = text.lines().find_map(|line| line.strip_prefix("data: ")).unwrap_or(text);
    let error: Value = serde_json::from_str(json).ok()?;
    let error = if error["error"].is_object() { &error["error"] } else { &error };
    ["code", "type"].iter().find_map(|name| match &error[name] {
        Value::String(word) => Some(word.clone()),
        Value::Number(number) => Some(number.to_string()),
        _ => None,
    })
}

/// The message of an error, as it stands in JSON.
fn message(answer: &Answer) -> Option<String> {
    let error: Value = serde_json::from_str(answer.text()).ok()?;
    let message = error["error"]["message"].as_str()?;
    Some(Value::from(message).to_string().trim_matches('"').to_owned())
}

fn header(answer: &Answer, name: &str) -> Option<String> {
    answer.headers.get(name).map(|value| value.to_str().unwrap().to_owned())
}

async fn line_of(log: &LogLines, id: &str) -> Value {
    let path = format!("/{id}/");
    log.wait_for(|lines| {
        lines.iter().find(|line| line["path"].as_str().is_some_and(|at| at.starts_with(&path))).cloned()
    })
    .await
}

pub(super) fn id_of(cell: &Cell, setting: Setting) -> String {
    format!("{}-{}", cell.name, if setting == Setting::Alone { "alone" } else { "spare" })
}

async fn upstream() -> Simulator {
    Simulator::start(Options { protocols: Protocols::Both, ..Options::default() }).await.unwrap()
}

fn configuration(provider: &Provider, main: &Simulator, spare: &Simulator, keys: &Folder) -> String {
    let files = ["first", "second", "other"].map(|name| {
        keys.write(&format!("{name}.key"), &format!("sk-upstream-{name}-0123456789abcdef0123456789"))
    });
    let [first, second, other] = files;
    let mut toml = r#"
        [[listener]]
        address = "127.0.0.1:0"
        [server]
        threads = 1
        [defaults]
        retry = { backoff = "20ms" }
        [client.tester]
        key = "$CLIENT_HASH"
        "#
    .to_owned();
    for cell in &provider.cells {
        for setting in [Setting::Alone, Setting::Spare] {
            let id = id_of(cell, setting);
            let order = if setting == Setting::Alone {
                format!("[\"{id}\"]")
            } else {
                format!("[\"{id}\", \"{id}-other\"]")
            };
            // A request on a kept connection is sent once more by itself: here the attempts are counted.
            write!(
                toml,
                r#"
                [upstream.{id}]
                url = "{}/x"
                keys = [{{ file = {first:?} }}, {{ file = {second:?} }}]
                pool = {{ max_idle = 0 }}
                [upstream.{id}-other]
                url = "{}"
                key = {{ file = {other:?} }}
                [route.{id}]
                path = "/{id}"
                rewrite = "/"
                upstreams = {order}
                "#,
                main.url(),
                spare.url(),
            )
            .unwrap();
        }
    }
    toml
}

impl Ask {
    /// As in the TOML files.
    pub(super) fn name(self) -> &'static str {
        match self {
            Self::Chat => "chat",
            Self::ChatStream => "chat_stream",
            Self::Messages => "messages",
            Self::MessagesStream => "messages_stream",
            Self::Responses => "responses",
            Self::ResponsesStream => "responses_stream",
        }
    }

    fn path(self) -> &'static str {
        match self {
            Self::Chat | Self::ChatStream => "/v1/chat/completions",
            Self::Messages | Self::MessagesStream => "/v1/messages",
            Self::Responses | Self::ResponsesStream => "/v1/responses",
        }
    }

    /// As the SDKs write it.
    fn body(self) -> &'static str {
        match self {
            Self::Chat => r#"{"messages":[{"role":"user","content":"Hello"}],"model":"m"}"#,
            Self::ChatStream => {
                r#"{"messages":[{"role":"user","content":"Hello"}],"model":"m","stream":true,"stream_options":{"include_usage":true}}"#
            }
            Self::Messages => {
                r#"{"max_tokens":64,"messages":[{"role":"user","content":"Hello"}],"model":"m"}"#
            }
            Self::MessagesStream => {
                r#"{"max_tokens":64,"messages":[{"role":"user","content":"Hello"}],"model":"m","stream":true}"#
            }
            Self::Responses => r#"{"input":"Hello","model":"m","store":false}"#,
            Self::ResponsesStream => r#"{"input":"Hello","model":"m","store":false,"stream":true}"#,
        }
    }

    fn spares(self) -> &'static str {
        match self {
            Self::Chat => SPARE_CHAT,
            Self::ChatStream => SPARE_CHAT_STREAM,
            Self::Messages => SPARE_MESSAGE,
            Self::MessagesStream => SPARE_MESSAGE_STREAM,
            Self::Responses => SPARE_RESPONSE,
            Self::ResponsesStream => SPARE_RESPONSE_STREAM,
        }
    }

    /// What the log says of the second upstream's response.
    pub fn spares_log() -> Log {
        Log { finish: Some("stop".into()), tokens_in: Some(1), tokens_out: Some(2), ..Log::default() }
    }

    fn spare(self) -> Script {
        let body = self.spares();
        let head = if body.starts_with('{') {
            Head::json(http::StatusCode::OK, body.len())
        } else {
            Head::event_stream()
        };
        Script::new(vec![Step::Head(head), Step::Send(body.into())])
    }
}
