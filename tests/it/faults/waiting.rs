//! Requests that wait for a key while other candidates, or the queue of `max_pending`, may be free sooner.

use std::time::Instant;

use sluicegate::simulator::{Gate, Script};
use tokio::task::JoinHandle;

use super::rig::{DONE, HELLO, ROLE, Rig, SPARE, gated, has_seen, refusal, stream, until};
use crate::{
    folder::Folder,
    harness::{Answer, CHAT, UPSTREAM_KEY},
};

const RETRY: &str = r#"retry = { retries = 3, backoff = "40ms", max_backoff = "8s" }"#;
const OTHER_MODEL: &str = r#"{"model":"other","stream":true,"messages":[]}"#;

fn served() -> Script {
    stream(&[ROLE, HELLO, DONE])
}

fn limited(milliseconds: &'static str) -> Script {
    refusal(429, "rate_limit_exceeded", &[("retry-after-ms", milliseconds)])
}

async fn keys_are_limited(rig: &Rig, upstream: &str, count: usize) {
    let live = rig.gateway.inside().live.load();
    let keys = &live.upstreams[upstream].keys;
    until(|| keys.cooling_down(Instant::now()).1 == count).await;
}

async fn assert_served(asked: impl IntoIterator<Item = JoinHandle<Answer>>) {
    for answer in asked {
        let answer = answer.await.unwrap();
        assert!(answer.status == 200 && answer.whole, "{answer:?}");
    }
}

/// An upstream `pair` with two keys, and these `lines`.
fn pair(folder: &Folder, lines: &str) -> String {
    // The same key twice, as far as the upstream can tell.
    let second = folder.write("second.key", UPSTREAM_KEY);
    format!("[upstream.pair]\n{lines}\nkeys = [{{ env = \"UPSTREAM_KEY\" }}, {{ file = {second:?} }}]")
}

/// The key that is free first is limited again, for longer than a request may wait.
#[tokio::test]
async fn a_queue_without_a_key_in_time_ends_no_wait_for_another_upstream() {
    let rig = Rig::both(RETRY, "", "").await;
    rig.main_answers([limited("1000"), limited("60000")]);
    rig.spare.queue(limited("2000"));
    (0..2).for_each(|_| rig.spare_answers());
    let one = rig.ask(CHAT);
    keys_are_limited(&rig, "spare", 1).await;
    let two = rig.ask(CHAT);
    assert_served([one, two]).await;
    assert_eq!(rig.seen(), (2, 3));
    rig.finish(2).await;
}

/// The first request in the queue has no response, so the second one would have to wait.
#[tokio::test]
async fn a_request_far_back_in_a_queue_takes_the_free_key_of_another_upstream() {
    let rig = Rig::both(RETRY, "", "").await;
    let gate = Gate::new();
    rig.main_answers([limited("500"), gated(&gate)]);
    rig.spare.queue(limited("1000"));
    rig.spare_answers();
    let one = rig.ask(CHAT);
    keys_are_limited(&rig, "spare", 1).await;
    let two = rig.ask(CHAT);
    let answer = two.await.unwrap();
    assert!(answer.status == 200 && answer.text().contains(SPARE), "{answer:?}");
    assert_eq!(rig.seen(), (2, 2));
    gate.open();
    assert_served([one]).await;
    rig.finish(2).await;
}

#[tokio::test]
async fn an_open_circuit_hides_no_key_that_is_free_soon() {
    let dead = "[upstream.dead]\nurl = \"http://127.0.0.1:9\"\nkey = { env = \"UPSTREAM_KEY\" }";
    for open in ["700ms", "1h"] {
        let defaults = format!("{RETRY}\nbreaker = {{ failures = 1, open = {open:?} }}\n{dead}");
        let rig = Rig::new(&defaults, "", "upstreams = [\"dead\", \"spare\"]").await;
        rig.spare.queue(limited("1000"));
        (0..2).for_each(|_| rig.spare_answers());
        let one = rig.ask(CHAT);
        keys_are_limited(&rig, "spare", 1).await;
        let two = rig.ask(CHAT);
        assert_served([one, two]).await;
        rig.finish(2).await;
    }
}

