//! One failure a row.

use sluicegate::simulator::{Cut, Head, Script, Step, WHOLE};

use super::rig::{DONE, HELLO, QUICK, ROLE, Rig, SPARE, assert_line, gaps, refusal, stream, stream_then};
use crate::harness::{CHAT, Client, Http, UPSTREAM_KEY, post, safely};

/// What the caller gets of the spare one.
fn spares() -> String {
    [ROLE, SPARE, DONE].concat()
}

fn mains() -> String {
    [ROLE, HELLO, DONE].concat()
}

fn whole() -> Script {
    stream(&[ROLE, HELLO, DONE])
}

#[tokio::test]
async fn a_500_is_asked_again_where_there_is_one_place_only() {
    let rig = Rig::alone(QUICK, "", "").await;
    rig.main_answers([refusal(500, "server_error", &[]), whole()]);
    let answer = rig.chat().await;
    assert!(answer.status == 200 && answer.whole && answer.text() == mains(), "{answer:?}");
    assert!(!answer.headers.contains_key("x-should-retry"));
    let records = rig.main.records();
    assert_eq!(records.len(), 2);
    assert_eq!(records[0].body, records[1].body);
    assert!(gaps(&records)[0] >= 30, "{:?}", gaps(&records));
    assert_line(&rig.line().await, 200, 2, &[(&rig.main, "5xx")]);
    rig.finish(1).await;
}

#[tokio::test]
async fn a_503_that_stays_is_asked_four_times_with_growing_waits_and_then_told() {
    let rig = Rig::alone(QUICK, "", "").await;
    rig.main_answers((0..5).map(|_| refusal(503, "server_is_overloaded", &[])));
    let answer = rig.chat().await;
    assert_eq!((answer.status.as_u16(), answer.code().as_str()), (503, "server_is_overloaded"));
    assert_eq!(answer.headers["x-should-retry"], "false", "the SDK need not multiply what was retried");
    let records = rig.main.records();
    assert_eq!(records.len(), 4);
    // 40, 80 and 160 ms, a quarter less at most.
    let gaps = gaps(&records);
    assert!(gaps[0] >= 30 && gaps[1] >= 60 && gaps[2] >= 120, "{gaps:?}");
    assert_line(&rig.line().await, 503, 4, &[(&rig.main, "5xx"); 4]);
    rig.finish(1).await;
}

#[tokio::test]
async fn an_sdk_that_retries_is_not_multiplied() {
    let rig = Rig::alone(QUICK, "", "").await;
    rig.main_answers((0..5).map(|_| refusal(503, "", &[])));
    let answer = rig.post("/v1/chat/completions", CHAT, &[("x-stainless-retry-count", "2")]).await;
    assert_eq!((answer.status.as_u16(), rig.seen().0), (503, 2));
    rig.finish(1).await;
}

#[tokio::test]
async fn a_429_is_waited_for_as_long_as_it_says() {
    let rig = Rig::alone(QUICK, "", "").await;
    rig.main_answers([refusal(429, "rate_limit_exceeded", &[("retry-after-ms", "200")]), whole()]);
    assert_eq!(rig.chat().await.text(), mains());
    assert!(gaps(&rig.main.records())[0] >= 195);
    assert_line(&rig.line().await, 200, 2, &[(&rig.main, "4xx")]);
    rig.finish(1).await;
}

