//! Kept connections that the upstream closes just when they are used again.

use std::{
    net::SocketAddr,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
};

use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpStream},
};

use crate::{
    harness::{CHAT, Client, Gateway, Http, Keys, post, whole},
    metrics::scrape::Scrape,
};

const REQUESTS: usize = 1000;

const ANSWER: &str = r#"{"model":"m","choices":[],"usage":{"prompt_tokens":1,"completion_tokens":1}}"#;

/// When an upstream closes a connection.
#[derive(Clone, Copy)]
enum Closes {
    /// When the second request's first bytes are there.
    AtReuse,
    /// As soon as it has answered, without a word about it.
    AfterAnswer,
    Never,
}

/// Answers; how many requests it has answered, and how many connections there were.
#[derive(Clone, Default)]
struct Seen {
    answered: Arc<AtomicUsize>,
    connections: Arc<AtomicUsize>,
}

async fn upstream(closes: Closes) -> (SocketAddr, Seen) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let seen = Seen::default();
    let counted = seen.clone();
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            counted.connections.fetch_add(1, Ordering::Relaxed);
            tokio::spawn(serve(stream, closes, counted.answered.clone()));
        }
    });
    (address, seen)
}

async fn serve(mut stream: TcpStream, closes: Closes, answered: Arc<AtomicUsize>) {
    let mut first = true;
    let mut read = Vec::new();
    loop {
        if !first && matches!(closes, Closes::AtReuse) {
            // The bytes that wait unread make it a reset.
            let _ = stream.readable().await;
            return;
        }
        while !read.ends_with(CHAT.as_bytes()) {
            let mut some = [0; 4096];
            match stream.read(&mut some).await {
                Ok(length) if length > 0 => read.extend_from_slice(&some[..length]),
                _ => return,
            }
        }
        read.clear();
        answered.fetch_add(1, Ordering::Relaxed);
        let head = "HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length";
        let answer = format!("{head}: {}\r\n\r\n{ANSWER}", ANSWER.len());
        if stream.write_all(answer.as_bytes()).await.is_err() || matches!(closes, Closes::AfterAnswer) {
            return;
        }
        first = false;
    }
}

/// Asks a thousand times, and gives what became of connections: opened, reused, found dead.
async fn asked(closes: Closes) -> (Seen, [usize; 3]) {
    let (address, seen) = upstream(closes).await;
    let more = "[admin]\naddress = \"127.0.0.1:0\"";
    let keys = Keys { more, one_worker: true, ..Keys::default() };
    let gateway = Gateway::to(&format!("http://{address}"), Http::One, keys);
    let mut client = Client::connect(gateway.address(), Http::One).await;
    for number in 0..REQUESTS {
        let request = post(gateway.address(), Http::One, "/v1/chat/completions").body(whole(CHAT)).unwrap();
        let answer = client.ask(request).await;
        assert_eq!((answer.status.as_u16(), answer.text()), (200, ANSWER), "{number}");
    }
    let scrape = Scrape::of(gateway.admin.unwrap(), "").await;
    let counts = ["opened", "reused", "dead"].map(|event| {
        let label = format!("event=\"{event}\"");
        scrape.sum("sluicegate_upstream_connections_total", &[&label]) as usize
    });
    drop(client);
    gateway.finish(REQUESTS).await;
    (seen, counts)
}

#[tokio::test]
async fn no_caller_sees_a_close_at_the_moment_of_reuse() {
    let (seen, [opened, reused, _]) = asked(Closes::AtReuse).await;
    assert_eq!(seen.answered.load(Ordering::Relaxed), REQUESTS, "none was answered twice");
    // Every request but the first found a connection that was closed upon it, and went out again on a new one.
    assert_eq!((opened, reused), (REQUESTS, REQUESTS - 1));
}

#[tokio::test]
async fn no_caller_sees_a_close_after_an_answer() {
    let (seen, [opened, reused, dead]) = asked(Closes::AfterAnswer).await;
    assert_eq!(seen.answered.load(Ordering::Relaxed), REQUESTS);
    // Most were never put aside; of the others each was found dead when it was taken, or closed upon its request.
    assert_eq!(opened, REQUESTS);
    assert!(reused + dead < REQUESTS, "{reused} {dead}");
}

#[tokio::test]
async fn where_nothing_is_closed_one_connection_is_enough() {
    let (seen, [opened, reused, dead]) = asked(Closes::Never).await;
    assert_eq!(seen.answered.load(Ordering::Relaxed), REQUESTS);
    assert_eq!((opened, reused, dead), (1, REQUESTS - 1, 0));
    assert_eq!(seen.connections.load(Ordering::Relaxed), 1);
}
