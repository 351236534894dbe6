//! The options of `sluicegate simulate`.

use std::{fs, io, net::SocketAddr, path::PathBuf, time::Duration};

use super::{Identity, Options, Protocols, Tls};

/// What `sluicegate simulate` takes.
#[derive(Clone, Debug, clap::Args)]
pub struct Args {
    /// Address to listen on
    #[arg(long, value_name = "ADDR", default_value = "127.0.0.1:9000")]
    pub listen: SocketAddr,
    /// Threads; 1 is enough for most loads
    #[arg(long, default_value_t = 1)]
    pub threads: usize,
    /// Speak TLS, with a certificate made at the start unless one is given
    #[arg(long)]
    pub tls: bool,
    /// PEM file of the certificate and its chain
    #[arg(long, value_name = "FILE", requires = "key")]
    pub certificate: Option<PathBuf>,
    /// PEM file of the certificate's private key
    #[arg(long, value_name = "FILE", requires = "certificate")]
    pub key: Option<PathBuf>,
    /// PEM file of the CA whose certificates callers must show
    #[arg(long, value_name = "FILE")]
    pub client_ca: Option<PathBuf>,
    /// Where to write the PEM of the CA made at the start
    #[arg(long, value_name = "FILE", conflicts_with = "certificate")]
    pub ca_out: Option<PathBuf>,
    /// Protocols to speak
    #[arg(long, value_enum, default_value_t)]
    pub protocols: Protocols,
    /// Refuse requests without this key
    #[arg(long, value_name = "KEY")]
    pub require_key: Option<String>,
    /// Time between frames where a request does not say
    #[arg(long, value_name = "SPAN", value_parser = crate::span::parse, default_value = "40ms")]
    pub pace: Duration,
    /// Records kept for `GET /simulator/records`
    #[arg(long, default_value_t = 10_000)]
    pub records: usize,
}

impl Args {
    /// The simulator's options. Reads the files named.
    ///
    /// # Errors
    /// A file that cannot be read.
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
