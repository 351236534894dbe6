//! The simulator's TLS: a given certificate, or one made in this process together with its CA.

use std::{io, sync::Arc};

use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, DnType, IsCa, KeyPair, KeyUsagePurpose};
use rustls::{
    HandshakeKind, RootCertStore, ServerConfig, ServerConnection,
    crypto::{CryptoProvider, aws_lc_rs},
    pki_types::{CertificateDer, PrivateKeyDer, PrivatePkcs8KeyDer, pem::PemObject},
    server::{ClientCertVerifierBuilder, WebPkiClientVerifier},
};
use tokio_rustls::TlsAcceptor;

use super::connection::Protocols;

pub(super) const H2: &[u8] = b"h2";
const HTTP1: &[u8] = b"http/1.1";

/// How the simulator proves itself, and whether its callers must.
#[derive(Clone, Debug, Default)]
pub struct Tls {
    /// Its own certificate.
    pub identity: Identity,
    /// A PEM of CA certificates: callers must then show a certificate of one of them.
    pub client_ca: Option<Vec<u8>>,
}

/// The simulator's certificate.
#[derive(Clone, Debug)]
pub enum Identity {
    /// Made at the start, for these names and addresses, by a CA made at the start.
    Generated(Vec<String>),
    /// Given as PEM.
    Pem {
        /// The certificate and its chain.
        certificate: Vec<u8>,
        /// Its private key.
        key: Vec<u8>,
    },
}

impl Default for Identity {
    fn default() -> Self {
        Self::Generated(["localhost", "127.0.0.1", "::1"].map(str::to_owned).into())
    }
}

/// What a TLS handshake told about the caller.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Handshake {
    /// The server name asked for.
    pub server_name: Option<String>,
    /// The protocol version.
    pub version: Option<rustls::ProtocolVersion>,
    /// Whether it resumed an earlier session.
    pub resumed: bool,
    /// The client's certificate, DER.
    pub client_certificate: Option<Vec<u8>>,
}

impl Handshake {
    pub(super) fn of(connection: &ServerConnection) -> Self {
        let certificates = connection.peer_certificates().unwrap_or_default();
        Self {
            server_name: connection.server_name().map(str::to_owned),
            version: connection.protocol_version(),
            resumed: connection.handshake_kind() == Some(HandshakeKind::Resumed),
            client_certificate: certificates.first().map(|certificate| certificate.to_vec()),
        }
    }
}

/// The acceptor, and the PEM of the CA if it was made here.
///
/// # Errors
/// A certificate, key or CA that is none, or that do not belong together.
pub(super) fn acceptor(tls: &Tls, protocols: Protocols) -> io::Result<(TlsAcceptor, Option<String>)> {
    let (chain, key, ca) = match &tls.identity {
        Identity::Generated(names) => generate(names).map_err(io::Error::other)?,
        Identity::Pem { certificate, key } => {
            let key = PrivateKeyDer::from_pem_slice(key).map_err(io::Error::other)?;
            (certificates(certificate)?, key, None)
        }
    };
    let provider = Arc::new(aws_lc_rs::default_provider());
    let builder = ServerConfig::builder_with_provider(Arc::clone(&provider))
        .with_safe_default_protocol_versions()
        .map_err(io::Error::other)?;
    let builder = match &tls.client_ca {
        Some(pem) => {
            builder.with_client_cert_verifier(clients(pem, provider)?.build().map_err(io::Error::other)?)
        }
        None => builder.with_no_client_auth(),
    };
    let mut config = builder.with_single_cert(chain, key).map_err(io::Error::other)?;
    config.alpn_protocols = match protocols {
        Protocols::Both => vec![H2.to_vec(), HTTP1.to_vec()],
        Protocols::Http1 => vec![HTTP1.to_vec()],
        Protocols::Http2 => vec![H2.to_vec()],
    };
    Ok((TlsAcceptor::from(Arc::new(config)), ca))
}

fn clients(pem: &[u8], provider: Arc<CryptoProvider>) -> io::Result<ClientCertVerifierBuilder> {
    let mut roots = RootCertStore::empty();
    for certificate in certificates(pem)? {
        roots.add(certificate).map_err(io::Error::other)?;
    }
    Ok(WebPkiClientVerifier::builder_with_provider(Arc::new(roots), provider))
}

fn certificates(pem: &[u8]) -> io::Result<Vec<CertificateDer<'static>>> {
    CertificateDer::pem_slice_iter(pem).collect::<Result<_, _>>().map_err(io::Error::other)
}

type Identified = (Vec<CertificateDer<'static>>, PrivateKeyDer<'static>, Option<String>);

fn generate(names: &[String]) -> Result<Identified, rcgen::Error> {
    let mut params = CertificateParams::new(Vec::new())?;
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
    params.distinguished_name.push(DnType::CommonName, "Sluicegate simulator CA");
    let ca = CertifiedIssuer::self_signed(params, KeyPair::generate()?)?;
    let key = KeyPair::generate()?;
    let mut leaf = CertificateParams::new(names)?;
    leaf.use_authority_key_identifier_extension = true;
    leaf.distinguished_name.push(DnType::CommonName, "Sluicegate simulator");
    let leaf = leaf.signed_by(&key, &ca)?;
    let key = PrivateKeyDer::Pkcs8(PrivatePkcs8KeyDer::from(key.serialize_der()));
    Ok((vec![leaf.der().clone()], key, Some(ca.pem())))
}
