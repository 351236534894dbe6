//! Answers without an end: bounded in time where nothing comes of them, and in memory where something does.

use std::fs;

use bytes::Bytes;
use http::StatusCode;
use http_body_util::BodyExt;
use sluicegate::simulator::{Framing, Head, Script, Step};

use crate::{
    cli::process::Running,
    harness::{BOTH, CHAT, Client, Gateway, Http, chat, post, safely, simulator, whole},
    reload::edits::Files,
    tls::pki::Authority,
};

const MIB: usize = 1 << 20;

/// RFC 9110 §15.2 sets no bound on interim answers, and hyper skips them all: a fast sender of nothing else would hold up everybody on
/// the same worker.
#[tokio::test]
async fn interim_answers_are_not_taken_without_end() {
    let upstream = simulator().await;
    for down in BOTH {
        let gateway = Gateway::before(&upstream, Http::One, "");
        let many: Bytes = "HTTP/1.1 100 Continue\r\n\r\n".repeat(4000).into();
        upstream.queue(Script::new((0..1000).map(|_| Step::Raw(many.clone())).collect()));
        let answer = chat(gateway.address(), down).await;
        assert_eq!(answer.code(), "upstream_unreadable_response");
        let line = gateway.log.line(1).await;
        assert!(line["cause"].as_str().unwrap().contains("interim responses exceed the limit"), "{line}");
        gateway.finish(1).await;
    }
}

/// A process of its own, so that its memory is its own: pages that are resident (proc(5)).
fn resident(pid: u32) -> usize {
    let pages = fs::read_to_string(format!("/proc/{pid}/statm")).unwrap();
    pages.split_whitespace().nth(1).unwrap().parse::<usize>().unwrap() * 4096
}

/// Whatever passes, and whatever it is: events that end, an event that does not, a document, a field, a comment.
#[tokio::test]
async fn what_streams_without_end_passes_in_constant_memory() {
    const SIZE: usize = 64 * MIB;
    let upstream = simulator().await;
    let files = Files::new(&upstream.url(), &Authority::new());
    let mut gateway = Running::start(&["serve", "--config", files.path().to_str().unwrap()]);
    let address = gateway.address();
    let event = format!(
        "data: {{\"choices\":[{{\"index\":0,\"delta\":{{\"content\":\"{}\"}}}}]}}\n\n",
        "x".repeat(900)
    );
    let line = format!("{}\n", "x".repeat(1023));
    for (kind, opening, piece) in [
        ("text/event-stream", "", event.as_str()),
        ("text/event-stream", "data: ", "xxxxxxxxxxxxxxxx"),
        ("text/event-stream", "", line.as_str()),
        ("text/event-stream", ":", "xxxxxxxxxxxxxxxx"),
        ("text/event-stream", "", "data: x\n"),
        ("application/json", "{\"a\":\"", "xxxxxxxxxxxxxxxx"),
        ("application/json", "", "[[[[[[[["),
    ] {
        for down in BOTH {
            let piece: Bytes = piece.repeat(64 << 10 >> piece.len().ilog2()).into();
            let pieces = SIZE / piece.len();
            let head = Head::new(StatusCode::OK, kind, Framing::Chunked);
            let steps = [Step::Head(head), Step::Send(opening.into())].into_iter();
            upstream.queue(Script::new(
                steps.chain((0..pieces).map(|_| Step::Send(piece.clone()))).chain([Step::Stall]).collect(),
            ));
            let mut client = Client::connect(address, down).await;
            let request = post(address, down, "/v1/chat/completions").body(whole(CHAT)).unwrap();
            let mut body = safely(client.send(request)).await.unwrap().into_body();
            let (mut taken, mut least, mut most) = (0, usize::MAX, 0);
            while taken < opening.len() + pieces * piece.len() {
                let before = taken / MIB;
                taken += safely(body.frame()).await.unwrap().unwrap().into_data().unwrap().len();
                // What it needs for such a stream it has after the first few.
                if taken > 4 * MIB && taken / MIB > before {
                    let now = resident(gateway.pid());
                    (least, most) = (least.min(now), most.max(now));
                }
            }
            assert!(
                most - least < 16 * MIB,
                "{kind} {opening:?} {down:?}: {} MiB more",
                (most - least) / MIB
            );
        }
    }
}
