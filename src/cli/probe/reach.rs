//! The way to a target: resolving its name, connecting, TLS.

use std::{
    net::SocketAddr,
    sync::Arc,
    time::{Duration, Instant, SystemTime, UNIX_EPOCH},
};

use rustls::pki_types::ServerName;
use tokio::net::{TcpStream, lookup_host};
use tokio_rustls::{TlsConnector, client::TlsStream};
use x509_parser::{certificate::X509Certificate, prelude::FromDer};

use super::{Certificate, Step, Subject, millis, too_slow};

const DAY: i64 = 24 * 60 * 60;

/// Goes to the target step by step, up to the first step that fails. Through an egress proxy there is nothing to see of it.
pub(super) async fn reach(subject: &Subject<'_>) -> (Vec<Step>, Option<Certificate>) {
    let mut steps = Vec::new();
    if subject.target.dialer.is_tunnelled() {
        return (steps, None);
    }
    let authority = &subject.target.authority;
    let with_tls = subject.target.url.starts_with("https:");
    let port = authority.port_u16().unwrap_or(if with_tls { 443 } else { 80 });
    let host = authority.host().trim_start_matches('[').trim_end_matches(']');
    let resolved = async { Ok(lookup_host((host, port)).await?.collect::<Vec<SocketAddr>>()) };
    let Some(addresses) = step(&mut steps, subject.timeout, "resolve", resolved).await else {
        return (steps, None);
    };
    let Some(stream) = step(&mut steps, subject.timeout, "connect", TcpStream::connect(&*addresses)).await
    else {
        return (steps, None);
    };
    if !with_tls {
        return (steps, None);
    }
    let mut config = subject.upstream.tls.clone();
    config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
    let handshake = async {
        let name = ServerName::try_from(host.to_owned()).map_err(std::io::Error::other)?;
        TlsConnector::from(Arc::new(config)).connect(name, stream).await
    };
    let stream = step(&mut steps, subject.timeout, "tls", handshake).await;
    let certificate = stream.as_ref().and_then(certificate);
    (steps, certificate)
}

/// Does one step within the time for it, and notes it.
async fn step<T>(
    steps: &mut Vec<Step>,
    timeout: Duration,
    name: &'static str,
    doing: impl Future<Output = std::io::Result<T>>,
) -> Option<T> {
    let start = Instant::now();
    let done = tokio::time::timeout(timeout, doing).await;
    let (value, error) = match done {
        Ok(Ok(value)) => (Some(value), None),
        Ok(Err(error)) => (None, Some(error.to_string())),
        Err(_) => (None, Some(too_slow(timeout))),
    };
    steps.push(Step { name, ms: millis(start), error });
    value
}

fn certificate(stream: &TlsStream<TcpStream>) -> Option<Certificate> {
    let (_, session) = stream.get_ref();
    let first = session.peer_certificates()?.first()?;
    let (_, parsed) = X509Certificate::from_der(first).ok()?;
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_secs();
    let left = parsed.validity().not_after.timestamp() - i64::try_from(now).unwrap_or(i64::MAX);
    Some(Certificate {
        issuer: parsed.issuer().to_string(),
        days_left: left.div_euclid(DAY),
        alpn: session.alpn_protocol().map(|name| String::from_utf8_lossy(name).into_owned()),
    })
}
