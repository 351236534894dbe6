//! The options a simulator is started with.

use std::{net::SocketAddr, time::Duration};

/// The options of a simulator.
#[derive(Clone, Debug)]
pub struct Options {
    /// Address to listen on; port 0 takes any free port.
    pub listen: SocketAddr,
    /// `None` = plain TCP.
    pub tls: Option<Tls>,
    /// HTTP versions to accept.
    pub protocols: Protocols,
    /// The API key that requests must carry; `None` = no key is checked.
    pub require_key: Option<String>,
    /// Time between two frames of a stream, unless the request sets its own.
    pub pace: Duration,
    /// Number of records kept; 0 = none. The request bodies in them are bounded too: 64 MiB in total.
    pub records: usize,
    /// HTTP/2: maximum number of concurrent streams on a connection.
    pub max_streams: u32,
}

/// The HTTP versions that are accepted. With TLS they become the ALPN list; plain connections are distinguished by their
/// first bytes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, clap::ValueEnum)]
pub enum Protocols {
    /// HTTP/1.1 and HTTP/2.
    #[default]
    Both,
    /// Only HTTP/1.1.
    Http1,
    /// Only HTTP/2; on plain connections by prior knowledge.
    Http2,
}

/// The TLS options of a simulator.
#[derive(Clone, Debug, Default)]
pub struct Tls {
    /// The server certificate.
    pub identity: Identity,
    /// CA certificates in PEM. If set, clients must present a certificate issued by one of them.
    pub client_ca: Option<Vec<u8>>,
}

/// The server certificate of a simulator.
#[derive(Clone, Debug)]
pub enum Identity {
    /// Generated at startup for these names and addresses, and signed by a CA that is generated too.
    Generated(Vec<String>),
    /// Given in PEM.
    Pem {
        /// The certificate and its chain.
        certificate: Vec<u8>,
        /// The certificate's private key.
        key: Vec<u8>,
    },
}

impl Default for Options {
    fn default() -> Self {
        Self {
            listen: SocketAddr::from(([127, 0, 0, 1], 0)),
            tls: None,
            protocols: Protocols::default(),
            require_key: None,
            pace: Duration::ZERO,
            records: 10_000,
            max_streams: 1000,
        }
    }
}

impl Default for Identity {
    fn default() -> Self {
        Self::Generated(["localhost", "127.0.0.1", "::1"].map(str::to_owned).into())
    }
}
