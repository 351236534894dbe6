//! Callers who take their time: each is given an end, and none is waited for by another.

use std::time::Duration;

use sluicegate::simulator::Simulator;
use tokio::{io::AsyncReadExt, io::AsyncWriteExt, task::JoinSet};

use crate::harness::{
    BOTH, CHAT, CLIENT_KEY, Client, Gateway, Http, Keys, Raw, Small, chat, post, safely, simulator, whole,
};

/// How many of them.
const CALLERS: usize = 40;

/// Sends `opening`, and then one byte after the other until the gateway has had enough: what it said.
async fn drips(at: std::net::SocketAddr, opening: String) -> String {
    let mut caller = Raw::connect(at).await;
    caller.write(opening).await;
    let (mut reading, mut writing) = caller.tcp.split();
    let dripping = async {
        // The pace is the attack's: each byte comes well before anybody who waits for one gives up.
        while writing.write_all(b"x").await.is_ok() {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    let mut told = Vec::new();
    let told = async {
        // Closed, or reset under what still dripped.
        let _ = reading.read_to_end(&mut told).await;
        String::from_utf8(told).unwrap()
    };
    tokio::pin!(dripping, told);
    tokio::select! {
        told = &mut told => told,
        () = &mut dripping => told.await,
    }
}

/// Many at once, and meanwhile a neighbour on each worker.
async fn all_drip(gateway: &Gateway, opening: &str) -> Vec<String> {
    let mut callers = JoinSet::new();
    for _ in 0..CALLERS {
        callers.spawn(drips(gateway.address(), opening.to_owned()));
    }
    for _ in 0..2 {
        for down in BOTH {
            assert_eq!(chat(gateway.address(), down).await.status, 200);
        }
    }
    safely(callers.join_all()).await
}

/// Slowloris (2009; CVE-2007-6750): a head that never ends is not waited for by the byte, but as a whole.
#[tokio::test]
async fn heads_that_drip() {
    let upstream = simulator().await;
    let server = r#"header_timeout = "300ms""#;
    let gateway = Gateway::with(&upstream, Http::One, Keys { server, ..Keys::default() });
    for opening in ["", "GET /", "GET /v1/models HTTP/1.1\r\nhost: g\r\nx: "] {
        let told = all_drip(&gateway, opening).await;
        assert!(told.iter().all(String::is_empty), "{opening:?}: {told:?}");
    }
    assert_eq!(upstream.records().len(), 3 * 4, "only the neighbours");
    gateway.finish(12).await;
}

/// R.U.D.Y. (2010): a body that never ends, where `total` bounds the exchange. It holds what has come of it, and no more.
#[tokio::test]
async fn bodies_that_drip() {
    let upstream = simulator().await;
    let route = r#"timeout = { total = "1s" }"#;
    for kind in ["application/json", "application/octet-stream"] {
        upstream.reset();
        let gateway = Gateway::with(&upstream, Http::One, Keys { route, ..Keys::default() });
        for framing in ["content-length: 1000000\r\n\r\n", "transfer-encoding: chunked\r\n\r\nfffff\r\n"] {
            let opening = format!(
                "POST /v1/files HTTP/1.1\r\nhost: g\r\nauthorization: Bearer {CLIENT_KEY}\r\ncontent-type: {kind}\r\n{framing}"
            );
            let told = all_drip(&gateway, &opening).await;
            let in_time = |told: &String| told.starts_with("HTTP/1.1 504 ") && told.contains("total_timeout");
            assert!(told.iter().all(in_time), "{kind} {framing:?}: {told:?}");
        }
        gateway.holds_nothing().await;
        let complete = upstream.records().iter().filter(|record| record.body_complete).count();
        assert_eq!(complete, 8, "only the neighbours");
        gateway.finish(2 * CALLERS + 8).await;
    }
}

/// Whoever comes when `max_connections` are open waits, and is served when one of them is closed.
#[tokio::test]
async fn more_callers_than_there_may_be() {
    let upstream = simulator().await;
    let server = "max_connections = 3\nheader_timeout = \"60s\"";
    let gateway = Gateway::with(&upstream, Http::One, Keys { server, ..Keys::default() });
    let mut inside = Vec::new();
    for exchange in 1..=3 {
        let mut client = Client::connect(gateway.address(), Http::One).await;
        let request = post(gateway.address(), Http::One, "/v1/chat/completions").body(whole(CHAT)).unwrap();
        assert_eq!(client.ask(request).await.status, 200);
        gateway.log.line(exchange).await;
        inside.push(client);
    }
    // Connected, as far as the kernel can tell them.
    let mut outside = Vec::new();
    for _ in 0..CALLERS {
        let mut caller = Raw::connect(gateway.address()).await;
        caller.post("HTTP/1.1", "/v1/chat/completions", "connection: close\r\n", CHAT).await;
        outside.push(caller);
    }
    // Nobody waits within.
    for _ in 0..10 {
        for client in &mut inside {
            let request =
                post(gateway.address(), Http::One, "/v1/chat/completions").body(whole(CHAT)).unwrap();
            assert_eq!(client.ask(request).await.status, 200);
        }
    }
    let open: usize = gateway.loads().iter().map(|(_, connections)| connections).sum();
    assert_eq!(open, 3);
    assert_eq!(upstream.records().len(), 33, "nobody from outside was served");
    drop(inside.pop());
    for mut caller in outside {
        let (answer, _) = caller.read_to_end().await;
        assert!(answer.starts_with(b"HTTP/1.1 200 OK"), "{:?}", String::from_utf8_lossy(&answer));
    }
    drop(inside);
    gateway.log.line(33 + CALLERS).await;
    gateway.finish(33 + CALLERS).await;
}

/// Those who hold all places and say nothing lose them.
#[tokio::test]
async fn places_that_are_held_by_silence() {
    let upstream = simulator().await;
    let server = "max_connections = 3\nheader_timeout = \"200ms\"\nkeep_alive = \"200ms\"";
    let gateway = Gateway::with(&upstream, Http::One, Keys { server, ..Keys::default() });
    let mut silent = Vec::new();
    for _ in 0..9 {
        silent.push(Raw::connect(gateway.address()).await);
    }
    // Behind all nine.
    assert_eq!(chat(gateway.address(), Http::One).await.status, 200);
    for mut caller in silent {
        assert_eq!(caller.read_to_end().await.0, b"");
    }
    gateway.finish(1).await;
}

/// What an upstream could give away of an endless answer before somebody stopped it.
async fn given(upstream: &Simulator, number: u64) -> u64 {
    safely(upstream.record(number)).await.sent
}

/// A caller who reads nothing of a fast answer: the upstream is made to wait, so nobody holds more of it than sockets do.
#[tokio::test]
async fn an_answer_that_is_not_read_is_not_collected() {
    // Linux lets buffers grow to 6 MiB and 4 MiB (tcp(7), `tcp_rmem`, `tcp_wmem`): those of the upstream's connection, and the gateway's
    // to its caller, who has small ones.
    const SOCKETS: u64 = (6 + 4 + 4) << 20;
    let upstream = simulator().await;
    for up in BOTH {
        for down in BOTH {
            upstream.reset();
            let server = r#"write_stall = "500ms""#;
            let gateway = Gateway::with(&upstream, up, Keys { server, ..Keys::default() });
            let mut client = Client::connect_with(gateway.address(), down, Small::Yes).await;
            let request = post(gateway.address(), down, "/v1/chat/completions")
                .header("x-simulate", "frames=100000000; size=16000; interval=0")
                .body(whole(CHAT))
                .unwrap();
            let unread = safely(client.send(request)).await.unwrap();
            // Its neighbours are served, on either worker.
            for _ in 0..4 {
                assert_eq!(chat(gateway.address(), down).await.status, 200);
            }
            let line = gateway
                .log
                .wait_for(|lines| lines.iter().find(|line| line["error"] == "write_stall").cloned())
                .await;
            assert_eq!(line["who"], "downstream");
            let number = upstream.records()[0].number;
            let given = given(&upstream, number).await;
            assert!(given < SOCKETS + (2 << 20), "{up:?} {down:?}: {} MiB were taken from it", given >> 20);
            drop((unread, client));
            gateway.finish(5).await;
        }
    }
}
