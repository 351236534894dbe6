//! A caller's `models` hold for the model that answers, whichever way it is named.

use http::StatusCode;
use sluicegate::config::KeyHash;

use crate::harness::{BOTH, Gateway, Http, Keys, post, request, safely, send, simulator, whole};

/// Ways to a deployment: as the caller names it, by a rewrite, by the upstream's base path.
const ROUTES: &str = r#"
    [upstream.based]
    url = "$URL/openai/deployments/secret-model"
    key = { env = "UPSTREAM_KEY" }
    [upstream.named]
    url = "$URL/openai/deployments"
    key = { env = "UPSTREAM_KEY" }
    [route.azure]
    path = "/openai"
    upstreams = ["sim"]
    [route.rewritten]
    path = "/rewritten"
    rewrite = "/openai/deployments/secret-model"
    upstreams = ["sim"]
    [route.half]
    path = "/half"
    rewrite = "/openai/deployments"
    upstreams = ["sim"]
    [route.based]
    path = "/based"
    rewrite = "/"
    upstreams = ["based"]
    [route.named]
    path = "/named"
    rewrite = "/"
    upstreams = ["named"]
"#;

const ALLOWED: &str = r#"{"model":"allowed","messages":[]}"#;

#[tokio::test]
async fn the_deployment_in_the_path_that_goes_upstream() {
    let upstream = simulator().await;
    let more = ROUTES.replace("$URL", &upstream.url());
    let keys = Keys { client: r#"models = ["allowed"]"#, more: &more, ..Keys::default() };
    let gateway = Gateway::with(&upstream, Http::One, keys);
    let mut passed = Vec::new();
    for down in BOTH {
        for (path, arrived) in [
            ("/openai/deployments/secret-model/chat/completions", None),
            ("/openai/deployments/secret%2Dmodel/chat/completions", None),
            ("/rewritten/chat/completions", None),
            ("/half/secret-model/chat/completions", None),
            ("/based/chat/completions", None),
            ("/named/secret-model/chat/completions", None),
            (
                "/openai/deployments/allowed/chat/completions",
                Some("/openai/deployments/allowed/chat/completions"),
            ),
            ("/half/allowed/chat/completions", Some("/openai/deployments/allowed/chat/completions")),
            ("/named/allowed/chat/completions", Some("/openai/deployments/allowed/chat/completions")),
            ("/v1/chat/completions", Some("/v1/chat/completions")),
        ] {
            let request = post(gateway.address(), down, path).body(whole(ALLOWED)).unwrap();
            let answer = send(gateway.address(), down, request).await;
            let line = gateway.log.line_of(&answer).await;
            if arrived.is_some() {
                assert_eq!(answer.status, StatusCode::OK, "{path}: {answer:?}");
            } else {
                assert_eq!(answer.status, StatusCode::FORBIDDEN, "{path}: {answer:?}");
                assert_eq!(answer.code(), "model_not_allowed", "{path}");
                assert_eq!(
                    (&line["who"], &line["error"]),
                    (&"downstream".into(), &"model_not_allowed".into())
                );
            }
            passed.extend(arrived);
        }
    }
    let arrived: Vec<_> = upstream.records().into_iter().map(|record| record.target).collect();
    assert_eq!(arrived, passed, "nothing else reached the upstream");
    gateway.finish(20).await;
}

/// Readers that do not mind the case of a name take the other one.
#[tokio::test]
async fn a_body_that_names_two_models_is_none() {
    let upstream = simulator().await;
    let client = r#"models = ["allowed"]"#;
    let gateway = Gateway::with(&upstream, Http::One, Keys { client, ..Keys::default() });
    for down in BOTH {
        for body in [
            r#"{"model":"allowed","MODEL":"other"}"#,
            r#"{"Model":"other","model":"allowed","messages":[]}"#,
            r#"{"model":"allowed","messages":[],"mode\u004c":"other"}"#,
        ] {
            let request = post(gateway.address(), down, "/v1/chat/completions").body(whole(body)).unwrap();
            let answer = send(gateway.address(), down, request).await;
            assert_eq!(answer.status, StatusCode::BAD_REQUEST, "{body}: {answer:?}");
            assert_eq!(answer.code(), "invalid_body", "{body}");
        }
        // Names deeper in the document are names of something else.
        let body = r#"{"model":"allowed","messages":[],"metadata":{"MODEL":"other"}}"#;
        let request = post(gateway.address(), down, "/v1/chat/completions").body(whole(body)).unwrap();
        assert_eq!(send(gateway.address(), down, request).await.status, StatusCode::OK);
    }
    assert_eq!(upstream.records().len(), 2);
    gateway.finish(8).await;
}

/// A route to `/other` that asks for another model.
const OTHER: &str = r#"
    [route.other]
    path = "/other"
    rewrite = "/v1"
    upstreams = [{ upstream = "sim", model = "other" }]
"#;

/// JSON may write a name's characters as escapes (RFC 8259 section 7).
#[tokio::test]
async fn another_model_is_put_in_however_the_name_is_written() {
    let upstream = simulator().await;
    let gateway = Gateway::with(&upstream, Http::One, Keys { more: OTHER, ..Keys::default() });
    let rows = [
        (r#"{"mod\u0065l":"asked","n":1}"#, r#"{"mod\u0065l":"other","n":1}"#),
        (
            r#"{"n":1, "\u006D\u006f\u0064\u0065\u006c" : "asked"}"#,
            r#"{"n":1, "\u006D\u006f\u0064\u0065\u006c" : "other"}"#,
        ),
        (r#"{"model":"ask\u0065d","n":1}"#, r#"{"model":"other","n":1}"#),
        (r#"{"mod\\u0065l":"x","model":"asked"}"#, r#"{"mod\\u0065l":"x","model":"other"}"#),
    ];
    for (body, expected) in rows {
        upstream.reset();
        let request =
            post(gateway.address(), Http::One, "/other/chat/completions").body(whole(body)).unwrap();
        let answer = send(gateway.address(), Http::One, request).await;
        assert_eq!(answer.status, StatusCode::OK, "{body}: {answer:?}");
        let arrived = &upstream.records()[0];
        assert_eq!((&*arrived.body, arrived.body_complete), (expected.as_bytes(), true));
        assert_eq!(gateway.log.line_of(&answer).await["model"], "asked", "{body}");
    }
    // Two of them are none, whichever way they are written.
    let twice = r#"{"model":"asked","mod\u0065l":"asked"}"#;
    let request = post(gateway.address(), Http::One, "/other/chat/completions").body(whole(twice)).unwrap();
    let answer = send(gateway.address(), Http::One, request).await;
    assert_eq!((answer.status, answer.code().as_str()), (StatusCode::BAD_REQUEST, "invalid_body"));
    gateway.finish(5).await;
}

/// It is in memory beside the caller's own body.
#[tokio::test]
async fn a_copy_with_another_model_counts_as_a_body_does() {
    let upstream = simulator().await;
    let keys = Keys { server: "max_buffered = \"1MiB\"", more: OTHER, ..Keys::default() };
    let gateway = Gateway::with(&upstream, Http::One, keys);
    let rows = [
        ("/other/chat/completions", 400 << 10, StatusCode::OK),
        ("/other/chat/completions", 520 << 10, StatusCode::SERVICE_UNAVAILABLE),
        ("/v1/chat/completions", 520 << 10, StatusCode::OK),
    ];
    for (path, length, status) in rows {
        // A response may arrive before the gateway has let go of the request.
        safely(async {
            while gateway.buffered() > 0 {
                tokio::task::yield_now().await;
            }
        })
        .await;
        let body = format!(r#"{{"model":"asked","messages":[],"user":"{}"}}"#, "x".repeat(length));
        let request = post(gateway.address(), Http::One, path).body(whole(body)).unwrap();
        let answer = send(gateway.address(), Http::One, request).await;
        assert_eq!(answer.status, status, "{path} {length}: {answer:?}");
        if status == StatusCode::SERVICE_UNAVAILABLE {
            assert_eq!(answer.code(), "gateway_overloaded");
        }
    }
    assert_eq!(upstream.records().len(), 2);
    gateway.finish(3).await;
}

/// A batch has none, and its API refuses what it does not know.
#[tokio::test]
async fn a_model_is_put_only_into_what_may_have_one() {
    let upstream = simulator().await;
    let gateway = Gateway::with(&upstream, Http::One, Keys { more: OTHER, ..Keys::default() });
    let rows = [
        ("batches", r#"{"input_file_id":"f"}"#, r#"{"input_file_id":"f"}"#),
        ("unheard/of", r#"{"n":1}"#, r#"{"n":1}"#),
        ("unheard/of", r#"{"model":"asked"}"#, r#"{"model":"other"}"#),
        ("chat/completions", r#"{"n":1}"#, r#"{"model":"other","n":1}"#),
        ("images/generations", r#"{"n":1}"#, r#"{"model":"other","n":1}"#),
    ];
    for (operation, body, expected) in rows {
        upstream.reset();
        let request = post(gateway.address(), Http::One, &format!("/other/{operation}"));
        send(gateway.address(), Http::One, request.body(whole(body)).unwrap()).await;
        let arrived = &upstream.records()[0];
        assert_eq!(String::from_utf8_lossy(&arrived.body), expected, "{operation} {body}");
    }
    gateway.finish(5).await;
}

/// API gateways before Azure's answer below a path of their own, which may be called so too.
#[tokio::test]
async fn a_deployment_is_found_wherever_the_path_names_it() {
    let upstream = simulator().await;
    let more = r#"
        [route.azure]
        path = "/openai"
        upstreams = ["sim"]
        [client.limited]
        key = "$HASH"
        models = ["allowed"]
    "#
    .replace("$HASH", &KeyHash::of(b"sk-sg-limited").to_string());
    let gateway = Gateway::with(&upstream, Http::One, Keys { more: &more, ..Keys::default() });
    for (path, status) in [
        ("/openai/deployments/allowed/chat/completions", StatusCode::OK),
        ("/openai/deployments/denied/chat/completions", StatusCode::FORBIDDEN),
        ("/openai/openai/deployments/denied/chat/completions", StatusCode::FORBIDDEN),
        ("/openai/Deployments/denied/chat/completions", StatusCode::FORBIDDEN),
    ] {
        let body = r#"{"model":"allowed","messages":[]}"#;
        let asked = request(gateway.address(), Http::One, "POST", path)
            .header("authorization", "Bearer sk-sg-limited")
            .header("content-type", "application/json");
        let answer = send(gateway.address(), Http::One, asked.body(whole(body)).unwrap()).await;
        assert_eq!(answer.status, status, "{path}: {answer:?}");
    }
    assert_eq!(upstream.records().len(), 1);
    gateway.finish(4).await;
}
