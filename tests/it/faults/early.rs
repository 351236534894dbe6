//! `commit_after`, and heartbeats under `delivery = "whole"`: the answer begins before there is one.

use sluicegate::simulator::{Cut, Gate, Script, Step};

use super::rig::{DONE, HELLO, QUICK, ROLE, Rig, SPARE, refusal, refusing, stream, stream_then, streamed};
use crate::harness::{CLIENT_KEY, Client, Http, Raw, log, post, safely, take, whole};

const BEAT: &str = ": keep-alive\n\n";
const EARLY: &str = "commit_after = \"50ms\"";

/// Not answered before the gate is opened.
fn after(gate: &Gate, answer: Vec<Step>) -> Script {
    let mut steps = vec![Step::Gate(gate.clone())];
    steps.extend(answer);
    Script::new(steps)
}

/// Asks, sees the first comment, opens the gate and reads the rest; the answer without its comments, and how it ended.
async fn ask(rig: &Rig, path: &str, body: &'static str, gate: &Gate) -> (String, bool) {
    let address = rig.gateway.address();
    let mut client = Client::connect(address, Http::One).await;
    let request = post(address, Http::One, path).body(whole(body)).unwrap();
    let mut response = safely(client.send(request)).await.unwrap();
    assert_eq!(response.status(), 200);
    assert_eq!(response.headers()["content-type"], "text/event-stream");
    assert!(response.headers().contains_key("x-request-id"));
    assert_eq!(take(response.body_mut(), BEAT.len()).await, BEAT.as_bytes());
    gate.open();
    let answer = safely(crate::harness::Answer::read(response)).await;
    (answer.text().replace(BEAT, ""), answer.whole)
}

const CHAT: &str = crate::harness::CHAT;

#[tokio::test]
async fn what_comes_late_is_given_in_the_stream_that_has_begun() {
    for defaults in ["", "heartbeat = \"1s\""] {
        let rig = Rig::alone(defaults, "", EARLY).await;
        let gate = Gate::new();
        rig.main_answers([after(&gate, streamed(&[ROLE, HELLO, DONE]))]);
        let text = ask(&rig, "/v1/chat/completions", CHAT, &gate).await;
        assert_eq!(text, ([ROLE, HELLO, DONE].concat(), true));
        let line = rig.line().await;
        assert_eq!(
            (&line["status"], &line["who"], &line["phase"]),
            (&200.into(), &"upstream".into(), &"done".into())
        );
        assert_eq!(line["bytes_out"], (BEAT.len() + text.0.len()), "{line:#}");
        rig.finish(1).await;
    }
}

#[tokio::test]
async fn what_is_in_time_keeps_its_status() {
    let rig = Rig::alone("retry = \"off\"", "", "commit_after = \"60s\"").await;
    rig.main_answers([refusal(404, "model_not_found", &[]), stream(&[ROLE, HELLO, DONE])]);
    let answer = rig.chat().await;
    assert_eq!((answer.status.as_u16(), answer.code().as_str()), (404, "model_not_found"));
    assert_eq!(rig.chat().await.text(), [ROLE, HELLO, DONE].concat());
    rig.finish(2).await;
}

/// In the caller's dialect; the Responses SDKs raise at the abort alone.
#[tokio::test]
async fn a_late_failure_is_told_in_the_stream() {
    const RESPONSES: &str = r#"{"model":"m","stream":true,"input":"x"}"#;
    const MESSAGES: &str = r#"{"model":"m","stream":true,"max_tokens":1,"messages":[]}"#;
    let dialects = [
        ("/v1/chat/completions", CHAT, "data: {\"error\":{", true),
        ("/v1/responses", RESPONSES, "event: error\ndata: {\"type\":\"error\",\"code\":", false),
        ("/v1/messages", MESSAGES, "event: error\ndata: {\"type\":\"error\",\"error\":{", true),
    ];
    for (path, body, begins, orderly) in dialects {
        for (steps, word, who) in [
            (refusing(404, "model_not_found", &[]), "\"no\"", "upstream"),
            (vec![Step::Cut(Cut::Reset)], "closed the connection", "upstream"),
            (refusing(401, "invalid_api_key", &[]), "No upstream is available", "gateway"),
        ] {
            let rig = Rig::alone("retry = \"off\"", "", EARLY).await;
            let gate = Gate::new();
            rig.main_answers([after(&gate, steps)]);
            let (text, whole) = ask(&rig, path, body, &gate).await;
            assert!(text.starts_with(begins) && text.contains(word), "{path} {word}: {text}");
            assert!(!text.contains("[DONE]") && whole == orderly, "{path}: {text}");
            let line = rig.line().await;
            assert_eq!((&line["status"], &line["who"]), (&200.into(), &who.into()), "{line:#}");
            rig.finish(1).await;
        }
    }
}