#[tokio::test]
async fn a_429_that_says_too_long_goes_elsewhere_or_to_the_caller_with_its_wait_capped() {
    let limited = || refusal(429, "rate_limit_exceeded", &[("retry-after", "3600")]);
    let rig = Rig::both(QUICK, "", "").await;
    rig.main_answers([limited()]);
    rig.spare_answers();
    assert_eq!(rig.chat().await.text(), spares());
    // The key rests for that model: it is not asked again.
    rig.spare_answers();
    assert_eq!(rig.chat().await.text(), spares());
    assert_eq!(rig.seen(), (1, 2));
    rig.finish(2).await;

    let rig = Rig::alone(QUICK, "", "").await;
    rig.main_answers([limited()]);
    let answer = rig.chat().await;
    assert_eq!((answer.status.as_u16(), answer.code().as_str()), (429, "rate_limit_exceeded"));
    assert_eq!(answer.headers["retry-after"], "59", "the AI SDK heeds only what is shorter than a minute");
    // It is the only key there is: the next request goes to the upstream too, which may have changed its mind.
    rig.main_answers([limited()]);
    let answer = rig.chat().await;
    assert_eq!((answer.status.as_u16(), answer.code().as_str()), (429, "rate_limit_exceeded"));
    assert_eq!(rig.seen().0, 2);
    rig.main_answers([whole()]);
    assert_eq!(rig.chat().await.status, 200);
    // Another model is another limit.
    rig.main_answers([whole()]);
    let other = r#"{"model":"another","stream":true,"messages":[]}"#;
    assert_eq!(rig.post("/v1/chat/completions", other, &[]).await.status, 200);
    rig.finish(4).await;
}

#[tokio::test]
async fn what_fails_before_a_head_is_asked_of_the_spare_one_at_once() {
    for cut in [Cut::Reset, Cut::Close] {
        let rig = Rig::both(QUICK, "", "").await;
        rig.main_answers([Script::new(vec![Step::ReadBody(WHOLE), Step::Cut(cut)])]);
        rig.spare_answers();
        let answer = rig.chat().await;
        assert!(answer.whole && answer.text() == spares(), "{answer:?}");
        assert_eq!(rig.seen(), (1, 1));
        let line = rig.line().await;
        assert_line(&line, 200, 2, &[(&rig.main, "upstream_closed")]);
        assert_eq!(line["upstream"], "spare");
        rig.finish(1).await;
    }
}

#[tokio::test]
async fn who_is_silent_is_left_after_one_timeout() {
    let timeout = "timeout = { first_byte = \"150ms\" }";
    let rig = Rig::both(QUICK, timeout, "").await;
    rig.main_answers([Script::new(vec![Step::Stall])]);
    rig.spare_answers();
    assert_eq!(rig.chat().await.text(), spares());
    assert_eq!(rig.seen(), (1, 1));
    assert_line(&rig.line().await, 200, 2, &[(&rig.main, "upstream_timeout")]);
    rig.finish(1).await;

    // Where it is the only one, it is not asked again: it may be at work.
    let rig = Rig::alone(QUICK, timeout, "").await;
    rig.main_answers([Script::new(vec![Step::Stall])]);
    let answer = rig.chat().await;
    assert_eq!((answer.status.as_u16(), answer.code().as_str()), (504, "upstream_timeout"));
    assert_eq!((answer.headers["x-should-retry"].to_str().unwrap(), rig.seen().0), ("false", 1));
    rig.finish(1).await;
}

#[tokio::test]
async fn a_first_token_that_is_late_is_asked_of_the_spare_one() {
    let rig = Rig::both(QUICK, "timeout = { first_token = \"150ms\" }", "").await;
    rig.main_answers([stream_then(&[ROLE, ": ping\n\n"], Step::Stall)]);
    rig.spare_answers();
    let answer = rig.chat().await;
    assert_eq!(answer.text(), spares(), "nothing of the first one's answer");
    assert_eq!(rig.seen(), (1, 1));
    assert_line(&rig.line().await, 200, 2, &[(&rig.main, "upstream_first_token_timeout")]);
    rig.finish(1).await;
}

#[tokio::test]
async fn a_first_token_that_is_late_in_a_stream_that_was_begun_ends_it() {
    let rig = Rig::alone(QUICK, "timeout = { first_token = \"150ms\" }", "commit = \"headers\"").await;
    rig.main_answers([stream_then(&[ROLE], Step::Stall)]);
    let answer = rig.chat().await;
    assert!(
        answer.text().starts_with(ROLE) && answer.text().contains("upstream_first_token_timeout"),
        "{answer:?}"
    );
    assert_eq!(rig.seen().0, 1);
    rig.finish(1).await;
}

