//! Ephemeral keys that are not valid, or not any more, or not for the request.

use http::StatusCode;

use super::rig::{Rig, SECRET, answer, in_seconds, secret};
use crate::{
    harness::{Answer, BOTH, CLIENT_KEY, request, whole},
    websocket::rig::{HANDSHAKE, ask_plainly},
};

fn is_refused(answer: &Answer, status: u16, code: &str, reason: &str) {
    assert_eq!((answer.status.as_u16(), &*answer.code()), (status, code), "{answer:?}");
    assert!(answer.text().contains(reason), "{reason}: {answer:?}");
    assert_eq!(answer.headers["x-should-retry"], "false");
    assert!(!answer.text().contains(SECRET));
}

#[tokio::test]
async fn what_is_expired_foreign_or_altered_is_a_401_with_the_reason() {
    let rig = Rig::new("").await;
    let body = secret(SECRET, in_seconds(-1)).to_string();
    let expired = rig.issue_at(BOTH[0], "/v1/realtime/client_secrets", body.as_bytes()).await;
    let expired = expired.json()["value"].as_str().unwrap().to_owned();
    let valid = rig.issue().await;
    let altered = format!("{}A{}", &valid[..30], &valid[31..]);
    for (key, code, reason) in [
        (&*expired, "ephemeral_key_expired", "expired"),
        (SECRET, "invalid_ephemeral_key", "not issued by this gateway"),
        (&altered, "invalid_ephemeral_key", "altered"),
        (&valid[..40], "invalid_ephemeral_key", "altered"),
    ] {
        let answer = rig.send(rig.with_key("POST", "/v1/realtime/calls", key, "v=0")).await;
        is_refused(&answer, 401, code, reason);
        let headers =
            format!("{HANDSHAKE}sec-websocket-protocol: realtime, openai-insecure-api-key.{key}\r\n");
        let mut client = ask_plainly(rig.gateway.address(), "/v1/realtime?model=m", &headers).await;
        assert!(client.head.starts_with("HTTP/1.1 401 "), "{}", client.head);
        assert_eq!(client.body().await["error"]["code"], code);
    }
    assert_eq!(rig.upstream.records().len(), 0, "nothing was sent");
    rig.gateway.finish(10).await;
}

#[tokio::test]
async fn an_ephemeral_key_is_for_realtime_alone() {
    let rig = Rig::new("").await;
    let key = rig.issue().await;
    for (method, path) in [
        ("POST", "/v1/chat/completions"),
        ("GET", "/v1/models"),
        ("POST", "/v1/realtime/client_secrets"),
        ("POST", "/v1/realtime/calls/rtc_1/accept"),
        ("DELETE", "/v1/realtime/calls"),
        ("GET", "/v1/responses"),
    ] {
        let answer = rig.send(rig.with_key(method, path, &key, "{}")).await;
        is_refused(&answer, 403, "ephemeral_key_not_allowed", "Realtime");
    }
    // In a query it proves nothing.
    let path = format!("/v1/realtime?model=m&api-key={key}");
    let client = ask_plainly(rig.gateway.address(), &path, HANDSHAKE).await;
    assert!(client.head.starts_with("HTTP/1.1 401 "), "{}", client.head);
    assert_eq!(rig.upstream.records().len(), 0, "nothing was sent");
}

#[tokio::test]
async fn it_ends_with_what_it_was_issued_for() {
    let rig = Rig::new("").await;
    let key = rig.issue().await;
    let call = || rig.with_key("POST", "/v1/realtime/calls", &key, "v=0");
    let other_client = |routes: &str| {
        let other = "[client.other]\nkey = \"sha256:0000000000000000000000000000000000000000000000000000000000000000\"";
        rig.toml("").without_client().more(format!("{other}\n{routes}"))
    };
    rig.gateway.reload(&other_client("")).await;
    is_refused(&rig.send(call()).await, 401, "invalid_ephemeral_key", "its client does not exist any more");
    let elsewhere = "[route.other]\npath = \"/other\"\nupstreams = [\"spare\"]";
    rig.gateway.reload(&rig.toml("").client("routes = [\"other\"]").more(elsewhere)).await;
    is_refused(&rig.send(call()).await, 401, "invalid_ephemeral_key", "its client may not use the route");
    let mut toml = rig.toml("");
    toml = toml.route_to("upstreams = [\"spare\"]");
    rig.gateway.reload(&toml).await;
    is_refused(&rig.send(call()).await, 401, "invalid_ephemeral_key", "does not lead to the upstream");
    // All as before: it is valid again.
    rig.gateway.reload(&rig.toml("")).await;
    rig.upstream.queue(answer(StatusCode::CREATED, b"v=0"));
    assert_eq!(rig.send(call()).await.status, 201);
    assert_eq!((rig.upstream.records().len(), rig.spare.records().len()), (1, 0));
}

