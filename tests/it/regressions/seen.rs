//! What the gateway sees of an exchange, whatever a route makes of its path and headers.

use http::{HeaderMap, HeaderValue, StatusCode, header};
use sluicegate::simulator::{Framing, Gate, Head, Script, Step};

use super::{DONE, EVENT, FINISH, assert_ended};
use crate::harness::{
    BOTH, CHAT, Gateway, GatewayToml, Http, Keys, authorised, log, post, send, simulator, whole,
};

const STREAM: &str =
    r#"{"model":"gpt-4o","stream":true,"stream_options":{"include_usage":true},"messages":[]}"#;
const DOCUMENT: &str = r#"{"model":"gpt-4o","messages":[]}"#;

/// It is the path that goes upstream that says how the answer is to be read; one name here says nothing, the other the wrong thing.
const RENAMED: &str = r#"
    [route.renamed]
    path = "/llm/chat"
    rewrite = "/v1/chat/completions"
    upstreams = ["sim"]
    [route.misnamed]
    path = "/llm/chat/completions"
    rewrite = "/v1/responses"
    upstreams = ["sim"]
"#;
const PATHS: [(&str, &str); 2] =
    [("/llm/chat", "/v1/chat/completions"), ("/llm/chat/completions", "/v1/responses")];

#[tokio::test]
async fn usage_behind_a_path_of_ones_own() {
    let upstream = simulator().await;
    for up in BOTH {
        for down in BOTH {
            let gateway = Gateway::before(&upstream, up, RENAMED);
            let mut exchanges = 0;
            for ((path, arrived), body) in
                PATHS.into_iter().flat_map(|path| [(path, STREAM), (path, DOCUMENT)])
            {
                let request = post(gateway.address(), down, path).header("x-simulate", "usage=5,7");
                let answer = send(gateway.address(), down, request.body(whole(body)).unwrap()).await;
                assert_eq!((answer.status, answer.whole), (StatusCode::OK, true));
                exchanges += 1;
                let line = gateway.log.line(exchanges).await;
                assert_ended(&line, "upstream", "done", "");
                assert_eq!((&line["tokens_in"], &line["tokens_out"]), (&5.into(), &7.into()), "{line}");
                assert!(line["finish_reason"].is_string(), "{line}");
                assert_eq!(line["path"], path, "{line}");
                assert_eq!(upstream.records().last().unwrap().target, arrived);
            }
            gateway.finish(exchanges).await;
        }
    }
}

