use std::{
    pin::Pin,
    task::{Context, Poll},
};

use tokio::{
    io::{AsyncRead, AsyncWrite, ReadBuf},
    net::TcpStream,
};

use super::support::*;
use crate::snapshot::Listener;

fn h2c() -> Listener {
    Listener { h2c: true, ..plain() }
}

/// Writes the first bytes one at a time.
struct Dribble {
    tcp: TcpStream,
    singly: usize,
}

impl AsyncRead for Dribble {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        into: &mut ReadBuf<'_>,
    ) -> Poll<std::io::Result<()>> {
        Pin::new(&mut self.tcp).poll_read(cx, into)
    }
}

impl AsyncWrite for Dribble {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<std::io::Result<usize>> {
        let length = if self.singly > 0 { bytes.len().min(1) } else { bytes.len() };
        self.singly = self.singly.saturating_sub(1);
        Pin::new(&mut self.tcp).poll_write(cx, &bytes[..length])
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<std::io::Result<()>> {
        Pin::new(&mut self.tcp).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<std::io::Result<()>> {
        Pin::new(&mut self.tcp).poll_shutdown(cx)
    }
}

#[tokio::test]
async fn http2_by_prior_knowledge_byte_by_byte() {
    let setup = Setup::new(server(), h2c());
    let mut requests = http2(Dribble { tcp: setup.connect().await, singly: 60 }).await;
    let who = text(safely(get2(&mut requests, "/who")).await.unwrap()).await;
    assert!(who.ends_with("HTTP/2.0 tls=false"), "{who}");
}

#[tokio::test]
async fn http1_on_an_h2c_listener_byte_by_byte() {
    let setup = Setup::new(server(), h2c());
    let mut tcp = setup.connect().await;
    // It begins as the preface does.
    for byte in "PRINT /who HTTP/1.1\r\nhost: a\r\n\r\n".bytes() {
        send(&mut tcp, [byte]).await;
        tokio::task::yield_now().await;
    }
    let answer = safely(read_to(&mut tcp, "tls=false")).await;
    assert!(answer.starts_with("HTTP/1.1 200") && answer.contains("HTTP/1.1 tls"), "{answer}");
}

#[tokio::test]
async fn the_preface_is_no_request_without_h2c() {
    let setup = Setup::new(server(), plain());
    let mut tcp = setup.connect().await;
    send(&mut tcp, "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n").await;
    safely(read_to_close(&mut tcp)).await;
    setup.counted(|counters| &counters.bad_head, 1).await;
}

#[tokio::test]
async fn a_bad_head_is_answered_and_counted() {
    let setup = Setup::new(server(), plain());
    let mut tcp = setup.connect().await;
    send(&mut tcp, "GET / HTTP/1.1\r\nbad header\r\n\r\n").await;
    tokio::io::AsyncWriteExt::shutdown(&mut tcp).await.unwrap();
    let answer = safely(read_to_close(&mut tcp)).await;
    assert!(answer.starts_with(b"HTTP/1.1 400"), "{}", String::from_utf8_lossy(&answer));
    setup.counted(|counters| &counters.bad_head, 1).await;
}

#[tokio::test]
async fn a_head_that_is_too_large_is_answered_though_more_of_it_comes() {
    let setup = Setup::new(server(), plain());
    let mut tcp = setup.connect().await;
    send(&mut tcp, format!("GET / HTTP/1.1\r\nx: {}", "x".repeat(4_000_000))).await;
    tokio::io::AsyncWriteExt::shutdown(&mut tcp).await.unwrap();
    let answer = safely(read_to_close(&mut tcp)).await;
    assert!(answer.starts_with(b"HTTP/1.1 431"), "{}", String::from_utf8_lossy(&answer));
}

#[tokio::test]
async fn a_panic_ends_its_own_exchange_only() {
    let setup = Setup::new(server(), h2c());
    let mut tcp = setup.connect().await;
    send(&mut tcp, get("/panic")).await;
    assert_eq!(safely(read_to_close(&mut tcp)).await, b"");
    let mut requests = http2(setup.connect().await).await;
    assert!(safely(get2(&mut requests, "/panic")).await.is_err());
    assert_eq!(text(safely(get2(&mut requests, "/hello")).await.unwrap()).await, "hello");
}
