//! Errors with a status of 200, in other forms than an error event: a JSON document where a stream was requested, and an error without an
//! envelope.

use http::StatusCode;
use sluicegate::simulator::{Cut, Framing, Gate, Head, Script, Step};

use super::rig::{DONE, HELLO, QUICK, ROLE, Rig, SPARE, assert_line, stream};
use crate::harness::{BOTH, CHAT, Client, post, safely, take, whole};

const OFF: &str = "retry = \"off\"";
const HELD: &str = "commit = \"first_token\"";
const MESSAGES: &str = r#"{"model":"m","stream":true,"max_tokens":1,"messages":[]}"#;

/// As xAI sends it (vercel/ai#10533).
const XAI: &str =
    r#"{"code":"The service is currently unavailable","error":"Timed out waiting for first token"}"#;
/// As Mistral writes its errors.
const FLAT: &str = r#"{"object":"error","message":"Service unavailable.","type":"internal_server_error","param":null,"code":"1000"}"#;
const FLAT_EVENT: &str = "data: {\"object\":\"error\",\"message\":\"Service unavailable.\",\"type\":\"internal_server_error\",\"param\":null,\"code\":\"1000\"}\n\n";
const ANSWER: &str = r#"{"id":"1","object":"chat.completion","choices":[{"index":0,"message":{"role":"assistant","content":"Hello"},"finish_reason":"stop"}],"error":null}"#;

fn document(content_type: &'static str, pieces: &[&str]) -> Script {
    let head = Step::Head(Head::new(StatusCode::OK, content_type, Framing::Chunked));
    let sent = pieces.iter().map(|piece| Step::Send((*piece).to_owned().into()));
    Script::new([head].into_iter().chain(sent).collect())
}

fn known(text: &str) -> Script {
    let head = Step::Head(Head::json(StatusCode::OK, text.len()));
    Script::new(vec![head, Step::Send(text.to_owned().into())])
}