#[tokio::test]
async fn a_request_that_waits_for_a_key_has_left_the_queue_of_max_pending() {
    let folder = Folder::new();
    let lines = "targets = [{ url = \"$MAIN\" }, { url = \"$SPARE\" }]\nmax_pending = 1";
    let retry = "retry = { retries = 3, backoff = \"1s\", max_backoff = \"8s\" }\nbreaker = \"off\"";
    let defaults = format!("{retry}\n{}", pair(&folder, lines));
    let rig = Rig::new(&defaults, "", "upstreams = [\"pair\"]").await;
    let gate = Gate::new();
    rig.main_answers([gated(&gate), served(), served()]);
    rig.spare.queue(refusal(500, "x", &[]));
    (0..2).for_each(|_| rig.spare.queue(limited("3000")));
    (0..2).for_each(|_| rig.spare_answers());
    let target = rig.target("pair");
    let long = rig.ask(CHAT);
    has_seen(&rig.main, 1).await;
    let waiting = rig.ask(CHAT);
    until(|| target.waiting() == 1).await;
    let limited = rig.ask(CHAT);
    keys_are_limited(&rig, "pair", 2).await;
    until(|| target.waiting() == 0).await;
    gate.open();
    assert_served([long]).await;
    until(|| target.pending() == 0).await;
    assert_served([waiting, limited]).await;
    rig.finish(3).await;
}

/// The target is at its `max_pending` when the key becomes free.
#[tokio::test]
async fn a_request_with_a_key_waits_in_the_queue_of_max_pending() {
    let folder = Folder::new();
    let retry = "retry = { retries = 3, backoff = \"60s\", max_backoff = \"60s\" }";
    let defaults = format!("{retry}\n{}", pair(&folder, "url = \"$MAIN\"\nmax_pending = 1"));
    let rig = Rig::new(&defaults, "", "upstreams = [\"pair\"]").await;
    let gate = Gate::new();
    rig.main_answers([limited("500"), limited("500"), gated(&gate), served()]);
    let target = rig.target("pair");
    let waiting = rig.ask(CHAT);
    keys_are_limited(&rig, "pair", 2).await;
    let other = rig.ask(OTHER_MODEL);
    has_seen(&rig.main, 3).await;
    until(|| target.waiting() == 1).await;
    gate.open();
    assert_served([waiting, other]).await;
    assert_eq!(rig.seen().0, 4);
    rig.finish(2).await;
}

/// Conversations keep their target, because it has their prompts in its cache.
#[tokio::test]
async fn a_request_that_waited_for_a_key_goes_to_its_own_target() {
    let folder = Folder::new();
    let lines = "targets = [{ url = \"$MAIN\" }, { url = \"$SPARE\" }]\nbalance = { hash = { header = \"x-session\" } }";
    let defaults = format!("{RETRY}\n{}", pair(&folder, lines));
    let rig = Rig::new(&defaults, "", "upstreams = [\"pair\"]").await;
    let mut asked = 0;
    for session in ["a", "b", "c", "d", "e", "f"] {
        let headers = [("x-session", session)];
        rig.main.reset();
        rig.spare.reset();
        assert_eq!(rig.post("/v1/chat/completions", CHAT, &headers).await.status, 200);
        let before = rig.seen();
        let own = if before.0 == 1 { &rig.main } else { &rig.spare };
        (0..2).for_each(|_| own.queue(limited("100")));
        assert_eq!(rig.post("/v1/chat/completions", CHAT, &headers).await.status, 200);
        assert_eq!(rig.seen(), (before.0 * 4, before.1 * 4), "{session}");
        asked += 2;
    }
    rig.finish(asked).await;
}
