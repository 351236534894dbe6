//! `delivery = "whole"`: one whole answer, or one error.

use http::StatusCode;
use sluicegate::simulator::{Cut, Framing, Gate, Head, Script, Step};

use super::rig::{DONE, HELLO, QUICK, ROLE, Rig, SPARE, assert_line, refusal, stream, stream_then, streamed};
use crate::harness::{BOTH, CHAT, Client, log, post, safely, take, whole};

const WHOLE: &str = "delivery = \"whole\"";
const FINISHED: &str = "data: {\"choices\":[{\"index\":0,\"delta\":{},\"finish_reason\":\"stop\"}]}\n\n";
const ERROR: &str = "data: {\"error\":{\"message\":\"it broke\",\"type\":\"server_error\",\"param\":null,\"code\":\"broken\"}}\n\n";

/// OpenRouter sends errors of its providers so, with a status of 200.
const OBJECT: &str =
    "{\"error\":{\"message\":\"it broke\",\"type\":\"server_error\",\"param\":null,\"code\":\"broken\"}}";

/// xAI's form, without an envelope.
const FLAT: &str =
    "{\"code\":\"The service is currently unavailable\",\"error\":\"Timed out waiting for first token\"}";

fn empty_stream() -> Script {
    Script::new(vec![Step::Head(Head::new(StatusCode::OK, "text/event-stream", Framing::Known(0)))])
}

/// What a proxy in front of a provider may answer, with a status of 200.
fn page() -> Script {
    let page = "<!DOCTYPE html><title>Just a moment...</title>";
    let head = Head::new(StatusCode::OK, "text/html", Framing::Known(page.len() as u64));
    Script::new(vec![Step::Head(head), Step::Send(page.into())])
}

fn spares() -> String {
    [ROLE, SPARE, DONE].concat()
}

/// Everything that can go wrong, and by which code the log names it.
fn faults() -> Vec<(&'static str, Script, &'static str)> {
    let half = &HELLO[..20];
    let json = |cut| {
        let head = Head::json(StatusCode::OK, 100);
        Script::new(vec![Step::Head(head), Step::Send("{\"choices\":".into()), Step::Cut(cut)])
    };
    let document = |text: String| {
        let head = Head::json(StatusCode::OK, text.len());
        Script::new(vec![Step::Head(head), Step::Send(text.into())])
    };
    let long = format!("{{\"choices\":[{}", "1,".repeat(200 << 10));
    vec![
        ("500", refusal(500, "server_error", &[]), "5xx"),
        ("429", refusal(429, "rate_limit_exceeded", &[]), "4xx"),
        ("401", refusal(401, "invalid_api_key", &[]), "4xx"),
        ("reset before a head", Script::new(vec![Step::Cut(Cut::Reset)]), "upstream_closed"),
        ("cut in an event", stream_then(&[ROLE, HELLO, half], Step::Cut(Cut::Reset)), "upstream_truncated"),
        ("cut at a boundary", stream_then(&[ROLE, HELLO], Step::Cut(Cut::Reset)), "upstream_truncated"),
        ("a clean close", stream(&[ROLE, HELLO]), "upstream_truncated"),
        ("a stall", stream_then(&[ROLE, HELLO], Step::Stall), "upstream_idle"),
        ("a late first token", stream_then(&[ROLE], Step::Stall), "upstream_first_token_timeout"),
        ("an error event", stream(&[ROLE, HELLO, ERROR]), "error_event"),
        ("an event that cannot be read", stream(&[ROLE, "data: {no\n\n", DONE]), "error_event"),
        ("one after the first", stream(&[ROLE, HELLO, HELLO, "data: {no\n\n", HELLO, DONE]), "error_event"),
        ("a document cut short", json(Cut::Reset), "upstream_truncated"),
        ("a document that is not JSON", document("{\"choices\":[}".into()), "upstream_invalid"),
        ("one without an end", document("{\"choices\":[".into()), "upstream_invalid"),
        ("a long one without an end", document(long), "upstream_invalid"),
        ("an empty stream", empty_stream(), "upstream_truncated"),
        ("an error object", document(OBJECT.into()), "error_event"),
        ("an error without an envelope", document(FLAT.into()), "error_event"),
        ("null", document("null".into()), "upstream_invalid"),
        ("no choices", document("{\"id\":\"1\"}".into()), "upstream_invalid"),
        ("an empty list of choices", document("{\"choices\":[]}".into()), "upstream_invalid"),
        ("a page", page(), "upstream_invalid"),
        ("an empty document", document(String::new()), "upstream_invalid"),
    ]
}

