//! How a connection is opened, what passes on it, and what is logged.

use serde_json::json;

use super::rig::{Frame, TEXT, Upstream, ask, ask_plainly, authorized, before, get, open};
use crate::harness::{CLIENT_KEY, Gateway, GatewayToml, UPSTREAM_KEY};

const DONE: &str = r#"{"type":"response.done","response":{"status":"completed","usage":{"total_tokens":30,"input_tokens":10,"output_tokens":20}}}"#;
const CREATED: &str = r#"{"type":"response.created","response":{"model":"gpt-answers"}}"#;

#[tokio::test]
async fn frames_pass_unchanged_both_ways_and_the_log_has_one_line() {
    let upstream = Upstream::start().await;
    let gateway = Gateway::start(&before(&upstream));
    let (mut client, mut server) = open(&gateway, &upstream, "/v1/realtime?model=gpt-realtime").await;
    assert!(server.head.starts_with("GET /v1/realtime?model=gpt-realtime HTTP/1.1\r\n"), "{}", server.head);
    assert_eq!(server.header("sec-websocket-extensions"), None, "compressed messages could not be read");
    assert!(client.header("x-request-id").is_some());
    client.text("to the server").await;
    let frame = Frame { fin: true, opcode: TEXT, masked: true, payload: b"to the server".to_vec() };
    assert_eq!(server.next().await, frame);
    // A fragmented message with a ping in it, an unknown opcode with reserved bits, byte by byte.
    let odd = b"\x01\x01a\x89\x02hi\x80\x01b\xf3\x01x";
    for byte in odd {
        server.raw(&[*byte]).await;
    }
    for (fin, opcode, payload) in [(false, 1, "a"), (true, 9, "hi"), (true, 0, "b"), (true, 3, "x")] {
        let expected = Frame { fin, opcode, masked: false, payload: payload.into() };
        assert_eq!(client.next().await, expected);
    }
    for _ in 0..2 {
        client.text(r#"{"type":"response.create"}"#).await;
        server.next().await;
        server.text(CREATED).await;
        server.text(DONE).await;
        client.next_text().await;
        assert_eq!(client.next_text().await, DONE);
    }
    client.close(1000, "bye").await;
    assert_eq!(server.next_close().await, (1000, "bye".to_owned()));
    server.close(1000, "bye").await;
    assert_eq!(client.next_close().await, (1000, "bye".to_owned()));
    server.end().await;
    assert!(client.rest().await.is_empty());
    drop(client);
    let line = gateway.log.line(1).await;
    for (field, expected) in [
        ("status", json!(101)),
        ("model", json!("gpt-realtime")),
        ("response_model", json!("gpt-answers")),
        ("turns", json!(2)),
        ("turns_failed", json!(0)),
        ("tokens_in", json!(20)),
        ("tokens_out", json!(40)),
        ("frames", json!(9)),
        ("frames_in", json!(4)),
        ("close_code", json!(1000)),
        ("who", json!("downstream")),
        ("phase", json!("done")),
        ("caller", json!("tester")),
    ] {
        assert_eq!(line[field], expected, "{field} of {line}");
    }
    assert!(line["error"].is_null(), "{line}");
    gateway.finish(1).await;
}

#[tokio::test]
async fn bytes_right_behind_either_handshake_arrive() {
    let upstream = Upstream::start().await;
    let gateway = Gateway::start(&before(&upstream));
    let headers = format!("{}sec-websocket-key: dGhlIHNhbXBsZSBub25jZQ==\r\n", authorized());
    let request = format!(
        "connection: upgrade\r\nupgrade: websocket\r\nsec-websocket-version: 13\r\n{headers}\r\n\u{1}\u{2}hi"
    );
    let serving = async {
        let mut server = upstream.next().await;
        server.accept("\r\n\u{1}\u{2}yo").await;
        server
    };
    // The blank line of each head comes from these texts: the rig's own one is then a part of what follows it.
    let (mut client, mut server) =
        tokio::join!(ask_plainly(gateway.address(), "/v1/responses", &request), serving);
    assert_eq!(client.next().await.payload, b"yo");
    assert_eq!(server.next_bytes(4).await, b"\x01\x02hi");
}

/// A web page cannot set headers: its key is a subprotocol.
#[tokio::test]
async fn the_key_of_a_page_never_goes_upstream_and_realtime_is_selected() {
    let upstream = Upstream::start().await;
    let toml = before(&upstream).route("cors = { origins = [\"https://app.test\"] }");
    let gateway = Gateway::start(&toml);
    let offer = format!(
        "origin: https://app.test\r\nsec-websocket-protocol: realtime, openai-insecure-api-key.{CLIENT_KEY}\r\n\
         sec-websocket-protocol: openai-organization.org-1, openai-beta.realtime-v1\r\n"
    );
    for selected in [None, Some("realtime"), Some("openai-beta.realtime-v1")] {
        let asking = ask(gateway.address(), "/v1/realtime", &offer);
        let serving = async {
            let mut server = upstream.next().await;
            let line = selected.map(|name| format!("sec-websocket-protocol: {name}\r\n"));
            server.accept(&line.unwrap_or_default()).await;
            server
        };
        let (client, server) = tokio::join!(asking, serving);
        assert!(!server.head.contains(CLIENT_KEY) && server.head.contains(UPSTREAM_KEY), "{}", server.head);
        let offered = server.header("sec-websocket-protocol");
        assert_eq!(offered, Some("realtime, openai-beta.realtime-v1"), "{}", server.head);
        let expected = selected.or(Some("realtime"));
        assert_eq!(client.header("sec-websocket-protocol"), expected, "{}", client.head);
        assert!(!client.head.contains(UPSTREAM_KEY));
    }
    assert!(!gateway.log.text().contains(CLIENT_KEY));
}

/// A message may say anything, also what the client presented as its key.
#[tokio::test]
async fn the_key_of_a_client_is_not_logged_from_messages_either() {
    let upstream = Upstream::start().await;
    let gateway = Gateway::start(&before(&upstream));
    for message in [
        format!(r#"{{"type":"response.create","model":"{CLIENT_KEY}"}}"#),
        format!(r#"{{"type":"response.created","response":{{"model":"{CLIENT_KEY}"}}}}"#),
        format!(r#"{{"type":"error","error":{{"code":"{CLIENT_KEY}"}}}}"#),
        format!(r#"{{"type":"error","error":{{"code":"{UPSTREAM_KEY}"}}}}"#),
    ] {
        let (mut client, mut server) = open(&gateway, &upstream, "/v1/responses").await;
        client.text(&message).await;
        server.next().await;
        server.text(&message).await;
        client.next().await;
        client.close(1000, "").await;
        server.next().await;
        server.close(1000, "").await;
        server.end().await;
        client.rest().await;
    }
    gateway.log.line(4).await;
    let log = gateway.log.text();
    assert!(!log.contains(CLIENT_KEY) && !log.contains(UPSTREAM_KEY), "{log}");
}

/// On a route for anybody too, and however the item is written.
#[tokio::test]
async fn a_key_in_an_item_of_another_case_does_not_go_upstream() {
    let upstream = Upstream::start().await;
    let gateway = Gateway::start(&before(&upstream).route("access = \"open\""));
    let offer = format!(
        "sec-websocket-protocol: realtime, OpenAI-Insecure-Api-Key.{CLIENT_KEY}, OpenAI-Project.proj-1\r\n"
    );
    let (client, server) = tokio::join!(ask(gateway.address(), "/v1/realtime", &offer), upstream.accept());
    assert_eq!(server.header("sec-websocket-protocol"), Some("realtime"), "{}", server.head);
    assert!(!server.head.contains(CLIENT_KEY));
    assert_eq!(client.header("sec-websocket-protocol"), Some("realtime"), "{}", client.head);
}

#[tokio::test]
async fn the_next_candidate_is_tried_until_one_switches() {
    let (first, second) = (Upstream::start().await, Upstream::start().await);
    let toml = GatewayToml::new().upstream("first", &first.url(), "retry = { backoff = \"1ms\" }").upstream(
        "second",
        &second.url(),
        "",
    );
    let gateway = Gateway::start(&toml);
    let failures = [
        "HTTP/1.1 503 No\r\ncontent-length: 0\r\n\r\n",
        "HTTP/1.1 101 Yes\r\nconnection: upgrade\r\nupgrade: other\r\n\r\n",
        "HTTP/1.1 101 Yes\r\nconnection: upgrade\r\nupgrade: websocket\r\nsec-websocket-accept: wrong\r\n\r\n",
        "",
    ];
    let key = authorized();
    for failure in failures {
        let asking = ask(gateway.address(), "/v1/realtime?model=m", &key);
        let failing = async {
            let mut server = first.next().await;
            server.raw(failure.as_bytes()).await;
            server.end().await;
            server
        };
        let (client, _failed, mut server) = tokio::join!(asking, failing, second.accept());
        assert!(client.head.starts_with("HTTP/1.1 101 "), "{}", client.head);
        let mut client = client;
        client.text("hello").await;
        assert_eq!(server.next_text().await, "hello");
    }
    let line = gateway.log.line(4).await;
    assert_eq!(line["upstream"], "second", "{line}");
    assert_eq!(line["attempts"].as_array().map(Vec::len), Some(2), "{line}");
}

#[tokio::test]
async fn the_model_of_a_candidate_stands_in_the_query() {
    let upstream = Upstream::start().await;
    let toml = GatewayToml::new()
        .upstream("sim", &upstream.url(), "")
        .route_to("upstreams = [{ upstream = \"sim\", model = \"gpt eu/2\" }]");
    let gateway = Gateway::start(&toml);
    let (_client, server) = open(&gateway, &upstream, "/v1/realtime?a=b&model=gpt-4o&intent=x").await;
    let line = server.head.lines().next().unwrap();
    assert_eq!(line, "GET /v1/realtime?a=b&model=gpt%20eu%2F2&intent=x HTTP/1.1");
}

#[tokio::test]
async fn open_connections_are_shown() {
    let upstream = Upstream::start().await;
    let gateway = Gateway::start(&before(&upstream));
    let (mut client, mut server) = open(&gateway, &upstream, "/v1/responses").await;
    server.text(CREATED).await;
    server.text(DONE).await;
    client.next_text().await;
    client.next_text().await;
    let admin = gateway.admin.unwrap();
    let status = get(admin, "/status").await;
    assert!(status.contains(r#""websockets": 1"#) && status.contains(r#""turns": 1"#), "{status}");
    let metrics = get(admin, "/metrics").await;
    assert!(metrics.contains("sluicegate_websocket_connections_open 1\n"), "{metrics}");
    client.close(1000, "").await;
    server.next().await;
    server.close(1000, "").await;
    server.end().await;
    client.rest().await;
    drop(client);
    gateway.log.line(1).await;
    let metrics = get(admin, "/metrics").await;
    for expected in [
        "sluicegate_websocket_connections_open 0\n",
        "sluicegate_websocket_turns_total{route=\"main\"} 1\n",
        "sluicegate_websocket_connections_total{route=\"main\"} 1\n",
        "gen_ai_token_type=\"output\"} 20\n",
    ] {
        assert!(metrics.contains(expected), "{expected} in {metrics}");
    }
}

/// The upstream that is asked first cannot be reached, so what is made belongs to an account that the rule does not give.
#[tokio::test]
async fn the_ids_of_turns_are_remembered_if_another_account_has_made_them() {
    let upstream = Upstream::start().await;
    let nobody = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let retry = "retry = { backoff = \"1ms\" }";
    let toml =
        GatewayToml::before(&format!("http://{nobody}"), retry).upstream("other", &upstream.url(), retry);
    let gateway = Gateway::start(&toml);
    let (mut client, mut server) = open(&gateway, &upstream, "/v1/responses").await;
    let remembered = || gateway.inside().accounts.size().entries;
    assert_eq!(remembered(), 0);
    for id in ["resp_first", "resp_second"] {
        client.text(r#"{"type":"response.create"}"#).await;
        server.next().await;
        server.text(&format!(r#"{{"type":"response.created","response":{{"id":"{id}"}}}}"#)).await;
        client.next_text().await;
    }
    assert_eq!(remembered(), 2);
}
