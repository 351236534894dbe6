//! What a collector that is away, slow or hostile does: requests are as if it were not there, spans are counted, and the log has one line.

use std::{sync::Arc, time::Instant};

use sluicegate::{app::Ended, telemetry::trace::SpanCounts};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpStream},
};

use super::{Receiver, ask, exporting};
use crate::harness::{Gateway, safely, simulator};

const TAKEN: &str = "HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n";

/// A collector that says what the test wants.
struct Hostile(TcpListener);

impl Hostile {
    async fn start() -> Self {
        Self(TcpListener::bind("127.0.0.1:0").await.unwrap())
    }

    fn url(&self) -> String {
        format!("http://{}", self.0.local_addr().unwrap())
    }

    /// The next request on a new connection, read to its end.
    async fn next(&self) -> TcpStream {
        let (mut io, _) = safely(self.0.accept()).await.unwrap();
        read(&mut io).await;
        io
    }
}

/// Reads a request.
async fn read(io: &mut TcpStream) {
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        head.push(safely(io.read_u8()).await.unwrap());
    }
    let head = String::from_utf8(head).unwrap().to_ascii_lowercase();
    assert!(head.starts_with("post /v1/traces http/1.1\r\n"), "{head}");
    let length = head.split("content-length: ").nth(1).unwrap().split('\r').next().unwrap();
    let mut body = vec![0; length.parse().unwrap()];
    safely(io.read_exact(&mut body)).await.unwrap();
}

async fn answer(io: &mut TcpStream, text: &str) {
    io.write_all(text.as_bytes()).await.unwrap();
}

fn counts(gateway: &Gateway) -> Arc<SpanCounts> {
    gateway.inside().live.load().spans.counts().clone()
}

/// Spans that were exported; dropped because there was no room, because they were rejected, and because it failed. None is left out by rate.
fn all(counts: &SpanCounts) -> (u64, [u64; 3]) {
    let [no_room, rejected, failed, rate_limited] = counts.drops().map(|(_, count)| count);
    assert_eq!(rate_limited, 0);
    (counts.exported.value(), [no_room, rejected, failed])
}

/// A gateway that has had a request and is about to export it.
async fn asked(url: &str) -> (Gateway, Arc<SpanCounts>) {
    let upstream = simulator().await;
    let gateway = Gateway::start(&exporting(&upstream.url(), url, ""));
    let response = ask(&gateway, &[]).await;
    assert!(response.whole);
    gateway.log.line_of(&response).await;
    let counts = counts(&gateway);
    (gateway, counts)
}

#[tokio::test]
async fn a_collector_that_is_not_there_costs_the_spans() {
    let closed = TcpListener::bind("127.0.0.1:0").await.unwrap().local_addr().unwrap();
    let (gateway, counts) = asked(&format!("http://{closed}")).await;
    assert_eq!(gateway.stop().await, Ended::Drained);
    assert_eq!(all(&counts), (0, [0, 0, 2]));
}

#[tokio::test]
async fn a_collector_that_says_nothing_does_not_keep_the_gateway_from_ending() {
    let collector = Hostile::start().await;
    let (gateway, counts) = asked(&collector.url()).await;
    let begun = Instant::now();
    let (ended, held) = tokio::join!(gateway.stop(), collector.next());
    assert_eq!(ended, Ended::Drained);
    assert_eq!(all(&counts), (0, [0, 0, 2]));
    // The bound is five seconds; a machine under load gets some more.
    assert!(begun.elapsed().as_secs() < 50);
    drop(held);
}

