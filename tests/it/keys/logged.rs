//! Requests that fail, and places that are logged: no key gets into the log by any of them.

use bytes::Bytes;
use http::{HeaderMap, StatusCode};
use serde_json::{Value, json};
use sluicegate::simulator::{Head, Script, Step};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpListener,
};

use super::{
    forms::Form,
    rig::{CLIENT_KEYS, Given, Rig, UPSTREAM_KEYS, everything, holds_none, streamed},
};
use crate::harness::{Gateway, GatewayToml, Http, UPSTREAM_KEY, chat, whole};

/// Header lines.
type Lines<'l> = &'l [(&'l str, &'l str)];

/// What the log is to show for a path that holds a key.
const WITHHELD: &str = "[withheld: holds the key]";

/// Asks `path` with these headers; nothing of the caller's may reach the upstream.
async fn ask(rig: &mut Rig, path: &str, headers: Lines<'_>) -> Given {
    let mut request = rig.request("GET", path);
    for (name, value) in headers {
        request = request.header(*name, *value);
    }
    let answer = vec![Step::Head(Head::json(StatusCode::OK, 2)), Step::Send(Bytes::from_static(b"{}"))];
    let (record, given) = rig.exchange(request.body(streamed([], None)).unwrap(), Script::new(answer)).await;
    if let Some(record) = record {
        holds_none(&everything(&record), CLIENT_KEYS).unwrap();
    }
    given
}

async fn last_line(rig: &Rig, exchanges: usize) -> Value {
    rig.gateway.log.line(exchanges).await
}

