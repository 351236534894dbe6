use std::{
    sync::{Arc, Mutex},
    time::Duration,
};

use tokio::{io::AsyncReadExt, net::TcpStream};

use super::support::*;
use crate::{
    body::Cut,
    config::{self, ClientAddress},
    listen::WorkerView,
    snapshot::Listener,
};

#[tokio::test]
async fn a_slow_answer_is_finished_and_idle_connections_are_closed() {
    let mut setup = Setup::new(server(), plain());
    let (mut idle, mut slow) = (setup.connect().await, setup.connect().await);
    send(&mut idle, get("/hello")).await;
    safely(read_to(&mut idle, "hello")).await;
    send(&mut slow, get("/slow")).await;
    while safely(setup.told()).await != StandInEvent::Begun("/slow".into()) {}
    let address = setup.address();
    let client = async {
        assert_eq!(safely(read_to_close(&mut idle)).await, b"");
        // The socket is closed by now or soon.
        safely(async { while TcpStream::connect(address).await.is_ok() {} }).await;
        setup.go.add_permits(1);
        let answer = String::from_utf8(safely(read_to_close(&mut slow)).await).unwrap();
        assert!(answer.contains("connection: close") && answer.ends_with("slow"), "{answer}");
    };
    let drain = safely(setup.listening.drain(Duration::ZERO, SAFETY));
    assert_eq!(tokio::join!(drain, client).0, Ok(0));
    assert_eq!(setup.listening.wait().await, Ok(()));
}

#[tokio::test]
async fn a_request_that_comes_just_after_the_drain_began_is_answered() {
    let setup = Setup::new(server(), plain());
    let (mut idle, mut fresh) = (setup.connect().await, setup.connect().await);
    send(&mut idle, get("/hello")).await;
    safely(read_to(&mut idle, "hello")).await;
    setup.counted(|counters| &counters.accepted, 2).await;
    let client = async {
        assert_eq!(safely(read_to_close(&mut idle)).await, b"");
        send(&mut fresh, get("/hello")).await;
        let answer = String::from_utf8(safely(read_to_close(&mut fresh)).await).unwrap();
        assert!(answer.ends_with("hello"), "{answer}");
    };
    let drain = safely(setup.listening.drain(Duration::ZERO, SAFETY));
    assert_eq!(tokio::join!(drain, client).0, Ok(0));
}

/// Its beginning came with the request before.
#[tokio::test]
async fn a_request_that_had_begun_to_come_when_the_drain_began_is_answered() {
    let setup = Setup::new(server(), plain());
    let (mut idle, mut begun) = (setup.connect().await, setup.connect().await);
    for (tcp, next) in [(&mut idle, ""), (&mut begun, "GET /he")] {
        send(tcp, get("/hello") + next).await;
        safely(read_to(tcp, "hello")).await;
    }
    let client = async {
        assert_eq!(safely(read_to_close(&mut idle)).await, b"");
        send(&mut begun, "llo HTTP/1.1\r\nhost: a\r\n\r\n").await;
        let answer = String::from_utf8(safely(read_to_close(&mut begun)).await).unwrap();
        assert!(answer.ends_with("hello"), "{answer}");
    };
    let drain = safely(setup.listening.drain(Duration::ZERO, SAFETY));
    assert_eq!(tokio::join!(drain, client).0, Ok(0));
}

#[tokio::test]
async fn what_is_open_at_the_deadline_is_cut_and_counted() {
    let mut setup = Setup::new(server(), Listener { h2c: true, ..plain() });
    let mut one = setup.connect().await;
    send(&mut one, get("/slow")).await;
    let mut two = http2(setup.connect().await).await;
    let two = tokio::spawn(async move { get2(&mut two, "/slow").await.is_err() });
    safely(setup.told()).await;
    safely(setup.told()).await;
    let cut = safely(setup.listening.drain(Duration::ZERO, Duration::from_millis(50))).await;
    assert_eq!(cut, Ok(2));
    for _ in 0..2 {
        assert_eq!(safely(setup.ended()).await, ("/slow".into(), Some(Cut::Drain)));
    }
    assert_eq!(safely(read_to_close(&mut one)).await, b"");
    assert!(safely(two).await.unwrap());
}

#[tokio::test]
async fn a_second_signal_cuts_a_drain_short() {
    let mut setup = Setup::new(server(), plain());
    let mut tcp = setup.connect().await;
    send(&mut tcp, get("/slow")).await;
    safely(setup.told()).await;
    let cut = async { setup.listening.cut() };
    let (count, ()) = tokio::join!(safely(setup.listening.drain(SAFETY * 10, SAFETY * 10)), cut);
    assert_eq!(count, Ok(1));
}

