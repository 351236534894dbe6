use tokio::io::AsyncWriteExt;

use super::support::*;
use crate::{
    config,
    listen::{bind, listening::start_with},
};

const UPLOAD: usize = 5_000_000;

fn assert_whole_413(answer: &[u8]) {
    let text = String::from_utf8_lossy(answer);
    assert!(text.starts_with("HTTP/1.1 413"), "{text:.200}");
    let (_, body) = text.split_once("\r\n\r\n").unwrap();
    assert_eq!(body, "x".repeat(100_000));
}

#[tokio::test]
async fn an_early_answer_is_read_after_the_whole_upload() {
    let setup = Setup::new(server(), plain());
    let mut tcp = setup.connect().await;
    send(&mut tcp, format!("POST /early HTTP/1.1\r\nhost: a\r\ncontent-length: {UPLOAD}\r\n\r\n")).await;
    safely(tcp.write_all(&vec![b'u'; UPLOAD])).await.unwrap();
    tcp.shutdown().await.unwrap();
    assert_whole_413(&safely(read_to_close(&mut tcp)).await);
}

#[tokio::test]
async fn an_early_answer_is_read_after_a_chunked_upload() {
    let setup = Setup::new(server(), plain());
    let mut tcp = setup.connect().await;
    send(&mut tcp, "POST /early HTTP/1.1\r\nhost: a\r\ntransfer-encoding: chunked\r\n\r\n").await;
    let chunk = format!("10000\r\n{}\r\n", "u".repeat(0x10000));
    for _ in 0..UPLOAD / chunk.len() {
        safely(tcp.write_all(chunk.as_bytes())).await.unwrap();
    }
    tcp.write_all(b"0\r\n\r\n").await.unwrap();
    tcp.shutdown().await.unwrap();
    assert_whole_413(&safely(read_to_close(&mut tcp)).await);
}

#[tokio::test]
async fn an_answer_that_breaks_off_is_read_as_far_as_it_went() {
    let setup = Setup::new(server(), plain());
    let mut tcp = setup.connect().await;
    send(&mut tcp, format!("POST /break HTTP/1.1\r\nhost: a\r\ncontent-length: {UPLOAD}\r\n\r\n")).await;
    safely(tcp.write_all(&vec![b'u'; UPLOAD])).await.unwrap();
    let answer = String::from_utf8(safely(read_to_close(&mut tcp)).await).unwrap();
    let (head, body) = answer.split_once("\r\n\r\n").unwrap();
    assert!(head.contains("transfer-encoding: chunked"), "{head}");
    // One chunk in whole, and no last one.
    assert_eq!(body, format!("186A0\r\n{}\r\n", "x".repeat(100_000)));
    // That was the end of the gateway's side alone: it goes on reading.
    safely(tcp.write_all(&vec![b'u'; UPLOAD])).await.unwrap();
}

#[tokio::test]
async fn a_lingering_connection_is_closed_in_time() {
    let server = config::Server { linger: std::time::Duration::from_millis(200), ..server() };
    let setup = Setup::new(server, plain());
    let mut tcp = setup.connect().await;
    send(&mut tcp, "POST /early HTTP/1.1\r\nhost: a\r\ncontent-length: 10\r\n\r\n").await;
    assert_whole_413(&safely(read_to_close(&mut tcp)).await);
    // The caller's writing fails once the gateway has closed its side too.
    safely(async {
        while tcp.write_all(b"u").await.is_ok() {
            tokio::task::yield_now().await;
        }
    })
    .await;
}

#[tokio::test]
async fn no_more_than_max_connections_are_served_at_once() {
    let mut setup = Setup::new(config::Server { max_connections: 2, ..server() }, plain());
    let mut clients = Vec::new();
    for _ in 0..6 {
        let mut tcp = setup.connect().await;
        send(&mut tcp, "GET /slow HTTP/1.1\r\nhost: a\r\nconnection: close\r\n\r\n").await;
        clients.push(tcp);
    }
    let (mut open, mut peak, mut ended) = (0, 0, 0);
    setup.go.add_permits(1);
    while ended < 6 {
        match safely(setup.told()).await {
            StandInEvent::Begun(_) => open += 1,
            StandInEvent::Ended(..) => {
                (open, ended) = (open - 1, ended + 1);
                setup.go.add_permits(1);
            }
        }
        peak = peak.max(open);
    }
    assert!(peak <= 2, "{peak}");
    for mut tcp in clients {
        assert!(safely(read_to_close(&mut tcp)).await.ends_with(b"slow"));
    }
}

#[tokio::test]
async fn connections_go_to_the_worker_with_the_least_to_do() {
    let mut setup = Setup::new(config::Server { threads: 2, ..server() }, plain());
    let mut clients = Vec::new();
    for _ in 0..4 {
        let mut tcp = setup.connect().await;
        send(&mut tcp, get("/slow")).await;
        safely(setup.told()).await;
        clients.push(tcp);
    }
    let loads = setup.loads.lock().unwrap().clone();
    assert_eq!(loads.iter().map(|load| load.weight().1).collect::<Vec<_>>(), [2, 2]);
    // Two that are much busier than they look: the worker that has them is spared.
    let busy: Vec<_> = (0..2).map(|_| loads[0].exchange()).collect();
    for _ in 0..2 {
        let mut tcp = setup.connect().await;
        send(&mut tcp, get("/slow")).await;
        safely(setup.told()).await;
        clients.push(tcp);
    }
    assert_eq!(loads.iter().map(|load| load.weight().1).collect::<Vec<_>>(), [2, 4]);
    drop((busy, clients));
    safely(async {
        while loads.iter().any(|load| load.weight() != (0, 0)) {
            tokio::task::yield_now().await;
        }
    })
    .await;
}

#[tokio::test]
async fn a_worker_that_dies_is_reported() {
    let setup = Setup::new(server(), plain());
    let socket = bind(plain().address, 16).unwrap();
    let broken = |_| -> StandIn { panic!("as asked") };
    let listening = start_with(&setup.gateway, vec![socket], broken).unwrap();
    let lost = safely(listening.wait()).await.unwrap_err();
    assert_eq!(lost.to_string(), "thread worker-0 panicked");
}
