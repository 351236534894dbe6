//! What an operator relies on: probes that are always answered, a state that says what it leaves out, a worker that is stuck and gets
//! no further connections, and secrets in header values.

use std::sync::{Arc, Condvar, Mutex};

use http::StatusCode;
use sluicegate::simulator::{Framing, Head, Script, Step};
use tokio::task::JoinSet;

use crate::{
    folder::Folder,
    harness::{
        Answer, Client, Gateway, GatewayToml, Http, Keys, Raw, body_of, chat, post, request, safely, send,
        simulator, whole,
    },
    metrics::scrape::Scrape,
};

const FAILURES: &str = "sluicegate_connection_failures_total";
const ADMIN: &str = "[admin]\naddress = \"127.0.0.1:0\"";

async fn operator(gateway: &Gateway, path: &str) -> Answer {
    let admin = gateway.admin.unwrap();
    safely(send(admin, Http::One, request(admin, Http::One, "GET", path).body(whole("")).unwrap())).await
}

/// Clients that are silent, or have sent half a request, or ask for more than they read.
async fn useless(gateway: &Gateway, count: usize, begin: &str) -> Vec<Raw> {
    let mut clients = Vec::new();
    for _ in 0..count {
        let mut client = Raw::connect(gateway.admin.unwrap()).await;
        client.write(begin).await;
        clients.push(client);
    }
    clients
}

#[tokio::test]
async fn no_connection_to_the_operators_listener_silences_the_probes() {
    let upstream = simulator().await;
    let gateway = Gateway::with(&upstream, Http::One, Keys { more: ADMIN, ..Keys::default() });
    let unread = "GET /config HTTP/1.1\r\nhost: localhost\r\n\r\n".repeat(500);
    for (count, begin) in [(32, ""), (200, ""), (32, "GET /heal"), (200, "GET /heal"), (200, &*unread)] {
        let mut dripping = useless(&gateway, count, begin).await;
        for path in ["/healthz", "/readyz", "/metrics"] {
            assert_eq!(operator(&gateway, path).await.status, StatusCode::OK, "{count} {path}");
        }
        // Those that are still open drip on; those that were closed do not.
        for client in &mut dripping {
            let _ = client.tcp.try_write(b"t");
        }
        assert_eq!(operator(&gateway, "/healthz").await.text(), "ok\n");
    }
}

#[tokio::test]
async fn the_state_says_how_many_exchanges_it_does_not_list() {
    const OPEN: usize = 1005;
    let upstream = simulator().await;
    let server = "http2_max_streams = 2000";
    let keys = Keys { more: ADMIN, server, one_worker: true, ..Keys::default() };
    let gateway = Gateway::with(&upstream, Http::One, keys);
    let mut client = Client::connect(gateway.address(), Http::Two).await;
    let mut open = Vec::new();
    for _ in 0..OPEN {
        let (rest, body) = body_of();
        let request = post(gateway.address(), Http::Two, "/v1/chat/completions").body(body).unwrap();
        open.push((rest, tokio::spawn(client.begin(request).await)));
    }
    safely(async {
        while gateway.loads()[0].0 < OPEN {
            tokio::task::yield_now().await;
        }
    })
    .await;
    let state = operator(&gateway, "/status").await.json();
    assert_eq!(state["workers"][0]["exchanges"], OPEN);
    assert_eq!(state["exchanges"].as_array().unwrap().len(), 1000);
    assert_eq!(state["exchanges_not_listed"], 5);
}

/// Blocks `worker-0` until it is opened.
#[derive(Clone, Default)]
struct Block(Arc<(Mutex<State>, Condvar)>);

#[derive(Default, PartialEq)]
enum State {
    #[default]
    Free,
    Blocked,
    Opened,
}

impl Block {
    /// Runs on each worker.
    fn enter(&self) {
        if std::thread::current().name() == Some("worker-0") {
            let (state, opened) = &*self.0;
            let mut state = state.lock().unwrap();
            *state = State::Blocked;
            drop(opened.wait_while(state, |state| *state == State::Blocked).unwrap());
        }
    }

    fn is_entered(&self) -> bool {
        *self.0.0.lock().unwrap() == State::Blocked
    }

    fn open(&self) {
        let (state, opened) = &*self.0;
        *state.lock().unwrap() = State::Opened;
        opened.notify_all();
    }
}

/// A client comes when the one before was answered, or was handed to the worker that is stuck.
#[tokio::test]
async fn a_worker_that_is_stuck_gets_no_further_connections() {
    let upstream = simulator().await;
    let gateway = Gateway::with(&upstream, Http::One, Keys { more: ADMIN, ..Keys::default() });
    let block = Block::default();
    let (entered, workers) = (block.clone(), gateway.workers().clone());
    let within = std::time::Duration::from_secs(60);
    let blocking = tokio::spawn(async move { workers.ask(within, move |_| entered.enter()).await });
    safely(async {
        while !block.is_entered() {
            tokio::task::yield_now().await;
        }
    })
    .await;
    let mut waiting = JoinSet::new();
    let handed = || gateway.loads()[0].1;
    for _ in 0..200 {
        let before = waiting.len();
        waiting.spawn(chat(gateway.address(), Http::One));
        safely(async {
            while handed() <= before {
                match waiting.try_join_next() {
                    Some(answer) => {
                        assert_eq!(answer.unwrap().status, StatusCode::OK);
                        break;
                    }
                    None => tokio::task::yield_now().await,
                }
            }
        })
        .await;
    }
    // Those that were handed over before the worker was known to be stuck.
    assert_eq!(handed(), waiting.len());
    assert!(waiting.len() <= 8, "{}", waiting.len());
    let state = operator(&gateway, "/status").await.json();
    assert_eq!(
        (&state["workers"][0]["answers"], &state["workers"][0]["connections"]),
        (&false.into(), &waiting.len().into())
    );
    block.open();
    while let Some(answer) = safely(waiting.join_next()).await {
        assert_eq!(answer.unwrap().status, StatusCode::OK);
    }
    blocking.await.unwrap();
}