#[tokio::test]
async fn attempts_go_on_while_the_caller_has_comments() {
    let rig = Rig::both(QUICK, "", EARLY).await;
    let gate = Gate::new();
    rig.main_answers([after(&gate, refusing(503, "", &[]))]);
    rig.spare_answers();
    let answer = ask(&rig, "/v1/chat/completions", CHAT, &gate).await;
    assert_eq!(answer, ([ROLE, SPARE, DONE].concat(), true));
    assert_eq!(log::attempts(&rig.line().await), 2);
    rig.finish(1).await;
}

/// Nobody could make up for an error in a stream, which has let go of its connection by then. It is logged as the error that it would have been
/// as a response.
#[tokio::test]
async fn an_error_event_is_told_late_as_it_is() {
    let error = "data: {\"error\":{\"message\":\"overloaded\",\"type\":\"server_error\",\"code\":null}}\n\n";
    for breaker in ["breaker = \"off\"", "breaker = { failures = 1, open = \"1h\" }"] {
        let retry = QUICK.replace("retries = 3", "retries = 1");
        let early = format!("{EARLY}\ncommit = \"first_token\"");
        let rig = Rig::alone(&format!("{retry}\n{breaker}"), "", &early).await;
        let gate = Gate::new();
        rig.main_answers([after(&gate, streamed(&[error])), stream(&[error])]);
        assert_eq!(ask(&rig, "/v1/chat/completions", CHAT, &gate).await, (error.to_owned(), true));
        let line = rig.line().await;
        assert_eq!(
            (&line["error"], &line["phase"]),
            (&"upstream_error_event".into(), &"done".into()),
            "{line:#}"
        );
        rig.finish(1).await;
    }
}

/// Its connection is closed after the answer, as after any to a request whose trailers were read: the head says so, early or not.
#[tokio::test]
async fn a_connection_that_will_be_closed_is_announced_in_an_early_head() {
    let rig = Rig::alone("", "", EARLY).await;
    for (trailer, closes) in [("", false), ("x-checked: yes\r\n", true)] {
        let gate = Gate::new();
        rig.main_answers([after(&gate, streamed(&[ROLE, HELLO, DONE]))]);
        let mut raw = Raw::connect(rig.gateway.address()).await;
        raw.write(format!(
            "POST /v1/chat/completions HTTP/1.1\r\nhost: gateway\r\nauthorization: Bearer {CLIENT_KEY}\r\n\
             content-type: application/json\r\ntransfer-encoding: chunked\r\n\r\n{:x}\r\n{CHAT}\r\n0\r\n{trailer}\r\n",
            CHAT.len()
        ))
        .await;
        let head = raw.until(&format!("{BEAT}\r\n")).await;
        assert!(head.starts_with("HTTP/1.1 200"), "{head}");
        assert_eq!(head.contains("connection: close\r\n"), closes, "{head}");
        gate.open();
        raw.until("0\r\n\r\n").await;
        if closes {
            assert_eq!(raw.read_to_end().await, (Vec::new(), None));
        } else {
            // It is there for the next one.
            rig.main_answers([stream(&[ROLE, HELLO, DONE])]);
            raw.post("HTTP/1.1", "/v1/chat/completions", "", CHAT).await;
            raw.until("0\r\n\r\n").await;
        }
    }
    rig.finish(3).await;
}

