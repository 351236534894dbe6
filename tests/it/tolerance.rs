//! Request bodies that are unusual, but none of the gateway's concern: the upstream judges them.

use http::StatusCode;

use crate::{
    folder::Folder,
    harness::{Answer, BOTH, Gateway, Http, Keys, post, send, simulator, whole},
};

/// A route to `/other` that asks for another model.
const OTHER: &str = r#"
    [route.other]
    path = "/other"
    rewrite = "/v1"
    upstreams = [{ upstream = "sim", model = "other" }]
"#;

async fn sends(gateway: &Gateway, down: Http, path: &str, body: &'static str) -> Answer {
    let request = post(gateway.address(), down, path).body(whole(body)).unwrap();
    send(gateway.address(), down, request).await
}

#[tokio::test]
async fn a_member_that_the_gateway_does_not_use_refuses_no_request() {
    let upstream = simulator().await;
    let gateway = Gateway::with(&upstream, Http::One, Keys::default());
    let bodies = [
        r#"{"model":"m","messages":[],"max_tokens":"100"}"#,
        r#"{"model":"m","messages":[],"max_tokens":1,"max_tokens":2}"#,
        r#"{"model":"m","messages":[],"stream_options":[]}"#,
        r#"{"model":"m","messages":[],"stream_options":{"include_usage":"yes"}}"#,
        r#"{"model":"m","messages":[],"background":"transparent"}"#,
    ];
    for down in BOTH {
        for body in bodies {
            upstream.reset();
            let answer = sends(&gateway, down, "/v1/chat/completions", body).await;
            assert_eq!(answer.status, StatusCode::OK, "{body}: {answer:?}");
            assert_eq!(&*upstream.records()[0].body, body.as_bytes());
        }
        // What is used has to be there once, and of its type.
        for body in [r#"{"model":1}"#, r#"{"model":"m","stream":"true"}"#] {
            let answer = sends(&gateway, down, "/v1/chat/completions", body).await;
            assert_eq!((answer.status.as_u16(), answer.code().as_str()), (400, "invalid_body"), "{body}");
        }
    }
    gateway.finish(2 * (bodies.len() + 2)).await;
}

#[tokio::test]
async fn json_that_is_not_an_object_passes_where_nothing_in_it_is_needed() {
    let upstream = simulator().await;
    let gateway = Gateway::with(&upstream, Http::One, Keys { more: OTHER, ..Keys::default() });
    for down in BOTH {
        for body in ["[1]", "null", "\"text\"", r#"[{"model":"m"}]"#] {
            upstream.reset();
            sends(&gateway, down, "/v1/unheard/of", body).await;
            sends(&gateway, down, "/other/unheard/of", body).await;
            let records = upstream.records();
            assert_eq!(records.len(), 2, "{body}");
            assert!(records.iter().all(|record| *record.body == *body.as_bytes()), "{body}");
        }
        // There is no place for the model that the route sets.
        upstream.reset();
        let answer = sends(&gateway, down, "/other/chat/completions", "[1]").await;
        assert_eq!((answer.status.as_u16(), answer.code().as_str()), (400, "invalid_body"), "{answer:?}");
        assert!(answer.text().contains("`model` cannot be set"), "{answer:?}");
        assert!(upstream.records().is_empty());
        // Refused before any candidate is asked: no connection is used up, and no upstream is blamed.
        let line = gateway.log.line_of(&answer).await;
        assert_eq!((&line["phase"], line.get("upstream")), (&"intake".into(), None), "{line:#}");
    }
    gateway.finish(18).await;
}

#[tokio::test]
async fn a_client_that_is_limited_to_some_models_has_to_name_one() {
    let upstream = simulator().await;
    let client = r#"models = ["allowed"]"#;
    let gateway = Gateway::with(&upstream, Http::One, Keys { client, ..Keys::default() });
    for down in BOTH {
        for body in ["[1]", r#"[{"model":"allowed"}]"#, "null"] {
            let answer = sends(&gateway, down, "/v1/chat/completions", body).await;
            assert_eq!((answer.status.as_u16(), answer.code().as_str()), (403, "model_required"), "{body}");
        }
    }
    assert!(upstream.records().is_empty());
    gateway.finish(6).await;
}

/// A member that means nothing there must not stand for the models that the request runs.
#[tokio::test]
async fn a_model_beside_those_that_cannot_be_read_counts_for_nothing() {
    let upstream = simulator().await;
    let client = r#"models = ["allowed"]"#;
    let gateway = Gateway::with(&upstream, Http::One, Keys { client, ..Keys::default() });
    let refused = [
        ("/v1/batches", r#"{"model":"allowed","input_file_id":"file-1"}"#),
        ("/v1/messages/batches", r#"{"model":"allowed","requests":[{"params":{"model":"o3"}}]}"#),
        ("/v1/evals/e/runs", r#"{"model":"allowed","data_source":{"model":"o3"}}"#),
        ("/v1/tunedModels/o3:generateContent", r#"{"model":"allowed","contents":[]}"#),
    ];
    for down in BOTH {
        for (path, body) in refused {
            let answer = sends(&gateway, down, path, body).await;
            assert_eq!((answer.status.as_u16(), answer.code().as_str()), (403, "model_required"), "{path}");
        }
        // A session with two models is one that nobody can be sure of.
        let twice = r#"{"model":"allowed","session":{"model":"o3"}}"#;
        let answer = sends(&gateway, down, "/v1/realtime/client_secrets", twice).await;
        assert_eq!((answer.status.as_u16(), answer.code().as_str()), (400, "invalid_body"));
        let encoded = "/v1/models/o3%3AgenerateContent";
        let answer = sends(&gateway, down, encoded, r#"{"model":"allowed","contents":[]}"#).await;
        assert_eq!((answer.status.as_u16(), answer.code().as_str()), (403, "model_not_allowed"));
        assert!(upstream.records().is_empty());
        // These name it where it is read.
        for (path, body) in [
            ("/v1/threads/runs", r#"{"model":"allowed","assistant_id":"a"}"#),
            ("/v1/models/allowed:generateContent", r#"{"contents":[]}"#),
            ("/v1/unheard/of", r#"{"model":"allowed"}"#),
        ] {
            sends(&gateway, down, path, body).await;
            assert_eq!(upstream.records().len(), 1, "{path}");
            upstream.reset();
        }
    }
    gateway.finish(18).await;
}

/// A dummy key that is an ordinary word must not decide who may ask for which model.
#[tokio::test]
async fn a_model_that_looks_like_the_key_of_another_upstream_is_still_a_model() {
    let upstream = simulator().await;
    let folder = Folder::new();
    let key = folder.write("dummy", "deepseek");
    let more = format!("[upstream.local]\nurl = \"http://127.0.0.1:9\"\nkey = {{ file = {key:?} }}");
    let client = r#"models = ["deepseek/*"]"#;
    let gateway = Gateway::with(&upstream, Http::One, Keys { client, more: &more, ..Keys::default() });
    for down in BOTH {
        let body = r#"{"model":"deepseek/chat","messages":[]}"#;
        let answer = sends(&gateway, down, "/v1/chat/completions", body).await;
        assert_eq!(answer.status, StatusCode::OK, "{answer:?}");
        // What may be a key is not logged.
        let line = gateway.log.line_of(&answer).await;
        assert_eq!(line.get("model"), None, "{line:#}");
    }
    gateway.finish(2).await;
}
