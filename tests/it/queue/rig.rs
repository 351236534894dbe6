//! Several clients before one simulated upstream.

use std::net::SocketAddr;

use sluicegate::{
    config::KeyHash,
    simulator::{Gate, Head, Record, Script, Step},
};
use tokio::task::JoinHandle;

use crate::harness::{Answer, Client, Http, post, safely, whole};

/// The table of a client with this name, whose key is [`key_of`] it; `lines` are added.
pub fn client(name: &str, lines: &str) -> String {
    format!("[client.{name}]\nkey = \"{}\"\n{lines}\n", KeyHash::of(key_of(name).as_bytes()))
}

pub fn key_of(client: &str) -> String {
    format!("sk-sg-key-of-{client}-0123456789abcdefABCDEF")
}

/// A chat request of `client` in a task of its own.
pub fn ask(address: SocketAddr, client: &str, model: &str) -> JoinHandle<Answer> {
    ask_with(address, client, model, "Hello")
}

/// The same with this message.
pub fn ask_with(address: SocketAddr, client: &str, model: &str, message: &str) -> JoinHandle<Answer> {
    let body = format!(r#"{{"model":"{model}","messages":[{{"role":"user","content":"{message}"}}]}}"#);
    let key = key_of(client);
    tokio::spawn(async move {
        let mut client = Client::connect(address, Http::One).await;
        let mut request = post(address, Http::One, "/v1/chat/completions").body(whole(body)).unwrap();
        request.headers_mut().insert("authorization", format!("Bearer {key}").parse().unwrap());
        safely(client.ask(request)).await
    })
}

/// A response with this usage, when the gate is open.
pub fn gated(gate: &Gate, prompt: u64, completion: u64) -> Script {
    let total = prompt + completion;
    let body = format!(
        r#"{{"id":"c","object":"chat.completion","choices":[{{"index":0,"message":{{"role":"assistant","content":"Hi"}},"finish_reason":"stop"}}],"usage":{{"prompt_tokens":{prompt},"completion_tokens":{completion},"total_tokens":{total}}}}}"#
    );
    let head = Head::json(http::StatusCode::OK, body.len());
    Script::new(vec![Step::Gate(gate.clone()), Step::Head(head), Step::Send(body.into())])
}

/// The models of the requests that an upstream has seen, in their order.
pub fn models(records: &[Record]) -> Vec<String> {
    let model = |record: &Record| {
        let body: serde_json::Value = serde_json::from_slice(&record.body).unwrap();
        body["model"].as_str().unwrap().to_owned()
    };
    records.iter().map(model).collect()
}
