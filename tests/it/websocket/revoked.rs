//! What a client was granted is withdrawn by a reload while its requests are open: `on_revoke`.

use http::Request;
use sluicegate::{
    config::KeyHash,
    simulator::{Gate, Head, Script, Step},
};

use super::rig::{Peer, Upstream, ask, authorized, before, open};
use crate::harness::{
    Answer, Client, Gateway, GatewayToml, Http, Sent, post, safely, simulator, take, whole,
};

const CUT: &str = "on_revoke = \"cut\"";
const EVENT: &str = "data: {\"choices\":[{\"index\":0,\"delta\":{\"content\":\"Hi\"}}]}\n\n";
const DELTA: &str = "event: response.output_text.delta\ndata: {\"type\":\"response.output_text.delta\",\"sequence_number\":0,\"delta\":\"Hi\"}\n\n";

/// A file in which the client has another key, or only that client is missing.
fn with_key(toml: GatewayToml, lines: &str) -> GatewayToml {
    let other = KeyHash::of(b"sk-sg-other-0123456789abcdef0123456789");
    toml.without_client().more(format!("[client.tester]\nkey = \"{other}\"\n{lines}"))
}

fn with_other_client(toml: GatewayToml) -> GatewayToml {
    let other = KeyHash::of(b"sk-sg-other-0123456789abcdef0123456789");
    toml.without_client().more(format!("[client.other]\nkey = \"{other}\""))
}

async fn is_refused(client: &mut Peer) {
    let event: serde_json::Value = serde_json::from_str(&client.next_text().await).unwrap();
    assert_eq!(
        (&event["type"], &event["error"]["code"]),
        (&"error".into(), &"key_revoked".into()),
        "{event}"
    );
    assert_eq!(client.next_close().await.0, 1008);
    client.close(1008, "").await;
    client.rest().await;
}

async fn passes(client: &mut Peer, server: &mut Peer) {
    client.text("still here").await;
    assert_eq!(server.next_text().await, "still here");
}

#[tokio::test]
async fn open_tunnels_are_cut_when_the_key_or_a_permission_is_withdrawn() {
    let upstream = Upstream::start().await;
    let toml = || before(&upstream).more("[route.spare]\npath = \"/spare\"\nupstreams = [\"sim\"]\n");
    let withdrawn = [
        ("client", with_other_client(toml())),
        ("key", with_key(toml(), CUT)),
        ("route", toml().client(format!("{CUT}\nroutes = [\"spare\"]"))),
        ("model", toml().client(format!("{CUT}\nmodels = [\"gpt-5\"]"))),
    ];
    for (what, next) in withdrawn {
        let gateway = Gateway::start(&toml().client(format!("{CUT}\nmodels = [\"gpt-4o\", \"gpt-5\"]")));
        let path = "/v1/realtime?model=gpt-4o";
        let (mut client, mut server) = open(&gateway, &upstream, path).await;
        // A reload that takes nothing away cuts nothing.
        gateway.reload(&toml().client(format!("{CUT}\nmodels = [\"gpt-4o\"]"))).await;
        passes(&mut client, &mut server).await;
        gateway.reload(&next).await;
        println!("{what}");
        is_refused(&mut client).await;
        assert_eq!(server.next_close().await.0, 1001);
        drop(server);
        let line = gateway.log.line(1).await;
        assert_eq!((&line["who"], &line["error"]), (&"gateway".into(), &"key_revoked".into()), "{line}");
        assert_eq!(line["close_code"], 1008, "{line}");
        gateway.finish(1).await;
    }
}

