//! TLS from hostile callers. That ALPN with nothing in common fails, that an unknown name gets the first certificate, and that TLS 1.2 can be
//! switched off is tested in `listen`. Renegotiation cannot be tried with rustls, which has none on either side (RFC 8446 has none at all).

use std::{
    io,
    net::SocketAddr,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
};

use rustls::{ClientConnection, HandshakeKind, pki_types::ServerName};
use tokio::{
    io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt, ReadBuf},
    net::TcpStream,
};
use tokio_rustls::{TlsConnector, client::TlsStream};

use super::tap::{Message, Tap};
use crate::{
    folder::Folder,
    harness::{CLIENT_KEY, Gateway, GatewayToml, safely},
    metrics::scrape::Scrape,
    tls::pki::{Authority, Trust},
};

const NAME: &str = "gate.test";

/// A gateway with TLS before an upstream that keeps every byte.
struct Rig {
    gateway: Gateway,
    tap: Tap,
    trust: Trust,
    _folder: Folder,
}

impl Rig {
    async fn new(server: &str) -> Self {
        let (folder, authority, tap) = (Folder::new(), Authority::new(), Tap::open().await);
        let files = authority.issue(&[NAME]).files(&folder, "gate");
        let gateway = Gateway::start(
            &GatewayToml::before(&tap.url(), "retry = \"off\"")
                .listener(format!("tls = {{ {files} }}"))
                .admin()
                .server("threads = 1")
                .server(server),
        );
        Self { gateway, tap, trust: Trust::of(&[&authority]), _folder: folder }
    }

    fn address(&self) -> SocketAddr {
        self.gateway.address()
    }

    async fn tcp(&self) -> TcpStream {
        let tcp = TcpStream::connect(self.address()).await.unwrap();
        tcp.set_nodelay(true).unwrap();
        tcp
    }

    fn connector(&self) -> TlsConnector {
        TlsConnector::from(Arc::new(self.trust.config(&["http/1.1"])))
    }

    /// Waits until so many connections of this class have been counted, and nothing is open.
    async fn counted(&self, class: &str, count: f64) {
        let class = format!("class=\"{class}\"");
        let reached = async {
            loop {
                let scrape = Scrape::of(self.gateway.admin.unwrap(), "").await;
                if scrape.sum("sluicegate_connection_failures_total", &[&class]) >= count {
                    return scrape.sum("sluicegate_connection_failures_total", &[&class]);
                }
            }
        };
        assert_eq!(safely(reached).await, count, "{class}");
        safely(async {
            while self.gateway.loads() != [(0, 0)] {
                tokio::task::yield_now().await;
            }
        })
        .await;
    }

    /// That a sound caller is served, and that the upstream has received this request and nothing else.
    async fn assert_serves(&self) {
        let mut stream = self.connector().connect(name(), self.tcp().await).await.unwrap();
        assert!(safely(exchange(&mut stream)).await.unwrap().starts_with("HTTP/1.1 200"));
        assert_eq!(self.tap.take().await.len(), 1);
    }
}

fn name() -> ServerName<'static> {
    ServerName::try_from(NAME).unwrap()
}

fn head(framing: &str) -> String {
    format!(
        "POST /v1/echo HTTP/1.1\r\nhost: {NAME}\r\nauthorization: Bearer {CLIENT_KEY}\r\nconnection: close\r\n{framing}\r\n\r\n"
    )
}

/// A whole request, and all that is said to it.
async fn exchange(stream: &mut (impl AsyncRead + AsyncWrite + Unpin)) -> io::Result<String> {
    stream.write_all(format!("{}hello", head("content-length: 5")).as_bytes()).await?;
    stream.flush().await?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer).await?;
    Ok(answer)
}

/// All that is said until the connection is over, in order or not.
async fn said(tcp: &mut TcpStream) -> Vec<u8> {
    let mut said = Vec::new();
    let _ = safely(tcp.read_to_end(&mut said)).await;
    said
}

/// A TLS record.
fn record(kind: u8, version: u16, length: u16, payload: &[u8]) -> Vec<u8> {
    [&[kind][..], &version.to_be_bytes(), &length.to_be_bytes(), payload].concat()
}

/// A ClientHello of an old version with ciphers of its time (RFC 5246, section 7.4.1.2); no extensions.
fn old_hello(version: u16) -> Vec<u8> {
    let ciphers = [0xc0_u8, 0x13, 0xc0, 0x14, 0, 0x2f, 0, 0x35];
    let hello = [&version.to_be_bytes()[..], &[7; 32], &[0], &[0, 8], &ciphers, &[1, 0]].concat();
    let message = [&[1, 0, 0, hello.len() as u8][..], &hello].concat();
    record(22, 0x0301, message.len() as u16, &message)
}

