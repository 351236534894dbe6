//! What the gateway sees of an exchange, whatever a route makes of its path and headers.

use http::{HeaderMap, HeaderValue, StatusCode, header};
use sluicegate::simulator::{Framing, Head, Script, Step};

use super::{EVENT, assert_ended};
use crate::harness::{BOTH, CHAT, Gateway, Keys, authorised, post, send, simulator, whole};

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
