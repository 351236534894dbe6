use std::sync::Arc;

use rustls::{
    ClientConfig, RootCertStore,
    pki_types::{CertificateDer, pem::PemObject},
};
use tokio_rustls::{TlsConnector, client::TlsStream};

use super::*;

async fn connect(simulator: &Simulator, alpn: &[u8]) -> io::Result<TlsStream<TcpStream>> {
    let mut roots = RootCertStore::empty();
    roots.add(CertificateDer::from_pem_slice(simulator.ca_pem().unwrap().as_bytes()).unwrap()).unwrap();
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let mut config = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_root_certificates(roots)
        .with_no_client_auth();
    config.alpn_protocols = vec![alpn.to_vec()];
    let socket = TcpStream::connect(simulator.addr()).await?;
    TlsConnector::from(Arc::new(config)).connect("localhost".try_into().unwrap(), socket).await
}

#[tokio::test]
async fn alpn_decides_the_protocol() {
    let options = Options { tls: Some(Tls::default()), ..Options::default() };
    let simulator = Simulator::start(options).await.unwrap();
    assert!(simulator.url().starts_with("https://127.0.0.1:"));
    let mut socket = connect(&simulator, b"http/1.1").await.unwrap();
    socket.write_all(b"GET /v1/models HTTP/1.1\r\nConnection: close\r\n\r\n").await.unwrap();
    let mut answer = String::new();
    socket.read_to_string(&mut answer).await.unwrap();
    assert!(answer.starts_with("HTTP/1.1 200 OK\r\n"));

    let (mut send, connection) =
        h2::client::handshake(connect(&simulator, b"h2").await.unwrap()).await.unwrap();
    tokio::spawn(connection);
    let request = http::Request::get("https://localhost/v1/models").body(()).unwrap();
    assert_eq!(send.send_request(request, true).unwrap().0.await.unwrap().status(), 200);
    let record = simulator.record(2).await;
    assert_eq!(record.protocol, http::Version::HTTP_2);
    assert_eq!(record.tls.unwrap().server_name.as_deref(), Some("localhost"));
}

#[tokio::test]
async fn a_reset_reaches_through_tls_and_leaving_is_noticed() {
    let options = Options { tls: Some(Tls::default()), ..Options::default() };
    let simulator = Simulator::start(options).await.unwrap();
    let mut socket = connect(&simulator, b"http/1.1").await.unwrap();
    socket.write_all(b"GET /v1/models HTTP/1.1\r\nX-Simulate: cut=5; by=reset\r\n\r\n").await.unwrap();
    let mut answer = Vec::new();
    let error = socket.read_to_end(&mut answer).await.unwrap_err();
    assert_eq!(error.kind(), io::ErrorKind::ConnectionReset);
    assert!(answer.ends_with(b"\r\n\r\n{\"dat"), "{}", String::from_utf8_lossy(&answer));

    let mut socket = connect(&simulator, b"http/1.1").await.unwrap();
    socket.write_all(b"GET /v1/models HTTP/1.1\r\nX-Simulate: stall=1\r\n\r\n").await.unwrap();
    socket.read_u8().await.unwrap();
    drop(socket);
    assert!(ended(&simulator.record(2).await).peer_left());
}

#[tokio::test]
async fn callers_without_a_certificate_are_turned_away_where_one_is_needed() {
    let other = Simulator::start(Options { tls: Some(Tls::default()), ..Options::default() }).await.unwrap();
    let client_ca = other.ca_pem().map(|pem| pem.as_bytes().to_vec());
    let tls = Some(Tls { client_ca, ..Tls::default() });
    let simulator = Simulator::start(Options { tls, ..Options::default() }).await.unwrap();
    // With TLS 1.3 the client learns of it only when it reads.
    let turned_away = match connect(&simulator, b"http/1.1").await {
        Ok(mut socket) => socket.read_u8().await.is_err(),
        Err(_) => true,
    };
    assert!(turned_away);
    let connections = simulator.wait_for_connections(|now| now.opened == 1 && now.open == 0).await;
    assert_eq!((connections.failed, simulator.records().len()), (1, 0));
}
