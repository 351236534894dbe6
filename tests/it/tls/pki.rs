//! Authorities, certificates, and a client who trusts them.

use std::{io, net::SocketAddr, sync::Arc, time::SystemTime};

use hyper_util::rt::TokioIo;
use rcgen::{
    BasicConstraints, CertificateParams, CertifiedIssuer, DnType, ExtendedKeyUsagePurpose, IsCa, KeyPair,
};
use rustls::{
    CipherSuite, ClientConfig, RootCertStore, SupportedCipherSuite,
    crypto::{CryptoProvider, aws_lc_rs},
    pki_types::{CertificateDer, PrivateKeyDer, ServerName, pem::PemObject},
};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;

use crate::{
    folder::Folder,
    harness::{Answer, CHAT, Client, Http, SAFETY, Small, post, whole},
};

/// Signs certificates.
pub struct Authority(CertifiedIssuer<'static, KeyPair>);

/// A certificate and its key, in PEM.
pub struct Issued {
    pub certificate: String,
    pub key: String,
    pub der: CertificateDer<'static>,
}

impl Authority {
    pub fn new() -> Self {
        let mut params = CertificateParams::default();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        Self(CertifiedIssuer::self_signed(params, KeyPair::generate().unwrap()).unwrap())
    }

    pub fn pem(&self) -> String {
        self.0.pem()
    }

    /// For a server or a client.
    pub fn issue(&self, names: &[&str]) -> Issued {
        self.issue_until(names, None)
    }

    /// For a server or a client, valid until then.
    pub fn issue_until(&self, names: &[&str], end: Option<SystemTime>) -> Issued {
        let names: Vec<_> = names.iter().map(ToString::to_string).collect();
        let mut params = CertificateParams::new(names).unwrap();
        // OpenSSL takes a certificate for self-signed that has the name of its authority.
        params.distinguished_name.push(DnType::CommonName, "issued");
        params.extended_key_usages =
            vec![ExtendedKeyUsagePurpose::ServerAuth, ExtendedKeyUsagePurpose::ClientAuth];
        if let Some(end) = end {
            params.not_after = end.into();
        }
        let key = KeyPair::generate().unwrap();
        let certificate = params.signed_by(&key, &self.0).unwrap();
        Issued { certificate: certificate.pem(), key: key.serialize_pem(), der: certificate.der().clone() }
    }
}

impl Issued {
    /// Writes both, and gives the keys of gateway.toml that name them.
    pub fn files(&self, folder: &Folder, name: &str) -> String {
        let certificate = folder.write(&format!("{name}.pem"), &self.certificate);
        let key = folder.write(&format!("{name}.key"), &self.key);
        format!("certificate = {certificate:?}, key = {key:?}")
    }
}

/// A client: whom it trusts, and what it shows.
pub struct Trust {
    roots: Arc<RootCertStore>,
    shown: Option<(CertificateDer<'static>, PrivateKeyDer<'static>)>,
    /// What it offers, the best first.
    suites: Vec<SupportedCipherSuite>,
}

/// What a client has seen.
#[derive(Debug)]
pub struct Asked {
    pub certificate: CertificateDer<'static>,
    pub protocol: Http,
    pub suite: CipherSuite,
    pub answer: Answer,
}

impl Trust {
    pub fn of(authorities: &[&Authority]) -> Self {
        let mut roots = RootCertStore::empty();
        authorities.iter().for_each(|authority| roots.add(authority.0.der().clone()).unwrap());
        Self { roots: Arc::new(roots), shown: None, suites: aws_lc_rs::DEFAULT_CIPHER_SUITES.to_vec() }
    }

    /// The same, showing a certificate.
    pub fn showing(&self, own: &Issued) -> Self {
        let key = PrivateKeyDer::from_pem_slice(own.key.as_bytes()).unwrap();
        Self { roots: self.roots.clone(), shown: Some((own.der.clone(), key)), suites: self.suites.clone() }
    }

    /// The same, offering these.
    pub fn offering(self, suites: &[SupportedCipherSuite]) -> Self {
        Self { suites: suites.to_vec(), ..self }
    }

    /// How such a client speaks TLS, offering these protocols.
    pub fn config(&self, alpn: &[&str]) -> ClientConfig {
        let provider = CryptoProvider { cipher_suites: self.suites.clone(), ..aws_lc_rs::default_provider() };
        let builder = ClientConfig::builder_with_provider(Arc::new(provider))
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_root_certificates(self.roots.clone());
        let mut config = match &self.shown {
            Some((certificate, key)) => {
                builder.with_client_auth_cert(vec![certificate.clone()], key.clone_key()).unwrap()
            }
            None => builder.with_no_client_auth(),
        };
        config.alpn_protocols = alpn.iter().map(|name| name.as_bytes().to_vec()).collect();
        config
    }

    fn connector(&self, alpn: &[&str]) -> TlsConnector {
        TlsConnector::from(Arc::new(self.config(alpn)))
    }

    /// Posts a chat request to the host `name`, which is at `address`, offering these protocols.
    pub async fn ask(&self, address: SocketAddr, name: &str, alpn: &[&str]) -> io::Result<Asked> {
        let asking = async {
            let name = ServerName::try_from(name.to_owned()).unwrap();
            let stream = self.connector(alpn).connect(name, TcpStream::connect(address).await?).await?;
            let session = stream.get_ref().1;
            let certificate = session.peer_certificates().unwrap()[0].clone().into_owned();
            let protocol = if session.alpn_protocol() == Some(b"h2") { Http::Two } else { Http::One };
            let suite = session.negotiated_cipher_suite().unwrap().suite();
            let mut client =
                Client::over(TokioIo::new(stream), protocol, Small::No).await.map_err(io::Error::other)?;
            let request = post(address, protocol, "/v1/chat/completions").body(whole(CHAT)).unwrap();
            let answer = client.send(request).await.map_err(io::Error::other)?;
            Ok(Asked { certificate, protocol, suite, answer: Answer::read(answer).await })
        };
        tokio::time::timeout(SAFETY, asking).await.unwrap()
    }
}
