//! Certificates, their private keys, and certificate authorities, from PEM (RFC 7468).

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
    source::{Env, from_file, path_or_reference},
};

/// Seconds before its expiry at which a certificate causes a warning: five days. By then it should have been renewed.
const SOON: i64 = 5 * 24 * 60 * 60;

const PEM_HELP: &str = "check the file: a PEM file contains lines like -----BEGIN CERTIFICATE-----";

/// Reads a chain and its key, and checks that they match. `key` may be `None` if that was reported already.
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

/// Only a warning: clients may not check, and the clock may be wrong.
fn warn_of_time(chain: &Node<'_>, validity: &Validity, now: SystemTime) {
    let now = now.duration_since(UNIX_EPOCH).unwrap_or_default().as_secs() as i64;
    let left = validity.not_after.timestamp() - now;
    let message = if validity.not_before.timestamp() > now {
        format!("has a certificate that is not valid before {}", validity.not_before)
    } else if left < 0 {
        format!("has a certificate that expired on {}", validity.not_after)
    } else if left < SOON {
        format!("has a certificate that expires on {}", validity.not_after)
    } else {
        return;
    };
    chain
        .warn(complaint(message, "replace certificate and key; a running gateway uses the new ones at once"));
}

/// When the first certificate is valid.
fn validity(chain: &[CertificateDer<'_>]) -> Result<Validity, Complaint> {
    let parsed = chain.first().and_then(|first| X509Certificate::from_der(first).ok());
    let (_, certificate) =
        parsed.ok_or_else(|| complaint("has a certificate that cannot be read", PEM_HELP))?;
    Ok(certificate.validity().clone())
}

/// Reads all certificates of a file as authorities to trust, and the SHA-256 of all of them together.
pub(crate) fn authorities(node: &Node<'_>, env: &Env<'_>) -> Option<(Arc<RootCertStore>, [u8; 32])> {
    let loaded = path_or_reference(node, env)?;
    node.accept(trusted(&loaded.bytes))
}

/// The same of the file at `path`.
pub(crate) fn trusted_in_file(
    path: &str,
    env: &Env<'_>,
) -> Result<(Arc<RootCertStore>, [u8; 32]), Complaint> {
    trusted(&from_file(path, env)?.bytes)
}

fn trusted(pem: &[u8]) -> Result<(Arc<RootCertStore>, [u8; 32]), Complaint> {
    let mut store = RootCertStore::empty();
    let mut context = Context::new(&SHA256);
    for certificate in certificates(pem)? {
        context.update(&certificate);
        let unusable =
            |_| complaint("has a certificate that cannot be used as an authority", "use a CA certificate");
        store.add(certificate).map_err(unusable)?;
    }
    let mut digest = [0; 32];
    digest.iter_mut().zip(context.finish().as_ref()).for_each(|(to, from)| *to = *from);
    Ok((Arc::new(store), digest))
}

fn certificates(pem: &[u8]) -> Result<Vec<CertificateDer<'static>>, Complaint> {
    let found: Result<Vec<_>, pem::Error> = CertificateDer::pem_slice_iter(pem).collect();
    match found.map_err(|error| damaged(&error))? {
        none if none.is_empty() => Err(match PrivateKeyDer::from_pem_slice(pem) {
            Ok(_) => complaint(
                "contains a private key where a certificate is expected",
                "check that `certificate` and `key` are not swapped",
            ),
            Err(_) => complaint("contains no certificate", PEM_HELP),
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
        return complaint("contains an encrypted private key", "decrypt it: openssl pkey -in … -out …");
    }
    if CertificateDer::from_pem_slice(pem).is_ok() {
        return complaint(
            "contains a certificate where a private key is expected",
            "check that `certificate` and `key` are not swapped",
        );
    }
    complaint("contains no private key", PEM_HELP)
}

/// Not the parser's own error: it may quote lines of the file, and the file may contain a private key.
fn damaged(error: &pem::Error) -> Complaint {
    let why = match error {
        pem::Error::MissingSectionEnd { .. } => "an -----END line is missing",
        pem::Error::IllegalSectionStart { .. } => "a -----BEGIN line is malformed",
        pem::Error::Base64Decode(_) => "its base64 is invalid",
        _ => "it cannot be read",
    };
    complaint(format!("is not a valid PEM file: {why}"), PEM_HELP)
}

fn mismatched(error: &Error) -> Complaint {
    match error {
        Error::InconsistentKeys(InconsistentKeys::KeyMismatch) => complaint(
            "is not the key of this certificate",
            "use the key of this certificate; in a chain, the server's own certificate comes first",
        ),
        _ => complaint("is a private key of an unsupported kind", "use an ECDSA, Ed25519 or RSA key"),
    }
}

/// The subject alternative names of the chain's first certificate (RFC 5280 §4.2.1.6).
fn dns_names(chain: &[CertificateDer<'_>]) -> Result<Vec<String>, Complaint> {
    let invalid = || complaint("has a certificate that cannot be read", "use an X.509 version 3 certificate");
    let first = chain.first().ok_or_else(invalid)?;
    let end_entity = EndEntityCert::try_from(first).map_err(|_| invalid())?;
    Ok(end_entity.valid_dns_names().map(str::to_ascii_lowercase).collect())
}
