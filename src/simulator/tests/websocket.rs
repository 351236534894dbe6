//! The imitations of OpenAI's WebSocket APIs, frame by frame.

use serde_json::Value;

use super::*;
use crate::websocket::{
    FramePart, FrameScanner, Opcode,
    writer::{self, Sender},
};

const CLIENT: Sender = Sender::Client { mask: [7, 1, 9, 3] };

impl Client {
    /// A connection that the simulator has accepted.
    async fn switched(simulator: &Simulator, path: &str, headers: &str) -> Self {
        let mut client = Self::of(simulator).await;
        client.send(&handshake(path, headers)).await;
        let head = client.until("\r\n\r\n").await;
        assert!(head.starts_with("HTTP/1.1 101 ") && head.contains("s3pPLMBiTxaQ9kYGzzhZRbK+xOo="), "{head}");
        client
    }

    async fn say(&mut self, text: &str) {
        self.socket.write_all(&writer::text(CLIENT, text)).await.unwrap();
    }

    /// The next frame: what it is, and its payload.
    async fn frame(&mut self) -> (Opcode, Vec<u8>) {
        loop {
            let (mut scanner, mut rest) = (FrameScanner::default(), &*self.inbox);
            let (mut opcode, mut payload) = (None, Vec::new());
            while let Some(part) = scanner.next(&mut rest) {
                match part {
                    FramePart::Start(frame) => opcode = Some(frame.opcode),
                    FramePart::Payload { bytes, .. } => payload.extend_from_slice(bytes),
                    FramePart::End => {
                        self.inbox = rest.to_vec();
                        return (opcode.unwrap(), payload);
                    }
                }
            }
            assert_ne!(self.socket.read_buf(&mut self.inbox).await.unwrap(), 0, "the connection has ended");
        }
    }

    /// The next event, which is of this type.
    async fn event(&mut self, kind: &str) -> Value {
        let (opcode, payload) = self.frame().await;
        let event: Value = serde_json::from_slice(&payload).unwrap();
        assert_eq!((opcode, &event["type"]), (Opcode::Text, &Value::from(kind)), "{event}");
        event
    }
}

/// With the key of RFC 6455 section 1.3.
fn handshake(path: &str, headers: &str) -> String {
    format!(
        "GET {path} HTTP/1.1\r\nHost: sim\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\
         Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n{headers}\r\n"
    )
}

#[tokio::test]
async fn a_realtime_turn_can_be_cancelled_and_the_session_closed() {
    let simulator = simulator().await;
    let mut client = Client::switched(&simulator, "/v1/realtime?model=sim-f9-i60000", "").await;
    assert_eq!(client.event("session.created").await["session"]["model"], "sim-f9-i60000");
    client.say(r#"{"type":"session.update","session":{"output_modalities":["text"],"audio":{"output":{"speed":2}}}}"#).await;
    let session = &client.event("session.updated").await["session"];
    assert_eq!(
        (&session["audio"]["output"]["speed"], &session["audio"]["output"]["voice"]),
        (&2.into(), &"marin".into())
    );
    client.say(r#"{"type":"response.create"}"#).await;
    for kind in [
        "response.created",
        "response.output_item.added",
        "conversation.item.added",
        "response.content_part.added",
    ] {
        client.event(kind).await;
    }
    assert_eq!(client.event("response.output_text.delta").await["delta"], "The");
    client.say(r#"{"type":"response.create","event_id":"mine"}"#).await;
    let error = &client.event("error").await["error"];
    assert_eq!(
        (&error["code"], &error["event_id"]),
        (&"conversation_already_has_active_response".into(), &"mine".into())
    );
    client.say(r#"{"type":"response.cancel"}"#).await;
    let response = &client.event("response.done").await["response"];
    assert_eq!((&response["status"], &response["usage"]), (&"cancelled".into(), &Value::Null));
    client.socket.write_all(&[0x89, 0x81, 0, 0, 0, 0, b'!']).await.unwrap();
    assert_eq!(client.frame().await, (Opcode::Pong, b"!".to_vec()));
    client.socket.write_all(&writer::close(CLIENT, 4000, "enough")).await.unwrap();
    assert_eq!(client.frame().await, (Opcode::Close, 4000_u16.to_be_bytes().to_vec()));
    assert_eq!(ended(&simulator.record(1).await), Ended::Answered);
}

#[tokio::test]
async fn responses_follow_one_another_and_may_be_continued() {
    let simulator = simulator().await;
    let mut client = Client::switched(&simulator, "/v1/responses", "").await;
    for message in [
        r#"{"type":"response.create","model":"sim-f1"}"#,
        r#"{"type":"response.create","model":"sim-f1","generate":false,"stream_id":"lane"}"#,
    ] {
        client.say(message).await;
    }
    for kind in [
        "response.created",
        "response.in_progress",
        "response.output_item.added",
        "response.content_part.added",
        "response.output_text.delta",
        "response.output_text.done",
        "response.content_part.done",
        "response.output_item.done",
    ] {
        client.event(kind).await;
    }
    let first = client.event("response.completed").await;
    assert!(first["response"]["usage"]["total_tokens"].is_u64() && first["stream_id"].is_null(), "{first}");
    assert_eq!(client.event("response.created").await["stream_id"], "lane");
    client.event("response.completed").await;
    let id = first["response"]["id"].as_str().unwrap();
    client.say(&format!(r#"{{"type":"response.create","model":"m","previous_response_id":"{id}"}}"#)).await;
    client.event("response.created").await;
}

#[tokio::test]
async fn a_handshake_may_get_an_ordinary_response() {
    let options = Options { require_key: Some("sk-right".to_owned()), ..Options::default() };
    let simulator = Simulator::start(options).await.unwrap();
    let right = "Authorization: Bearer sk-right\r\n";
    for (path, headers, status) in [
        ("/v1/realtime", "", 401),
        ("/v1/other", right, 404),
        ("/v1/responses", &*format!("{right}X-Simulate: status=429\r\n"), 429),
    ] {
        let mut client = Client::of(&simulator).await;
        client.send(&handshake(path, headers)).await;
        let (head, _) = client.answer().await;
        assert!(head.starts_with(&format!("HTTP/1.1 {status} ")), "{path}: {head}");
    }
    let item = "Sec-WebSocket-Protocol: realtime, openai-insecure-api-key.sk-right\r\n";
    Client::switched(&simulator, "/v1/realtime", item).await.event("session.created").await;
    let mut client = Client::of(&simulator).await;
    client.send(&format!("GET /v1/realtime HTTP/1.1\r\nHost: sim\r\n{right}\r\n")).await;
    let (head, _) = client.answer().await;
    assert!(head.starts_with("HTTP/1.1 426 "), "{head}");
}

#[tokio::test]
async fn what_is_no_message_closes_the_connection() {
    let simulator = simulator().await;
    for (bytes, code) in [
        (&b"\x81\x02hi"[..], 1002),
        (b"\x83\x80\0\0\0\0", 1002),
        (b"\x80\x80\0\0\0\0", 1002),
        (b"\x81\x81\0\0\0\0\xff", 1007),
        (b"\x82\x81\0\0\0\0a", 1003),
        (b"\x81\xff\x00\x00\x00\x00\x10\x00\x00\x00\0\0\0\0", 1009),
    ] {
        let mut client = Client::switched(&simulator, "/v1/responses", "").await;
        client.socket.write_all(bytes).await.unwrap();
        let (opcode, payload) = client.frame().await;
        assert_eq!((opcode, &payload[..2]), (Opcode::Close, &u16::to_be_bytes(code)[..]), "{bytes:?}");
    }
}
