//! Headers that have a meaning of their own on the way through.

use bytes::Bytes;
use http::{HeaderMap, HeaderName, HeaderValue, StatusCode};
use sluicegate::simulator::{Framing, Head, Record, Script, Step};

use super::rig::{CLIENT_KEYS, Given, Rig, UPSTREAM_KEYS, everything, holds_none, streamed};
use crate::harness::{BOTH, Http};

const RULES: &str = r#"
    request_headers = { set = { x-team = "blue" }, remove = ["x-debug"], allow = ["x-real-ip"] }
    response_headers = { set = { x-served = "by us" }, remove = ["x-powered-by"], allow = ["alt-svc"] }
"#;
const ALLOW_LIST: &str = r#"
    request_headers = { only = ["content-type", "x-simulate-id", "x-wanted"] }
    response_headers = { only = ["content-type", "x-wanted"] }
"#;

fn ok() -> Head {
    Head::new(StatusCode::OK, "text/plain", Framing::Known(2))
}

fn answering(head: Head) -> Script {
    Script::new(vec![Step::Head(head), Step::Send(Bytes::from_static(b"ok"))])
}

/// Asks with these headers besides the key.
async fn ask(rig: &mut Rig, headers: &[(&str, &str)], head: Head) -> (Record, Given) {
    let key = format!("Bearer {}", CLIENT_KEYS[0]);
    let mut request = rig.request("GET", "/v1/files/x/content").header("authorization", key);
    for (name, value) in headers {
        request = request.header(*name, *value);
    }
    let (record, given) = rig.exchange(request.body(streamed([], None)).unwrap(), answering(head)).await;
    (record.unwrap_or_else(|| panic!("{:?}", given.answer)), given)
}

fn answer_with(headers: &[(&str, &str)]) -> Head {
    let mut head = ok();
    head.headers.extend(headers.iter().map(|(name, value)| {
        (HeaderName::from_bytes(name.as_bytes()).unwrap(), HeaderValue::from_str(value).unwrap())
    }));
    head
}

/// That of `sent` only those with a name in `passing` have arrived, as they were.
fn only(passing: &[&str], sent: &[(&str, &str)], arrived: &HeaderMap) {
    for (name, value) in sent {
        let lines: Vec<_> = arrived.get_all(*name).iter().collect();
        if passing.contains(name) {
            assert_eq!(lines, [value], "{name}");
        } else {
            assert!(!lines.iter().any(|line| line == value), "{name}: {lines:?}");
        }
    }
}

#[tokio::test]
async fn what_is_said_of_the_caller_stays_here() {
    let mut sent = vec![
        ("openai-organization", "org-caller"),
        ("openai-project", "proj_caller"),
        ("cookie", "session=1"),
        ("forwarded", "for=192.0.2.7;proto=https"),
        ("x-forwarded-for", "192.0.2.7"),
        ("x-forwarded-host", "api.example.com"),
        ("x-forwarded-proto", "https"),
        ("x-real-ip", "192.0.2.7"),
        ("proxy-authorization", "Basic dTpw"),
        ("accept-encoding", "gzip, br"),
        ("expect-ct", "max-age=1"),
        ("x-stainless-lang", "python"),
        ("openai-beta", "assistants=v2"),
        ("idempotency-key", "one"),
        ("user-agent", "OpenAI/Python 1.0"),
        ("x-request-id", "the-callers-own"),
        ("accept", "*/*"),
    ];
    let passing = [
        "expect-ct",
        "x-stainless-lang",
        "openai-beta",
        "idempotency-key",
        "user-agent",
        "x-request-id",
        "accept",
    ];
    for mut rig in Rig::all().await {
        let (record, given) = ask(&mut rig, &sent, ok()).await;
        only(&passing, &sent, &record.headers);
        assert_eq!(record.headers["accept-encoding"], "identity");
        assert_eq!(
            record.authority.as_deref(),
            Some(&*rig.upstream.addr().to_string()),
            "the target's own host"
        );
        assert_ne!(given.answer.headers["x-request-id"], "the-callers-own");
        rig.finish().await;
    }
    // What a route allows passes, and what it sets and removes is so.
    sent.push(("x-debug", "1"));
    sent.push(("x-team", "red"));
    let mut rig = Rig::new(Http::One, Http::One, RULES).await;
    let (record, _) = ask(&mut rig, &sent, ok()).await;
    only(&[&passing[..], &["x-real-ip"]].concat(), &sent, &record.headers);
    assert_eq!(record.headers["x-team"], "blue");
    rig.finish().await;
}