#[tokio::test]
async fn a_stream_that_breaks_before_its_content_is_asked_of_the_spare_one() {
    let half = &HELLO[..20];
    for (pieces, last) in [
        (vec![ROLE], Step::Cut(Cut::Reset)),
        (vec![ROLE, half], Step::Cut(Cut::Close)),
        (vec![ROLE], Step::Send("".into())),
        (vec![], Step::Cut(Cut::ChunkError)),
    ] {
        let rig = Rig::both(QUICK, "", "").await;
        rig.main_answers([stream_then(&pieces, last)]);
        rig.spare_answers();
        assert_eq!(rig.chat().await.text(), spares(), "{pieces:?}");
        assert_line(&rig.line().await, 200, 2, &[(&rig.main, "upstream_truncated")]);
        rig.finish(1).await;
    }
}

#[tokio::test]
async fn a_stream_that_breaks_after_its_content_is_never_asked_for_again() {
    let rig = Rig::both(QUICK, "", "").await;
    rig.main_answers([stream_then(&[ROLE, HELLO], Step::Cut(Cut::Reset))]);
    rig.spare_answers();
    let answer = rig.chat().await;
    let text = answer.text();
    assert!(text.starts_with(&[ROLE, HELLO].concat()) && text.contains("upstream_truncated"), "{text}");
    assert!(!text.contains("[DONE]"));
    assert_eq!(rig.seen(), (1, 0));
    rig.finish(1).await;
}

#[tokio::test]
async fn a_stream_that_stalls_after_its_content_ends_with_an_error() {
    let rig = Rig::both(QUICK, "timeout = { idle = \"150ms\" }", "").await;
    rig.main_answers([stream_then(&[ROLE, HELLO], Step::Stall)]);
    let text = rig.chat().await.text().to_owned();
    assert!(text.starts_with(&[ROLE, HELLO].concat()) && text.contains("upstream_idle"), "{text}");
    assert_eq!(rig.seen(), (1, 0));
    rig.finish(1).await;
}

#[tokio::test]
async fn an_error_as_the_first_event_is_asked_of_the_spare_one() {
    let error = "data: {\"error\":{\"message\":\"overloaded\",\"type\":\"server_error\",\"code\":null}}\n\n";
    for first in [error, "data: {\"choices\": nonsense}\n\n"] {
        let rig = Rig::both(QUICK, "", "").await;
        rig.main_answers([stream(&[first])]);
        rig.spare_answers();
        assert_eq!(rig.chat().await.text(), spares(), "{first}");
        assert_line(&rig.line().await, 200, 2, &[(&rig.main, "error_event")]);
        rig.finish(1).await;
    }
    // With nobody else to ask the caller gets it as an error response, since its start was held.
    let rig = Rig::alone("retry = \"off\"", "", "commit = \"first_token\"").await;
    rig.main_answers([stream(&[error]), stream(&["data: {\"choices\": nonsense}\n\n"])]);
    let answer = rig.chat().await;
    let body = error.trim_start_matches("data: ").trim_end();
    assert_eq!((answer.status.as_u16(), answer.text()), (500, body));
    let answer = rig.chat().await;
    assert_eq!((answer.status.as_u16(), answer.code().as_str()), (502, "upstream_invalid"));
    rig.finish(2).await;
}

#[tokio::test]
async fn a_malformed_event_within_a_stream_passes_untouched() {
    let rig = Rig::both(QUICK, "", "").await;
    let malformed = "data: {\"choices\": nonsense}\n\n";
    rig.main_answers([stream(&[ROLE, HELLO, malformed, DONE])]);
    let answer = rig.chat().await;
    assert!(answer.whole && answer.text() == [ROLE, HELLO, malformed, DONE].concat(), "{answer:?}");
    assert_eq!(rig.seen(), (1, 0));
    rig.finish(1).await;
}

