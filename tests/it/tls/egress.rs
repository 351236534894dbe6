//! The way out through an HTTP CONNECT proxy (RFC 9110 section 9.3.6).

use std::net::SocketAddr;

use base64::{Engine, engine::general_purpose::STANDARD};
use sluicegate::simulator::{Protocols, Tls};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt, copy_bidirectional},
    net::{TcpListener, TcpStream},
    sync::mpsc,
};

use super::{before, streams, unreachable, upstream};
use crate::folder::Folder;

const LOGIN: &str = "gate:proxy-password";

/// A proxy that wants [`LOGIN`] and leads everybody to `to`, whomever they ask for; each head that it was sent comes out of the channel.
struct Proxy {
    address: SocketAddr,
    heads: mpsc::UnboundedReceiver<String>,
}

impl Proxy {
    async fn before(to: SocketAddr) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let (told, heads) = mpsc::unbounded_channel();
        tokio::spawn(async move {
            while let Ok((mut stream, _)) = listener.accept().await {
                let mut head = Vec::new();
                while !head.ends_with(b"\r\n\r\n") {
                    head.push(stream.read_u8().await.unwrap());
                }
                let head = String::from_utf8(head).unwrap();
                let wanted =
                    format!("proxy-authorization: basic {}\r\n", STANDARD.encode(LOGIN)).to_ascii_lowercase();
                let known = head.to_ascii_lowercase().contains(&wanted);
                if told.send(head).is_err() {
                    return;
                }
                if !known {
                    let refusal = b"HTTP/1.1 407 Proxy Authentication Required\r\ncontent-length: 0\r\n\r\n";
                    stream.write_all(refusal).await.unwrap();
                    continue;
                }
                stream.write_all(b"HTTP/1.1 200 OK\r\n\r\n").await.unwrap();
                let mut upstream = TcpStream::connect(to).await.unwrap();
                tokio::spawn(async move { copy_bidirectional(&mut stream, &mut upstream).await });
            }
        });
        Self { address, heads }
    }

    fn heads(&mut self) -> Vec<String> {
        std::iter::from_fn(|| self.heads.try_recv().ok()).collect()
    }
}

#[tokio::test]
async fn an_upstream_is_reached_through_a_proxy() {
    let folder = Folder::new();
    let login = folder.write("login", LOGIN);
    for tls in [false, true] {
        let simulator = upstream(tls.then(Tls::default), Protocols::Both).await;
        let mut proxy = Proxy::before(simulator.addr()).await;
        let scheme = if tls { "https" } else { "http" };
        let ca = simulator.ca_pem().map(|pem| folder.write("ca.pem", pem));
        // The name is the proxy's to look up. It is not one that the simulator's certificate is for.
        let trusted =
            ca.map(|ca| format!("tls = {{ ca = {ca:?}, server_name = \"localhost\" }}")).unwrap_or_default();
        let through = |credentials: &str| {
            let proxy = format!("proxy = {{ url = \"http://{}\"{credentials} }}", proxy.address);
            before(&format!("{scheme}://upstream.test:4321"), &format!("{proxy}\n{trusted}"))
        };

        let gateway = through(&format!(", credentials = {{ file = {login:?} }}"));
        streams(&gateway).await;
        streams(&gateway).await;
        let log = gateway.log.line(2).await;
        assert_eq!(log["phase"], "done", "{log}");
        assert_eq!(simulator.records().len(), 2);
        let record = simulator.records().pop().unwrap();
        assert_eq!((record.tls.is_some(), record.authority.as_deref()), (tls, Some("upstream.test:4321")));
        assert!(!record.headers.contains_key("proxy-authorization"), "that is the proxy's alone");

        let refused = through("");
        let cause = unreachable(&refused).await;
        assert!(cause.contains("proxy") || cause.contains("tunnel"), "{cause}");
        assert_eq!(simulator.records().len(), 2);

        let heads = proxy.heads();
        assert!(
            heads.iter().all(|head| head.starts_with("CONNECT upstream.test:4321 HTTP/1.1\r\n")),
            "{heads:?}"
        );
        assert!(!heads.concat().contains("Bearer"), "keys are for the upstream alone");
        for text in [gateway.log.text(), refused.log.text()] {
            assert!(!text.contains("proxy-password") && !text.contains(&STANDARD.encode(LOGIN)), "{text}");
        }
    }
}
