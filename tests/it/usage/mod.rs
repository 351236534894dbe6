//! Routes with `usage = "always"`: the gateway asks for the usage of streams, counts it, and removes what its client did not ask for.

mod clients;
mod edits;
mod endings;
mod refused;
mod streams;

use serde_json::Value;
use sluicegate::simulator::{Head, Script, Simulator, Step};

use crate::harness::{Answer, BOTH, CHAT, Client, Gateway, GatewayToml, Http, post, simulator, whole};

const CONTENT: &str = "data: {\"id\":\"c\",\"choices\":[{\"index\":0,\"delta\":{\"role\":\"assistant\",\"content\":\"Hi\"},\"finish_reason\":null}],\"usage\":null}\n\n";
const FINISH: &str = "data: {\"id\":\"c\",\"choices\":[{\"index\":0,\"delta\":{},\"finish_reason\":\"stop\"}],\"usage\":null}\n\n";
const USAGE: &str = "data: {\"id\":\"c\",\"choices\":[],\"usage\":{\"prompt_tokens\":7,\"completion_tokens\":5,\"total_tokens\":12,\"prompt_tokens_details\":{\"cached_tokens\":3},\"completion_tokens_details\":{\"reasoning_tokens\":2}}}\n\n";
const DONE: &str = "data: [DONE]\n\n";

/// A gateway with `usage = "always"` before one upstream.
fn gateway_before(upstream: &Simulator, lines: &str) -> Gateway {
    Gateway::start(
        &GatewayToml::before(&upstream.url(), lines).listener("h2c = true").route("usage = \"always\""),
    )
}

/// A stream that is sent in these pieces.
fn stream_of<'p>(pieces: impl IntoIterator<Item = &'p [u8]>) -> Script {
    let sent = pieces.into_iter().map(|piece| Step::Send(piece.to_vec().into()));
    Script::new([Step::Head(Head::event_stream())].into_iter().chain(sent).collect())
}

/// What a client gets of `stream` that has not asked for its usage.
fn without_usage(stream: &str) -> String {
    let is_kept = |event: &&str| {
        let data = event.trim_end().strip_prefix("data: ").unwrap_or_default();
        let chunk: Value = serde_json::from_str(data).unwrap_or_default();
        !(chunk["choices"].as_array().is_some_and(Vec::is_empty) && chunk["usage"].is_object())
    };
    stream.split_inclusive("\n\n").filter(is_kept).collect()
}

async fn ask(gateway: &Gateway, http: Http, body: &str) -> Answer {
    ask_at(gateway, http, "/v1/chat/completions", body).await
}

async fn ask_at(gateway: &Gateway, http: Http, path: &str, body: &str) -> Answer {
    let address = gateway.address();
    let mut client = Client::connect(address, http).await;
    client.ask(post(address, http, path).body(whole(body.to_owned())).unwrap()).await
}

#[tokio::test]
async fn usage_is_asked_for_counted_and_taken_out_again() {
    for http in BOTH {
        let upstream = simulator().await;
        upstream.queue(stream_of([CONTENT, FINISH, USAGE, DONE].map(str::as_bytes)));
        let gateway = gateway_before(&upstream, "");
        let answer = ask(&gateway, http, CHAT).await;
        assert!(answer.whole, "{answer:?}");
        assert_eq!(answer.text(), [CONTENT, FINISH, DONE].concat());

        let sent = upstream.record(1).await;
        let expected = CHAT.replacen('{', r#"{"stream_options":{"include_usage":true},"#, 1);
        assert_eq!(String::from_utf8_lossy(&sent.body), expected);
        assert_eq!(sent.headers["content-length"], *expected.len().to_string());

        let line = gateway.log.line_of(&answer).await;
        let counts =
            ["tokens_in", "tokens_out", "tokens_cached_input", "tokens_reasoning", "events", "bytes_out"]
                .map(|name| line[name].as_u64());
        let bytes = answer.text().len() as u64;
        assert_eq!(counts, [Some(7), Some(5), Some(3), Some(2), Some(3), Some(bytes)], "{line}");
        assert_eq!(line["usage"], "reported", "{line}");
        gateway.finish(1).await;
    }
}

#[tokio::test]
async fn a_client_that_asks_gets_what_it_asked_for() {
    let upstream = simulator().await;
    let gateway = gateway_before(&upstream, "");
    let asking = CHAT.replacen('{', r#"{"stream_options":{"include_usage":true},"#, 1);
    upstream.queue(stream_of([CONTENT, FINISH, USAGE, DONE].map(str::as_bytes)));
    let answer = ask(&gateway, Http::One, &asking).await;
    assert_eq!(answer.text(), [CONTENT, FINISH, USAGE, DONE].concat());
    assert_eq!(upstream.record(1).await.body, asking.as_bytes());
    assert_eq!(gateway.log.line_of(&answer).await["tokens_out"], 5);
    gateway.finish(1).await;
}

/// What is not a stream of chat completions or completions, and what must not be asked.
#[tokio::test]
async fn other_requests_are_sent_as_they_are() {
    let upstream = simulator().await;
    let gateway = gateway_before(&upstream, "");
    let address = gateway.address();
    let mut client = Client::connect(address, Http::One).await;
    let bodies = [
        ("/v1/chat/completions", r#"{"model":"m","messages":[]}"#),
        ("/v1/chat/completions", r#"{"model":"m","messages":[],"stream":false,"stream_options":null}"#),
        (
            "/v1/chat/completions",
            r#"{"model":"m","messages":[],"stream":true,"data_sources":[{"type":"azure_search"}]}"#,
        ),
        ("/v1/responses", r#"{"model":"m","input":"x","stream":true}"#),
        ("/v1/embeddings", r#"{"model":"m","input":"x","stream":true}"#),
        ("/v1/messages", r#"{"model":"m","messages":[],"stream":true}"#),
    ];
    for (number, (path, body)) in (1..).zip(bodies) {
        client.ask(post(address, Http::One, path).body(whole(body)).unwrap()).await;
        assert_eq!(upstream.record(number).await.body, body.as_bytes(), "{path}");
    }
    gateway.finish(bodies.len()).await;
}
