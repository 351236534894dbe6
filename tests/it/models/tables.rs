//! Which table counts, and what the upstream is asked for.

use ruzstd::encoding::{CompressionLevel, compress_to_vec};

use super::rig::{Rig, at};
use crate::{
    faults::rig::refusal,
    harness::{BOTH, authorised, log, whole},
};

const PREFER: &str = r#"model_tables = "prefer""#;
const ONLY: &str = r#"model_tables = "only""#;

/// An exact name, aliases, two beginnings, and one for the other upstream.
const MODELS: &str = r#"
[model."gpt-4o"]
upstreams = ["spare"]
aliases = ["gpt-4", "default", "claude-alias"]
[model."gpt-*"]
upstreams = ["main"]
[model."gpt-4*"]
upstreams = [{ upstream = "spare", model = "gpt-4-turbo" }]
[model."claude-opus"]
upstreams = ["third"]
[model."claude-sonnet"]
upstreams = ["third", { upstream = "spare", model = "sonnet-eu" }]
"#;

#[tokio::test]
async fn an_exact_name_wins_over_an_alias_and_that_over_the_longest_beginning() {
    let rig = Rig::new(PREFER, "", MODELS).await;
    for (asked, arrived) in [
        ("gpt-4o", at("spare", "gpt-4o")),
        ("gpt-4", at("spare", "gpt-4o")),
        ("default", at("spare", "gpt-4o")),
        ("gpt-4o-mini", at("spare", "gpt-4-turbo")),
        ("gpt-3.5-turbo", at("main", "gpt-3.5-turbo")),
        ("GPT-4o", at("main", "GPT-4o")),
        ("o3", at("main", "o3")),
        // The route does not list `third`.
        ("claude-opus", at("main", "claude-opus")),
        ("claude-sonnet", at("spare", "sonnet-eu")),
    ] {
        for _ in BOTH {
            let answer = rig.chat(asked).await;
            assert_eq!(answer.status, 200, "{asked}: {answer:?}");
            assert_eq!(rig.arrival(), arrived, "{asked}");
            // The response is the upstream's, and says its model.
            assert_eq!(answer.json()["model"], arrived.model, "{asked}");
            let line = rig.gateway.log.line_of(&answer).await;
            assert_eq!(line["model"], asked, "the record has what the client asked for");
            assert_eq!(line["upstream"], arrived.upstream);
        }
    }
    rig.gateway.finish(18).await;
}

#[tokio::test]
async fn without_the_key_the_tables_do_nothing() {
    let rig = Rig::new("", "", MODELS).await;
    assert_eq!(rig.chat("gpt-4").await.status, 200);
    assert_eq!(rig.arrival(), at("main", "gpt-4"));
    rig.gateway.finish(1).await;
}

#[tokio::test]
async fn all_upstreams_are_reached_where_the_route_says_so() {
    let rig = Rig::new("model_tables = \"prefer\"\nmodel_upstreams = \"all\"", "", MODELS).await;
    for model in ["claude-opus", "claude-sonnet"] {
        assert_eq!(rig.chat(model).await.status, 200);
        assert_eq!(rig.arrival(), at("third", model));
    }
    rig.gateway.finish(2).await;
}

/// The upstreams of a table are tried as those of a route are, and the attempts say which model was sent.
#[tokio::test]
async fn a_tables_upstreams_are_tried_in_their_order() {
    let models = r#"
        [model."gpt-4o"]
        upstreams = [{ upstream = "spare", model = "small" }, "main"]
        aliases = ["fast"]
    "#;
    let rig = Rig::new(PREFER, "", models).await;
    for (asked, second) in [("gpt-4o", "gpt-4o"), ("fast", "gpt-4o")] {
        rig.spare.queue(refusal(503, "overloaded", &[]));
        let answer = rig.chat(asked).await;
        assert_eq!(answer.status, 200, "{answer:?}");
        assert_eq!(rig.arrivals(), [at("main", second), at("spare", "small")]);
        let line = rig.gateway.log.line_of(&answer).await;
        assert_eq!(line["model"], asked, "{line}");
        let attempts = line["attempts"].as_array().unwrap();
        assert_eq!((log::attempts(&line), &attempts[0]["model"]), (2, &"small".into()), "{line}");
        if asked == "fast" {
            assert_eq!(attempts[1]["model"], "gpt-4o", "{line}");
        }
    }
    rig.gateway.finish(2).await;
}

