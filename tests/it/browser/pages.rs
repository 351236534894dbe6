//! openai-node in pages of two origins: one that the gateway's configuration lists, and one that it does not.

use std::time::{SystemTime, UNIX_EPOCH};

use aws_lc_rs::digest;
use base64::{Engine as _, engine::general_purpose::STANDARD};
use http::{HeaderValue, StatusCode};
use rcgen::{CertificateParams, KeyPair, PublicKeyData as _};
use serde_json::{Value, json};
use sluicegate::simulator::{Framing, Head, Options, Protocols, Script, Simulator, Step};

use super::{chromium::Chromium, site::Site};
use crate::{
    folder::Folder,
    harness::{Answer, CLIENT_KEY, Gateway, GatewayToml, Http, post, send, whole},
    sdk::packages,
};

/// Where a Realtime call over WebRTC is.
const CALL: &str = "/v1/realtime/calls/rtc_1";

const MODEL: &str = "gpt-4o-mini";

/// A provider's ephemeral key.
const SECRET: &str = "ek_68af296e8e408191a1120ab6383263c2";

#[tokio::test]
async fn openai_in_a_page_sees_what_other_clients_see() {
    let package = packages::node_package("openai");
    // It takes any key, because an ephemeral one is the provider's own.
    let options = Options { protocols: Protocols::Both, ..Options::default() };
    let upstream = Simulator::start(options).await.unwrap();
    let (listener, port) = Site::bind().await;
    let folder = Folder::new();
    let certificate = Certificate::of_localhost(&folder);
    let mut gateway = gateway(&upstream.url(), &certificate, port);
    let [secure, plain] = [0, 1].map(|listener: usize| gateway.addresses[listener].port());
    let bases = [format!("https://localhost:{secure}/v1"), format!("http://127.0.0.2:{plain}/v1")];
    prepare(&upstream, &bases);
    let settings = json!({ "bases": bases, "key": CLIENT_KEY, "model": MODEL });
    let mut site = Site::serve(listener, package, settings);

    let browser = Chromium::open(&site.page("app", "listed"), &certificate.digest);
    let seen = site.report(&browser).await;
    drop(browser);
    for (base, protocol) in bases.iter().zip(["HTTP/2", "HTTP/1.1"]) {
        let other = expected(&gateway).await;
        is_seen(&seen["seen"][base], &other);
        is_logged(&gateway, protocol).await;
    }
    are_turns(&seen);
    let refused = &seen["wrongKey"];
    assert_eq!(refused["code"], 3000, "{refused:#}");
    assert!(refused["reason"].as_str().unwrap().contains("Incorrect API key"), "{refused:#}");

    let asked = upstream.records().len();
    let browser = Chromium::open(&site.page("other", "unlisted"), &certificate.digest);
    let seen = site.report(&browser).await;
    drop(browser);
    is_kept_out(&seen);
    assert_eq!(upstream.records().len(), asked, "no request of a page that is not listed goes upstream");
    gateway.ask_to_stop();
    gateway.ended().await;
    let cause = format!("the origin is http://other.localhost:{port}");
    let mut lines = gateway.log.access();
    lines.retain(|line| line["cause"] == cause);
    let refused: Vec<_> =
        lines.iter().map(|line| (line["method"].as_str().unwrap(), &line["error"])).collect();
    let code = &json!("origin_not_allowed");
    let expected = ["OPTIONS", "POST", "POST", "GET", "GET"].map(|method| (method, code));
    assert_eq!(refused, expected, "{lines:#?}");
    assert!(gateway.counts().preflights.values().sum::<u64>() > 0);
}

/// TLS on the first listener, because Realtime in openai-node always uses it; the page on `app.localhost` is listed.
fn gateway(upstream: &str, certificate: &Certificate, site: u16) -> Gateway {
    let once = "retry = \"off\"\nbreaker = \"off\"";
    let toml = GatewayToml::new()
        .listener(format!("tls = {{ {} }}\n[[listener]]\naddress = \"127.0.0.2:0\"", certificate.files))
        .defaults(format!("cors = {{ origins = [\"http://app.localhost:{site}\"] }}"))
        .upstream("sim", upstream, once)
        .upstream("gone", "http://127.0.0.1:1", once)
        .route_to("upstreams = [\"sim\"]")
        .more("[route.gone]\npath = \"/gone\"\nupstreams = [\"gone\"]");
    Gateway::start(&toml)
}

/// What the upstream answers where its usual response would not do.
fn prepare(upstream: &Simulator, bases: &[String]) {
    for base in bases {
        let mut head = Head::new(StatusCode::CREATED, "application/sdp", Framing::Known(3));
        head.headers.insert("location", HeaderValue::from_static(CALL));
        let steps = vec![Step::Head(head), Step::Send("v=0".into())];
        upstream.queue_for(&format!("call {base}"), Script::new(steps));
    }
    let end = SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_secs() + 600;
    let body = json!({ "value": SECRET, "expires_at": end, "session": { "type": "realtime" } }).to_string();
    let head = Head::json(StatusCode::OK, body.len());
    upstream.queue_for("secret", Script::new(vec![Step::Head(head), Step::Send(body.into())]));
}

