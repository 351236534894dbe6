//! What is held back of responses: it counts in `max_buffered`, and where there is no room nothing fails.

use http::{Response, StatusCode};
use hyper::body::Incoming;
use sluicegate::simulator::{Gate, Head, Script, Simulator, Step};

use super::rig::{DONE, HELLO, QUICK, ROLE, Rig, refusing, streamed};
use crate::harness::{Answer, BOTH, CHAT, Client, Gateway, Http, Keys, post, safely, simulator, take, whole};

/// More than is left of `max_buffered` when the gateway refuses [`FILLER`].
const LARGE: usize = 100_000;
const FILLER: usize = 60_000;

/// An error response of a status and a body of [`LARGE`] bytes, which comes in two halves with `gate` between them.
fn large_error(status: u16, gate: &Gate) -> (Script, String) {
    let message = "x".repeat(LARGE);
    let text = format!("{{\"error\":{{\"message\":\"{message}\",\"type\":\"test\",\"code\":\"large\"}}}}");
    let (half, rest) = text.split_at(LARGE / 2);
    let script = Script::new(vec![
        Step::Head(Head::json(StatusCode::from_u16(status).unwrap(), text.len())),
        Step::Send(half.to_owned().into()),
        Step::Gate(gate.clone()),
        Step::Send(rest.to_owned().into()),
    ]);
    (script, text)
}

/// Comments of [`LARGE`] bytes.
fn comments() -> String {
    format!(": {}\n\n", "y".repeat(996)).repeat(LARGE / 1000)
}

async fn begin(gateway: &Gateway, http: Http) -> (Client, crate::harness::Pending) {
    let mut client = Client::connect(gateway.address(), http).await;
    let request = post(gateway.address(), http, "/v1/chat/completions").body(whole(CHAT)).unwrap();
    let pending = client.begin(request).await;
    (client, pending)
}

/// Requests that hold their bodies until the gateway has no room for another. The last of them is the one that was refused.
async fn fill(gateway: &Gateway, upstream: &Simulator) -> Vec<Client> {
    let body = format!("{{\"model\":\"m\",\"messages\":[\"{}\"]}}", "z".repeat(FILLER));
    let mut clients = Vec::new();
    loop {
        let mut client = Client::connect(gateway.address(), Http::One).await;
        let request =
            post(gateway.address(), Http::One, "/v1/chat/completions").header("x-simulate", "delay=1h");
        let mut pending = client.begin(request.body(whole(body.clone())).unwrap()).await;
        clients.push(client);
        let wanted = clients.len();
        let arrived = upstream.wait_for(|records| (records.len() >= wanted).then_some(()));
        let refused: Response<Incoming> = tokio::select! {
            response = &mut pending => response.unwrap(),
            () = safely(arrived) => {
                // Its exchange goes on.
                tokio::spawn(pending);
                continue;
            }
        };
        let answer = Answer::read(refused).await;
        assert_eq!((answer.status.as_u16(), answer.code().as_str()), (503, "gateway_overloaded"));
        return clients;
    }
}

/// Ends the exchanges of `fill`, and the gateway.
async fn leave(gateway: Gateway, clients: Vec<Client>, others: usize) {
    let exchanges = clients.len() + others;
    for client in clients {
        client.leave().await;
    }
    gateway.log.line(exchanges).await;
    gateway.finish(exchanges).await;
}

#[tokio::test]
async fn error_bodies_are_counted_until_the_caller_has_them() {
    let upstream = simulator().await;
    for http in BOTH {
        upstream.reset();
        let gateway = Gateway::before(&upstream, Http::One, "");
        let gate = Gate::new();
        let (script, text) = large_error(400, &gate);
        upstream.queue(script);
        let (client, pending) = begin(&gateway, http).await;
        gateway.buffers(|buffered| buffered >= (LARGE / 2 + CHAT.len()) as u64).await;
        gate.open();
        let answer = safely(async { Answer::read(pending.await.unwrap()).await }).await;
        assert_eq!((answer.status.as_u16(), answer.text()), (400, &*text));
        gateway.holds_nothing().await;
        client.leave().await;
        gateway.finish(1).await;
    }
}

/// The status is kept: SDKs decide by it.
#[tokio::test]
async fn an_error_body_without_room_is_withheld() {
    let upstream = simulator().await;
    // Clients of a lower priority are refused before the room is used up.
    let (server, client) = ("max_buffered = \"1MiB\"", "priority = \"high\"");
    let gateway = Gateway::with(&upstream, Http::One, Keys { server, client, ..Keys::default() });
    let clients = fill(&gateway, &upstream).await;
    for status in [400, 429, 500] {
        let gate = Gate::new();
        gate.open();
        let (script, _) = large_error(status, &gate);
        upstream.queue(script);
        let (_client, pending) = begin(&gateway, Http::One).await;
        let answer = safely(async { Answer::read(pending.await.unwrap()).await }).await;
        assert_eq!((answer.status.as_u16(), answer.code().as_str()), (status, "upstream_error_withheld"));
        // A small one has room.
        upstream.queue(Script::new(refusing(status, "small", &[])));
        let (_client, pending) = begin(&gateway, Http::One).await;
        let answer = safely(async { Answer::read(pending.await.unwrap()).await }).await;
        assert_eq!((answer.status.as_u16(), answer.code().as_str()), (status, "small"));
    }
    leave(gateway, clients, 6).await;
}

/// The client gets it before there is content.
#[tokio::test]
async fn the_start_of_a_stream_without_room_is_forwarded_at_once() {
    let upstream = simulator().await;
    let (server, route) = ("max_buffered = \"1MiB\"", "commit = \"first_token\"");
    let client = "priority = \"high\"";
    let gateway = Gateway::with(&upstream, Http::One, Keys { server, route, client, ..Keys::default() });
    let clients = fill(&gateway, &upstream).await;
    for http in BOTH {
        let gate = Gate::new();
        let start = comments();
        let mut steps = vec![Step::Head(Head::event_stream()), Step::Send(start.clone().into())];
        steps.extend([Step::Gate(gate.clone()), Step::Send([HELLO, DONE].concat().into())]);
        upstream.queue(Script::new(steps));
        let (_client, pending) = begin(&gateway, http).await;
        let mut response = safely(pending).await.unwrap();
        assert_eq!(take(response.body_mut(), start.len()).await, start.as_bytes());
        gate.open();
        let rest = safely(Answer::read(response)).await;
        assert!(rest.whole && rest.text() == [HELLO, DONE].concat(), "{rest:?}");
    }
    leave(gateway, clients, 2).await;
}

/// In their order, byte for byte; by default together with the content.
#[tokio::test]
async fn comments_before_the_content_reach_the_caller() {
    let pieces = [
        ": connecting\n\n",
        ": OPENROUTER PROCES",
        "SING\n\n:\n\n",
        "event: ping\ndata: {\"type\": \"ping\"}\n\n",
        ROLE,
        ": between\r\n\r\n",
        "data:\n\n",
        ": more\n",
        HELLO,
        DONE,
    ];
    for http in BOTH {
        let rig = Rig::both(QUICK, "", "").await;
        rig.main_answers([Script::new(streamed(&pieces))]);
        let answer = rig.post_by(http, "/v1/chat/completions", CHAT, &[]).await;
        assert!(answer.whole && answer.text() == pieces.concat(), "{answer:?}");
        assert_eq!(rig.seen(), (1, 0));
        rig.finish(1).await;
    }
}