#[tokio::test]
async fn what_is_too_long_for_one_model_goes_to_the_next_if_the_route_says_so() {
    let too_long = || refusal(400, "context_length_exceeded", &[]);
    let body =
        r#"{ "stream":true , "model" : "small", "messages":[{"role":"user","content":"\u00e9 model"}]}"#;
    let rig = Rig::both(QUICK, "", "").await;
    rig.main_answers([too_long()]);
    let answer = rig.post("/v1/chat/completions", body, &[]).await;
    assert_eq!((answer.status.as_u16(), answer.code().as_str()), (400, "context_length_exceeded"));
    assert_eq!(rig.seen(), (1, 0));
    rig.finish(1).await;

    let route = r#"
        upstreams = ["main", { upstream = "spare", model = "large 1" }]
        next_on_context_length = true"#;
    let rig = Rig::new(QUICK, "", route).await;
    rig.main_answers([too_long()]);
    rig.spare_answers();
    assert_eq!(rig.post("/v1/chat/completions", body, &[]).await.text(), spares());
    assert_eq!(rig.main.records()[0].body, body);
    let sent = rig.spare.records()[0].body.clone();
    assert_eq!(sent, body.replace("\"small\"", "\"large 1\""), "the model, and nothing else");
    rig.finish(1).await;
}

#[tokio::test]
async fn a_content_filter_goes_back_as_it_is() {
    let rig = Rig::both(QUICK, "", "").await;
    rig.main_answers([refusal(400, "content_filter", &[])]);
    let answer = rig.chat().await;
    assert_eq!((answer.status.as_u16(), answer.code().as_str()), (400, "content_filter"));
    assert_eq!(rig.seen(), (1, 0));
    assert_line(&rig.line().await, 400, 1, &[(&rig.main, "4xx")]);
    rig.finish(1).await;
}

#[tokio::test]
async fn a_key_that_is_refused_rests_while_another_is_used() {
    let rig = Rig::both(QUICK, "", "").await;
    rig.main_answers([refusal(401, "invalid_api_key", &[])]);
    rig.spare_answers();
    let answer = rig.chat().await;
    assert_eq!(answer.text(), spares());
    assert!(!answer.text().contains(UPSTREAM_KEY));
    assert_line(&rig.line().await, 200, 2, &[(&rig.main, "4xx")]);
    rig.finish(1).await;

    let rig = Rig::alone(QUICK, "", "").await;
    rig.main_answers([refusal(401, "invalid_api_key", &[]), refusal(401, "invalid_api_key", &[])]);
    for _ in 0..2 {
        let answer = rig.chat().await;
        assert_eq!((answer.status.as_u16(), answer.code().as_str()), (503, "upstream_unavailable"));
    }
    rig.finish(2).await;
}

#[tokio::test]
async fn a_batch_is_never_created_twice() {
    let batch = r#"{"input_file_id":"f","endpoint":"/v1/chat/completions","completion_window":"24h"}"#;
    let rig = Rig::both(QUICK, "", "").await;
    for script in [refusal(500, "", &[]), refusal(503, "", &[])] {
        rig.main_answers([script]);
        assert!(rig.post("/v1/batches", batch, &[]).await.status.is_server_error());
    }
    rig.main_answers([Script::new(vec![Step::ReadBody(WHOLE), Step::Cut(Cut::Reset)])]);
    assert_eq!(rig.post("/v1/batches", batch, &[]).await.code(), "upstream_closed");
    // A background response goes on when nobody waits.
    rig.main_answers([refusal(500, "", &[])]);
    let background = r#"{"model":"m","background":true,"input":"x"}"#;
    assert_eq!(rig.post("/v1/responses", background, &[]).await.status, 500);
    assert_eq!(rig.seen(), (4, 0));
    rig.finish(4).await;
}

