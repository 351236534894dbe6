//! Who shares a worker with a stream without measure gets every frame of their own, and long streams are spread over all workers.

use std::{cell::Cell, pin::pin};

use http::StatusCode;
use http_body_util::BodyExt;
use hyper::body::Incoming;
use sluicegate::simulator::{Gate, Head, Options, Protocols, Script, Simulator, Step};

use crate::harness::{
    CHAT, Client, Gateway, GatewayToml, Http, Keys, UPSTREAM_KEY, post, safely, simulator, take, whole,
};

const PACED: usize = 100;
const ROUNDS: usize = 20;
const FRAME: &str = "data: {\"choices\":[{\"index\":0,\"delta\":{\"content\":\"word\"}}]}\n\n";
const DONE: &str = "data: [DONE]\n\n";

/// A stream of so many frames, each of which waits at the gate.
fn gated(gate: &Gate, frames: usize) -> Script {
    let frames = (0..frames).flat_map(|_| [Step::Gate(gate.clone()), Step::Send(FRAME.into())]);
    let end = [Step::Gate(gate.clone()), Step::Send(DONE.into())];
    Script::new([Step::Head(Head::event_stream())].into_iter().chain(frames).chain(end).collect())
}

/// A client whose chat stream has begun.
async fn begin(gateway: &Gateway, http: Http, simulate: &str) -> (Client, Incoming) {
    let mut client = Client::connect(gateway.address(), http).await;
    let mut request = post(gateway.address(), http, "/v1/chat/completions");
    if !simulate.is_empty() {
        request = request.header("x-simulate", simulate);
    }
    let answer = safely(client.send(request.body(whole(CHAT)).unwrap())).await.unwrap();
    assert_eq!(answer.status(), StatusCode::OK);
    (client, answer.into_body())
}

/// Round by round: the upstream sends each paced stream its next frame when all have had the last one. In each round the flood has gone on too.
#[tokio::test]
async fn a_hundred_paced_streams_beside_a_flood() {
    let key = Some(UPSTREAM_KEY.to_owned());
    let options = Options { require_key: key, protocols: Protocols::Both, ..Options::default() };
    // The upstream has a thread of its own, so that its sending does not wait for the callers' reading.
    let upstream = Simulator::spawn_threads(&options, 1).unwrap();
    let gateway = Gateway::with(&upstream, Http::One, Keys { one_worker: true, ..Keys::default() });
    for flooding in [Http::One, Http::Two] {
        let (_flooding, mut flood) = begin(&gateway, flooding, "frames=100000000; size=200; batch=50").await;
        let gate = Gate::new();
        let mut paced = Vec::new();
        for number in 0..PACED {
            upstream.queue(gated(&gate, ROUNDS));
            let http = if number % 2 == 0 { Http::One } else { Http::Two };
            paced.push(begin(&gateway, http, "").await);
        }
        let flooded = Cell::new(0_usize);
        let mut flood = pin!(async {
            while let Some(frame) = flood.frame().await {
                flooded.set(flooded.get() + frame.unwrap().into_data().unwrap().len());
            }
        });
        let rounds = async {
            for round in 0..=ROUNDS {
                let before = flooded.get();
                (0..PACED).for_each(|_| gate.open());
                let expected = if round < ROUNDS { FRAME } else { DONE };
                for (_, body) in &mut paced {
                    assert_eq!(take(body, expected.len()).await, expected.as_bytes(), "round {round}");
                }
                safely(async {
                    while flooded.get() == before {
                        tokio::task::yield_now().await;
                    }
                })
                .await;
            }
            for (_, body) in &mut paced {
                // HTTP/2 says the end with a frame of nothing.
                while let Some(frame) = safely(body.frame()).await {
                    assert!(frame.unwrap().into_data().unwrap().is_empty(), "more than was sent");
                }
            }
        };
        tokio::select! {
            () = &mut flood => panic!("the flood is over"),
            () = rounds => {}
        }
    }
}

fn with_workers(upstream: &Simulator, threads: usize) -> Gateway {
    Gateway::start(
        &GatewayToml::before(&upstream.url(), "")
            .listener("h2c = true")
            .server(format!("threads = {threads}")),
    )
}

/// Under `SO_REUSEPORT` they would clump.
#[tokio::test]
async fn long_streams_are_spread_evenly() {
    let upstream = simulator().await;
    for workers in [2, 4] {
        for http in [Http::One, Http::Two] {
            let gateway = with_workers(&upstream, workers);
            let gate = Gate::new();
            let mut streams = Vec::new();
            for number in 1..=20 {
                upstream.queue(gated(&gate, 0));
                streams.push(begin(&gateway, http, "").await);
                let loads = gateway.loads();
                let (least, most) = (loads.iter().min().unwrap().0, loads.iter().max().unwrap().0);
                assert!(most - least <= 1, "{workers} workers, {number} streams: {loads:?}");
            }
            assert_eq!(gateway.loads(), vec![(20 / workers, 20 / workers); workers]);
            // Those who come while one worker has less to do go there.
            streams.truncate(16);
            safely(async {
                while gateway.loads().iter().map(|load| load.1).sum::<usize>() > 16 {
                    tokio::task::yield_now().await;
                }
            })
            .await;
            for _ in 0..4 {
                upstream.queue(gated(&gate, 0));
                streams.push(begin(&gateway, http, "").await);
            }
            assert_eq!(gateway.loads(), vec![(20 / workers, 20 / workers); workers]);
            // Whoever left has left a turn at the gate behind.
            (0..40).for_each(|_| gate.open());
            for (_client, mut body) in streams {
                assert_eq!(take(&mut body, DONE.len()).await, DONE.as_bytes());
            }
        }
    }
}
