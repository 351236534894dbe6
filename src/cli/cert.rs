//! `cert`: creates a certificate authority and a server certificate for development.

use std::{
    fs::{self, OpenOptions},
    io::{self, Write},
    os::unix::fs::OpenOptionsExt,
    path::{Path, PathBuf},
    process::ExitCode,
};

use clap::Args;
use rcgen::{
    BasicConstraints, CertificateParams, CertifiedIssuer, DnType, ExtendedKeyUsagePurpose, IsCa, KeyPair,
    KeyUsagePurpose,
};
use time::{Duration, OffsetDateTime};
use zeroize::Zeroizing;

/// The names that every development certificate is for.
const LOCAL: [&str; 3] = ["localhost", "127.0.0.1", "::1"];

/// Validity of the authority and of the server certificate. Some clients reject a server certificate beyond 825 days.
const AUTHORITY_DAYS: i64 = 3650;
const SERVER_DAYS: i64 = 820;

/// What `cert` takes.
#[derive(Debug, Args)]
pub struct Options {
    /// Output folder
    #[arg(long, value_name = "FOLDER", default_value = "certs")]
    out: PathBuf,
    /// Additional DNS name or IP address of the server; may be repeated
    #[arg(long, value_name = "NAME")]
    name: Vec<String>,
    /// Overwrite existing files
    #[arg(long)]
    force: bool,
}

/// Why no certificate was created.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// A name is neither a DNS name nor an address, or the system returned no random bytes.
    #[error("certificate could not be created")]
    Make(#[from] rcgen::Error),
    /// A file already exists.
    #[error("{} already exists; use --force to overwrite it", .0.display())]
    Exists(PathBuf),
    /// A file or the folder cannot be written.
    #[error("{} could not be written", path.display())]
    Write {
        /// The path.
        path: PathBuf,
        /// The system's error.
        source: io::Error,
    },
}

/// A development authority and a server certificate that it signed, all in PEM.
pub struct Development {
    /// The authority's certificate, for callers to trust.
    pub ca_pem: String,
    /// Its private key.
    pub ca_key: Zeroizing<String>,
    /// The server's certificate.
    pub server_pem: String,
    /// Its private key.
    pub server_key: Zeroizing<String>,
}

impl Development {
    /// Makes both, for localhost, 127.0.0.1, ::1 and the given DNS names and addresses.
    ///
    /// # Errors
    /// When a name is neither, or there are no random bytes.
    pub fn new(names: &[String]) -> Result<Self, rcgen::Error> {
        let authority = CertifiedIssuer::self_signed(authority(), KeyPair::generate()?)?;
        let server_key = KeyPair::generate()?;
        let server_pem = server(names)?.signed_by(&server_key, &authority)?.pem();
        Ok(Self {
            ca_pem: authority.pem(),
            ca_key: Zeroizing::new(authority.key().serialize_pem()),
            server_pem,
            server_key: Zeroizing::new(server_key.serialize_pem()),
        })
    }

    /// Writes all of it into `folder`, replacing what is there.
    ///
    /// # Errors
    /// A file cannot be written.
    pub fn write(&self, folder: &Path) -> Result<(), Error> {
        for (name, content) in self.files() {
            let path = folder.join(name);
            put(&path, content).map_err(|source| Error::Write { path, source })?;
        }
        Ok(())
    }