#[tokio::test]
async fn an_error_document_in_place_of_a_stream_is_the_upstreams_error() {
    let half = XAI.split_at(20);
    let documents = || {
        [
            known(XAI),
            known(FLAT),
            known(r#"{"error":{"message":"m","code":502}}"#),
            document("application/json; charset=utf-8", &["\n\n", half.0, half.1]),
            document("text/plain", &[XAI]),
            document("", &[XAI]),
        ]
    };
    let rig = Rig::both(QUICK, "", "").await;
    for (number, script) in documents().into_iter().enumerate() {
        rig.main_answers([script]);
        rig.spare_answers();
        assert_eq!(rig.chat().await.text(), [ROLE, SPARE, DONE].concat(), "{number}");
        let line = rig.gateway.log.line(number + 1).await;
        assert_line(&line, 200, 2, &[(&rig.main, "error_event")]);
    }
    rig.finish(documents().len()).await;
    let rig = Rig::alone(OFF, "", HELD).await;
    for script in documents() {
        rig.main_answers([script]);
        let answer = rig.chat().await;
        assert!(
            answer.status.is_server_error() && answer.json()["error"]["message"].is_string(),
            "{answer:?}"
        );
    }
    // An error counts until it has left.
    rig.gateway.holds_nothing().await;
    rig.finish(documents().len()).await;
}

/// What the document says decides: an error that is the request's own is not repeated.
#[tokio::test]
async fn an_error_document_is_classified() {
    let rig = Rig::both(QUICK, "", "").await;
    rig.main_answers([known(r#"{"error":{"message":"m","code":"context_length_exceeded"}}"#)]);
    assert_eq!(rig.chat().await.status, 400);
    assert_eq!(rig.seen(), (1, 0));
    rig.finish(1).await;
}

#[tokio::test]
async fn a_document_that_is_cut_is_requested_elsewhere() {
    let rig = Rig::both(QUICK, "", "").await;
    let head = Step::Head(Head::json(StatusCode::OK, ANSWER.len()));
    rig.main_answers([Script::new(vec![head, Step::Send(ANSWER[..30].into()), Step::Cut(Cut::Reset)])]);
    rig.spare_answers();
    assert_eq!(rig.chat().await.text(), [ROLE, SPARE, DONE].concat());
    assert_line(&rig.line().await, 200, 2, &[(&rig.main, "upstream_truncated")]);
    rig.finish(1).await;
}

/// Some servers do not know `stream`.
#[tokio::test]
async fn an_answer_in_place_of_a_stream_goes_out_as_it_came() {
    let rig = Rig::both(QUICK, "", "").await;
    rig.main_answers([known(ANSWER), document("application/json", &[" ", ANSWER]), known("{}")]);
    let answer = rig.chat().await;
    assert_eq!((answer.status.as_u16(), answer.text()), (200, ANSWER));
    assert_eq!(answer.headers["content-type"], "application/json");
    assert_eq!(answer.headers["content-length"], ANSWER.len().to_string());
    assert_eq!(rig.chat().await.text(), format!(" {ANSWER}"));
    assert_eq!(rig.chat().await.text(), "{}");
    assert_eq!((rig.seen(), rig.gateway.buffered()), ((3, 0), 0));
    rig.finish(3).await;
}

/// The upstream sends the rest only once the client has the beginning.
#[tokio::test]
async fn a_large_document_is_not_held() {
    let large = format!("{{\"choices\":[{{\"text\":\"{}\"}}]}}", "x".repeat(200 << 10));
    for framing in [Framing::Known(large.len() as u64), Framing::Chunked] {
        let begins = if matches!(framing, Framing::Chunked) { 100 << 10 } else { 10 };
        let rig = Rig::both(QUICK, "", "").await;
        let gate = Gate::new();
        let (first, rest) = large.split_at(begins);
        rig.main_answers([Script::new(vec![
            Step::Head(Head::new(StatusCode::OK, "application/json", framing)),
            Step::Send(first.to_owned().into()),
            Step::Gate(gate.clone()),
            Step::Send(rest.to_owned().into()),
        ])]);
        let address = rig.gateway.address();
        let mut client = Client::connect(address, BOTH[0]).await;
        let request = post(address, BOTH[0], "/v1/chat/completions").body(whole(CHAT)).unwrap();
        let mut response = safely(client.send(request)).await.unwrap();
        assert_eq!(take(response.body_mut(), begins).await, first.as_bytes());
        gate.open();
        assert_eq!(take(response.body_mut(), rest.len()).await, rest.as_bytes());
        drop((response, client));
        rig.finish(1).await;
    }
}

#[tokio::test]
async fn an_error_without_an_envelope_begins_a_stream_in_any_dialect() {
    const RESPONSES: &str = r#"{"model":"m","stream":true,"input":"x"}"#;
    for (path, body) in
        [("/v1/chat/completions", CHAT), ("/v1/responses", RESPONSES), ("/v1/messages", MESSAGES)]
    {
        let rig = Rig::alone(OFF, "", HELD).await;
        rig.main_answers([stream(&[FLAT_EVENT])]);
        let answer = rig.post(path, body, &[]).await;
        assert_eq!((answer.status.as_u16(), &*answer.code()), (500, "1000"), "{path} {answer:?}");
        rig.finish(1).await;
    }
}

/// SDKs take it for a chunk, so the client gets an event that they raise on, unless the stream has its end.
#[tokio::test]
async fn an_error_without_an_envelope_within_a_stream_does_not_end_it() {
    let rig = Rig::alone(OFF, "", "").await;
    rig.main_answers([stream(&[ROLE, HELLO, FLAT_EVENT]), stream(&[ROLE, HELLO, FLAT_EVENT, DONE])]);
    let sent = [ROLE, HELLO, FLAT_EVENT].concat();
    let answer = rig.chat().await;
    let more = answer.text().strip_prefix(&*sent).unwrap();
    assert!(more.starts_with("data: {\"error\":{") && more.contains("upstream_truncated"), "{more}");
    assert_eq!(rig.chat().await.text(), [&*sent, DONE].concat());
    assert_eq!(rig.gateway.log.line(2).await["error"], "upstream_error_event");
    rig.finish(2).await;
}

/// An error event becomes a response in the form that the client's SDK reads.
#[tokio::test]
async fn a_held_error_has_the_clients_form() {
    let anthropics = "event: error\ndata: {\"type\":\"error\",\"error\":{\"type\":\"overloaded_error\",\"message\":\"Overloaded\"}}\n\n";
    let openais = "data: {\"error\":{\"message\":\"no\",\"type\":\"t\",\"param\":null,\"code\":\"rate_limit_exceeded\"}}\n\n";
    for route in [HELD, "delivery = \"whole\""] {
        let rig = Rig::alone(OFF, "", route).await;
        rig.main_answers([stream(&[anthropics]), stream(&[openais]), stream(&[FLAT_EVENT])]);
        let answer = rig.post("/v1/messages", MESSAGES, &[]).await;
        let as_it_came = r#"{"type":"error","error":{"type":"overloaded_error","message":"Overloaded"}}"#;
        assert_eq!((answer.status.as_u16(), answer.text()), (529, as_it_came));
        for (status, kind, message) in
            [(429, "rate_limit_error", "no"), (500, "api_error", "Service unavailable.")]
        {
            let answer = rig.post("/v1/messages", MESSAGES, &[]).await;
            let json = answer.json();
            assert_eq!((answer.status.as_u16(), &json["type"]), (status, &"error".into()), "{answer:?}");
            assert_eq!((&json["error"]["type"], &json["error"]["message"]), (&kind.into(), &message.into()));
            assert_eq!(json["request_id"], *answer.headers["request-id"].to_str().unwrap());
        }
        rig.finish(3).await;
    }
}
