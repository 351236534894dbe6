//! The gateway's own errors have the form of the API that the client speaks, and name the parameter that is concerned.

use serde_json::{Value, json};

use crate::harness::{
    Answer, BOTH, CHAT, CLIENT_KEY, Gateway, Http, Keys, Raw, authorised, post, request, send, simulator,
    whole,
};

fn anthropic_error(answer: &Answer) -> Value {
    let body = answer.json();
    assert_eq!(body["type"], "error", "{body:#}");
    let id = answer.headers["x-request-id"].to_str().unwrap();
    assert_eq!(
        (body["request_id"].as_str(), answer.headers["request-id"].to_str().ok()),
        (Some(id), Some(id))
    );
    assert!(
        body["error"]["message"].as_str().is_some_and(|message| message.contains(". (docs/errors#")),
        "{body:#}"
    );
    body["error"].clone()
}

#[tokio::test]
async fn anthropics_form_for_anthropics_clients() {
    let upstream = simulator().await;
    let client = "routes = [\"main\"]\nmodels = [\"claude*\"]";
    let more = "[route.other]\npath = \"/other\"\nupstreams = [\"sim\"]";
    let keys = Keys { client, more, route: "body_limit = \"1KiB\"", ..Keys::default() };
    let gateway = Gateway::with(&upstream, Http::One, keys);
    let large = format!("{{\"model\":\"claude\",\"x\":\"{}\"}}", "x".repeat(2000));
    for down in BOTH {
        let at = gateway.address();
        let messages = |body: &str| post(at, down, "/v1/messages").body(whole(body.to_owned())).unwrap();
        let version = |builder: http::request::Builder| {
            builder.header("anthropic-version", "2023-06-01").body(whole("")).unwrap()
        };
        let no_key = request(at, down, "POST", "/v1/messages").header("content-type", "application/json");
        let cases = [
            (no_key.body(whole("{}")).unwrap(), 401, "authentication_error", "missing_api_key", Value::Null),
            (messages(r#"{"model":"gpt"}"#), 403, "permission_error", "model_not_allowed", "model".into()),
            (messages(r#"{"model":1}"#), 400, "invalid_request_error", "invalid_body", "model".into()),
            (messages("{"), 400, "invalid_request_error", "invalid_body", Value::Null),
            (messages(&large), 413, "request_too_large", "request_too_large", Value::Null),
            (
                version(authorised(at, down, "GET", "/nowhere")),
                404,
                "not_found_error",
                "route_not_found",
                Value::Null,
            ),
            (
                version(authorised(at, down, "GET", "/other/files")),
                403,
                "permission_error",
                "route_not_allowed",
                Value::Null,
            ),
        ];
        for (request, status, kind, code, param) in cases {
            let answer = send(at, down, request).await;
            let error = anthropic_error(&answer);
            let told = (answer.status.as_u16(), &error["type"], &error["code"], &error["param"]);
            assert_eq!(told, (status, &kind.into(), &code.into(), &param), "{answer:?}");
        }
        // An answer of the upstream's own is not changed.
        let fine = send(at, down, messages(r#"{"model":"claude-x","max_tokens":1,"messages":[]}"#)).await;
        assert_eq!((fine.status.as_u16(), fine.headers.contains_key("request-id")), (200, false), "{fine:?}");
    }
}

#[tokio::test]
async fn an_upstream_that_is_away_is_told_in_anthropics_form() {
    let upstream = simulator().await;
    let url = upstream.url();
    drop(upstream);
    let gateway = Gateway::to(&url, Http::One, Keys::default());
    for down in BOTH {
        let request = post(gateway.address(), down, "/v1/messages").body(whole(r#"{"model":"m"}"#)).unwrap();
        let answer = send(gateway.address(), down, request).await;
        let error = anthropic_error(&answer);
        assert_eq!((answer.status.as_u16(), &error["type"]), (502, &json!("api_error")), "{answer:?}");
    }
}

#[tokio::test]
async fn openais_form_names_the_parameter() {
    let upstream = simulator().await;
    let client = r#"models = ["gpt*"]"#;
    let gateway = Gateway::with(&upstream, Http::One, Keys { client, ..Keys::default() });
    for (down, path, body, param) in [
        (Http::One, "/v1/chat/completions", r#"{"model":"o3"}"#, json!("model")),
        (Http::Two, "/v1/responses", "{}", json!("model")),
        (Http::One, "/v1/chat/completions", r#"{"model":"gpt","stream":1}"#, json!("stream")),
        (Http::Two, "/v1/chat/completions", r#"{"model":"gpt","model":"gpt"}"#, json!("model")),
        (Http::One, "/v1/threads/t/runs", "{}", json!("model")),
        (Http::Two, "/v1/chat/completions", "nonsense", Value::Null),
    ] {
        let request = post(gateway.address(), down, path).body(whole(body)).unwrap();
        let answer = send(gateway.address(), down, request).await;
        answer.code();
        assert_eq!(answer.json()["error"]["param"], param, "{body}");
        assert!(!answer.headers.contains_key("request-id"));
    }
    // Nothing that has no model needs one.
    for (path, body) in
        [("/v1/conversations", "{}"), ("/v1/responses/resp_1/cancel", ""), ("/v1/uploads/u/complete", "{}")]
    {
        let request = post(gateway.address(), Http::One, path).body(whole(body)).unwrap();
        send(gateway.address(), Http::One, request).await;
        assert_eq!(upstream.records().last().unwrap().target, path);
    }
}

#[tokio::test]
async fn a_websocket_handshake_gets_426_where_it_is_off_and_the_connection_goes_on() {
    let upstream = simulator().await;
    let keys = Keys { route: "websocket = false", ..Keys::default() };
    let gateway = Gateway::with(&upstream, Http::One, keys);
    let mut raw = Raw::connect(gateway.address()).await;
    for path in ["/v1/responses", "/v1/realtime?model=gpt-realtime"] {
        raw.write(format!(
            "GET {path} HTTP/1.1\r\nhost: g\r\nauthorization: Bearer {CLIENT_KEY}\r\nconnection: keep-alive, Upgrade\r\n\
             upgrade: websocket\r\nsec-websocket-version: 13\r\nsec-websocket-key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n"
        ))
        .await;
        let answer = raw.until("}}").await;
        assert!(answer.starts_with("HTTP/1.1 426 "), "{answer}");
        assert!(
            answer.contains("\r\nupgrade: HTTP/1.1\r\n") && answer.contains("upgrade_not_supported"),
            "{answer}"
        );
    }
    raw.write(format!(
        "POST /v1/chat/completions HTTP/1.1\r\nhost: g\r\nauthorization: Bearer {CLIENT_KEY}\r\ncontent-type: application/json\r\n\
         content-length: {}\r\n\r\n{CHAT}",
        CHAT.len()
    ))
    .await;
    assert!(raw.until("0\r\n\r\n").await.starts_with("HTTP/1.1 200 "));
    assert_eq!(upstream.records().len(), 1);
}

/// What the message says to a request by this method to this path.
async fn message(gateway: &Gateway, method: &str, path: &str, headers: &[(&str, &str)]) -> (u16, String) {
    let mut request = request(gateway.address(), Http::One, method, path);
    for (name, value) in headers {
        request = request.header(*name, *value);
    }
    let answer = send(gateway.address(), Http::One, request.body(whole("")).unwrap()).await;
    let message = answer.json()["error"]["message"].as_str().unwrap_or_default().to_owned();
    (answer.status.as_u16(), message)
}

#[tokio::test]
async fn a_404_says_which_base_url_would_have_matched() {
    let upstream = simulator().await;
    let more = "[route.azure]\npath = \"/azure/v1\"\nupstreams = [\"sim\"]\n\
                [route.bare]\npath = \"/bare\"\nrewrite = \"/v1\"\nupstreams = [\"sim\"]\n\
                [route.images]\npath = \"/pictures/v1/images\"\nupstreams = [\"sim\"]\n\
                [route.hidden]\nhosts = [\"hidden.example\"]\npath = \"/secret/v1\"\nupstreams = [\"sim\"]";
    let gateway = Gateway::with(&upstream, Http::One, Keys { more, ..Keys::default() });
    let anthropic: &[(&str, &str)] = &[("anthropic-version", "2023-06-01")];
    let bearer: &[(&str, &str)] = &[("authorization", &format!("Bearer {CLIENT_KEY}"))];
    for (method, path, headers, base, correct) in [
        // Without the version, and with two.
        ("POST", "/chat/completions", bearer, "followed by `/v1`", "/v1/chat/completions"),
        ("POST", "/v1/v1/chat/completions", bearer, "followed by `/v1`", "/v1/chat/completions"),
        ("GET", "/v1/v1/models/gpt", bearer, "followed by `/v1`", "/v1/models/gpt"),
        ("POST", "/api/v1/responses", bearer, "followed by `/v1`", "/v1/responses"),
        ("POST", "/azure/embeddings", bearer, "followed by `/azure/v1`", "/azure/v1/embeddings"),
        ("POST", "/bare/v1/embeddings", bearer, "followed by `/bare`", "/bare/embeddings"),
        ("POST", "/pictures/images/edits", bearer, "followed by `/pictures/v1`", "/pictures/v1/images/edits"),
        // Nobody has to be known for it, since nobody gets further without it.
        ("POST", "/chat/completions", &[], "followed by `/v1`", "/v1/chat/completions"),
        // The Anthropic SDKs add the version themselves.
        ("POST", "/v1/v1/messages", anthropic, "without a path", "/v1/messages"),
        ("POST", "/messages", anthropic, "without a path", "/v1/messages"),
        ("GET", "/azure/models", anthropic, "followed by `/azure`", "/azure/v1/models"),
    ] {
        let (status, message) = message(&gateway, method, path, headers).await;
        assert_eq!(status, 404, "{path}: {message}");
        assert!(message.contains(base) && message.contains(&format!(" {correct}. ")), "{path}: {message}");
        assert!(!message.contains("secret"), "{path}: {message}");
    }
    assert!(upstream.records().is_empty());
    for path in ["/elsewhere", "/", "/v1x"] {
        let (status, message) = message(&gateway, "GET", path, bearer).await;
        assert!(
            status == 404 && message.contains("Check the base URL and the path of the request."),
            "{message}"
        );
    }
    for path in ["/health", "/healthz", "/readyz", "/metrics"] {
        let (status, message) = message(&gateway, "GET", path, &[]).await;
        assert!(status == 404 && message.contains("admin listener"), "{path}: {message}");
    }
}

#[tokio::test]
async fn a_providers_key_is_recognised_and_not_repeated() {
    let upstream = simulator().await;
    let gateway = Gateway::with(&upstream, Http::One, Keys::default());
    for (header, key, provider) in [
        ("authorization", "sk-proj-0123456789abcdef", "OpenAI"),
        ("api-key", "sk-0123T3BlbkFJ456789", "OpenAI"),
        ("x-api-key", "sk-ant-api03-0123456789", "Anthropic"),
        ("x-goog-api-key", "AIzaSy0123456789", "Google"),
        ("authorization", "sk-or-v1-0123456789", "OpenRouter"),
    ] {
        let value = if header == "authorization" { format!("Bearer {key}") } else { key.to_owned() };
        let (status, message) = message(&gateway, "GET", "/v1/models", &[(header, &value)]).await;
        assert!(status == 401 && message.contains(&format!("a key of {provider}.")), "{message}");
        assert!(!message.contains("0123"), "{message}");
    }
    let (status, message) =
        message(&gateway, "GET", "/v1/models", &[("authorization", "Bearer sk-sg-unknown")]).await;
    assert!(status == 401 && !message.contains("looks like"), "{message}");
    assert!(upstream.records().is_empty());
}