#[tokio::test]
async fn what_never_reached_an_upstream_is_sent_to_the_next_whatever_it_is() {
    let batch = r#"{"input_file_id":"f"}"#;
    let nobody = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let rig = Rig::new(
        &format!("{QUICK}\n[upstream.dead]\nurl = \"http://{nobody}\"\nauth = \"none\""),
        "",
        "upstreams = [\"dead\", \"spare\"]",
    )
    .await;
    let ok = Head::json(http::StatusCode::OK, 2);
    rig.spare.queue(Script::new(vec![Step::Head(ok), Step::Send("{}".into())]));
    let answer = rig.post("/v1/batches", batch, &[]).await;
    assert_eq!((answer.status.as_u16(), answer.text()), (200, "{}"));
    assert_eq!(rig.spare.records()[0].body, batch);
    rig.finish(1).await;
}

#[tokio::test]
async fn a_large_body_is_sent_again_whole() {
    let rig = Rig::alone(QUICK, "", "").await;
    rig.main_answers([refusal(502, "", &[]), whole()]);
    let large: &'static str = Box::leak(
        format!("{{\"model\":\"m\",\"stream\":true,\"x\":\"{}\"}}", "y".repeat(20 << 20)).into_boxed_str(),
    );
    assert_eq!(rig.post("/v1/chat/completions", large, &[]).await.text(), mains());
    let records = rig.main.records();
    assert_eq!(records.len(), 2);
    assert!(records.iter().all(|record| record.body_length == large.len() as u64 && record.body_complete));
    assert_eq!(records[0].body_sha256, records[1].body_sha256);
    rig.finish(1).await;
}

#[tokio::test]
async fn a_caller_who_leaves_between_attempts_ends_them() {
    let retry = r#"retry = { backoff = "60s", max_backoff = "60s", max_wait = "60s" }"#;
    let rig = Rig::alone(retry, "", "").await;
    rig.main_answers([refusal(500, "", &[])]);
    let address = rig.gateway.address();
    let mut client = Client::connect(address, Http::One).await;
    let request = post(address, Http::One, "/v1/chat/completions");
    let pending = client.begin(request.body(crate::harness::whole(CHAT)).unwrap()).await;
    safely(rig.main.wait_for(|records| records.front().filter(|record| record.ended.is_some()).map(|_| ())))
        .await;
    drop(pending);
    client.leave().await;
    let line = rig.line().await;
    assert_eq!(
        (line["who"].as_str(), line["error"].as_str()),
        (Some("downstream"), Some("caller_left")),
        "{line:#}"
    );
    assert_eq!(rig.seen().0, 1);
    rig.finish(1).await;
}

#[tokio::test]
async fn an_error_event_is_judged_by_what_it_says() {
    let error = |code: &str| {
        let event = format!("data: {{\"error\":{{\"message\":\"no\",\"type\":null,\"code\":{code}}}}}\n\n");
        &*Box::leak(event.into_boxed_str())
    };
    // Of the caller's own doing: it goes back as it is, once, and opens nothing.
    let rig = Rig::both("retry = { backoff = \"20ms\" }\nbreaker = { failures = 1 }", "", "").await;
    for code in ["\"context_length_exceeded\"", "\"content_filter\"", "400", "\"400\""] {
        rig.main_answers([stream(&[error(code)])]);
        let answer = rig.chat().await;
        let body = error(code).trim_start_matches("data: ").trim_end();
        assert_eq!((answer.status.as_u16(), answer.text()), (400, body), "a response, not a stream");
    }
    assert_eq!(rig.seen(), (4, 0));
    // A rate limit is the key's.
    for _ in 0..2 {
        rig.spare_answers();
    }
    rig.main_answers([stream(&[error("\"rate_limit_exceeded\"")])]);
    assert_eq!(rig.chat().await.text(), spares());
    rig.finish(5).await;
}

