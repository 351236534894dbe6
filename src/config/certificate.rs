//! Certificates, their keys, and the authorities that sign them, from PEM (RFC 7468).

use std::{
    sync::Arc,
    time::{SystemTime, UNIX_EPOCH},
};

use aws_lc_rs::digest::{Context, SHA256};
use rustls::{
    Error, InconsistentKeys, RootCertStore,
    crypto::aws_lc_rs::default_provider,
    pki_types::{
        CertificateDer, PrivateKeyDer,
        pem::{self, PemObject},
    },
    sign::CertifiedKey,
};
use webpki::EndEntityCert;
use x509_parser::{
    certificate::{Validity, X509Certificate},
    prelude::FromDer,
};

use super::{
    problem::{Complaint, complaint},
    reader::Node,
    schema::Certificate,
    source::{Env, path_or_reference},
};

/// A certificate that ends within so many seconds is told of: five days, when whoever renews them should have.
const SOON: i64 = 5 * 24 * 60 * 60;

const PEM_HELP: &str = "a PEM file has lines like -----BEGIN CERTIFICATE-----";

/// Reads a chain and its key, and finds them to match. `key` may be absent only because that was told already.
pub(crate) fn chain_and_key(chain: &Node<'_>, key: Option<&Node<'_>>, env: &Env<'_>) -> Option<Certificate> {
    let loaded = path_or_reference(chain, env);
    let key_loaded = key.and_then(|key| path_or_reference(key, env));
    let certificates = loaded.as_ref().and_then(|loaded| chain.accept(certificates(&loaded.bytes)));
    let private = key.zip(key_loaded).and_then(|(key, loaded)| key.accept(private_key(&loaded.bytes)));
    let (certificates, origin) = (certificates?, loaded?.origin);
    let names = chain.accept(dns_names(&certificates))?;
    let validity = chain.accept(validity(&certificates))?;
    warn_of_time(chain, &validity, SystemTime::now());
    let pair = CertifiedKey::from_der(certificates, private?, &default_provider());
    let pair = key?.accept(pair.map_err(|error| mismatched(&error)))?;
    Some(Certificate { key: Arc::new(pair), names, path: origin, not_after: validity.not_after.timestamp() })
}

/// No reason to refuse it: callers may not care, and the clock may be wrong.
fn warn_of_time(chain: &Node<'_>, validity: &Validity, now: SystemTime) {
    let now = now.duration_since(UNIX_EPOCH).unwrap_or_default().as_secs() as i64;
    let left = validity.not_after.timestamp() - now;
    let told = if validity.not_before.timestamp() > now {
        format!("has a certificate that does not hold before {}", validity.not_before)
    } else if left < 0 {
        format!("has a certificate that has ended on {}", validity.not_after)
    } else if left < SOON {
        format!("has a certificate that ends on {}", validity.not_after)
    } else {
        return;
    };
    chain.warn(complaint(told, "put a renewed pair in its place; a running gateway takes it at once"));
}

/// When the first of them holds.
fn validity(chain: &[CertificateDer<'_>]) -> Result<Validity, Complaint> {
    let parsed = chain.first().and_then(|first| X509Certificate::from_der(first).ok());
    let (_, certificate) =
        parsed.ok_or_else(|| complaint("has a certificate that cannot be read", PEM_HELP))?;
    Ok(certificate.validity().clone())
}

/// Certificates to trust, each of the file, and the SHA-256 of them all, one after the other.
pub(crate) fn authorities(node: &Node<'_>, env: &Env<'_>) -> Option<(Arc<RootCertStore>, [u8; 32])> {
    let loaded = path_or_reference(node, env)?;
    let certificates = node.accept(certificates(&loaded.bytes))?;
    let mut store = RootCertStore::empty();
    let mut context = Context::new(&SHA256);
    for certificate in certificates {
        context.update(&certificate);
        let unusable = |_| complaint("has a certificate that cannot be an authority's", "");
        node.accept(store.add(certificate).map_err(unusable))?;
    }
    let mut digest = [0; 32];
    digest.iter_mut().zip(context.finish().as_ref()).for_each(|(to, from)| *to = *from);
    Some((Arc::new(store), digest))
}

fn certificates(pem: &[u8]) -> Result<Vec<CertificateDer<'static>>, Complaint> {
    let found: Result<Vec<_>, pem::Error> = CertificateDer::pem_slice_iter(pem).collect();
    match found.map_err(|error| damaged(&error))? {
        none if none.is_empty() => Err(match PrivateKeyDer::from_pem_slice(pem) {
            Ok(_) => complaint("holds a private key where a certificate is expected", "are the two swapped?"),
            Err(_) => complaint("has no certificate in it", PEM_HELP),
        }),
        some => Ok(some),
    }
}

fn private_key(pem: &[u8]) -> Result<PrivateKeyDer<'static>, Complaint> {
    match PrivateKeyDer::from_pem_slice(pem) {
        Ok(key) => Ok(key),
        Err(pem::Error::NoItemsFound) => Err(no_key(pem)),
        Err(error) => Err(damaged(&error)),
    }
}

fn no_key(pem: &[u8]) -> Complaint {
    if memchr::memmem::find(pem, b"ENCRYPTED PRIVATE KEY").is_some() {
        return complaint("holds an encrypted private key", "decrypt it (openssl pkey -in … -out …)");
    }
    if CertificateDer::from_pem_slice(pem).is_ok() {
        return complaint("holds a certificate where a private key is expected", "are the two swapped?");
    }
    complaint("has no private key in it", PEM_HELP)
}

/// The parser's errors may quote lines of the file, and the file may be a key's.
fn damaged(error: &pem::Error) -> Complaint {
    let why = match error {
        pem::Error::MissingSectionEnd { .. } => "an -----END line is missing",
        pem::Error::IllegalSectionStart { .. } => "a -----BEGIN line is malformed",
        pem::Error::Base64Decode(_) => "its base64 is damaged",
        _ => "it cannot be read",
    };
    complaint(format!("is not a sound PEM file: {why}"), PEM_HELP)
}

fn mismatched(error: &Error) -> Complaint {
    match error {
        Error::InconsistentKeys(InconsistentKeys::KeyMismatch) => complaint(
            "is not the key of this certificate",
            "the certificate's first entry must be the server's own",
        ),
        _ => complaint("is a private key of a kind that cannot be used", "use an ECDSA, Ed25519 or RSA key"),
    }
}

/// The subject alternative names of the chain's first certificate (RFC 5280 §4.2.1.6).
fn dns_names(chain: &[CertificateDer<'_>]) -> Result<Vec<String>, Complaint> {
    let invalid =
        || complaint("has a certificate that cannot be read", "is it an X.509 version 3 certificate?");
    let first = chain.first().ok_or_else(invalid)?;
    let end_entity = EndEntityCert::try_from(first).map_err(|_| invalid())?;
    Ok(end_entity.valid_dns_names().map(str::to_ascii_lowercase).collect())
}
