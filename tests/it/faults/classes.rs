//! Whose fault an upstream's error is, in the forms of several providers: who is asked next, and what the caller gets.

use http::{HeaderValue, StatusCode};
use sluicegate::simulator::{Framing, Head, Options, Protocols, Script, Simulator, Step, WHOLE};

use super::rig::{DONE, HELLO, QUICK, ROLE, Rig, SPARE, assert_line, gaps, stream};
use crate::{folder::Folder, harness::UPSTREAM_KEY};

const OPENAI_SPENT: &str = r#"{"error":{"message":"You have $0.00 left.","type":"insufficient_quota","param":null,"code":"credit_balance_exhausted"}}"#;
const ANTHROPIC_SPENT: &str = r#"{"type":"error","error":{"type":"invalid_request_error","message":"Your credit balance is too low to access the Anthropic API."}}"#;
const DEEPSEEK_SPENT: &str = r#"{"error":{"message":"Insufficient Balance","type":"unknown_error","param":null,"code":"invalid_request_error"}}"#;
const GEMINI_REFUSED: &str = r#"[{"error":{"code":400,"message":"API key not valid. Please pass a valid API key.","status":"INVALID_ARGUMENT","details":[{"@type":"type.googleapis.com/google.rpc.ErrorInfo","reason":"API_KEY_INVALID"}]}}]"#;
const XAI_REFUSED: &str =
    r#"{"code":"Client specified an invalid argument","error":"Incorrect API key provided: gs***tF."}"#;
const AZURE_REFUSED: &str = r#"{"error":{"code":"401","message":"Access denied due to invalid subscription key or wrong API endpoint."}}"#;
const OPENROUTER_AFFORD: &str = r#"{"error":{"message":"This request requires more credits, or fewer max_tokens. You requested up to 64000 tokens, but can only afford 2666.","code":402}}"#;
const MODERATED: &str = r#"{"error":{"message":"m requires moderation on p. Your input was flagged.","code":403,"metadata":{"reasons":["violence"],"flagged_input":"x"}}}"#;
const NO_MODEL: &str = r#"{"error":{"message":"Project `p` does not have access to model `m`","type":"invalid_request_error","param":null,"code":"model_not_found"}}"#;
const REGION: &str = r#"{"error":{"message":"Country, region, or territory not supported","type":"request_forbidden","param":null,"code":"unsupported_country_region_territory"}}"#;
const AMBIGUOUS: &str =
    r#"{"error":{"code":403,"message":"The caller does not have permission","status":"PERMISSION_DENIED"}}"#;
const TOO_LARGE: &str = r#"{"error":{"message":"Request too large for gpt-4o in organization o on tokens per min (TPM): Limit 30000, Requested 30601.","type":"tokens","param":null,"code":"rate_limit_exceeded"}}"#;
const GEMINI_LIMITED: &str = r#"[{"error":{"code":429,"message":"You exceeded your current quota.","status":"RESOURCE_EXHAUSTED","details":[{"@type":"type.googleapis.com/google.rpc.RetryInfo","retryDelay":"0.2s"}]}}]"#;

fn error(status: u16, body: &str, headers: &[(&'static str, &'static str)]) -> Script {
    let mut head = Head::json(StatusCode::from_u16(status).unwrap(), body.len());
    for (name, value) in headers {
        head.headers.insert(*name, HeaderValue::from_static(value));
    }
    Script::new(vec![Step::ReadBody(WHOLE), Step::Head(head), Step::Send(body.to_owned().into())])
}

/// One upstream with two keys. They are the same as far as the simulator can tell; the log tells them apart.
async fn two_keys(folder: &Folder) -> Rig {
    let second = folder.write("second.key", UPSTREAM_KEY);
    let two = format!(
        "[upstream.two]\nurl = \"$MAIN\"\nkeys = [{{ env = \"UPSTREAM_KEY\" }}, {{ file = {second:?} }}]"
    );
    Rig::new(&format!("{QUICK}\n{two}"), "", "upstreams = [\"two\"]").await
}

/// The numbers of the keys of all attempts of the exchange with that number.
async fn keys(rig: &Rig, exchange: usize) -> Vec<u64> {
    let line = rig.gateway.log.line(exchange).await;
    let attempts = line["attempts"].as_array().cloned().unwrap_or_default();
    attempts.iter().map(|attempt| attempt["key"].as_u64().unwrap()).collect()
}

