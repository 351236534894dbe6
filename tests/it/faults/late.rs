//! `timeout.first_token` before there is a head, and starts of streams that are held.

use std::time::Duration;

use sluicegate::simulator::{Gate, Head, Script, Step};

use super::rig::{DONE, HELLO, QUICK, ROLE, Rig, SPARE, assert_line, streamed};
use crate::harness::{CHAT, Client, Http, post, safely, take, whole};

const LATE: &str = "upstream_first_token_timeout";
const LIMITED: &str = "timeout = { first_token = \"300ms\" }";

/// A stream of these pieces, the head of which comes long after `first_token`.
fn slow(pieces: &[&'static str]) -> Script {
    let mut steps = vec![Step::Wait(Duration::from_millis(900))];
    steps.extend(streamed(pieces));
    Script::new(steps)
}

#[tokio::test]
async fn a_head_that_does_not_come_is_asked_for_elsewhere() {
    let rig = Rig::both(QUICK, LIMITED, "").await;
    rig.main_answers([Script::new(vec![Step::Stall])]);
    rig.spare_answers();
    assert_eq!(rig.chat().await.text(), [ROLE, SPARE, DONE].concat());
    assert_line(&rig.line().await, 200, 2, &[(&rig.main, LATE)]);
    rig.finish(1).await;
}

/// When both are slow, the answer of the second is better than none.
#[tokio::test]
async fn the_last_one_may_be_slow() {
    for route in ["", "commit = \"headers\"", "delivery = \"whole\""] {
        let rig = Rig::both(&format!("{QUICK}\n{LIMITED}"), "", route).await;
        rig.main_answers([slow(&[ROLE, HELLO, DONE])]);
        rig.spare.queue(slow(&[ROLE, SPARE, DONE]));
        let answer = rig.chat().await;
        assert!(answer.whole && answer.text() == [ROLE, SPARE, DONE].concat(), "{route}: {answer:?}");
        assert_line(&rig.line().await, 200, 2, &[(&rig.main, LATE)]);
        rig.finish(1).await;
    }
    let rig = Rig::alone(QUICK, LIMITED, "").await;
    rig.main_answers([slow(&[ROLE, HELLO, DONE])]);
    assert_eq!(rig.chat().await.text(), [ROLE, HELLO, DONE].concat());
    assert_line(&rig.line().await, 200, 1, &[]);
    rig.finish(1).await;
}

#[tokio::test]
async fn the_held_start_of_a_stream_is_counted() {
    let rig = Rig::both(QUICK, "", "").await;
    let gate = Gate::new();
    let mut steps = streamed(&[ROLE]);
    steps.extend([Step::Gate(gate.clone()), Step::Send(HELLO.into()), Step::Send(DONE.into())]);
    rig.main_answers([Script::new(steps)]);
    let address = rig.gateway.address();
    let mut client = Client::connect(address, Http::One).await;
    let request = post(address, Http::One, "/v1/chat/completions").body(whole(CHAT)).unwrap();
    let mut pending = client.begin(request).await;
    safely(async {
        while rig.gateway.buffered() < (CHAT.len() + ROLE.len()) as u64 {
            // The client's task has its turns meanwhile.
            let early = tokio::time::timeout(Duration::from_millis(1), &mut pending).await;
            assert!(early.is_err(), "{early:?}");
        }
    })
    .await;
    gate.open();
    let mut response = safely(pending).await.unwrap();
    let text = [ROLE, HELLO, DONE].concat();
    assert_eq!(take(response.body_mut(), text.len()).await, text.as_bytes());
    drop(response);
    client.leave().await;
    rig.gateway.holds_nothing().await;
    rig.finish(1).await;
}

/// An upstream's own comments keep a connection alive that has begun, though the rest is held.
#[tokio::test]
async fn comments_reach_a_caller_who_has_a_head() {
    const COMMENT: &str = ": OPENROUTER PROCESSING\n\n";
    let rig = Rig::both(QUICK, "", "commit_after = \"50ms\"").await;
    let (begun, commented) = (Gate::new(), Gate::new());
    rig.main_answers([Script::new(vec![
        Step::Gate(begun.clone()),
        Step::Head(Head::event_stream()),
        Step::Send(COMMENT.into()),
        Step::Gate(commented.clone()),
        Step::Send(HELLO.into()),
        Step::Send(DONE.into()),
    ])]);
    let address = rig.gateway.address();
    let mut client = Client::connect(address, Http::One).await;
    let request = post(address, Http::One, "/v1/chat/completions").body(whole(CHAT)).unwrap();
    let mut response = safely(client.send(request)).await.unwrap();
    let beat = ": keep-alive\n\n";
    assert_eq!(take(response.body_mut(), beat.len()).await, beat.as_bytes());
    begun.open();
    assert_eq!(take(response.body_mut(), COMMENT.len()).await, COMMENT.as_bytes());
    commented.open();
    let rest = [HELLO, DONE].concat();
    assert_eq!(take(response.body_mut(), rest.len()).await, rest.as_bytes());
    drop(response);
    client.leave().await;
    assert_eq!(rig.seen(), (1, 0));
    rig.finish(1).await;
}
