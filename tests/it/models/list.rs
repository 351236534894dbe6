//! `GET …/models`, answered by the gateway.

use http::Method;
use serde_json::{Value, json};

use super::rig::{Rig, at};
use crate::harness::BOTH;

const LISTED: &str = "model_tables = \"prefer\"\nmodel_list = \"configured\"";
const ANTHROPIC: (&str, &str) = ("anthropic-version", "2023-06-01");

const MODELS: &str = r#"
[model."gpt-4o"]
upstreams = ["spare"]
aliases = ["default"]
[model."org/model"]
upstreams = ["main"]
[model."o*"]
upstreams = ["main"]
[model."elsewhere"]
upstreams = ["third"]
"#;

fn ids(list: &Value) -> Vec<&str> {
    list["data"].as_array().unwrap().iter().map(|model| model["id"].as_str().unwrap()).collect()
}

#[tokio::test]
async fn the_list_is_what_this_client_may_use() {
    for (client, expected) in [
        ("", &["default", "gpt-4o", "org/model"][..]),
        (r#"models = ["gpt-4o"]"#, &["default", "gpt-4o"]),
        // A table for a beginning has no names of its own, but a client may.
        (r#"models = ["o3", "org*", "unknown", "default"]"#, &["o3", "org/model"]),
        (r#"models = ["x"]"#, &[]),
    ] {
        let rig = Rig::new(LISTED, client, MODELS).await;
        for _ in BOTH {
            let answer = rig.get("/v1/models", &[]).await;
            assert_eq!(
                (answer.status, &answer.headers["content-type"]),
                (200.try_into().unwrap(), &"application/json".try_into().unwrap())
            );
            let list = answer.json();
            assert_eq!((&list["object"], ids(&list)), (&"list".into(), expected.to_vec()), "{client}");
            let line = rig.gateway.log.line_of(&answer).await;
            assert_eq!(
                (&line["who"], &line["phase"], &line["error"]),
                (&"gateway".into(), &"done".into(), &Value::Null),
                "{line}"
            );
            assert!(answer.headers.contains_key("x-request-id"));
        }
        assert_eq!(rig.arrivals(), []);
        rig.gateway.finish(2).await;
    }
}

#[tokio::test]
async fn one_model_is_found_by_any_of_its_names() {
    let rig = Rig::new(LISTED, r#"models = ["gpt-4o", "o*"]"#, MODELS).await;
    for (path, name) in [
        ("/v1/models/gpt-4o", "gpt-4o"),
        ("/v1/models/default", "default"),
        ("/v1/models/gpt%2D4o/", "gpt-4o"),
        ("/v1/models/org%2Fmodel", "org/model"),
        ("/v1/models/org/model", "org/model"),
        ("/v1/models/o3", "o3"),
        ("/v1/models/o/a/b/c/d", "o/a/b/c/d"),
    ] {
        let answer = rig.get(path, &[]).await;
        let expected = json!({ "id": name, "object": "model", "created": 0, "owned_by": "sluicegate" });
        assert_eq!(answer.json(), expected, "{path}");
    }
    for path in ["/v1/models/gpt-5", "/v1/models/elsewhere"] {
        let answer = rig.get(path, &[]).await;
        assert_eq!((answer.status.as_u16(), answer.code().as_str()), (404, "model_not_found"), "{path}");
        assert_eq!(answer.json()["error"]["param"], "model");
    }
    let head = rig.ask(&Method::HEAD, "/v1/models", &[]).await;
    let length = rig.get("/v1/models", &[]).await.body.len();
    assert_eq!((head.status.as_u16(), head.body.len()), (200, 0));
    assert_eq!(head.headers["content-length"], length.to_string());
    // What is no question for models goes upstream.
    assert_eq!(rig.ask(&Method::DELETE, "/v1/models/gpt-4o", &[]).await.status, 404);
    assert_eq!(rig.records().len(), 1);
    assert_eq!(rig.chat("gpt-4o").await.status, 200);
    assert_eq!(rig.arrival(), at("spare", "gpt-4o"));
}

/// Pages as in the Anthropic API reference, List Models.
#[tokio::test]
async fn anthropics_list_has_pages() {
    let many: String =
        (10..40).map(|number| format!("[model.m{number}]\nupstreams = [\"main\"]\n")).collect();
    let rig = Rig::new(LISTED, "", &many).await;
    let name = |number: usize| format!("m{}", number + 10);
    let expected = |range: std::ops::Range<usize>| range.map(name).collect::<Vec<_>>();
    for (query, range, more) in [
        ("", 0..20, true),
        ("?limit=3", 0..3, true),
        ("?limit=30", 0..30, false),
        ("?limit=1000&beta=true", 0..30, false),
        ("?after_id=m29", 20..30, false),
        ("?after_id=m29&limit=5", 20..25, true),
        ("?before_id=m15&limit=2", 3..5, true),
        ("?before_id=m15", 0..5, false),
        ("?after_id=%6D38", 29..30, false),
        ("?after_id=m39", 0..0, false),
        // It was removed since the last page.
        ("?after_id=m29x&limit=1", 20..21, true),
    ] {
        let answer = rig.get(&format!("/v1/models{query}"), &[ANTHROPIC]).await;
        assert_eq!(answer.status, 200, "{query}: {answer:?}");
        assert_eq!(answer.headers["request-id"], answer.headers["x-request-id"]);
        let list = answer.json();
        assert_eq!(
            (ids(&list), list["has_more"].as_bool()),
            (expected(range.clone()).iter().map(String::as_str).collect(), Some(more)),
            "{query}"
        );
        let (first, last) = if range.is_empty() {
            (Value::Null, Value::Null)
        } else {
            (name(range.start).into(), name(range.end - 1).into())
        };
        assert_eq!((&list["first_id"], &list["last_id"]), (&first, &last), "{query}");
    }
    for query in ["?limit=0", "?limit=1001", "?limit=many", "?limit="] {
        let answer = rig.get(&format!("/v1/models{query}"), &[ANTHROPIC]).await;
        assert_eq!(
            (answer.status.as_u16(), &answer.json()["error"]["code"]),
            (400, &"invalid_request".into()),
            "{query}"
        );
    }
    let one = rig.get("/v1/models/m12", &[ANTHROPIC]).await.json();
    let expected =
        json!({ "type": "model", "id": "m12", "display_name": "m12", "created_at": "1970-01-01T00:00:00Z" });
    assert_eq!(one, expected);
    let unknown = rig.get("/v1/models/x", &[ANTHROPIC]).await;
    assert_eq!((unknown.status.as_u16(), &unknown.json()["error"]["type"]), (404, &"not_found_error".into()));
    assert_eq!(rig.arrivals(), []);
}

#[tokio::test]
async fn by_default_the_upstream_answers() {
    let rig = Rig::new("model_tables = \"only\"", "", MODELS).await;
    for path in ["/v1/models", "/v1/models/gpt-4o"] {
        assert_eq!(rig.get(path, &[]).await.status, 200);
        assert_eq!(rig.records()[0].1.target, path);
    }
}
