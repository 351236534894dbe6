//! A caller that stops reading.

use std::time::Duration;

use sluicegate::simulator::{Cut, Head};
use tokio::io::{AsyncReadExt, AsyncWriteExt};

use super::{assert_ended, assert_given_up, counted};
use crate::harness::{
    BOTH, CHAT, CLIENT_KEY, Client, Http, Keys, Small, chat, cut_off, post, safely, simulator, whole,
};

#[tokio::test]
async fn an_endless_answer_that_nobody_reads() {
    let upstream = simulator().await;
    for up in BOTH {
        for down in BOTH {
            upstream.reset();
            let server = r#"write_stall = "200ms""#;
            let gateway = counted(&upstream.url(), up, Keys { server, ..Keys::default() });
            let mut client = Client::connect_with(gateway.address(), down, Small::Yes).await;
            let request = post(gateway.address(), down, "/v1/chat/completions")
                .header("x-simulate", "frames=100000000; size=1000")
                .body(whole(CHAT))
                .unwrap();
            let answer = safely(client.send(request)).await.unwrap();
            let line = gateway.log.line(1).await;
            assert_ended(&line, "downstream", "stream", "write_stall");
            let number = upstream.records()[0].number;
            assert_given_up(&upstream, number).await;
            drop(answer);
            // On HTTP/2 that ends the stream alone.
            let mut exchanges = 1;
            if down == Http::Two {
                let request =
                    post(gateway.address(), down, "/v1/chat/completions").body(whole(CHAT)).unwrap();
                assert_eq!(client.ask(request).await.status, 200);
                exchanges += 1;
            }
            drop(client);
            assert_eq!(chat(gateway.address(), down).await.status, 200);
            gateway.log.line(exchanges + 1).await;
            gateway.finish(exchanges + 1).await;
        }
    }
}

/// All that came fits into the gateway's kernel, so that no write has to wait.
#[tokio::test]
async fn a_silent_answer_whose_beginning_nobody_reads() {
    let upstream = simulator().await;
    for down in BOTH {
        let server = r#"write_stall = "200ms""#;
        let gateway = counted(&upstream.url(), Http::One, Keys { server, ..Keys::default() });
        let mut client = Client::connect_with(gateway.address(), down, Small::Yes).await;
        // More than the caller's window.
        let request = post(gateway.address(), down, "/v1/chat/completions")
            .header("x-simulate", "frames=100; size=1000; stall=12000")
            .body(whole(CHAT))
            .unwrap();
        let answer = safely(client.send(request)).await.unwrap();
        assert_ended(&gateway.log.line(1).await, "downstream", "stream", "write_stall");
        drop((answer, client));
        gateway.finish(1).await;
    }
}

/// The kernel would take megabytes for a client and show room again only when a third of them has left: much later than `write_stall`.
#[tokio::test]
async fn a_caller_that_reads_slowly_and_steadily_is_not_cut() {
    const READ: usize = 200 << 10;
    let upstream = simulator().await;
    let server = r#"write_stall = "1s""#;
    let gateway = counted(&upstream.url(), Http::One, Keys { server, ..Keys::default() });
    let socket = tokio::net::TcpSocket::new_v4().unwrap();
    socket.set_recv_buffer_size(4 << 10).unwrap();
    let mut caller = socket.connect(gateway.address()).await.unwrap();
    let length = CHAT.len();
    let head = format!(
        "POST /v1/chat/completions HTTP/1.1\r\nhost: g\r\nauthorization: Bearer {CLIENT_KEY}\r\ncontent-type: application/json\r\n\
         x-simulate: frames=100000000; size=1000\r\ncontent-length: {length}\r\n\r\n{CHAT}"
    );
    caller.write_all(head.as_bytes()).await.unwrap();
    let mut piece = [0; 4 << 10];
    let mut read = 0;
    while read < READ {
        // 50 KiB/s, so that the read lasts for several times `write_stall`.
        tokio::time::sleep(Duration::from_millis(80)).await;
        let count = safely(caller.read(&mut piece)).await.unwrap();
        assert!(count > 0, "cut after {read} bytes");
        read += count;
    }
    // With unread bytes, so that the connection is reset.
    drop(caller);
    let line = gateway.log.line(1).await;
    assert_ended(&line, "downstream", "stream", "caller_left");
    let logged = line["bytes_out"].as_u64().unwrap();
    // What the caller's kernel has not acknowledged is not logged as delivered.
    assert!(logged <= (READ + (16 << 10)) as u64, "{logged}");
    gateway.finish(1).await;
}

/// Everything that came is to be delivered before the abort, but not to a caller who never takes it.
#[tokio::test]
async fn a_broken_answer_that_nobody_reads() {
    let upstream = simulator().await;
    for down in BOTH {
        let server = r#"write_stall = "200ms""#;
        let gateway = counted(&upstream.url(), Http::One, Keys { server, ..Keys::default() });
        // More than the caller's window, and little enough for hyper to take at once.
        let body = vec![b'x'; 7000];
        upstream.queue(cut_off(Head::event_stream(), &body, Cut::Close));
        let mut client = Client::connect_with(gateway.address(), down, Small::Yes).await;
        let request = post(gateway.address(), down, "/v1/chat/completions").body(whole(CHAT)).unwrap();
        let answer = safely(client.send(request)).await.unwrap();
        assert_ended(&gateway.log.line(1).await, "upstream", "stream", "upstream_truncated");
        drop((answer, client));
        gateway.finish(1).await;
    }
}
