//! Answers that reach their callers whole.

use http::{HeaderMap, StatusCode};
use serde_json::Value;
use sluicegate::simulator::{Framing, Gate, Head, Script, Step};

use super::{EVENT, assert_ended, chat_request, counted};
use crate::harness::{
    BOTH, Client, Gateway, Keys, authorised, chat, post, safely, send, simulator, take, whole,
};

/// Both protocols on both legs.
async fn in_every_combination(
    each: impl AsyncFn(&sluicegate::simulator::Simulator, &Gateway, crate::harness::Http),
) {
    let upstream = simulator().await;
    for up in BOTH {
        for down in BOTH {
            let gateway = counted(&upstream.url(), up, Keys::default());
            each(&upstream, &gateway, down).await;
            let exchanges = gateway.log.access().len();
            gateway.finish(exchanges).await;
        }
    }
}

#[tokio::test]
async fn a_document() {
    in_every_combination(async |_, gateway, down| {
        let request = post(gateway.address(), down, "/v1/chat/completions")
            .header("x-simulate", "usage=5,7")
            .body(whole(r#"{"model":"gpt-4o","messages":[]}"#))
            .unwrap();
        let answer = send(gateway.address(), down, request).await;
        let line = gateway.log.line(1).await;
        assert_ended(&line, "upstream", "done", "");
        assert_eq!(answer.status, 200);
        for (key, value) in [
            ("status", Value::from(200)),
            ("caller", "tester".into()),
            ("route", "main".into()),
            ("upstream", "sim".into()),
            ("method", "POST".into()),
            ("path", "/v1/chat/completions".into()),
            ("model", "gpt-4o".into()),
            ("response_model", answer.json()["model"].clone()),
            ("stream", false.into()),
            ("reused", false.into()),
            ("finish_reason", "stop".into()),
            ("tokens_in", 5.into()),
            ("tokens_out", 7.into()),
            ("bytes_in", 32.into()),
            ("bytes_out", answer.body.len().into()),
            ("request_id", answer.headers["x-request-id"].to_str().unwrap().into()),
        ] {
            assert_eq!(line[key], value, "{key}: {line}");
        }
        assert!(line["first_byte_ms"].is_number() && line["connect_ms"].is_number(), "{line}");
        assert!(line["frames"].as_u64() >= Some(1), "{line}");
        assert_eq!((&line["events"], &line["first_token_ms"]), (&Value::Null, &Value::Null), "{line}");
    })
    .await;
}

#[tokio::test]
async fn a_stream() {
    in_every_combination(async |_, gateway, down| {
        let request = post(gateway.address(), down, "/v1/chat/completions")
            .header("x-simulate", "usage=5,7; frames=9")
            .body(whole(
                r#"{"model":"gpt-4o","stream":true,"stream_options":{"include_usage":true},"messages":[]}"#,
            ))
            .unwrap();
        let answer = send(gateway.address(), down, request).await;
        let line = gateway.log.line(1).await;
        assert_ended(&line, "upstream", "done", "");
        assert!(answer.whole);
        for (key, value) in [
            ("stream", Value::from(true)),
            ("finish_reason", "stop".into()),
            ("tokens_in", 5.into()),
            ("tokens_out", 7.into()),
            ("events", answer.text().matches("data: ").count().into()),
            ("bytes_out", answer.body.len().into()),
        ] {
            assert_eq!(line[key], value, "{key}: {line}");
        }
        assert!(line["first_token_ms"].as_f64() >= line["first_byte_ms"].as_f64(), "{line}");
    })
    .await;
}

/// HEAD, 204 and 304 have no body, whatever length they tell.
#[tokio::test]
async fn an_answer_without_a_body() {
    in_every_combination(async |upstream, gateway, down| {
        let bare = |status| Head { status, headers: HeaderMap::new(), framing: Framing::Bare };
        let heads = [
            ("HEAD", Head::json(StatusCode::OK, 123), Some("123")),
            ("HEAD", Head::new(StatusCode::OK, "text/event-stream", Framing::Chunked), None),
            ("DELETE", bare(StatusCode::NO_CONTENT), None),
            ("GET", bare(StatusCode::NOT_MODIFIED), None),
        ];
        let mut client = Client::connect(gateway.address(), down).await;
        for (exchange, (method, head, length)) in heads.into_iter().enumerate() {
            let status = head.status;
            upstream.queue(Script::new(vec![Step::Head(head)]));
            let request =
                authorised(gateway.address(), down, method, "/v1/models/x").body(whole("")).unwrap();
            let answer = client.ask(request).await;
            assert_eq!((answer.status, answer.whole, answer.body.len()), (status, true, 0), "{answer:?}");
            let told = answer.headers.get("content-length").map(|value| value.to_str().unwrap());
            assert_eq!(told, length, "{method} {status}");
            let line = gateway.log.line(exchange + 1).await;
            assert_ended(&line, "upstream", "done", "");
            assert_eq!((&line["status"], &line["bytes_out"]), (&status.as_u16().into(), &0.into()), "{line}");
        }
    })
    .await;
}

/// An error in the upstream's own words is a whole answer.
#[tokio::test]
async fn an_upstreams_error() {
    in_every_combination(async |_, gateway, down| {
        let request = post(gateway.address(), down, "/v1/chat/completions")
            .header("x-simulate", "status=429; retry-after=3")
            .body(whole("{}"))
            .unwrap();
        let answer = send(gateway.address(), down, request).await;
        assert_eq!(
            (answer.status, &answer.headers["retry-after"]),
            (StatusCode::TOO_MANY_REQUESTS, &"3".parse().unwrap())
        );
        let line = gateway.log.line(1).await;
        assert_ended(&line, "upstream", "done", "rate_limit_exceeded");
        assert_eq!(line["bytes_out"], answer.body.len(), "{line}");
    })
    .await;
}

/// SDKs close at `[DONE]`, before the last chunk is there: that is a whole answer, and the upstream connection is used again.
#[tokio::test]
async fn a_caller_that_closes_after_the_terminal_event() {
    let sample = [EVENT, "data: [DONE]\n\n"].concat();
    let upstream = simulator().await;
    for up in BOTH {
        for down in BOTH {
            let gateway = counted(&upstream.url(), up, Keys { one_worker: true, ..Keys::default() });
            let gate = Gate::new();
            upstream.queue(Script::new(vec![
                Step::Head(Head::event_stream()),
                Step::Send(sample.clone().into()),
                Step::Gate(gate.clone()),
            ]));
            let mut client = Client::connect(gateway.address(), down).await;
            let mut answer = safely(client.send(chat_request(gateway.address(), down))).await.unwrap();
            assert_eq!(take(answer.body_mut(), sample.len()).await, sample.as_bytes());
            client.leave().await;
            let line = gateway.log.line(1).await;
            assert_ended(&line, "upstream", "done", "");
            let first = upstream.records().last().unwrap().clone();
            assert!(first.ended.is_none(), "its script is still running: {up:?} {down:?} {:?}", first.ended);
            gate.open();
            let answered = safely(upstream.record(first.number)).await;
            assert_eq!(answered.ended.unwrap().1, sluicegate::simulator::Ended::Answered);
            // When its last bytes have been read, the connection is there for the next: one of the next, since nothing tells when.
            let mut exchanges = 1;
            loop {
                assert_eq!(chat(gateway.address(), down).await.status, 200);
                exchanges += 1;
                gateway.log.line(exchanges).await;
                if upstream.records().last().unwrap().connection == first.connection {
                    break;
                }
                assert!(exchanges < 100, "the connection is never used again");
            }
            gateway.finish(exchanges).await;
        }
    }
}
