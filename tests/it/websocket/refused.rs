//! Connections that are refused, by the gateway or by the upstream.

use serde_json::Value;
use sluicegate::websocket::writer::{self, Sender};

use super::rig::{CLOSE, Frame, HANDSHAKE, Upstream, ask, ask_plainly, authorized, before, open};
use crate::harness::{CLIENT_KEY, Gateway, GatewayToml};

#[tokio::test]
async fn a_program_gets_a_status_and_json() {
    let upstream = Upstream::start().await;
    let more = "[route.plain]\npath = \"/plain\"\nupstreams = [\"sim\"]\nwebsocket = false\n\
                [client.other]\nkeys = [\"$OTHER\"]\nmodels = [\"gpt-4o*\"]";
    let other = sluicegate::config::KeyHash::of(b"sk-sg-other-0123456789abcdef0123456789").to_string();
    let gateway = Gateway::start(&before(&upstream).more(more.replace("$OTHER", &other)));
    let key = authorized();
    let limited = "authorization: Bearer sk-sg-other-0123456789abcdef0123456789\r\n";
    let cases = [
        ("/v1/realtime", HANDSHAKE.to_owned(), 401, "missing_api_key"),
        ("/v1/realtime", format!("{HANDSHAKE}authorization: Bearer wrong\r\n"), 401, "invalid_api_key"),
        ("/v1/realtime", format!("{HANDSHAKE}{key}origin: https://app.test\r\n"), 403, "origin_not_allowed"),
        ("/plain/realtime", format!("{HANDSHAKE}{key}"), 426, "upgrade_not_supported"),
        ("/none", format!("{HANDSHAKE}{key}"), 404, "route_not_found"),
        ("/v1/realtime?model=o3", format!("{HANDSHAKE}{limited}"), 403, "model_not_allowed"),
        ("/v1/realtime?deployment=o3", format!("{HANDSHAKE}{limited}"), 403, "model_not_allowed"),
        ("/v1/realtime?Deployment=o3", format!("{HANDSHAKE}{limited}"), 403, "model_not_allowed"),
        ("/v1/realtime?model=gpt-4o&model=o3", format!("{HANDSHAKE}{limited}"), 400, "invalid_request"),
        ("/v1/realtime", format!("connection: close\r\nupgrade: websocket\r\n{key}"), 400, "invalid_request"),
        ("/v1/realtime", format!("{}{key}", HANDSHAKE.replace("13", "8")), 400, "invalid_request"),
        ("/v1/realtime", format!("{}{key}", HANDSHAKE.replace("dGhl", "dGh")), 400, "invalid_request"),
        ("/v1/realtime", format!("{HANDSHAKE}{key}content-length: 3\r\n"), 400, "invalid_request"),
        (
            "/v1/realtime",
            format!("connection: upgrade\r\nupgrade: other\r\n{key}"),
            501,
            "upgrade_not_supported",
        ),
    ];
    let mut exchanges = 0;
    for (path, headers, status, code) in cases {
        exchanges += 1;
        let mut client = ask_plainly(gateway.address(), path, &headers).await;
        assert!(client.head.starts_with(&format!("HTTP/1.1 {status} ")), "{headers}: {}", client.head);
        let body = client.body().await;
        assert_eq!(body["error"]["code"], code, "{body}");
        assert!(client.header("sec-websocket-accept").is_none());
    }
    gateway.finish(exchanges).await;
}

