//! What is uploaded arrives, in constant memory or within bounds.

use std::{fs, time::Duration};

use aws_lc_rs::digest;
use bytes::Bytes;
use http::{HeaderMap, StatusCode};
use hyper::body::Frame;
use sluicegate::simulator::{Head, Script, Step, WHOLE};

use super::sha256;
use crate::harness::{
    Answer, BOTH, CLIENT_KEY, Client, Gateway, Http, Keys, Raw, authorised, body_of, post, safely, send,
    simulator, whole,
};

const MIB: usize = 1 << 20;

/// Bytes of this process that are in memory (proc(5), `/proc/self/statm`; pages of 4 KiB or more).
fn resident() -> usize {
    let pages = fs::read_to_string("/proc/self/statm").unwrap();
    pages.split_whitespace().nth(1).unwrap().parse::<usize>().unwrap() * 4096
}

/// Client, gateway and simulator are this one process, beside other tests: a quarter of the body is far more than they use, and far
/// less than holding it would take.
#[tokio::test]
async fn a_gibibyte_passes_in_constant_memory() {
    const SIZE: usize = 1 << 30;
    let upstream = simulator().await;
    for leg in BOTH {
        upstream.reset();
        let gateway = Gateway::before(&upstream, leg, "");
        let mut client = Client::connect(gateway.address(), leg).await;
        let (pieces, body) = body_of();
        let request = authorised(gateway.address(), leg, "POST", "/v1/files")
            .header("content-type", "application/octet-stream");
        let pending = client.begin(request.body(body).unwrap()).await;
        let answer = tokio::spawn(async move { Answer::read(pending.await.unwrap()).await });
        let (mut hash, before, mut most) = (digest::Context::new(&digest::SHA256), resident(), 0);
        for number in 0..SIZE / MIB {
            let mut piece = vec![b'x'; MIB];
            piece[..8].copy_from_slice(&(number as u64).to_le_bytes());
            hash.update(&piece);
            safely(pieces.send(Frame::data(piece.into()))).await.unwrap();
            most = most.max(resident().saturating_sub(before));
        }
        drop(pieces);
        assert_eq!(safely(answer).await.unwrap().status, 200);
        let record = upstream.records().pop().unwrap();
        assert_eq!((record.body_length, record.body_complete), (SIZE as u64, true));
        assert_eq!(record.body_sha256, hash.finish().as_ref());
        assert!(most < SIZE / 4, "{} MiB more than before", most / MIB);
        let line = gateway.log.line(1).await;
        assert_eq!((&line["bytes_in"], &line["phase"]), (&SIZE.into(), &"done".into()), "{line}");
        gateway.finish(1).await;
    }
}

