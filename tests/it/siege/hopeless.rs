//! One client sends requests that can never succeed. The other clients' requests all succeed, with one target and with two.

use std::{
    cell::Cell,
    time::{Duration, Instant},
};

use http::StatusCode;
use http_body_util::BodyExt;
use sluicegate::{
    config::KeyHash,
    simulator::{Options, Protocols, Simulator},
};

use crate::harness::{
    Answer, BOTH, CLIENT_KEY, Client, Gateway, GatewayToml, Http, request, safely, send, whole,
};

const OTHER_KEY: &str = "sk-sg-other-key-0123456789abcdefABCDEF";

/// What is wrong with a hopeless request: how the upstream responds to it, and the client's own timeout.
const HOPELESS: [(&str, Option<&str>); 5] = [
    ("status=500", None),
    ("error=too-large", None),
    ("error=moderation", None),
    ("status=413", None),
    ("delay=10s", Some("30ms")),
];

const CONTENT: &str = r#"{"model":"gpt-4o","stream":true,"messages":[{"role":"user","content":"NUMBER"}]}"#;

/// The long streams of the other client.
const STREAMS: [Http; 4] = [Http::One, Http::Two, Http::One, Http::Two];

struct Siege {
    upstreams: Vec<Simulator>,
    gateway: Gateway,
    hopeless: Cell<u32>,
}

impl Siege {
    /// A gateway with so many targets and so many keys, and two clients.
    async fn begin(targets: usize, keys: usize, defaults: &str) -> Self {
        let mut upstreams = Vec::new();
        for _ in 0..targets {
            // It takes any key.
            let options = Options { protocols: Protocols::Both, ..Options::default() };
            upstreams.push(Simulator::start(options).await.unwrap());
        }
        let urls: Vec<String> =
            upstreams.iter().map(|upstream| format!("{{ url = \"{}\" }}", upstream.url())).collect();
        // The same key twice is refused.
        let keys = &[r#"{ env = "UPSTREAM_KEY" }"#, r#"{ env = "UPSTREAM_KEY_2" }"#][..keys];
        let key = KeyHash::of(OTHER_KEY.as_bytes());
        let toml = GatewayToml::new()
            .listener("h2c = true")
            .defaults(defaults)
            .upstream_of("main", format!("targets = [{}]\nkeys = [{}]", urls.join(", "), keys.join(", ")))
            .more(format!("[client.other]\nkey = \"{key}\""));
        Self { upstreams, gateway: Gateway::start(&toml), hopeless: Cell::new(0) }
    }

    async fn send(&self, key: &str, simulate: &str, timeout: Option<&str>) -> Answer {
        let number = self.hopeless.get();
        let (at, http) = (self.gateway.address(), BOTH[number as usize % 2]);
        let mut sent = request(at, http, "POST", "/v1/chat/completions")
            .header("authorization", format!("Bearer {key}"))
            .header("content-type", "application/json")
            .header("x-simulate", simulate);
        if let Some(timeout) = timeout {
            sent = sent.header("x-sluicegate-timeout", timeout);
        }
        let body = CONTENT.replace("NUMBER", &number.to_string());
        let mut client = Client::connect(at, http).await;
        safely(async { client.ask(sent.body(whole(body)).unwrap()).await }).await
    }

    /// Sends one request of each kind that can never succeed, all at once.
    async fn hopeless_round(&self) {
        let one = async |(simulate, timeout): (&str, Option<&str>)| {
            self.hopeless.set(self.hopeless.get() + 1);
            let answer = self.send(CLIENT_KEY, simulate, timeout).await;
            let failed = answer.status.is_client_error() || answer.status.is_server_error();
            assert!(failed, "{simulate}: {answer:?}");
        };
        let [server, large, moderated, long, late] = HOPELESS;
        tokio::join!(one(server), one(large), one(moderated), one(long), one(late));
    }

    async fn sparse(&self) {
        let answer = self.send(OTHER_KEY, "frames=3", None).await;
        let done = answer.whole && answer.text().ends_with("data: [DONE]\n\n");
        assert!(
            answer.status == StatusCode::OK && done,
            "after {} hopeless: {answer:?}",
            self.hopeless.get()
        );
    }

    /// A stream that goes on until the gates are opened.
    async fn long_stream(&self, http: Http) -> (Client, http::Response<hyper::body::Incoming>) {
        let at = self.gateway.address();
        let mut client = Client::connect(at, http).await;
        let sent = request(at, http, "POST", "/v1/chat/completions")
            .header("authorization", format!("Bearer {OTHER_KEY}"))
            .header("content-type", "application/json")
            .header("x-simulate", "frames=20; gate=800");
        let mut response = safely(client.send(sent.body(whole(CONTENT)).unwrap())).await.unwrap();
        assert_eq!(response.status(), StatusCode::OK);
        safely(response.body_mut().frame()).await.unwrap().unwrap();
        (client, response)
    }

    /// Lets `streams` streams go on, whichever upstream they come from.
    async fn open_gates(&self, streams: usize) {
        // Each request opens the gate for one response.
        for upstream in self.upstreams.iter().flat_map(|upstream| std::iter::repeat_n(upstream, streams)) {
            let at = upstream.addr();
            let opened = request(at, Http::One, "POST", "/simulator/gate").body(whole("")).unwrap();
            assert!(send(at, Http::One, opened).await.status.is_success());
        }
    }
}

/// `rounds` rounds of hopeless requests, each followed by one request of the other client, beside long streams of the other client.
async fn besiege(targets: usize, keys: usize, defaults: &str, pause: Duration, rounds: usize) {
    let siege = Siege::begin(targets, keys, defaults).await;
    let mut streams = Vec::new();
    for http in STREAMS {
        streams.push(siege.long_stream(http).await);
    }
    let begun = Instant::now();
    for round in 0..rounds {
        siege.hopeless_round().await;
        while begun.elapsed() < pause * u32::try_from(round + 1).unwrap() {
            siege.hopeless_round().await;
        }
        siege.sparse().await;
    }
    siege.open_gates(streams.len()).await;
    for (_client, response) in streams {
        let answer = safely(Answer::read(response)).await;
        assert!(answer.whole && answer.text().ends_with("data: [DONE]\n\n"), "{answer:?}");
    }
    // The streams, the sparse requests, and the hopeless ones.
    let exchanges = STREAMS.len() + rounds + siege.hopeless.get() as usize;
    siege.gateway.finish(exchanges).await;
}

/// Retries wait for a moment only, so that there are many hopeless requests in little time.
const QUICK: &str = r#"retry = { backoff = "5ms", max_backoff = "20ms" }"#;

#[tokio::test]
async fn hopeless_requests_of_one_client_harm_nobody_else_before_one_target_with_one_key() {
    besiege(1, 1, QUICK, Duration::ZERO, 20).await;
}

#[tokio::test]
async fn hopeless_requests_of_one_client_harm_nobody_else_before_two_targets_with_two_keys() {
    besiege(2, 2, QUICK, Duration::ZERO, 20).await;
}

#[tokio::test]
#[ignore = "takes two minutes: run with --ignored"]
async fn hopeless_requests_for_a_minute() {
    for number in [1, 2] {
        besiege(number, number, "", Duration::from_secs(5), 12).await;
    }
}