/// The next key is tried, then the next upstream; and when nothing is left, the caller is told nothing of the operator's account.
#[tokio::test]
async fn a_key_without_credit_or_validity_is_replaced_and_never_shown() {
    let folder = Folder::new();
    for (status, body, code) in [
        (429, OPENAI_SPENT, "credit_balance_exhausted"),
        (400, ANTHROPIC_SPENT, "invalid_request_error"),
        (402, DEEPSEEK_SPENT, "invalid_request_error"),
        (402, OPENROUTER_AFFORD, ""),
        (400, GEMINI_REFUSED, "API_KEY_INVALID"),
        (400, XAI_REFUSED, "Client specified an invalid argument"),
        (401, AZURE_REFUSED, "401"),
    ] {
        let rig = two_keys(&folder).await;
        rig.main_answers([error(status, body, &[]), stream(&[ROLE, HELLO, DONE])]);
        assert_eq!(rig.chat().await.text(), [ROLE, HELLO, DONE].concat(), "{body}");
        assert_eq!(keys(&rig, 1).await, [1, 2], "{body}");
        rig.finish(1).await;

        let rig = Rig::both(QUICK, "", "").await;
        rig.main_answers([error(status, body, &[])]);
        rig.spare_answers();
        assert_eq!(rig.chat().await.text(), [ROLE, SPARE, DONE].concat(), "{body}");
        rig.finish(1).await;

        let rig = Rig::alone(QUICK, "", "").await;
        rig.main_answers([error(status, body, &[])]);
        let answer = rig.chat().await;
        assert_eq!((answer.status.as_u16(), &*answer.code()), (503, "upstream_unavailable"), "{body}");
        assert_eq!(answer.headers["x-should-retry"], "false");
        assert!(!answer.text().to_lowercase().contains("key") && !answer.text().contains("balance"));
        let line = rig.line().await;
        assert_line(&line, 503, 1, &[(&rig.main, "4xx")]);
        assert_eq!(line["attempts"][0]["code"].as_str().unwrap_or_default(), code, "the log has the truth");
        assert!(line["cause"].as_str().unwrap().contains(&status.to_string()), "{line}");
        rig.finish(1).await;
    }
}

/// What another key would not change is the caller's to know, and is asked once.
#[tokio::test]
async fn a_403_about_the_request_goes_back_as_it_is() {
    let folder = Folder::new();
    for body in [MODERATED, NO_MODEL, REGION] {
        let rig = two_keys(&folder).await;
        rig.main_answers([error(403, body, &[])]);
        let answer = rig.chat().await;
        assert_eq!((answer.status.as_u16(), answer.text()), (403, body));
        assert_eq!(rig.seen().0, 1, "{body}");
        rig.finish(1).await;
    }
}

/// It may be the key's fault, so all are tried, once each; and it may be the caller's, so the caller gets it.
#[tokio::test]
async fn a_403_that_may_be_anybodys_is_asked_with_each_key_once_and_then_told() {
    let folder = Folder::new();
    let rig = two_keys(&folder).await;
    let html = "<!DOCTYPE html><title>Attention Required!</title>";
    for (exchange, body) in [(1, AMBIGUOUS), (2, html)] {
        rig.main_answers([error(403, body, &[]), error(403, body, &[])]);
        let answer = rig.chat().await;
        assert_eq!((answer.status.as_u16(), answer.text()), (403, body));
        let mut keys = keys(&rig, exchange).await;
        keys.sort_unstable();
        assert_eq!(keys, [1, 2], "no key cools down, and each is asked with once");
    }
    // One that holds a key is withheld.
    let held: &'static str = Box::leak(format!("forbidden: {UPSTREAM_KEY}").into_boxed_str());
    rig.main_answers([error(403, held, &[]), error(403, held, &[])]);
    let answer = rig.chat().await;
    assert_eq!((answer.status.as_u16(), &*answer.code()), (403, "upstream_error_withheld"));
    rig.finish(3).await;
}

/// It says nothing about other requests: the next one is sent with the same key.
#[tokio::test]
async fn a_request_that_is_larger_than_its_limit_cools_no_key_down() {
    for status in [429, 413] {
        let rig = Rig::alone(QUICK, "", "").await;
        rig.main_answers([
            error(status, TOO_LARGE, &[("retry-after", "3600")]),
            stream(&[ROLE, HELLO, DONE]),
        ]);
        let answer = rig.chat().await;
        assert_eq!((answer.status.as_u16(), answer.text()), (status, TOO_LARGE));
        assert_eq!(rig.chat().await.status, 200);
        assert_eq!(rig.seen().0, 2);
        rig.finish(2).await;
    }
}

#[tokio::test]
async fn waits_are_heeded_wherever_they_are_told() {
    let limit =
        r#"{"error":{"message":"slow down","type":"requests","param":null,"code":"rate_limit_exceeded"}}"#;
    for (body, headers) in [
        (GEMINI_LIMITED, &[][..]),
        (limit, &[("retry-after", "0.2")][..]),
        (limit, &[("x-ratelimit-reset-tokens", "200ms"), ("x-ratelimit-remaining-tokens", "0")][..]),
    ] {
        let rig = Rig::alone(QUICK, "", "").await;
        rig.main_answers([error(429, body, headers), stream(&[ROLE, HELLO, DONE])]);
        assert_eq!(rig.chat().await.status, 200, "{headers:?}");
        assert!(gaps(&rig.main.records())[0] >= 195, "{headers:?} {:?}", gaps(&rig.main.records()));
        rig.finish(1).await;
    }
    // A wait that is over is none.
    let past = [("retry-after", "Fri, 01 Jan 2010 00:00:00 GMT")];
    let rig = Rig::alone(QUICK, "", "").await;
    rig.main_answers([error(429, limit, &past), stream(&[ROLE, HELLO, DONE])]);
    assert_eq!(rig.chat().await.status, 200);
    rig.finish(1).await;
}

