//! TLS on both legs, and the ways to an upstream.

mod egress;
pub mod pki;

use std::{
    io,
    net::{SocketAddr, ToSocketAddrs},
    time::{Duration, SystemTime},
};

use serde_json::Value;
use sluicegate::simulator::{Identity, Options, Protocols, Record, Simulator, Tls};

use crate::{
    folder::Folder,
    harness::{BOTH, Gateway, GatewayToml, Http, UPSTREAM_KEY, chat},
};
use pki::{Asked, Authority, Trust};

/// A gateway with this listener's `tls`, before a plain upstream.
fn listening(upstream: &Simulator, tls: &str) -> Gateway {
    Gateway::start(&GatewayToml::before(&upstream.url(), "").listener(format!("tls = {{ {tls} }}")))
}

/// A gateway with a plain listener, before an upstream at `url`; `more` is put into the upstream's table.
fn before(url: &str, more: &str) -> Gateway {
    Gateway::start(&GatewayToml::before(url, more))
}

async fn upstream(tls: Option<Tls>, protocols: Protocols) -> Simulator {
    let key = Some(UPSTREAM_KEY.to_owned());
    Simulator::start(Options { tls, protocols, require_key: key, ..Options::default() }).await.unwrap()
}

/// Asks over plain HTTP/1.1 and expects a whole stream.
async fn streams(gateway: &Gateway) {
    let answer = chat(gateway.address(), Http::One).await;
    assert!(answer.status == 200 && answer.text().ends_with("data: [DONE]\n\n"), "{answer:?}");
}

/// Asks over plain HTTP/1.1 and expects that the upstream is not reached; gives what the log says is the cause.
async fn unreachable(gateway: &Gateway) -> String {
    let answer = chat(gateway.address(), Http::One).await;
    assert_eq!(answer.status, 502, "{answer:?}");
    assert_eq!(answer.json()["error"]["code"], "upstream_unreachable");
    let line = gateway.log.line(1).await;
    assert_eq!(
        (&line["error"], &line["phase"]),
        (&Value::from("upstream_unreachable"), &Value::from("connect"))
    );
    line["cause"].as_str().unwrap().to_owned()
}

#[tokio::test]
async fn names_choose_certificates_and_alpn_the_protocol() {
    let (folder, authority, simulator) =
        (Folder::new(), Authority::new(), upstream(None, Protocols::Both).await);
    let first = authority.issue(&["first.test"]);
    let second = authority.issue(&["second.test", "*.wild.test"]);
    let both = [first.files(&folder, "first"), second.files(&folder, "second")]
        .map(|files| format!("{{ {files} }}"));
    let gateway = listening(&simulator, &format!("certificates = [{}]", both.join(", ")));
    let trust = Trust::of(&[&authority]);
    let mut exchanges = 0;
    for (name, expected) in [("first.test", &first), ("second.test", &second), ("a.wild.test", &second)] {
        for (offered, http) in
            [(&["h2", "http/1.1"][..], Http::Two), (&["http/1.1"], Http::One), (&[], Http::One)]
        {
            let asked = trust.ask(gateway.address(), name, offered).await.unwrap();
            let Asked { certificate, protocol, answer, .. } = asked;
            assert_eq!((&certificate, protocol), (&expected.der, http), "{name} {offered:?}");
            assert!(answer.status == 200 && answer.text().ends_with("data: [DONE]\n\n"), "{answer:?}");
            exchanges += 1;
            let line = gateway.log.line(exchanges).await;
            let spoken = if http == Http::Two { "HTTP/2" } else { "HTTP/1.1" };
            assert_eq!((&line["tls"], &line["protocol"]), (&Value::from(true), &Value::from(spoken)));
        }
    }
    // Whoever asks for neither is shown the first, and may refuse it.
    let error = trust.ask(gateway.address(), "third.test", &[]).await.unwrap_err();
    assert!(error.to_string().contains("first.test"), "{error}");
}

/// OpenSSL's clients name AES-256 first, whose SHA-384 is what costs most in a handshake.
#[tokio::test]
async fn aes_128_is_spoken_unless_a_client_cannot() {
    use rustls::crypto::aws_lc_rs::cipher_suite as suites;
    let (folder, authority, simulator) =
        (Folder::new(), Authority::new(), upstream(None, Protocols::Both).await);
    let gateway = listening(&simulator, &authority.issue(&["gateway.test"]).files(&folder, "gateway"));
    let (aes_256, aes_128) = (suites::TLS13_AES_256_GCM_SHA384, suites::TLS13_AES_128_GCM_SHA256);
    let chacha = suites::TLS13_CHACHA20_POLY1305_SHA256;
    let tls12 = suites::TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256;
    let tls12_256 = suites::TLS_ECDHE_ECDSA_WITH_AES_256_GCM_SHA384;
    for (offered, spoken) in [
        (&[aes_256, chacha, aes_128][..], aes_128),
        (&[tls12_256, tls12], tls12),
        (&[chacha], chacha),
        (&[aes_256, tls12], aes_256),
    ] {
        let trust = Trust::of(&[&authority]).offering(offered);
        let asked = trust.ask(gateway.address(), "gateway.test", &[]).await.unwrap();
        assert_eq!(asked.suite, spoken.suite(), "{offered:?}");
        assert_eq!(asked.answer.status, 200);
    }
}

