//! Answers whose framing says more than one thing, or more than the usual.

use http::{HeaderMap, StatusCode};
use serde_json::Value;
use sluicegate::simulator::{Cut, Framing, Head, Script, Step};

use super::{DONE, EVENT, FINISH, assert_ended};
use crate::harness::{
    Answer, BOTH, CHAT, Client, Gateway, Http, Keys, chat, cut_off, post, send, simulator, whole,
};

const JSON: &str = r#"{"id":"c","model":"m-1","choices":[{"message":{"content":"Hi"}}]}"#;

/// The chunks decide, and the length is no part of the message (RFC 9112, section 6.3).
#[tokio::test]
async fn a_length_beside_chunks_says_nothing() {
    let upstream = simulator().await;
    let stream = [EVENT, FINISH, DONE].concat();
    for down in BOTH {
        for (kind, body) in [("application/json", JSON), ("text/event-stream", stream.as_str())] {
            for length in [0, 5, body.len() - 1, body.len(), body.len() + 1, 100_000] {
                let gateway = Gateway::before(&upstream, Http::One, "");
                let (first, second) = body.split_at(20);
                upstream.queue(Script::new(vec![Step::Raw(
                    format!(
                        "HTTP/1.1 200 OK\r\ncontent-type: {kind}\r\ncontent-length: {length}\r\n\
                         transfer-encoding: chunked\r\n\r\n{:x}\r\n{first}\r\n{:x}\r\n{second}\r\n0\r\n\r\n",
                        first.len(),
                        second.len()
                    )
                    .into(),
                )]));
                let answer = chat(gateway.address(), down).await;
                let at = format!("{down:?} {kind} {length}: {answer:?}");
                assert_eq!(
                    (answer.status, answer.text(), answer.whole),
                    (StatusCode::OK, body, true),
                    "{at}"
                );
                assert!(!answer.headers.contains_key("content-length"), "{at}");
                let line = gateway.log.line(1).await;
                assert_ended(&line, "upstream", "done", "");
                assert_eq!(line["bytes_out"], body.len(), "{line}");
                gateway.finish(1).await;
            }
        }
    }
}

fn trailers() -> Step {
    let mut trailers = HeaderMap::new();
    trailers.insert("x-sum", "7".parse().unwrap());
    Step::Trailers(trailers)
}

/// Trailers are an end like any other.
#[tokio::test]
async fn an_answer_with_trailers_is_whole() {
    let upstream = simulator().await;
    let json = || Head::new(StatusCode::OK, "application/json", Framing::Chunked);
    for down in BOTH {
        for (head, body) in [
            (json(), JSON.to_owned()),
            (Head::event_stream(), [EVENT, FINISH, DONE].concat()),
            (Head::event_stream(), [EVENT, FINISH].concat()),
        ] {
            upstream.reset();
            let gateway = Gateway::with(&upstream, Http::One, Keys { one_worker: true, ..Keys::default() });
            let mut client = Client::connect(gateway.address(), down).await;
            let request = || {
                let request = post(gateway.address(), down, "/v1/chat/completions").header("te", "trailers");
                request.body(whole(CHAT)).unwrap()
            };
            for exchange in 1..=3 {
                let steps = vec![Step::Head(head.clone()), Step::Send(body.clone().into()), trailers()];
                upstream.queue(Script::new(steps));
                let answer = client.ask(request()).await;
                assert_eq!((answer.text(), answer.whole), (body.as_str(), true), "{down:?}");
                assert_ended(&gateway.log.line(exchange).await, "upstream", "done", "");
            }
            let connections: Vec<_> = upstream.records().iter().map(|record| record.connection).collect();
            assert_eq!(connections, [connections[0]; 3], "used again: {down:?} {body}");
            gateway.finish(3).await;
        }
    }
}

/// They do not make up for the events that are missing.
#[tokio::test]
async fn trailers_do_not_end_a_stream_in_its_middle() {
    let upstream = simulator().await;
    for up in BOTH {
        for down in BOTH {
            let gateway = Gateway::before(&upstream, up, "");
            let steps = vec![Step::Head(Head::event_stream()), Step::Send(EVENT.into()), trailers()];
            upstream.queue(Script::new(steps));
            let answer = chat(gateway.address(), down).await;
            let told = answer.text().strip_prefix(EVENT).unwrap();
            assert!(
                told.starts_with("data: {\"error\":") && told.contains("upstream_truncated"),
                "{answer:?}"
            );
            assert_ended(&gateway.log.line(1).await, "upstream", "stream", "upstream_truncated");
            gateway.finish(1).await;
        }
    }
}

/// A stream of known length that breaks off where that ends; what the caller has of it, and its line.
async fn of_a_known_length(each: impl Fn(Answer, Value)) {
    let upstream = simulator().await;
    for up in BOTH {
        for down in BOTH {
            let gateway = Gateway::before(&upstream, up, "");
            let head = Head { framing: Framing::Known(EVENT.len() as u64), ..Head::event_stream() };
            upstream.queue(Script::new(vec![Step::Head(head), Step::Send(EVENT.into())]));
            let answer = chat(gateway.address(), down).await;
            let line = gateway.log.line(1).await;
            each(answer, line);
            gateway.finish(1).await;
        }
    }
}

/// As many bytes as were promised are not yet a whole stream.
#[tokio::test]
async fn a_length_does_not_end_a_stream_in_its_middle() {
    of_a_known_length(|answer, line| {
        assert!(answer.text().starts_with(EVENT), "{answer:?}");
        assert_ended(&line, "upstream", "stream", "upstream_truncated");
    })
    .await;
}

/// Nor may it look like one to the caller, who cannot be told within that length.
#[tokio::test]
async fn a_length_does_not_keep_a_truncation_from_the_caller() {
    of_a_known_length(|answer, _| {
        let told = answer.text().strip_prefix(EVENT).unwrap();
        assert!(!answer.whole || told.contains("upstream_truncated"), "it looks whole: {answer:?}");
    })
    .await;
}

/// An error event ends a stream whose SDKs raise on it. Those of the Responses API do not, so there a cut after it is a cut.
#[tokio::test]
async fn a_cut_after_the_upstreams_own_error_event() {
    let upstream = simulator().await;
    let flat = "event: error\ndata: {\"type\":\"error\",\"code\":\"x\",\"message\":\"m\",\"param\":null,\"sequence_number\":0}\n\n";
    let chat =
        "data: {\"error\":{\"message\":\"m\",\"type\":\"server_error\",\"param\":null,\"code\":null}}\n\n";
    for (path, event, whole_then) in [("/v1/responses", flat, false), ("/v1/chat/completions", chat, true)] {
        for down in BOTH {
            let gateway = Gateway::before(&upstream, Http::One, "");
            upstream.queue(cut_off(Head::event_stream(), event.as_bytes(), Cut::Close));
            let request = post(gateway.address(), down, path).body(whole(CHAT)).unwrap();
            let answer = send(gateway.address(), down, request).await;
            assert!(answer.text().starts_with(event), "{answer:?}");
            assert_eq!(answer.whole, whole_then, "{path} {down:?}: {answer:?}");
            gateway.finish(1).await;
        }
    }
}
