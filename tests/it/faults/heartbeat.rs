//! Comments in silence.

use sluicegate::simulator::{Gate, Head, Script, Step};

use super::rig::{DONE, HELLO, QUICK, ROLE, Rig};
use crate::harness::{safely, take};

const BEAT: &str = ": keep-alive\n\n";

/// Reads frames until `text` has come, heartbeats beside it.
async fn until(body: &mut hyper::body::Incoming, text: &str) -> String {
    let mut read = String::new();
    while !read.contains(text) {
        read.push_str(std::str::from_utf8(&take_any(body).await).unwrap());
    }
    read
}

async fn take_any(body: &mut hyper::body::Incoming) -> Vec<u8> {
    use http_body_util::BodyExt;
    safely(body.frame()).await.unwrap().unwrap().into_data().unwrap().to_vec()
}

#[tokio::test]
async fn they_come_in_silence_and_between_events_alone() {
    let rig = Rig::alone("heartbeat = \"1s\"", "", "commit = \"headers\"").await;
    let (first, half, rest) = (Gate::new(), Gate::new(), Gate::new());
    rig.main_answers([Script::new(vec![
        Step::Head(Head::event_stream()),
        Step::Send(ROLE.into()),
        Step::Gate(first.clone()),
        Step::Send(HELLO[..20].into()),
        Step::Gate(half.clone()),
        Step::Send(HELLO[20..].into()),
        Step::Gate(rest.clone()),
        Step::Send(DONE.into()),
    ])]);
    let (client, pending) = rig.begin().await;
    let mut response = safely(pending).await.unwrap();
    let body = response.body_mut();
    take(body, ROLE.len()).await;
    assert_eq!(until(body, BEAT).await, BEAT);
    first.open();
    assert_eq!(until(body, &HELLO[..20]).await.replace(BEAT, ""), HELLO[..20]);
    // Within an event it would become a part of it: silence, for longer than a beat.
    tokio::time::sleep(std::time::Duration::from_millis(1500)).await;
    half.open();
    assert_eq!(until(body, &HELLO[20..]).await, HELLO[20..]);
    assert_eq!(until(body, BEAT).await, BEAT);
    rest.open();
    assert_eq!(until(body, DONE).await.replace(BEAT, ""), DONE);
    drop(response);
    client.leave().await;
    rig.finish(1).await;
}

/// Some SDKs dispatch an event at each blank line once they have seen an id (openai-python, `SSEDecoder.decode`).
#[tokio::test]
async fn they_have_no_blank_line_where_events_carry_ids() {
    let rig = Rig::alone("heartbeat = \"1s\"", "", "commit = \"headers\"").await;
    let gate = Gate::new();
    let first = ["id: 1\n", HELLO].concat();
    rig.main_answers([Script::new(vec![
        Step::Head(Head::event_stream()),
        Step::Send(first.clone().into()),
        Step::Gate(gate.clone()),
        Step::Send(DONE.into()),
    ])]);
    let (client, pending) = rig.begin().await;
    let mut response = safely(pending).await.unwrap();
    let body = response.body_mut();
    take(body, first.len()).await;
    assert_eq!(until(body, "\n").await, ": keep-alive\n");
    gate.open();
    assert_eq!(until(body, DONE).await.replace(": keep-alive\n", ""), DONE);
    drop(response);
    client.leave().await;
    rig.finish(1).await;
}

/// They tell the caller that the line is alive, not that the upstream is.
#[tokio::test]
async fn they_do_not_hide_a_stream_that_hangs() {
    let rig = Rig::alone(QUICK, "heartbeat = \"1s\"\ntimeout = { idle = \"2500ms\" }", "").await;
    rig.main_answers([Script::new(vec![
        Step::Head(Head::event_stream()),
        Step::Send(HELLO.into()),
        Step::Stall,
    ])]);
    let answer = rig.chat().await;
    let text = answer.text();
    assert!(text.starts_with(HELLO) && text.contains("upstream_idle"), "{text}");
    assert_eq!(text.matches(BEAT).count(), 2, "{text}");
    rig.finish(1).await;
}