#[tokio::test]
async fn a_path_that_holds_a_key_is_not_logged() {
    for mut rig in Rig::all().await {
        let key = CLIENT_KEYS[0];
        let bearer = format!("Bearer {key}");
        let basic = Form::Basic.write(key, "me", "");
        let encoded = Form::Percent(0x5a5a_1234_5678_9abc).write(key, "", "");
        let base64 = Form::Base64Url.write(key, "user:", "");
        let with_key = [("authorization", &*bearer)];
        let two = [("authorization", &*bearer), ("x-api-key", "another-key-entirely")];
        let malformed = [("authorization", &*basic)];
        let wrong = [("x-api-key", key), ("authorization", "Bearer another-key-entirely")];
        let cases: [(String, Lines<'_>, u16); 9] = [
            (format!("/v1/{key}/models"), &with_key, 400),
            (format!("/v1/{encoded}"), &with_key, 400),
            (format!("/v1/x-{base64}/y"), &with_key, 400),
            // No route, no caller, no canonical form, two callers: all are refused before anybody is known.
            (format!("/elsewhere/{key}"), &with_key, 404),
            (format!("/v1/{key}/%2f"), &with_key, 400),
            (format!("/v1/{key}"), &two, 400),
            (format!("/v1/{key}"), &wrong, 400),
            (format!("/v1/{key}"), &malformed, 401),
            (format!("/v1/{key}?key={encoded}"), &[], 400),
        ];
        for (at, (path, headers, status)) in cases.into_iter().enumerate() {
            let given = ask(&mut rig, &path, headers).await;
            assert_eq!(given.answer.status, status, "{path}: {:?}", given.answer);
            assert_eq!(last_line(&rig, at + 1).await["path"], WITHHELD, "{path}");
        }
        // What holds none is.
        ask(&mut rig, "/elsewhere/models", &with_key).await;
        assert_eq!(last_line(&rig, 10).await["path"], "/elsewhere/models");
        rig.finish().await;
    }
}

#[tokio::test]
async fn the_upstreams_key_in_a_path_is_not_logged() {
    for mut rig in Rig::all().await {
        let paths = [format!("/v1/{}", UPSTREAM_KEYS[0]), format!("/elsewhere/{}", UPSTREAM_KEYS[0])];
        for (at, path) in paths.iter().enumerate() {
            ask(&mut rig, path, &[("x-api-key", CLIENT_KEYS[0])]).await;
            assert_eq!(last_line(&rig, at + 1).await["path"], WITHHELD, "{path}");
        }
        rig.finish().await;
    }
}

#[tokio::test]
async fn a_key_that_only_the_canonical_path_shows_does_not_pass() {
    for mut rig in Rig::all().await {
        // The second key has slashes, so that dot segments may hide it.
        let hidden = CLIENT_KEYS[1].replace('?', "%3F").replace("/+", "/x/../+");
        let given = ask(&mut rig, &format!("/v1/{hidden}/models"), &[("x-api-key", CLIENT_KEYS[1])]).await;
        assert_eq!(given.answer.status, 400, "{:?}", given.answer);
        rig.finish().await;
    }
}

#[tokio::test]
async fn a_method_or_a_model_that_is_a_key_is_not_logged() {
    for mut rig in Rig::all().await {
        let request = rig.request(CLIENT_KEYS[0], "/v1/models").header("x-api-key", CLIENT_KEYS[0]);
        let (record, given) =
            rig.exchange(request.body(streamed([], None)).unwrap(), Script::default()).await;
        assert!(record.is_none() && given.answer.status == 400, "{:?}", given.answer);

        for key in [CLIENT_KEYS[1], UPSTREAM_KEYS[1]] {
            let body = json!({ "model": format!("gpt-{key}"), "messages": [] }).to_string();
            let request = rig.request("POST", "/v1/chat/completions").header("x-api-key", CLIENT_KEYS[1]);
            let request = request.header("content-type", "application/json").body(whole(body)).unwrap();
            let answer = json!({ "model": format!("gpt-{}", UPSTREAM_KEYS[0]), "choices": [] }).to_string();
            let answer =
                vec![Step::Head(Head::json(StatusCode::OK, answer.len())), Step::Send(answer.into())];
            let (_, given) = rig.exchange(request, Script::new(answer)).await;
            assert_eq!(given.answer.status, 200);
        }
        rig.finish().await;
    }
}

/// An upstream that speaks HTTP/2 by hand, and ends each connection with a GOAWAY (RFC 9113 section 6.8) that says `debug`.
async fn goes_away(listener: TcpListener, debug: &str) {
    let frame = |kind: u8, payload: &[u8]| {
        let length = u32::try_from(payload.len()).unwrap().to_be_bytes();
        [&length[1..], &[kind, 0, 0, 0, 0, 0], payload].concat()
    };
    loop {
        let (mut socket, _) = listener.accept().await.unwrap();
        socket.write_all(&frame(4, b"")).await.unwrap();
        socket.read_exact(&mut [0; 24]).await.unwrap();
        // Once the request's HEADERS are there, it is an exchange that breaks off.
        let mut kind = 0;
        while kind != 1 {
            let mut head = [0; 9];
            socket.read_exact(&mut head).await.unwrap();
            kind = head[3];
            let length = u32::from_be_bytes([0, head[0], head[1], head[2]]);
            socket.read_exact(&mut vec![0; length as usize]).await.unwrap();
        }
        let enhance_your_calm = [&[0, 0, 0, 0, 0, 0, 0, 11], debug.as_bytes()].concat();
        socket.write_all(&frame(7, &enhance_your_calm)).await.unwrap();
        while socket.read(&mut [0; 1024]).await.is_ok_and(|read| read > 0) {}
    }
}

#[tokio::test]
async fn what_an_upstream_says_when_it_breaks_off_is_not_logged_with_a_key_in_it() {
    for (debug, shown) in [("too many pings", "too many pings"), (UPSTREAM_KEY, WITHHELD)] {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let upstream = listener.local_addr().unwrap();
        let task = tokio::spawn(goes_away(listener, debug));
        let toml = GatewayToml::new().upstream("odd", &format!("http://{upstream}"), "http2 = true");
        let gateway = Gateway::start(&toml);
        let answer = chat(gateway.address(), Http::One).await;
        assert_eq!(answer.status, 502, "{answer:?}");
        let line = gateway.log.line(1).await;
        assert!(line["cause"].as_str().unwrap().contains(shown), "{line}");
        holds_none(line.to_string().as_bytes(), UPSTREAM_KEYS).unwrap();
        task.abort();
    }
}

#[tokio::test]
async fn refused_keys_are_neither_logged_nor_told_back() {
    for mut rig in Rig::all().await {
        let unknown = "sk-nobody-knows-this-key-0123456789";
        let nearly = &CLIENT_KEYS[0][..CLIENT_KEYS[0].len() - 1];
        for (at, key) in [unknown, nearly, UPSTREAM_KEYS[0]].into_iter().enumerate() {
            let mut headers = HeaderMap::new();
            headers.insert("authorization", format!("Bearer {key}").parse().unwrap());
            let bearer = headers["authorization"].to_str().unwrap();
            let given = ask(&mut rig, "/v1/models", &[("authorization", bearer)]).await;
            assert_eq!(given.answer.status, 401);
            assert_eq!(given.answer.json()["error"]["code"], "invalid_api_key");
            holds_none(&given.everything(), [key, UPSTREAM_KEYS[1]]).unwrap();
            let line = last_line(&rig, at + 1).await;
            assert_eq!((&line["error"], &line["phase"]), (&json!("invalid_api_key"), &json!("request")));
            holds_none(line.to_string().as_bytes(), [key, UPSTREAM_KEYS[1]]).unwrap();
        }
        rig.finish().await;
    }
}
