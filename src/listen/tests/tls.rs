use std::{net::SocketAddr, sync::Arc, time::Duration};

use rcgen::{CertificateParams, CertifiedIssuer, ExtendedKeyUsagePurpose, IsCa, KeyPair};
use rustls::{
    ClientConfig, HandshakeKind, RootCertStore,
    crypto::aws_lc_rs,
    pki_types::{CertificateDer, PrivateKeyDer, ServerName},
    sign::CertifiedKey,
};
use tokio::net::TcpStream;
use tokio_rustls::{TlsConnector, client::TlsStream};

use super::support::*;
use crate::{
    config::{Certificate, ListenerTls},
    snapshot::{Listener, Snapshot, Tickets, server_config},
};

pub(super) type Authority = CertifiedIssuer<'static, KeyPair>;

pub(super) fn authority() -> Authority {
    let mut params = CertificateParams::new(Vec::new()).unwrap();
    params.is_ca = IsCa::Ca(rcgen::BasicConstraints::Unconstrained);
    CertifiedIssuer::self_signed(params, KeyPair::generate().unwrap()).unwrap()
}

fn issue(by: &Authority, names: &[&str]) -> (CertificateDer<'static>, PrivateKeyDer<'static>) {
    let names: Vec<_> = names.iter().map(ToString::to_string).collect();
    let mut params = CertificateParams::new(names).unwrap();
    params.extended_key_usages =
        vec![ExtendedKeyUsagePurpose::ServerAuth, ExtendedKeyUsagePurpose::ClientAuth];
    let key = KeyPair::generate().unwrap();
    let certificate = params.signed_by(&key, by).unwrap();
    (certificate.der().clone(), PrivateKeyDer::try_from(key.serialize_der()).unwrap())
}

fn roots(authorities: &[&Authority]) -> Arc<RootCertStore> {
    let mut roots = RootCertStore::empty();
    for authority in authorities {
        roots.add(authority.der().clone()).unwrap();
    }
    Arc::new(roots)
}

pub(super) fn certificate(by: &Authority, names: &[&str]) -> Certificate {
    let (chain, key) = issue(by, names);
    let key = CertifiedKey::from_der(vec![chain], key, &aws_lc_rs::default_provider()).unwrap();
    let names = names.iter().map(ToString::to_string).collect();
    Certificate { key: Arc::new(key), names, path: "test".into(), not_after: 0 }
}

pub(super) fn tls(certificates: Vec<Certificate>) -> ListenerTls {
    ListenerTls { certificates, client_ca: None, client_ca_digest: None, tls12: true }
}

fn asking_for(certificates: Vec<Certificate>, client_ca: Arc<RootCertStore>, digest: u8) -> ListenerTls {
    ListenerTls { client_ca: Some(client_ca), client_ca_digest: Some([digest; 32]), ..tls(certificates) }
}

pub(super) fn listener(tls: &ListenerTls, tickets: &mut Tickets) -> Listener {
    Listener { tls: Some(server_config(tls, tickets).unwrap()), ..plain() }
}

pub(super) struct Client {
    pub(super) connector: TlsConnector,
}

impl Client {
    fn new(trusted: &Authority, shown: Option<(CertificateDer<'static>, PrivateKeyDer<'static>)>) -> Self {
        Self::with(trusted, shown, &[b"http/1.1"], rustls::ALL_VERSIONS)
    }