/// To a caller of HTTP/1.0 the close of the connection is the end of the answer (RFC 9112 section 6.3): what is not whole ends in a reset.
#[tokio::test]
async fn an_http_1_0_caller_is_told_how_an_early_answer_ends() {
    let cut = |pieces: &[&'static str]| {
        let mut steps = streamed(pieces);
        steps.push(Step::Cut(Cut::Reset));
        steps
    };
    const RESPONSES: &str = r#"{"model":"m","stream":true,"input":"x"}"#;
    let chat = "/v1/chat/completions";
    for (path, body, steps, whole) in [
        (chat, CHAT, streamed(&[ROLE, HELLO, DONE]), true),
        (chat, CHAT, cut(&[ROLE, "data: {\"choices\":"]), false),
        // SDKs raise on the event, but for those of the Responses dialect.
        (chat, CHAT, refusing(404, "model_not_found", &[]), true),
        ("/v1/responses", RESPONSES, refusing(404, "model_not_found", &[]), false),
    ] {
        let rig = Rig::alone("retry = \"off\"", "", EARLY).await;
        let gate = Gate::new();
        let what = format!("{path} {steps:?}");
        rig.main_answers([after(&gate, steps)]);
        let mut raw = Raw::connect(rig.gateway.address()).await;
        raw.post("HTTP/1.0", path, "", body).await;
        let head = raw.until(BEAT).await;
        assert!(head.contains(" 200 OK\r\n") && !head.contains("transfer-encoding"), "{head}");
        gate.open();
        let (_, ended) = raw.read_to_end().await;
        let expected = (!whole).then_some(std::io::ErrorKind::ConnectionReset);
        assert_eq!(ended, expected, "{what}");
        rig.finish(1).await;
    }
}

#[tokio::test]
async fn a_caller_who_leaves_meanwhile_ends_them() {
    let rig = Rig::alone(QUICK, "", EARLY).await;
    rig.main_answers([Script::new(vec![Step::Stall])]);
    let address = rig.gateway.address();
    let mut client = Client::connect(address, Http::One).await;
    let request = post(address, Http::One, "/v1/chat/completions").body(whole(CHAT)).unwrap();
    let mut response = safely(client.send(request)).await.unwrap();
    take(response.body_mut(), BEAT.len()).await;
    drop(response);
    client.leave().await;
    let line = rig.line().await;
    assert_eq!(
        (&line["status"], &line["error"], &line["phase"]),
        (&200.into(), &"caller_left".into(), &"first_byte".into())
    );
    assert_eq!(line["bytes_out"], BEAT.len());
    safely(rig.main.wait_for(|records| records.front().filter(|record| record.ended.is_some()).map(|_| ())))
        .await;
    rig.finish(1).await;
}

/// While the whole answer is gathered the caller has comments, and none of an answer that failed.
#[tokio::test]
async fn a_whole_answer_is_waited_for_with_heartbeats() {
    let rig = Rig::both("heartbeat = \"1s\"", "", "delivery = \"whole\"").await;
    let gate = Gate::new();
    let mut steps = streamed(&[ROLE, HELLO]);
    steps.extend([Step::Gate(gate.clone()), Step::Cut(Cut::Reset)]);
    rig.main_answers([Script::new(steps)]);
    rig.spare_answers();
    let answer = ask(&rig, "/v1/chat/completions", CHAT, &gate).await;
    assert_eq!(answer, ([ROLE, SPARE, DONE].concat(), true));
    rig.finish(1).await;
    let rig = Rig::alone("heartbeat = \"1s\"\nretry = \"off\"", "", "delivery = \"whole\"").await;
    rig.main_answers([stream_then(&[ROLE, HELLO], Step::Gate(gate.clone()))]);
    let (text, whole) = ask(&rig, "/v1/chat/completions", CHAT, &gate).await;
    assert!(whole && text.contains("upstream_truncated") && !text.contains("Hello"), "{text}");
    rig.finish(1).await;
}