#[tokio::test]
async fn a_truncation_behind_a_path_of_ones_own() {
    let upstream = simulator().await;
    for up in BOTH {
        for down in BOTH {
            let gateway = Gateway::before(&upstream, up, RENAMED);
            // The end of the connection or stream, in order.
            let head = Head { framing: Framing::Close, ..Head::event_stream() };
            upstream.queue(Script::new(vec![Step::Head(head), Step::Send(EVENT.into())]));
            let request = post(gateway.address(), down, "/llm/chat").body(whole(CHAT)).unwrap();
            let answer = send(gateway.address(), down, request).await;
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

/// What is not passed on is read all the same.
const ONLY: Keys<'static> = Keys {
    listener: "",
    server: "",
    upstream: "",
    route: r#"response_headers = { only = ["x-a"] }"#,
    client: "",
    more: "",
    one_worker: false,
};

#[tokio::test]
async fn usage_where_few_headers_pass() {
    let upstream = simulator().await;
    for up in BOTH {
        for down in BOTH {
            let gateway = Gateway::with(&upstream, up, ONLY);
            for (exchange, body) in [STREAM, DOCUMENT].into_iter().enumerate() {
                let request = post(gateway.address(), down, "/v1/chat/completions");
                let request = request.header("x-simulate", "usage=5,7").body(whole(body)).unwrap();
                let answer = send(gateway.address(), down, request).await;
                assert_eq!((answer.status, answer.whole), (StatusCode::OK, true));
                let line = gateway.log.line(exchange + 1).await;
                assert_ended(&line, "upstream", "done", "");
                assert_eq!((&line["tokens_in"], &line["tokens_out"]), (&5.into(), &7.into()), "{line}");
            }
            gateway.finish(2).await;
        }
    }
}

/// Nobody can see whether the upstream's key is in it.
#[tokio::test]
async fn a_compressed_error_where_few_headers_pass() {
    const PACKED: &[u8] = b"\x1f\x8b\x08\0\0\0\0\0\0\x03\xab\xae\x05\0\x43\xbf\xa6\xa3\x02\0\0\0";
    let upstream = simulator().await;
    for up in BOTH {
        for down in BOTH {
            let gateway = Gateway::with(&upstream, up, ONLY);
            let mut headers = HeaderMap::new();
            headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("application/json"));
            headers.insert(header::CONTENT_ENCODING, HeaderValue::from_static("gzip"));
            headers.insert("x-a", HeaderValue::from_static("1"));
            let framing = Framing::Known(PACKED.len() as u64);
            let head = Head { status: StatusCode::BAD_REQUEST, headers, framing };
            upstream.queue(Script::new(vec![Step::Head(head), Step::Send(PACKED.into())]));
            let request = post(gateway.address(), down, "/v1/chat/completions").body(whole(CHAT)).unwrap();
            let answer = send(gateway.address(), down, request).await;
            assert_eq!(answer.status, StatusCode::BAD_REQUEST, "{answer:?}");
            assert_eq!(answer.code(), "upstream_error_withheld", "{answer:?}");
            gateway.finish(1).await;
        }
    }
}

/// HTTP/2 has it in `:authority`, not in `host`.
#[tokio::test]
async fn the_host_that_was_asked_for() {
    let upstream = simulator().await;
    for up in BOTH {
        for down in BOTH {
            let route = "forward_address = true";
            let gateway = Gateway::with(&upstream, up, Keys { route, ..Keys::default() });
            let request = authorised(gateway.address(), down, "GET", "/v1/models").body(whole("")).unwrap();
            assert_eq!(send(gateway.address(), down, request).await.status, StatusCode::OK);
            let record = upstream.records().pop().unwrap();
            for (name, value) in [
                ("x-forwarded-host", gateway.address().to_string()),
                ("x-forwarded-for", "127.0.0.1".to_owned()),
                ("x-forwarded-proto", "http".to_owned()),
            ] {
                let told: Vec<_> = record.headers.get_all(name).iter().collect();
                assert_eq!(told, [value.as_str()], "{up:?} {down:?} {name}");
            }
            gateway.finish(1).await;
        }
    }
}

/// Python and JavaScript read half of a surrogate pair, and upstreams write it that cut an emoji in two: it is content.
#[tokio::test]
async fn half_a_character_is_content() {
    let upstream = simulator().await;
    let [high, low] = [r"\ud83d", r"\ude00"].map(|half| {
        format!("data: {{\"choices\":[{{\"index\":0,\"delta\":{{\"content\":\"{half}\"}}}}]}}\n\n")
    });
    let keys = Keys { route: "commit = \"first_token\"", ..Keys::default() };
    for up in BOTH {
        upstream.reset();
        let sent = [&high, &low, FINISH, DONE].map(|event| Step::Send(event.to_owned().into()));
        upstream.queue(Script::new([Step::Head(Head::event_stream())].into_iter().chain(sent).collect()));
        let gateway = Gateway::with(&upstream, up, keys);
        let request = post(gateway.address(), Http::One, "/v1/chat/completions").body(whole(CHAT)).unwrap();
        let answer = send(gateway.address(), Http::One, request).await;
        assert_eq!(answer.text(), [&*high, &low, FINISH, DONE].concat());
        let line = gateway.log.line(1).await;
        assert_ended(&line, "upstream", "done", "");
        assert_eq!(upstream.records().len(), 1, "{line}");
        assert!(line["first_token_ms"].is_number(), "{line}");
        gateway.finish(1).await;
    }
}

/// Whatever a route does to the header that the caller gets it in.
#[tokio::test]
async fn the_upstreams_id_is_logged_though_the_caller_is_not_told() {
    let upstream = simulator().await;
    for rules in ["remove = [\"x-upstream-request-id\"]", "only = [\"content-type\"]"] {
        let route = format!("response_headers = {{ {rules} }}");
        let gateway = Gateway::with(&upstream, Http::One, Keys { route: &route, ..Keys::default() });
        let request = post(gateway.address(), Http::One, "/v1/chat/completions").body(whole(CHAT)).unwrap();
        let answer = send(gateway.address(), Http::One, request).await;
        assert!(!answer.headers.contains_key("x-upstream-request-id"), "{answer:?}");
        let line = gateway.log.line(1).await;
        assert!(line["upstream_request_id"].is_string(), "{line}");
        gateway.finish(1).await;
    }
}

/// The last attempt's connection was kept from the one before, and took no time.
#[tokio::test]
async fn a_line_tells_of_the_last_attempt_alone() {
    let upstream = simulator().await;
    let refused = Head::json(StatusCode::SERVICE_UNAVAILABLE, 2);
    upstream.queue(Script::new(vec![Step::Head(refused), Step::Send("{}".into())]));
    let route = r#"retry = { retries = 1, backoff = "10ms", max_backoff = "10ms" }"#;
    let gateway = Gateway::with(&upstream, Http::One, Keys { one_worker: true, route, ..Keys::default() });
    let request = post(gateway.address(), Http::One, "/v1/chat/completions").body(whole(CHAT)).unwrap();
    assert_eq!(send(gateway.address(), Http::One, request).await.status, StatusCode::OK);
    let line = gateway.log.line(1).await;
    assert_eq!((log::attempts(&line), &line["reused"]), (2, &true.into()), "{line}");
    assert!(line["connect_ms"].is_null(), "{line}");
    gateway.finish(1).await;
}

/// The exchange as a whole is bounded by what the route, or else its first upstream, says: and that is what the caller is told.
#[tokio::test]
async fn whoever_answers_the_limit_that_was_passed_is_told() {
    let upstream = simulator().await;
    let gate = Gate::new();
    upstream.queue(Script::new(vec![
        Step::Head(Head::event_stream()),
        Step::Send(EVENT.into()),
        Step::Gate(gate.clone()),
    ]));
    let gateway = Gateway::start(
        &GatewayToml::new()
            .server("threads = 1")
            .upstream("gone", "http://127.0.0.1:1", "timeout = { total = \"1s\" }")
            .upstream("sim", &upstream.url(), "timeout = { total = \"10m\" }"),
    );
    let request = post(gateway.address(), Http::One, "/v1/chat/completions").body(whole(STREAM)).unwrap();
    let answer = send(gateway.address(), Http::One, request).await;
    assert!(answer.text().contains("total timeout of 1 s"), "{}", answer.text());
    let line = gateway.log.line(1).await;
    assert_ended(&line, "gateway", "stream", "total_timeout");
    gateway.finish(1).await;
}
