//! The upstream connections: used again, found dead, given up when idle, and as many as the streams need.

use http::StatusCode;
use sluicegate::simulator::{Cut, Ended, Gate, Head, Options, Script, Step};

use crate::harness::{
    Answer, BOTH, CHAT, CUTS, Client, Gateway, Http, Keys, chat, post, safely, simulator, simulator_with,
    whole,
};

const JSON: &str = r#"{"ok":true}"#;

/// An upstream closes its idle connections whenever it likes, and so just when one is used again: no caller hears of it, and no
/// request is answered twice.
#[tokio::test]
async fn a_connection_that_dies_when_it_is_used_again() {
    const TIMES: usize = 200;
    let upstream = simulator().await;
    for up in BOTH {
        for cut in CUTS {
            upstream.reset();
            let gateway = Gateway::with(&upstream, up, Keys { one_worker: true, ..Keys::default() });
            let mut client = Client::connect(gateway.address(), Http::One).await;
            for time in 0..TIMES {
                upstream.queue(Script::new(vec![
                    Step::Head(Head::json(StatusCode::OK, JSON.len())),
                    Step::Send(JSON.into()),
                    Step::Cut(cut),
                ]));
                let request = post(gateway.address(), Http::One, "/v1/chat/completions");
                let answer = client.ask(request.body(whole(CHAT)).unwrap()).await;
                assert_eq!((answer.status, answer.text()), (StatusCode::OK, JSON), "{up:?} {cut:?} {time}");
            }
            let lines = gateway.log.wait_for(|lines| (lines.len() == TIMES).then(|| lines.to_vec())).await;
            assert!(lines.iter().all(|line| line["phase"] == "done"), "{lines:#?}");
            // One answer each; a request that found its connection dead is no second one.
            let answered = upstream.records().iter().filter(|record| record.sent > 0).count();
            assert_eq!(answered, TIMES);
            gateway.finish(TIMES).await;
        }
    }
}

/// One that dies with the request already in it, before any byte of an answer.
#[tokio::test]
async fn a_kept_connection_that_closes_instead_of_answering() {
    let upstream = simulator().await;
    for cut in [Cut::Close, Cut::Reset] {
        upstream.reset();
        let gateway = Gateway::with(&upstream, Http::One, Keys { one_worker: true, ..Keys::default() });
        let mut client = Client::connect(gateway.address(), Http::One).await;
        let request =
            || post(gateway.address(), Http::One, "/v1/chat/completions").body(whole(CHAT)).unwrap();
        assert_eq!(client.ask(request()).await.status, 200);
        for time in 1..=100 {
            upstream.queue(Script::new(vec![Step::Cut(cut)]));
            assert_eq!(client.ask(request()).await.status, 200);
            let records = upstream.records();
            assert_eq!(records.len(), 1 + 2 * time);
            let [kept, dead, fresh] = &records[2 * time - 2..] else { panic!("{records:?}") };
            assert_eq!((dead.connection, dead.ended.unwrap().1), (kept.connection, Ended::CutByScript(cut)));
            assert_ne!(fresh.connection, kept.connection);
            assert_eq!(fresh.body_sha256, kept.body_sha256, "the same request");
        }
        // A new connection that does the same is an upstream that fails: it is not asked again.
        upstream.queue(Script::new(vec![Step::Cut(cut)]));
        upstream.queue(Script::new(vec![Step::Cut(cut)]));
        let answer = client.ask(request()).await;
        assert_eq!((answer.status, answer.code().as_str()), (StatusCode::BAD_GATEWAY, "upstream_closed"));
        assert_eq!(upstream.records().len(), 203);
        gateway.finish(102).await;
    }
}

#[tokio::test]
async fn idle_connections_are_given_up() {
    for up in BOTH {
        let upstream = simulator().await;
        let settings = r#"pool = { idle = "100ms" }"#;
        let gateway = Gateway::with(&upstream, up, Keys { upstream: settings, ..Keys::default() });
        assert_eq!(chat(gateway.address(), Http::One).await.status, 200);
        let now = safely(upstream.wait_for_connections(|now| now.open == 0)).await;
        assert_eq!(now.opened, 1);
        gateway.finish(1).await;
    }
}

#[tokio::test]
async fn more_streams_than_a_connection_takes_open_another() {
    let upstream = simulator_with(Options { max_streams: 2, ..Options::default() }).await;
    let gateway = Gateway::with(&upstream, Http::Two, Keys { one_worker: true, ..Keys::default() });
    // The first tells the gateway how many streams there may be.
    assert_eq!(chat(gateway.address(), Http::One).await.status, 200);
    let gate = Gate::new();
    let mut clients = Vec::new();
    for open in 1..=5 {
        upstream.queue(Script::new(vec![
            Step::Head(Head::json(StatusCode::OK, JSON.len())),
            Step::Gate(gate.clone()),
            Step::Send(JSON.into()),
        ]));
        let mut client = Client::connect(gateway.address(), Http::One).await;
        let request = post(gateway.address(), Http::One, "/v1/chat/completions").body(whole(CHAT)).unwrap();
        let response = safely(client.send(request)).await.unwrap();
        clients.push((client, response));
        assert_eq!(upstream.connections().opened, u64::div_ceil(open, 2));
    }
    for (_client, response) in clients {
        gate.open();
        gate.open();
        let answer = safely(Answer::read(response)).await;
        assert_eq!((answer.text(), answer.whole), (JSON, true));
    }
    gateway.finish(6).await;
}