#[tokio::test]
async fn whatever_fails_and_wherever_the_spare_ones_answer_is_given_whole() {
    for (name, script, code) in faults() {
        let timeout = "timeout = { first_token = \"600ms\", idle = \"200ms\" }";
        let timeout = if name == "a late first token" { &timeout.replace("200ms", "5s") } else { timeout };
        let rig = Rig::both(QUICK, timeout, WHOLE).await;
        rig.main_answers([script]);
        rig.spare_answers();
        let answer = rig.chat().await;
        assert!(answer.whole && answer.status == 200 && answer.text() == spares(), "{name}: {answer:?}");
        assert_eq!(rig.seen(), (1, 1), "{name}");
        assert_line(&rig.line().await, 200, 2, &[(&rig.main, code)]);
        rig.finish(1).await;
    }
}

/// A request that asks for no stream.
#[tokio::test]
async fn a_document_that_is_no_answer_is_requested_elsewhere() {
    const UNSTREAMED: &str = r#"{"model":"m","messages":[{"role":"user","content":"hi"}]}"#;
    const ANSWER: &str = r#"{"id":"1","choices":[{"index":0,"message":{"content":"from the spare one"}}]}"#;
    let document = |text: &'static str| {
        Script::new(vec![Step::Head(Head::json(StatusCode::OK, text.len())), Step::Send(text.into())])
    };
    for (text, code) in [(OBJECT, "error_event"), (FLAT, "error_event"), ("null", "upstream_invalid")] {
        let rig = Rig::both(QUICK, "", WHOLE).await;
        rig.main_answers([document(text)]);
        rig.spare.queue(document(ANSWER));
        let answer = rig.post("/v1/chat/completions", UNSTREAMED, &[]).await;
        assert_eq!((answer.status.as_u16(), answer.text()), (200, ANSWER), "{text}");
        assert_line(&rig.line().await, 200, 2, &[(&rig.main, code)]);
        rig.finish(1).await;
    }
}

#[tokio::test]
async fn without_another_place_there_is_one_error_and_nothing_of_the_answer() {
    for (name, script, code) in faults() {
        let rig =
            Rig::alone("retry = \"off\"", "timeout = { first_token = \"300ms\", idle = \"200ms\" }", WHOLE)
                .await;
        rig.main_answers([script]);
        let answer = rig.chat().await;
        assert!(answer.whole && answer.status.as_u16() >= 400, "{name}: {answer:?}");
        assert!(answer.json()["error"]["message"].is_string(), "{name}: {answer:?}");
        assert!(!answer.text().contains("Hello"), "{name}: {answer:?}");
        if name == "an error event" {
            assert_eq!((answer.status.as_u16(), answer.code().as_str()), (500, "broken"));
        }
        let line = rig.line().await;
        assert!(
            log::failed_attempts(&line).ends_with(if name.starts_with("a late") { "idle" } else { code }),
            "{line:#}"
        );
        rig.finish(1).await;
    }
}

#[tokio::test]
async fn an_answer_that_is_complete_goes_out_as_it_came() {
    let rig = Rig::alone(QUICK, "", WHOLE).await;
    let finished = [ROLE, HELLO, FINISHED];
    rig.main_answers([stream(&[ROLE, HELLO, DONE]), stream(&finished)]);
    assert_eq!(rig.chat().await.text(), [ROLE, HELLO, DONE].concat());
    // Without [DONE], but with a reason to stop for every choice, it is complete.
    let answer = rig.chat().await;
    assert!(answer.whole && answer.text() == finished.concat(), "{answer:?}");
    let document =
        "{\"id\":\"1\",\"choices\":[{\"index\":0}],\"usage\":{\"prompt_tokens\":3,\"completion_tokens\":4}}";
    let head = Step::Head(Head::json(StatusCode::OK, document.len()));
    rig.main_answers([Script::new(vec![head, Step::Send(document.into())])]);
    let answer = rig.chat().await;
    assert!(answer.text() == document && answer.headers["content-length"] == document.len().to_string());
    assert_eq!(rig.gateway.log.line(3).await["tokens_out"], 4);
    let long = format!("{{\"choices\":[{}1]}}", "1,".repeat(200 << 10));
    let head = Step::Head(Head::json(StatusCode::OK, long.len()));
    rig.main_answers([Script::new(vec![head, Step::Send(long.clone().into())])]);
    assert_eq!(rig.chat().await.text(), long);
    rig.finish(4).await;
}

/// The count ends with the response, not with the connection.
#[tokio::test]
async fn an_answer_that_the_caller_has_does_not_count() {
    let long = format!("{{\"choices\":[{}1]}}", "1,".repeat(200 << 10));
    for http in BOTH {
        let rig = Rig::alone(QUICK, "", WHOLE).await;
        let head = Step::Head(Head::json(StatusCode::OK, long.len()));
        rig.main_answers([Script::new(vec![head, Step::Send(long.clone().into())])]);
        let address = rig.gateway.address();
        let mut client = Client::connect(address, http).await;
        let request = post(address, http, "/v1/chat/completions").body(whole(CHAT));
        assert_eq!(client.ask(request.unwrap()).await.text(), long);
        rig.gateway.holds_nothing().await;
        client.leave().await;
        rig.finish(1).await;
    }
}

