//! Gateways that die, stop or live long, as processes of their own. A lease lasts for fifteen seconds, and these tests wait for its end; what lasts
//! longer than that belongs to `.ci/release`.

use std::time::{Duration, Instant};

use http::StatusCode;
use sluicegate::simulator::{Gate, Head, Script, Simulator, Step};
use tokio::task::JoinHandle;

use super::{patient, process::Process};
use crate::harness::{
    Answer, CHAT, Client, Http, chat, post,
    redis::{RedisServer, Reply},
    safely, simulator, whole,
};

const EVENT: &str = "data: {\"choices\":[{\"index\":0,\"delta\":{\"content\":\"Hi\"}}]}\n\n";
const END: &str = "data: [DONE]\n\n";

/// Two gateways that count together, whose client may have two requests at once.
struct Pair {
    upstream: Simulator,
    redis: RedisServer,
    one: Process,
    other: Process,
}

impl Pair {
    async fn start() -> Self {
        let (upstream, redis) = (simulator().await, RedisServer::start(&[]));
        let start = || {
            let mut gateway = Process::start(&upstream, &patient(&redis), "concurrent = 2");
            gateway.line("Redis available");
            gateway
        };
        let (one, other) = (start(), start());
        one.is_shared(true).await;
        other.is_shared(true).await;
        Self { upstream, redis, one, other }
    }

    /// The number of gateways that have leases.
    fn leases(&self) -> u8 {
        let Reply::List(keys) = self.redis.command(&["KEYS", "*:c:*"]) else { panic!() };
        let Some(key) = keys.first() else { return 0 };
        match self.redis.command(&["GET", &key.text()]) {
            // Version, clocks, periods, gateways, leases.
            Reply::Bytes(Some(value)) => value[4],
            _ => 0,
        }
    }

    async fn has_leases(&self, wanted: u8) {
        safely(async {
            while self.leases() != wanted {
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
        })
        .await;
    }
}

/// Two streams at a gateway that wait for their gates.
async fn two_streams(upstream: &Simulator, gateway: &Process) -> Vec<Gate> {
    let gates: Vec<Gate> = (0..2).map(|_| Gate::new()).collect();
    for gate in &gates {
        upstream.queue(Script::new(vec![
            Step::Head(Head::event_stream()),
            Step::Send(EVENT.into()),
            Step::Gate(gate.clone()),
            Step::Send(END.into()),
        ]));
    }
    let before = upstream.records().len();
    for _ in 0..2 {
        tokio::spawn(stream(gateway).await);
    }
    safely(upstream.wait_for(|records| (records.len() == before + 2).then_some(()))).await;
    gates
}

/// A request whose response may take as long as it wants.
async fn stream(gateway: &Process) -> impl Future<Output = Answer> + use<> {
    let mut client = Client::connect(gateway.address, Http::One).await;
    let request = post(gateway.address, Http::One, "/v1/chat/completions").body(whole(CHAT)).unwrap();
    let response = client.begin(request).await;
    async move {
        let answer = Answer::read(response.await.unwrap()).await;
        drop(client);
        answer
    }
}

async fn status(gateway: &Process) -> StatusCode {
    chat(gateway.address, Http::One).await.status
}

/// Waits until a gateway admits a request. Returns how long that took.
async fn admits(gateway: &Process) -> Duration {
    let begin = Instant::now();
    let alone = async || gateway.measured().await.value("fallbacks_total");
    safely(async {
        loop {
            let before = alone().await;
            // On a busy machine, a gateway may have admitted it by itself: that says nothing.
            if status(gateway).await == StatusCode::OK && alone().await == before {
                return;
            }
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    })
    .await;
    begin.elapsed()
}

#[tokio::test]
async fn a_killed_gateway_frees_its_requests_when_its_lease_ends() {
    let pair = Pair::start().await;
    let _gates = two_streams(&pair.upstream, &pair.one).await;
    assert_eq!(status(&pair.other).await, StatusCode::TOO_MANY_REQUESTS);
    pair.one.signal("KILL");
    assert_eq!(status(&pair.other).await, StatusCode::TOO_MANY_REQUESTS);
    println!("a killed gateway's requests are free after {:?}", admits(&pair.other).await);
    // Both of them, as soon as Redis knows that the admitted one has ended.
    pair.has_leases(0).await;
    let _gates = two_streams(&pair.upstream, &pair.other).await;
    assert_eq!(status(&pair.other).await, StatusCode::TOO_MANY_REQUESTS);
}

#[tokio::test]
async fn a_stopped_gateway_registers_its_streams_again() {
    let pair = Pair::start().await;
    let gates = two_streams(&pair.upstream, &pair.one).await;
    pair.one.signal("STOP");
    println!("a stopped gateway's requests are free after {:?}", admits(&pair.other).await);
    // Its lease has ended, and its share is used by the other.
    pair.has_leases(0).await;
    let theirs = two_streams(&pair.upstream, &pair.other).await;
    assert_eq!(status(&pair.other).await, StatusCode::TOO_MANY_REQUESTS);
    pair.one.signal("CONT");
    let continued = Instant::now();
    pair.has_leases(2).await;
    println!("a continued gateway has registered its streams after {:?}", continued.elapsed());
    // Two too many: nothing is admitted until they are gone.
    theirs.iter().for_each(Gate::open);
    pair.has_leases(1).await;
    for gateway in [&pair.one, &pair.other] {
        assert_eq!(status(gateway).await, StatusCode::TOO_MANY_REQUESTS);
    }
    gates.iter().for_each(Gate::open);
    admits(&pair.other).await;
    admits(&pair.one).await;
}

#[tokio::test]
async fn a_stream_that_is_longer_than_a_lease_counts_until_its_end() {
    longer_than(Duration::from_secs(18)).await;
}

#[tokio::test]
#[ignore = "takes ten minutes: .ci/release"]
async fn a_stream_of_ten_minutes_counts_until_its_end() {
    longer_than(Duration::from_secs(600)).await;
}

async fn longer_than(span: Duration) {
    const PAUSE: Duration = Duration::from_secs(2);
    let pair = Pair::start().await;
    let pauses = span.as_secs() / PAUSE.as_secs() + 1;
    let gate = Gate::new();
    let mut streams: Vec<JoinHandle<Answer>> = Vec::new();
    for _ in 0..2 {
        let mut steps = vec![Step::Head(Head::event_stream())];
        for _ in 0..pauses {
            steps.extend([Step::Send(EVENT.into()), Step::Wait(PAUSE)]);
        }
        // However slow the test is, they do not end before it says so.
        steps.extend([Step::Gate(gate.clone()), Step::Send(END.into())]);
        pair.upstream.queue(Script::new(steps));
        streams.push(tokio::spawn(stream(&pair.one).await));
    }
    safely(pair.upstream.wait_for(|records| (records.len() == 2).then_some(()))).await;
    let begun = Instant::now();
    while begun.elapsed() < span {
        assert_eq!(status(&pair.other).await, StatusCode::TOO_MANY_REQUESTS, "after {:?}", begun.elapsed());
        tokio::time::sleep(PAUSE / 4).await;
    }
    (0..2).for_each(|_| gate.open());
    for stream in streams {
        assert!(stream.await.unwrap().text().ends_with(END));
    }
    admits(&pair.other).await;
}
