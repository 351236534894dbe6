//! The TLS side of a simulator: its server certificate, and what a handshake shows about the client.

use std::{io, sync::Arc};

use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, DnType, IsCa, KeyPair, KeyUsagePurpose};
use rustls::{
    HandshakeKind, RootCertStore, ServerConfig, ServerConnection,
    crypto::{CryptoProvider, aws_lc_rs},
    pki_types::{CertificateDer, PrivateKeyDer, PrivatePkcs8KeyDer, pem::PemObject},
    server::{ClientCertVerifierBuilder, WebPkiClientVerifier},
};
use tokio_rustls::TlsAcceptor;

use super::options::{Identity, Protocols, Tls};

pub(super) const H2: &[u8] = b"h2";
const HTTP1: &[u8] = b"http/1.1";

/// What a TLS handshake showed about the client.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Handshake {
    /// The server name that the client asked for.
    pub server_name: Option<String>,
    /// The TLS version.
    pub version: Option<rustls::ProtocolVersion>,
    /// Whether the handshake resumed an earlier session.
    pub resumed: bool,
    /// The protocol that ALPN has chosen.
    pub alpn: Option<Vec<u8>>,
    /// The client certificate, DER.
    pub client_certificate: Option<Vec<u8>>,
}

impl Handshake {
    pub(super) fn of(connection: &ServerConnection) -> Self {
        let certificates = connection.peer_certificates().unwrap_or_default();
        Self {
            server_name: connection.server_name().map(str::to_owned),
            version: connection.protocol_version(),
            resumed: connection.handshake_kind() == Some(HandshakeKind::Resumed),
            alpn: connection.alpn_protocol().map(<[u8]>::to_vec),
            client_certificate: certificates.first().map(|certificate| certificate.to_vec()),
        }
    }
}

/// An acceptor, and the CA that was generated for it.
pub(super) struct ServerTls {
    pub(super) acceptor: TlsAcceptor,
    /// The CA certificate in PEM, if the server certificate was generated.
    pub(super) ca_pem: Option<String>,
}

/// A certificate with its chain and private key.
struct CertifiedServer {
    chain: Vec<CertificateDer<'static>>,
    key: PrivateKeyDer<'static>,
    /// The CA certificate in PEM, if this was generated.
    ca_pem: Option<String>,
}

impl ServerTls {
    /// Builds an acceptor.
    ///
    /// # Errors
    /// A certificate, key or CA is invalid, or the key does not match the certificate.
    pub(super) fn new(tls: &Tls, protocols: Protocols) -> io::Result<Self> {
        let CertifiedServer { chain, key, ca_pem } = CertifiedServer::of(&tls.identity)?;
        let provider = Arc::new(aws_lc_rs::default_provider());
        let builder = ServerConfig::builder_with_provider(Arc::clone(&provider))
            .with_safe_default_protocol_versions()
            .map_err(io::Error::other)?;
        let builder = match &tls.client_ca {
            Some(pem) => {
                let verifier = client_verifier(pem, provider)?.build().map_err(io::Error::other)?;
                builder.with_client_cert_verifier(verifier)
            }
            None => builder.with_no_client_auth(),
        };
        let mut config = builder.with_single_cert(chain, key).map_err(io::Error::other)?;
        config.alpn_protocols = match protocols {
            Protocols::Both => vec![H2.to_vec(), HTTP1.to_vec()],
            Protocols::Http1 => vec![HTTP1.to_vec()],
            Protocols::Http2 => vec![H2.to_vec()],
        };
        Ok(Self { acceptor: TlsAcceptor::from(Arc::new(config)), ca_pem })
    }
}

impl CertifiedServer {
    fn of(identity: &Identity) -> io::Result<Self> {
        match identity {
            Identity::Generated(names) => Self::generate(names).map_err(io::Error::other),
            Identity::Pem { certificate, key } => {
                let key = PrivateKeyDer::from_pem_slice(key).map_err(io::Error::other)?;
                Ok(Self { chain: certificates(certificate)?, key, ca_pem: None })
            }
        }
    }

    fn generate(names: &[String]) -> Result<Self, rcgen::Error> {
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
        Ok(Self { chain: vec![leaf.der().clone()], key, ca_pem: Some(ca.pem()) })
    }
}

fn client_verifier(pem: &[u8], provider: Arc<CryptoProvider>) -> io::Result<ClientCertVerifierBuilder> {
    let mut roots = RootCertStore::empty();
    for certificate in certificates(pem)? {
        roots.add(certificate).map_err(io::Error::other)?;
    }
    Ok(WebPkiClientVerifier::builder_with_provider(Arc::new(roots), provider))
}

fn certificates(pem: &[u8]) -> io::Result<Vec<CertificateDer<'static>>> {
    CertificateDer::pem_slice_iter(pem).collect::<Result<_, _>>().map_err(io::Error::other)
}
