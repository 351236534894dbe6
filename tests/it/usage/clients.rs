//! Clients that never ask for the usage of a stream: openai-python and openai-node, LangChain, and the AI SDK. The gateway counts their tokens,
//! and they get the same chunks as on a route that asks for nothing.

use std::process::Command;

use serde_json::Value;

use super::{stream_of, without_usage};
use crate::{
    harness::{CLIENT_KEY, Gateway, GatewayToml, simulator},
    sdk::packages,
};

/// As the provider streams it if it is asked for the usage.
const ASKED: &str = include_str!("../../streams/openai-chat.sse");

#[tokio::test]
async fn openai_python_and_langchain() {
    get_the_same_chunks(&["openai", "langchain"], || packages::frameworks_python("usage.py")).await;
}

#[tokio::test]
async fn openai_node_and_the_ai_sdk() {
    get_the_same_chunks(&["openai", "ai-sdk"], || packages::frameworks_node("usage.mjs")).await;
}

async fn get_the_same_chunks(clients: &[&str], script: impl Fn() -> Command) {
    let plain = without_usage(ASKED).replace("\"usage\":null,", "");
    let unasked = chunks("as_asked", &plain, clients, script()).await;
    let asked = chunks("always", ASKED, clients, script()).await;
    for client in clients {
        let given = unasked[client].as_array().map_or(0, Vec::len);
        assert!(given >= 4, "{client} got {given} chunks: {unasked}");
        assert_eq!(unasked[client], asked[client], "{client}");
    }
}

/// What the clients of `script` print, before a gateway with this `usage` and an upstream that sends `stream` to each.
async fn chunks(usage: &str, stream: &str, clients: &[&str], script: Command) -> Value {
    let upstream = simulator().await;
    for _ in clients {
        upstream.queue(stream_of(stream.as_bytes().chunks(97)));
    }
    let toml = GatewayToml::before(&upstream.url(), "retry = \"off\"").route(format!("usage = {usage:?}"));
    let gateway = Gateway::start(&toml);
    let printed = run(script, &gateway).await;
    let tokens = (usage == "always").then_some([21, 9]);
    gateway.log.line(clients.len()).await;
    for line in gateway.log.access() {
        let logged = ["tokens_in", "tokens_out"].map(|name| line[name].as_u64());
        assert_eq!(logged, tokens.map_or([None; 2], |tokens| tokens.map(Some)), "{line}");
        assert_eq!(line["status"], 200, "{line}");
    }
    gateway.finish(clients.len()).await;
    printed
}

async fn run(mut script: Command, gateway: &Gateway) -> Value {
    script.env("BASE_URL", format!("http://{}/v1", gateway.address())).env("API_KEY", CLIENT_KEY);
    let output = tokio::task::spawn_blocking(move || script.output()).await.unwrap().unwrap();
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{said}");
    let mut printed =
        serde_json::from_slice(&output.stdout).unwrap_or_else(|error| panic!("{error}: {said}"));
    without_null_usage(&mut printed);
    printed
}

/// OpenAI writes `"usage":null` into each chunk of a stream whose usage was asked for. That is all that may differ.
fn without_null_usage(value: &mut Value) {
    match value {
        Value::Array(items) => items.iter_mut().for_each(without_null_usage),
        Value::Object(members) => {
            members.retain(|name, value| name != "usage" || !value.is_null());
            members.values_mut().for_each(without_null_usage);
        }
        _ => {}
    }
}
