//! Streams of providers through the gateway: what is removed, what is counted, and that everything else stays.

use sluicegate::simulator::Simulator;

use super::{ask_at, stream_of, without_usage};
use crate::harness::{BOTH, CHAT, Gateway, GatewayToml, simulator};

/// A recorded stream (tests/streams/README.md), the path of its operation, and the tokens that it reports.
struct Sample {
    stream: &'static str,
    path: &'static str,
    tokens: [u64; 2],
}

const fn chat(stream: &'static str, tokens: [u64; 2]) -> Sample {
    Sample { stream, path: "/v1/chat/completions", tokens }
}

const SAMPLES: [Sample; 10] = [
    chat(include_str!("../../streams/openai-chat.sse"), [21, 9]),
    Sample {
        stream: include_str!("../../streams/openai-completions.sse"),
        path: "/v1/completions",
        tokens: [3, 2],
    },
    chat(include_str!("../../streams/azure.sse"), [11, 3]),
    chat(include_str!("../../streams/vllm.sse"), [31, 3]),
    chat(include_str!("../../streams/openrouter.sse"), [17, 5]),
    chat(include_str!("../../streams/openrouter-apart.sse"), [17, 5]),
    // The thoughts are in the total alone.
    chat(include_str!("../../streams/gemini.sse"), [8, 44]),
    chat(include_str!("../../streams/groq.sse"), [38, 3]),
    chat(include_str!("../../streams/llama-cpp.sse"), [12, 2]),
    chat(include_str!("../../streams/spaced.sse"), [6, 1]),
];

/// Each sample over both protocols, in pieces of a few sizes, on a route with these lines.
async fn all_pass(upstream: &Simulator, gateway: Gateway) {
    let mut requests = 0;
    for sample in &SAMPLES {
        for http in BOTH {
            for size in [29, 700, sample.stream.len()] {
                upstream.queue(stream_of(sample.stream.as_bytes().chunks(size)));
                let answer = ask_at(&gateway, http, sample.path, CHAT).await;
                requests += 1;
                assert!(answer.whole, "{answer:?}");
                assert_eq!(answer.text(), without_usage(sample.stream), "by {size}");
                let line = gateway.log.line_of(&answer).await;
                let tokens = ["tokens_in", "tokens_out"].map(|name| line[name].as_u64());
                assert_eq!(tokens, sample.tokens.map(Some), "{line}");
                assert_eq!((&line["who"], &line["phase"]), (&"upstream".into(), &"done".into()), "{line}");
                let sent = answer.text();
                let events = sent.split_inclusive("\n\n").filter(|event| event.starts_with("data:")).count();
                assert_eq!(
                    (&line["bytes_out"], &line["events"]),
                    (&sent.len().into(), &events.into()),
                    "{line}"
                );
            }
        }
    }
    gateway.finish(requests).await;
}

/// A gateway whose route has these lines beside `usage`.
async fn on_a_route_with(lines: &str) {
    let upstream = simulator().await;
    let toml = GatewayToml::before(&upstream.url(), "")
        .listener("h2c = true")
        .route(format!("usage = \"always\"\n{lines}"));
    all_pass(&upstream, Gateway::start(&toml)).await;
}

#[tokio::test]
async fn as_they_come() {
    on_a_route_with("heartbeat = \"30s\"").await;
}

#[tokio::test]
async fn held_until_their_first_content() {
    on_a_route_with("commit = \"first_token\"\non_disconnect = \"drain\"\ncommit_after = \"60s\"").await;
}

#[tokio::test]
async fn held_until_they_are_complete() {
    on_a_route_with("delivery = \"whole\"").await;
}

#[tokio::test]
async fn from_an_upstream_by_http_2() {
    let upstream = simulator().await;
    let toml = GatewayToml::before(&upstream.url(), "http2 = true")
        .listener("h2c = true")
        .route("usage = \"always\"");
    all_pass(&upstream, Gateway::start(&toml)).await;
}