/// One of two workers dies while the drain is announced, or while exchanges end: the other one's are told at once, and the drain says
/// that it was no drain.
#[tokio::test]
async fn a_worker_that_dies_in_a_drain_is_reported_and_the_others_are_cut() {
    for announce in [SAFETY * 10, Duration::ZERO] {
        let mut setup = Setup::new(config::Server { threads: 2, ..server() }, plain());
        let mut clients = [setup.connect().await, setup.connect().await];
        for client in &mut clients {
            send(client, get("/slow")).await;
            assert_eq!(safely(setup.told()).await, StandInEvent::Begun("/slow".into()));
        }
        let die = async {
            let first = Arc::new(Mutex::new(Some(())));
            let question = move |_: &WorkerView| {
                let spared = first.lock().map_or(true, |mut one| one.take().is_none());
                assert!(spared, "this worker dies");
            };
            setup.listening.workers().ask(SAFETY, question).await
        };
        let drain = safely(setup.listening.drain(announce, SAFETY * 10));
        let (ended, _) = tokio::join!(drain, die);
        let lost = ended.unwrap_err();
        assert!(lost.panicked && lost.name.starts_with("worker-"), "{lost:?}");
        let mut ends = [safely(setup.ended()).await.1, safely(setup.ended()).await.1];
        ends.sort_by_key(Option::is_some);
        assert_eq!(ends, [None, Some(Cut::Drain)], "one went with its worker, one was cut");
    }
}

/// A request that does not end when it is cut is dropped 2 s later; by then, all connections without a request are long gone.
#[tokio::test]
async fn connections_without_a_whole_request_end_with_the_deadline() {
    const HEAD: &[u8] = b"GET /hello HTTP/1.1\r\nhost: a";
    const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";
    let proxied = || Listener { client_address: ClientAddress::ProxyProtocol(Vec::new()), ..plain() };
    let h2c = || Listener { h2c: true, ..plain() };
    let settings = [PREFACE, b"\0\0\0\x04\0\0\0\0\0"].concat();
    for (name, listener, begin) in [
        ("half a head", plain(), HEAD),
        ("half a PROXY header", proxied(), b"PROXY TCP4"),
        ("half a preface", h2c(), &PREFACE[..10]),
        ("a client that does not answer PING", h2c(), &settings),
        ("half a frame", h2c(), &[&settings[..], b"\0\0\x10\x01\x05"].concat()),
    ] {
        let mut setup = Setup::new(server(), listener);
        let mut slow = setup.connect().await;
        send(
            &mut slow,
            if name.contains("PROXY") {
                "PROXY UNKNOWN\r\n".to_owned() + &get("/slow")
            } else {
                get("/slow")
            },
        )
        .await;
        assert_eq!(safely(setup.told()).await, StandInEvent::Begun("/slow".into()));
        let mut half = setup.connect().await;
        send(&mut half, begin).await;
        setup.counted(|counters| &counters.accepted, 2).await;
        let told = &mut setup.told;
        let client = async {
            safely(read_to_close(&mut half)).await;
            assert!(told.try_recv().is_err(), "{name}");
        };
        let drain = safely(setup.listening.drain(Duration::ZERO, Duration::from_millis(50)));
        assert_eq!(tokio::join!(drain, client).0, Ok(1), "{name}");
    }
}

#[tokio::test]
async fn a_quiet_http2_connection_is_told_at_once() {
    let setup = Setup::new(server(), Listener { h2c: true, ..plain() });
    let mut tcp = setup.connect().await;
    // The preface and an empty SETTINGS frame.
    send(&mut tcp, "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\x04\0\0\0\0\0").await;
    assert_eq!(safely(frame_type(&mut tcp)).await, 4);
    let client = async {
        // GOAWAY, before any clock of the connection has run out.
        safely(async { while frame_type(&mut tcp).await != 7 {} }).await;
        drop(tcp);
    };
    let drain = safely(setup.listening.drain(Duration::ZERO, SAFETY));
    assert_eq!(tokio::join!(drain, client).0, Ok(0));
}

/// Reads a frame (RFC 9113 section 4.1).
async fn frame_type(tcp: &mut TcpStream) -> u8 {
    let mut head = [0; 9];
    tcp.read_exact(&mut head).await.unwrap();
    let length = u32::from_be_bytes([0, head[0], head[1], head[2]]);
    tcp.read_exact(&mut vec![0; length as usize]).await.unwrap();
    head[3]
}

#[tokio::test]
async fn http2_streams_are_finished() {
    let mut setup = Setup::new(server(), Listener { h2c: true, ..plain() });
    let mut requests = http2(setup.connect().await).await;
    let slow = tokio::spawn(async move { text(get2(&mut requests, "/slow").await.unwrap()).await });
    safely(setup.told()).await;
    let client = async {
        setup.go.add_permits(1);
        assert_eq!(safely(slow).await.unwrap(), "slow");
    };
    let drain = safely(setup.listening.drain(Duration::ZERO, SAFETY));
    assert_eq!(tokio::join!(drain, client).0, Ok(0));
}
