//! Callers that hold answers: windows that stay shut, header lists without measure, streams that are reset as soon as they cost something.

use sluicegate::simulator::Simulator;

use super::frames::{
    CANCEL, CONTINUATION, DATA, END_HEADERS, END_STREAM, Frame, GOAWAY, HEADERS, INITIAL_WINDOW_SIZE, Peer,
    RST_STREAM, Told::Answered, block, post,
};
use crate::harness::{Gateway, Http, Keys, safely, simulator};

const STREAMS: u32 = 20;

fn gateway(upstream: &Simulator, server: &str) -> Gateway {
    Gateway::with(upstream, Http::One, Keys { one_worker: true, server, ..Keys::default() })
}

async fn assert_served(peer: &mut Peer, stream: u32) {
    peer.write(&[
        Frame::headers(stream, 0, block(post("/v1/embeddings"))),
        Frame::data(stream, END_STREAM, "{}"),
    ])
    .await;
    assert_eq!(peer.told(stream).await, Answered(200));
}

/// Waits until nothing is open; what is left is a leak.
async fn at_rest(gateway: &Gateway) {
    let all = async {
        while gateway.loads().iter().any(|load| *load != (0, 0)) {
            tokio::task::yield_now().await;
        }
    };
    safely(all).await;
}

/// CVE-2019-9511 and CVE-2019-9517: a window of nothing (RFC 9113, section 6.5.2). Of each answer no more is taken from the upstream than the
/// gateway holds for a stream, and `write_stall` ends it.
#[tokio::test]
async fn answers_behind_a_window_of_nothing() {
    let upstream = simulator().await;
    let gateway = gateway(&upstream, r#"write_stall = "1s""#);
    let mut peer = Peer::connect_with(gateway.address(), &[(INITIAL_WINDOW_SIZE, 0)]).await;
    let endless = [("x-simulate".to_owned(), "frames=100000000; size=1000".to_owned())];
    let fields: Vec<_> = post("/v1/chat/completions").into_iter().chain(endless).collect();
    for number in 0..STREAMS {
        let stream = 1 + 2 * number;
        let chat = Frame::data(stream, END_STREAM, r#"{"model":"m","stream":true,"messages":[]}"#);
        peer.write(&[Frame::headers(stream, 0, block(fields.clone())), chat]).await;
        assert_eq!(peer.head(stream).await, 200);
    }
    gateway.log.line(STREAMS as usize).await;
    for line in gateway.log.access() {
        assert_eq!((&line["who"], &line["error"]), (&"downstream".into(), &"write_stall".into()), "{line}");
        let bytes = line["bytes_out"].as_u64().unwrap();
        assert!(bytes < 256 << 10, "{bytes} bytes of one answer");
    }
    // Those streams alone have ended.
    peer.write(&[Frame::settings(&[(INITIAL_WINDOW_SIZE, 1 << 20)])]).await;
    assert_served(&mut peer, 1 + 2 * STREAMS).await;
    drop(peer);
    at_rest(&gateway).await;
    gateway.finish(STREAMS as usize + 1).await;
}

/// The gateway's own answers to strangers too.
#[tokio::test]
async fn refusals_behind_a_window_of_nothing() {
    let upstream = simulator().await;
    let gateway = gateway(&upstream, r#"write_stall = "1s""#);
    let mut peer = Peer::connect_with(gateway.address(), &[(INITIAL_WINDOW_SIZE, 0)]).await;
    let stranger: Vec<_> =
        post("/v1/embeddings").into_iter().filter(|(name, _)| name != "authorization").collect();
    for number in 0..STREAMS {
        peer.write(&[Frame::headers(1 + 2 * number, END_STREAM, block(stranger.clone()))]).await;
        assert_eq!(peer.head(1 + 2 * number).await, 401);
    }
    let mut reset = 0;
    while reset < STREAMS {
        let frame = peer.next().await.unwrap();
        assert!(frame.kind != DATA && frame.kind != GOAWAY, "{frame:?}");
        reset += u32::from(frame.kind == RST_STREAM);
    }
    peer.write(&[Frame::settings(&[(INITIAL_WINDOW_SIZE, 1 << 20)])]).await;
    assert_served(&mut peer, 1 + 2 * STREAMS).await;
    drop(peer);
    at_rest(&gateway).await;
    gateway.finish(STREAMS as usize + 1).await;
}

/// RFC 9113, section 10.5.1: a header list that is larger than SETTINGS_MAX_HEADER_LIST_SIZE is answered with 431, and so is one of more lines than
/// the gateway takes. The connection lives on, its header tables intact.
#[tokio::test]
async fn header_lists_without_measure() {
    let upstream = simulator().await;
    let gateway = gateway(&upstream, "");
    let mut peer = Peer::connect(gateway.address()).await;
    let long = block(
        post("/v1/embeddings").into_iter().chain((0..20).map(|n| (format!("x-{n}"), "y".repeat(4000)))),
    );
    let mut frames = Vec::new();
    for part in long.chunks(16_000) {
        let kind = if frames.is_empty() { HEADERS } else { CONTINUATION };
        frames.push(Frame::new(kind, u8::from(kind == HEADERS) * END_STREAM, 1, part));
    }
    frames.last_mut().unwrap().flags |= END_HEADERS;
    peer.write(&frames).await;
    assert_eq!(peer.told(1).await, Answered(431));
    let many = post("/v1/embeddings").into_iter().chain((0..1000).map(|_| ("x".to_owned(), String::new())));
    peer.write(&[Frame::headers(3, END_STREAM, block(many))]).await;
    assert_eq!(peer.told(3).await, Answered(431));
    assert_served(&mut peer, 5).await;
    assert_eq!(upstream.records().len(), 1);
    drop(peer);
    at_rest(&gateway).await;
}

/// CVE-2023-44487 at its slowest: each request is let through to the upstream before it is reset. It costs the upstream one request at a time,
/// as it would from anybody with a key: each is given up before the next is asked.
#[tokio::test]
async fn resets_that_wait_for_the_upstream() {
    let upstream = simulator().await;
    let gateway = gateway(&upstream, "");
    let mut peer = Peer::connect(gateway.address()).await;
    let late = [("x-simulate".to_owned(), "delay=1h".to_owned())];
    let fields: Vec<_> = post("/v1/embeddings").into_iter().chain(late).collect();
    for number in 0..100_u32 {
        let stream = 1 + 2 * number;
        peer.write(&[Frame::headers(stream, END_STREAM, block(fields.clone()))]).await;
        safely(upstream.wait_for(|records| (records.len() > number as usize).then_some(()))).await;
        peer.write(&[Frame::reset(stream, CANCEL)]).await;
        safely(upstream.wait_for_connections(|now| now.open == 0)).await;
    }
    assert_served(&mut peer, 201).await;
    drop(peer);
    at_rest(&gateway).await;
    gateway.finish(101).await;
}
