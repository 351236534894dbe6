//! Where requests go when all is well: hashes, bounds on connections; and time limits of a caller's own.

use std::collections::HashSet;

use sluicegate::simulator::{Gate, Record, Script, Simulator, Step};

use super::rig::{DONE, HELLO, QUICK, ROLE, Rig, stream, stream_then, streamed};
use crate::harness::{
    BOTH, CHAT, Client, Gateway, GatewayToml, Http, chat, post, safely, send, simulator, whole,
};

/// An upstream of three targets.
async fn three(balance: &str) -> (Vec<Simulator>, Gateway) {
    let targets = [simulator().await, simulator().await, simulator().await];
    let urls: Vec<String> = targets.iter().map(|target| format!("{{ url = {:?} }}", target.url())).collect();
    let urls = urls.join(", ");
    let three = format!("targets = [{urls}]\nkey = {{ env = \"UPSTREAM_KEY\" }}\nbalance = {balance}");
    let gateway = Gateway::start(&GatewayToml::new().listener("h2c = true").upstream_of("three", three));
    (targets.into(), gateway)
}

/// Which of the targets a request with this header and body goes to.
async fn goes_to(targets: &[Simulator], gateway: &Gateway, session: &str, body: String) -> usize {
    targets.iter().for_each(Simulator::reset);
    let request = post(gateway.address(), Http::One, "/v1/chat/completions").header("x-session", session);
    let answer = send(gateway.address(), Http::One, request.body(whole(body)).unwrap()).await;
    assert_eq!(answer.status, 200);
    targets.iter().position(|target| !target.records().is_empty()).unwrap()
}

/// Enough of them that each of three targets has some.
fn names() -> impl Iterator<Item = String> {
    (0..40).map(|number| format!("name {number}"))
}