#[tokio::test]
async fn what_is_said_of_the_upstreams_host_and_account_stays_there() {
    let sent = [
        ("set-cookie", "__cf_bm=1; path=/"),
        ("alt-svc", "h3=\":443\""),
        ("strict-transport-security", "max-age=1"),
        ("openai-organization", "org-ours"),
        ("openai-project", "proj_ours"),
        ("anthropic-organization-id", "ours"),
        ("proxy-authenticate", "Basic realm=\"x\""),
        ("x-request-id", "req_upstream"),
        ("retry-after", "20"),
        ("retry-after-ms", "20000"),
        ("x-ratelimit-limit-requests", "60"),
        ("x-ratelimit-reset-tokens", "6m0s"),
        ("openai-processing-ms", "17"),
        ("openai-version", "2020-10-01"),
        ("x-powered-by", "steam"),
        ("x-served", "by them"),
    ];
    let passing = [
        "retry-after",
        "retry-after-ms",
        "x-ratelimit-limit-requests",
        "x-ratelimit-reset-tokens",
        "openai-processing-ms",
        "openai-version",
        "x-powered-by",
        "x-served",
    ];
    for mut rig in Rig::all().await {
        let (_, given) = ask(&mut rig, &[], answer_with(&sent)).await;
        let headers = given.answer.headers;
        only(&passing, &sent, &headers);
        assert_eq!(headers["x-upstream-request-id"], "req_upstream");
        assert_eq!(rig.gateway.log.line(1).await["upstream_request_id"], "req_upstream");
        assert_eq!(rig.gateway.log.line(1).await["request_id"], headers["x-request-id"].to_str().unwrap());
        rig.finish().await;
    }
    let mut rig = Rig::new(Http::Two, Http::One, RULES).await;
    let (_, given) = ask(&mut rig, &[], answer_with(&sent)).await;
    only(&[&passing[..6], &["alt-svc"]].concat(), &sent, &given.answer.headers);
    assert_eq!(given.answer.headers["x-served"], "by us");
    rig.finish().await;
}

#[tokio::test]
async fn an_allow_list_lets_nothing_else_through() {
    for (down, up) in [(Http::One, Http::Two), (Http::Two, Http::One)] {
        let mut rig = Rig::new(down, up, ALLOW_LIST).await;
        let sent = [("x-wanted", "1"), ("x-unwanted", "1"), ("openai-beta", "1")];
        let (record, given) = ask(&mut rig, &sent, answer_with(&sent)).await;
        only(&["x-wanted"], &sent, &record.headers);
        only(&["x-wanted"], &sent, &given.answer.headers);
        assert!(
            record.headers.contains_key("authorization") && given.answer.headers.contains_key("x-request-id")
        );
        rig.finish().await;
    }
}

#[tokio::test]
async fn hop_by_hop_headers_end_at_the_hop() {
    for up in BOTH {
        let mut rig = Rig::new(Http::One, up, "").await;
        let sent = [
            ("connection", "x-hop, keep-alive, authorization"),
            ("x-hop", "1"),
            ("keep-alive", "timeout=5"),
            ("te", "trailers"),
            ("upgrade", "h2c"),
            ("http2-settings", "AAMAAABk"),
            ("proxy-connection", "keep-alive"),
            ("x-end", "1"),
        ];
        let (record, _) = ask(&mut rig, &sent, ok()).await;
        only(&["x-end"], &sent, &record.headers);
        let ours = record.headers["authorization"].to_str().unwrap().strip_prefix("Bearer ").unwrap();
        assert!(UPSTREAM_KEYS.contains(&ours), "naming it in Connection does not take our own key out");
        rig.finish().await;
    }
    for down in BOTH {
        let mut rig = Rig::new(down, Http::One, "").await;
        let sent = [
            ("connection", "x-hop, x-request-id"),
            ("x-hop", "1"),
            ("keep-alive", "timeout=5"),
            ("x-end", "1"),
        ];
        let (_, given) = ask(&mut rig, &[], answer_with(&sent)).await;
        only(&["x-end"], &sent, &given.answer.headers);
        assert!(given.answer.headers.contains_key("x-request-id"), "ours is not theirs to name");
        rig.finish().await;
    }
}

