//! `[[error]]`: errors in other words.

use http::{HeaderValue, Method, StatusCode};
use serde_json::json;
use sluicegate::simulator::{Cut, Head, Script, Simulator, Step};

use super::{BOTH_LANGUAGES, before, header, message};
use crate::harness::{
    Answer, CHAT, Gateway, GatewayToml, Http, authorised, cut_off, post, send, simulator, whole,
};

const LIMIT: &str = r#"{"error":{"message":"Rate limit reached for gpt-4o","type":"requests","param":null,"code":"rate_limit_exceeded"}}"#;

fn with_rules(upstream: &Simulator, rules: &str) -> GatewayToml {
    before(&upstream.url()).defaults(BOTH_LANGUAGES).more(rules)
}

fn queue_error(upstream: &Simulator, status: u16, body: &str, more: &[(&'static str, &'static str)]) {
    let mut head = Head::json(StatusCode::from_u16(status).unwrap(), body.len());
    head.headers.extend(
        more.iter()
            .map(|(name, value)| (http::HeaderName::from_static(name), HeaderValue::from_static(value))),
    );
    upstream.queue(Script::new(vec![Step::Head(head), Step::Send(body.to_owned().into())]));
}

async fn ask(gateway: &Gateway, path: &str, accepted: &'static str) -> Answer {
    let request = post(gateway.address(), Http::One, path).header("accept-language", accepted);
    send(gateway.address(), Http::One, request.body(whole(CHAT)).unwrap()).await
}

#[tokio::test]
async fn an_upstreams_error_has_other_words_and_the_log_the_original() {
    let upstream = simulator().await;
    let rules = r#"
        [[error]]
        when = { code = "rate_limit_exceeded", upstream = "sim" }
        message = { en = "Busy: {message} {request_id}", zh = "模型繁忙，请稍后重试。" }
        status = 503
        code = "model_busy"
    "#;
    let gateway = Gateway::start(&with_rules(&upstream, rules));
    let limits = [("retry-after", "7"), ("x-should-retry", "true")];
    for (accepted, language, words) in
        [("en", "en", "Busy: Rate limit reached for gpt-4o req"), ("zh-CN", "zh", "模型繁忙，请稍后重试。")]
    {
        queue_error(&upstream, 429, LIMIT, &limits);
        let answer = ask(&gateway, "/v1/chat/completions", accepted).await;
        assert_eq!((answer.status.as_u16(), answer.code()), (503, "model_busy".to_owned()), "{answer:?}");
        assert!(
            message(&answer).contains(&words[..words.len().min(30)]) || message(&answer) == words,
            "{answer:?}"
        );
        assert_eq!(answer.json()["error"]["type"], "requests");
        // What the upstream says about retries stays.
        assert_eq!(
            (header(&answer, "retry-after"), header(&answer, "x-should-retry")),
            (Some("7"), Some("true"))
        );
        assert_eq!(
            (header(&answer, "content-language"), header(&answer, "vary")),
            (Some(language), Some("accept-language"))
        );
        assert_eq!(header(&answer, "content-length"), Some(&*answer.body.len().to_string()));
        let line = gateway.log.line_of(&answer).await;
        assert_eq!((&line["status"], &line["error"]), (&429.into(), &"rate_limit_exceeded".into()), "{line}");
        assert_eq!(line["attempts"][0]["status"], 429, "{line}");
    }
    gateway.finish(2).await;
}

#[tokio::test]
async fn an_error_of_the_gateway_has_other_words_too() {
    let upstream = simulator().await;
    let rules = r#"
        [[error]]
        when = { code = "missing_api_key" }
        message = { en = "Get a key at https://keys.test ({code}, {status}).", zh = "请到 https://keys.test 申请密钥。" }
        [[error]]
        when = { code = "upstream_closed", upstream = "sim" }
        status = 400
        code = "try_again"
        [[error]]
        when = { status = 404 }
        code = "nothing_here"
    "#;
    let gateway = Gateway::start(&with_rules(&upstream, rules));
    let keyless = |path: &'static str, accepted| super::ask(&gateway, Http::One, path, Some(accepted));
    let answer = keyless("/v1/models", "en").await;
    assert_eq!((answer.status.as_u16(), answer.code()), (401, "missing_api_key".to_owned()));
    assert_eq!(message(&answer), "Get a key at https://keys.test (missing_api_key, 401).");
    assert_eq!(message(&keyless("/v1/models", "zh").await), "请到 https://keys.test 申请密钥。");
    // Anthropic's form has the gateway's code as well.
    let answer = keyless("/v1/messages", "zh").await;
    assert_eq!(
        answer.json()["error"],
        json!({
            "type": "authentication_error", "message": "请到 https://keys.test 申请密钥。", "param": null, "code": "missing_api_key"
        })
    );
    let answer = keyless("/other", "zh").await;
    assert_eq!((answer.status.as_u16(), answer.code()), (404, "nothing_here".to_owned()));
    assert!(message(&answer).starts_with("此网关没有"), "what a rule does not say stays: {answer:?}");
    // The SDKs retry a 502, so they are asked to retry the 400.
    upstream.queue(Script::new(vec![Step::Cut(Cut::Close)]));
    let answer = ask(&gateway, "/v1/chat/completions", "en").await;
    assert_eq!((answer.status.as_u16(), answer.code()), (400, "try_again".to_owned()));
    assert_eq!(header(&answer, "x-should-retry"), Some("true"));
    let line = gateway.log.line_of(&answer).await;
    assert_eq!((&line["status"], &line["error"]), (&502.into(), &"upstream_closed".into()), "{line}");
    gateway.finish(5).await;
}

