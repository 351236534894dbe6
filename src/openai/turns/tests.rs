use super::*;

fn server(text: &str) -> ServerMessage {
    let beginning = &text.as_bytes()[..text.len().min(96)];
    assert!(ServerMessage::is_wanted(beginning), "{text}");
    ServerMessage::read(text.as_bytes())
}

#[test]
fn turns_of_both_apis() {
    let realtime = r#"{"type":"response.done","event_id":"e","response":{"object":"realtime.response","status":"completed","usage":{"total_tokens":253,"input_tokens":132,"output_tokens":121,"input_token_details":{"text_tokens":119,"audio_tokens":13,"cached_tokens":64},"output_token_details":{"text_tokens":30,"audio_tokens":91}}}}"#;
    let done = server(realtime);
    let usage = done.usage.unwrap();
    assert_eq!((done.kind, usage.input, usage.output), (ServerKind::Ended, Some(132), Some(121)));
    assert_eq!(usage.cached_input, Some(64));

    let responses = r#"{"type": "response.completed","sequence_number":9,"response":{"model":"gpt-5-2","status":"completed","usage":{"input_tokens":5,"output_tokens":7,"total_tokens":12}}}"#;
    let done = server(responses);
    assert_eq!((done.kind, done.model.as_deref()), (ServerKind::Ended, Some("gpt-5-2")));
    assert_eq!(done.usage.unwrap().total, Some(12));

    let begun = server(r#"{"event_id":"e","type":"response.created","response":{"usage":null,"model":"m"}}"#);
    assert_eq!((begun.kind, begun.model.as_deref()), (ServerKind::Begun, Some("m")));
    let failed = r#"{"type":"response.done","response":{"status":"failed","status_details":{"type":"failed","error":{"type":"server_error","code":"insufficient_quota"}}}}"#;
    let failed = server(failed);
    assert_eq!((failed.kind, failed.code.as_deref()), (ServerKind::Failed, Some("insufficient_quota")));
    let error = server(r#"{"type":"error","error":{"type":"invalid_request_error","code":null}}"#);
    assert_eq!((error.kind, error.code.as_deref()), (ServerKind::Error, Some("invalid_request_error")));
    let transcribed = r#"{"type":"conversation.item.input_audio_transcription.completed","transcript":"x","usage":{"type":"tokens","total_tokens":22,"input_tokens":13,"output_tokens":9}}"#;
    let transcribed = server(transcribed);
    assert_eq!((transcribed.kind, transcribed.usage.unwrap().total), (ServerKind::Other, Some(22)));
}

#[test]
fn pieces_of_the_output_are_not_read() {
    for text in [
        r#"{"type":"response.output_audio.delta","delta":"AAAA"}"#,
        r#"{ "type" : "response.output_text.delta" "#,
    ] {
        assert!(!ServerMessage::is_wanted(text.as_bytes()), "{text}");
    }
    assert!(!ClientMessage::is_wanted(br#"{"type":"input_audio_buffer.append","audio":"#));
    assert!(ClientMessage::is_wanted(br#"{"event_id":"x"#) && ClientMessage::is_wanted(b""));
    let other = ServerMessage::read(br#"{"type":"other","usage":{"input_tokens":5}}"#);
    assert_eq!(other, ServerMessage::default());
}

#[test]
fn models_that_a_client_names() {
    for (text, asks, models) in [
        (r#"{"type":"response.create","model":"a","input":[{"model":"no"}]}"#, true, &["a"][..]),
        (r#"{"type":"response.create","response":{"model":"a"}}"#, true, &["a"]),
        (
            r#"{"type":"session.update","session":{"model":"a","audio":{"input":{"transcription":{"model":"b"}}}}}"#,
            false,
            &["a", "b"],
        ),
        (r#"{"type":"session.update","session":{"input_audio_transcription":{"model":"b"}}}"#, false, &["b"]),
        (r#"{"model":"a","type":"response.create","mod\u0065l":"b"}"#, true, &["a", "b"]),
        (r#"{"setup":{"model":"models/a"}}"#, false, &["models/a"]),
        ("not JSON", false, &[]),
        ("", false, &[]),
    ] {
        let message = ClientMessage::read(text.as_bytes());
        assert_eq!((message.asks, message.is_unclear), (asks, false), "{text}");
        assert_eq!(message.models, models, "{text}");
    }
    let nine: Vec<_> = (0..9).map(|number| format!(r#""model":"{number}""#)).collect();
    for unclear in
        [r#"{"x":NaN,"model":"a"}"#, " {", "\u{feff}{}", "[{}]", "\0{\0}", &format!("{{{}}}", nine.join(","))]
    {
        assert!(ClientMessage::read(unclear.as_bytes()).is_unclear, "{unclear}");
    }
}
