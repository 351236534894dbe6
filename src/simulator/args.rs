//! The command-line options of `sluicegate simulate`.

use std::{fs, io, net::SocketAddr, path::PathBuf, time::Duration};

use super::options::{Identity, Options, Protocols, Tls};

/// The command-line options of `sluicegate simulate`.
#[derive(Clone, Debug, clap::Args)]
pub struct Args {
    /// Address to listen on
    #[arg(long, value_name = "ADDR", default_value = "127.0.0.1:9000")]
    pub listen: SocketAddr,
    /// Number of threads; 1 is enough for most load tests
    #[arg(long, default_value_t = 1)]
    pub threads: usize,
    /// Use TLS, with a certificate generated at startup unless --certificate is given
    #[arg(long)]
    pub tls: bool,
    /// PEM file with the certificate and its chain
    #[arg(long, value_name = "FILE", requires = "key")]
    pub certificate: Option<PathBuf>,
    /// PEM file with the private key of the certificate
    #[arg(long, value_name = "FILE", requires = "certificate")]
    pub key: Option<PathBuf>,
    /// PEM file with the CA that client certificates must be issued by
    #[arg(long, value_name = "FILE")]
    pub client_ca: Option<PathBuf>,
    /// PEM file to write the CA generated at startup to
    #[arg(long, value_name = "FILE", conflicts_with = "certificate")]
    pub ca_out: Option<PathBuf>,
    /// HTTP versions to accept
    #[arg(long, value_enum, default_value_t)]
    pub protocols: Protocols,
    /// Reject requests that do not carry this API key
    #[arg(long, value_name = "KEY")]
    pub require_key: Option<String>,
    /// Time between two frames of a stream, unless the request sets its own
    #[arg(long, value_name = "SPAN", value_parser = crate::span::parse, default_value = "40ms")]
    pub pace: Duration,
    /// Number of requests kept for `GET /simulator/records`
    #[arg(long, default_value_t = 10_000)]
    pub records: usize,
}

impl Args {
    /// Converts to [`Options`]. Reads the certificate, key and CA files.
    ///
    /// # Errors
    /// A file cannot be read.
    pub fn options(&self) -> io::Result<Options> {
        let client_ca = self.client_ca.as_ref().map(fs::read).transpose()?;
        let identity = match (&self.certificate, &self.key) {
            (Some(certificate), Some(key)) => {
                Identity::Pem { certificate: fs::read(certificate)?, key: fs::read(key)? }
            }
            _ => Identity::default(),
        };
        let tls = self.tls || self.certificate.is_some() || self.client_ca.is_some() || self.ca_out.is_some();
        Ok(Options {
            listen: self.listen,
            tls: tls.then_some(Tls { identity, client_ca }),
            protocols: self.protocols,
            require_key: self.require_key.clone(),
            pace: self.pace,
            records: self.records,
            ..Options::default()
        })
    }
}
