use super::support::*;
use crate::{
    config::{ClientAddress, Network},
    snapshot::Listener,
};

fn behind_proxy(trusted: &str) -> Listener {
    let trusted = Network { address: trusted.parse().unwrap(), prefix: 32 };
    Listener { client_address: ClientAddress::ProxyProtocol(vec![trusted]), ..plain() }
}

async fn who(setup: &Setup, header: &[u8]) -> String {
    let mut tcp = setup.connect().await;
    for byte in header {
        send(&mut tcp, [*byte]).await;
        tokio::task::yield_now().await;
    }
    send(&mut tcp, get("/who")).await;
    let answer = safely(read_to(&mut tcp, " tls=false")).await;
    answer.rsplit("\r\n").next().unwrap().to_owned()
}

#[tokio::test]
async fn version_1_in_many_packets() {
    let setup = Setup::new(server(), behind_proxy("127.0.0.1"));
    let who = who(&setup, b"PROXY TCP6 2001:db8::7 2001:db8::1 4711 443\r\n").await;
    assert_eq!(who, "[2001:db8::7]:4711 HTTP/1.1 tls=false");
}

#[tokio::test]
async fn version_2_in_many_packets_with_extensions() {
    let setup = Setup::new(server(), behind_proxy("127.0.0.1"));
    let mut header = b"\r\n\r\n\0\r\nQUIT\n\x21\x11\x00\x13".to_vec();
    header.extend([203, 0, 113, 7, 192, 0, 2, 1, 0x12, 0x67, 1, 0xbb]);
    header.extend([4, 0, 4, 1, 2, 3, 4]);
    assert_eq!(who(&setup, &header).await, "203.0.113.7:4711 HTTP/1.1 tls=false");
}

#[tokio::test]
async fn in_one_packet_with_the_request() {
    let setup = Setup::new(server(), Listener { h2c: true, ..behind_proxy("127.0.0.1") });
    let mut tcp = setup.connect().await;
    let local = b"\r\n\r\n\0\r\nQUIT\n\x20\x00\x00\x00";
    send(&mut tcp, [local, get("/who").as_bytes()].concat()).await;
    let answer = safely(read_to(&mut tcp, "tls=false")).await;
    // A health check speaks for itself.
    assert!(answer.contains(&tcp.local_addr().unwrap().to_string()), "{answer}");
}

#[tokio::test]
async fn a_peer_that_is_not_trusted_is_refused() {
    let mut setup = Setup::new(server(), behind_proxy("192.0.2.1"));
    let mut tcp = setup.connect().await;
    send(&mut tcp, format!("PROXY UNKNOWN\r\n{}", get("/who"))).await;
    assert_eq!(safely(read_to_close(&mut tcp)).await, b"");
    setup.counted(|counters| &counters.proxy_refused, 1).await;
    assert!(setup.told.try_recv().is_err());
}

#[tokio::test]
async fn a_connection_without_the_header_is_refused() {
    let setup = Setup::new(server(), behind_proxy("127.0.0.1"));
    let mut tcp = setup.connect().await;
    send(&mut tcp, get("/who")).await;
    assert_eq!(safely(read_to_close(&mut tcp)).await, b"");
    setup.counted(|counters| &counters.proxy_refused, 1).await;
}
