//! Errors about the gateway's own key or its account in a stream: callers are not shown the operator's balance.

use http::{HeaderValue, StatusCode};
use sluicegate::simulator::{Head, Script, Step};

use super::rig::{DONE, HELLO, QUICK, ROLE, Rig, assert_line, stream};

const BALANCE: &str = "$0.12";

/// OpenAI's, and that of a gateway that resells, which has no status for its code.
const NO_CREDIT: [&str; 2] = [
    "data: {\"error\":{\"message\":\"Your credit balance is too low: $0.12\",\"type\":\"insufficient_quota\",\"code\":\"credit_balance_exhausted\"}}\n\n",
    "data: {\"error\":{\"message\":\"user quota is not enough, left $0.12\",\"type\":\"new_api_error\",\"code\":\"insufficient_user_quota\"}}\n\n",
];

#[tokio::test]
async fn an_account_without_credit_is_not_shown_in_place_of_a_stream() {
    for event in NO_CREDIT {
        let rig = Rig::alone(QUICK, "", "commit = \"first_token\"").await;
        rig.main_answers((0..4).map(|_| stream(&[event])));
        let answer = rig.chat().await;
        assert_eq!((answer.status.as_u16(), answer.code()), (503, "upstream_unavailable".into()));
        assert!(!answer.text().contains(BALANCE));
        rig.finish(1).await;
    }
}

/// The route has one upstream with one key, so nothing is held.
#[tokio::test]
async fn an_account_without_credit_is_not_shown_in_a_stream() {
    for event in NO_CREDIT {
        for pieces in [&[event][..], &[event, DONE], &[ROLE, event, DONE]] {
            let rig = Rig::alone(QUICK, "", "").await;
            rig.main_answers([stream(pieces)]);
            let answer = rig.chat().await;
            assert_eq!(answer.status, 200);
            assert!(!answer.text().contains(BALANCE), "{}", answer.text());
            assert!(answer.text().contains("\"upstream_unavailable\""), "{}", answer.text());
            assert!(answer.whole, "SDKs raise on the event");
            let line = rig.line().await;
            assert_eq!(line["error"], "upstream_unavailable", "{line:#}");
            rig.finish(1).await;
        }
    }
}

#[tokio::test]
async fn each_dialect_has_its_own_event_in_place_of_an_error_about_the_key() {
    let refused = "event: error\ndata: {\"type\":\"error\",\"error\":{\"type\":\"authentication_error\",\"message\":\"invalid x-api-key\"}}\n\n";
    let failed = "data: {\"sequence_number\":0,\"type\":\"response.failed\",\"response\":{\"id\":\"r\",\"status\":\"failed\",\"error\":{\"code\":\"insufficient_quota\",\"message\":\"You have $0.12\"}}}\n\n";
    for (path, event, body, whole, start) in [
        (
            "/v1/messages",
            refused,
            "{\"model\":\"m\",\"max_tokens\":1,\"stream\":true,\"messages\":[]}",
            true,
            "event: error\ndata: {\"type\":\"error\"",
        ),
        (
            "/v1/responses",
            failed,
            "{\"model\":\"m\",\"stream\":true,\"input\":\"x\"}",
            false,
            "event: error\ndata: {\"type\":\"error\",\"code\":\"upstream_unavailable\"",
        ),
    ] {
        let rig = Rig::alone(QUICK, "", "").await;
        rig.main_answers([stream(&[event])]);
        let answer = rig.post(path, body, &[]).await;
        assert_eq!((answer.status.as_u16(), answer.whole), (200, whole), "{path}");
        assert!(answer.text().starts_with(start), "{path}: {}", answer.text());
        assert!(
            !answer.text().contains("x-api-key") && !answer.text().contains(BALANCE),
            "{}",
            answer.text()
        );
        rig.finish(1).await;
    }
}

/// Whatever it is about: what was sent before it is not an error, and nothing in a stream is rewritten.
#[tokio::test]
async fn other_errors_and_later_ones_go_out_as_they_came() {
    let overloaded =
        "data: {\"error\":{\"message\":\"try later\",\"type\":\"server_error\",\"code\":null}}\n\n";
    for pieces in [&[overloaded][..], &[ROLE, overloaded], &[ROLE, HELLO, NO_CREDIT[0]]] {
        let rig = Rig::alone(QUICK, "", "").await;
        rig.main_answers([stream(pieces)]);
        let answer = rig.chat().await;
        assert!(answer.whole);
        assert_eq!(answer.text(), pieces.concat());
        rig.finish(1).await;
    }
}

#[tokio::test]
async fn a_failed_response_that_only_its_data_names_is_no_answer() {
    const BODY: &str = "{\"model\":\"m\",\"stream\":true,\"input\":\"x\"}";
    let failed = "data: {\"sequence_number\":0,\"type\":\"response.failed\",\"response\":{\"id\":\"r\",\"status\":\"failed\",\"error\":{\"code\":\"server_error\",\"message\":\"x\"}}}\n\n";
    let completed = "event: response.completed\ndata: {\"type\":\"response.completed\",\"sequence_number\":0,\"response\":{\"id\":\"r\",\"status\":\"completed\",\"output\":[]}}\n\n";
    for route in ["", "delivery = \"whole\""] {
        let rig = Rig::both(QUICK, "", route).await;
        rig.main_answers([stream(&[failed])]);
        rig.spare.queue(stream(&[completed]));
        let answer = rig.post("/v1/responses", BODY, &[]).await;
        assert_eq!((answer.status, answer.text()), (StatusCode::OK, completed), "{route}");
        assert_eq!(rig.seen(), (1, 1), "{route}");
        rig.finish(1).await;
    }
}

/// A stream that is not labelled as one has to begin as early as any other.
#[tokio::test]
async fn silence_before_a_stream_without_a_label_is_as_short_as_with_one() {
    let mut head = Head::event_stream();
    head.headers.insert("content-type", HeaderValue::from_static("text/plain"));
    let rig = Rig::both(QUICK, "timeout = { first_token = \"300ms\", idle = \"1h\" }", "").await;
    rig.main_answers([Script::new(vec![Step::Head(head), Step::Stall])]);
    rig.spare_answers();
    let answer = rig.chat().await;
    assert_eq!((answer.status.as_u16(), answer.text().contains("from the spare one")), (200, true));
    assert_line(&rig.line().await, 200, 2, &[(&rig.main, "upstream_first_token_timeout")]);
    rig.finish(1).await;
}

/// No key was sent, so that the response is about none. The simulator wants one.
#[tokio::test]
async fn a_401_of_an_upstream_without_a_key_is_its_own_response() {
    let open = "[upstream.open]\nurl = \"$MAIN\"\nauth = \"none\"";
    let rig = Rig::new(&format!("{QUICK}\n{open}"), "", "upstreams = [\"open\"]").await;
    for seen in 1..3 {
        let answer = rig.chat().await;
        assert_eq!((answer.status.as_u16(), rig.seen()), (401, (seen, 0)), "{}", answer.text());
        assert!(!answer.text().contains("upstream_unavailable"));
    }
    rig.finish(2).await;
}
