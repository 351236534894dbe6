//! One upstream that is in a route's list more than once, with different models: what is wrong with one model need not be with another.

use sluicegate::simulator::{Gate, Script, Step};

use super::rig::{DONE, HELLO, QUICK, ROLE, Rig, SPARE, assert_line, refusal, stream, streamed};
use crate::{
    folder::Folder,
    harness::{CHAT, Http, UPSTREAM_KEY, chat, log, safely},
};

/// Nobody's key.
const SECOND_KEY: &str = "sk-second-key-0123456789abcdef";

/// Longer than any test waits: what is asked after a wait is not asked at all.
const SLOW: &str = r#"retry = { retries = 3, backoff = "10m", max_backoff = "20m", max_wait = "1h" }"#;

/// A small model and a large one at `main`, then `spare`.
const TWICE: &str = r#"upstreams = ["main", { upstream = "main", model = "large" }, "spare"]"#;

fn models(rig: &Rig) -> Vec<String> {
    let model = |body: &[u8]| {
        let body: serde_json::Value = serde_json::from_slice(body).unwrap();
        body["model"].as_str().unwrap().to_owned()
    };
    rig.main.records().iter().map(|record| model(&record.body)).collect()
}

fn whole() -> Script {
    stream(&[ROLE, HELLO, DONE])
}

#[tokio::test]
async fn another_model_of_the_same_upstream_is_asked_at_once() {
    for (refused, name) in [
        (refusal(500, "server_error", &[]), "5xx"),
        (refusal(503, "server_is_overloaded", &[]), "5xx"),
        (refusal(529, "", &[]), "5xx"),
        (refusal(429, "rate_limit_exceeded", &[("retry-after", "5")]), "4xx"),
    ] {
        let rig = Rig::new(SLOW, "", TWICE).await;
        rig.main_answers([refused, whole()]);
        let answer = rig.chat().await;
        assert!(answer.whole && answer.text() == [ROLE, HELLO, DONE].concat(), "{answer:?}");
        assert_eq!(models(&rig), ["gpt-4o-mini", "large"]);
        assert_line(&rig.line().await, 200, 2, &[(&rig.main, name)]);
        rig.finish(1).await;
    }
}

/// A large model that takes its time says nothing about a small one; but neither is asked twice.
#[tokio::test]
async fn a_model_that_is_silent_is_left_and_the_next_one_is_asked() {
    let rig = Rig::new(QUICK, "timeout = { first_byte = \"150ms\" }", TWICE).await;
    rig.main_answers([Script::new(vec![Step::Stall]), Script::new(vec![Step::Stall])]);
    rig.spare.queue(refusal(503, "", &[]));
    rig.spare_answers();
    assert_eq!(rig.chat().await.text(), [ROLE, SPARE, DONE].concat());
    assert_eq!(models(&rig), ["gpt-4o-mini", "large"]);
    let tried = [(&rig.main, "upstream_timeout"), (&rig.main, "upstream_timeout"), (&rig.spare, "5xx")];
    assert_line(&rig.line().await, 200, 4, &tried);
    rig.finish(1).await;
}

/// Whatever model it is: there is no connection.
#[tokio::test]
async fn a_target_that_cannot_be_reached_is_passed_by_for_every_model() {
    let nobody = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let rig = Rig::new(
        &format!("{SLOW}\n[upstream.dead]\nurl = \"http://{nobody}\"\nauth = \"none\""),
        "",
        r#"upstreams = ["dead", { upstream = "dead", model = "large" }, "spare"]"#,
    )
    .await;
    rig.spare_answers();
    assert_eq!(rig.chat().await.text(), [ROLE, SPARE, DONE].concat());
    let line = rig.line().await;
    assert_eq!(log::failed_attempts(&line), format!("http://{nobody} upstream_unreachable"), "{line}");
    rig.finish(1).await;
}

/// The model that the caller asked for by itself is not another one.
#[tokio::test]
async fn the_same_model_of_the_same_upstream_is_one_place() {
    let route = r#"upstreams = ["main", { upstream = "main", model = "gpt-4o-mini" }, "spare"]"#;
    let rig = Rig::new(SLOW, "", route).await;
    rig.main_answers([refusal(503, "", &[])]);
    rig.spare_answers();
    assert_eq!(rig.chat().await.text(), [ROLE, SPARE, DONE].concat());
    assert_eq!(rig.seen(), (1, 1));
    rig.finish(1).await;
}

/// A key that is refused is not asked with again, though it rests for what another model was told.
#[tokio::test]
async fn a_key_that_rests_for_one_model_does_not_rest_for_another() {
    let rig = Rig::alone(QUICK, "", "").await;
    rig.main_answers([refusal(429, "rate_limit_exceeded", &[("retry-after", "3600")])]);
    assert_eq!(rig.chat().await.status, 429);
    rig.main_answers((0..4).map(|_| refusal(401, "invalid_api_key", &[])));
    let other = CHAT.replace("gpt-4o-mini", "another").leak();
    let answer = rig.post("/v1/chat/completions", other, &[]).await;
    assert_eq!((answer.status.as_u16(), answer.code().as_str()), (503, "upstream_unavailable"));
    assert_eq!(models(&rig), ["gpt-4o-mini", "another"], "once each");
    rig.finish(2).await;
}

/// Who finds a target full, and goes elsewhere, takes no key's turn there.
#[tokio::test]
async fn keys_take_turns_among_those_who_are_let_in() {
    let folder = Folder::new();
    let second = folder.write("second.key", SECOND_KEY);
    let two = format!(
        "[upstream.two]\nurl = \"$MAIN\"\nmax_pending = 1\nkeys = [{{ env = \"UPSTREAM_KEY\" }}, {{ file = {second:?} }}]"
    );
    let rig = Rig::new(&format!("{QUICK}\n{two}"), "", r#"upstreams = ["two", "spare"]"#).await;
    let gate = Gate::new();
    let mut held = vec![Step::Gate(gate.clone())];
    held.extend(streamed(&[ROLE, HELLO, DONE]));
    rig.main_answers([Script::new(held)]);
    let first = tokio::spawn(chat(rig.gateway.address(), Http::One));
    safely(rig.main.wait_for(|records| (records.len() == 1).then_some(()))).await;
    rig.spare_answers();
    assert_eq!(chat(rig.gateway.address(), Http::One).await.text(), [ROLE, SPARE, DONE].concat());
    gate.open();
    assert_eq!(first.await.unwrap().status, 200);
    // The simulator knows the first key alone: it is asked with once more.
    rig.main_answers([whole()]);
    assert_eq!(chat(rig.gateway.address(), Http::One).await.status, 200);
    let keys: Vec<_> =
        rig.main.records().iter().map(|record| record.headers["authorization"].clone()).collect();
    assert_eq!(keys[..2], [format!("Bearer {UPSTREAM_KEY}"), format!("Bearer {SECOND_KEY}")]);
    rig.finish(3).await;
}