/// The model of a message counts like that of the query.
#[tokio::test]
async fn the_model_of_a_message_may_be_withdrawn() {
    let upstream = Upstream::start().await;
    let gateway =
        Gateway::start(&before(&upstream).client(format!("{CUT}\nmodels = [\"gpt-4o\", \"gpt-5\"]")));
    let (mut client, mut server) = open(&gateway, &upstream, "/v1/responses").await;
    client.text(r#"{"type":"response.create","model":"gpt-4o"}"#).await;
    server.next_text().await;
    gateway.reload(&before(&upstream).client(format!("{CUT}\nmodels = [\"gpt-5\"]"))).await;
    is_refused(&mut client).await;
}

#[tokio::test]
async fn by_default_open_tunnels_go_on() {
    let upstream = Upstream::start().await;
    let gateway = Gateway::start(&before(&upstream));
    let (mut client, mut server) = open(&gateway, &upstream, "/v1/realtime").await;
    for next in [with_key(before(&upstream), ""), with_other_client(before(&upstream))] {
        gateway.reload(&next).await;
        let refused = ask(gateway.address(), "/v1/realtime", &authorized()).await;
        assert!(refused.head.starts_with("HTTP/1.1 401 "), "{}", refused.head);
        passes(&mut client, &mut server).await;
    }
}

/// What the client has now counts, so that one edit is enough.
#[tokio::test]
async fn the_edit_that_withdraws_the_key_may_say_what_follows() {
    let upstream = Upstream::start().await;
    for (before_it, after_it, is_cut) in [("", CUT, true), (CUT, "", false)] {
        let gateway = Gateway::start(&before(&upstream).client(before_it));
        let (mut client, mut server) = open(&gateway, &upstream, "/v1/realtime").await;
        gateway.reload(&with_key(before(&upstream), after_it)).await;
        if is_cut { is_refused(&mut client).await } else { passes(&mut client, &mut server).await }
    }
}

fn streaming(gateway: &Gateway, http: Http, path: &str) -> Request<Sent> {
    post(gateway.address(), http, path)
        .body(whole(r#"{"model":"gpt-4o","stream":true,"input":"","messages":[]}"#))
        .unwrap()
}

/// As at the end of a drain: an error event where SDKs raise on it and an orderly end, an abort where they do not.
#[tokio::test]
async fn open_streams_are_cut_in_their_dialect() {
    let upstream = simulator().await;
    for http in [Http::One, Http::Two] {
        for (path, event, is_whole) in
            [("/v1/chat/completions", EVENT, true), ("/v1/responses", DELTA, false)]
        {
            let toml = || GatewayToml::before(&upstream.url(), "").listener("h2c = true");
            let gateway = Gateway::start(&toml().client(CUT));
            let gate = Gate::new();
            let steps =
                vec![Step::Head(Head::event_stream()), Step::Send(event.into()), Step::Gate(gate.clone())];
            upstream.queue(Script::new(steps));
            let mut client = Client::connect(gateway.address(), http).await;
            let mut response = safely(client.send(streaming(&gateway, http, path))).await.unwrap();
            take(response.body_mut(), event.len()).await;
            gateway.reload(&with_key(toml(), CUT)).await;
            let answer = safely(Answer::read(response)).await;
            assert!(answer.text().contains("key_revoked"), "{http:?} {path}: {answer:?}");
            assert_eq!(answer.whole, is_whole, "{http:?} {path}: {answer:?}");
            let line = gateway.log.line(1).await;
            let fields = (&line["who"], &line["phase"], &line["error"]);
            assert_eq!(fields, (&"gateway".into(), &"stream".into(), &"key_revoked".into()), "{line}");
            gateway.finish(1).await;
        }
    }
}

/// A request whose response has not begun is answered at once.
#[tokio::test]
async fn a_request_without_a_response_gets_a_401() {
    let upstream = simulator().await;
    let toml = || GatewayToml::before(&upstream.url(), "");
    let gateway = Gateway::start(&toml().client(CUT));
    let gate = Gate::new();
    upstream.queue(Script::new(vec![Step::Gate(gate.clone())]));
    let mut client = Client::connect(gateway.address(), Http::One).await;
    let pending = client.begin(streaming(&gateway, Http::One, "/v1/chat/completions")).await;
    safely(upstream.wait_for(|records| (records.len() == 1).then_some(()))).await;
    gateway.reload(&with_other_client(toml())).await;
    let answer = safely(Answer::read(safely(pending).await.unwrap())).await;
    assert_eq!((answer.status.as_u16(), &*answer.code()), (401, "key_revoked"), "{answer:?}");
    assert_eq!(answer.headers.get("x-should-retry").unwrap(), "false");
    gateway.finish(1).await;
}

/// Anonymous requests have nothing that could be withdrawn.
#[tokio::test]
async fn requests_of_open_routes_go_on() {
    let upstream = Upstream::start().await;
    let toml = |lines: &str| before(&upstream).route("access = \"open\"").client(lines);
    let gateway = Gateway::start(&toml(CUT));
    let (client, server) = tokio::join!(ask(gateway.address(), "/v1/realtime", ""), upstream.accept());
    let (mut client, mut server) = (client, server);
    gateway.reload(&with_other_client(toml(CUT))).await;
    passes(&mut client, &mut server).await;
}
