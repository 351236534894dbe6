//! Whose a request was and what it cost, and the `tracestate` of its client.

use serde_json::Value;
use sluicegate::app::Ended;

use super::{Receiver, Span, ask, exporting, tree};
use crate::harness::{CLIENT_KEY, Gateway, GatewayToml, simulator};

const PARENT: &str = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";

/// Prices, and a client in a group, with tags.
fn owned(upstream: &str, collector: &str, more: &str) -> GatewayToml {
    exporting(upstream, collector, more)
        .client("group = \"research\"\ntags = { cost-center = \"4711\", project = \"lab\" }")
        .more("[group.research]\n[pricing]\ncurrency = \"EUR\"\n[pricing.model.\"gpt-4o*\"]\ninput = \"2.50\"\noutput = \"10.00\"")
}

/// The spans of one request, and its access line.
async fn exported(more: &str, headers: &[(&str, &str)]) -> (Vec<Span>, Value) {
    let mut receiver = Receiver::start(&[]);
    let upstream = simulator().await;
    let gateway = Gateway::start(&owned(&upstream.url(), &receiver.url, more));
    let answer = ask(&gateway, headers).await;
    let line = gateway.log.line_of(&answer).await;
    assert_eq!(gateway.stop().await, Ended::Drained);
    (receiver.spans(), line)
}

#[tokio::test]
async fn the_cost_is_on_the_attempt_by_its_name_and_group_and_tags_are_on_the_request() {
    let (spans, line) = exported("", &[]).await;
    let (root, attempts) = tree(&spans);
    let cost: f64 = line["cost"].as_str().unwrap().parse().unwrap();
    assert!(cost > 0.0, "{line:#}");
    assert_eq!(attempts[0].attribute("gen_ai.usage.cost"), cost);
    assert_eq!(
        [root.attribute("sluicegate.cost"), root.attribute("sluicegate.cost.currency")],
        [&cost.into(), &Value::from("EUR")]
    );
    assert_eq!(root.attribute("sluicegate.cost.estimated"), false);
    assert_eq!(root.attribute("sluicegate.group"), &line["group"]);
    for name in ["cost-center", "project"] {
        assert_eq!(root.attribute(&format!("sluicegate.tags.{name}")), &line["tags"][name], "{name}");
    }
    assert_eq!((root.text("state"), attempts[0].text("state")), ("", ""));
}

#[tokio::test]
async fn the_presets_have_them_by_their_own_names() {
    let (spans, line) = exported("preset = \"langfuse\"", &[]).await;
    let (root, _) = tree(&spans);
    assert_eq!(root.attribute("langfuse.trace.metadata.group"), "research");
    assert_eq!(root.attribute("langfuse.trace.metadata.tag_cost-center"), "4711");
    let cost: f64 = line["cost"].as_str().unwrap().parse().unwrap();
    let (spans, _) = exported("preset = \"phoenix\"", &[]).await;
    assert_eq!(tree(&spans).1[0].attribute("llm.cost.total"), cost);
}

#[tokio::test]
async fn the_clients_tracestate_is_that_of_all_spans_unless_it_holds_a_key() {
    let state = "rojo=00f067aa0ba902b7,congo=t61rcWkgMzE";
    let (spans, _) = exported("", &[("traceparent", PARENT), ("tracestate", state)]).await;
    assert!(spans.len() == 2 && spans.iter().all(|span| span.text("state") == state), "{spans:#?}");
    let hostile = format!("rojo={CLIENT_KEY}");
    for (parent, state) in [(PARENT, hostile.as_str()), ("00-bad", state)] {
        let (spans, _) = exported("", &[("traceparent", parent), ("tracestate", state)]).await;
        assert!(spans.iter().all(|span| span.text("state").is_empty()), "{spans:#?}");
    }
}