#[tokio::test]
async fn the_upstream_alone_that_has_issued_it_is_tried() {
    let rig = Rig::new("").await;
    let key = rig.issue().await;
    for (status, code) in [(401, "invalid_api_key"), (429, "rate_limit_exceeded"), (500, "server_error")] {
        rig.upstream.reset();
        let body =
            format!("{{\"error\":{{\"message\":\"m\",\"type\":\"t\",\"param\":null,\"code\":\"{code}\"}}}}");
        rig.upstream.queue(answer(StatusCode::from_u16(status).unwrap(), body.as_bytes()));
        let answer = rig.send(rig.with_key("POST", "/v1/realtime/calls", &key, "v=0")).await;
        assert_eq!((answer.status.as_u16(), answer.text()), (status, &*body), "the upstream's own error");
        assert_eq!((rig.upstream.records().len(), rig.spare.records().len()), (1, 0));
    }
    // An error that repeats the secret is withheld.
    let body = format!("{{\"error\":{{\"message\":\"bad key {SECRET}\"}}}}");
    rig.upstream.queue(answer(StatusCode::UNAUTHORIZED, body.as_bytes()));
    let answer = rig.send(rig.with_key("POST", "/v1/realtime/calls", &key, "v=0")).await;
    assert_eq!((answer.status.as_u16(), &*answer.code()), (401, "upstream_error_withheld"));
    // The gateway's own key has had no failure.
    assert!(rig.issue().await.starts_with("ek_sg_"));
    for line in rig.gateway.log.access() {
        assert!(!line.to_string().contains(SECRET) && !line.to_string().contains("ek_sg_"), "{line}");
    }
}

/// Of several keys the one of a known client counts, unless the ephemeral key is another client's.
#[tokio::test]
async fn an_ephemeral_key_beside_a_clients_own() {
    let rig = Rig::new("").await;
    let key = rig.issue().await;
    let other = "sk-sg-the-key-of-another-client-0123456789";
    let hash = sluicegate::config::KeyHash::of(other.as_bytes());
    rig.gateway.reload(&rig.toml("").more(format!("[client.other]\nkey = \"{hash}\""))).await;
    for (own, status) in [(CLIENT_KEY, 200), (other, 400), ("sk-nobodys", 201)] {
        if status != 400 {
            rig.upstream.queue(answer(StatusCode::from_u16(status).unwrap(), b"{}"));
        }
        let mut request = rig.with_key("POST", "/v1/realtime/calls", &key, "v=0");
        request.headers_mut().insert("x-api-key", own.parse().unwrap());
        let answered = rig.send(request).await;
        assert_eq!(answered.status.as_u16(), status, "{answered:?}");
        if status == 400 {
            assert_eq!(answered.code(), "conflicting_credentials");
        }
    }
}

/// A page sees neither the status nor the body of a response that refuses its handshake.
#[tokio::test]
async fn a_page_is_told_in_a_close_frame() {
    let rig = Rig::new("").await;
    let body = secret(SECRET, in_seconds(-1)).to_string();
    let expired = rig.issue_at(BOTH[0], "/v1/realtime/client_secrets", body.as_bytes()).await;
    let expired = expired.json()["value"].as_str().unwrap().to_owned();
    rig.gateway.reload(&rig.toml("").route("cors = { origins = [\"https://app.test\"] }")).await;
    for (key, reason) in [(&*expired, "expired"), (SECRET, "not issued by this gateway")] {
        let headers = format!(
            "{HANDSHAKE}origin: https://app.test\r\nsec-websocket-protocol: realtime, openai-insecure-api-key.{key}\r\n"
        );
        let mut page = ask_plainly(rig.gateway.address(), "/v1/realtime?model=m", &headers).await;
        assert!(page.head.starts_with("HTTP/1.1 101 "), "{}", page.head);
        let (code, told) = page.next_close().await;
        assert!(code == 3000 && told.contains(reason), "{code} {told}");
    }
}

/// A key of nobody is for open routes.
#[tokio::test]
async fn an_ephemeral_key_of_an_open_route_is_for_open_routes() {
    let rig = Rig::new("").await;
    let open = rig.toml("").route("access = \"open\"");
    rig.gateway.reload(&open).await;
    let body = secret(SECRET, in_seconds(60)).to_string();
    rig.upstream.queue(answer(StatusCode::OK, body.as_bytes()));
    let request = request(rig.gateway.address(), BOTH[0], "POST", "/v1/realtime/client_secrets");
    let issued = rig.send(request.body(whole("{}")).unwrap()).await;
    let key = issued.json()["value"].as_str().unwrap().to_owned();
    let call = || rig.with_key("POST", "/v1/realtime/calls", &key, "v=0");
    rig.upstream.queue(answer(StatusCode::CREATED, b"v=0"));
    assert_eq!(rig.send(call()).await.status, 201);
    rig.gateway.reload(&rig.toml("")).await;
    is_refused(&rig.send(call()).await, 401, "invalid_ephemeral_key", "issued to no client");
}