/// The same requests, from a client that is not a browser.
async fn expected(gateway: &Gateway) -> (Answer, Answer) {
    let address = gateway.addresses[1];
    let ask = async |more: &str| {
        let body = format!(r#"{{"model":"{MODEL}",{more}"messages":[{{"role":"user","content":"Hello"}}]}}"#);
        let request = post(address, Http::One, "/v1/chat/completions").body(whole(body)).unwrap();
        send(address, Http::One, request).await
    };
    (ask("").await, ask("\"stream\":true,").await)
}

fn is_seen(seen: &Value, (chat, stream): &(Answer, Answer)) {
    let chat = chat.json();
    assert_eq!(seen["chat"]["content"], chat["choices"][0]["message"]["content"], "{seen:#}");
    assert!(
        seen["chat"]["id"].as_str().unwrap().starts_with("req_") && seen["chat"]["upstreamId"].is_string()
    );
    let chunks = stream.text().matches("data: {").count();
    assert_eq!(seen["stream"], json!({ "chunks": chunks, "content": seen["chat"]["content"] }), "{seen:#}");
    assert!(chunks > 10);
    assert_eq!(seen["aborted"], true);
    let errors = &seen["errors"];
    for (name, kind, status, code) in [
        ("limited", "RateLimitError", 429, "rate_limit_exceeded"),
        ("unknownKey", "AuthenticationError", 401, "invalid_api_key"),
        ("noRoute", "NotFoundError", 404, "route_not_found"),
        ("unreachable", "InternalServerError", 502, "upstream_unreachable"),
    ] {
        let error = &errors[name];
        assert_eq!(
            (&error["kind"], &error["status"], &error["code"]),
            (&json!(kind), &json!(status), &json!(code))
        );
        assert!(error["requestID"].as_str().unwrap().starts_with("req_"), "{error:#}");
    }
    assert_eq!(errors["limited"]["retryAfter"], "7", "{errors:#}");
    assert_eq!(seen["created"], json!({ "status": 201, "location": CALL }), "{seen:#}");
}

/// Realtime, with both kinds of keys.
fn are_turns(seen: &Value) {
    let content = &seen["seen"].as_object().unwrap().values().next().unwrap()["chat"]["content"];
    for turn in [&seen["realtime"], &seen["ephemeral"]] {
        let types = turn["types"].as_array().unwrap();
        let (first, last) = (types.first().unwrap(), types.last().unwrap());
        assert_eq!((first, last), (&json!("session.created"), &json!("response.done")), "{turn:#}");
        assert_eq!((&turn["content"], &turn["protocol"]), (content, &json!("realtime")), "{turn:#}");
        assert_eq!(turn["code"], 1000, "{turn:#}");
    }
    assert_eq!(seen["ephemeral"]["isOfGateway"], true);
}

/// What the gateway says of the page's requests over this protocol.
async fn is_logged(gateway: &Gateway, protocol: &str) {
    let of_page = |line: &&Value| line["protocol"] == protocol && line["status"] != 101;
    let left = |line: &&Value| line["who"] == "downstream" && line["phase"] == "stream";
    let aborted = gateway.log.wait_for(|lines| lines.iter().filter(of_page).find(left).cloned()).await;
    assert_eq!(aborted["path"], "/v1/chat/completions");
    let lines = gateway.log.access();
    assert_eq!(lines.iter().filter(of_page).filter(left).count(), 1, "{lines:#?}");
    assert!(lines.iter().all(|line| line["method"] != "OPTIONS"), "{lines:#?}");
}

/// What a page sees that is not listed.
fn is_kept_out(seen: &Value) {
    let chat = &seen["chat"];
    assert_eq!((&chat["kind"], &chat["status"]), (&json!("APIConnectionError"), &Value::Null));
    assert_eq!((&seen["plain"], &seen["opaque"]), (&json!("TypeError"), &json!("opaque")));
    assert_eq!(seen["realtime"]["code"], 3000, "{seen:#}");
    let reason = seen["realtime"]["reason"].as_str().unwrap();
    assert!(reason.contains("does not accept requests from this web page"), "{reason}");
    assert_eq!(seen["withoutSubprotocol"], json!([1006, ""]));
}

/// A certificate for `localhost` that no authority has signed.
struct Certificate {
    /// The keys of gateway.toml that name its files.
    files: String,
    /// SHA-256 of its public key in base64, as Chromium wants it.
    digest: String,
}

impl Certificate {
    fn of_localhost(folder: &Folder) -> Self {
        let key = KeyPair::generate().unwrap();
        let certificate =
            CertificateParams::new(["localhost".to_owned()]).unwrap().self_signed(&key).unwrap();
        let certificate = folder.write("server.pem", &certificate.pem());
        let spki = digest::digest(&digest::SHA256, &key.subject_public_key_info());
        let key = folder.write("server.key", &key.serialize_pem());
        Self { files: format!("certificate = {certificate:?}, key = {key:?}"), digest: STANDARD.encode(spki) }
    }
}