#[tokio::test]
async fn other_shapes_keep_their_form_and_what_no_rule_fits_keeps_its_bytes() {
    let upstream = simulator().await;
    let rules = r#"
        [[error]]
        when = { status = 429 }
        message = { en = "Busy" }
        status = 503
    "#;
    let gateway = Gateway::start(&with_rules(&upstream, rules));
    let anthropic =
        r#"{"type":"error","error":{"type":"rate_limit_error","message":"m"},"request_id":"req_1"}"#;
    let google = r#"[{"error":{"code":429,"message":"m","status":"RESOURCE_EXHAUSTED"}}]"#;
    for (path, body, expected) in [
        (
            "/v1/messages",
            anthropic,
            json!({"type":"error","error":{"type":"overloaded_error","message":"Busy"},"request_id":"req_1"}),
        ),
        (
            "/v1/chat/completions",
            google,
            json!([{"error":{"code":503,"message":"Busy","status":"RESOURCE_EXHAUSTED"}}]),
        ),
        (
            "/v1/chat/completions",
            "<h1>busy</h1>",
            json!({"error":{"message":"Busy","type":"server_error","param":null,"code":null}}),
        ),
    ] {
        queue_error(&upstream, 429, body, &[]);
        let answer = ask(&gateway, path, "en").await;
        assert_eq!((answer.status.as_u16(), answer.json()), (503, expected), "{body}");
    }
    queue_error(&upstream, 400, "{ \"error\": {} }\n", &[]);
    let answer = ask(&gateway, "/v1/chat/completions", "en").await;
    assert_eq!((answer.status.as_u16(), answer.text()), (400, "{ \"error\": {} }\n"));
    assert_eq!(header(&answer, "content-language"), None);
    gateway.finish(4).await;
}

/// An error event that nothing went before becomes a response, which has other words; later ones are the stream's.
#[tokio::test]
async fn events_within_a_stream_stay_as_they_are() {
    let upstream = simulator().await;
    let rules = "[[error]]\nwhen = { code = \"upstream_truncated\" }\nmessage = { en = \"x\" }\ncode = \"y\"\n\
                 [[error]]\nwhen = { code = \"server_overloaded\" }\nmessage = { en = \"x\" }\ncode = \"y\"";
    let gateway = Gateway::start(&with_rules(&upstream, rules).route("commit = \"first_token\""));
    let content = "data: {\"choices\":[{\"index\":0,\"delta\":{\"content\":\"Hi\"}}]}\n\n";
    let error = "data: {\"error\":{\"message\":\"full\",\"type\":\"server_error\",\"param\":null,\"code\":\"server_overloaded\"}}\n\n";
    let ask = || async {
        let request = post(gateway.address(), Http::One, "/v1/chat/completions");
        let body = r#"{"model":"m","stream":true,"messages":[]}"#;
        send(gateway.address(), Http::One, request.body(whole(body)).unwrap()).await
    };
    upstream.queue(cut_off(Head::event_stream(), content.as_bytes(), Cut::Close));
    let answer = ask().await;
    assert!(answer.text().contains("\"code\":\"upstream_truncated\""), "{answer:?}");
    let both = [content, error].concat();
    upstream.queue(cut_off(Head::event_stream(), both.as_bytes(), Cut::Close));
    assert_eq!(ask().await.text(), both);
    upstream.queue(cut_off(Head::event_stream(), error.as_bytes(), Cut::Close));
    let answer = ask().await;
    assert_eq!(
        (answer.status.as_u16(), answer.code(), message(&answer)),
        (500, "y".to_owned(), "x".to_owned())
    );
    gateway.finish(3).await;
}

#[tokio::test]
async fn a_new_configuration_changes_the_rules() {
    let upstream = simulator().await;
    let gateway = Gateway::start(&with_rules(&upstream, ""));
    let ask = || super::ask(&gateway, Http::One, "/v1/models", None);
    assert_eq!(ask().await.code(), "missing_api_key");
    gateway.reload(&with_rules(&upstream, "[[error]]\nwhen = { status = 401 }\ncode = \"no_key\"")).await;
    assert_eq!(ask().await.code(), "no_key");
    gateway.finish(2).await;
}

/// The head is that of the response to a GET.
#[tokio::test]
async fn the_response_to_a_head_request_has_the_status() {
    let upstream = simulator().await;
    let gateway = Gateway::start(&with_rules(
        &upstream,
        "[[error]]\nwhen = { status = 404 }\nstatus = 410\nmessage = { en = \"gone\" }",
    ));
    queue_error(&upstream, 404, "", &[]);
    let request = authorised(gateway.address(), Http::One, Method::HEAD.as_str(), "/v1/models/x")
        .body(whole(""))
        .unwrap();
    let answer = send(gateway.address(), Http::One, request).await;
    assert_eq!(answer.status, 410);
    gateway.finish(1).await;
}
