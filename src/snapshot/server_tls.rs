//! The server's side of TLS for one listener: certificates by server name, callers' certificates, ALPN, session resumption.

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

/// What HTTP is spoken, the preferred one first (RFC 7301; names from IANA's ALPN registry).
const ALPN: [&[u8]; 2] = [b"h2", b"http/1.1"];

/// The keys that session tickets are sealed with, one for each client CA (and one for listeners without), carried from one
/// snapshot to the next, so that a reload does not end resumption.
///
/// A resumed session is not asked for its certificate again: rustls takes the one in the ticket. So a ticket must not be
/// readable once the client CA has changed.
#[derive(Debug, Default)]
pub struct Tickets {
    previous: BTreeMap<Option<[u8; 32]>, Arc<dyn ProducesTickets>>,
    used: BTreeMap<Option<[u8; 32]>, Arc<dyn ProducesTickets>>,
}

/// A listener's TLS cannot be set up.
#[derive(Debug, thiserror::Error)]
pub enum ServerTlsError {
    /// The client CA cannot serve to verify anything.
    #[error("the client CA cannot be used")]
    ClientCa(#[from] VerifierBuilderError),
    /// The TLS library refuses.
    #[error("TLS cannot be set up")]
    Tls(#[from] rustls::Error),
    /// There is no certificate to show.
    #[error("no certificate")]
    NoCertificate,
}

impl Tickets {
    /// For the snapshot that follows the one of `previous`; keys that it does not ask for are forgotten with it.
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

/// Compiles a listener's `tls`. Sessions are resumed by tickets of the client CA's own key; the library's store for clients
/// without tickets (256 sessions) is new with each configuration. No early data: a request must not be replayable.
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

/// AES-128 first of each version's suites, whatever a client would like best. SHA-384, which AES-256 comes with, is a fifth of what a
/// handshake costs where SHA-256 has instructions of its own; OpenSSL's clients name it first, and lose nothing that 128 bits do not give.
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

/// The certificates of a listener by the server name that a client asks for (RFC 6066 section 3): the exact name, then a wildcard for
/// its first label, then the first certificate, also for a client that names none.
#[derive(Debug)]
struct Certificates {
    first: Arc<CertifiedKey>,
    /// `api.example.com` and `*.example.com`; several (such as an RSA and an ECDSA one) in the order of the file.
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
    /// Among several of one name, the first with which the client can do.
    fn resolve(&self, hello: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        let named = hello.server_name().and_then(|name| self.named(name)).unwrap_or_default();
        let usable = |key: &&Arc<CertifiedKey>| key.key.choose_scheme(hello.signature_schemes()).is_some();
        Some(named.iter().find(usable).or(named.first()).unwrap_or(&self.first).clone())
    }
}
