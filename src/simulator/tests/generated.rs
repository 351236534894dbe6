use serde_json::Value;

use super::*;

/// The decoded body of an answer to `body` with these knobs, close-delimited.
async fn ask(simulator: &Simulator, path: &str, knobs: &str, body: &str) -> String {
    let mut client = Client::of(simulator).await;
    let knobs = format!("X-Simulate: length=close; {knobs}\r\n");
    client.send(&post(path, &knobs, body)).await;
    client.until("\r\n\r\n").await;
    let (body, end) = client.rest().await;
    end.unwrap();
    body
}

fn data(stream: &str) -> Vec<&str> {
    stream.split("\n\n").flat_map(str::lines).filter_map(|line| line.strip_prefix("data: ")).collect()
}

fn json(text: &str) -> Value {
    serde_json::from_str(text).unwrap_or_else(|error| panic!("{error}: {text}"))
}

#[tokio::test]
async fn a_chat_stream_has_its_frames_usage_and_end() {
    let simulator = simulator().await;
    let body = r#"{"model":"sim-f3-s2","stream":true,"stream_options":{"include_usage":true}}"#;
    let stream = ask(&simulator, "/any/v1/chat/completions", "usage=5,7", body).await;
    let (done, chunks) = data(&stream).split_last().map(|(last, rest)| (*last, rest.to_vec())).unwrap();
    let chunks: Vec<Value> = chunks.into_iter().map(json).collect();
    assert_eq!((done, chunks.len()), ("[DONE]", 6));
    assert_eq!(chunks[0]["choices"][0]["delta"]["role"], "assistant");
    assert_eq!(chunks[3]["choices"][0]["delta"]["content"], " opensxx");
    assert_eq!((&chunks[3]["usage"], &chunks[3]["model"]), (&Value::Null, &Value::from("sim-f3-s2")));
    assert_eq!(chunks[4]["choices"][0]["finish_reason"], "stop");
    assert_eq!((&chunks[5]["choices"], &chunks[5]["usage"]["total_tokens"]), (&json("[]"), &json("12")));
}

