//! What services want in addition.

use serde_json::json;
use sluicegate::app::Ended;

use super::{Receiver, ask, exporting, tree};
use crate::harness::{Gateway, simulator};

async fn exported(preset: &str) -> (super::receiver::Received, serde_json::Value) {
    let mut receiver = Receiver::start(&[]);
    let upstream = simulator().await;
    let more = format!("preset = {preset:?}");
    let gateway = Gateway::start(&exporting(&upstream.url(), &format!("{}/base", receiver.url), &more));
    let answer = ask(&gateway, &[]).await;
    let line = gateway.log.line_of(&answer).await;
    assert_eq!(gateway.stop().await, Ended::Drained);
    let received = receiver.next();
    assert_eq!(received.get("path"), "/base/v1/traces");
    (received, line)
}

#[tokio::test]
async fn langfuse_is_told_which_span_is_a_generation_and_when_it_began_to_answer() {
    let (received, line) = exported("langfuse").await;
    assert_eq!(received.get("headers")["x-langfuse-ingestion-version"], "4");
    let spans = received.spans();
    let (root, attempts) = tree(&spans);
    assert_eq!(root.attribute("langfuse.observation.type"), "span");
    assert_eq!(root.attribute("user.id"), &line["caller"]);
    assert_eq!(attempts[0].attribute("langfuse.observation.type"), "generation");
    let usage = attempts[0].attribute("langfuse.observation.usage_details").as_str().unwrap();
    let usage: serde_json::Value = serde_json::from_str(usage).unwrap();
    assert_eq!((&usage["input"], &usage["output"]), (&line["tokens_in"], &line["tokens_out"]));
    let began = attempts[0].attribute("langfuse.observation.completion_start_time").as_str().unwrap();
    assert!(began.ends_with('Z') && began >= line["time"].as_str().unwrap(), "{began}");
}

#[tokio::test]
async fn phoenix_is_told_the_kinds_of_spans() {
    let (received, line) = exported("phoenix").await;
    let spans = received.spans();
    let (root, attempts) = tree(&spans);
    assert_eq!(received.get("resource")["openinference.project.name"], "sluicegate");
    assert_eq!(root.attribute("openinference.span.kind"), "CHAIN");
    assert_eq!(attempts[0].attribute("openinference.span.kind"), "LLM");
    assert_eq!(attempts[0].attribute("llm.token_count.prompt"), &line["tokens_in"]);
}

#[tokio::test]
async fn datadog_needs_a_header() {
    let (received, _) = exported("datadog").await;
    assert_eq!(received.get("headers")["dd-otlp-source"], json!("llmobs"));
}
