//! WebSocket where HTTP/2 is spoken: towards upstreams with `http2 = true`.

use http::Version;
use sluicegate::{
    app::Ended,
    simulator::{Options, Protocols, Simulator, Tls},
};

use super::rig::{Peer, Upstream, ask, authorized, open};
use crate::{
    folder::Folder,
    harness::{Gateway, GatewayToml, Http, chat},
};

/// A gateway before a simulator over TLS, with these further lines of its upstream.
fn over_tls(folder: &Folder, simulator: &Simulator, lines: &str) -> Gateway {
    folder.write("ca.pem", simulator.ca_pem().unwrap());
    let tls = format!("http2 = true\ntls = {{ ca = {:?} }}\n{lines}", folder.path("ca.pem"));
    Gateway::start(&GatewayToml::before(&simulator.url().replace("127.0.0.1", "localhost"), tls))
}

async fn speaking(protocols: Protocols, tls: Option<Tls>) -> Simulator {
    Simulator::start(Options { tls, protocols, ..Options::default() }).await.unwrap()
}

async fn realtime(gateway: &Gateway) -> Peer {
    ask(gateway.address(), "/v1/realtime?model=sim", &authorized()).await
}

#[tokio::test]
async fn an_upstream_of_http2_gets_a_connection_of_http1_by_alpn() {
    let folder = Folder::new();
    let simulator = speaking(Protocols::Both, Some(Tls::default())).await;
    let gateway = over_tls(&folder, &simulator, "");
    let mut client = realtime(&gateway).await;
    assert!(client.head.starts_with("HTTP/1.1 101 "), "{}", client.head);
    assert!(client.next_text().await.starts_with(r#"{"type":"session.created""#));
    assert!(chat(gateway.address(), Http::One).await.whole);
    let records = simulator.records();
    let seen: Vec<_> = records
        .iter()
        .map(|record| (record.protocol, record.tls.as_ref().and_then(|tls| tls.alpn.clone())))
        .collect();
    let expected = [(Version::HTTP_11, "http/1.1"), (Version::HTTP_2, "h2")];
    assert_eq!(seen, expected.map(|(version, alpn)| (version, Some(alpn.as_bytes().to_vec()))));
}

/// ALPN tells at once that the server has no HTTP/1.1.
#[tokio::test]
async fn an_upstream_that_has_only_http2_cannot_be_reached() {
    let folder = Folder::new();
    let simulator = speaking(Protocols::Http2, Some(Tls::default())).await;
    let gateway = over_tls(&folder, &simulator, "retry = \"off\"");
    let mut client = realtime(&gateway).await;
    assert!(client.head.starts_with("HTTP/1.1 502 "), "{}", client.head);
    assert_eq!(client.body().await["error"]["code"], "upstream_unreachable");
    assert!(chat(gateway.address(), Http::One).await.whole);
}

#[tokio::test]
async fn a_plain_upstream_of_http2_has_to_speak_http1_too() {
    let simulator = speaking(Protocols::Http2, None).await;
    let alone = Gateway::start(&GatewayToml::before(&simulator.url(), "http2 = true\nretry = \"off\""));
    let client = realtime(&alone).await;
    assert!(client.head.starts_with("HTTP/1.1 502 "), "{}", client.head);
    // The next candidate is tried.
    let upstream = Upstream::start().await;
    let toml = GatewayToml::new().upstream("first", &simulator.url(), "http2 = true").upstream(
        "second",
        &upstream.url(),
        "http2 = true",
    );
    let both = Gateway::start(&toml);
    let (mut client, mut server) = open(&both, &upstream, "/v1/realtime").await;
    client.text("hello").await;
    assert_eq!(server.next_text().await, "hello");
}

/// A tunnel has its connection alone; an HTTP/2 connection is none that it could wait for.
#[tokio::test]
async fn tunnels_and_http2_connections_share_one_limit() {
    let upstream = Upstream::start().await;
    let lines = "http2 = true\nretry = \"off\"\nmax_connections = 1\ntimeout = { connect = \"200ms\" }";
    let mut gateway = Gateway::start(&GatewayToml::before(&upstream.url(), lines));
    let (mut client, mut server) = open(&gateway, &upstream, "/v1/realtime").await;
    let mut refused = realtime(&gateway).await;
    assert!(refused.head.starts_with("HTTP/1.1 503 "), "{}", refused.head);
    assert_eq!(refused.body().await["error"]["code"], "upstream_unavailable");
    server.close(1000, "").await;
    client.next_close().await;
    client.close(1000, "").await;
    client.rest().await;
    drop((client, server));
    let (_client, _server) = open(&gateway, &upstream, "/v1/realtime").await;
    gateway.ask_to_stop();
    gateway.ask_to_stop();
    assert_ne!(gateway.ended().await, Ended::Drained);
}
