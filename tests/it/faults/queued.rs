//! `max_pending` and `max_connections`: those who wait are served in the order in which they came, as soon as there is room.

use sluicegate::simulator::{Gate, Record};

use super::rig::{DONE, HELLO, QUICK, ROLE, Rig, SPARE, gated, has_seen, stream, until};
use crate::harness::safely;

/// Whoever polled would poll after a minute.
const PATIENT: &str = r#"retry = { retries = 3, backoff = "60s", max_backoff = "60s", max_wait = "60s" }"#;

/// Chat requests that the upstream can tell apart by their models.
const ASKED: [&str; 5] = [
    r#"{"model":"m-0","stream":true,"messages":[]}"#,
    r#"{"model":"m-1","stream":true,"messages":[]}"#,
    r#"{"model":"m-2","stream":true,"messages":[]}"#,
    r#"{"model":"m-3","stream":true,"messages":[]}"#,
    r#"{"model":"m-4","stream":true,"messages":[]}"#,
];

fn models(records: &[Record]) -> Vec<String> {
    let model = |record: &Record| {
        let body: serde_json::Value = serde_json::from_slice(&record.body).unwrap();
        body["model"].as_str().unwrap().to_owned()
    };
    records.iter().map(model).collect()
}

#[tokio::test]
async fn those_who_wait_for_max_pending_are_served_in_order_and_at_once() {
    let rig = Rig::alone(PATIENT, "max_pending = 1", "").await;
    let gates: Vec<Gate> = ASKED.iter().map(|_| Gate::new()).collect();
    rig.main_answers(gates.iter().map(gated));
    let target = rig.target("main");
    let mut answers = Vec::new();
    for (number, body) in ASKED.into_iter().enumerate() {
        answers.push(rig.ask(body));
        match number {
            0 => has_seen(&rig.main, 1).await,
            _ => until(|| target.waiting() == number).await,
        }
    }
    for (number, gate) in gates.iter().enumerate() {
        has_seen(&rig.main, number + 1).await;
        assert_eq!((target.pending(), target.waiting()), (1, ASKED.len() - 1 - number));
        gate.open();
    }
    for answer in answers {
        let answer = answer.await.unwrap();
        assert!(answer.status == 200 && answer.whole, "{answer:?}");
    }
    assert_eq!(models(&rig.main.records()), ["m-0", "m-1", "m-2", "m-3", "m-4"]);
    rig.finish(ASKED.len()).await;
}

/// It waits in the queues of both, and takes what comes first.
#[tokio::test]
async fn a_request_takes_the_first_candidate_that_has_room() {
    let other = "[upstream.other]\nurl = \"$SPARE\"\nmax_pending = 1\nkey = { env = \"UPSTREAM_KEY\" }";
    let route = format!("upstreams = [\"main\", \"other\"]\n{other}");
    let rig = Rig::new(PATIENT, "max_pending = 1", &route).await;
    let (main, spare) = (Gate::new(), Gate::new());
    rig.main_answers([gated(&main)]);
    rig.spare.queue(gated(&spare));
    let first = rig.ask(ASKED[0]);
    has_seen(&rig.main, 1).await;
    let second = rig.ask(ASKED[1]);
    safely(rig.spare.wait_for(|records| (!records.is_empty()).then_some(()))).await;
    let third = rig.ask(ASKED[2]);
    let (at_main, at_spare) = (rig.target("main"), rig.target("other"));
    until(|| (at_main.waiting(), at_spare.waiting()) == (1, 1)).await;
    rig.spare_answers();
    spare.open();
    let answer = third.await.unwrap();
    assert!(answer.status == 200 && answer.text().contains(SPARE), "{answer:?}");
    assert_eq!((at_main.waiting(), at_spare.waiting()), (0, 0), "it has left the other queue");
    main.open();
    for answer in [first, second] {
        assert_eq!(answer.await.unwrap().status, 200);
    }
    rig.finish(3).await;
}

#[tokio::test]
async fn a_client_that_leaves_makes_room_in_the_queue() {
    let rig = Rig::alone(PATIENT, "max_pending = 1", "").await;
    let gate = Gate::new();
    rig.main_answers([gated(&gate), stream(&[ROLE, HELLO, DONE])]);
    let target = rig.target("main");
    let first = rig.ask(ASKED[0]);
    has_seen(&rig.main, 1).await;
    let leaving = rig.ask(ASKED[1]);
    until(|| target.waiting() == 1).await;
    let staying = rig.ask(ASKED[2]);
    until(|| target.waiting() == 2).await;
    leaving.abort();
    until(|| target.waiting() == 1).await;
    gate.open();
    for answer in [first, staying] {
        assert_eq!(answer.await.unwrap().status, 200);
    }
    assert_eq!(models(&rig.main.records()), ["m-0", "m-2"]);
    rig.finish(3).await;
}

#[tokio::test]
async fn a_wait_for_room_ends_with_an_error_that_says_so() {
    let rig = Rig::alone(QUICK, "max_pending = 1", "").await;
    let gate = Gate::new();
    rig.main_answers([gated(&gate)]);
    let first = rig.ask(ASKED[0]);
    has_seen(&rig.main, 1).await;
    let answer = rig.ask(ASKED[1]).await.unwrap();
    assert_eq!((answer.status.as_u16(), answer.code().as_str()), (503, "upstream_unavailable"));
    assert!(answer.text().contains("at their concurrency limit"), "{}", answer.text());
    assert_eq!((rig.seen().0, rig.target("main").waiting()), (1, 0));
    gate.open();
    assert_eq!(first.await.unwrap().status, 200);
    rig.finish(2).await;
}

/// One worker: a connection that becomes free goes to the first who waits for one, and none is closed or made for that.
#[tokio::test]
async fn a_free_connection_goes_to_the_first_waiter() {
    let rig =
        Rig::one_worker("retry = \"off\"", "max_connections = 1\ntimeout = { connect = \"60s\" }").await;
    let gates: Vec<Gate> = ASKED.iter().map(|_| Gate::new()).collect();
    rig.main_answers(gates.iter().map(gated));
    let connections = {
        let live = rig.gateway.inside().live.load();
        live.upstreams["main"].target(0).dialer.connection_limit().clone()
    };
    let mut answers = Vec::new();
    for (number, body) in ASKED.into_iter().enumerate() {
        answers.push(rig.ask(body));
        match number {
            0 => has_seen(&rig.main, 1).await,
            _ => until(|| connections.waiting() == number).await,
        }
    }
    for (number, gate) in gates.iter().enumerate() {
        has_seen(&rig.main, number + 1).await;
        gate.open();
    }
    for answer in answers {
        let answer = answer.await.unwrap();
        assert!(answer.status == 200 && answer.whole, "{answer:?}");
    }
    assert_eq!(models(&rig.main.records()), ["m-0", "m-1", "m-2", "m-3", "m-4"]);
    assert_eq!(rig.main.connections().opened, 1);
    rig.finish(ASKED.len()).await;
}
