//! Whom connections to servers trust, and the TLS settings that say so.

use std::sync::Arc;

use aws_lc_rs::digest::{Digest, SHA256, digest};
use rustls::{
    ClientConfig, RootCertStore, client::ResolvesClientCert, pki_types::TrustAnchor, sign::CertifiedKey,
};

use crate::upstream::bind_sessions;

/// Limit of TLS sessions kept for resumption, for each upstream.
const SESSIONS: usize = 64;

/// The system's trusted certificates, read on first use.
#[derive(Default)]
pub(super) struct SystemRoots(Option<Arc<RootCertStore>>);

/// The client certificate that is presented to an upstream on request.
#[derive(Debug)]
struct OneCertificate(Arc<CertifiedKey>);

impl SystemRoots {
    /// The certificates; `None` if the system has none.
    pub(super) fn get(&mut self) -> Option<Arc<RootCertStore>> {
        if self.0.is_none() {
            let mut roots = RootCertStore::empty();
            let found = rustls_native_certs::load_native_certs();
            for error in &found.errors {
                tracing::warn!(%error, "system certificate store: some certificates cannot be read");
            }
            roots.add_parsable_certificates(found.certs);
            self.0 = (!roots.is_empty()).then(|| Arc::new(roots));
        }
        self.0.clone()
    }
}

impl ResolvesClientCert for OneCertificate {
    fn resolve(&self, _: &[&[u8]], _: &[rustls::SignatureScheme]) -> Option<Arc<CertifiedKey>> {
        Some(self.0.clone())
    }

    fn has_certs(&self) -> bool {
        true
    }
}

/// The TLS settings of connections to servers that `roots` vouch for, with this certificate of the gateway's own.
pub(super) fn client_tls(
    roots: Arc<RootCertStore>,
    certificate: Option<&Arc<CertifiedKey>>,
) -> Result<ClientConfig, rustls::Error> {
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let builder = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()?
        .with_root_certificates(roots.clone());
    let mut config = match certificate {
        Some(key) => builder.with_client_cert_resolver(Arc::new(OneCertificate(key.clone()))),
        None => builder.with_no_client_auth(),
    };
    bind_sessions(&mut config, roots, SESSIONS)
        .map_err(|source| rustls::Error::General(source.to_string()))?;
    Ok(config)
}

/// Returns the digest of the distinguishing parts of all trusted authorities, sorted so that their order has no effect.
pub(super) fn trusted(roots: &RootCertStore) -> Digest {
    let part = |part: &[u8]| [&(part.len() as u64).to_be_bytes(), part].concat();
    let written = |root: &TrustAnchor<'_>| {
        let constraints = root.name_constraints.as_deref().unwrap_or_default();
        [part(&root.subject), part(&root.subject_public_key_info), part(constraints)].concat()
    };
    let mut written: Vec<_> = roots.roots.iter().map(written).collect();
    written.sort_unstable();
    digest(&SHA256, &written.concat())
}
