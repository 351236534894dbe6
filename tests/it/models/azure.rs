//! Calls with OpenAI's paths reach the deployment paths of an Azure OpenAI resource.

use http::{Method, Request};
use sluicegate::simulator::{Head, Options, Script, Simulator, Step};

use crate::harness::{BOTH, Gateway, GatewayToml, Sent, UPSTREAM_KEY, authorised, send, simulator, whole};
use crate::{cli::process::sluicegate, folder::Folder};

const AZURE: &str = r#"azure = { api_version = "2024-10-21" }"#;
const FORM: &str = "multipart/form-data; boundary=b";

/// A gateway before one upstream at this base path; `azure` are lines of its table, and `route` of a route `/v1`. Another route is `/az`.
fn gateway(upstream: &Simulator, base: &str, azure: &str, route: &str) -> Gateway {
    let url = format!("{}{base}", upstream.url());
    let toml = GatewayToml::new()
        .listener("h2c = true")
        .defaults("retry = \"off\"\nbreaker = \"off\"")
        .upstream("azure", &url, azure)
        .route(route)
        .more("[route.azure]\npath = \"/az\"\nrewrite = \"/\"\nupstreams = [\"azure\"]");
    Gateway::start(&toml)
}

/// What the upstream got for a request: its target and its body. The key is the upstream's, in `api-key` alone.
async fn sent(upstream: &Simulator, gateway: &Gateway, request: Request<Sent>) -> (String, String) {
    let empty = Step::Head(Head::json(http::StatusCode::OK, 2));
    upstream.queue(Script::new(vec![empty, Step::Send("{}".into())]));
    let http = if request.uri().authority().is_some() { BOTH[1] } else { BOTH[0] };
    let answer = send(gateway.address(), http, request).await;
    assert_eq!(answer.status, 200, "{answer:?}");
    let record = upstream.records().pop().unwrap();
    assert_eq!(record.headers["api-key"], UPSTREAM_KEY);
    assert!(!record.headers.contains_key("authorization"), "{:?}", record.headers);
    (record.target.clone(), String::from_utf8_lossy(&record.body).into_owned())
}

fn json(gateway: &Gateway, path: &str, body: &str, turn: usize) -> Request<Sent> {
    let request = authorised(gateway.address(), BOTH[turn % 2], "POST", path);
    request.header("content-type", "application/json").body(whole(body.to_owned())).unwrap()
}

#[tokio::test]
async fn each_operation_has_the_path_that_azure_gives_it() {
    let upstream = simulator().await;
    let version = "api-version=2024-10-21";
    for (base, prefix) in [("", "/v1"), ("/openai", "/az"), ("/tenant/", "/az"), ("", "/az/v1")] {
        let gateway = gateway(&upstream, base, AZURE, "");
        let base = base.trim_end_matches('/').trim_end_matches("/openai");
        for (turn, operation) in
            ["chat/completions", "completions", "embeddings", "audio/speech", "images/generations"]
                .into_iter()
                .enumerate()
        {
            let body = r#"{"model":"my-gpt.4o","input":"x"}"#;
            let request = json(&gateway, &format!("{prefix}/{operation}?a=b&c"), body, turn);
            let (target, arrived) = sent(&upstream, &gateway, request).await;
            assert_eq!(target, format!("{base}/openai/deployments/my-gpt.4o/{operation}?a=b&c&{version}"));
            assert_eq!(arrived, body);
        }
        for (turn, operation) in
            ["audio/transcriptions", "audio/translations", "images/edits"].into_iter().enumerate()
        {
            let form = "--b\r\nContent-Disposition: form-data; name=\"file\"\r\n\r\nxx\r\n--b\r\n\
                        Content-Disposition: form-data; name=\"model\"\r\n\r\nwhisper\r\n--b--\r\n";
            let request =
                authorised(gateway.address(), BOTH[turn % 2], "POST", &format!("{prefix}/{operation}"));
            let request = request.header("content-type", FORM).body(whole(form)).unwrap();
            let (target, arrived) = sent(&upstream, &gateway, request).await;
            assert_eq!(
                (target, &*arrived),
                (format!("{base}/openai/deployments/whisper/{operation}?{version}"), form)
            );
        }
        // What has no deployment in its path keeps its own.
        for (method, operation) in [
            (Method::POST, "responses"),
            (Method::GET, "responses/resp_1"),
            (Method::POST, "files"),
            (Method::GET, "models"),
            (Method::GET, "models/my-gpt"),
            (Method::POST, "batches/batch_1/cancel"),
            (Method::POST, "images/variations"),
        ] {
            let request =
                authorised(gateway.address(), BOTH[0], method.as_str(), &format!("{prefix}/{operation}?x=1"));
            let (target, _) = sent(&upstream, &gateway, request.body(whole("")).unwrap()).await;
            assert_eq!(target, format!("{base}/openai/{operation}?x=1&{version}"));
        }
    }
}