fn conversation(system: &str, turns: usize) -> String {
    let more = r#",{"role":"assistant","content":"a"},{"role":"user","content":"b"}"#.repeat(turns);
    let system = format!(r#"{{"role":"system","content":"{system}"}}"#);
    format!(r#"{{"messages":[{system},{{"role":"user","content":"u"}}{more}],"model":"m","stream":true}}"#)
}

#[tokio::test]
async fn a_headers_value_leads_to_the_same_target() {
    let (targets, gateway) = three(r#"{ hash = { header = "x-session" } }"#).await;
    let mut places = HashSet::new();
    for session in names() {
        let first = goes_to(&targets, &gateway, &session, conversation("s", 0)).await;
        assert_eq!(goes_to(&targets, &gateway, &session, conversation("t", 3)).await, first);
        places.insert(first);
    }
    assert_eq!(places.len(), 3, "forty sessions are spread");
    gateway.finish(80).await;
}

#[tokio::test]
async fn a_conversation_stays_where_it_began() {
    let (targets, gateway) = three(r#"{ hash = "prompt" }"#).await;
    let mut places = HashSet::new();
    for system in names() {
        let first = goes_to(&targets, &gateway, "x", conversation(&system, 0)).await;
        for turns in [1, 5] {
            assert_eq!(goes_to(&targets, &gateway, "y", conversation(&system, turns)).await, first);
        }
        places.insert(first);
    }
    assert_eq!(places.len(), 3, "forty prompts are spread");
    gateway.finish(120).await;
}

#[tokio::test]
async fn who_cannot_be_asked_is_passed_over_and_all_others_stay() {
    let (mut targets, gateway) = three(r#"{ hash = { header = "x-session" } }"#).await;
    let mut before = Vec::new();
    for session in names() {
        before.push(goes_to(&targets, &gateway, &session, conversation("s", 0)).await);
    }
    // Its connections too are gone.
    let gone = before[0];
    drop(targets.remove(gone));
    for (session, before) in names().zip(&before) {
        let after = goes_to(&targets, &gateway, &session, conversation("s", 0)).await;
        let after = if after >= gone { after + 1 } else { after };
        assert!(*before == gone || after == *before, "{session}: {before} {after}");
    }
    gateway.finish(80).await;
}

/// One connection is all that there may be, to both workers: the others wait for it, in the order in which they came.
#[tokio::test]
async fn connections_are_bounded_and_waited_for() {
    let rig = Rig::alone(QUICK, "max_connections = 1", "").await;
    let gate = Gate::new();
    let mut steps = vec![Step::Gate(gate.clone())];
    steps.extend(streamed(&[ROLE, HELLO, DONE]));
    rig.main_answers([Script::new(steps)]);
    (0..8).for_each(|_| rig.main_answers([stream(&[ROLE, HELLO, DONE])]));
    let address = rig.gateway.address();
    let asking: Vec<_> = (0..9).map(|number| tokio::spawn(chat(address, BOTH[number % 2]))).collect();
    safely(rig.main.wait_for(|records| (!records.is_empty()).then_some(()))).await;
    gate.open();
    for answer in asking {
        let answer = answer.await.unwrap();
        assert!(answer.status == 200 && answer.whole, "{answer:?}");
    }
    let mut records = rig.main.records();
    records.sort_by_key(|record| record.started);
    let apart = |pair: &[Record]| pair[0].ended.is_some_and(|(ended, _)| ended <= pair[1].started);
    assert!(records.windows(2).all(apart), "{records:#?}");
    rig.finish(9).await;
}

#[tokio::test]
async fn a_caller_may_lower_its_limits() {
    let rig = Rig::alone("retry = \"off\"", "", "").await;
    for (limit, code) in [
        ("total=150ms", "total_timeout"),
        ("150ms", "total_timeout"),
        ("first_byte = 150ms", "upstream_timeout"),
    ] {
        rig.main_answers([Script::new(vec![Step::Stall])]);
        let answer = rig.post("/v1/chat/completions", CHAT, &[("x-sluicegate-timeout", limit)]).await;
        assert_eq!((answer.status.as_u16(), answer.code().as_str()), (504, code), "{limit}");
    }
    let answer = rig.post("/v1/chat/completions", CHAT, &[("x-sluicegate-timeout", "soon")]).await;
    assert_eq!((answer.status.as_u16(), answer.code().as_str()), (400, "invalid_request"));
    assert!(answer.text().contains("x-sluicegate-timeout"), "{}", answer.text());
    assert!(rig.main.records().iter().all(|record| !record.headers.contains_key("x-sluicegate-timeout")));
    assert_eq!(rig.seen().0, 3);
    rig.finish(4).await;
}

/// Also in the midst of an answer; and it says nothing about the target.
#[tokio::test]
async fn a_caller_may_bear_less_silence_in_a_stream() {
    let rig = Rig::alone("retry = \"off\"\nbreaker = { failures = 1 }", "", "").await;
    rig.main_answers([stream_then(&[ROLE, HELLO], Step::Stall), stream(&[ROLE, HELLO, DONE])]);
    let answer = rig.post("/v1/chat/completions", CHAT, &[("x-sluicegate-timeout", "idle=100ms")]).await;
    assert!(answer.text().starts_with(&[ROLE, HELLO].concat()), "{answer:?}");
    assert!(answer.whole && answer.text().contains("\"upstream_idle\""), "{answer:?}");
    assert_eq!(rig.line().await["error"], "upstream_idle");
    assert_eq!(rig.chat().await.text(), [ROLE, HELLO, DONE].concat());
    rig.finish(2).await;
}

/// A target that is silent until the whole exchange's time is over has failed, though nobody waited for it any longer.
#[tokio::test]
async fn silence_until_the_total_opens_the_circuit() {
    let rig =
        Rig::alone("breaker = { failures = 2 }\nretry = \"off\"", "", "timeout = { total = \"100ms\" }")
            .await;
    rig.main_answers((0..2).map(|_| Script::new(vec![Step::Stall])));
    for _ in 0..2 {
        assert_eq!(rig.chat().await.code(), "total_timeout");
    }
    assert_eq!(rig.chat().await.code(), "upstream_unavailable");
    assert_eq!(rig.seen().0, 2);
    rig.finish(3).await;
}

/// Callers who leave a target that is busy say nothing about it.
#[tokio::test]
async fn callers_who_leave_open_no_circuit() {
    let rig = Rig::alone("breaker = { failures = 1 }", "", "").await;
    for number in 1..=3 {
        rig.main_answers([Script::new(vec![Step::Stall])]);
        let mut client = Client::connect(rig.gateway.address(), Http::One).await;
        let request = post(rig.gateway.address(), Http::One, "/v1/chat/completions").body(whole(CHAT));
        let pending = client.begin(request.unwrap()).await;
        safely(rig.main.wait_for(move |records| (records.len() == number).then_some(()))).await;
        drop(pending);
        client.leave().await;
        rig.gateway.log.line(number).await;
    }
    rig.main_answers([stream(&[ROLE, HELLO, DONE])]);
    assert_eq!(rig.chat().await.status, 200);
    rig.finish(4).await;
}

/// Limits that a caller has set itself say nothing about the target: other callers go on being served.
#[tokio::test]
async fn a_callers_own_limits_open_no_circuit() {
    let rig = Rig::alone("breaker = { failures = 1 }\nretry = \"off\"", "", "").await;
    for limit in ["total=50ms", "first_byte=50ms"] {
        rig.main_answers([Script::new(vec![Step::Stall])]);
        let answer = rig.post("/v1/chat/completions", CHAT, &[("x-sluicegate-timeout", limit)]).await;
        assert_eq!(answer.status, 504);
    }
    rig.main_answers([stream(&[ROLE, HELLO, DONE])]);
    assert_eq!(rig.chat().await.status, 200);
    rig.finish(3).await;
}

/// A connection that nobody uses on one worker makes room for another worker's.
#[tokio::test]
async fn an_idle_connection_gives_its_place_to_who_waits() {
    let rig = Rig::alone("retry = \"off\"", "max_connections = 1", "").await;
    rig.main_answers([stream(&[ROLE, HELLO, DONE]), stream(&[ROLE, HELLO, DONE])]);
    let address = rig.gateway.address();
    let mut clients = Vec::new();
    for _ in 0..2 {
        // Each goes to the worker with fewer connections.
        let mut client = Client::connect(address, Http::One).await;
        let request = post(address, Http::One, "/v1/chat/completions").body(whole(CHAT)).unwrap();
        let answer = safely(client.ask(request)).await;
        assert_eq!(answer.status, 200, "{answer:?}");
        clients.push(client);
    }
    let connections: Vec<u64> = rig.main.records().iter().map(|record| record.connection).collect();
    assert_eq!(connections, [1, 2]);
    for client in clients {
        client.leave().await;
    }
    rig.finish(2).await;
}
