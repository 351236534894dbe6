//! Streams, cancels, cuts and retries under a limit on tokens: what the limit has counted is what the provider has served, and that is what burst and
//! rate allow.

use std::{
    net::SocketAddr,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};

use http::{Request, StatusCode};
use sluicegate::{
    exchange::now,
    simulator::{Head, Script, Simulator, Step},
};

use super::super::harness::{
    Answer, Client, Gateway, GatewayToml, Http, Sent, post, safely, simulator, take, whole,
};

/// Tokens a minute, and at once. No request has more than 0.2 % of a minute's.
const RATE: u64 = 500_000;
const BURST: u64 = 15_000;
const LARGEST: u64 = 1_000;

const CALLERS: u64 = 12;
const REQUESTS: u64 = 96;

/// Bytes of a stream after which it breaks off, or its client leaves.
const BROKEN: usize = 6_000;

const ERROR: &str = r#"{"error":{"message":"busy","type":"server_error","code":null}}"#;

/// One request of a client, and how it ends.
#[derive(Debug, Clone, Copy)]
struct Plan {
    number: u64,
    /// Real tokens: four times as many as are expected at first, or a quarter.
    input: u64,
    output: u64,
}

impl Plan {
    fn of(number: u64) -> Self {
        let is_dense = number.is_multiple_of(2);
        // 400 bytes are expected to be 100 tokens.
        let (input, output) = if is_dense { (400, 64) } else { (25, 600) };
        Self { number, input, output }
    }

    fn leaves(self) -> bool {
        self.number % 8 == 3
    }

    fn is_cut(self) -> bool {
        self.number % 8 == 5
    }

    fn is_retried(self) -> bool {
        self.number % 8 == 6
    }

    fn request(self, address: SocketAddr) -> Request<Sent> {
        let model = if self.number.is_multiple_of(2) { "dense" } else { "light" };
        let body = format!(
            r#"{{"model":"{model}","stream":true,"stream_options":{{"include_usage":true}},"messages":[{{"role":"user","content":""}}]}}"#
        );
        let body = body.replace("\"\"", &format!("\"{}\"", "x".repeat(400 - body.len())));
        let Self { number, input, output } = self;
        let broken = match self {
            _ if self.leaves() => format!("; stall={BROKEN}"),
            _ if self.is_cut() => format!("; cut={BROKEN}"),
            _ => String::new(),
        };
        let simulated = format!("frames={output}; usage={input},{output}; batch=16; interval=2{broken}");
        let request = post(address, Http::One, "/v1/chat/completions").header("x-simulate", simulated);
        request.header("x-simulate-id", format!("request-{number}")).body(whole(body)).unwrap()
    }

    /// Sends the request as often as it takes to be admitted, and returns the tokens that the provider has served.
    async fn run(self, address: SocketAddr, refused: &AtomicU64) -> u64 {
        loop {
            let mut client = Client::connect(address, Http::One).await;
            let response = client.send(self.request(address)).await.unwrap();
            if response.status() == StatusCode::TOO_MANY_REQUESTS {
                refused.fetch_add(1, Ordering::Relaxed);
                let wait = response.headers()["retry-after-ms"].to_str().unwrap().parse().unwrap();
                // As SDKs do.
                tokio::time::sleep(Duration::from_millis(wait)).await;
                continue;
            }
            assert_eq!(response.status(), StatusCode::OK);
            if self.leaves() {
                let seen = take(&mut response.into_body(), BROKEN).await;
                return self.input + frames(&String::from_utf8_lossy(&seen));
            }
            let answer = Answer::read(response).await;
            return if self.is_cut() { self.input + frames(answer.text()) } else { self.input + self.output };
        }
    }
}

/// Pieces of content in a stream.
fn frames(stream: &str) -> u64 {
    stream.matches("\"content\":\"").count() as u64
}

/// The tokens that the limit which refuses nothing has counted.
fn counted(gateway: &Gateway) -> u64 {
    let snapshot = gateway.inside().live.load();
    let all = snapshot.limits.views().find(|view| *view.limit().name == *"all").unwrap();
    all.subjects().flat_map(|subject| subject.units(now())).map(|unit| unit.left.used).sum()
}

fn started(upstream: &Simulator) -> Gateway {
    let toml = GatewayToml::before(&upstream.url(), "retry = { backoff = \"20ms\" }\nbreaker = \"off\"")
        .defaults("limits = [\"rate\", \"all\"]")
        .more(format!(
            "[limit.rate]\neach = \"gateway\"\ntokens = {RATE}\nper = \"1m\"\nburst = {{ tokens = {BURST} }}"
        ))
        .more("[limit.all]\neach = \"gateway\"\ntokens = 1_000_000_000\nper = \"month\"\nenforce = false");
    Gateway::start(&toml)
}

#[tokio::test]
async fn what_a_limit_has_counted_is_what_was_served_and_what_it_allows() {
    let upstream = simulator().await;
    for plan in (0..REQUESTS).map(Plan::of) {
        assert!(plan.input + plan.output <= LARGEST);
        if plan.is_retried() {
            let head = Head::json(StatusCode::SERVICE_UNAVAILABLE, ERROR.len());
            let busy = Script::new(vec![Step::Head(head), Step::Send(ERROR.into())]);
            upstream.queue_for(&format!("request-{}", plan.number), busy);
        }
    }
    let gateway = started(&upstream);
    let address = gateway.address();
    let (next, refused) = (Arc::new(AtomicU64::new(0)), Arc::new(AtomicU64::new(0)));
    let start = Instant::now();
    let callers = (0..CALLERS).map(|_| {
        let (next, refused) = (next.clone(), refused.clone());
        tokio::spawn(async move {
            let mut served = 0;
            loop {
                let number = next.fetch_add(1, Ordering::Relaxed);
                if number >= REQUESTS {
                    return served;
                }
                served += Plan::of(number).run(address, &refused).await;
            }
        })
    });
    let mut served = 0;
    for caller in callers.collect::<Vec<_>>() {
        served += safely(caller).await.unwrap();
    }
    let elapsed = start.elapsed();
    let refused = refused.load(Ordering::Relaxed);
    gateway.finished(usize::try_from(REQUESTS + refused).unwrap()).await;
    let counted = counted(&gateway);
    assert!(refused > 0, "the limit was never reached");
    assert!(counted.abs_diff(served) * 100 <= served * 2, "{counted} counted, {served} served");
    let allowed = BURST + RATE * u64::try_from(elapsed.as_millis()).unwrap() / 60_000;
    let two_per_cent = (BURST + RATE) / 50;
    assert!(served <= allowed + two_per_cent, "{served} served, {allowed} allowed in {elapsed:?}");
    gateway.finish(usize::try_from(REQUESTS + refused).unwrap()).await;
}
