//! `timeout.first_token` before there is a head, and starts of streams that are held.

use std::time::Duration;

use sluicegate::simulator::{Cut, Gate, Head, Script, Simulator, Step};

use super::rig::{
    DONE, HELLO, QUICK, ROLE, Rig, SPARE, after_gate, assert_line, keys_in_cooldown, refusal, refusing,
    streamed,
};
use crate::{
    harness::{Answer, CHAT, log, safely, take},
    metrics::scrape::Scrape,
};

const LATE: &str = "upstream_first_token_timeout";
const OVERTAKEN: &str = "overtaken";
const LIMITED: &str = "timeout = { first_token = \"300ms\" }";

/// A stream of these pieces, the head of which comes long after `first_token`.
fn slow(pieces: &[&'static str]) -> Script {
    let mut steps = vec![Step::Wait(Duration::from_millis(900))];
    steps.extend(streamed(pieces));
    Script::new(steps)
}

/// A stream of these pieces, the head of which comes when `gate` is opened.
fn gated(gate: &Gate, pieces: &[&'static str]) -> Script {
    after_gate(gate, streamed(pieces))
}

fn silent() -> Script {
    Script::new(vec![Step::Stall])
}

/// A chat request, and beside it `course`, which decides when the upstreams answer.
async fn chat_during(rig: &Rig, course: impl Future<Output = ()>) -> Answer {
    safely(async { tokio::join!(rig.chat(), course).0 }).await
}

/// Waits until that many requests have reached `upstream`.
async fn asked(upstream: &Simulator, number: usize) {
    upstream.wait_for(|records| (records.len() >= number).then_some(())).await;
}

/// Waits until `upstream` has seen that its first request was cancelled.
async fn assert_cancelled(upstream: &Simulator) {
    let ended = upstream.record(1).await.ended;
    assert!(ended.is_some_and(|(_, ended)| ended.peer_left()), "{ended:?}");
}

#[tokio::test]
async fn a_head_that_does_not_come_is_asked_for_elsewhere() {
    let rig = Rig::both(QUICK, LIMITED, "").await;
    rig.main_answers([silent()]);
    rig.spare_answers();
    assert_eq!(rig.chat().await.text(), [ROLE, SPARE, DONE].concat());
    assert_cancelled(&rig.main).await;
    assert_line(&rig.line().await, 200, 2, &[(&rig.main, LATE)]);
    rig.finish(1).await;
}

/// The first one goes on while the second is asked, and the answer that comes first is used.
#[tokio::test]
async fn a_late_answer_is_used_while_the_next_one_is_silent() {
    for route in ["", "commit = \"headers\"", "delivery = \"whole\"", "attempt_headers = true"] {
        let rig = Rig::both(&format!("{QUICK}\n{LIMITED}"), "", route).await;
        let gate = Gate::new();
        rig.main_answers([gated(&gate, &[ROLE, HELLO, DONE])]);
        rig.spare.queue(silent());
        let course = async {
            asked(&rig.spare, 1).await;
            gate.open();
        };
        let answer = chat_during(&rig, course).await;
        assert!(answer.whole && answer.text() == [ROLE, HELLO, DONE].concat(), "{route}: {answer:?}");
        if route.starts_with("attempt") {
            assert_eq!(answer.headers["x-sluicegate-attempts"], "2");
            assert_eq!(answer.headers["x-sluicegate-upstream"], "main");
        }
        assert_cancelled(&rig.spare).await;
        let line = rig.line().await;
        assert_line(&line, 200, 2, &[(&rig.spare, OVERTAKEN)]);
        assert_eq!((&line["upstream"], &line["attempts"][1]["result"]), (&"main".into(), &"2xx".into()));
        assert_eq!(rig.seen(), (1, 1));
        let counts = Scrape::of(rig.gateway.admin.unwrap(), "").await;
        for (upstream, result) in [("main", LATE), ("spare", OVERTAKEN)] {
            let labels = [format!("upstream=\"{upstream}\""), format!("result=\"{result}\"")];
            let count = |labels: &[&str]| counts.sum("sluicegate_upstream_attempts_total", labels);
            assert_eq!((count(&[&labels[0]]), count(&[&labels[0], &labels[1]])), (1.0, 1.0), "{upstream}");
        }
        rig.finish(1).await;
    }
}

#[tokio::test]
async fn the_next_one_is_used_if_it_comes_first() {
    let rig = Rig::both(QUICK, LIMITED, "").await;
    let (first, second) = (Gate::new(), Gate::new());
    rig.main_answers([gated(&first, &[ROLE, HELLO, DONE])]);
    rig.spare.queue(gated(&second, &[ROLE, SPARE, DONE]));
    let course = async {
        asked(&rig.spare, 1).await;
        second.open();
    };
    assert_eq!(chat_during(&rig, course).await.text(), [ROLE, SPARE, DONE].concat());
    assert_cancelled(&rig.main).await;
    let line = rig.line().await;
    assert_line(&line, 200, 2, &[(&rig.main, LATE)]);
    assert_eq!(line["upstream"], "spare");
    rig.finish(1).await;
}

#[tokio::test]
async fn a_late_failure_changes_nothing() {
    for failure in [refusing(503, "overloaded", &[]), vec![Step::Cut(Cut::Reset)]] {
        let rig = Rig::both(QUICK, LIMITED, "").await;
        let (first, second) = (Gate::new(), Gate::new());
        rig.main_answers([after_gate(&first, failure)]);
        rig.spare.queue(gated(&second, &[ROLE, SPARE, DONE]));
        let course = async {
            asked(&rig.spare, 1).await;
            first.open();
            rig.until_main_is_idle().await;
            second.open();
        };
        assert_eq!(chat_during(&rig, course).await.text(), [ROLE, SPARE, DONE].concat());
        assert_line(&rig.line().await, 200, 2, &[(&rig.main, LATE)]);
        assert_eq!(rig.seen(), (1, 1));
        rig.finish(1).await;
    }
}

/// What a late error says about its key is noted at once, whether the running attempt waits for its head or its start is held.
#[tokio::test]
async fn a_late_error_starts_the_cooldown_of_its_key() {
    for begun in [&[][..], &[ROLE]] {
        let rig = Rig::both(QUICK, LIMITED, "").await;
        let (first, second) = (Gate::new(), Gate::new());
        rig.main_answers([after_gate(&first, refusing(401, "invalid_api_key", &[]))]);
        let mut steps = if begun.is_empty() { Vec::new() } else { streamed(begun) };
        steps.push(Step::Gate(second.clone()));
        match begun.is_empty() {
            true => steps.extend(streamed(&[ROLE, SPARE, DONE])),
            false => steps.extend([SPARE, DONE].map(|piece| Step::Send(piece.into()))),
        }
        rig.spare.queue(Script::new(steps));
        let course = async {
            asked(&rig.spare, 1).await;
            first.open();
            while keys_in_cooldown(&rig, "main") == 0 {
                tokio::task::yield_now().await;
            }
            second.open();
        };
        assert_eq!(chat_during(&rig, course).await.text(), [ROLE, SPARE, DONE].concat(), "{begun:?}");
        assert_line(&rig.line().await, 200, 2, &[(&rig.main, LATE)]);
        assert_eq!(rig.seen(), (1, 1));
        rig.finish(1).await;
    }
}

/// The late head is taken while the start of the next stream is held, and the late stream is used when that one fails.
#[tokio::test]
async fn a_late_answer_is_used_if_the_held_one_fails() {
    let rig = Rig::both(r#"retry = { retries = 1, backoff = "40ms" }"#, LIMITED, "").await;
    let (first, second) = (Gate::new(), Gate::new());
    rig.main_answers([gated(&first, &[ROLE, HELLO, DONE])]);
    let mut steps = streamed(&[ROLE]);
    steps.extend([Step::Gate(second.clone()), Step::Cut(Cut::Reset)]);
    rig.spare.queue(Script::new(steps));
    let course = async {
        asked(&rig.spare, 1).await;
        first.open();
        rig.main.record(1).await;
        second.open();
    };
    assert_eq!(chat_during(&rig, course).await.text(), [ROLE, HELLO, DONE].concat());
    assert_line(&rig.line().await, 200, 2, &[(&rig.spare, "upstream_truncated")]);
    assert_eq!(rig.seen(), (1, 1));
    rig.finish(1).await;
}

/// The one that failed would be asked again after the wait.
#[tokio::test]
async fn a_late_answer_ends_the_wait_before_the_next_attempt() {
    const SLOWLY: &str =
        "retry = { retries = 3, backoff = \"7s\", max_backoff = \"10s\", max_wait = \"20s\" }";
    let rig = Rig::both(SLOWLY, LIMITED, "").await;
    let gate = Gate::new();
    rig.main_answers([gated(&gate, &[ROLE, HELLO, DONE])]);
    rig.spare.queue(refusal(503, "overloaded", &[]));
    let course = async {
        rig.spare.record(1).await;
        gate.open();
    };
    assert_eq!(chat_during(&rig, course).await.text(), [ROLE, HELLO, DONE].concat());
    assert_line(&rig.line().await, 200, 2, &[(&rig.spare, "5xx")]);
    assert_eq!(rig.seen(), (1, 1));
    rig.finish(1).await;
}

#[tokio::test]
async fn a_late_answer_is_waited_for_when_nothing_else_is_left() {
    const ONCE: &str = "retry = { retries = 1, backoff = \"40ms\" }";
    let [answer, error] = [streamed(&[ROLE, HELLO, DONE]), refusing(503, "too_late", &[])];
    for (late, status, result) in [(answer, 200, "2xx"), (error, 503, "5xx")] {
        let rig = Rig::both(ONCE, LIMITED, "").await;
        let gate = Gate::new();
        rig.main_answers([after_gate(&gate, late)]);
        rig.spare.queue(refusal(500, "broken", &[]));
        let course = async {
            rig.spare.record(1).await;
            gate.open();
        };
        let answer = chat_during(&rig, course).await;
        assert_eq!(answer.status, status);
        assert!(status == 200 || answer.text().contains("too_late"), "{answer:?}");
        let line = rig.line().await;
        assert_eq!((line["status"].as_u64(), &line["upstream"]), (Some(status.into()), &"main".into()));
        assert_eq!(line["attempts"][0]["result"], "5xx", "{line:#}");
        assert_eq!(line["attempts"][1]["result"], result, "{line:#}");
        assert_eq!((log::attempts(&line), rig.seen()), (2, (1, 1)));
        rig.finish(1).await;
    }
}

/// Of two that are late the older goes on.
#[tokio::test]
async fn one_late_attempt_goes_on() {
    const ROUTE: &str = "upstreams = [\"main\", \"spare\", { upstream = \"spare\", model = \"other\" }]";
    let rig = Rig::new(&format!("{QUICK}\n{LIMITED}"), "", ROUTE).await;
    let gate = Gate::new();
    rig.main_answers([gated(&gate, &[ROLE, HELLO, DONE])]);
    (0..2).for_each(|_| rig.spare.queue(silent()));
    let course = async {
        asked(&rig.spare, 2).await;
        assert_cancelled(&rig.spare).await;
        gate.open();
    };
    assert_eq!(chat_during(&rig, course).await.text(), [ROLE, HELLO, DONE].concat());
    assert_line(&rig.line().await, 200, 3, &[(&rig.spare, LATE), (&rig.spare, OVERTAKEN)]);
    assert_eq!(rig.seen(), (1, 2));
    rig.finish(1).await;
}

/// What creates something is never sent twice, so its head may be late.
#[tokio::test]
async fn a_request_that_creates_something_is_not_late() {
    const BACKGROUND: &str = r#"{"model":"m","input":"hi","stream":true,"background":true}"#;
    const CREATED: &str = "data: {\"type\":\"response.created\",\"response\":{\"id\":\"resp_1\"}}\n\n";
    const COMPLETED: &str = "data: {\"type\":\"response.completed\",\"response\":{\"id\":\"resp_1\"}}\n\n";
    let rig = Rig::both(QUICK, LIMITED, "").await;
    rig.main_answers([slow(&[CREATED, COMPLETED])]);
    let answer = rig.post("/v1/responses", BACKGROUND, &[]).await;
    assert_eq!(answer.text(), [CREATED, COMPLETED].concat());
    assert_line(&rig.line().await, 200, 1, &[]);
    assert_eq!(rig.seen(), (1, 0));
    rig.finish(1).await;
}

#[tokio::test]
async fn the_only_one_may_be_slow() {
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
    let (client, mut pending) = rig.begin().await;
    rig.until_it_holds(CHAT.len() + ROLE.len(), &mut pending).await;
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
    let (client, pending) = rig.begin().await;
    let mut response = safely(pending).await.unwrap();
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
