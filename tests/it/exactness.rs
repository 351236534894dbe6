//! Byte-exactness: what the upstream sends is what the caller gets, at once, wherever it is cut.

use std::sync::Arc;

use bytes::Bytes;
use http::{HeaderMap, StatusCode};
use sluicegate::simulator::{Framing, Gate, Head, Script, Step};

use super::harness::{Answer, BOTH, CHAT, Client, Gateway, all_of, post, safely, simulator, take, whole};

/// Every line end, a byte order mark, characters of more than one byte, comments, all fields, and an end that is none.
const SAMPLE: &str = "\u{feff}: a comment\r\n\r\nevent: delta\r\nid: 1\r\nretry: 10\r\n\
    data: {\"choices\":[{\"index\":0,\"delta\":{\"content\":\"Grüße 🦀\"}}]}\r\n\r\n\
    data: a\ndata:b\n\n: again\n\ndata: c\r\rid\r\rdata: {\"choices\":[{\"index\":0,\"delta\":{},\"finish_reason\":\"stop\"}]}\n\n\
    data: [DONE]\r\r\n: tail";

/// Part two is sent only when the caller has part one: nothing waits for what comes after it.
#[tokio::test]
async fn a_stream_cut_at_every_byte_passes_unchanged_and_at_once() {
    let upstream = Arc::new(simulator().await);
    for up in BOTH {
        let gateway = Arc::new(Gateway::before(&upstream, up, ""));
        let lanes = BOTH.into_iter().flat_map(|down| (0..4).map(move |lane| (down, lane)));
        // Each lane is one connection with every fourth cut.
        all_of(lanes, 8, |(down, lane)| {
            let (upstream, gateway) = (upstream.clone(), gateway.clone());
            async move {
                let mut client = Client::connect(gateway.address(), down).await;
                for cut in (lane..=SAMPLE.len()).step_by(4) {
                    let id = format!("{down:?}{cut}");
                    let (one, two) = SAMPLE.as_bytes().split_at(cut);
                    let gate = Gate::new();
                    upstream.queue_for(
                        &id,
                        Script::new(vec![
                            Step::Head(Head::event_stream()),
                            Step::Send(Bytes::from_static(one)),
                            Step::Gate(gate.clone()),
                            Step::Send(Bytes::from_static(two)),
                        ]),
                    );
                    let request = post(gateway.address(), down, "/v1/chat/completions")
                        .header("x-simulate-id", id)
                        .body(whole(CHAT))
                        .unwrap();
                    let mut response = safely(client.send(request)).await.unwrap();
                    assert_eq!(take(response.body_mut(), cut).await, one);
                    gate.open();
                    let rest = safely(Answer::read(response)).await;
                    assert!(rest.whole && rest.body == two, "cut at {cut}: {:?}", rest.body);
                }
            }
        })
        .await;
        let exchanges = BOTH.len() * (SAMPLE.len() + 1);
        let lines = gateway.log.wait_for(|lines| (lines.len() == exchanges).then(|| lines.to_vec())).await;
        for line in lines {
            assert_eq!((&line["phase"], &line["events"]), (&"done".into(), &5.into()), "{line}");
            assert_eq!(line["bytes_out"], SAMPLE.len(), "{line}");
        }
        Arc::into_inner(gateway).unwrap().finish(exchanges).await;
    }
}

/// Bytes that no two places of the body have alike.
fn noise(length: usize) -> Bytes {
    let mut state = 0x9e37_79b9_7f4a_7c15_u64;
    std::iter::repeat_with(|| {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        state.to_le_bytes()
    })
    .flatten()
    .take(length)
    .collect()
}

/// Whatever it is and however its end is told.
#[tokio::test]
async fn a_large_body_in_odd_pieces_passes_unchanged() {
    let body = noise(1 << 20);
    let upstream = simulator().await;
    for up in BOTH {
        let gateway = Gateway::before(&upstream, up, "");
        let mut exchanges = 0;
        for down in BOTH {
            for framing in [Framing::Chunked, Framing::Known(body.len() as u64), Framing::Close] {
                for kind in ["application/octet-stream", "application/json", "text/event-stream"] {
                    let mut steps = vec![Step::Head(Head::new(StatusCode::OK, kind, framing))];
                    let mut rest = body.clone();
                    for size in [1, 2, 3, 7, 1009, 4096, 16_383, 65_537].into_iter().cycle() {
                        if rest.is_empty() {
                            break;
                        }
                        steps.push(Step::Send(rest.split_to(size.min(rest.len()))));
                    }
                    upstream.queue(Script::new(steps));
                    let mut client = Client::connect(gateway.address(), down).await;
                    // An operation whose streams have no end that the gateway knows.
                    let path = "/v1/audio/translations";
                    let request = post(gateway.address(), down, path).body(whole("{}")).unwrap();
                    let answer = client.ask(request).await;
                    assert!(answer.whole && answer.body == body, "{up:?} {down:?} {framing:?} {kind}");
                    let length = answer.headers.get("content-length").map(|length| length.to_str().unwrap());
                    assert_eq!(length, (framing == Framing::Known(1 << 20)).then_some("1048576"));
                    exchanges += 1;
                    let line = gateway.log.line(exchanges).await;
                    assert_eq!(
                        (&line["phase"], &line["bytes_out"]),
                        (&"done".into(), &body.len().into()),
                        "{line}"
                    );
                }
            }
        }
        gateway.finish(exchanges).await;
    }
}

#[tokio::test]
async fn trailers_pass_as_headers_do() {
    let upstream = simulator().await;
    for up in BOTH {
        let gateway = Gateway::before(&upstream, up, "");
        for (exchange, down) in BOTH.into_iter().enumerate() {
            let mut trailers = HeaderMap::new();
            trailers.insert("x-sum", "7".parse().unwrap());
            trailers.insert("set-cookie", "a=b".parse().unwrap());
            trailers.insert("openai-organization", "org".parse().unwrap());
            trailers.insert("x-note", format!("key {}", super::harness::UPSTREAM_KEY).parse().unwrap());
            let mut head = Head::new(StatusCode::OK, "text/plain", Framing::Chunked);
            head.headers.insert("trailer", "x-sum, set-cookie, x-note".parse().unwrap());
            upstream.queue(Script::new(vec![
                Step::Head(head),
                Step::Send("text".into()),
                Step::Trailers(trailers),
            ]));
            let request = post(gateway.address(), down, "/v1/x").header("te", "trailers");
            let mut client = Client::connect(gateway.address(), down).await;
            let answer = client.ask(request.body(whole("{}")).unwrap()).await;
            assert_eq!((answer.text(), answer.whole), ("text", true));
            let trailers = answer.trailers.unwrap_or_default();
            assert_eq!(trailers.len(), 1, "{up:?} {down:?} {trailers:?}");
            assert_eq!(trailers["x-sum"], "7");
            gateway.log.line(exchange + 1).await;
        }
        gateway.finish(2).await;
    }
}
