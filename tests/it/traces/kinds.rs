//! The spans of exchanges that do not go well at once.

use serde_json::Value;
use sluicegate::{
    app::Ended,
    simulator::{Cut, Gate, Step},
};

use super::{Receiver, Span, ask, exporting, tree};
use crate::{
    faults::rig::{HELLO, QUICK, ROLE, Rig, after_gate, gated, refusal, refusing, stream_then},
    harness::{Client, Gateway, Http, post, safely, simulator, take, whole},
    websocket::rig::{self, Upstream},
};

/// Lines of `[defaults]`, and the table that exports only what is special.
fn only_special(defaults: &str, receiver: &Receiver) -> String {
    format!("{defaults}\n[otlp]\nendpoint = {:?}\nsample = 0\nslow = \"off\"", receiver.url)
}

async fn stop(rig: Rig) {
    assert_eq!(rig.gateway.stop().await, Ended::Drained);
}

fn attempt_of(spans: &[Span]) -> &Span {
    let (_, attempts) = tree(spans);
    let [attempt] = attempts.as_slice() else { panic!("{spans:#?}") };
    attempt
}

#[tokio::test]
async fn a_fail_over_has_a_span_for_each_attempt() {
    let mut receiver = Receiver::start(&[]);
    let rig = Rig::both(&only_special(QUICK, &receiver), "", "").await;
    rig.main_answers([refusal(503, "overloaded", &[])]);
    rig.spare_answers();
    assert!(rig.chat().await.whole);
    let line = rig.line().await;
    let sent = [&rig.main, &rig.spare].map(|upstream| upstream.records()[0].headers["traceparent"].clone());
    stop(rig).await;
    let spans = receiver.spans();
    let (root, attempts) = tree(&spans);
    assert_eq!((root.text("status"), root.attribute("sluicegate.attempts")), ("UNSET", &2.into()));
    let [first, second] = attempts.as_slice() else { panic!("{spans:#?}") };
    assert_eq!((first.text("status"), first.attribute("error.type")), ("ERROR", &"overloaded".into()));
    assert_eq!(first.attribute("http.response.status_code"), 503);
    assert_eq!(
        first.attribute("gen_ai.usage.output_tokens"),
        &Value::Null,
        "usage is that of the answer alone"
    );
    assert_eq!((second.text("status"), second.attribute("error.type")), ("UNSET", &Value::Null));
    assert_eq!(second.attribute("http.request.resend_count"), 1);
    assert_eq!(second.attribute("sluicegate.upstream"), &line["upstream"]);
    assert!(first.get("end").as_u64() <= second.get("start").as_u64(), "{spans:#?}");
    for (span, sent) in [first, second].into_iter().zip(sent) {
        assert_eq!(sent.to_str().unwrap(), format!("00-{}-{}-01", span.text("trace"), span.text("span")));
    }
}

#[tokio::test]
async fn a_stream_that_is_cut_is_an_error_although_its_status_is_200() {
    let mut receiver = Receiver::start(&[]);
    let rig = Rig::alone(&only_special("retry = \"off\"", &receiver), "", "").await;
    rig.main_answers([stream_then(&[ROLE, HELLO], Step::Cut(Cut::Reset))]);
    rig.chat().await;
    let line = rig.line().await;
    stop(rig).await;
    let spans = receiver.spans();
    let (root, _) = tree(&spans);
    let attempt = attempt_of(&spans);
    for span in [root, attempt] {
        assert_eq!((span.text("status"), span.attribute("error.type")), ("ERROR", &line["error"]));
        assert_eq!(span.attribute("http.response.status_code"), 200);
    }
    assert_eq!(
        (root.attribute("sluicegate.who"), root.attribute("sluicegate.phase")),
        (&line["who"], &line["phase"])
    );
    assert!(attempt.events().contains(&"last_frame"), "{attempt:?}");
}

#[tokio::test]
async fn a_client_that_leaves_is_exported_and_no_error() {
    let mut receiver = Receiver::start(&[]);
    let rig = Rig::alone(&only_special("", &receiver), "", "").await;
    let gate = Gate::new();
    rig.main_answers([stream_then(&[ROLE, HELLO], Step::Gate(gate.clone()))]);
    let address = rig.gateway.address();
    let mut client = Client::connect(address, Http::One).await;
    let request = post(address, Http::One, "/v1/chat/completions").body(whole(super::prompt())).unwrap();
    let mut response = safely(client.send(request)).await.unwrap();
    take(response.body_mut(), ROLE.len() + HELLO.len()).await;
    drop(response);
    client.leave().await;
    rig.line().await;
    stop(rig).await;
    let spans = receiver.spans();
    let (root, _) = tree(&spans);
    assert_eq!(root.attribute("sluicegate.who"), "downstream");
    for span in [root, attempt_of(&spans)] {
        assert_eq!((span.text("status"), span.attribute("error.type")), ("UNSET", &Value::Null), "{span:?}");
    }
}