#[tokio::test]
async fn a_response_stream_numbers_its_events_and_completes() {
    let simulator = simulator().await;
    let stream = ask(&simulator, "/v1/responses", "", r#"{"model":"gpt-4o","stream":true}"#).await;
    let events: Vec<Value> = data(&stream).into_iter().map(json).collect();
    let names: Vec<&str> = stream.lines().filter_map(|line| line.strip_prefix("event: ")).collect();
    let mut text = String::new();
    for (number, event) in events.iter().enumerate() {
        assert_eq!((&event["sequence_number"], &event["type"]), (&number.into(), &names[number].into()));
        text.push_str(event["delta"].as_str().unwrap_or_default());
    }
    assert_eq!(
        names[..4],
        [
            "response.created",
            "response.in_progress",
            "response.output_item.added",
            "response.content_part.added"
        ]
    );
    let response = &events.last().unwrap()["response"];
    assert_eq!((names.last(), &response["status"]), (Some(&"response.completed"), &Value::from("completed")));
    assert_eq!(response["output"][0]["content"][0]["text"], text);
    assert!(text.ends_with("nothing lost.") && response["usage"]["output_tokens"] == 20);
}

#[tokio::test]
async fn whole_answers_say_the_same_as_streams() {
    let simulator = simulator().await;
    let body = r#"{"model":"a\"b","input":["x","y"],"encoding_format":"base64","dimensions":3}"#;
    let text = "The sluice opens";
    let of = |path: &'static str| ask(&simulator, path, "frames=3", body);
    assert_eq!(json(&of("/v1/chat/completions").await)["choices"][0]["message"]["content"], text);
    assert_eq!(json(&of("/v1/completions").await)["choices"][0]["text"], text);
    assert_eq!(json(&of("/v1/responses").await)["output"][0]["content"][0]["text"], text);
    let message = json(&of("/v1/messages").await);
    assert_eq!(
        (&message["content"][0]["text"], &message["model"]),
        (&Value::from(text), &Value::from("a\"b"))
    );
    let embeddings = json(&of("/v1/embeddings").await);
    // -0.5, -0.375, -0.25 as little-endian floats.
    assert_eq!(embeddings["data"][1]["embedding"], "AAAAvwAAwL4AAIC+");
    assert_eq!(embeddings["data"].as_array().unwrap().len(), 2);
}

#[tokio::test]
async fn streams_break_as_told() {
    let simulator = simulator().await;
    let ask = |path, knobs| ask(&simulator, path, knobs, r#"{"stream":true}"#);
    let stream = ask("/v1/completions", "frames=4; error-event").await;
    assert_eq!(data(&stream).len(), 3);
    assert_eq!(json(data(&stream)[2])["error"]["type"], "server_error");
    let stream = ask("/v1/responses", "error-event").await;
    assert!(stream.contains("event: error\n") && !stream.contains("response.completed"));
    let stream = ask("/v1/messages", "no-done; newline=cr; comments").await;
    assert!(
        stream.contains(": simulated comment\r\r")
            && !stream.contains("message_stop")
            && !stream.contains('\n')
    );
    let stream = ask("/v1/messages", "").await;
    assert!(stream.ends_with("event: message_stop\ndata: {\"type\":\"message_stop\"}\n\n"));
    let stream = ask("/v1/chat/completions", "frames=4; malformed; split=3").await;
    let broken = data(&stream).into_iter().filter(|data| serde_json::from_str::<Value>(data).is_err());
    assert_eq!(broken.collect::<Vec<_>>(), [r#"{"id":"malformed","#, "[DONE]"]);
}

#[tokio::test]
async fn refusals_are_worded_as_the_provider_does() {
    let options = Options { require_key: Some("sk-right-key".to_owned()), ..Options::default() };
    let simulator = Simulator::start(options).await.unwrap();
    let mut client = Client::of(&simulator).await;
    client.send("GET /v1/models HTTP/1.1\r\nAuthorization: Bearer sk-wrong-key-1234\r\n\r\n").await;
    let (head, body) = client.answer().await;
    assert!(head.starts_with("HTTP/1.1 401 ") && body.contains("sk-wrong********1234"), "{body}");
    for (knobs, path, status, code) in [
        ("status=429; retry-after=2", "/v1/models", "429", "rate_limit_exceeded"),
        ("", "/v1/models/missing-one", "404", "model_not_found"),
        ("", "/v1/nothing", "404", "unknown_url"),
        ("frames=many", "/v1/models", "400", "frames"),
    ] {
        let key = "Authorization: Bearer sk-right-key";
        client.send(&format!("GET {path} HTTP/1.1\r\n{key}\r\nX-Simulate: {knobs}\r\n\r\n")).await;
        let (head, body) = client.answer().await;
        assert!(head.starts_with(&format!("HTTP/1.1 {status} ")) && body.contains(code), "{head}{body}");
        assert_eq!(head.contains("retry-after: 2\r\n"), status == "429");
        assert_eq!(json(&body)["error"].as_object().unwrap().len(), 4);
    }
}

#[tokio::test]
async fn other_languages_ask_over_http() {
    let simulator = simulator().await;
    let mut client = Client::of(&simulator).await;
    let knobs = "X-Simulate: gate=5\r\nX-Simulate-Id: a b\r\n";
    client.send(&post("/v1/chat/completions", knobs, r#"{"model":"m","stream":true}"#)).await;
    client.until("\r\n\r\n5\r\ndata:\r\n").await;
    let mut control = Client::of(&simulator).await;
    control.send("GET /simulator/records?ended=any HTTP/1.1\r\n\r\n").await;
    assert_eq!(control.answer().await.1, "[]");
    control.send("POST /simulator/gate HTTP/1.1\r\n\r\n").await;
    assert_eq!(control.answer().await.1, "{}");
    client.until("[DONE]").await;
    control.send("GET /simulator/wait?path=/completions&ended=answered&id=a%20b HTTP/1.1\r\n\r\n").await;
    let records = json(&control.answer().await.1);
    assert_eq!((&records[0]["number"], &records[0]["body_length"]), (&json("1"), &json("27")));
    assert_eq!(records[0]["headers"][1], json(r#"["x-simulate", "gate=5"]"#));
    client.send(&post("/v1/responses", "X-Simulate: stall=1\r\n", "{}")).await;
    client.until("\r\n\r\n{").await;
    drop(client);
    control.send("GET /simulator/wait?after=1&ended=peer-left HTTP/1.1\r\n\r\n").await;
    assert_eq!(json(&control.answer().await.1)[0]["number"], 2);
    control.send("POST /simulator/reset HTTP/1.1\r\n\r\n").await;
    control.answer().await;
    assert!(simulator.records().is_empty());
}