#[tokio::test]
async fn a_page_is_accepted_and_told_why_it_is_closed() {
    let upstream = Upstream::start().await;
    let gateway = Gateway::start(&before(&upstream).route("cors = { origins = [\"https://app.test\"] }"));
    let page = |origin: &str, key: &str| {
        format!("origin: {origin}\r\nsec-websocket-protocol: realtime, openai-insecure-api-key.{key}\r\n")
    };
    for (headers, code, expected) in [
        (page("https://app.test", "sk-wrong"), "invalid_api_key", "Incorrect API key"),
        (page("https://evil.test", CLIENT_KEY), "origin_not_allowed", "does not accept requests"),
        (page("https://app.test.evil.test", CLIENT_KEY), "origin_not_allowed", "does not accept"),
    ] {
        let mut client = ask(gateway.address(), "/v1/realtime", &headers).await;
        assert!(client.head.starts_with("HTTP/1.1 101 "), "{}", client.head);
        assert_eq!(client.header("sec-websocket-protocol"), Some("realtime"));
        let (close, reason) = client.next_close().await;
        assert!(close == 3000 && reason.contains(expected), "{close} {reason}");
        client.close(3000, "").await;
        assert!(client.rest().await.is_empty());
        let line = gateway.log.wait_for(|lines| lines.last().cloned()).await;
        assert_eq!(line["status"], 101, "{line}");
        gateway.log.wait_for(|lines| lines.iter().any(|line| line["error"] == code).then_some(())).await;
    }
    let mut lines = 3;
    // The upstream's own refusal, which a page would not see either; overload is a reason to come again.
    for (status, expected) in [(403, 3000), (503, 1013)] {
        let headers = page("https://app.test", CLIENT_KEY);
        let asking = ask(gateway.address(), "/v1/realtime", &headers);
        let failing = async {
            let mut server = upstream.next().await;
            let head = format!(
                "HTTP/1.1 {status} No\r\ncontent-length: 2\r\ncontent-type: application/json\r\n\r\n{{}}"
            );
            server.raw(head.as_bytes()).await;
            server
        };
        let (mut client, _server) = tokio::join!(asking, failing);
        let (close, reason) = client.next_close().await;
        assert_eq!(close, expected, "{reason}");
        assert!(reason.contains(&status.to_string()), "{reason}");
        client.close(expected, "").await;
        client.rest().await;
        lines += 1;
        let line = gateway.log.line(lines).await;
        assert_eq!((&line["status"], &line["error"]), (&101.into(), &"upstream_error".into()), "{line}");
    }
}

