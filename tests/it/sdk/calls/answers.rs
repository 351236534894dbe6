//! What the upstream answers, by the names in `tests/sdk/calls.toml`.
//!
//! `object` (the usual one), `list`, `deleted`, `empty`, `bytes`, `text`, `sdp`; `stream:NAME` and `cut:NAME`, events of the file, whole or
//! broken off after two; `error:STATUS:CODE`; any other name is that of a body in the file.

use bytes::Bytes;
use http::{HeaderValue, StatusCode, header};
use serde_json::{Value, json};
use sluicegate::simulator::{Cut, Framing, Head, Script, Step, WHOLE};

use super::data::{Call, Data};

const SDP: &str = "v=0\r\no=- 1 1 IN IP4 127.0.0.1\r\ns=-\r\n";

/// The scripts for a call's requests.
pub(super) fn scripts(data: &Data, call: &Call, upstream: &str) -> Vec<Script> {
    let answers = Answers { data, upstream };
    call.answer.list().into_iter().map(|name| answers.script(call, name)).collect()
}

struct Answers<'a> {
    data: &'a Data,
    /// The upstream's URL, which may stand in an answer.
    upstream: &'a str,
}

impl Answers<'_> {
    fn script(&self, call: &Call, name: &str) -> Script {
        let id = call.id.as_deref().unwrap_or("thing_1");
        match name.split_once(':') {
            Some(("stream", name)) => streamed(&self.events(name), None),
            Some(("cut", name)) => streamed(&self.events(name)[..2], Some(Step::Cut(Cut::Reset))),
            Some(("error", rest)) => error(rest),
            Some(("anthropic-error", rest)) => anthropic_error(rest),
            _ => match name {
                "object" => document(&object(id)),
                "list" => document(&list()),
                "deleted" => document(&deleted(id)),
                "empty" => empty(),
                "bytes" => content("application/octet-stream", (0..=255).cycle().take(70_000).collect()),
                "text" => content("text/plain; charset=utf-8", "Hello, in words.\n".into()),
                "sdp" => sdp(),
                _ => document(&self.body(name)),
            },
        }
    }

    fn body(&self, name: &str) -> String {
        let body = self.data.answer.get(name).unwrap_or_else(|| panic!("no answer {name}"));
        body.replace("UPSTREAM", self.upstream)
    }

    fn events(&self, name: &str) -> Vec<&str> {
        let text = self.data.stream.get(name).unwrap_or_else(|| panic!("no stream {name}"));
        text.split_inclusive("\n\n").collect()
    }
}

fn streamed(events: &[&str], then: Option<Step>) -> Script {
    let head = [Step::ReadBody(WHOLE), Step::Head(with_id(Head::event_stream()))];
    let sent = events.iter().map(|event| Step::Send(Bytes::copy_from_slice(event.as_bytes())));
    Script::new(head.into_iter().chain(sent).chain(then).collect())
}

fn object(id: &str) -> String {
    json!({
        "id": id,
        "object": "thing",
        "created_at": 1_700_000_000,
        "status": "completed",
        "model": "gpt-4o",
        "usage": { "input_tokens": 3, "output_tokens": 5, "total_tokens": 8 },
        "metadata": { "k": "v" },
        "nothing": null,
        "a_number": 1.5,
        "a_text": "é \u{1f6b0}\n\"",
    })
    .to_string()
}

fn deleted(id: &str) -> String {
    json!({ "id": id, "object": "thing.deleted", "deleted": true }).to_string()
}

fn list() -> String {
    let data = json!([{ "id": "thing_1", "object": "thing" }, { "id": "thing_2", "object": "thing" }]);
    json!({ "object": "list", "data": data, "first_id": "thing_1", "last_id": "thing_2", "has_more": false })
        .to_string()
}

fn document(body: &str) -> Script {
    answered(Head::json(StatusCode::OK, body.len()), body.as_bytes().to_vec())
}

fn content(kind: &'static str, body: Vec<u8>) -> Script {
    answered(Head::new(StatusCode::OK, kind, Framing::Known(body.len() as u64)), body)
}

fn empty() -> Script {
    let mut head = Head::new(StatusCode::NO_CONTENT, "application/json", Framing::Bare);
    head.headers.clear();
    answered(head, Vec::new())
}

fn sdp() -> Script {
    let mut head = Head::new(StatusCode::CREATED, "application/sdp", Framing::Known(SDP.len() as u64));
    head.headers.insert(header::LOCATION, HeaderValue::from_static("/v1/realtime/calls/rtc_1"));
    answered(head, SDP.into())
}

/// `STATUS:CODE`, in OpenAI's form.
fn error(rest: &str) -> Script {
    let (status, code) = rest.split_once(':').unwrap();
    let is_key = code == "invalid_api_key";
    let (kind, param) = if is_key { ("invalid_request_error", None) } else { ("a_type", Some("model")) };
    let error = json!({ "message": "The upstream says no.", "type": kind, "param": param, "code": code });
    refused(status, &json!({ "error": error }))
}

/// `STATUS:TYPE`, in Anthropic's form.
fn anthropic_error(rest: &str) -> Script {
    let (status, kind) = rest.split_once(':').unwrap();
    let error = json!({ "type": kind, "message": "The upstream says no." });
    refused(status, &json!({ "type": "error", "error": error, "request_id": "req_upstream" }))
}

fn refused(status: &str, body: &Value) -> Script {
    let (status, body) = (StatusCode::from_bytes(status.as_bytes()).unwrap(), body.to_string());
    answered(Head::json(status, body.len()), body.into())
}

fn answered(head: Head, body: Vec<u8>) -> Script {
    Script::new(vec![Step::ReadBody(WHOLE), Step::Head(with_id(head)), Step::Send(body.into())])
}

/// With the headers in which OpenAI and Anthropic name a request.
fn with_id(mut head: Head) -> Head {
    head.headers.insert("x-request-id", HeaderValue::from_static("req_upstream"));
    head.headers.insert("request-id", HeaderValue::from_static("req_upstream"));
    head
}