#[tokio::test]
async fn with_only_another_model_is_not_found_and_similar_names_are_told() {
    let rig = Rig::new(ONLY, "", MODELS).await;
    for (asked, similar) in [("gpt4o", "gpt-4"), ("defautl", "default"), ("claude-sonet", "claude-sonnet")] {
        // A table for a beginning fits much.
        let answer = rig.chat(asked).await;
        assert_eq!((answer.status.as_u16(), answer.code().as_str()), (404, "model_not_found"), "{answer:?}");
        let error = &answer.json()["error"];
        assert_eq!((&error["param"], &error["type"]), (&"model".into(), &"invalid_request_error".into()));
        let message = error["message"].as_str().unwrap();
        assert!(
            message.contains(&format!("`{asked}`")) && message.contains(&format!("`{similar}`")),
            "{message}"
        );
        assert_eq!(message.matches('`').count(), 2 + 2 + 2 * 3, "three names: {message}");
        assert!(!message.contains("claude-opus"), "it is not reached: {message}");
        let line = rig.gateway.log.line_of(&answer).await;
        assert_eq!((&line["model"], &line["error"]), (&asked.into(), &"model_not_found".into()));
    }
    // In Anthropic's form.
    let answer = rig.post("/v1/messages", r#"{"model":"sonnet","max_tokens":1,"messages":[]}"#).await;
    let body = answer.json();
    assert_eq!((answer.status.as_u16(), &body["type"]), (404, &"error".into()), "{answer:?}");
    assert_eq!(
        (&body["error"]["type"], &body["error"]["code"]),
        (&"not_found_error".into(), &"model_not_found".into())
    );
    assert_eq!(body["error"]["param"], "model");
    // What names no model goes to the route's upstreams.
    assert_eq!(rig.get("/v1/models", &[]).await.status, 200);
    assert_eq!(rig.post("/v1/chat/completions", r#"{"messages":[]}"#).await.status, 200);
    assert_eq!(rig.arrivals(), [at("main", ""), at("main", "")]);
    assert_eq!(rig.chat("gpt-4").await.status, 200);
    assert_eq!(rig.arrival(), at("spare", "gpt-4o"));
    rig.gateway.finish(7).await;
}

#[tokio::test]
async fn a_clients_models_are_compared_with_the_name_of_the_table() {
    let client = r#"models = ["gpt-4o", "gpt-3.5-turbo", "o3"]"#;
    let rig = Rig::new(PREFER, client, MODELS).await;
    for (asked, allowed) in [
        ("gpt-4o", true),
        ("gpt-4", true),
        ("default", true),
        ("gpt-3.5-turbo", true),
        ("gpt-4o-mini", false),
        ("gpt-5", false),
        ("o3", true),
        ("o1", false),
    ] {
        let answer = rig.chat(asked).await;
        if allowed {
            assert_eq!(answer.status, 200, "{asked}: {answer:?}");
        } else {
            assert_eq!(
                (answer.status.as_u16(), answer.code().as_str()),
                (403, "model_not_allowed"),
                "{asked}"
            );
        }
    }
    // The name of an alias is no name of a table.
    let rig = Rig::new(PREFER, r#"models = ["default"]"#, MODELS).await;
    assert_eq!(rig.chat("default").await.code(), "model_not_allowed");
}

/// A name that the client may not use is not told.
#[tokio::test]
async fn only_names_that_the_client_may_use_are_told() {
    let rig = Rig::new(ONLY, r#"models = ["claude*"]"#, MODELS).await;
    let answer = rig.chat("claude-sonne").await;
    assert_eq!(answer.code(), "model_not_found");
    let message = answer.json()["error"]["message"].as_str().unwrap().to_owned();
    assert!(
        message.contains("`claude-sonnet`") && !message.contains("gpt") && !message.contains("alias"),
        "{message}"
    );
    let rig = Rig::new(ONLY, r#"models = ["o3"]"#, MODELS).await;
    let answer = rig.chat("x").await;
    assert!(!answer.text().contains("Similar"), "{answer:?}");
}

const FORM: &str = "multipart/form-data; boundary=b";

#[tokio::test]
async fn the_model_of_a_form_and_of_azures_path_is_replaced_as_well() {
    let models = r#"
        [model."whisper-1"]
        upstreams = [{ upstream = "spare", model = "whisper-eu" }]
        aliases = ["ears"]
        [model."my-gpt"]
        upstreams = ["spare", { upstream = "main", model = "other gpt" }]
        aliases = ["gpt"]
    "#;
    let more =
        "[route.azure]\npath = \"/openai\"\nupstreams = [\"main\", \"spare\"]\nmodel_tables = \"prefer\"";
    let rig = Rig::new(PREFER, "", &format!("{models}{more}")).await;
    for (asked, http) in ["whisper-1", "ears"].into_iter().zip(BOTH) {
        // The file before the model, as openai-node writes it.
        let form = |model: &str| {
            format!(
                "--b\r\nContent-Disposition: form-data; name=\"file\"; filename=\"a.wav\"\r\n\r\n{}\r\n--b\r\n\
                 Content-Disposition: form-data; name=\"model\"\r\n\r\n{model}\r\n--b--\r\n",
                "x".repeat(2000)
            )
        };
        let request = authorised(rig.gateway.address(), http, "POST", "/v1/audio/transcriptions");
        let request = request.header("content-type", FORM).body(whole(form(asked))).unwrap();
        assert_eq!(rig.send(request).await.status, 200);
        let records = rig.records();
        let [(upstream, record)] = &records[..] else { panic!("{records:?}") };
        assert_eq!((*upstream, &record.body[..]), ("spare", form("whisper-eu").as_bytes()));
    }
    for (asked, sent) in [("my-gpt", "my-gpt"), ("gpt", "my-gpt"), ("g%70t", "my-gpt")] {
        rig.spare.queue(refusal(503, "overloaded", &[]));
        let path =
            |model: &str| format!("/openai/deployments/{model}/chat/completions?api-version=2024-10-21");
        let body = |model: &str| format!(r#"{{"model":"{model}","messages":[]}}"#);
        assert_eq!(rig.post(&path(asked), &body("gpt")).await.status, 200);
        let records = rig.records();
        let targets: Vec<_> = records.iter().map(|(upstream, record)| (*upstream, &*record.target)).collect();
        assert_eq!(targets, [("main", &*path("other%20gpt")), ("spare", &*path(sent))]);
        assert_eq!(&records[0].1.body[..], body("other gpt").as_bytes());
        // Without a model of its own, the entry of an exact name leaves the body as it is.
        let written = if asked == "my-gpt" { "gpt" } else { "my-gpt" };
        assert_eq!(&records[1].1.body[..], body(written).as_bytes());
    }
}

/// Gemini's own API names the model in the path alone.
#[tokio::test]
async fn the_model_of_geminis_path_is_replaced_and_none_is_put_into_the_body() {
    let models = "[model.\"gemini-3\"]\nupstreams = [\"spare\"]\naliases = [\"fast\"]\n";
    let more =
        "[route.gemini]\npath = \"/v1beta\"\nupstreams = [\"main\", \"spare\"]\nmodel_tables = \"only\"";
    let rig = Rig::new(PREFER, r#"models = ["gemini-3"]"#, &format!("{models}{more}")).await;
    let body = r#"{"contents":[]}"#;
    for asked in ["gemini-3", "fast"] {
        rig.spare.queue(refusal(400, "", &[]));
        assert_eq!(rig.post(&format!("/v1beta/models/{asked}:generateContent"), body).await.status, 400);
        let records = rig.records();
        let [(upstream, record)] = &records[..] else { panic!("{records:?}") };
        assert_eq!((*upstream, &*record.target), ("spare", "/v1beta/models/gemini-3:generateContent"));
        assert_eq!(&record.body[..], body.as_bytes());
    }
    // What the body says of a model does not matter there.
    let other = r#"{"model":"gemini-3","contents":[]}"#;
    assert_eq!(rig.post("/v1beta/models/other:generateContent", other).await.code(), "model_not_found");
    let more = more.replace("model_tables = \"only\"", "");
    let rig = Rig::new("", r#"models = ["gemini-3"]"#, &more).await;
    assert_eq!(rig.post("/v1beta/models/other:generateContent", other).await.code(), "model_not_allowed");
}

/// A body that is larger than the limit streams through unread, unless a table may concern it.
#[tokio::test]
async fn a_large_form_is_read_only_where_a_table_may_concern_it() {
    let form = |model: &str| {
        let file = "x".repeat(200_000);
        format!(
            "--b\r\nContent-Disposition: form-data; name=\"file\"\r\n\r\n{file}\r\n--b\r\nContent-Disposition: form-data; name=\"model\"\r\n\r\n{model}\r\n--b--\r\n"
        )
    };
    for (tables, status) in [("", 200), (PREFER, 413)] {
        let rig = Rig::new(&format!("body_limit = \"100KiB\"\n{tables}"), "", MODELS).await;
        let request = authorised(rig.gateway.address(), BOTH[0], "POST", "/v1/audio/transcriptions");
        let request = request.header("content-type", FORM).body(whole(form("whisper-1"))).unwrap();
        assert_eq!(rig.send(request).await.status, status);
    }
}

#[tokio::test]
async fn a_compressed_body_is_read_and_edited_too() {
    let rig = Rig::new(PREFER, "", MODELS).await;
    let body = compress_to_vec(&br#"{"model":"default","messages":[]}"#[..], CompressionLevel::Fastest);
    let request = authorised(rig.gateway.address(), BOTH[0], "POST", "/v1/chat/completions")
        .header("content-type", "application/json")
        .header("content-encoding", "zstd");
    assert_eq!(rig.send(request.body(whole(body)).unwrap()).await.status, 200);
    assert_eq!(rig.arrival(), at("spare", "gpt-4o"));
}

/// A reload changes where the next request goes.
#[tokio::test]
async fn a_reload_takes_effect_with_the_next_request() {
    let rig = Rig::new(PREFER, "", MODELS).await;
    rig.gateway.reload(&rig.toml(ONLY, "[model.o3]\nupstreams = [\"spare\"]")).await;
    assert_eq!(rig.chat("o3").await.status, 200);
    assert_eq!(rig.arrival(), at("spare", "o3"));
    assert_eq!(rig.chat("gpt-4o").await.code(), "model_not_found");
    rig.gateway.finish(2).await;
}