#[tokio::test]
async fn reasons_are_in_the_clients_language() {
    let upstream = Upstream::start().await;
    let toml = before(&upstream)
        .defaults("languages = [\"en\", \"zh\"]")
        .route("cors = { origins = [\"https://app.test\"] }")
        .client("models = [\"gpt-4o*\"]");
    let gateway = Gateway::start(&toml);
    // A program's handshake, a page's, and a message.
    let chinese = "accept-language: zh-CN,zh;q=0.9\r\n";
    let mut client =
        ask(gateway.address(), "/v1/realtime", &format!("{chinese}authorization: Bearer x\r\n")).await;
    assert!(client.head.starts_with("HTTP/1.1 401 "), "{}", client.head);
    assert_eq!(client.header("content-language"), Some("zh"));
    assert!(client.body().await["error"]["message"].as_str().unwrap().contains("密钥不正确"));
    let page = format!(
        "{chinese}origin: https://app.test\r\nsec-websocket-protocol: realtime, openai-insecure-api-key.sk-wrong\r\n"
    );
    let mut client = ask(gateway.address(), "/v1/realtime", &page).await;
    let (close, reason) = client.next_close().await;
    assert!(
        close == 3000 && reason.starts_with("API 密钥不正确。") && reason.len() <= 123,
        "{close} {reason}"
    );
    client.close(3000, "").await;
    let key = format!("{chinese}{}", authorized());
    let asking = ask(gateway.address(), "/v1/realtime?model=gpt-4o", &key);
    let accepting = async {
        let mut server = upstream.next().await;
        server.accept("").await;
        server
    };
    let (mut client, _server) = tokio::join!(asking, accepting);
    client.text(r#"{"type":"response.create","model":"o3"}"#).await;
    let event: Value = serde_json::from_str(&client.next_text().await).unwrap();
    assert_eq!(event["error"]["code"], "model_not_allowed", "{event}");
    assert!(event["error"]["message"].as_str().unwrap().contains("无权使用模型 `o3`"), "{event}");
    let (close, reason) = client.next_close().await;
    assert!(close == 1008 && reason.contains("无权使用模型"), "{close} {reason}");
}

#[tokio::test]
async fn an_upstreams_error_is_passed_on() {
    let upstream = Upstream::start().await;
    let gateway = Gateway::start(&before(&upstream));
    let error = r#"{"error":{"message":"no such model","code":"model_not_found"}}"#;
    let key = authorized();
    let asking = ask(gateway.address(), "/v1/realtime?model=m", &key);
    let failing = async {
        let mut server = upstream.next().await;
        let length = error.len();
        let head =
            format!("HTTP/1.1 404 No\r\ncontent-length: {length}\r\ncontent-type: application/json\r\n\r\n");
        server.raw(head.as_bytes()).await;
        server.raw(error.as_bytes()).await;
        server
    };
    let (mut client, _server) = tokio::join!(asking, failing);
    assert!(client.head.starts_with("HTTP/1.1 404 "), "{}", client.head);
    assert_eq!(client.body().await, serde_json::from_str::<Value>(error).unwrap());
    // The connection is still one of HTTP.
    let line = gateway.log.line(1).await;
    assert_eq!((&line["status"], &line["error"]), (&404.into(), &"model_not_found".into()), "{line}");
}

#[tokio::test]
async fn a_message_that_names_a_forbidden_model_does_not_go_upstream() {
    let upstream = Upstream::start().await;
    let gateway = Gateway::start(&before(&upstream).client("models = [\"gpt-4o*\"]"));
    let padding = "x".repeat(200_000);
    let forbidden = [
        r#"{"type":"response.create","model":"o3"}"#.to_owned(),
        r#"{"model":"gpt-4o","type":"response.create","model":"o3"}"#.to_owned(),
        r#"{"type":"response.create","mod\u0065l":"o3"}"#.to_owned(),
        format!(r#"{{"type":"response.create","input":"{padding}","model":"o3"}}"#),
        format!(r#"{{"type":"response.create","input":"{padding}","mod\u0065l":"o3"}}"#),
        r#"{"type":"session.update","session":{"audio":{"input":{"transcription":{"model":"o3"}}}}}"#
            .to_owned(),
        r#"{"type":"x","type":"response.create","x":NaN,"model":"o3"}"#.to_owned(),
        r#"{"type":"response.create"}"#.to_owned(),
        // Go's encoding/json does not look at case, and takes the last of both.
        r#"{"type":"response.create","model":"gpt-4o","Model":"o3"}"#.to_owned(),
        r#"{"type":"session.update","Session":{"MODEL":"o3"}}"#.to_owned(),
        format!(r#"{{"type":"response.create","model":"gpt-4o","input":"{padding}","Model":"o3"}}"#),
        // Programs that guess the coding of bytes read these.
        "\u{feff}{\"type\":\"response.create\",\"model\":\"o3\"}".to_owned(),
        r#"[{"type":"response.create","model":"o3"}]"#.to_owned(),
    ];
    let count = forbidden.len();
    for message in forbidden {
        let (mut client, mut server) = open(&gateway, &upstream, "/v1/responses").await;
        let allowed = r#"{"type":"response.create","model":"gpt-4o-mini"}"#;
        if message.contains("model") {
            client.text(allowed).await;
            assert_eq!(server.next_text().await, allowed);
        }
        client.raw(&writer::text(client.sender(), &message)).await;
        let event: Value = serde_json::from_str(&client.next_text().await).unwrap();
        assert_eq!(event["type"], "error", "{event}");
        let code = event["error"]["code"].as_str().unwrap();
        assert!(matches!(code, "model_not_allowed" | "model_required"), "{event}");
        let (close, reason) = client.next_close().await;
        assert_eq!(close, 1008, "{reason}");
        client.close(1008, "").await;
        client.rest().await;
        // Not the end of the message, in any case.
        let rest = server.rest().await;
        assert!(
            !rest.windows(4).any(|window| window == b"\"o3\"") && rest.len() < message.len().max(200),
            "{}",
            rest.len()
        );
    }
    let line = gateway.log.line(count).await;
    assert_eq!(line["close_code"], 1008, "{line}");
}

/// A route that serves the models of tables only serves no others by messages.
#[tokio::test]
async fn a_message_that_names_a_model_without_a_table_does_not_go_upstream() {
    let upstream = Upstream::start().await;
    let toml = before(&upstream)
        .route("model_tables = \"only\"")
        .more("[model.gpt-4o]\nupstreams = [\"sim\"]\naliases = [\"default\"]");
    let gateway = Gateway::start(&toml);
    let served = r#"{"type":"response.create","model":"gpt-4o"}"#;
    for message in [
        r#"{"type":"response.create","model":"o3"}"#,
        r#"{"type":"session.update","session":{"model":"o3"}}"#,
    ] {
        let (mut client, mut server) = open(&gateway, &upstream, "/v1/responses").await;
        for passes in [served, r#"{"type":"response.create"}"#, "no JSON"] {
            client.text(passes).await;
            assert_eq!(server.next_text().await, passes);
        }
        client.text(message).await;
        let event: Value = serde_json::from_str(&client.next_text().await).unwrap();
        assert_eq!(event["error"]["code"], "model_not_found", "{event}");
        assert_eq!(client.next_close().await.0, 1008, "{message}");
        client.close(1008, "").await;
        client.rest().await;
        server.rest().await;
    }
    gateway.finish(2).await;
}

/// An upstream that is less strict than RFC 6455 reads messages in these frames.
#[tokio::test]
async fn a_limited_client_cannot_hide_a_message_in_unusual_frames() {
    let upstream = Upstream::start().await;
    let gateway = Gateway::start(&before(&upstream).client("models = [\"gpt-4o*\"]"));
    let message = r#"{"type":"response.create","model":"o3"}"#;
    // Reserved bits, a continuation of nothing, a reserved opcode, a message within another.
    let firsts: [&[u8]; 6] = [&[0xc1], &[0xa1], &[0x80], &[0x83], &[0x01, 0xc1], &[0x01, 0x81]];
    for first in firsts {
        let (mut client, mut server) = open(&gateway, &upstream, "/v1/realtime?model=gpt-4o").await;
        for first in first {
            let mut frame = writer::text(client.sender(), message);
            frame[0] = *first;
            client.raw(&frame).await;
        }
        let event: Value = serde_json::from_str(&client.next_text().await).unwrap();
        assert_eq!(event["type"], "error", "{event}");
        assert_eq!(client.next_close().await.0, 1008, "{first:x?}");
        client.close(1008, "").await;
        client.rest().await;
        server.rest().await;
    }
    gateway.finish(firsts.len()).await;
}

/// What the gateway does not know may run a model that the message does not name, or names elsewhere.
#[tokio::test]
async fn a_limited_client_that_has_named_no_model_sends_nothing_else() {
    let upstream = Upstream::start().await;
    let gateway = Gateway::start(&before(&upstream).client("models = [\"gpt-4o*\"]"));
    for (path, message) in [
        ("/v1/realtime?call_id=rtc_1", r#"{"type":"input_audio_buffer.append","audio":"AAAA"}"#),
        ("/v1/live", r#"{"setup":{"model":"models/o3"}}"#),
        ("/v1/live", r#"{"model":"gpt-4o","setup":{"model":"models/o3"}}"#),
    ] {
        let (mut client, mut server) = open(&gateway, &upstream, path).await;
        client.text(message).await;
        let event: Value = serde_json::from_str(&client.next_text().await).unwrap();
        assert_eq!(event["type"], "error", "{event}");
        assert_eq!(client.next_close().await.0, 1008, "{message}");
        client.close(1008, "").await;
        client.rest().await;
        server.rest().await;
    }
}

#[tokio::test]
async fn what_a_limited_client_may_do_passes() {
    let upstream = Upstream::start().await;
    let gateway = Gateway::start(&before(&upstream).client("models = [\"gpt-4o*\"]"));
    let (mut client, mut server) = open(&gateway, &upstream, "/v1/realtime?model=gpt-4o-realtime").await;
    let audio = format!(r#"{{"type":"input_audio_buffer.append","audio":"{}"}}"#, "A".repeat(300_000));
    for message in [r#"{"type":"response.create"}"#, "", "no JSON", &audio] {
        client.text(message).await;
        assert_eq!(server.next_text().await, message);
    }
    client.raw(&writer::close(Sender::Client { mask: [1; 4] }, 1000, "")).await;
    let expected = Frame { fin: true, opcode: CLOSE, masked: true, payload: vec![3, 232] };
    assert_eq!(server.next().await, expected);
}

/// Both readers of the gateway's keys must agree on who the client is.
#[tokio::test]
async fn a_page_with_two_keys_of_different_clients_is_refused() {
    let upstream = Upstream::start().await;
    let second = "sk-sg-other-0123456789abcdef0123456789";
    let hash = sluicegate::config::KeyHash::of(second.as_bytes());
    let toml = GatewayToml::before(&upstream.url(), "").more(format!("[client.other]\nkey = \"{hash}\""));
    let gateway = Gateway::start(&toml);
    let headers =
        format!("{}sec-websocket-protocol: realtime, openai-insecure-api-key.{second}\r\n", authorized());
    let mut client = ask(gateway.address(), "/v1/realtime", &headers).await;
    assert!(client.head.starts_with("HTTP/1.1 400 "), "{}", client.head);
    assert_eq!(client.body().await["error"]["code"], "conflicting_credentials");
}

/// A refused handshake leaves an ordinary connection, which may be upgraded by a later request.
#[tokio::test]
async fn a_connection_that_was_refused_may_ask_again() {
    let upstream = Upstream::start().await;
    let gateway = Gateway::start(&before(&upstream));
    let mut client = ask_plainly(gateway.address(), "/v1/realtime", HANDSHAKE).await;
    assert!(client.head.starts_with("HTTP/1.1 401 "), "{}", client.head);
    client.body().await;
    let second = format!("GET /v1/realtime HTTP/1.1\r\nhost: g\r\n{HANDSHAKE}{}\r\n", authorized());
    client.raw(second.as_bytes()).await;
    let (_, mut server) = tokio::join!(client.read_head(), upstream.accept());
    assert!(client.head.starts_with("HTTP/1.1 101 "), "{}", client.head);
    client.text("hello").await;
    assert_eq!(server.next_text().await, "hello");
}

/// A page that announces a body is refused as well, whether it comes or not.
#[tokio::test]
async fn a_page_with_a_body_is_refused_and_the_body_is_no_frame() {
    let upstream = Upstream::start().await;
    let gateway = Gateway::start(&before(&upstream).route("cors = { origins = [\"https://app.test\"] }"));
    for body in ["", "\u{1}\u{1}a", "\u{1}"] {
        let headers = format!(
            "{HANDSHAKE}origin: https://app.test\r\ncontent-length: 3\r\n\
             sec-websocket-protocol: realtime, openai-insecure-api-key.{CLIENT_KEY}\r\n"
        );
        let mut client = ask_plainly(gateway.address(), "/v1/realtime", &headers).await;
        assert!(client.head.starts_with("HTTP/1.1 101 "), "{}", client.head);
        client.raw(body.as_bytes()).await;
        let (code, reason) = client.next_close().await;
        assert!(code == 3000 && reason.contains("has no body"), "{code} {reason}");
        client.end().await;
        assert!(client.rest().await.is_empty());
    }
    gateway.finish(3).await;
}

#[tokio::test]
async fn routes_override_the_default() {
    let upstream = Upstream::start().await;
    let more = "[route.voice]\npath = \"/voice\"\nupstreams = [\"sim\"]\nwebsocket = true\n";
    let gateway = Gateway::start(&before(&upstream).defaults("websocket = false").more(more));
    let client = ask(gateway.address(), "/v1/realtime", &authorized()).await;
    assert!(client.head.starts_with("HTTP/1.1 426 "), "{}", client.head);
    let (mut client, mut server) = open(&gateway, &upstream, "/voice/realtime").await;
    client.text("hello").await;
    assert_eq!(server.next_text().await, "hello");
}

/// Overload ends no tunnel that is open; it refuses new ones. A page gets the close code that means "try again later".
#[tokio::test]
async fn new_tunnels_beyond_a_limit_are_refused_and_open_ones_stay() {
    let upstream = Upstream::start().await;
    let lines = "retry = \"off\"\nmax_connections = 1\ntimeout = { connect = \"200ms\" }";
    let toml = GatewayToml::before(&upstream.url(), lines);
    let gateway = Gateway::start(&toml.route("cors = { origins = [\"https://app.test\"] }"));
    let (mut client, mut server) = open(&gateway, &upstream, "/v1/realtime").await;
    let refused = ask(gateway.address(), "/v1/realtime", &authorized()).await;
    assert!(refused.head.starts_with("HTTP/1.1 503 "), "{}", refused.head);
    assert!(refused.header("retry-after").is_some(), "{}", refused.head);
    let headers = format!(
        "origin: https://app.test\r\nsec-websocket-protocol: realtime, openai-insecure-api-key.{CLIENT_KEY}\r\n"
    );
    let mut page = ask(gateway.address(), "/v1/realtime", &headers).await;
    assert_eq!(page.next_close().await.0, 1013);
    page.close(1013, "").await;
    page.rest().await;
    client.text("still here").await;
    assert_eq!(server.next_text().await, "still here");
}
