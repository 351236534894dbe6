//! What may be repeated depends on what a request does: reading and computing may, creating may not.

use sluicegate::simulator::{Cut, Head, Script, Step, WHOLE};

use super::rig::{QUICK, Rig, refusal};
use crate::harness::{BOTH, Client, authorised, safely, whole};

/// A response that is JSON and neither model's nor stream's.
fn fine() -> Script {
    let body = r#"{"id":"x","object":"thing"}"#;
    Script::new(vec![
        Step::ReadBody(WHOLE),
        Step::Head(Head::json(http::StatusCode::OK, body.len())),
        Step::Send(body.into()),
    ])
}

struct Case {
    method: &'static str,
    path: &'static str,
    body: &'static str,
    /// How often the failing upstream and the other one are asked.
    seen: (usize, usize),
}

const fn case(method: &'static str, path: &'static str, body: &'static str, seen: (usize, usize)) -> Case {
    Case { method, path, body, seen }
}

/// Computing goes to the other upstream at once; what belongs to one account is tried again where it is; creating is not repeated.
const CASES: [Case; 19] = [
    case("POST", "/v1/moderations", r#"{"input":"x"}"#, (1, 1)),
    case("POST", "/v1/images/generations", r#"{"prompt":"x"}"#, (1, 1)),
    case("POST", "/v1/audio/speech", r#"{"model":"m","input":"x"}"#, (1, 1)),
    case("POST", "/v1/messages/count_tokens", r#"{"model":"m","messages":[]}"#, (1, 1)),
    case("POST", "/v1/responses/compact", r#"{"model":"m","input":"x"}"#, (1, 1)),
    case("GET", "/v1/models", "", (1, 1)),
    // Reading looks in the other account as well. Had that not known the id, the first one would be asked again.
    case("GET", "/v1/responses/resp_1", "", (1, 1)),
    case("GET", "/v1/batches/batch_1", "", (1, 1)),
    case("GET", "/v1/files/file-1/content", "", (1, 1)),
    case("GET", "/v1/no/such/thing", "", (2, 0)),
    case("DELETE", "/v1/files/file-1", "", (2, 0)),
    case("POST", "/v1/responses/resp_1/cancel", "", (2, 0)),
    case("POST", "/v1/chat/completions", r#"{"model":"m","messages":[],"store":true}"#, (1, 0)),
    case("POST", "/v1/responses", r#"{"model":"m","input":"x","store":true}"#, (1, 0)),
    case("POST", "/v1/responses", r#"{"model":"m","input":"x","conversation":"c"}"#, (1, 0)),
    case("POST", "/v1/responses", r#"{"model":"m","input":"x","tools":[{"type":"mcp"}]}"#, (1, 0)),
    case("POST", "/v1/batches", r#"{"input_file_id":"f"}"#, (1, 0)),
    case("POST", "/v1/conversations", "{}", (1, 0)),
    case("POST", "/v1/no/such/thing", "{}", (1, 0)),
];

async fn repeats(failure: fn() -> Script) {
    for (number, case) in CASES.iter().enumerate() {
        let rig = Rig::both(QUICK, "", "").await;
        rig.main_answers([failure(), fine()]);
        rig.spare.queue(fine());
        let (address, http) = (rig.gateway.address(), BOTH[number % 2]);
        let mut request = authorised(address, http, case.method, case.path);
        if !case.body.is_empty() {
            request = request.header("content-type", "application/json");
        }
        let mut client = Client::connect(address, http).await;
        let answer = safely(async { client.ask(request.body(whole(case.body)).unwrap()).await }).await;
        let of = format!("{} {} {}", case.method, case.path, case.body);
        assert_eq!(rig.seen(), case.seen, "{of}: {answer:?}");
        let repeated = case.seen != (1, 0);
        assert_eq!(answer.status.is_success(), repeated, "{of}: {answer:?}");
        rig.finish(1).await;
    }
}

#[tokio::test]
async fn an_error_is_repeated_where_that_does_no_harm() {
    repeats(|| refusal(503, "overloaded", &[])).await;
}

#[tokio::test]
async fn a_lost_connection_is_repeated_where_that_does_no_harm() {
    repeats(|| Script::new(vec![Step::ReadBody(WHOLE), Step::Cut(Cut::Close)])).await;
}
