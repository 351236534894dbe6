//! An outage, and what is remembered of it.

use std::time::{Duration, Instant};

use serde_json::Value;
use sluicegate::simulator::{Gate, Script, Step};

use super::rig::{DONE, HELLO, QUICK, ROLE, Rig, SPARE, gaps, refusal, stream, streamed};
use crate::{
    harness::{Answer, BOTH, CHAT, Client, Http, post, request, safely, send, take, whole},
    metrics::scrape::Scrape,
};

async fn status(rig: &Rig) -> Value {
    let admin = rig.gateway.admin.unwrap();
    let asked = request(admin, Http::One, "GET", "/status").body(whole("")).unwrap();
    send(admin, Http::One, asked).await.json()
}

async fn circuit(rig: &Rig) -> String {
    let status = status(rig).await;
    let upstreams = status["upstreams"].as_array().unwrap();
    let main = upstreams.iter().find(|upstream| upstream["name"] == "main").unwrap();
    main["targets"][0]["circuit"].as_str().unwrap().to_owned()
}

/// Two requests, so that the failures of one caller are more than one request that can never succeed.
const CHATS: [&str; 2] =
    [CHAT, r#"{"model":"m","stream":true,"messages":[{"role":"user","content":"Something else"}]}"#];

/// What was seen of an outage.
struct Outage {
    /// Requests that the dead target was asked.
    attempts: usize,
    /// Between the last one that opened its circuit and the probes after it, in milliseconds.
    gaps: Vec<u128>,
    /// Callers who were answered meanwhile.
    served: usize,
}

/// A target fails until its circuit has opened and `probes` have failed as well, one after each span of `open`; then it is well again.
/// Callers ask all the while.
async fn outage(open: Duration, probes: usize) -> Outage {
    const FAILURES: usize = 3;
    let breaker =
        format!("{QUICK}\nbreaker = {{ failures = {FAILURES}, open = \"{}ms\" }}", open.as_millis());
    let rig = Rig::both(&breaker, "", "").await;
    let mut served = 0;
    let mut ask = async || {
        rig.spare_answers();
        let answer = rig.post_by(BOTH[served % 2], "/v1/chat/completions", CHATS[served % 2], &[]).await;
        served += 1;
        assert!(answer.status == 200 && answer.whole, "{answer:?}");
        answer.text().contains(SPARE)
    };
    rig.main_answers((0..FAILURES + probes).map(|_| refusal(500, "", &[])));
    rig.main_answers([stream(&[ROLE, HELLO, DONE])]);
    for _ in 0..FAILURES {
        assert!(ask().await);
    }
    let counts = Scrape::of(rig.gateway.admin.unwrap(), "").await;
    assert_eq!(counts.sum("sluicegate_target_circuit_open", &["upstream=\"main\""]), 1.0);
    loop {
        let (circuit, asked) = (circuit(&rig).await, rig.seen().0);
        let helped = ask().await;
        if circuit == "half-open" {
            assert_eq!(rig.seen().0, asked + 1, "the first to come probes");
        }
        if !helped {
            break;
        }
        // They come one after the other, not all at once.
        tokio::time::sleep(open / 100).await;
    }
    assert_eq!(circuit(&rig).await, "closed");
    let records = rig.main.records();
    let (attempts, gaps) = (FAILURES + probes, gaps(&records[FAILURES - 1..]));
    assert_eq!(records.len(), attempts + 1, "and none but probes while it was open");
    assert!(gaps.iter().all(|gap| *gap >= open.as_millis()), "{gaps:?}");
    let counts = Scrape::of(rig.gateway.admin.unwrap(), "").await;
    assert_eq!(counts.sum("sluicegate_target_circuit_opened_total", &["upstream=\"main\""]), 1.0);
    let failed = ["upstream=\"main\"", "result=\"5xx\""];
    assert_eq!(counts.sum("sluicegate_upstream_attempts_total", &failed), attempts as f64);
    rig.finish(served).await;
    Outage { attempts, gaps, served }
}

#[tokio::test]
async fn an_outage_opens_the_circuit_one_probe_closes_it_and_callers_are_served_throughout() {
    outage(Duration::from_millis(700), 1).await;
}

/// Its full length, with the circuit's usual span.
#[tokio::test]
#[ignore = "takes a minute: run with --ignored --nocapture"]
async fn sixty_seconds_of_outage_and_back() {
    let began = Instant::now();
    let outage = outage(Duration::from_secs(10), 6).await;
    assert!(began.elapsed() >= Duration::from_secs(60));
    let Outage { attempts, gaps, served } = outage;
    eprintln!(
        "{attempts} attempts at the dead target, {gaps:?} ms between its probes, {served} callers served"
    );
}

#[tokio::test]
async fn with_nowhere_to_go_an_open_circuit_answers_at_once() {
    let breaker = "retry = \"off\"\nbreaker = { failures = 2, open = \"1h\" }";
    let rig = Rig::alone(breaker, "", "").await;
    rig.main_answers((0..2).map(|_| refusal(503, "", &[])));
    for chat in CHATS {
        assert_eq!(rig.post("/v1/chat/completions", chat, &[]).await.status, 503);
    }
    let answer = rig.chat().await;
    assert_eq!((answer.status.as_u16(), answer.code().as_str()), (503, "upstream_unavailable"));
    assert_eq!(answer.headers["retry-after"], "59");
    assert_eq!(rig.seen().0, 2);
    rig.finish(3).await;
}

#[tokio::test]
async fn what_callers_cause_opens_nothing() {
    let rig = Rig::alone("breaker = { failures = 2 }", "", "").await;
    rig.main_answers((0..5).map(|number| refusal([400, 404, 422, 413, 400][number], "", &[])));
    for _ in 0..5 {
        assert!(rig.chat().await.status.is_client_error());
    }
    assert_eq!((rig.seen().0, circuit(&rig).await.as_str()), (5, "closed"));
    rig.finish(5).await;
}

#[tokio::test]
async fn what_is_full_is_passed_by() {
    let rig = Rig::both(QUICK, "max_pending = 1", "").await;
    let gate = Gate::new();
    let held = [Step::Gate(gate.clone()), Step::Send(DONE.into())];
    let steps = streamed(&[ROLE, HELLO]).into_iter().chain(held);
    rig.main_answers([Script::new(steps.collect())]);
    let address = rig.gateway.address();
    let mut client = Client::connect(address, Http::One).await;
    let asked = post(address, Http::One, "/v1/chat/completions").body(whole(CHAT)).unwrap();
    let mut first = safely(client.send(asked)).await.unwrap();
    take(first.body_mut(), ROLE.len() + HELLO.len()).await;
    rig.spare_answers();
    assert!(rig.chat().await.text().contains(SPARE));
    gate.open();
    assert_eq!(safely(Answer::read(first)).await.text(), DONE);
    rig.gateway.log.line(2).await;
    rig.main_answers([stream(&[ROLE, HELLO, DONE])]);
    assert!(rig.chat().await.text().contains(HELLO), "it has room again");
    drop(client);
    rig.finish(3).await;
}
