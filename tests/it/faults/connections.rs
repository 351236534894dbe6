//! `max_connections`: how many there may be to a target, whatever else changes.

use http::Response;
use hyper::body::Incoming;
use sluicegate::simulator::{Gate, Options, Script, Simulator, Step};
use tokio::{net::TcpListener, task::JoinHandle};

use super::rig::{DONE, HELLO, ROLE, streamed};
use crate::harness::{
    Answer, CHAT, Client, Frames, Gateway, GatewayToml, Http, Keys, Raw, post, safely, simulator,
    simulator_with, take, whole,
};

/// A stream that has begun, and ends when its gate is opened.
struct Held {
    _client: Client,
    response: Response<Incoming>,
    gate: Gate,
}

impl Held {
    async fn by(gateway: &Gateway, upstream: &Simulator) -> Self {
        let gate = Gate::new();
        let mut steps = streamed(&[ROLE, HELLO]);
        steps.extend([Step::Gate(gate.clone()), Step::Send(DONE.into())]);
        upstream.queue(Script::new(steps));
        let mut client = Client::connect(gateway.address(), Http::One).await;
        let request = post(gateway.address(), Http::One, "/v1/chat/completions").body(whole(CHAT)).unwrap();
        let mut response = safely(client.send(request)).await.unwrap();
        take(response.body_mut(), ROLE.len() + HELLO.len()).await;
        Self { _client: client, response, gate }
    }

    async fn ends(self) {
        self.gate.open();
        let answer = safely(Answer::read(self.response)).await;
        assert!(answer.whole && answer.text() == DONE, "{answer:?}");
    }
}

/// A request that waits for its connection no longer than that.
async fn asked(gateway: &Gateway, connect: &str) -> Answer {
    let address = gateway.address();
    let mut client = Client::connect(address, Http::One).await;
    let request = post(address, Http::One, "/v1/chat/completions")
        .header("x-sluicegate-timeout", format!("connect={connect}"));
    safely(client.ask(request.body(whole(CHAT)).unwrap())).await
}

async fn is_refused(gateway: &Gateway) {
    let answer = asked(gateway, "30ms").await;
    assert_eq!((answer.status.as_u16(), answer.code().as_str()), (503, "upstream_unavailable"), "{answer:?}");
    assert_eq!(answer.headers["retry-after"], "1");
    assert!(answer.text().contains("at their concurrency limit"), "{}", answer.text());
}

/// Connections outlive the settings that they were made with, and go on counting.
#[tokio::test]
async fn a_reload_does_not_forget_the_connections_that_are_open() {
    let upstream = simulator().await;
    let toml = |settings: &str| {
        GatewayToml::before(&upstream.url(), format!("retry = \"off\"\n{settings}")).server("threads = 2")
    };
    let gateway = Gateway::start(&toml("max_connections = 1"));
    let first = Held::by(&gateway, &upstream).await;
    is_refused(&gateway).await;
    gateway.reload(&toml("max_connections = 2")).await;
    let second = Held::by(&gateway, &upstream).await;
    is_refused(&gateway).await;
    // Another dialer, though the number stays; then as if there were no bound, and one again.
    gateway.reload(&toml("max_connections = 2\npool = { idle = \"20s\" }")).await;
    is_refused(&gateway).await;
    gateway.reload(&toml("")).await;
    let third = Held::by(&gateway, &upstream).await;
    gateway.reload(&toml("max_connections = 3")).await;
    is_refused(&gateway).await;
    gateway.reload(&toml("max_connections = 4")).await;
    let fourth = Held::by(&gateway, &upstream).await;
    assert_eq!(upstream.connections().open, 4);
    for held in [first, second, third, fourth] {
        held.ends().await;
    }
    // Those that nobody uses make room, whichever settings they were made with.
    gateway.reload(&toml("max_connections = 1")).await;
    assert_eq!(asked(&gateway, "5s").await.status, 200);
    gateway.finish(9).await;
}

/// One connection, and as many streams on it as the upstream takes (SETTINGS_MAX_CONCURRENT_STREAMS): the next one waits for a stream
/// to end, or for its own time to be over.
#[tokio::test]
async fn a_full_http2_connection_is_waited_for() {
    let upstream = simulator_with(Options { max_streams: 2, ..Options::default() }).await;
    let keys = Keys { upstream: "max_connections = 1", one_worker: true, ..Keys::default() };
    let gateway = std::sync::Arc::new(Gateway::with(&upstream, Http::Two, keys));
    let (first, second) = (Held::by(&gateway, &upstream).await, Held::by(&gateway, &upstream).await);
    is_refused(&gateway).await;
    let waiting: Vec<JoinHandle<Answer>> = (0..2)
        .map(|_| {
            let gateway = gateway.clone();
            tokio::spawn(async move { asked(&gateway, "5s").await })
        })
        .collect();
    safely(async {
        while gateway.loads()[0].0 < 4 {
            tokio::task::yield_now().await;
        }
    })
    .await;
    // The other stream goes on: what makes room is the one that ends, not an idle connection.
    first.ends().await;
    for answer in waiting {
        let answer = answer.await.unwrap();
        assert!(answer.status == 200 && answer.whole, "{answer:?}");
    }
    assert_eq!(upstream.connections().opened, 1);
    second.ends().await;
    std::sync::Arc::into_inner(gateway).unwrap().finish(5).await;
}

/// An HTTP/2 connection that takes no further stream (GOAWAY) is there until those that it has are over.
#[tokio::test]
async fn a_connection_that_goes_away_counts_until_it_is_gone() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    let keys = Keys { upstream: "max_connections = 1", one_worker: true, ..Keys::default() };
    let gateway = Gateway::to(&url, Http::Two, keys);
    let mut caller = Raw::connect(gateway.address()).await;
    caller.post("HTTP/1.1", "/v1/chat/completions", "connection: close\r\n", CHAT).await;
    let mut first = Frames::accept(&listener).await;
    first.settings(100).await;
    let stream = first.request().await;
    first.head(stream).await;
    first.go_away(stream).await;
    // What comes behind it has come: so has the GOAWAY.
    first.data(stream, b"begun").await;
    caller.until("begun\r\n").await;
    is_refused(&gateway).await;
    first.end(stream).await;
    // Which is kept until the answer is there: closed with something unread, it would be reset.
    let (answer, _second) = tokio::join!(asked(&gateway, "5s"), async {
        let mut second = Frames::accept(&listener).await;
        second.settings(100).await;
        let stream = second.request().await;
        second.head(stream).await;
        second.end(stream).await;
        second
    });
    assert!(answer.status == 200 && answer.whole, "{answer:?}");
    let (rest, ended) = caller.read_to_end().await;
    assert_eq!((&rest[..], ended), (&b"0\r\n\r\n"[..], None), "the first one was not touched");
    gateway.finish(3).await;
}