#[tokio::test]
async fn azures_own_paths_stay_and_a_version_of_the_clients_own_too() {
    let upstream = simulator().await;
    let gateway = gateway(&upstream, "", AZURE, "");
    for (turn, (path, expected)) in [
        (
            "/az/openai/deployments/a/chat/completions",
            "/openai/deployments/a/chat/completions?api-version=2024-10-21",
        ),
        (
            "/az/openai/deployments/a/chat/completions?api-version=2025-01-01-preview",
            "/openai/deployments/a/chat/completions?api-version=2025-01-01-preview",
        ),
        ("/az/openai/responses?api-version=preview&x", "/openai/responses?api-version=preview&x"),
        ("/v1/chat/completions?api-version=x", "/openai/deployments/a/chat/completions?api-version=x"),
        (
            "/v1/chat/completions?api-key=sk-x",
            "/openai/deployments/a/chat/completions?api-version=2024-10-21",
        ),
    ]
    .into_iter()
    .enumerate()
    {
        let request = json(&gateway, path, r#"{"model":"a"}"#, turn);
        assert_eq!(sent(&upstream, &gateway, request).await.0, expected);
    }
}

#[tokio::test]
async fn an_entrys_model_and_a_deployment_of_the_configuration_decide() {
    let upstream = simulator().await;
    let tables = "model_tables = \"prefer\"";
    let model =
        "[model.gpt]\nupstreams = [{ upstream = \"azure\", model = \"gpt-eu\" }]\naliases = [\"default\"]\n";
    for (azure, deployment) in [
        (r#"azure = { api_version = "v", deployment = "model" }"#, "gpt-eu"),
        (r#"azure = { api_version = "v", deployment = "the-one" }"#, "the-one"),
    ] {
        let toml = GatewayToml::new()
            .listener("h2c = true")
            .upstream("azure", &upstream.url(), azure)
            .route(tables)
            .more(model);
        let gateway = Gateway::start(&toml);
        for (turn, asked) in ["gpt", "default"].into_iter().enumerate() {
            let request = json(&gateway, "/v1/embeddings", &format!(r#"{{"model":"{asked}"}}"#), turn);
            let (target, body) = sent(&upstream, &gateway, request).await;
            assert_eq!(target, format!("/openai/deployments/{deployment}/embeddings?api-version=v"));
            assert_eq!(body, r#"{"model":"gpt-eu"}"#);
        }
    }
    // A deployment that the configuration names needs no model.
    let gateway = gateway(&upstream, "", r#"azure = { api_version = "v", deployment = "one" }"#, "");
    let (target, body) = sent(&upstream, &gateway, json(&gateway, "/v1/chat/completions", "{}", 0)).await;
    assert_eq!((&*target, &*body), ("/openai/deployments/one/chat/completions?api-version=v", "{}"));
}

/// A model's name must not lead to another path.
#[tokio::test]
async fn what_is_no_name_of_a_deployment_is_refused() {
    let upstream = simulator().await;
    let gateway = gateway(&upstream, "", AZURE, "");
    for (turn, body) in [
        "{}",
        r#"{"model":""}"#,
        r#"{"model":".."}"#,
        r#"{"model":"../x"}"#,
        r#"{"model":"a/b"}"#,
        r#"{"model":"a?b"}"#,
        r#"{"model":"a b"}"#,
        r#"{"model":"é"}"#,
    ]
    .into_iter()
    .enumerate()
    {
        let request = json(&gateway, "/v1/chat/completions", body, turn);
        let answer = send(gateway.address(), BOTH[turn % 2], request).await;
        assert_eq!((answer.status.as_u16(), answer.code().as_str()), (400, "invalid_request"), "{body}");
        assert!(answer.text().contains("deployment"), "{body}");
    }
    assert!(upstream.records().is_empty());
}

#[tokio::test]
async fn the_newer_api_needs_no_such_table() {
    let upstream = simulator().await;
    let gateway = gateway(&upstream, "/openai/v1", "auth = { header = \"api-key\" }", "rewrite = \"/\"");
    let request = json(&gateway, "/v1/chat/completions", r#"{"model":"a"}"#, 0);
    assert_eq!(sent(&upstream, &gateway, request).await.0, "/openai/v1/chat/completions");
}

/// `check --online` asks what the route would ask.
#[test]
fn a_resource_is_asked_at_azures_paths() {
    let options = Options { require_key: Some(UPSTREAM_KEY.to_owned()), ..Options::default() };
    let upstream = Simulator::spawn_threads(&options, 1).unwrap();
    let folder = Folder::new();
    let file = folder.write(
        "gateway.toml",
        &GatewayToml::new().upstream("azure", &upstream.url(), AZURE).route("rewrite = \"/\"").to_string(),
    );
    let checked = sluicegate(&["check", "--config", &file, "--online", "--model", "my-gpt"]);
    assert_eq!(checked.code, Some(0), "{}{}", checked.out, checked.err);
    let targets: Vec<String> = upstream.records().into_iter().map(|record| record.target).collect();
    let models = "/openai/models?api-version=2024-10-21";
    let answer = "/openai/deployments/my-gpt/chat/completions?api-version=2024-10-21";
    assert_eq!(targets, [models, models, answer], "once without the key");
}
