//! An upstream's error that is told in a stream, where nobody made up for it.

use sluicegate::simulator::{Gate, Script, Step};

use super::rig::{DONE, QUICK, ROLE, Rig, SPARE, assert_line, refusal, stream, stream_then, streamed};
use crate::harness::{CHAT, safely};

const ERROR: &str =
    "data: {\"error\":{\"message\":\"overloaded\",\"type\":\"server_error\",\"code\":null}}\n\n";
const FAILED: &str = "event: response.failed\ndata: {\"type\":\"response.failed\",\"sequence_number\":0,\"response\":{\"error\":{\"code\":\"server_error\",\"message\":\"no\"}}}\n\n";
const RESPONSES: &str = r#"{"model":"m","stream":true,"input":"x"}"#;
const OTHER_CHAT: &str = r#"{"model":"m","stream":true,"messages":[]}"#;
const OTHER_RESPONSES: &str = r#"{"model":"m","stream":true,"input":"y"}"#;

/// The error is a response with the status that it means, and is what the log says, whether the caller has it from the last attempt or from one
/// that others could not make up for.
#[tokio::test]
async fn what_the_caller_was_told_is_what_the_log_says() {
    let as_response = r#"{"error":{"message":"overloaded","type":"server_error","code":null}}"#;
    let failed_as_response = r#"{"error":{"code":"server_error","message":"no","param":null,"type":null}}"#;
    let dialects = [
        ("/v1/chat/completions", [CHAT, OTHER_CHAT], ERROR, as_response),
        ("/v1/responses", [RESPONSES, OTHER_RESPONSES], FAILED, failed_as_response),
    ];
    // Asked once more; or not, since the error opens the circuit for longer than anybody waits. It is the second failure in a row, after
    // another request that failed four times.
    let ways = [
        ("retries = 1", "breaker = \"off\"", None, 2),
        ("retries = 3", "breaker = { failures = 2, open = \"1h\" }", Some(4), 1),
    ];
    for (path, [body, other], error, response) in dialects {
        for (retries, breaker, before, attempts) in ways {
            let retry = QUICK.replace("retries = 3", retries);
            let rig = Rig::alone(&format!("{retry}\n{breaker}"), "", "commit = \"first_token\"").await;
            if let Some(failures) = before {
                rig.main_answers((0..failures).map(|_| refusal(503, "", &[])));
                rig.post(path, other, &[]).await;
            }
            rig.main_answers((0..attempts).map(|_| stream(&[error])));
            let answer = rig.post(path, body, &[]).await;
            assert_eq!((answer.status.as_u16(), answer.text()), (500, response));
            let exchanges = 1 + usize::from(before.is_some());
            let line = rig.gateway.log.line(exchanges).await;
            let told = (&line["error"], &line["who"], &line["phase"]);
            assert_eq!(
                told,
                (&"server_error".into(), &"upstream".into(), &"done".into()),
                "{path} {retries}: {line:#}"
            );
            assert_line(&line, 500, attempts as u64, &vec![(&rig.main, "error_event"); attempts]);
            rig.finish(exchanges).await;
        }
    }
}

/// Others are asked: the upstream that has failed need not say the rest of what nobody will read.
#[tokio::test]
async fn a_stream_that_failed_is_let_go_of_while_others_are_asked() {
    let rig = Rig::both(QUICK, "", "").await;
    let gate = Gate::new();
    rig.main_answers([stream_then(&[ERROR], Step::Stall)]);
    let mut steps = vec![Step::Gate(gate.clone())];
    steps.extend(streamed(&[ROLE, SPARE, DONE]));
    rig.spare.queue(Script::new(steps));
    let (answer, ()) = tokio::join!(rig.chat(), async {
        let left = safely(rig.main.record(1)).await;
        assert!(left.ended.is_some_and(|(_, how)| how.peer_left()), "{left:?}");
        gate.open();
    });
    assert_eq!(answer.text(), [ROLE, SPARE, DONE].concat());
    rig.finish(1).await;
}