/// Plain HTTP gets a 400 that says what is wrong, no page and no redirect.
#[tokio::test]
async fn plain_http_is_told_to_use_tls() {
    let rig = Rig::new("").await;
    let plain: [&[u8]; 4] = [
        b"GET / HTTP/1.1\r\nhost: gate.test\r\n\r\n",
        b"POST /v1/echo HTTP/1.1\r\nhost: gate.test\r\ncontent-length: 5\r\n\r\nhello",
        b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\x04\0\0\0\0\0",
        // Whatever begins with a capital letter is taken for HTTP.
        b"SSH-2.0-OpenSSH_9.2\r\n",
    ];
    for (number, bytes) in plain.iter().enumerate() {
        let mut tcp = rig.tcp().await;
        tcp.write_all(bytes).await.unwrap();
        let said = String::from_utf8(said(&mut tcp).await).unwrap();
        assert!(said.starts_with("HTTP/1.1 400 ") && said.contains("TLS required"), "{said}");
        rig.counted("plain_http", number as f64 + 1.0).await;
    }
    // The file of the rig has one language.
    let mut tcp = rig.tcp().await;
    tcp.write_all(b"GET / HTTP/1.1\r\naccept-language: zh\r\n\r\n").await.unwrap();
    let said = String::from_utf8(said(&mut tcp).await).unwrap();
    assert!(said.contains("content-language: en\r\n"), "{said}");
    rig.assert_serves().await;
}

/// What is neither TLS nor HTTP gets an alert and the close.
#[tokio::test]
async fn what_is_no_tls() {
    let rig = Rig::new("").await;
    let plain: [&[u8]; 2] = [&[0; 64], &[0xff; 64]];
    for (number, bytes) in plain.iter().enumerate() {
        let mut tcp = rig.tcp().await;
        tcp.write_all(bytes).await.unwrap();
        let said = said(&mut tcp).await;
        assert!(said.is_empty() || said[0] == 21 && said.len() == 7, "{said:x?}");
        rig.counted("handshake_failed", number as f64 + 1.0).await;
    }
    rig.assert_serves().await;
}

/// RFC 8446, section 5.1: records of more than 2^14 bytes (and 256 for what encryption adds), or of a kind that there is not. RFC 8996: TLS 1.0
/// and 1.1, and SSL 3, are no more; rustls misses an extension in their hello before it minds the version (handshake_failure, protocol_version).
#[tokio::test]
async fn records_and_versions_that_are_none() {
    let rig = Rig::new("").await;
    let old = [0x0300, 0x0301, 0x0302].map(old_hello);
    let broken = [
        record(22, 0x0301, 0x4801, &[1; 0x4801]),
        record(22, 0x0301, 0xffff, &[1; 0x1000]),
        record(22, 0x0301, 0, &[]),
        record(99, 0x0303, 5, b"hello"),
        // Application data before there is a key.
        record(23, 0x0303, 5, b"hello"),
        // A handshake message that says that it is 16 MiB long.
        record(22, 0x0301, 4, &[1, 0xff, 0xff, 0xff]),
    ];
    for (number, bytes) in old.iter().chain(&broken).enumerate() {
        let mut tcp = rig.tcp().await;
        // It may be closed by the middle of it.
        let _ = tcp.write_all(bytes).await;
        let said = said(&mut tcp).await;
        assert!(said.is_empty() || said[0] == 21, "{number}: {said:x?}");
        assert!(number >= old.len() || matches!(said[5..], [2, 40 | 70]), "{number}: {said:x?}");
        rig.counted("handshake_failed", number as f64 + 1.0).await;
    }
    rig.assert_serves().await;
}

/// A stream that gives and takes one byte at a time.
struct Dribble(TcpStream);

impl AsyncRead for Dribble {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        into: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let mut byte = [0];
        let mut one = ReadBuf::new(&mut byte);
        let read = Pin::new(&mut self.0).poll_read(cx, &mut one);
        into.put_slice(one.filled());
        read
    }
}

impl AsyncWrite for Dribble {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.0).poll_write(cx, &bytes[..bytes.len().min(1)])
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.0).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.0).poll_shutdown(cx)
    }
}

/// However it is cut on its way, it is the same request.
#[tokio::test]
async fn a_session_byte_by_byte() {
    let rig = Rig::new("").await;
    let mut stream = rig.connector().connect(name(), Dribble(rig.tcp().await)).await.unwrap();
    let answer = safely(exchange(&mut stream)).await.unwrap();
    assert!(answer.starts_with("HTTP/1.1 200") && answer.ends_with("\r\n\r\nok"), "{answer}");
    let came = rig.tap.take().await;
    assert_eq!(came.len(), 1);
    assert_eq!(Message::only(&came[0]).body, b"hello");
}