#[tokio::test]
async fn a_large_json_body_arrives_byte_for_byte() {
    let body = format!(r#"{{"model":"m","messages":["{}"]}}"#, "Grüße ".repeat(20 * MIB / 8));
    let upstream = simulator().await;
    for up in BOTH {
        let gateway = Gateway::before(&upstream, up, "");
        for (exchange, down) in BOTH.into_iter().enumerate() {
            let request = post(gateway.address(), down, "/v1/chat/completions").body(whole(body.clone()));
            assert_eq!(send(gateway.address(), down, request.unwrap()).await.status, 200);
            let record = upstream.records().pop().unwrap();
            assert_eq!(
                (record.body_length, record.body_sha256),
                (body.len() as u64, sha256(body.as_bytes()))
            );
            let line = gateway.log.line(exchange + 1).await;
            assert_eq!((&line["bytes_in"], &line["model"]), (&body.len().into(), &"m".into()), "{line}");
        }
        gateway.finish(2).await;
    }
}

#[tokio::test]
async fn an_uploads_trailers_pass_as_headers_do() {
    let upstream = simulator().await;
    for up in BOTH {
        let gateway = Gateway::before(&upstream, up, "");
        for down in BOTH {
            let (pieces, body) = body_of();
            let request = authorised(gateway.address(), down, "POST", "/v1/files")
                .header("content-type", "application/octet-stream")
                .header("trailer", "x-sum, cookie, x-note")
                .body(body)
                .unwrap();
            let mut client = Client::connect(gateway.address(), down).await;
            let pending = client.begin(request).await;
            let mut trailers = HeaderMap::new();
            trailers.insert("x-sum", "7".parse().unwrap());
            trailers.insert("cookie", "a=b".parse().unwrap());
            trailers.insert("x-note", format!("key {CLIENT_KEY}").parse().unwrap());
            pieces.send(Frame::data(Bytes::from_static(b"file"))).await.unwrap();
            pieces.send(Frame::trailers(trailers)).await.unwrap();
            drop(pieces);
            assert_eq!(safely(pending).await.unwrap().status(), 200);
            let record = upstream.records().pop().unwrap();
            assert_eq!(&record.body[..], b"file");
            assert_eq!(record.trailers.len(), 1, "{up:?} {down:?} {:?}", record.trailers);
            assert_eq!(record.trailers["x-sum"], "7");
        }
        gateway.finish(2).await;
    }
}

/// RFC 9110, section 10.1.1: asked for before the body is sent, and not when it is not wanted.
#[tokio::test]
async fn a_caller_that_waits_for_100_continue() {
    let upstream = simulator().await;
    let gateway = Gateway::before(&upstream, Http::One, "");
    for kind in ["application/json", "text/plain"] {
        let mut caller = Raw::connect(gateway.address()).await;
        caller
            .write(format!(
                "POST /v1/files HTTP/1.1\r\nhost: g\r\nauthorization: Bearer {CLIENT_KEY}\r\n\
                 content-type: {kind}\r\ncontent-length: 2\r\nexpect: 100-continue\r\n\r\n"
            ))
            .await;
        assert_eq!(caller.until("\r\n\r\n").await, "HTTP/1.1 100 Continue\r\n\r\n");
        caller.write("{}").await;
        assert!(caller.until("}").await.starts_with("HTTP/1.1 200 OK\r\n"));
        assert_eq!(&upstream.records().pop().unwrap().body[..], b"{}");
    }
    let mut caller = Raw::connect(gateway.address()).await;
    caller
        .write("POST /v1/files HTTP/1.1\r\nhost: g\r\ncontent-length: 2\r\nexpect: 100-continue\r\n\r\n")
        .await;
    assert!(caller.until("}}").await.starts_with("HTTP/1.1 401 "));
}

#[tokio::test]
async fn all_bodies_together_are_bounded() {
    let upstream = simulator().await;
    let server = r#"max_buffered = "1MiB""#;
    let gateway = Gateway::with(&upstream, Http::One, Keys { server, ..Keys::default() });
    let mut exchanges = 0;
    for down in BOTH {
        let (pieces, body) = body_of();
        let held = post(gateway.address(), down, "/v1/chat/completions").body(body).unwrap();
        let mut client = Client::connect(gateway.address(), down).await;
        let pending = client.begin(held).await;
        // Of a body that grows, two copies count for a moment.
        let most = [b"{\"a\":\"".to_vec(), vec![b'x'; MIB * 3 / 8]].concat();
        let length = most.len() as u64;
        safely(pieces.send(Frame::data(most.into()))).await.unwrap();
        gateway.buffers(|bytes| bytes >= length).await;
        let more = format!("{{\"a\":\"{}\"}}", "x".repeat(MIB * 3 / 4));
        let more = post(gateway.address(), down, "/v1/chat/completions").body(whole(more)).unwrap();
        let answer = send(gateway.address(), down, more).await;
        assert_eq!(
            (answer.status, answer.code().as_str()),
            (StatusCode::SERVICE_UNAVAILABLE, "gateway_overloaded")
        );
        assert_eq!(answer.headers["x-should-retry"], "true");
        safely(pieces.send(Frame::data("\"}".into()))).await.unwrap();
        drop(pieces);
        assert_eq!(safely(pending).await.unwrap().status(), 200, "the one that was there first goes on");
        exchanges += 2;
        gateway.log.line(exchanges).await;
    }
    gateway.finish(exchanges).await;
}

/// What a body claims to have is not believed, but room is made for some of it, and that counts as if it were there.
#[tokio::test]
async fn the_room_that_is_made_for_a_body_counts() {
    let upstream = simulator().await;
    let gateway = Gateway::before(&upstream, Http::One, "");
    let claimed = MIB as u64;
    let mut caller = Raw::connect(gateway.address()).await;
    caller
        .write(format!(
            "POST /v1/chat/completions HTTP/1.1\r\nhost: g\r\nauthorization: Bearer {CLIENT_KEY}\r\n\
             content-type: application/json\r\ncontent-length: {claimed}\r\nconnection: close\r\n\r\n"
        ))
        .await;
    let mut sent = 0;
    for piece in [format!("{{\"a\":\"{}", "x".repeat(16 << 10)), "x".repeat(16 << 10)] {
        sent += piece.len() as u64;
        caller.write(piece).await;
        safely(async {
            while gateway.buffered() < sent {
                tokio::task::yield_now().await;
            }
        })
        .await;
    }
    let counted = gateway.buffered();
    assert!(counted > sent && counted <= 4 * sent, "{counted} for {sent} of {claimed}");
    caller.write("x".repeat((claimed - sent) as usize - 2)).await;
    caller.write("\"}").await;
    let (answer, ended) = caller.read_to_end().await;
    assert!(answer.starts_with(b"HTTP/1.1 200 ") && ended.is_none(), "{}", String::from_utf8_lossy(&answer));
    gateway.finish(1).await;
}

/// `first_byte` is for the response. While the upstream still reads a body that the gateway holds whole, for longer than that, it does not run.
#[tokio::test]
async fn an_upstream_that_reads_slowly_has_time_for_it() {
    const SIZE: usize = 8 * MIB;
    const PIECE: usize = 64 << 10;
    // HTTP/2's window admits a MiB that the simulator has yet to read, and so may the kernel's buffers, which grow while it is slow.
    for up in [Http::One, Http::Two] {
        let body = format!(r#"{{"model":"m","messages":["{}"]}}"#, "x".repeat(SIZE));
        let upstream = simulator().await;
        let keys = Keys { upstream: "timeout = { first_byte = \"1500ms\" }", ..Keys::default() };
        let gateway = Gateway::with(&upstream, up, keys);
        // The upstream's pace: 2.5 MB/s, so that reading takes more than twice `first_byte`.
        let steps = (0..SIZE / PIECE)
            .flat_map(|_| [Step::ReadBody(PIECE as u64), Step::Wait(Duration::from_millis(25))]);
        let answer = br#"{"choices":[{}]}"#;
        let end = [
            Step::ReadBody(WHOLE),
            Step::Head(Head::json(StatusCode::OK, answer.len())),
            Step::Send(answer[..].into()),
        ];
        upstream.queue(Script::before_body(steps.chain(end).collect()));
        let request = post(gateway.address(), Http::One, "/v1/chat/completions").body(whole(body.clone()));
        let answered = send(gateway.address(), Http::One, request.unwrap()).await;
        assert_eq!((answered.status.as_u16(), answered.body.as_ref()), (200, &answer[..]));
        // Once it has all of the body, the clock runs.
        upstream.queue(Script::new(vec![Step::Stall]));
        let request = post(gateway.address(), Http::One, "/v1/chat/completions").body(whole(body));
        let answered = send(gateway.address(), Http::One, request.unwrap()).await;
        assert_eq!((answered.status.as_u16(), answered.code().as_str()), (504, "upstream_timeout"));
        gateway.finish(2).await;
    }
}