#[tokio::test]
async fn the_words_of_a_status_line_are_not_passed_on() {
    for down in BOTH {
        let mut rig = Rig::new(down, Http::One, "").await;
        for status in [200, 404] {
            let line = format!("HTTP/1.1 {status} {}\r\ncontent-length: 2\r\n\r\nok", UPSTREAM_KEYS[0]);
            let request = rig.request("GET", "/v1/models").header("api-key", CLIENT_KEYS[0]);
            let script = Script::new(vec![Step::Raw(Bytes::from(line))]);
            let (_, given) = rig.exchange(request.body(streamed([], None)).unwrap(), script).await;
            assert_eq!((given.answer.status.as_u16(), &given.answer.body[..]), (status, &b"ok"[..]));
            holds_none(&given.everything(), UPSTREAM_KEYS).unwrap();
        }
        rig.finish().await;
    }
}

#[tokio::test]
async fn a_status_beyond_http_is_an_error_like_any_other() {
    let mut rig = Rig::new(Http::One, Http::One, "").await;
    let line =
        format!("HTTP/1.1 799 Odd\r\ncontent-length: {}\r\n\r\n{}", UPSTREAM_KEYS[0].len(), UPSTREAM_KEYS[0]);
    let request = rig.request("GET", "/v1/models").header("api-key", CLIENT_KEYS[0]);
    let script = Script::new(vec![Step::Raw(Bytes::from(line))]);
    let (_, given) = rig.exchange(request.body(streamed([], None)).unwrap(), script).await;
    holds_none(&given.everything(), UPSTREAM_KEYS).unwrap();
    assert_eq!(given.answer.json()["error"]["code"], "upstream_error_withheld");
    rig.finish().await;
}

#[tokio::test]
async fn an_error_that_cannot_be_read_is_withheld() {
    for mut rig in Rig::all().await {
        let mut head = answer_with(&[("content-encoding", "gzip")]);
        head.status = StatusCode::BAD_REQUEST;
        let (_, given) = ask(&mut rig, &[], head).await;
        assert_eq!(given.answer.status, 400);
        assert_eq!(given.answer.json()["error"]["code"], "upstream_error_withheld");
        rig.finish().await;
    }
}

#[tokio::test]
async fn credentials_by_their_name_leave_the_query() {
    for mut rig in Rig::all().await {
        let key = CLIENT_KEYS[0];
        let path =
            format!("/v1/models?a=1&key={key}&API-Key={key}&b=%2F&api_key=&access_token={key}&monkey=2");
        let request = rig.request("GET", &path).header("authorization", format!("bearer {key}"));
        let (record, _) = rig.exchange(request.body(streamed([], None)).unwrap(), answering(ok())).await;
        let record = record.unwrap();
        assert_eq!(record.target, "/v1/models?a=1&b=%2F&monkey=2");
        holds_none(&everything(&record), CLIENT_KEYS).unwrap();
        rig.finish().await;
    }
}

#[tokio::test]
async fn the_host_that_the_caller_names_is_no_place_for_a_key_either() {
    let mut rig = Rig::new(Http::One, Http::One, "forward_address = true").await;
    let host = "api.example.com:8443";
    for (host, forwarded) in [(host, Some(host)), (CLIENT_KEYS[0], None)] {
        let mut request = rig.request("GET", "/v1/models").header("x-api-key", CLIENT_KEYS[0]);
        request.headers_mut().unwrap().insert("host", HeaderValue::from_static(host));
        let (record, _) = rig.exchange(request.body(streamed([], None)).unwrap(), answering(ok())).await;
        let record = record.unwrap();
        holds_none(&everything(&record), CLIENT_KEYS).unwrap();
        assert_eq!(record.headers.get("x-forwarded-host").map(|value| value.to_str().unwrap()), forwarded);
        assert_eq!(record.headers["x-forwarded-for"], "127.0.0.1");
        assert_eq!(record.headers["x-forwarded-proto"], "http");
    }
    rig.finish().await;
}