#[tokio::test]
async fn what_a_collector_refuses_is_not_sent_again() {
    for refusal in [
        "HTTP/1.1 400 Bad Request\r\ncontent-length: 4\r\n\r\nsome",
        "HTTP/1.1 500 Internal Server Error\r\ncontent-length: 0\r\n\r\n",
        "HTTP/1.1 307 Temporary Redirect\r\nlocation: http://127.0.0.1:1/v1/traces\r\ncontent-length: 0\r\n\r\n",
    ] {
        let collector = Hostile::start().await;
        let (gateway, counts) = asked(&collector.url()).await;
        let refuse = async {
            let mut io = collector.next().await;
            answer(&mut io, refusal).await;
            io
        };
        let (ended, _held) = tokio::join!(gateway.stop(), refuse);
        assert_eq!(ended, Ended::Drained);
        assert_eq!(all(&counts), (0, [0, 0, 2]), "{refusal}");
    }
}

#[tokio::test]
async fn what_is_no_response_is_a_failure_and_what_a_collector_rejects_is_counted() {
    let rejecting = "HTTP/1.1 200 OK\r\ncontent-length: 4\r\n\r\n\x0a\x02\x08\x01";
    let nonsense = "HTTP/1.1 200 OK\r\ncontent-length: 6\r\n\r\n<html>";
    let endless = format!("HTTP/1.1 200 OK\r\ncontent-length: 200000\r\n\r\n{}", "x".repeat(200_000));
    for (text, expected) in [
        ("SSH-2.0-OpenSSH_9.2\r\n\r\n", (0, [0, 0, 2])),
        (nonsense, (2, [0, 0, 0])),
        (endless.as_str(), (2, [0, 0, 0])),
        (rejecting, (1, [0, 1, 0])),
    ] {
        let collector = Hostile::start().await;
        let (gateway, counts) = asked(&collector.url()).await;
        let nonsense = async {
            let mut io = collector.next().await;
            // One that is not read to its end is closed.
            let _ = io.write_all(text.as_bytes()).await;
            io
        };
        let (ended, _held) = tokio::join!(gateway.stop(), nonsense);
        assert_eq!(ended, Ended::Drained);
        assert_eq!(all(&counts), expected, "{text:.60}");
    }
}

/// In the gateway's own time: after five seconds it exports by itself.
#[tokio::test]
async fn a_collector_that_asks_to_come_back_later_gets_the_same_spans_again() {
    let collector = Hostile::start().await;
    let (gateway, counts) = asked(&collector.url()).await;
    let mut io = collector.next().await;
    answer(&mut io, "HTTP/1.1 503 Service Unavailable\r\nretry-after: 1\r\ncontent-length: 0\r\n\r\n").await;
    read(&mut io).await;
    answer(&mut io, "HTTP/1.1 429 Too Many Requests\r\ncontent-length: 0\r\nconnection: close\r\n\r\n").await;
    drop(io);
    let mut io = collector.next().await;
    answer(&mut io, TAKEN).await;
    safely(async {
        while counts.exported.value() == 0 {
            tokio::time::sleep(std::time::Duration::from_millis(1)).await;
        }
    })
    .await;
    assert_eq!(all(&counts), (2, [0, 0, 0]));
    gateway.finish(1).await;
}

#[tokio::test]
async fn a_reload_sends_what_waits_to_the_collector_of_before() {
    let (mut before, mut after) = (Receiver::start(&[]), Receiver::start(&[]));
    let upstream = simulator().await;
    let gateway = Gateway::start(&exporting(&upstream.url(), &before.url, ""));
    let first = ask(&gateway, &[]).await;
    gateway.log.line_of(&first).await;
    gateway.reload(&exporting(&upstream.url(), &after.url, "")).await;
    let trace_of =
        |answer: &crate::harness::Answer| answer.headers["x-trace-id"].to_str().unwrap().to_owned();
    assert_eq!(before.spans()[0].text("trace"), trace_of(&first));
    let second = ask(&gateway, &[]).await;
    gateway.log.line_of(&second).await;
    // A reload that leaves the table as it is changes nothing.
    gateway.reload(&exporting(&upstream.url(), &after.url, "")).await;
    assert_eq!(gateway.stop().await, Ended::Drained);
    let spans = after.spans();
    assert_eq!((spans.len(), spans[0].text("trace")), (2, trace_of(&second).as_str()));
}