#[tokio::test]
async fn a_429_without_a_key_is_retried_like_one_with_a_key() {
    let options = Options { protocols: Protocols::Both, ..Options::default() };
    let local = Simulator::start(options).await.unwrap();
    let keyless = format!("{QUICK}\n[upstream.local]\nurl = \"{}\"\nauth = \"none\"", local.url());
    let rig = Rig::new(&keyless, "", "upstreams = [\"local\"]").await;
    let limited = r#"{"object":"error","message":"queue is full","type":"rate_limited","code":429}"#;
    local.queue(error(429, limited, &[("retry-after-ms", "200")]));
    local.queue(error(429, limited, &[]));
    local.queue(stream(&[ROLE, HELLO, DONE]));
    assert_eq!(rig.chat().await.text(), [ROLE, HELLO, DONE].concat());
    let gaps = gaps(&local.records());
    assert!(gaps.len() == 2 && gaps[0] >= 195, "{gaps:?}");
    rig.finish(1).await;
}

/// Cloudflare's own statuses, and any that nobody has listed. An operation that an upstream does not have is a fact, not a failure.
#[tokio::test]
async fn every_5xx_is_a_failure_of_the_server_but_501() {
    for status in [520, 521, 522, 523, 524, 525, 526, 527, 530, 507, 599] {
        let rig = Rig::both(QUICK, "", "").await;
        rig.main_answers([error(status, "error code: 522", &[])]);
        rig.spare_answers();
        assert_eq!(rig.chat().await.text(), [ROLE, SPARE, DONE].concat(), "{status}");
        rig.finish(1).await;
    }
    let rig = Rig::both(QUICK, "", "").await;
    rig.main_answers([error(501, "no such operation", &[])]);
    assert_eq!(rig.chat().await.status, 501);
    assert_eq!(rig.seen(), (1, 0));
    rig.finish(1).await;
}

/// The first event of a stream whose start is held.
#[tokio::test]
async fn an_error_that_begins_a_stream_is_what_it_would_be_as_a_response() {
    for (data, status, elsewhere) in [
        (r#"{"error":{"code":"429","message":"limit"}}"#, 429, true),
        (r#"{"error":{"code":503,"message":"busy","status":"UNAVAILABLE"}}"#, 503, true),
        (r#"{"error":{"message":"m","status":"RESOURCE_EXHAUSTED"}}"#, 429, true),
        (
            r#"{"type":"error","error":{"type":"service_unavailable_error","code":"server_is_overloaded","message":"m"}}"#,
            503,
            true,
        ),
        (
            r#"{"error":{"message":"spent","type":"insufficient_quota","code":"credit_balance_exhausted"}}"#,
            503,
            true,
        ),
        (r#"{"error":{"message":"m","type":"BadRequestError","code":"400"}}"#, 400, false),
        (r#"{"error":{"message":"m","status":"INVALID_ARGUMENT"}}"#, 400, false),
        (r#"{"error":{"message":"flagged","code":403,"metadata":{"flagged_input":"x"}}}"#, 403, false),
    ] {
        let event: &'static str = Box::leak(format!("data: {data}\n\n").into_boxed_str());
        let rig = Rig::both(QUICK, "", "").await;
        rig.main_answers([stream(&[event])]);
        rig.spare_answers();
        let answer = rig.chat().await;
        if elsewhere {
            assert_eq!(answer.text(), [ROLE, SPARE, DONE].concat(), "{data}");
        } else {
            assert_eq!((answer.status.as_u16(), answer.text()), (status, data));
            assert_eq!(answer.headers["content-type"], "application/json");
            assert_eq!(rig.seen(), (1, 0), "{data}");
        }
        rig.finish(1).await;

        let rig = Rig::alone("retry = \"off\"", "", "commit = \"first_token\"").await;
        rig.main_answers([stream(&[event])]);
        assert_eq!(rig.chat().await.status.as_u16(), status, "{data}");
        rig.finish(1).await;
    }
}

/// What an error body is compressed in, nobody can search for a key; its status says as much as it can.
#[tokio::test]
async fn an_error_that_cannot_be_read_is_judged_by_its_status() {
    for (status, expected, code) in [
        (403, 403, "upstream_error_withheld"),
        (401, 503, "upstream_unavailable"),
        (402, 503, "upstream_unavailable"),
    ] {
        let rig = Rig::alone(QUICK, "", "").await;
        let mut head =
            Head::new(StatusCode::from_u16(status).unwrap(), "application/json", Framing::Known(4));
        head.headers.insert("content-encoding", HeaderValue::from_static("br"));
        rig.main_answers([Script::new(vec![Step::Head(head), Step::Send("zzzz".into())])]);
        let answer = rig.chat().await;
        assert_eq!((answer.status.as_u16(), &*answer.code()), (expected, code));
        rig.finish(1).await;
    }
}