    /// Each file's name and content.
    fn files(&self) -> [(&'static str, &str); 4] {
        [
            ("ca.pem", &self.ca_pem),
            ("ca.key", &self.ca_key),
            ("server.pem", &self.server_pem),
            ("server.key", &self.server_key),
        ]
    }
}

/// Creates a development authority and certificate, and prints how to use them.
pub(super) fn run(options: &Options) -> ExitCode {
    match write(options) {
        Ok(()) => super::print(announcement(&options.out)),
        Err(error) => super::fail(&error),
    }
}

fn write(options: &Options) -> Result<(), Error> {
    let development = Development::new(&options.name)?;
    let mut paths = development.files().map(|(name, _)| options.out.join(name)).into_iter();
    if let Some(path) = paths.find(|path| !options.force && path.symlink_metadata().is_ok()) {
        return Err(Error::Exists(path));
    }
    fs::create_dir_all(&options.out).map_err(|source| Error::Write { path: options.out.clone(), source })?;
    development.write(&options.out)
}

/// Writes to a temporary file and renames it: readers see the old file or the new one, and a key is never readable by others.
fn put(path: &Path, content: &str) -> io::Result<()> {
    let private = path.extension().is_some_and(|extension| extension == "key");
    let beside = path.with_extension(format!("{}.new", std::process::id()));
    let mode = if private { 0o600 } else { 0o644 };
    let mut file = OpenOptions::new().write(true).create_new(true).mode(mode).open(&beside)?;
    let written = file.write_all(content.as_bytes()).and_then(|()| file.sync_all());
    written.and_then(|()| fs::rename(&beside, path)).inspect_err(|_| {
        let _best_effort = fs::remove_file(&beside);
    })
}

fn announcement(folder: &Path) -> String {
    let folder = folder.display();
    format!(
        "Wrote {folder}/ca.pem, ca.key, server.pem and server.key, for development.\n\n\
         gateway.toml:  tls = {{ certificate = \"{folder}/server.pem\", key = \"{folder}/server.key\" }}\n\
         curl:          curl --cacert {folder}/ca.pem https://localhost:8443/v1/models -H \"authorization: Bearer $SLUICEGATE_CLIENT_KEY\"\n\
         Python SDK:    SSL_CERT_FILE={folder}/ca.pem python …\n\
         Node SDK:      NODE_EXTRA_CA_CERTS={folder}/ca.pem node …\n"
    )
}

fn authority() -> CertificateParams {
    let mut params = CertificateParams::default();
    params.distinguished_name.push(DnType::CommonName, "Sluicegate development CA");
    params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
    params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
    valid_for(&mut params, AUTHORITY_DAYS);
    params
}

fn server(names: &[String]) -> Result<CertificateParams, rcgen::Error> {
    let mut all: Vec<String> = LOCAL.map(str::to_owned).into();
    all.extend(names.iter().filter(|name| !LOCAL.contains(&name.as_str())).cloned());
    let mut params = CertificateParams::new(all)?;
    params.distinguished_name.push(DnType::CommonName, "Sluicegate development server");
    params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
    params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
    params.use_authority_key_identifier_extension = true;
    valid_for(&mut params, SERVER_DAYS);
    Ok(params)
}

/// Valid from yesterday on, for clients whose clock is behind.
fn valid_for(params: &mut CertificateParams, days: i64) {
    let now = OffsetDateTime::now_utc();
    params.not_before = now - Duration::DAY;
    params.not_after = now + Duration::days(days);
}

#[cfg(test)]
mod tests {
    use std::{os::unix::fs::PermissionsExt, sync::Arc, time::SystemTime};

    use rustls::{
        RootCertStore,
        client::{WebPkiServerVerifier, danger::ServerCertVerifier},
        crypto::aws_lc_rs::default_provider,
        pki_types::{CertificateDer, PrivateKeyDer, ServerName, UnixTime, pem::PemObject},
        sign::CertifiedKey,
    };

    use super::*;

    #[test]
    fn a_client_that_trusts_the_authority_accepts_the_server() {
        let made = Development::new(&["gateway.internal".to_owned(), "10.0.0.5".to_owned()]).expect("made");
        let server = CertificateDer::from_pem_slice(made.server_pem.as_bytes()).expect("PEM");
        let key = PrivateKeyDer::from_pem_slice(made.server_key.as_bytes()).expect("PEM");
        CertifiedKey::from_der(vec![server.clone()], key, &default_provider())
            .expect("the key is the certificate's");
        let mut roots = RootCertStore::empty();
        roots
            .add(CertificateDer::from_pem_slice(made.ca_pem.as_bytes()).expect("PEM"))
            .expect("an authority");
        let provider = Arc::new(default_provider());
        let verifier = WebPkiServerVerifier::builder_with_provider(Arc::new(roots), provider)
            .build()
            .expect("a verifier");
        let now = UnixTime::since_unix_epoch(
            SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).expect("now"),
        );
        let accepted = |name: &str| {
            let name = ServerName::try_from(name.to_owned()).expect("a name");
            verifier.verify_server_cert(&server, &[], &name, &[], now).is_ok()
        };
        for name in ["localhost", "127.0.0.1", "::1", "gateway.internal", "10.0.0.5"] {
            assert!(accepted(name), "{name}");
        }
        assert!(!accepted("example.com"));
    }

    #[test]
    fn files_are_private_and_are_not_overwritten_unasked() {
        let out = std::env::temp_dir().join(format!("sluicegate-cert-{}", std::process::id())).join("certs");
        let options = |force| Options { out: out.clone(), name: Vec::new(), force };
        let content = || fs::read_to_string(out.join("ca.pem")).expect("there");
        write(&options(false)).expect("written");
        let first = content();
        for (name, mode) in [("ca.key", 0o600), ("server.key", 0o600)] {
            let found = fs::metadata(out.join(name)).expect(name).permissions().mode();
            assert_eq!(found & 0o777, mode, "{name}");
        }
        assert!(matches!(write(&options(false)), Err(Error::Exists(path)) if path.ends_with("ca.pem")));
        assert_eq!(content(), first);
        write(&options(true)).expect("overwritten");
        assert_ne!(content(), first);
        assert_eq!(fs::read_dir(&out).expect("there").count(), 4);
        fs::remove_dir_all(out.parent().expect("a parent")).expect("removed");
    }
}