#[tokio::test]
async fn callers_show_certificates_where_they_must() {
    let (folder, authority, simulator) =
        (Folder::new(), Authority::new(), upstream(None, Protocols::Both).await);
    let (callers, strangers) = (Authority::new(), Authority::new());
    let server = authority.issue(&["gate.test"]).files(&folder, "server");
    let ca = folder.write("callers.pem", &callers.pem());
    let gateway = listening(&simulator, &format!("{server}, client_ca = {ca:?}"));
    let trust = Trust::of(&[&authority]);
    let ask = async |trust: &Trust| -> io::Result<u16> {
        Ok(trust.ask(gateway.address(), "gate.test", &[]).await?.answer.status.as_u16())
    };
    assert_eq!(ask(&trust.showing(&callers.issue(&["caller.test"]))).await.unwrap(), 200);
    assert!(ask(&trust).await.is_err(), "no certificate");
    assert!(ask(&trust.showing(&strangers.issue(&["caller.test"]))).await.is_err(), "somebody else's");
    assert_eq!(ask(&trust.showing(&callers.issue(&["caller.test"]))).await.unwrap(), 200);
    // Those who were refused have asked nothing.
    gateway.log.line(2).await;
    assert_eq!(simulator.records().len(), 2);
}

#[tokio::test]
async fn an_upstream_is_known_by_its_own_authority() {
    let folder = Folder::new();
    let simulator = upstream(Some(Tls::default()), Protocols::Both).await;
    let ca = folder.write("ca.pem", simulator.ca_pem().unwrap());
    for http in BOTH {
        let two = http == Http::Two;
        let gateway = before(&simulator.url(), &format!("http2 = {two}\ntls = {{ ca = {ca:?} }}"));
        streams(&gateway).await;
        let record = simulator.records().pop().unwrap();
        let version = if two { http::Version::HTTP_2 } else { http::Version::HTTP_11 };
        assert_eq!(record.protocol, version, "by ALPN");
        assert!(record.tls.is_some());
    }
    let arrived = simulator.records().len();
    let stranger = folder.write("stranger.pem", &Authority::new().pem());
    for tls in [String::new(), format!("tls = {{ ca = {stranger:?} }}")] {
        let cause = unreachable(&before(&simulator.url(), &tls)).await;
        assert!(cause.contains("certificate") && cause.contains("UnknownIssuer"), "{cause}");
    }
    // The authority is the right one, the name is not.
    let named = format!("tls = {{ ca = {ca:?}, server_name = \"other.test\" }}");
    let cause = unreachable(&before(&simulator.url(), &named)).await;
    assert!(cause.contains("other.test"), "{cause}");
    assert_eq!(simulator.records().len(), arrived, "no request, and so no key, has gone there");
}

/// Sessions are resumed, but not those that began under an authority that is no longer trusted.
#[tokio::test]
async fn a_withdrawn_authority_ends_resumption() {
    let folder = Folder::new();
    let simulator = upstream(Some(Tls::default()), Protocols::Both).await;
    let toml = |ca: &str| {
        let lines = format!("retry = \"off\"\npool = {{ max_idle = 0 }}\ntls = {{ ca = {ca:?} }}");
        GatewayToml::before(&simulator.url(), lines).server("threads = 1")
    };
    let trusted = folder.write("ca.pem", simulator.ca_pem().unwrap());
    let gateway = Gateway::start(&toml(&trusted));
    streams(&gateway).await;
    streams(&gateway).await;
    let resumed = |record: &Record| record.tls.as_ref().is_some_and(|tls| tls.resumed);
    assert_eq!(simulator.records().iter().map(resumed).collect::<Vec<_>>(), [false, true]);
    gateway.reload(&toml(&folder.write("other.pem", &Authority::new().pem()))).await;
    let answer = chat(gateway.address(), Http::One).await;
    assert_eq!((answer.status.as_u16(), answer.code().as_str()), (502, "upstream_unreachable"));
    gateway.reload(&toml(&trusted)).await;
    streams(&gateway).await;
    assert!(!resumed(&simulator.records()[2]), "the sessions are gone");
    gateway.finish(4).await;
}

