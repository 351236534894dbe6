//! Traces as a collector gets them: the spans of each kind of exchange, which exchanges are exported, and what a bad collector does to requests.

mod chosen;
mod collectors;
mod kinds;
mod metrics;
mod owners;
mod phoenix;
mod presets;
pub mod receiver;
mod secrets;

use serde_json::json;
use sluicegate::app::Ended;

use crate::harness::{Answer, Gateway, GatewayToml, Http, post, send, simulator, whole};
use receiver::{PROMPT, Receiver, Span};

/// The usual file with this collector.
fn exporting(upstream: &str, collector: &str, more: &str) -> GatewayToml {
    GatewayToml::before(upstream, "retry = \"off\"\nbreaker = \"off\"")
        .listener("h2c = true")
        .more(format!("[otlp]\nendpoint = {collector:?}\n{more}"))
}

fn prompt() -> String {
    format!(
        r#"{{"model":"gpt-4o-mini","stream":true,"stream_options":{{"include_usage":true}},"messages":[{{"role":"user","content":"{PROMPT}"}}]}}"#
    )
}

/// The root, and the attempts in their order.
fn tree(spans: &[Span]) -> (&Span, Vec<&Span>) {
    let roots: Vec<&Span> = spans.iter().filter(|span| span.is_root()).collect();
    let [root] = roots.as_slice() else { panic!("one root, not {spans:#?}") };
    (root, spans.iter().filter(|span| !span.is_root()).collect())
}

async fn ask(gateway: &Gateway, headers: &[(&str, &str)]) -> Answer {
    let mut request = post(gateway.address(), Http::One, "/v1/chat/completions");
    for (name, value) in headers {
        request = request.header(*name, *value);
    }
    send(gateway.address(), Http::One, request.body(whole(prompt())).unwrap()).await
}

#[tokio::test]
async fn a_stream_is_a_server_span_with_one_attempt_below_it() {
    let mut receiver = Receiver::start(&[]);
    let upstream = simulator().await;
    let gateway = Gateway::start(&exporting(&upstream.url(), &receiver.url, ""));
    let answer = ask(&gateway, &[]).await;
    assert!(answer.whole, "{answer:?}");
    let line = gateway.log.line_of(&answer).await;
    assert_eq!(gateway.stop().await, Ended::Drained);
    let received = receiver.next();
    assert_eq!((received.get("path"), received.get("scope")), (&json!("/v1/traces"), &json!("sluicegate")));
    assert_eq!(received.get("headers")["content-encoding"], "gzip");
    assert_eq!(received.get("resource")["service.name"], "sluicegate");
    let spans = received.spans();
    let (root, attempts) = tree(&spans);
    let [attempt] = attempts.as_slice() else { panic!("{spans:#?}") };
    assert_eq!((root.text("name"), root.text("parent"), root.text("status")), ("POST /v1", "", "UNSET"));
    assert_eq!(root.text("trace"), line["trace_id"]);
    for (attribute, field) in [
        ("sluicegate.request_id", "request_id"),
        ("sluicegate.caller", "caller"),
        ("sluicegate.route", "route"),
        ("sluicegate.who", "who"),
        ("sluicegate.phase", "phase"),
        ("sluicegate.response.bytes", "bytes_out"),
        ("url.path", "path"),
        ("http.response.status_code", "status"),
        ("client.address", "client"),
    ] {
        assert_eq!(root.attribute(attribute), &line[field], "{attribute}");
    }
    assert_eq!((attempt.text("name"), attempt.text("status")), ("chat gpt-4o-mini", "UNSET"));
    for (attribute, field) in [
        ("gen_ai.request.model", "model"),
        ("gen_ai.response.model", "response_model"),
        ("gen_ai.usage.input_tokens", "tokens_in"),
        ("gen_ai.usage.output_tokens", "tokens_out"),
        ("gen_ai.request.stream", "stream"),
        ("sluicegate.upstream", "upstream"),
        ("sluicegate.target", "target"),
    ] {
        assert_eq!(attempt.attribute(attribute), &line[field], "{attribute}");
    }
    assert!(attempt.attribute("gen_ai.usage.output_tokens").is_u64());
    assert_eq!(attempt.attribute("gen_ai.operation.name"), "chat");
    assert_eq!(attempt.attribute("gen_ai.provider.name"), "sim", "an unknown host is named by its upstream");
    assert_eq!(attempt.attribute("gen_ai.response.finish_reasons"), &json!(["stop"]));
    assert_eq!(attempt.attribute("server.address"), "127.0.0.1");
    assert_eq!(attempt.events(), ["connected", "head", "first_token", "last_frame"]);
    // The upstream's span is a child of the attempt's.
    let sent = upstream.records()[0].headers["traceparent"].to_str().unwrap().to_owned();
    assert_eq!(sent, format!("00-{}-{}-01", attempt.text("trace"), attempt.text("span")));
}
