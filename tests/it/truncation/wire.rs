//! The ending on the wire, byte by byte: where a client library would hide how it was told.

use std::io::ErrorKind;

use sluicegate::simulator::{Cut, Head, Script, Step};

use super::CHAT;
use crate::harness::{BOTH, Gateway, Http, Raw, cut_off, simulator};

/// To a caller of HTTP/1.0 the close of the connection is the end of the answer; only a reset is another ending.
#[tokio::test]
async fn an_http_1_0_caller_is_reset() {
    let upstream = simulator().await;
    let sample = CHAT.sample();
    for (number, (up, cut, k)) in [
        (Http::One, Cut::Reset, 10),
        (Http::One, Cut::Close, 95),
        (Http::Two, Cut::Reset, 10),
        (Http::Two, Cut::NoError, sample.len() - 1),
    ]
    .into_iter()
    .enumerate()
    {
        let gateway = Gateway::before(&upstream, up, "");
        let id = number.to_string();
        upstream.queue_for(&id, cut_off(Head::event_stream(), &sample.as_bytes()[..k], cut));
        let mut caller = Raw::connect(gateway.address()).await;
        caller.post("HTTP/1.0", CHAT.path, &format!("x-simulate-id: {id}\r\n"), "{}").await;
        let (answer, ended) = caller.read_to_end().await;
        let (head, body) = halves(&answer);
        assert!(head.starts_with("HTTP/1.0 200"), "{head}");
        assert!(!head.contains("transfer-encoding") && !head.contains("content-length"), "{head}");
        assert_eq!(body, &sample.as_bytes()[..k]);
        assert_eq!(ended, Some(ErrorKind::ConnectionReset), "{up:?} {cut:?}");
        assert_eq!(gateway.log.line(1).await["error"], "upstream_truncated");
        gateway.finish(1).await;
    }
}

#[tokio::test]
async fn an_http_1_0_caller_of_a_whole_stream_sees_it_close() {
    let upstream = simulator().await;
    for up in BOTH {
        let gateway = Gateway::before(&upstream, up, "");
        for (exchange, cut) in [None, Some(Cut::Reset)].into_iter().enumerate() {
            let mut steps = vec![Step::Head(Head::event_stream()), Step::Send(CHAT.sample().into())];
            steps.extend(cut.map(Step::Cut));
            upstream.queue(Script::new(steps));
            let mut caller = Raw::connect(gateway.address()).await;
            caller.post("HTTP/1.0", CHAT.path, "", "{}").await;
            let (answer, ended) = caller.read_to_end().await;
            assert_eq!((halves(&answer).1, ended), (CHAT.sample().as_bytes(), None), "{cut:?}");
            assert_eq!(gateway.log.line(exchange + 1).await["phase"], "done");
        }
        gateway.finish(2).await;
    }
}

/// What a caller of HTTP/1.1 sees on the wire: chunks without a last one, then the end.
#[tokio::test]
async fn no_last_chunk_is_written() {
    let upstream = simulator().await;
    let gateway = Gateway::before(&upstream, Http::One, "");
    upstream.queue(cut_off(Head::event_stream(), b"data: {", Cut::Reset));
    let mut caller = Raw::connect(gateway.address()).await;
    caller.post("HTTP/1.1", CHAT.path, "", "{}").await;
    let (answer, _) = caller.read_to_end().await;
    assert_eq!(halves(&answer).1, b"7\r\ndata: {\r\n");
    gateway.finish(1).await;
}

fn halves(answer: &[u8]) -> (&str, &[u8]) {
    let head = answer.windows(4).position(|four| four == b"\r\n\r\n").unwrap() + 4;
    (std::str::from_utf8(&answer[..head]).unwrap(), &answer[head..])
}