#[tokio::test]
async fn a_response_that_fails_before_its_content_is_asked_of_the_spare_one() {
    let created = "event: response.created\ndata: {\"type\":\"response.created\",\"sequence_number\":0}\n\n";
    let failed = "event: response.failed\ndata: {\"type\":\"response.failed\",\"sequence_number\":1,\"response\":{\"error\":{\"code\":\"server_error\",\"message\":\"no\"}}}\n\n";
    let rig = Rig::both(QUICK, "", "").await;
    rig.main_answers([stream(&[created, failed])]);
    let whole = "event: response.completed\ndata: {\"type\":\"response.completed\",\"sequence_number\":0,\"response\":{}}\n\n";
    rig.spare.queue(stream(&[whole]));
    let body = r#"{"model":"m","stream":true,"input":"x"}"#;
    assert_eq!(rig.post("/v1/responses", body, &[]).await.text(), whole);
    assert_eq!(rig.seen(), (1, 1));
    // One that goes on in the background is not: its id is in what was sent first, and it is not to be made twice.
    rig.main_answers([stream_then(&[created], Step::Cut(Cut::Reset))]);
    let body = r#"{"model":"m","stream":true,"background":true,"input":"x"}"#;
    let answer = rig.post("/v1/responses", body, &[]).await;
    assert!(answer.status == 200 && answer.text().starts_with(created), "{answer:?}");
    assert_eq!(rig.seen(), (2, 1));
    rig.finish(2).await;
}

/// More at once than an upstream's budget allows of retries to itself: the spare one is not asked again, but for the first time.
#[tokio::test]
async fn any_number_may_go_to_a_spare_one_that_is_well() {
    let rig = Rig::both("retry = { backoff = \"20ms\" }\nbreaker = \"off\"", "", "").await;
    const CALLERS: usize = 40;
    let gate = sluicegate::simulator::Gate::new();
    rig.main_answers((0..CALLERS).map(|_| refusal(503, "", &[])));
    for _ in 0..CALLERS {
        let head = Step::Head(Head::json(http::StatusCode::OK, 2));
        rig.spare.queue(Script::new(vec![Step::Gate(gate.clone()), head, Step::Send("{}".into())]));
    }
    let body = r#"{"model":"m","messages":[]}"#;
    let address = rig.gateway.address();
    let asking: Vec<_> = (0..CALLERS)
        .map(|_| {
            tokio::spawn(async move {
                let request =
                    post(address, Http::One, "/v1/chat/completions").body(crate::harness::whole(body));
                crate::harness::send(address, Http::One, request.unwrap()).await
            })
        })
        .collect();
    safely(rig.spare.wait_for(|records| (records.len() == CALLERS).then_some(()))).await;
    (0..CALLERS).for_each(|_| gate.open());
    for answer in asking {
        assert_eq!(answer.await.unwrap().status, 200);
    }
    rig.finish(CALLERS).await;
}

#[tokio::test]
async fn another_key_of_the_same_upstream_is_used() {
    let second = crate::folder::Folder::new();
    let file = second.write("second.key", UPSTREAM_KEY);
    for (status, code) in [(401, "invalid_api_key"), (403, "missing_scope"), (429, "rate_limit_exceeded")] {
        // The same key twice, as far as the upstream can tell; which of them is asked is told by nothing but the attempts.
        let keys = format!("keys = [{{ env = \"UPSTREAM_KEY\" }}, {{ file = {file:?} }}]");
        let rig = Rig::new(
            &format!("{QUICK}\n[upstream.two]\nurl = \"$MAIN\"\n{keys}"),
            "",
            "upstreams = [\"two\"]",
        )
        .await;
        rig.main_answers([refusal(status, code, &[("retry-after", "600")]), whole()]);
        let answer = rig.chat().await;
        assert_eq!(answer.text(), mains(), "{status} {code}");
        assert_eq!(rig.seen(), (2, 0));
        rig.finish(1).await;
    }
}

#[tokio::test]
async fn a_rate_limit_of_an_hour_at_one_place_does_not_end_the_tries_at_another() {
    let rig = Rig::both(QUICK, "", "").await;
    rig.main_answers([refusal(429, "rate_limit_exceeded", &[("retry-after", "3600")])]);
    rig.spare.queue(refusal(500, "", &[]));
    rig.spare_answers();
    assert_eq!(rig.chat().await.text(), spares());
    assert_eq!(rig.seen(), (1, 2));
    rig.finish(1).await;
}
