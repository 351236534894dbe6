//! The server side of TLS for one listener: certificates by server name, client certificates, ALPN, session resumption.

use std::{
    collections::{BTreeMap, HashMap},
    sync::Arc,
};

use rustls::{
    CipherSuite, ServerConfig,
    crypto::{CryptoProvider, aws_lc_rs},
    server::{
        ClientHello, ProducesTickets, ResolvesServerCert, VerifierBuilderError, WebPkiClientVerifier,
        danger::ClientCertVerifier,
    },
    sign::CertifiedKey,
    version::{TLS12, TLS13},
};

use crate::config::{Certificate, ListenerTls};

/// The ALPN protocols, the preferred one first (RFC 7301; names from IANA's ALPN registry).
const ALPN: [&[u8]; 2] = [b"h2", b"http/1.1"];

/// The keys that encrypt session tickets: one for each client CA, and one for listeners without a client CA. They are carried
/// from one snapshot to the next, so that a reload does not end resumption.
///
/// A resumed session does not present its certificate again: rustls uses the certificate in the ticket. A ticket must
/// therefore be unreadable once the client CA has changed.
#[derive(Debug, Default)]
pub struct Tickets {
    previous: BTreeMap<Option<[u8; 32]>, Arc<dyn ProducesTickets>>,
    used: BTreeMap<Option<[u8; 32]>, Arc<dyn ProducesTickets>>,
}

/// The reason why a listener's TLS cannot be set up.
#[derive(Debug, thiserror::Error)]
pub enum ServerTlsError {
    /// The client CA cannot be used to verify certificates.
    #[error("the client CA cannot be used")]
    ClientCa(#[from] VerifierBuilderError),
    /// The TLS library rejects the settings.
    #[error("TLS cannot be set up")]
    Tls(#[from] rustls::Error),
    /// The listener has no certificate.
    #[error("no certificate")]
    NoCertificate,
}

impl Tickets {
    /// Creates the tickets of the snapshot after the one of `previous`. Keys that the new snapshot does not use are dropped.
    pub fn following(previous: &Self) -> Self {
        Self { previous: previous.used.clone(), used: BTreeMap::new() }
    }

    fn of(&mut self, client_ca: Option<[u8; 32]>) -> Result<Arc<dyn ProducesTickets>, rustls::Error> {
        let known = self.used.get(&client_ca).or_else(|| self.previous.get(&client_ca));
        let tickets = known.cloned().map_or_else(aws_lc_rs::Ticketer::new, Ok)?;
        self.used.insert(client_ca, tickets.clone());
        Ok(tickets)
    }
}

/// Compiles a listener's `tls`. Sessions are resumed with tickets under the key of the client CA; the library's store for clients
/// without tickets (256 sessions) is new with each configuration. Early data is disabled: a request must not be replayable.
pub fn server_config(tls: &ListenerTls, tickets: &mut Tickets) -> Result<Arc<ServerConfig>, ServerTlsError> {
    let provider = Arc::new(provider());
    let versions = if tls.tls12 { &[&TLS13, &TLS12][..] } else { &[&TLS13][..] };
    let certificates = Arc::new(Certificates::new(&tls.certificates)?);
    let builder = ServerConfig::builder_with_provider(provider.clone()).with_protocol_versions(versions)?;
    let mut config = match &tls.client_ca {
        None => builder.with_no_client_auth(),
        Some(roots) => {
            let verifier: Arc<dyn ClientCertVerifier> =
                WebPkiClientVerifier::builder_with_provider(roots.clone(), provider).build()?;
            builder.with_client_cert_verifier(verifier)
        }
    }
    .with_cert_resolver(certificates);
    config.alpn_protocols = ALPN.map(<[u8]>::to_vec).to_vec();
    config.ticketer = tickets.of(tls.client_ca_digest)?;
    config.max_early_data_size = 0;
    config.ignore_client_order = true;
    Ok(Arc::new(config))
}

/// Returns a provider that prefers AES-128 in each version's suites, regardless of the client's preference. SHA-384, which comes with
/// AES-256, is a fifth of the cost of a handshake on CPUs with SHA-256 instructions. OpenSSL's clients list AES-256 first, and 128 bits
/// are sufficient for them.
fn provider() -> CryptoProvider {
    let mut provider = aws_lc_rs::default_provider();
    provider.cipher_suites.sort_by_key(|suite| {
        !matches!(
            suite.suite(),
            CipherSuite::TLS13_AES_128_GCM_SHA256
                | CipherSuite::TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256
                | CipherSuite::TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256
        )
    });
    provider
}

/// Selects the certificate of a listener by the requested server name (RFC 6066 section 3): the exact name, then a wildcard for
/// its first label, then the first certificate, also for a client that sends no name.
#[derive(Debug)]
struct Certificates {
    first: Arc<CertifiedKey>,
    /// Certificates by name, such as `api.example.com` and `*.example.com`. Several of one name (such as an RSA and an ECDSA certificate) are in
    /// the order of the file.
    by_name: HashMap<String, Vec<Arc<CertifiedKey>>>,
}

impl Certificates {
    fn new(certificates: &[Certificate]) -> Result<Self, ServerTlsError> {
        let first = certificates.first().ok_or(ServerTlsError::NoCertificate)?;
        let mut by_name: HashMap<String, Vec<_>> = HashMap::new();
        for certificate in certificates {
            for name in &certificate.names {
                by_name.entry(name.to_ascii_lowercase()).or_default().push(certificate.key.clone());
            }
        }
        Ok(Self { first: first.key.clone(), by_name })
    }

    fn named(&self, name: &str) -> Option<&[Arc<CertifiedKey>]> {
        let name = name.to_ascii_lowercase();
        let wildcard = || name.split_once('.').map(|(_, parent)| format!("*.{parent}"));
        let found = self.by_name.get(&name).or_else(|| self.by_name.get(&wildcard()?));
        found.map(Vec::as_slice)
    }
}

impl ResolvesServerCert for Certificates {
    /// Selects, among several certificates of one name, the first that the client supports.
    fn resolve(&self, hello: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        let named = hello.server_name().and_then(|name| self.named(name)).unwrap_or_default();
        let usable = |key: &&Arc<CertifiedKey>| key.key.choose_scheme(hello.signature_schemes()).is_some();
        Some(named.iter().find(usable).or(named.first()).unwrap_or(&self.first).clone())
    }
}
