//! The gateway is asked to stop while exchanges are under way.

use http::StatusCode;
use sluicegate::{
    app::Ended,
    simulator::{Gate, Head, Script, Step},
};
use tokio::net::TcpStream;

use super::{EVENT, arrived, assert_ended, assert_given_up, chat_request, counted};
use crate::harness::{
    Answer, BOTH, Client, Gateway, Http, Keys, request, safely, send, simulator, take, whole,
};

const REST: &str = "data: [DONE]\n\n";

fn held(gate: &Gate) -> Script {
    Script::new(vec![
        Step::Head(Head::event_stream()),
        Step::Send(EVENT.into()),
        Step::Gate(gate.clone()),
        Step::Send(REST.into()),
    ])
}

fn gateway(upstream: &sluicegate::simulator::Simulator, up: Http, deadline: &str) -> Gateway {
    let server = format!("drain = {{ deadline = \"{deadline}\" }}");
    let more = "[admin]\naddress = \"127.0.0.1:0\"";
    counted(&upstream.url(), up, Keys { server: &server, more, ..Keys::default() })
}

/// What a load balancer is told.
async fn readiness(gateway: &Gateway) -> StatusCode {
    let admin = gateway.admin.unwrap();
    send(admin, Http::One, request(admin, Http::One, "GET", "/readyz").body(whole("")).unwrap()).await.status
}

/// A drain closes the listening sockets.
async fn draining(gateway: &Gateway) {
    safely(async { while TcpStream::connect(gateway.address()).await.is_ok() {} }).await;
}

#[tokio::test]
async fn a_stream_runs_to_its_end() {
    let upstream = simulator().await;
    for up in BOTH {
        for down in BOTH {
            let mut gateway = gateway(&upstream, up, "60s");
            let gate = Gate::new();
            upstream.queue(held(&gate));
            let mut client = Client::connect(gateway.address(), down).await;
            let mut response = safely(client.send(chat_request(gateway.address(), down))).await.unwrap();
            take(response.body_mut(), EVENT.len()).await;
            assert_eq!(readiness(&gateway).await, 200);
            gateway.ask_to_stop();
            draining(&gateway).await;
            assert_eq!(readiness(&gateway).await, 503);
            gate.open();
            let answer = safely(Answer::read(response)).await;
            assert!(answer.whole && answer.text() == REST, "{answer:?}");
            client.closed().await;
            assert_eq!(gateway.ended().await, Ended::Drained);
            assert_ended(&gateway.log.line(1).await, "upstream", "done", "");
        }
    }
}

/// Past the deadline, or when asked a second time.
#[tokio::test]
async fn a_stream_is_cut() {
    let upstream = simulator().await;
    for up in BOTH {
        for down in BOTH {
            for (deadline, asks) in [("100ms", 1), ("1h", 2)] {
                upstream.reset();
                let mut gateway = gateway(&upstream, up, deadline);
                upstream.queue(held(&Gate::new()));
                let mut client = Client::connect(gateway.address(), down).await;
                let mut response = safely(client.send(chat_request(gateway.address(), down))).await.unwrap();
                take(response.body_mut(), EVENT.len()).await;
                (0..asks).for_each(|_| gateway.ask_to_stop());
                let answer = safely(Answer::read(response)).await;
                assert!(answer.whole && answer.text().starts_with("data: {\"error\":"), "{answer:?}");
                assert!(answer.text().contains("gateway_draining"), "{answer:?}");
                let number = upstream.records()[0].number;
                assert_given_up(&upstream, number).await;
                assert_eq!(gateway.ended().await, Ended::Cut(1));
                assert_ended(&gateway.log.line(1).await, "gateway", "stream", "gateway_draining");
            }
        }
    }
}

#[tokio::test]
async fn a_request_without_an_answer_yet_is_told_to_try_again() {
    let upstream = simulator().await;
    for up in BOTH {
        for down in BOTH {
            upstream.reset();
            let mut gateway = gateway(&upstream, up, "100ms");
            upstream.queue(Script::new(vec![Step::Stall]));
            let mut client = Client::connect(gateway.address(), down).await;
            let pending = client.begin(chat_request(gateway.address(), down)).await;
            arrived(&upstream, 1).await;
            gateway.ask_to_stop();
            let answer = safely(async { Answer::read(pending.await.unwrap()).await }).await;
            assert_eq!(
                (answer.status, answer.code().as_str()),
                (StatusCode::SERVICE_UNAVAILABLE, "gateway_draining")
            );
            assert_eq!(answer.headers["x-should-retry"], "true");
            assert_eq!(gateway.ended().await, Ended::Cut(1));
            assert_ended(&gateway.log.line(1).await, "gateway", "first_byte", "gateway_draining");
        }
    }
}