/// SDKs close at the terminal event: whatever does or does not follow is no fault, is not passed on, and costs no time.
#[tokio::test]
async fn a_stream_ends_at_its_terminal_event() {
    let complete = [ROLE, HELLO, DONE];
    for (name, last) in [
        ("a stall", Step::Stall),
        ("a reset", Step::Cut(Cut::Reset)),
        ("a cut", Step::Cut(Cut::Close)),
        ("half an event", Step::Send(HELLO[..20].into())),
        ("what cannot be read", Step::Send("data: {no\n\n".into())),
        ("an error", Step::Send(ERROR.into())),
    ] {
        let rig = Rig::both(QUICK, "", WHOLE).await;
        rig.main_answers([stream_then(&complete, last)]);
        let answer = rig.chat().await;
        assert!(answer.whole && answer.status == 200, "{name}: {answer:?}");
        assert_eq!(answer.text(), complete.concat(), "{name}");
        assert_eq!(rig.seen(), (1, 0), "{name}");
        assert_line(&rig.line().await, 200, 1, &[]);
        rig.finish(1).await;
    }
}

/// In the same frame too.
#[tokio::test]
async fn nothing_behind_the_terminal_event_is_passed_on() {
    for end in ["\n", "\r\n", "\r"] {
        for behind in
            ["", end, ": comment\n\n", &HELLO[..20], ERROR, "data: {no\n\n", &[HELLO, DONE].concat()]
        {
            let rig = Rig::both(QUICK, "", WHOLE).await;
            let complete = [ROLE, HELLO, DONE].concat().replace('\n', end);
            let text = [&*complete, behind].concat();
            let steps = vec![Step::Head(Head::event_stream()), Step::Send(text.into())];
            rig.main_answers([Script::new(steps)]);
            let answer = rig.chat().await;
            assert!(answer.whole && answer.text() == complete, "{end:?} {behind:?}: {answer:?}");
            assert_eq!(rig.seen(), (1, 0), "{behind:?}");
            assert_line(&rig.line().await, 200, 1, &[]);
            rig.finish(1).await;
        }
    }
}

/// An error that an upstream tells in its stream is an error, whatever it calls it; one about our key is not the caller's.
#[tokio::test]
async fn the_status_of_an_error_is_an_errors() {
    for (number, status, code) in
        [(200, 500, ""), (204, 500, ""), (429, 429, ""), (401, 503, "upstream_unavailable")]
    {
        let event = format!("data: {{\"error\":{{\"message\":\"no\",\"code\":{number}}}}}\n\n");
        let rig = Rig::alone("retry = \"off\"", "", WHOLE).await;
        rig.main_answers([stream(&[ROLE, HELLO, Box::leak(event.into_boxed_str())])]);
        let answer = rig.chat().await;
        assert_eq!(answer.status.as_u16(), status, "{number}: {answer:?}");
        assert!(code.is_empty() || answer.code() == code, "{number}: {answer:?}");
        rig.finish(1).await;
    }
}

/// Bounded by the route's `body_limit`, and by what the process may hold in all.
#[tokio::test]
async fn one_that_is_too_large_is_an_error() {
    let filler: &'static str = Box::leak(format!(": {}\n\n", "x".repeat(2000)).into_boxed_str());
    let rig = Rig::alone("retry = \"off\"", "", "delivery = \"whole\"\nbody_limit = \"1KiB\"").await;
    rig.main_answers([stream(&[ROLE, filler, HELLO, DONE])]);
    let answer = rig.chat().await;
    assert_eq!((answer.status.as_u16(), answer.code().as_str()), (502, "upstream_answer_too_large"));
    rig.gateway.holds_nothing().await;
    rig.finish(1).await;
}

/// Nothing but the caller's wait is held: while the answer is on its way, what is held is counted, and the caller has nothing.
#[tokio::test]
async fn nothing_goes_out_before_the_end_and_what_is_held_is_counted() {
    let rig = Rig::alone(QUICK, "", WHOLE).await;
    let gate = Gate::new();
    let mut steps = streamed(&[ROLE, HELLO]);
    steps.extend([Step::Gate(gate.clone()), Step::Send(DONE.into())]);
    rig.main_answers([Script::new(steps)]);
    let (client, mut pending) = rig.begin().await;
    rig.until_it_holds(CHAT.len() + ROLE.len() + HELLO.len(), &mut pending).await;
    gate.open();
    let mut response = safely(pending).await.unwrap();
    let text = [ROLE, HELLO, DONE].concat();
    assert_eq!(take(response.body_mut(), text.len()).await, text.as_bytes());
    drop(response);
    client.leave().await;
    rig.finish(1).await;
}
