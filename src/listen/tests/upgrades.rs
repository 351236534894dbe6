use tokio::io::AsyncWriteExt;

use super::support::*;
use crate::config;

fn switch(path: &str) -> String {
    format!("GET {path} HTTP/1.1\r\nhost: a\r\nconnection: upgrade\r\nupgrade: echo\r\n\r\n")
}

/// Bytes behind the request's head belong to the new protocol already, even if they look like HTTP.
#[tokio::test]
async fn a_connection_that_has_switched_carries_bytes_both_ways() {
    let setup = Setup::new(server(), plain());
    let mut tcp = setup.connect().await;
    send(&mut tcp, get("/hello")).await;
    safely(read_to(&mut tcp, "hello")).await;
    send(&mut tcp, switch("/switch") + "sent with the request!").await;
    let head = safely(read_to(&mut tcp, "\r\n\r\n")).await;
    assert!(head.starts_with("HTTP/1.1 101 Switching Protocols\r\n"), "{head}");
    assert_eq!(safely(read_to(&mut tcp, "!")).await, "sent with the request!");
    for text in ["GET / HTTP/1.1\r\n\r\n!", "\0\u{1}!"] {
        send(&mut tcp, text).await;
        assert_eq!(safely(read_to(&mut tcp, "!")).await, text);
    }
    tcp.shutdown().await.unwrap();
    assert_eq!(safely(read_to_close(&mut tcp)).await, b"bye");
}

#[tokio::test]
async fn a_connection_that_has_switched_counts_until_it_ends() {
    let setup = Setup::new(config::Server { max_connections: 1, ..server() }, plain());
    let mut switched = setup.connect().await;
    send(&mut switched, switch("/switch") + ".").await;
    safely(read_to(&mut switched, "\r\n\r\n.")).await;
    let load = setup.loads.lock().unwrap()[0].clone();
    assert_eq!(load.weight().1, 1, "it still counts as the worker's connection");
    let mut next = setup.connect().await;
    send(&mut next, get("/hello")).await;
    assert_eq!(load.weight().1, 1, "the next connection is not accepted before this one has ended");
    switched.shutdown().await.unwrap();
    assert_eq!(safely(read_to_close(&mut switched)).await, b"bye");
    safely(read_to(&mut next, "hello")).await;
}

/// hyper keeps a refused upgrade as pending until the connection ends.
#[tokio::test]
async fn a_refused_upgrade_leaves_the_connection_as_it_was() {
    let setup = Setup::new(server(), plain());
    let mut tcp = setup.connect().await;
    for _ in 0..2 {
        send(&mut tcp, switch("/hello")).await;
        assert!(safely(read_to(&mut tcp, "hello")).await.starts_with("HTTP/1.1 200"));
    }
    tcp.shutdown().await.unwrap();
    assert!(safely(read_to_close(&mut tcp)).await.is_empty(), "no other protocol is spoken on it");

    let mut tcp = setup.connect().await;
    let upload = "connection: upgrade\r\nupgrade: echo\r\ncontent-length: 10";
    send(&mut tcp, format!("POST /early HTTP/1.1\r\nhost: a\r\n{upload}\r\n\r\n")).await;
    let answer = String::from_utf8(safely(read_to_close(&mut tcp)).await).unwrap();
    assert!(answer.starts_with("HTTP/1.1 413") && answer.ends_with(&"x".repeat(100)), "{answer:.200}");
    // The connection lingers: the gateway goes on reading.
    safely(tcp.write_all(&[b'u'; 10])).await.unwrap();
}