#[tokio::test]
async fn a_response_that_begins_early_has_the_times_of_its_attempts() {
    let mut receiver = Receiver::start(&[]);
    let rig = Rig::both(&only_special(QUICK, &receiver), "", "commit_after = \"50ms\"").await;
    let gate = Gate::new();
    rig.main_answers([after_gate(&gate, refusing(503, "", &[]))]);
    rig.spare_answers();
    let address = rig.gateway.address();
    let mut client = Client::connect(address, Http::One).await;
    let request = post(address, Http::One, "/v1/chat/completions").body(whole(super::prompt())).unwrap();
    let mut response = safely(client.send(request)).await.unwrap();
    take(response.body_mut(), ": keep-alive\n\n".len()).await;
    gate.open();
    assert!(safely(crate::harness::Answer::read(response)).await.whole);
    rig.line().await;
    stop(rig).await;
    let spans = receiver.spans();
    let (root, attempts) = tree(&spans);
    assert_eq!((attempts.len(), root.attribute("http.response.status_code")), (2, &200.into()));
    assert_eq!(attempts[1].events(), ["connected", "head", "first_token", "last_frame"]);
}

#[tokio::test]
async fn an_upstream_that_cannot_be_reached_is_an_attempt_without_a_head() {
    let mut receiver = Receiver::start(&[]);
    let closed = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let toml = exporting(&format!("http://{closed}"), &receiver.url, "sample = 0");
    let gateway = Gateway::start(&toml);
    assert_eq!(ask(&gateway, &[]).await.status, 502);
    assert_eq!(gateway.stop().await, Ended::Drained);
    let spans = receiver.spans();
    let (root, _) = tree(&spans);
    let attempt = attempt_of(&spans);
    assert_eq!(root.attribute("error.type"), "upstream_unreachable");
    assert_eq!((root.text("status"), attempt.text("status")), ("ERROR", "ERROR"));
    assert!(attempt.events().is_empty(), "nothing was connected: {attempt:?}");
}

#[tokio::test]
async fn a_websocket_connection_is_an_exchange_with_turns() {
    let mut receiver = Receiver::start(&[]);
    let upstream = Upstream::start().await;
    let otlp = format!("[otlp]\nendpoint = {:?}", receiver.url);
    let gateway = Gateway::start(&rig::before(&upstream).more(otlp));
    let (mut client, mut server) = rig::open(&gateway, &upstream, "/v1/realtime?model=gpt-realtime").await;
    server.text(r#"{"type":"response.created","response":{}}"#).await;
    server.text(r#"{"type":"response.done","response":{"status":"completed","usage":{"input_tokens":3,"output_tokens":4,"total_tokens":7}}}"#).await;
    client.next_text().await;
    client.next_text().await;
    client.close(1000, "").await;
    server.next_close().await;
    server.close(1000, "").await;
    let line = gateway.log.line(1).await;
    assert_eq!(gateway.stop().await, Ended::Drained);
    let spans = receiver.spans();
    let (root, _) = tree(&spans);
    let attempt = attempt_of(&spans);
    assert_eq!(root.text("name"), "GET /v1");
    assert_eq!(root.attribute("sluicegate.websocket.turns"), &line["turns"]);
    assert_eq!(root.attribute("http.response.status_code"), 101);
    assert_eq!(attempt.attribute("gen_ai.usage.output_tokens"), &line["tokens_out"]);
    assert_eq!(attempt.text("name"), "generate_content gpt-realtime");
    assert!(upstream_saw(&server.head, attempt), "{}", server.head);
}

fn upstream_saw(head: &str, attempt: &Span) -> bool {
    head.contains(&format!("00-{}-{}-01", attempt.text("trace"), attempt.text("span")))
}

#[tokio::test]
async fn an_operation_without_a_model_has_no_attributes_of_one() {
    let mut receiver = Receiver::start(&[]);
    let upstream = simulator().await;
    let gateway = Gateway::start(&exporting(&upstream.url(), &receiver.url, ""));
    let request = crate::harness::authorised(gateway.address(), Http::One, "GET", "/v1/models");
    let answer = crate::harness::send(gateway.address(), Http::One, request.body(whole("")).unwrap()).await;
    assert_eq!(answer.status, 200);
    gateway.log.line_of(&answer).await;
    assert_eq!(gateway.stop().await, Ended::Drained);
    let spans = receiver.spans();
    let attempt = attempt_of(&spans);
    assert_eq!(attempt.text("name"), "GET");
    let named = attempt.get("attributes").as_object().unwrap();
    assert!(named.keys().all(|name| !name.starts_with("gen_ai.")), "{attempt:?}");
}

/// A request that hangs when the drain begins is cut, which is the gateway's doing.
#[tokio::test]
async fn a_stream_that_a_drain_cuts_is_an_error_of_the_gateway() {
    let mut receiver = Receiver::start(&[]);
    let rig = Rig::alone(&only_special("", &receiver), "", "").await;
    let gate = Gate::new();
    rig.main_answers([gated(&gate)]);
    let (client, pending) = rig.begin().await;
    let pending = tokio::spawn(pending);
    crate::faults::rig::has_seen(&rig.main, 1).await;
    rig.gateway.ask_to_stop();
    rig.gateway.ask_to_stop();
    let mut gateway = rig.gateway;
    assert_eq!(gateway.ended().await, Ended::Cut(1));
    let _ = pending.await;
    drop(client);
    let spans = receiver.spans();
    let (root, _) = tree(&spans);
    assert_eq!((root.text("status"), root.attribute("sluicegate.who")), ("ERROR", &"gateway".into()));
}