/// A connection that was made while the certificate was valid is kept, and not used after that.
#[tokio::test]
async fn an_open_connection_ends_with_its_certificate() {
    let (folder, authority) = (Folder::new(), Authority::new());
    let ca = folder.write("ca.pem", &authority.pem());
    // A certificate's times are whole seconds. The first answers have to come before.
    let end = SystemTime::now() + Duration::from_secs(6);
    let issued = authority.issue_until(&["127.0.0.1"], Some(end));
    let identity = Identity::Pem { certificate: issued.certificate.into(), key: issued.key.into() };
    let simulator = upstream(Some(Tls { identity, client_ca: None }), Protocols::Both).await;
    let gateways = BOTH.map(|leg| {
        let lines = format!("retry = \"off\"\nhttp2 = {}\ntls = {{ ca = {ca:?} }}", leg == Http::Two);
        Gateway::start(&GatewayToml::before(&simulator.url(), lines).server("threads = 1"))
    });
    for gateway in &gateways {
        streams(gateway).await;
        streams(gateway).await;
        assert_eq!(gateway.log.line(2).await["reused"], true);
    }
    let past = end + Duration::from_secs(2);
    tokio::time::sleep(past.duration_since(SystemTime::now()).unwrap_or_default()).await;
    for gateway in gateways {
        let answer = chat(gateway.address(), Http::One).await;
        assert_eq!((answer.status.as_u16(), answer.code().as_str()), (502, "upstream_unreachable"));
        let cause = gateway.log.line(3).await["cause"].as_str().unwrap().to_owned();
        assert!(cause.contains("certificate expired"), "{cause}");
        gateway.finish(3).await;
    }
}

#[tokio::test]
async fn an_upstream_without_http2_is_not_spoken_to_in_it() {
    let folder = Folder::new();
    let simulator = upstream(Some(Tls::default()), Protocols::Http1).await;
    let ca = folder.write("ca.pem", simulator.ca_pem().unwrap());
    let cause =
        unreachable(&before(&simulator.url(), &format!("http2 = true\ntls = {{ ca = {ca:?} }}"))).await;
    assert!(cause.contains("HTTP/2") || cause.contains("NoApplicationProtocol"), "{cause}");
}

#[tokio::test]
async fn an_upstream_is_shown_a_certificate_where_it_asks_for_one() {
    let (folder, authority) = (Folder::new(), Authority::new());
    let server = authority.issue(&["127.0.0.1"]);
    let (certificate, key) = (server.certificate.clone().into_bytes(), server.key.clone().into_bytes());
    let identity = Identity::Pem { certificate, key };
    let tls = Tls { identity, client_ca: Some(authority.pem().into_bytes()) };
    let simulator = upstream(Some(tls), Protocols::Both).await;
    let ca = folder.write("ca.pem", &authority.pem());
    let own = authority.issue(&["gateway.test"]);

    let gateway =
        before(&simulator.url(), &format!("tls = {{ ca = {ca:?}, {} }}", own.files(&folder, "own")));
    streams(&gateway).await;
    let shown = simulator.records().pop().unwrap().tls.unwrap().client_certificate.clone();
    assert_eq!(shown, Some(own.der.to_vec()));

    // TLS 1.3 tells the client of the refusal only after its own handshake is done, so this may be either failure.
    let gateway = before(&simulator.url(), &format!("tls = {{ ca = {ca:?} }}"));
    let answer = chat(gateway.address(), Http::One).await;
    assert_eq!(answer.status, 502, "{answer:?}");
    let code = answer.json()["error"]["code"].as_str().unwrap().to_owned();
    assert!(["upstream_unreachable", "upstream_closed"].contains(&&*code), "{code}");
    assert_eq!(simulator.records().len(), 1);
}

#[tokio::test]
async fn each_address_of_a_host_is_tried() {
    let mut addresses = ("localhost", 0).to_socket_addrs().unwrap();
    let (Some(first), Some(second)) = (addresses.next(), addresses.find(SocketAddr::is_ipv4)) else {
        return eprintln!("localhost has one address here: there is nothing to see");
    };
    if first.is_ipv4() || second.is_ipv6() {
        return eprintln!("localhost is 127.0.0.1 before anything else here: there is nothing to see");
    }
    // Only the second is listened on; the first refuses.
    let simulator = upstream(None, Protocols::Both).await;
    let gateway = before(&format!("http://localhost:{}", simulator.addr().port()), "");
    streams(&gateway).await;
}
