//! Streams that do not end as they should, and clients that leave, on routes with `usage = "always"`.

use http_body_util::BodyExt;
use sluicegate::simulator::{Cut, Gate, Head, Script, Step};

use super::{CONTENT, DONE, FINISH, USAGE, ask, gateway_before, stream_of};
use crate::harness::{BOTH, CHAT, Client, Gateway, GatewayToml, Http, post, safely, simulator, take, whole};

const BEAT: &str = ": keep-alive\n\n";

fn route_with(url: &str, lines: &str) -> Gateway {
    Gateway::start(
        &GatewayToml::before(url, "retry = \"off\"")
            .listener("h2c = true")
            .route(format!("usage = \"always\"\n{lines}")),
    )
}

/// Wherever the stream is cut, the client has all that came but the chunk with the usage, and sees that it is not whole.
#[tokio::test]
async fn all_that_came_is_delivered_before_an_abort() {
    let stream = [CONTENT, FINISH, USAGE].concat();
    let usage_at = CONTENT.len() + FINISH.len();
    for http in BOTH {
        for at in [CONTENT.len() - 30, CONTENT.len(), CONTENT.len() + 7, usage_at + 20, stream.len()] {
            let upstream = simulator().await;
            let mut steps: Vec<_> = vec![Step::Head(Head::event_stream())];
            steps.extend(stream.as_bytes()[..at].chunks(40).map(|piece| Step::Send(piece.to_vec().into())));
            steps.push(Step::Cut(Cut::Close));
            upstream.queue(Script::new(steps));
            let gateway = route_with(&upstream.url(), "commit = \"headers\"");
            let answer = ask(&gateway, http, CHAT).await;
            let came = if at == stream.len() { usage_at } else { at };
            assert!(answer.text().starts_with(&stream[..came]), "{at}: {answer:?}");
            let rest = &answer.text()[came..];
            // Between two events there is room for an error.
            let is_between = [CONTENT.len(), stream.len()].contains(&at);
            assert_eq!(rest.contains("\"error\""), is_between, "{at}: {answer:?}");
            assert_eq!(answer.whole, is_between, "{at}: {answer:?}");
            let line = gateway.log.line_of(&answer).await;
            assert_eq!(line["error"], "upstream_truncated", "{line}");
            assert_eq!(line["tokens_out"].as_u64(), (at == stream.len()).then_some(5), "{line}");
            assert_eq!(line["bytes_out"], answer.text().len(), "{line}");
            gateway.finish(1).await;
        }
    }
}

#[tokio::test]
async fn a_stream_may_end_with_its_usage_and_without_a_blank_line() {
    for http in BOTH {
        let upstream = simulator().await;
        upstream.queue(stream_of([CONTENT, FINISH, USAGE.trim_end()].map(str::as_bytes)));
        let gateway = gateway_before(&upstream, "");
        let answer = ask(&gateway, http, CHAT).await;
        assert!(answer.whole);
        assert_eq!(answer.text(), [CONTENT, FINISH].concat());
        assert_eq!(gateway.log.line_of(&answer).await["tokens_out"], 5);
        gateway.finish(1).await;
    }
}

#[tokio::test]
async fn trailers_come_behind_what_was_kept_back() {
    let upstream = simulator().await;
    let gateway = gateway_before(&upstream, "");
    let address = gateway.address();
    let mut client = Client::connect(address, Http::Two).await;
    let request = post(address, Http::Two, "/v1/chat/completions")
        .header("x-simulate", "frames=3; trailers; split=11; usage=4,6")
        .body(whole(CHAT))
        .unwrap();
    let answer = client.ask(request).await;
    assert!(answer.whole && answer.text().ends_with(DONE), "{answer:?}");
    assert!(!answer.text().contains("\"usage\":{"), "{answer:?}");
    assert_eq!(gateway.log.line_of(&answer).await["tokens_out"], 6);
    gateway.finish(1).await;
}

/// A part of an event is kept back, so a comment may go out meanwhile, between events.
#[tokio::test]
async fn a_heartbeat_is_never_within_an_event() {
    let upstream = simulator().await;
    let gateway = route_with(&upstream.url(), "heartbeat = \"1s\"\ncommit = \"headers\"");
    let gate = Gate::new();
    upstream.queue(Script::new(vec![
        Step::Head(Head::event_stream()),
        Step::Send([CONTENT, &FINISH[..30]].concat().into()),
        Step::Gate(gate.clone()),
        Step::Send([&FINISH[30..], USAGE, DONE].concat().into()),
    ]));
    let address = gateway.address();
    let mut client = Client::connect(address, Http::One).await;
    let request = post(address, Http::One, "/v1/chat/completions").body(whole(CHAT)).unwrap();
    let mut response = safely(client.send(request)).await.unwrap();
    take(response.body_mut(), CONTENT.len()).await;
    take(response.body_mut(), BEAT.len()).await;
    gate.open();
    let rest = safely(response.into_body().collect()).await.unwrap().to_bytes();
    let rest = String::from_utf8(rest.to_vec()).unwrap().replace(BEAT, "");
    assert_eq!(rest, [FINISH, DONE].concat());
    gateway.finish(1).await;
}

/// The response is read to its end for its usage.
#[tokio::test]
async fn a_client_that_leaves_is_counted_where_the_route_drains() {
    let upstream = simulator().await;
    let gateway = route_with(&upstream.url(), "on_disconnect = \"drain\"");
    let gate = Gate::new();
    upstream.queue(Script::new(vec![
        Step::Head(Head::event_stream()),
        Step::Send(CONTENT.into()),
        Step::Gate(gate.clone()),
        Step::Send([FINISH, USAGE, DONE].concat().into()),
    ]));
    let address = gateway.address();
    let mut client = Client::connect(address, Http::One).await;
    let request = post(address, Http::One, "/v1/chat/completions").body(whole(CHAT)).unwrap();
    let mut response = safely(client.send(request)).await.unwrap();
    take(response.body_mut(), CONTENT.len()).await;
    client.leave().await;
    drop(response);
    gate.open();
    let line = gateway.log.line(1).await;
    assert_eq!((&line["tokens_in"], &line["tokens_out"]), (&7.into(), &5.into()), "{line}");
    assert_eq!(line["bytes_out"], CONTENT.len(), "{line}");
    gateway.finish(1).await;
}