/// `handshake_timeout` is for the whole handshake, not for its next byte.
#[tokio::test]
async fn a_hello_that_does_not_end() {
    let rig = Rig::new(r#"handshake_timeout = "300ms""#).await;
    let (mut reader, mut writer) = rig.tcp().await.into_split();
    writer.write_all(&record(22, 0x0301, 0x4000, &[1, 0, 0x3f, 0xfc])).await.unwrap();
    // It says more whenever it likes: not so fast that the hello would come to its end.
    let dribble = async {
        let mut beat = tokio::time::interval(std::time::Duration::from_millis(5));
        while writer.write_all(&[3]).await.is_ok() {
            beat.tick().await;
        }
    };
    let mut said = Vec::new();
    let (_, _) = safely(async { tokio::join!(dribble, reader.read_to_end(&mut said)) }).await;
    assert!(said.is_empty(), "{said:x?}");
    rig.counted("handshake_timeout", 1.0).await;
    rig.assert_serves().await;
}

/// RFC 8446, section 8: early data could be sent again by anybody who has seen it. The session is resumed, but without.
#[tokio::test]
async fn early_data_is_not_taken() {
    let rig = Rig::new("").await;
    let mut config = rig.trust.config(&["http/1.1"]);
    config.enable_early_data = true;
    let config = Arc::new(config);
    let connector = TlsConnector::from(config.clone());
    for kind in [HandshakeKind::Full, HandshakeKind::Resumed] {
        let mut stream = connector.connect(name(), rig.tcp().await).await.unwrap();
        assert!(safely(exchange(&mut stream)).await.unwrap().starts_with("HTTP/1.1 200"));
        assert_eq!(stream.get_ref().1.handshake_kind(), Some(kind));
        assert_eq!(rig.tap.take().await.len(), 1);
        // The ticket that it has got allows none.
        let mut next = ClientConnection::new(config.clone(), name()).unwrap();
        assert!(next.early_data().is_none());
    }
    for listener in &rig.gateway.inside().live.load().listeners {
        assert_eq!(listener.tls.as_ref().unwrap().max_early_data_size, 0);
    }
}

/// RFC 8446, section 6.1: an end without close_notify is a truncation. What has not come whole by HTTP's own framing is not whole.
#[tokio::test]
async fn a_body_cut_by_a_close_that_is_not_tlss() {
    let rig = Rig::new("").await;
    for (framing, body) in [
        ("content-length: 10", "hello"),
        ("transfer-encoding: chunked", "5\r\nhello\r\n"),
        ("transfer-encoding: chunked", "5\r\nhello\r\n0\r\n"),
        ("content-type: application/json\r\ncontent-length: 12", r#"{"model":1}"#),
        ("content-type: application/json\r\ntransfer-encoding: chunked", "b\r\n{\"model\":1}\r\n"),
    ] {
        let mut stream = rig.connector().connect(name(), rig.tcp().await).await.unwrap();
        stream.write_all(format!("{}{body}", head(framing)).as_bytes()).await.unwrap();
        stream.flush().await.unwrap();
        cut(&mut stream).await;
        let answer = said(stream.get_mut().0).await;
        let came = rig.tap.take().await;
        assert!(came.iter().all(|bytes| Message::read(bytes).is_none()), "{framing}: {came:?}");
        drop(answer);
        rig.counted("handshake_failed", 0.0).await;
    }
    rig.assert_serves().await;
}

/// A FIN, and nothing of TLS before it.
async fn cut(stream: &mut TlsStream<TcpStream>) {
    stream.get_mut().0.shutdown().await.unwrap();
}

/// Each gives back its place: there are four, and two hundred come.
#[tokio::test]
async fn handshakes_that_are_given_up() {
    let rig = Rig::new("max_connections = 4").await;
    let hello = old_hello(0x0303);
    for number in 0..200 {
        let mut tcp = rig.tcp().await;
        match number % 4 {
            0 => {}
            1 => tcp.write_all(&hello[..20]).await.unwrap(),
            2 => tcp.write_all(&hello).await.unwrap(),
            _ => {
                tcp.write_all(&hello[..20]).await.unwrap();
                tcp.set_zero_linger().unwrap();
            }
        }
    }
    rig.assert_serves().await;
    safely(async {
        while rig.gateway.loads() != [(0, 0)] {
            tokio::task::yield_now().await;
        }
    })
    .await;
}
