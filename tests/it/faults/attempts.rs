//! The access line tells of each attempt: where it went, what the upstream said, and how long it took.

use http::StatusCode;
use serde_json::{Value, json};
use sluicegate::simulator::{Head, Script, Step, WHOLE};

use super::rig::{DONE, HELLO, QUICK, ROLE, Rig, refusal, stream};
use crate::{
    folder::Folder,
    harness::{BOTH, CHAT, CLIENT_KEY, Client, Gateway, UPSTREAM_KEY, log, post, safely, whole},
};

/// The members of an attempt that do not depend on the clock.
fn without_times(attempt: &Value) -> Value {
    let mut attempt = attempt.clone();
    let members = attempt.as_object_mut().unwrap();
    for time in ["start_ms", "connect_ms", "head_ms", "first_token_ms", "ms"] {
        members.remove(time);
    }
    attempt
}

#[tokio::test]
async fn each_attempt_is_told_with_status_code_key_and_model() {
    let folder = Folder::new();
    // The upstream knows the first key alone.
    let second = folder.write("second", "sk-second-key-0123456789abcdef");
    let two = format!(
        "[upstream.two]\nurl = \"$MAIN\"\nkeys = [{{ env = \"UPSTREAM_KEY\" }}, {{ file = {second:?} }}]"
    );
    let route = r#"upstreams = ["two", { upstream = "two", model = "large" }]"#;
    let rig = Rig::new(&format!("{QUICK}\n{two}"), "", route).await;
    rig.main_answers([
        refusal(429, "rate_limit_exceeded", &[("retry-after", "5")]),
        stream(&[ROLE, HELLO, DONE]),
    ]);
    let answer = rig.chat().await;
    assert!(answer.whole, "{answer:?}");
    let line = rig.line().await;
    let attempts: Vec<Value> = line["attempts"].as_array().unwrap().iter().map(without_times).collect();
    let url = rig.main.url();
    let common = |more: Value| {
        let mut attempt = json!({ "upstream": "two", "target": url });
        attempt.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        attempt
    };
    assert_eq!(
        attempts,
        [
            common(json!({ "key": 1, "status": 429, "code": "rate_limit_exceeded", "result": "4xx" })),
            common(json!({ "key": 2, "status": 401, "code": "invalid_api_key", "result": "4xx" })),
            common(json!({ "key": 1, "model": "large", "status": 200, "result": "2xx" })),
        ],
        "{line:#}"
    );
    for attempt in line["attempts"].as_array().unwrap() {
        let (head, all) = (attempt["head_ms"].as_f64().unwrap(), attempt["ms"].as_f64().unwrap());
        assert!(0.0 < head && head <= all && all <= line["total_ms"].as_f64().unwrap(), "{line:#}");
    }
    // Only the last one had content.
    let first_tokens: Vec<bool> = line["attempts"]
        .as_array()
        .unwrap()
        .iter()
        .map(|attempt| attempt["first_token_ms"].is_f64())
        .collect();
    assert_eq!((first_tokens, &line["error"]), (vec![false, false, true], &Value::Null), "{line:#}");
    rig.finish(1).await;
}

#[tokio::test]
async fn one_attempt_that_goes_well_needs_no_list() {
    let rig = Rig::alone(QUICK, "", "").await;
    rig.main_answers([stream(&[ROLE, HELLO, DONE])]);
    assert!(rig.chat().await.whole);
    let line = rig.line().await;
    assert_eq!((line.get("attempts"), &line["upstream"]), (None, &"main".into()), "{line:#}");
    rig.finish(1).await;
}

/// Whatever the upstream calls its error: a word of its own, or nothing.
#[tokio::test]
async fn an_error_that_is_passed_on_is_named() {
    for (script, error) in [
        (refusal(400, "content_filter", &[]), "content_filter"),
        (refusal(404, "model_not_found", &[]), "model_not_found"),
        (unnamed(), "upstream_error"),
    ] {
        let rig = Rig::alone("retry = \"off\"", "", "").await;
        rig.main_answers([script]);
        rig.chat().await;
        let line = rig.line().await;
        assert_eq!((&line["error"], &line["who"]), (&error.into(), &"upstream".into()), "{line:#}");
        rig.finish(1).await;
    }
}

/// An upstream that puts the gateway's key, or the client's, into the code of its error does not get it into the log.
#[tokio::test]
async fn a_code_that_holds_a_key_is_not_logged() {
    for key in [UPSTREAM_KEY, CLIENT_KEY] {
        let rig = Rig::alone("retry = \"off\"", "", "").await;
        rig.main_answers([refusal(400, key, &[])]);
        rig.chat().await;
        let line = rig.line().await;
        assert!(!line.to_string().contains(key), "{line:#}");
        assert_eq!((log::attempts(&line), line["attempts"][0].get("code")), (1, None), "{line:#}");
        rig.finish(1).await;
    }
}

/// The status is the one that the upstream sent, also where the error came in an event.
#[tokio::test]
async fn an_error_event_leaves_the_status_as_it_was() {
    let rig = Rig::both(QUICK, "", "").await;
    let event =
        "data: {\"error\":{\"message\":\"no\",\"type\":\"server_error\",\"code\":\"overloaded\"}}\n\n";
    rig.main_answers([stream(&[event])]);
    rig.spare_answers();
    assert!(rig.chat().await.whole);
    let line = rig.line().await;
    let first = without_times(&line["attempts"][0]);
    assert_eq!(
        (&first["status"], &first["code"], &first["result"]),
        (&200.into(), &"overloaded".into(), &"error_event".into()),
        "{line:#}"
    );
    rig.finish(1).await;
}

#[tokio::test]
async fn a_client_that_leaves_during_a_backoff_is_logged_in_that_phase() {
    for http in BOTH {
        let slow = r#"retry = { retries = 3, backoff = "10m", max_backoff = "20m", max_wait = "1h" }"#;
        let rig = Rig::alone(slow, "", "").await;
        rig.main_answers([refusal(503, "server_is_overloaded", &[])]);
        let address = rig.gateway.address();
        let mut client = Client::connect(address, http).await;
        let request = post(address, http, "/v1/chat/completions").body(whole(CHAT)).unwrap();
        let pending = client.begin(request).await;
        // Counted in the moment in which the wait begins.
        while attempts_of(&rig.gateway) == 0 {
            safely(tokio::task::yield_now()).await;
        }
        client.leave().await;
        drop(pending);
        let line = rig.line().await;
        assert_eq!(
            (&line["who"], &line["phase"], &line["error"]),
            (&"downstream".into(), &"backoff".into(), &"caller_left".into()),
            "{line:#}"
        );
        assert_eq!(log::failed_attempts(&line), format!("{} 5xx", rig.main.url()));
        rig.finish(1).await;
    }
}

/// An error without an error object.
fn unnamed() -> Script {
    Script::new(vec![
        Step::ReadBody(WHOLE),
        Step::Head(Head::json(StatusCode::UNPROCESSABLE_ENTITY, 2)),
        Step::Send("[]".into()),
    ])
}

fn attempts_of(gateway: &Gateway) -> u64 {
    gateway.counts().attempts.values().sum()
}