const SECRET: &str = "Bearer gw-secret-5kQ2mX81";

/// An error that the upstream answers with, in which it repeats what it was sent.
fn repeating(text: &str) -> Script {
    let body = format!(r#"{{"error":{{"message":"bad token {text}","type":"invalid_request_error"}}}}"#);
    let head = Head::new(StatusCode::BAD_REQUEST, "application/json", Framing::Known(body.len() as u64));
    Script::new(vec![Step::Head(head), Step::Send(body.into())])
}

#[tokio::test]
async fn a_secret_header_value_goes_upstream_and_is_shown_nowhere() {
    let upstream = simulator().await;
    let folder = Folder::new();
    let file = folder.write("token", &format!("{SECRET}\n"));
    let toml = GatewayToml::before(
        &upstream.url(),
        format!("retry = \"off\"\nheaders = {{ x-team = {{ file = \"{file}\" }} }}"),
    )
    .route(format!("request_headers = {{ set = {{ x-second = {{ file = \"{file}\" }} }} }}"))
    .admin();
    let gateway = Gateway::start(&toml);
    for repeated in [SECRET, SECRET.strip_prefix("Bearer ").unwrap()] {
        upstream.queue(repeating(repeated));
        let answer = chat(gateway.address(), Http::One).await;
        assert!(!answer.text().contains("gw-secret"), "{}", answer.text());
    }
    let records = upstream.records();
    assert_eq!(records.len(), 2);
    assert_eq!(
        (&records[0].headers["x-team"], &records[0].headers["x-second"]),
        (&SECRET.parse().unwrap(), &SECRET.parse().unwrap())
    );
    let shown = operator(&gateway, "/config").await;
    assert!(shown.text().contains("token") && !shown.text().contains("gw-secret"), "{}", shown.text());
    // A change of the file is a change of the configuration.
    folder.write("token", "another-secret-7");
    gateway.reload(&toml).await;
    upstream.queue(repeating("another-secret-7"));
    let answer = chat(gateway.address(), Http::One).await;
    assert!(!answer.text().contains("another-secret-7"), "{}", answer.text());
    assert_eq!(upstream.records()[2].headers["x-team"], "another-secret-7");
    assert!(!gateway.log.text().contains("-secret-"), "{}", gateway.log.text());
}

#[tokio::test]
async fn plain_http_on_a_tls_port_is_counted() {
    let upstream = simulator().await;
    let folder = Folder::new();
    let issued = rcgen::generate_simple_self_signed(vec!["localhost".into()]).unwrap();
    let chain = folder.write("chain.pem", &issued.cert.pem());
    let key = folder.write("key.pem", &issued.signing_key.serialize_pem());
    let gateway = Gateway::start(
        &GatewayToml::before(&upstream.url(), "")
            .listener(format!("tls = {{ certificate = \"{chain}\", key = \"{key}\" }}"))
            .defaults("languages = [\"en\", \"zh\"]")
            .admin(),
    );
    let mut raw = Raw::connect(gateway.address()).await;
    raw.write("GET /v1/models HTTP/1.1\r\nAccept-Language: zh-CN\r\nhost: g\r\n\r\n").await;
    let answer = String::from_utf8(raw.read_to_end().await.0).unwrap();
    assert!(answer.contains("content-language: zh\r\n") && answer.contains("需要 TLS"), "{answer}");
    let mut raw = Raw::connect(gateway.address()).await;
    raw.write("GET /v1/models HTTP/1.1\r\nhost: g\r\n\r\n").await;
    let answer = String::from_utf8(raw.read_to_end().await.0).unwrap();
    assert!(answer.starts_with("HTTP/1.1 400 ") && answer.contains("x-should-retry: false"), "{answer}");
    let body: serde_json::Value = serde_json::from_str(answer.split_once("\r\n\r\n").unwrap().1).unwrap();
    assert_eq!(body["error"]["code"], "tls_required");
    assert!(body["error"]["message"].as_str().unwrap().contains("https://"), "{body}");
    let scrape = Scrape::of(gateway.admin.unwrap(), "").await;
    assert_eq!(scrape.sum(FAILURES, &["class=\"plain_http\""]), 2.0);
}

#[tokio::test]
async fn a_tls_client_of_a_plain_port_is_counted() {
    let upstream = simulator().await;
    let gateway = Gateway::with(&upstream, Http::One, Keys { more: ADMIN, ..Keys::default() });
    // The beginning of a ClientHello, and a head that is neither HTTP nor TLS.
    for (bytes, class) in [
        (&b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03"[..], "tls_on_plain"),
        (b"\x00\x01\x02\r\n\r\n", "bad_head"),
    ] {
        let mut raw = Raw::connect(gateway.address()).await;
        raw.write(bytes).await;
        raw.read_to_end().await;
        let label = format!("class=\"{class}\"");
        let counted = async || Scrape::of(gateway.admin.unwrap(), "").await.sum(FAILURES, &[&label]);
        // The client sees the end before it is counted.
        safely(async { while counted().await < 1.0 {} }).await;
    }
}