    pub(super) fn with(
        trusted: &Authority,
        shown: Option<(CertificateDer<'static>, PrivateKeyDer<'static>)>,
        alpn: &[&[u8]],
        versions: &[&'static rustls::SupportedProtocolVersion],
    ) -> Self {
        let builder = ClientConfig::builder_with_provider(Arc::new(aws_lc_rs::default_provider()))
            .with_protocol_versions(versions)
            .unwrap()
            .with_root_certificates(roots(&[trusted]));
        let mut config = match shown {
            Some((certificate, key)) => builder.with_client_auth_cert(vec![certificate], key).unwrap(),
            None => builder.with_no_client_auth(),
        };
        config.alpn_protocols = alpn.iter().map(|name| name.to_vec()).collect();
        Self { connector: TlsConnector::from(Arc::new(config)) }
    }

    async fn connect(&self, address: SocketAddr, name: &str) -> std::io::Result<TlsStream<TcpStream>> {
        let tcp = TcpStream::connect(address).await?;
        self.connector.connect(ServerName::try_from(name.to_owned()).unwrap(), tcp).await
    }

    /// One request on a connection of its own: what its answer ends with, and which handshake it was.
    async fn ask(&self, address: SocketAddr, name: &str) -> std::io::Result<(String, HandshakeKind)> {
        use tokio::io::{AsyncReadExt, AsyncWriteExt};
        let mut stream = self.connect(address, name).await?;
        stream.write_all(b"GET /who HTTP/1.1\r\nhost: a\r\nconnection: close\r\n\r\n").await?;
        let mut answer = String::new();
        // An orderly end: without close_notify this is an error.
        stream.read_to_string(&mut answer).await?;
        Ok((answer, stream.get_ref().1.handshake_kind().unwrap()))
    }
}

#[tokio::test]
async fn plain_http_on_a_tls_port_is_told_so_and_counted() {
    let ca = authority();
    let listener = listener(&tls(vec![certificate(&ca, &["a.test"])]), &mut Tickets::default());
    let setup = Setup::new(server(), listener);
    let requests = [
        get("/hello"),
        "POST /v1/x HTTP/1.1\r\nhost: a\r\ncontent-length: 9\r\n\r\n".into(),
        "PRI * HT".into(),
    ];
    for (count, request) in (1..).zip(requests) {
        let mut tcp = setup.connect().await;
        send(&mut tcp, request).await;
        let answer = String::from_utf8(safely(read_to_close(&mut tcp)).await).unwrap();
        assert!(answer.starts_with("HTTP/1.1 400 Bad Request\r\n"), "{answer}");
        assert!(answer.contains("connection: close") && answer.contains("https://"), "{answer}");
        setup.counted(|counters| &counters.plain_http, count).await;
    }
    assert_eq!(setup.listening.counters().handshake_failed.value(), 0);
    // What is neither fails as it did.
    let mut tcp = setup.connect().await;
    send(&mut tcp, b"\0\0\0\0\0").await;
    safely(read_to_close(&mut tcp)).await;
    setup.counted(|counters| &counters.handshake_failed, 1).await;
}

/// As of other connections without a whole request (`drain.rs`): what is open ends 2 s after the deadline, these end with it.
#[tokio::test]
async fn half_a_handshake_ends_with_the_deadline_of_a_drain() {
    const HELLO: &[u8] = b"\x16\x03\x01\x02\0\x01\0\x01\xfc\x03\x03";
    let ca = authority();
    for begin in [&HELLO[..0], &HELLO[..3], HELLO] {
        let listener = listener(&tls(vec![certificate(&ca, &["a.test"])]), &mut Tickets::default());
        let mut setup = Setup::new(server(), listener);
        let mut slow = Client::new(&ca, None).connect(setup.address(), "a.test").await.unwrap();
        send(&mut slow, get("/slow")).await;
        assert_eq!(safely(setup.told()).await, StandInEvent::Begun("/slow".into()));
        let mut half = setup.connect().await;
        send(&mut half, begin).await;
        setup.counted(|counters| &counters.accepted, 2).await;
        let told = &mut setup.told;
        let client = async {
            safely(read_to_close(&mut half)).await;
            assert!(told.try_recv().is_err(), "{begin:?}");
        };
        let drain = safely(setup.listening.drain(Duration::ZERO, Duration::from_millis(50)));
        assert_eq!(tokio::join!(drain, client).0, Ok(1), "{begin:?}");
    }
}

#[tokio::test]
async fn alpn_decides_the_protocol() {
    let ca = authority();
    let setup =
        Setup::new(server(), listener(&tls(vec![certificate(&ca, &["a.test"])]), &mut Tickets::default()));
    for alpn in [&[&b"http/1.1"[..]][..], &[]] {
        let client = Client::with(&ca, None, alpn, rustls::ALL_VERSIONS);
        let (answer, _) = safely(client.ask(setup.address(), "a.test")).await.unwrap();
        assert!(answer.ends_with("HTTP/1.1 tls=true"), "{answer}");
    }
    let client = Client::with(&ca, None, &[b"http/1.1", b"h2"], rustls::ALL_VERSIONS);
    let stream = client.connect(setup.address(), "a.test").await.unwrap();
    assert_eq!(stream.get_ref().1.alpn_protocol(), Some(&b"h2"[..]));
    let answer = text(safely(get2(&mut http2(stream).await, "/who")).await.unwrap()).await;
    assert!(answer.ends_with("HTTP/2.0 tls=true"), "{answer}");
    let client = Client::with(&ca, None, &[b"spdy/3"], rustls::ALL_VERSIONS);
    assert!(client.connect(setup.address(), "a.test").await.is_err());
}

/// What TLS has decrypted and hyper has not taken counts as what hyper holds; what came of TLS alone does not.
#[tokio::test]
async fn a_head_that_begins_behind_a_request_has_its_own_time() {
    let ca = authority();
    let short = Duration::from_millis(200);
    for (next, header_timeout, idle_closed) in [("GET /he", 1, 0), ("", 0, 1)] {
        let mut server = server();
        *if next.is_empty() { &mut server.keep_alive } else { &mut server.header_timeout } = short;
        let listener = listener(&tls(vec![certificate(&ca, &["a.test"])]), &mut Tickets::default());
        let setup = Setup::new(server, listener);
        let mut stream = Client::new(&ca, None).connect(setup.address(), "a.test").await.unwrap();
        send(&mut stream, get("/hello") + next).await;
        safely(read_to(&mut stream, "hello")).await;
        assert_eq!(safely(read_to_close(&mut stream)).await, b"");
        setup.counted(|counters| &counters.header_timeout, header_timeout).await;
        setup.counted(|counters| &counters.idle_closed, idle_closed).await;
    }
}

#[tokio::test]
async fn the_server_name_chooses_the_certificate() {
    let ca = authority();
    let certificates = vec![
        certificate(&ca, &["first.test", "strange.test"]),
        certificate(&ca, &["*.wild.test"]),
        certificate(&ca, &["exact.wild.test", "other.test"]),
    ];
    let shown: Vec<_> = certificates.iter().map(|certificate| certificate.key.cert[0].clone()).collect();
    let setup = Setup::new(server(), listener(&tls(certificates), &mut Tickets::default()));
    let cases = [("first.test", 0), ("any.wild.test", 1), ("exact.wild.test", 2), ("OTHER.test", 2)];
    for (name, which) in cases {
        let stream = Client::new(&ca, None).connect(setup.address(), name).await.unwrap();
        assert_eq!(stream.get_ref().1.peer_certificates().unwrap()[0], shown[which], "{name}");
    }
    // A wildcard is for one label; a name that is not known gets the first certificate, which is not for it.
    for name in ["two.labels.wild.test", "unknown.test"] {
        let error = Client::new(&ca, None).connect(setup.address(), name).await.unwrap_err();
        assert!(error.to_string().contains("first.test"), "{name}: {error}");
    }
}

#[tokio::test]
async fn only_tls_1_3_when_so_configured() {
    let ca = authority();
    let old = [&rustls::version::TLS12];
    for (tls12, accepted) in [(true, true), (false, false)] {
        let tls = ListenerTls { tls12, ..tls(vec![certificate(&ca, &["a.test"])]) };
        let setup = Setup::new(server(), listener(&tls, &mut Tickets::default()));
        let client = Client::with(&ca, None, &[], &old);
        assert_eq!(safely(client.ask(setup.address(), "a.test")).await.is_ok(), accepted);
        setup.counted(|counters| &counters.handshake_failed, u64::from(!accepted)).await;
    }
}

#[tokio::test]
async fn callers_show_a_certificate_of_the_client_ca() {
    let (ca, stranger) = (authority(), authority());
    let tls = asking_for(vec![certificate(&ca, &["a.test"])], roots(&[&ca]), 1);
    let setup = Setup::new(server(), listener(&tls, &mut Tickets::default()));
    let known = Client::new(&ca, Some(issue(&ca, &["client"])));
    assert!(safely(known.ask(setup.address(), "a.test")).await.is_ok());
    for shown in [None, Some(issue(&stranger, &["client"]))] {
        assert!(safely(Client::new(&ca, shown).ask(setup.address(), "a.test")).await.is_err());
    }
    setup.counted(|counters| &counters.handshake_failed, 2).await;
}

/// What a reload does; another listener comes before the one in question.
fn reload(setup: &Setup, listener: Listener) {
    let address = setup.gateway.live.load().listeners.last().unwrap().address;
    let another = Listener { address: "127.0.0.1:1".parse().unwrap(), ..plain() };
    let listeners = vec![another, Listener { address, ..listener }];
    setup.gateway.live.store(Arc::new(Snapshot::of_listeners(2, server(), listeners)));
}

#[tokio::test]
async fn a_session_is_resumed_across_reloads_but_not_across_a_changed_client_ca() {
    for versions in [&[&rustls::version::TLS13][..], &[&rustls::version::TLS12]] {
        let (ca, another) = (authority(), authority());
        let certificates = vec![certificate(&ca, &["a.test"])];
        let client = Client::with(&ca, Some(issue(&ca, &["client"])), &[], versions);
        let mut tickets = Tickets::default();
        let before = asking_for(certificates.clone(), roots(&[&ca]), 1);
        let setup = Setup::new(server(), listener(&before, &mut tickets));
        let kind = async || safely(client.ask(setup.address(), "a.test")).await.map(|(_, kind)| kind);
        assert_eq!(kind().await.unwrap(), HandshakeKind::Full);
        assert_eq!(kind().await.unwrap(), HandshakeKind::Resumed);

        let mut following = Tickets::following(&tickets);
        reload(&setup, listener(&before, &mut following));
        assert_eq!(kind().await.unwrap(), HandshakeKind::Resumed);

        // Both authorities are good: the caller gets in, but has to show its certificate again.
        let both = asking_for(certificates.clone(), roots(&[&ca, &another]), 2);
        let mut following = Tickets::following(&following);
        reload(&setup, listener(&both, &mut following));
        assert_eq!(kind().await.unwrap(), HandshakeKind::Full);

        // The caller's authority is good no more.
        let changed = asking_for(certificates, roots(&[&another]), 3);
        reload(&setup, listener(&changed, &mut Tickets::following(&following)));
        assert!(kind().await.is_err());
    }
}

#[tokio::test]
async fn a_handshake_that_does_not_come_is_ended() {
    let ca = authority();
    let server = crate::config::Server { handshake_timeout: Duration::from_millis(200), ..server() };
    let tls = tls(vec![certificate(&ca, &["a.test"])]);
    let setup = Setup::new(server, listener(&tls, &mut Tickets::default()));
    let mut tcp = setup.connect().await;
    send(&mut tcp, b"\x16\x03\x01").await;
    assert_eq!(safely(read_to_close(&mut tcp)).await, b"");
    setup.counted(|counters| &counters.handshake_timeout, 1).await;
}

#[tokio::test]
async fn an_early_answer_is_read_over_tls_too() {
    use tokio::io::AsyncWriteExt;
    let ca = authority();
    let tls = tls(vec![certificate(&ca, &["a.test"])]);
    let setup = Setup::new(server(), listener(&tls, &mut Tickets::default()));
    let mut stream = Client::new(&ca, None).connect(setup.address(), "a.test").await.unwrap();
    send(&mut stream, "POST /early HTTP/1.1\r\nhost: a\r\ncontent-length: 5000000\r\n\r\n").await;
    safely(stream.write_all(&[b'u'; 5_000_000])).await.unwrap();
    stream.shutdown().await.unwrap();
    let answer = safely(read_to_close(&mut stream)).await;
    assert!(answer.starts_with(b"HTTP/1.1 413") && answer.ends_with(&[b'x'; 100_000]));
}

#[tokio::test]
async fn a_connection_can_switch_protocols_beneath_tls() {
    let ca = authority();
    let setup =
        Setup::new(server(), listener(&tls(vec![certificate(&ca, &["a.test"])]), &mut Tickets::default()));
    let mut stream = Client::new(&ca, None).connect(setup.address(), "a.test").await.unwrap();
    let head = "GET /switch HTTP/1.1\r\nhost: a\r\nconnection: upgrade\r\nupgrade: echo\r\n\r\n";
    send(&mut stream, format!("{head}sent with the request!")).await;
    let answer = safely(read_to(&mut stream, "!")).await;
    assert!(answer.starts_with("HTTP/1.1 101") && answer.ends_with("sent with the request!"), "{answer}");
    send(&mut stream, "later!").await;
    assert_eq!(safely(read_to(&mut stream, "!")).await, "later!");
}
